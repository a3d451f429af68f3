"""Many files, each made by one task at any place, each there and whole or not there: running again makes what lacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stac2cube.cube.files import DISK_ERRORS
from stac2cube.errors import BadInputError, IncompleteError, ReadError
from stac2cube.places.place import Place
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress

IN_FLIGHT = 100
"""Tasks handed out at a time: enough for any place, and few enough that a stop comes soon."""

Make = Callable[[Any, Path], None]
"""Makes one file, atomically (see :func:`stac2cube.cube.files.write_whole`); pickles, runs on a worker."""


@dataclass(frozen=True)
class Making:
    """Where and how files are made.

    Attributes:
        place: Where; threads of this process if not said.
        progress: Told of every file.
        stop: Set from outside to stop: what is at hand is finished, the rest is left for the next run.
    """

    place: Place = field(default_factory=Threads)
    progress: Progress = field(default_factory=Progress)
    stop: threading.Event = field(default_factory=threading.Event)

    def make(self, wanted: Mapping[Path, Any], make: Make) -> bool:
        """Make the files that are not there.

        Args:
            wanted: File -> what ``make`` needs to know.
            make: See :data:`Make`.

        Returns:
            False if it was stopped before all were made.

        Raises:
            IncompleteError: Some could not be read; the others are made. Running again tries those.
            BadInputError: The disk is full.
        """
        lacking = [(path, what) for path, what in wanted.items() if not path.exists()]
        if not lacking:
            return True
        failed: dict[str, str] = {}
        with self._executor() as executor, self.progress.over(len(lacking)):
            waiting, pending = iter(lacking), dict[Future[None], Path]()
            while True:
                while len(pending) < IN_FLIGHT and not self.stop.is_set() and (following := next(waiting, None)):
                    pending[executor.submit(make, following[1], following[0])] = following[0]
                if not pending:
                    break
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    if reason := _reason(future):
                        failed[pending[future].name] = reason
                    del pending[future]
                    self.progress.advance()
        if failed:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items())[:5])
            raise IncompleteError(f"{len(failed)} of {len(wanted)} parts failed, run again to try them: {reasons}")
        return all(path.exists() for path, _ in lacking)

    @contextmanager
    def _executor(self) -> Iterator[Executor]:
        """The place's executor; errors of the place's own come with what to do."""
        try:
            with self.place.open() as executor:
                yield executor
        except (CancelledError, RuntimeError) as error:
            if said := self.place.explain(error):
                raise IncompleteError(said) from error
            raise


def _reason(future: Future[None]) -> str:
    """Why a file could not be made, "" if it was."""
    try:
        future.result()
    except ReadError as error:
        return str(error)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise BadInputError(f"{error.strerror}: make room and run again, what is made stays") from error
        return str(error)
    return ""
