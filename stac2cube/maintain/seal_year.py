"""Seal a year: store its steps a second time beside the cube, in files that are deep in time."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stac2cube.build.plan import BuildOptions, Plan
from stac2cube.build.scheduler import Scheduler
from stac2cube.build.status import Size, forecast, limits_of, size_of
from stac2cube.errors import BadInputError, CubeError
from stac2cube.executors.base import Place, place_or_threads
from stac2cube.executors.site import Limits
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.progress import Progress
from stac2cube.store.files import remove_tree, require_renamable
from stac2cube.store.generation import grace_is_over
from stac2cube.store.ledger import Entry, Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.writer import CubeWriter, open_writer
from stac2cube.store.yearly_store import (
    YearPart,
    begin_year,
    finish_year,
    grid_of_year,
    making_folder,
    row_version,
    rows_of,
    waiting_year,
    year_parts,
    years_folder,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SealedYear:
    """Outcome of sealing a year.

    Attributes:
        year: UTC.
        store: Path of its store, "" if the run was stopped before it was complete.
        steps: Number of steps in it.
        files: Number of pixel files in it.
        size: Their bytes.
        files_before: Number of files of the same pixels in the cube.
        size_before: Their bytes.
        made: Whether there was anything to do.
        seconds: Wall time.
    """

    year: int
    store: str
    steps: int
    files: int
    size: int
    files_before: int
    size_before: int
    made: bool
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 done, 10 stopped in time: the same command continues."""
        return 0 if self.store else 10


def seal_year(
    cube: str | Path,
    year: int,
    place: Place | None = None,
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    anew: bool = False,
) -> SealedYear:
    """Store a past year a second time next to the cube, in files that hold all its steps: fast along time.

    :func:`stac2cube.open_cube` reads time series from it. The cube's own files stay. Steps of the year that are added
    or rebuilt later are read from the cube, until the year is sealed again. A run that was killed continues. Sealing a
    year in which nothing changed does nothing.

    Args:
        cube: The cube.
        year: UTC.
        place: Place where blocks are made; threads of this process if None.
        options: When to stop, and limits on the size of the cube.
        progress: Called for every layer and tile.
        anew: Write the year again even if nothing changed, because its store is damaged.

    Raises:
        CubeError: Not a cube, or a file of it is damaged.
        CubeLockedError: Another process is writing the cube.
        BadInputError: The year is not over, the cube has no step of it, or would outgrow its limits.
    """
    path, place, options = Path(cube), place_or_threads(place), options or BuildOptions()
    if year >= datetime.now(UTC).year:
        raise BadInputError(f"the year {year} is not over: only what is closed is sealed")
    require_renamable(path, "sealing a year")
    begun = time.monotonic()
    with open_writer(path, read_root(path).spec, options.verdict) as writer:
        rows = rows_of(year, writer.ledger.entries())
        if not rows:
            raise BadInputError(f"{path} has no step of {year}")
        versions = tuple(row_version(row) for row in rows)
        named = writer.root.years.get(year)
        store = None if anew else waiting_year(path, year, versions, named)
        making = store is None
        if store is None:
            _require_room(path, writer.spec, rows, limits_of(options, place))
            folder = begin_year(path, writer.spec, year, rows)
            parts = year_parts(folder, path, writer.spec, rows)
            if _make(parts, Scheduler(place, options, progress or Progress())):
                store = finish_year(folder, year, writer.root.commit + 1, parts)
        else:  # a run that was killed while it removed this folder left a part of it
            left = making_folder(path, year)
            remove_tree(left, below=left.parents[1])
        if store is not None and store.path.name != named:
            writer.name_year(year, store.path.name, len(rows))
            making = True
        _purge(writer)
    shards = [shard for row in rows for receipt in row.receipts for shard in receipt.shards if shard.size]
    made = [shard for shard in store.shards if shard.size] if store else []
    return SealedYear(
        year=year,
        store=str(store.path) if store else "",
        steps=len(rows),
        files=len(made),
        size=sum(shard.size for shard in made),
        files_before=len(shards),
        size_before=sum(shard.size for shard in shards),
        made=making,
        seconds=round(time.monotonic() - begun, 3),
    )


def mend_years(
    cube: Path, years: Collection[int], place: Place, options: BuildOptions, progress: Progress | None = None
) -> None:
    """Rebuild damaged stores of years; the store of a year without steps in the cube is dropped from the root."""
    for year in sorted(years):
        if rows_of(year, Ledger(cube, read_root(cube).ledger).entries(whole=False)):
            seal_year(cube, year, place, options=options, progress=progress, anew=True)
            continue
        with open_writer(cube, read_root(cube).spec, options.verdict) as writer:
            writer.name_year(year, None, 0)


def _require_room(path: Path, spec: CubeSpec, rows: Sequence[Entry], limits: Sequence[Limits]) -> None:
    cuts = [grid_of_year(layer, spec.grid, len(rows)).tiles_shape for layer in spec.layers]
    now = forecast(path, spec, Plan((), (), ())).now if limits else Size()
    for one in limits:
        one.require(path, (now.files, now.size), (sum(a * b for a, b in cuts), size_of(rows).size))


def _make(parts: Sequence[YearPart], scheduler: Scheduler) -> bool:
    """Make the parts that have no receipt; returns whether all are made."""
    todo, done = [part for part in parts if not part.receipt.exists()], 0
    with (
        scheduler.place.open() as executor,
        scheduler.progress.over(len(todo)),
        closing(scheduler.handed_out(iter(todo), executor.submit)) as coming,
    ):
        for part, future in coming:
            if reason := scheduler.failure(future):
                raise CubeError(f"{part}: {reason}") from future.exception()
            scheduler.made(future.result())
            done += 1
    return done == len(todo)


def _purge(writer: CubeWriter) -> None:
    """Remove stores that have been unnamed in the root for as long as an old generation is kept for its readers."""
    named = set(writer.root.years.values())
    for store in years_folder(writer.path).glob("*.zarr"):
        mark = store.with_name(f".{store.name}.unnamed")
        if store.name in named:
            mark.unlink(missing_ok=True)
        elif not mark.exists():
            mark.touch()
        elif grace_is_over(mark, store.lstat().st_mtime):
            remove_tree(store, below=writer.path.parent)
            mark.unlink()
