"""How a command is asked to stop, and stops with what is finished."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stac2cube.trust.deadline import stop_waiting, wait_again

GRACE = 10.0
"""Seconds that reads from servers still have when a command is asked to stop: SLURM waits 30 before it kills."""

FAREWELL = 3.0
"""Seconds that threads have to end by themselves when a command that was asked to stop is through."""


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """A signal's handler: what waits for a server is left, and the command ends as by Ctrl-C.

    Raises:
        KeyboardInterrupt: Always.
    """
    stop_waiting(0.0)
    _ASKED.set()
    raise KeyboardInterrupt


_ASKED = threading.Event()
"""Set when the process was asked to stop."""


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGUSR1 set: the build seals what is finished; a second one ends it at once."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            end_at_once(number, frame)
        stop.set()
        _ASKED.set()
        stop_waiting(GRACE)
        logging.getLogger("stac2cube").warning(
            "%s: finishing the blocks at hand, then sealing; once more to end at once", signal.Signals(number).name
        )

    wait_again()
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        wait_again()


def leave(code: int) -> None:
    """End the process.

    Where it was asked to stop, threads that still wait for a server do not hold it up.

    Args:
        code: The exit code.
    """
    if not _ASKED.is_set():
        sys.exit(code)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(FAREWELL)
            if thread.is_alive():
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    sys.exit(code)
