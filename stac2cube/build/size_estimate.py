"""How many files and bytes a cube has, and how many more come: with a build, and with every year."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from stac2cube.build.plan import BuildOptions, Plan, Step
from stac2cube.errors import CubeError
from stac2cube.executors.base import Place
from stac2cube.executors.site import Limits, limits_at, rooms
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.mission import Band
from stac2cube.store.ledger import SEALED, Entry, Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.yearly_store import year_stores

log = logging.getLogger(__name__)

ON_DISK = 0.55
"""Bytes on disk per byte of pixels where a cube has none yet to tell: measured on reflectance (docs/benchmarks.md)."""

IN_FILES = 0.6
"""Bytes in a provider's compressed files per byte of pixels read from them, about: reflectance, too."""

_YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Size:
    """What lies on a file system.

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
    """What the sealed steps among some whole rows of a ledger hold."""
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
    """What the stores of a cube's sealed years hold besides."""
    total = Size()
    for store in year_stores(cube, read_root(cube)):
        try:
            sizes = [shard.size for shard in store.shards if shard.size]
        except CubeError:
            continue  # `verify` tells
        total += Size(0, len(sizes), sum(sizes))
    return total


def per_year(times: Sequence[datetime], load: Size) -> Size:
    """What a further year will bring, going by the last one.

    Args:
        times: Of all steps known.
        load: What steps hold of which there are ``load.steps``, of the same kind.

    Returns:
        Steps of the year before the last one of ``times``, more if ``times`` cover less than a year, and their load.
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
    """What a build of some steps writes: files at most, bytes about.

    Args:
        spec: The cube.
        steps: To be made.
        on_disk: Bytes on disk per byte of pixels.
    """
    size = sum(np.dtype(layer.dtype).itemsize for layer in spec.layers)
    pixels = sum(pixels_of_layer(spec, step) for step in steps)
    return Size(len(steps), sum(len(step.tiles) for step in steps) * len(spec.layers), round(pixels * size * on_disk))


def pixels_of_layer(spec: CubeSpec, step: Step) -> int:
    """Pixels of a layer in the blocks of a step."""
    windows = [spec.grid.window(tile) for tile in step.tiles]
    return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in windows)


def to_read(bands: Sequence[Band], spec: CubeSpec, pixels: int) -> float:
    """Bytes of pixels that a build reads at most.

    Args:
        bands: To be read, each in pixels of its own size.
        spec: The cube.
        pixels: Of each layer that are made, see :func:`pixels_of_layer`.
    """
    edge = spec.grid.resolution
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
    """What a build adds to a cube, and what comes with every year.

    Attributes:
        now: In the cube and the stores of its sealed years.
        more: Files at most, bytes about, that the build adds.
        year: Of a further year.
        pixels: Of each layer that the build makes.
    """

    now: Size
    more: Size
    year: Size
    pixels: int


def forecast(path: Path | None, spec: CubeSpec, work: Plan, steps: Sequence[Step] = ()) -> Forecast:
    """What a build adds to a cube.

    Args:
        path: The cube, which need not exist.
        spec: What it is or will be.
        work: The plan.
        steps: All steps wanted: they tell how many a year has.
    """
    exists = path is not None and path.exists()
    rows = list(Ledger(path, read_root(path).ledger).entries().values()) if path is not None and exists else []
    now = size_of(rows) + (size_of_years(path) if path is not None and exists else Size())
    share = on_disk(spec, rows)
    times = [step.entry.time for step in steps] + [row.time for row in rows if row.status == SEALED]
    year = per_year(list(dict.fromkeys(times)), added(spec, steps, share))
    return Forecast(now, added(spec, work.todo, share), year, sum(pixels_of_layer(spec, step) for step in work.todo))


def require_room(path: Path, spec: CubeSpec, work: Plan, options: BuildOptions, place: Place) -> None:
    """Be sure that a build stays within the limits that hold for it; warn where disk or quota may have too little room.

    Raises:
        BadInputError: It would not; nothing was written.
    """
    if limits := limits_of(options, place):
        ahead = forecast(path, spec, work)
        for one in limits:
            one.require(path, (ahead.now.files, ahead.now.size), (ahead.more.files, ahead.more.size))
    if work.todo:
        more = added(spec, work.todo)
        # Both are estimates from above, so that nothing is refused.
        for lacking in filter(None, (room.lacks(more.files, more.size) for room in rooms(path))):
            log.warning("%s may not fit. %s", path, lacking)


def limits_of(options: BuildOptions, place: Place) -> list[Limits]:
    """The limits that are set: by the options, or else by the site at which the place is."""
    held = limits_at(place) if options.limits is None else (options.limits,)
    return [limits for limits in held if limits != Limits()]
