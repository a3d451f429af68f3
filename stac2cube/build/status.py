"""State of a cube in numbers: files and bytes, their growth by a build and by year, its status."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.build.plan import PARENT, BuildOptions, Plan, Step, outdated
from stac2cube.errors import CubeError, SlurmError
from stac2cube.executors.base import Place
from stac2cube.executors.queue import Queue
from stac2cube.executors.site import Limits, limits_at, rooms
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.mission import Band
from stac2cube.store.ledger import EMPTY, FAILED, SEALED, Entry, Ledger
from stac2cube.store.lock import read_owner
from stac2cube.store.metadata import OWN, read_root
from stac2cube.store.yearly_store import YearState, year_states, year_stores

log = logging.getLogger(__name__)

ON_DISK = 0.55
"""Bytes on disk per byte of pixels for a cube without steps: measured on reflectance (docs/benchmarks.md)."""

IN_FILES = 0.6
"""Approximate bytes in a provider's compressed files per byte of pixels read from them: reflectance, too."""

_YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Size:
    """Space used on a file system.

    Attributes:
        steps: Time steps.
        files: Files of pixels.
        size: Their bytes.
    """

    steps: int = 0
    files: int = 0
    size: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.steps + other.steps, self.files + other.files, self.size + other.size)


def size_of(rows: Sequence[Entry]) -> Size:
    """Size of the sealed steps among complete rows of a ledger."""
    sealed = [row for row in rows if row.status == SEALED]
    sizes = [shard.size for row in sealed for receipt in row.receipts for shard in receipt.shards if shard.size]
    return Size(len(sealed), len(sizes), sum(sizes))


def by_year(rows: Sequence[Entry]) -> dict[int, Size]:
    """The same for every year (UTC)."""
    found: dict[int, list[Entry]] = {}
    for row in rows:
        if row.status == SEALED:
            found.setdefault(row.time.year, []).append(row)
    return {year: size_of(mine) for year, mine in sorted(found.items())}


def size_of_years(cube: Path) -> Size:
    """Additional size of the stores of a cube's sealed years."""
    total = Size()
    for store in year_stores(cube, read_root(cube)):
        try:
            sizes = [shard.size for shard in store.shards if shard.size]
        except CubeError:
            continue  # `verify` reports it
        total += Size(0, len(sizes), sum(sizes))
    return total


def per_year(times: Sequence[datetime], load: Size) -> Size:
    """Estimated size of another year, from the last one.

    Args:
        times: Times of all known steps.
        load: Size of ``load.steps`` steps of the same kind.

    Returns:
        Number of steps in the last year of ``times``, extrapolated if ``times`` cover less than a year, and their
        size.
    """
    if not times or not load.steps:
        return Size()
    last = max(times)
    recent = [time for time in times if last - time < _YEAR]
    covered = last - min(times)
    # n steps over a short time are n - 1 intervals.
    rate = len(recent) if covered >= _YEAR or len(recent) < 2 else (len(recent) - 1) * (_YEAR / covered)
    steps = round(rate) if covered else len(recent)
    return Size(steps, round(load.files / load.steps * steps), round(load.size / load.steps * steps))


def added(spec: CubeSpec, steps: Sequence[Step], on_disk: float = ON_DISK) -> Size:
    """Size of the steps of a build: an upper bound of files, an estimate of bytes.

    Args:
        spec: Spec of the cube.
        steps: Steps to make.
        on_disk: Bytes on disk per byte of pixels.
    """
    size = sum(np.dtype(layer.dtype).itemsize for layer in spec.layers)
    pixels = sum(pixels_of_layer(spec, step) for step in steps)
    return Size(len(steps), sum(len(step.tiles) for step in steps) * len(spec.layers), round(pixels * size * on_disk))


def pixels_of_layer(spec: CubeSpec, step: Step) -> int:
    """Number of pixels of a layer in the blocks of a step."""
    windows = [spec.grid.window(tile) for tile in step.tiles]
    return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in windows)


def to_read(bands: Sequence[Band], spec: CubeSpec, pixels: int) -> float:
    """Upper bound of the bytes of pixels that a build reads.

    Args:
        bands: Bands to read, each in pixels of its own size.
        spec: Spec of the cube.
        pixels: Pixels to make of each layer, see :func:`pixels_of_layer`.
    """
    edge = spec.grid.metres
    return pixels * sum((edge / band.gsd) ** 2 * np.dtype(band.quantity.dtype).itemsize for band in bands)


def on_disk(spec: CubeSpec, rows: Sequence[Entry]) -> float:
    """Bytes on disk per byte of pixels in a cube so far; :data:`ON_DISK` if it has none."""
    raw = 0
    for row in rows:
        for receipt in row.receipts if row.status == SEALED else ():
            window = spec.grid.window(receipt.tile)
            pixels = (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
            raw += pixels * sum(np.dtype(layer.dtype).itemsize for layer in spec.layers)
    return size_of(rows).size / raw if raw else ON_DISK


@dataclass(frozen=True)
class Forecast:
    """Growth of a cube by a build, and by year.

    Attributes:
        now: Size of the cube and the stores of its sealed years.
        more: Growth by the build: an upper bound of files, an estimate of bytes.
        year: Size of another year.
        pixels: Pixels of each layer that the build makes.
    """

    now: Size
    more: Size
    year: Size
    pixels: int


def forecast(path: Path | None, spec: CubeSpec, work: Plan, steps: Sequence[Step] = ()) -> Forecast:
    """Estimate the growth of a cube by a build.

    Args:
        path: The cube, which need not exist.
        spec: Its spec.
        work: The plan.
        steps: All steps wanted, from which the number of steps per year follows.
    """
    exists = path is not None and path.exists()
    rows = list(Ledger(path, read_root(path).ledger).entries().values()) if path is not None and exists else []
    now = size_of(rows) + (size_of_years(path) if path is not None and exists else Size())
    share = on_disk(spec, rows)
    times = [step.entry.time for step in steps] + [row.time for row in rows if row.status == SEALED]
    year = per_year(list(dict.fromkeys(times)), added(spec, steps, share))
    return Forecast(now, added(spec, work.todo, share), year, sum(pixels_of_layer(spec, step) for step in work.todo))


def require_room(path: Path, spec: CubeSpec, work: Plan, options: BuildOptions, place: Place) -> None:
    """Check that a build stays within its limits; warn if disk or quota may have too little room.

    Raises:
        BadInputError: It would exceed them; nothing was written.
    """
    if limits := limits_of(options, place):
        ahead = forecast(path, spec, work)
        for one in limits:
            one.require(path, (ahead.now.files, ahead.now.size), (ahead.more.files, ahead.more.size))
    if work.todo:
        more = added(spec, work.todo)
        # Both are upper estimates, so this only warns.
        for lacking in filter(None, (room.lacks(more.files, more.size) for room in rooms(path))):
            log.warning("%s may not fit. %s", path, lacking)


def limits_of(options: BuildOptions, place: Place) -> list[Limits]:
    """The limits set by the options, or else by the site of the place."""
    held = limits_at(place) if options.limits is None else (options.limits,)
    return [limits for limits in held if limits != Limits()]


@dataclass(frozen=True)
class CubeStatus:
    """The status of a cube.

    Attributes:
        path: The cube.
        stage: The stage that made it.
        layers: Names of its layers.
        crs: CRS of its grid.
        resolution: Pixel edge, units of the CRS.
        shape: Rows and columns.
        steps: Sealed time steps.
        first: Time of the earliest step, None for an empty cube.
        last: Time of the latest step.
        empty: Scenes without a time step: without valid pixels over the area, or excluded by the options.
        failed: Key and reason of attempts that failed.
        commit: Number of the last commit.
        generation: Number of times that it was rebuilt.
        files: Files of pixels.
        size: Their bytes.
        seconds_per_step: Mean time of the workers for a step, all its blocks together.
        writer: The process writing it now, "" if there is none.
        made_from: The parent cube, "" if there is none.
        lacking: Number of steps of the parent that this cube does not have.
        stale: Keys of steps that were rebuilt in the parent since.
        by_year: Steps, files and bytes of every year (UTC).
        year_more: Steps, files and bytes of a further year, estimated from the last one.
        sealed_years: State of the sealed years, see :mod:`stac2cube.store.yearly_store`.
        deep: Files and bytes of the sealed years, in addition to the cube's own.
    """

    path: str
    stage: str
    layers: tuple[str, ...]
    crs: str
    resolution: float
    shape: tuple[int, int]
    steps: int
    first: datetime | None
    last: datetime | None
    empty: int
    failed: dict[str, str]
    commit: int
    generation: int
    files: int
    size: int
    seconds_per_step: float
    writer: str
    made_from: str = ""
    lacking: int = 0
    stale: tuple[str, ...] = ()
    by_year: Mapping[int, Size] = field(default_factory=dict)
    year_more: Size = field(default_factory=Size)
    sealed_years: tuple[YearState, ...] = ()
    deep: Size = field(default_factory=Size)


def cube_status(path: str | Path) -> CubeStatus:
    """Read the status of a cube without opening its pixels.

    Args:
        path: The cube.

    Returns:
        Steps, files, bytes, failures and the writer of the cube.

    Raises:
        CubeError: Not a cube.
    """
    cube = Path(path)
    root = read_root(cube)
    rows = Ledger(cube, root.ledger).entries()
    sealed = [entry for entry in rows.values() if entry.status == SEALED]
    load = size_of(sealed)
    owner = read_owner(cube)
    grid = root.spec.grid
    return CubeStatus(
        path=str(cube),
        stage=root.spec.stage,
        layers=tuple(layer.name for layer in root.spec.layers),
        crs=grid.crs,
        resolution=grid.resolution,
        shape=grid.shape,
        steps=root.steps,
        first=sealed[0].time if sealed else None,
        last=sealed[-1].time if sealed else None,
        empty=sum(entry.status == EMPTY for entry in rows.values()),
        failed={key: entry.reason for key, entry in rows.items() if entry.status == FAILED},
        commit=root.commit,
        generation=root.generation,
        files=load.files,
        size=load.size,
        seconds_per_step=round(
            sum(receipt.seconds for entry in sealed for receipt in entry.receipts) / max(len(sealed), 1), 3
        ),
        writer=str(owner) if owner else "",
        by_year=by_year(sealed),
        year_more=per_year([entry.time for entry in sealed], load),
        sealed_years=tuple(year_states(cube, root, rows)),
        deep=size_of_years(cube),
        **_behind(root.spec, rows),
    )


def _behind(spec: CubeSpec, rows: Mapping[str, Entry]) -> dict[str, Any]:
    """State of a derived cube relative to its parent."""
    parent = Path(spec.request.get("layers", ""))
    if not spec.request.get("layers"):
        return {}
    if spec.stage == "composite":  # whose steps are periods, not scenes
        return {"made_from": str(parent)}
    if not (parent / "zarr.json").exists():
        return {"made_from": f"{parent} (not there any more)"}
    theirs = Ledger(parent, read_root(parent).ledger).entries(whole=False)
    sealed = {key: row for key, row in theirs.items() if row.status == SEALED}
    wanted = {key: {f"{PARENT}{part}": version for part, version in row.parts.items()} for key, row in sealed.items()}
    have = {key: row for key, row in rows.items() if row.status != FAILED}
    return {
        "made_from": str(parent),
        "lacking": sum(key not in have for key in sealed),
        "stale": tuple(key for key in sealed if key in have and outdated(have[key].parts, wanted[key])),
    }


@dataclass(frozen=True)
class Commit:
    """One commit of a cube's history."""

    number: int
    made: str
    by: str
    steps: int
    generation: int
    changed: dict[str, int]


def cube_history(path: str | Path) -> list[Commit]:
    """Every commit of a cube, oldest first.

    Raises:
        CubeError: Not a cube.
    """
    cube = Path(path)
    latest = read_root(cube).commit
    commits = []
    for file in sorted((cube / OWN / "history").glob("*.json")):
        root = read_root(cube, file)
        if root.commit <= latest:  # later ones come from a process that died before it replaced the root
            own = root.own
            commits.append(
                Commit(root.commit, own["made"], own["by"], root.steps, root.generation, dict(own["changed"]))
            )
    return commits


# Resources used for the steps of a cube.

JOBS = 200
"""Maximum number of jobs queried in SLURM's accounting, the newest."""

Account = Callable[[Sequence[str]], list[dict[str, str]]]


def resources_of(rows: Sequence[Entry], account: Account | None = None) -> dict[str, Any]:
    """Time of the workers for steps, by host, and the records of their jobs in SLURM's accounting.

    Args:
        rows: The steps.
        account: Returns the usage of jobs by their ids; SLURM's accounting if None.
    """
    receipts = [receipt for row in rows for receipt in row.receipts]
    seconds: Counter[str] = Counter()
    blocks: Counter[str] = Counter()
    for receipt in receipts:
        seconds[receipt.host or "not said"] += receipt.seconds  # type: ignore[assignment]
        blocks[receipt.host or "not said"] += 1
    jobs = sorted({receipt.job for receipt in receipts} - {""}, key=lambda job: (len(job), job))
    accounts, why = [], "no step was made by a SLURM job"
    if jobs:
        try:
            accounts, why = (account or Queue().usage)(jobs[-JOBS:]), ""
        except SlurmError as error:
            why = f"SLURM's accounting cannot be asked: {error}"
    total = sum(receipt.seconds for receipt in receipts)
    return {
        "seconds": round(total, 2),
        "seconds_per_step": round(total / len(rows), 3) if rows else None,
        "blocks": len(receipts),
        "hosts": [
            {"host": host, "blocks": blocks[host], "seconds": round(took, 2)} for host, took in seconds.most_common()
        ],
        "jobs": jobs,
        "accounts": accounts,
        "no_accounts": why,
    }
