"""Errors of blocks: which are faults of the program and not of the data, where they came from, each told once."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

PROGRAM_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    TypeError,
)
"""What Python raises at a mistake in code. Whatever data, network and disk can do comes as an error of another kind."""

REPORT = 'report it as README.md says in "Report a fault"'

FIRST = 32
"""Blocks that tell, if all of them end in the same fault, that the others will too ..."""

OF_STEPS = 3
"""... if they are of so many steps at least: a single scene may be odd."""

_AT = "at "


@contextmanager
def framed() -> Iterator[None]:
    """Runs on a worker: an error remembers the last frame of its traceback, which does not travel with it."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{_AT}{_frame(error)}")
        raise


def last_frame(error: BaseException) -> str:
    """Where an error came from: ``"stac2cube/kernels/mask.py:12 in opened"``; "" if that is not known."""
    notes = [note.removeprefix(_AT) for note in getattr(error, "__notes__", ()) if note.startswith(_AT)]
    return notes[0] if notes else _frame(error)


def fault_of(error: BaseException) -> str:
    """Kind and place of an error if it is a fault of the program, "" if it is not; alike for alike faults."""
    # A library that is not installed is no mistake in code; neither are our own errors.
    ours = type(error).__module__.startswith("stac2cube")
    if ours or isinstance(error, ModuleNotFoundError) or not isinstance(error, PROGRAM_ERRORS):
        return ""
    return f"{type(error).__name__} at {last_frame(error)}"


def told(error: Exception) -> str:
    """An error as a reason, for the ledger and for people: those that are not ours come with their kind."""
    if type(error).__module__.startswith("stac2cube"):
        return str(error)
    reason = f"{type(error).__name__}: {error}"
    return (
        f"a fault of the program, not of the data: {reason} ({last_frame(error)}); {REPORT}"
        if fault_of(error)
        else reason
    )


class Failures:
    """Why steps failed: the first of those that failed alike is told of at once, the others as a number at the end."""

    def __init__(self) -> None:
        self._alike: dict[str, int] = {}

    def tell(self, key: str, reason: str, where: str = "") -> None:
        """A step failed.

        Args:
            key: Its key.
            reason: Why.
            where: Last frame of the traceback; "" if it is said already, or is of no use.
        """
        count = self._alike[reason] = self._alike.get(reason, 0) + 1
        at = f" ({where})" if where and where not in reason else ""
        log.log(logging.WARNING if count == 1 else logging.DEBUG, "%s failed: %s%s", key, reason, at)

    def close(self) -> None:
        """No more will fail."""
        for reason, count in self._alike.items():
            if count > 1:
                log.warning("%d steps failed alike: %s", count, reason)


class Beginning:
    """Looks at the first blocks of a build: whether all of them end in the same fault of the program."""

    def __init__(self) -> None:
        self._faults: set[str] = set()
        self._steps: set[str] = set()
        self._blocks = 0

    def hopeless(self, key: str, fault: str) -> bool:
        """A block ended; whether that was the last needed to know that no other will end better.

        Args:
            key: Of its step.
            fault: See :func:`fault_of`; "" if it was made, or failed for another reason.
        """
        self._blocks += 1
        self._faults.add(fault)
        self._steps.add(key)
        enough = self._blocks >= FIRST and len(self._steps) >= OF_STEPS
        return enough and "" not in self._faults and len(self._faults) == 1


def _frame(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    file = "/".join(Path(frames[-1].filename).parts[-3:])
    return f"{file}:{frames[-1].lineno} in {frames[-1].name}"
