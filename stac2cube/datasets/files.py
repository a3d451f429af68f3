"""Versioned JSON documents, and sets of files that are each written atomically."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stac2cube.build.plan import BuildOptions
from stac2cube.build.scheduler import Scheduler, timed
from stac2cube.errors import BadInputError, IncompleteError
from stac2cube.executors.base import Place, Threads
from stac2cube.progress import Progress
from stac2cube.store.files import real_folder, refuse_links
from stac2cube.trust.text import parse_json

# Folders of sets, and JSON files with the name and version of their schema.


def read_document(file: Path, schema: str, what: str, made_by: str) -> dict[str, Any]:
    """Read a JSON object of one schema; other versions are refused.

    Args:
        file: Path of the file.
        schema: Expected value of its key ``schema``: name and version.
        what: Its kind, for messages: ``"manifest"``.
        made_by: How to make one, for messages: ``"fetch products with `stac2cube download`"``.

    Raises:
        BadInputError: The file does not exist, is not JSON, or has another schema.
    """
    try:
        value = parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInputError(f"{file} does not exist: {made_by}") from None
    except (OSError, ValueError) as error:
        raise BadInputError(f"{file} cannot be read as JSON: {error}") from None
    found = value.get("schema") if isinstance(value, dict) else None
    if found != schema:
        raise BadInputError(f"{file} is no {what} that this version reads: schema {found!r}, not {schema!r}")
    read: dict[str, Any] = value
    return read


def made_folder(folder: Path) -> None:
    """Create a folder and its parents, if it does not exist.

    Raises:
        BadInputError: It cannot be created, or one of the names that a set uses is a symbolic link.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*"):
            real_folder(path)
        for split in folder.glob("*.zarr"):
            if not split.is_symlink():  # a cube may be linked beside a set
                refuse_links(split)
    except OSError as error:
        raise BadInputError(f"{folder} cannot be made: {error.strerror}") from error


# Many files, each written atomically by one task at any place: running again makes the missing ones.

log = logging.getLogger(__name__)

NAMED = 5
"""Number of failures in an error message; the log has all."""

Make = Callable[[Any, Path], None]
"""Writes one file, atomically (see :func:`stac2cube.store.files.write_whole`); picklable, runs on a worker."""


@dataclass(frozen=True)
class Making:
    """Where and how files are made.

    Attributes:
        place: Where the work runs. Default: threads of this process.
        progress: Called for every file.
        options: When to stop. Finished files are kept, and the next run makes the others.
    """

    place: Place = field(default_factory=Threads)
    progress: Progress = field(default_factory=Progress)
    options: BuildOptions = field(default_factory=BuildOptions)

    def make(self, wanted: Mapping[Path, Any], make: Make) -> bool:
        """Make the files that are not there.

        Args:
            wanted: File -> argument of ``make``; its ``str`` is the name in messages.
            make: See :data:`Make`.

        Returns:
            False if it was stopped before all were made.

        Raises:
            IncompleteError: Some files could not be made; the others are. Running again retries them.
            BadInputError: The disk is full.
            PlaceError: The place is not available, or lost every worker.
        """
        lacking = [(path, what) for path, what in wanted.items() if not path.exists()]
        if not lacking:
            return True
        scheduler, done, failed = Scheduler(self.place, self.options, self.progress), 0, dict[str, str]()
        with self.place.open() as executor, self.progress.over(len(lacking)):

            def submit(job: tuple[Path, Any]) -> Future[tuple[None, float]]:
                return executor.submit(timed, make, job[1], job[0])

            with closing(scheduler.handed_out(iter(lacking), submit)) as coming:
                for (_, what), future in coming:
                    done += 1
                    if reason := failure_of(future, scheduler):
                        failed[str(what)] = reason
                        log.warning("%s: %s", what, reason)
                        scheduler.progress.advance()
                    else:
                        scheduler.made(future.result()[1])
        if done < len(lacking):
            return False
        if failed:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items())[:NAMED])
            raise IncompleteError(f"{len(failed)} of {len(wanted)} failed, run again to try them: {reasons}")
        return True


def failure_of(future: Future[Any], scheduler: Scheduler) -> str:
    """Reason why a file could not be made, "" if it was.

    Raises:
        CubeError: An error that every other file would have, too.
        BadInputError: Such an error, or the disk is full.
    """
    try:
        return scheduler.failure(future)
    except OSError as error:
        raise BadInputError(f"{error.strerror}: make room and run again, what is made stays") from error
