"""Time limits: calls that may hang on a server get a number of seconds, and are then abandoned.

Neither GDAL nor a library that talks to a server can be interrupted from outside, and their own limits apply per
request or per silence, not in total: a server that sends a byte per second keeps them busy for hours. So such calls run
in a thread, and the wait for it is limited. The thread ends by itself at its library's own limits.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

STEP = 0.25
"""Seconds between two checks for a request to stop."""


class TooSlowError(OSError):
    """A call did not end in time."""


class _Work:
    """One call and its result."""

    def __init__(self, function: Callable[[], Any], until: float) -> None:
        self.function = function
        self.until = until
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self.left = False


_here = threading.local()
_lock = threading.Lock()
_idle: list[queue.SimpleQueue[_Work]] = []
_cutoff = float("inf")


def stop_waiting(seconds: float) -> None:
    """Limit all running calls to a number of seconds from now: the program was asked to stop."""
    global _cutoff  # noqa: PLW0603 - the process has one end
    _cutoff = min(_cutoff, time.monotonic() + seconds)


def wait_again() -> None:
    """Reset :func:`stop_waiting`: a new command begins in this process."""
    global _cutoff  # noqa: PLW0603 - the process has one end
    _cutoff = float("inf")


def is_stopping() -> bool:
    """Whether the program was asked to stop."""
    return _cutoff < float("inf")


def left() -> float:
    """Seconds left for the call in this thread; infinite if it has no limit."""
    work: _Work | None = getattr(_here, "work", None)
    return (min(work.until, _cutoff) if work else _cutoff) - time.monotonic()


def extend(seconds: float) -> None:
    """Give the call in this thread more time, because the server asked for it."""
    work: _Work | None = getattr(_here, "work", None)
    if work is not None:
        work.until += seconds


def within(seconds: float, function: Callable[[], T], what: str) -> T:
    """Call a function in another thread, and return its result if it ends in time.

    Args:
        seconds: Maximum wait.
        function: The function to call.
        what: Description of the result, for the message: ``"the file"``.

    Raises:
        TooSlowError: It did not end in time, or the program was asked to stop meanwhile. The thread is abandoned.
    """
    if getattr(_here, "work", None) is not None:
        # Within another call that has a limit of its own already.
        return function()
    late = f"{what} took longer than {seconds:.0f} s and was given up"
    work = _Work(function, time.monotonic() + seconds)
    _hand_out(work)
    while not work.done.wait(min(STEP, max(0.0, min(work.until, _cutoff) - time.monotonic()) + 0.001)):
        now = time.monotonic()
        if now >= min(work.until, _cutoff):
            work.left = True
            if is_stopping() and now < work.until:
                raise TooSlowError(f"{what} was given up, because the program was asked to stop")
            raise TooSlowError(late)
    if work.error is not None:
        if isinstance(work.error, OSError) and time.monotonic() >= work.until:
            # A connection with the same timeout as this call may fail at the same moment: the reason is the time.
            raise TooSlowError(late)
        raise work.error
    result: T = work.result
    return result


def _hand_out(work: _Work) -> None:
    """Pass a call to an idle thread, because libraries keep connections per thread; else to a new one."""
    with _lock:
        tasks = _idle.pop() if _idle else None
    if tasks is None:
        tasks = queue.SimpleQueue()
        # A daemon: the interpreter does not wait for it at exit.
        threading.Thread(target=_serve, args=(tasks,), name="within", daemon=True).start()
    tasks.put(work)


def _serve(tasks: queue.SimpleQueue[_Work]) -> None:
    while True:
        work = tasks.get()
        _here.work = work
        try:
            work.result = work.function()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            work.error = error
        _here.work = None
        with _lock:
            _idle.append(tasks)
        work.done.set()
        del work
