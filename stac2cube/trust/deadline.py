"""Waiting that ends: work that may hang on a server is given so many seconds, and then left behind.

Neither GDAL nor a library that talks to a server can be interrupted from outside, and their own limits count per
request or per silence, not in all: a server that sends a byte a second keeps them busy for hours. So such work is done
by a thread that nobody waits for longer than agreed. The thread ends by itself at its library's own limits.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

STEP = 0.25
"""Seconds between two looks at whether somebody asked to stop."""


class TooSlowError(OSError):
    """Work did not end in its time."""


class _Work:
    """One call, and what came of it."""

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
    """Let all work that is under way end in at most so many seconds: the program was asked to stop."""
    global _cutoff  # noqa: PLW0603 - the process has one end
    _cutoff = min(_cutoff, time.monotonic() + seconds)


def wait_again() -> None:
    """Forget :func:`stop_waiting`: a new command begins in this process."""
    global _cutoff  # noqa: PLW0603 - the process has one end
    _cutoff = float("inf")


def is_stopping() -> bool:
    """Whether somebody asked to stop."""
    return _cutoff < float("inf")


def left() -> float:
    """Seconds that the work of this thread still has; infinite where none was agreed."""
    work: _Work | None = getattr(_here, "work", None)
    return (min(work.until, _cutoff) if work else _cutoff) - time.monotonic()


def extend(seconds: float) -> None:
    """Give the work of this thread more time, because the server asked for it."""
    work: _Work | None = getattr(_here, "work", None)
    if work is not None:
        work.until += seconds


def within(seconds: float, function: Callable[[], T], what: str) -> T:
    """What a function gives, if it ends in time; it is called by another thread.

    Args:
        seconds: How long is waited for it at most.
        function: What is called.
        what: What it does, for the message: ``"the file"``.

    Raises:
        TooSlowError: It did not end in time, or somebody asked to stop meanwhile. The thread is left behind.
    """
    if getattr(_here, "work", None) is not None:
        # Within other work, which has an end of its own already; the nearer one counts.
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
            # A connection that waits no longer than this work may ended in the same moment: the reason is the time.
            raise TooSlowError(late)
        raise work.error
    result: T = work.result
    return result


def _hand_out(work: _Work) -> None:
    """To a thread that is idle, for libraries keep connections per thread; else to a new one."""
    with _lock:
        tasks = _idle.pop() if _idle else None
    if tasks is None:
        tasks = queue.SimpleQueue()
        # A daemon: the interpreter does not wait for it in the end.
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
