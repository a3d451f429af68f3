"""Many files, each made by one task at any place, each there and whole or not there: running again makes what lacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stac2cube.errors import BadInputError, IncompleteError
from stac2cube.flow import Flow, timed
from stac2cube.places.place import Place
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress
from stac2cube.work import Orders

log = logging.getLogger(__name__)

NAMED = 5
"""Failures that an error names; the log has all."""

Make = Callable[[Any, Path], None]
"""Makes one file, atomically (see :func:`stac2cube.cube.files.write_whole`); pickles, runs on a worker."""


@dataclass(frozen=True)
class Making:
    """Where and how files are made.

    Attributes:
        place: Where; threads of this process if not said.
        progress: Told of every file.
        orders: When to stop: what is finished stays, the rest is left for the next run.
    """

    place: Place = field(default_factory=Threads)
    progress: Progress = field(default_factory=Progress)
    orders: Orders = field(default_factory=Orders)

    def make(self, wanted: Mapping[Path, Any], make: Make) -> bool:
        """Make the files that are not there.

        Args:
            wanted: File -> what ``make`` needs to know; as text, its name for people.
            make: See :data:`Make`.

        Returns:
            False if it was stopped before all were made.

        Raises:
            IncompleteError: Some could not be made; the others are. Running again tries those.
            BadInputError: The disk is full.
            PlaceError: The place cannot be had, or lost every worker.
        """
        lacking = [(path, what) for path, what in wanted.items() if not path.exists()]
        if not lacking:
            return True
        flow, done, failed = Flow(self.place, self.orders, self.progress), 0, dict[str, str]()
        with self.place.open() as executor, self.progress.over(len(lacking)):

            def submit(job: tuple[Path, Any]) -> Future[tuple[None, float]]:
                return executor.submit(timed, make, job[1], job[0])

            with closing(flow.handed_out(iter(lacking), submit)) as coming:
                for (_, what), future in coming:
                    done += 1
                    if reason := failure_of(future, flow):
                        failed[str(what)] = reason
                        log.warning("%s: %s", what, reason)
                        flow.progress.advance()
                    else:
                        flow.made(future.result()[1])
        if done < len(lacking):
            return False
        if failed:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items())[:NAMED])
            raise IncompleteError(f"{len(failed)} of {len(wanted)} failed, run again to try them: {reasons}")
        return True


def failure_of(future: Future[Any], flow: Flow) -> str:
    """Why a file could not be made, "" if it was.

    Raises:
        CubeError: What would fail every other one alike.
        BadInputError: The same, or the disk is full.
    """
    try:
        return flow.failure(future)
    except OSError as error:
        raise BadInputError(f"{error.strerror}: make room and run again, what is made stays") from error
