"""Progress for a terminal or the log file of a job."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

log = logging.getLogger(__name__)


class Progress:
    """Silent progress: the base of classes that show something."""

    @contextmanager
    def over(self, total: int) -> Iterator[None]:  # noqa: ARG002 - silence needs no total
        """Show progress over ``total`` blocks while the context lasts."""
        yield

    def advance(self) -> None:
        """Count one more finished block."""


class LineProgress(Progress):
    """One plain line per few percent, never a carriage return: for logs.

    Args:
        what: Name of what is counted.
        percent: A line at least every so many percent ...
        seconds: ... but not more often than this.
    """

    def __init__(self, what: str = "blocks", percent: float = 5.0, seconds: float = 5.0) -> None:
        self._what = what
        self._percent = percent
        self._seconds = seconds
        self._total = self._done = 0
        self._begun = self._said = 0.0
        self._said_percent = 0.0

    @contextmanager
    def over(self, total: int) -> Iterator[None]:
        """Show progress over ``total`` blocks while the context lasts."""
        self._total, self._done, self._said_percent = total, 0, 0.0
        self._begun = self._said = time.monotonic()
        yield

    def advance(self) -> None:
        """Count one more finished block."""
        self._done += 1
        now = time.monotonic()
        percent = 100 * self._done / max(self._total, 1)
        due = percent - self._said_percent >= self._percent and now - self._said >= self._seconds
        if due or self._done == self._total:
            left = (now - self._begun) / self._done * (self._total - self._done)
            log.info("%s %d/%d (%.0f %%), %s left", self._what, self._done, self._total, percent, duration(left))
            self._said, self._said_percent = now, percent


class BarProgress(Progress):
    """A bar, for terminals.

    Args:
        console: Console that shows it.
        what: Name of what is counted.
    """

    def __init__(self, console: Console, what: str = "blocks") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichBar

        self._bar = RichBar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
        )
        self._what = what
        self._task: TaskID | None = None

    @contextmanager
    def over(self, total: int) -> Iterator[None]:
        """Show progress over ``total`` blocks while the context lasts."""
        with self._bar:
            self._task = self._bar.add_task(self._what, total=total)
            yield

    def advance(self) -> None:
        """Count one more finished block."""
        if self._task is not None:
            self._bar.advance(self._task)


class FileProgress(Progress):
    """Progress that is also written to a small JSON file, which other processes may read at any time.

    A file that cannot be written does not stop the work: one warning is logged.

    Args:
        path: The file.
        shown: Progress that is shown besides.
        seconds: Shortest interval between writes.
    """

    def __init__(self, path: Path, shown: Progress, seconds: float = 5.0) -> None:
        self._path = path
        self._shown = shown
        self._seconds = seconds
        self._total = self._done = 0
        self._begun = self._written = 0.0
        self._mute = False

    @contextmanager
    def over(self, total: int) -> Iterator[None]:
        """Write and show progress over ``total`` blocks while the context lasts."""
        self._total, self._done, self._begun = total, 0, time.time()
        self._write()
        with self._shown.over(total):
            try:
                yield
            finally:
                self._write()

    def advance(self) -> None:
        """Count one more finished block."""
        self._done += 1
        self._shown.advance()
        if time.time() - self._written >= self._seconds:
            self._write()

    def _write(self) -> None:
        self._written = time.time()
        values = {"total": self._total, "done": self._done, "begun": self._begun, "now": self._written}
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(values), encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            # Only observers are affected; the work goes on.
            log.log(logging.DEBUG if self._mute else logging.WARNING, "%s cannot be written: %s", self._path, error)
            self._mute = True
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def progress_for(console: Console, what: str = "blocks") -> Progress:
    """A bar on a terminal, lines elsewhere."""
    return BarProgress(console, what) if console.is_terminal else LineProgress(what)


def duration(seconds: float) -> str:
    """``"2 h 05 min"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def counted(count: int, what: str) -> str:
    """``"1 step"``, ``"2 steps"``."""
    return f"{count} {what}{'' if count == 1 else 's'}"
