"""Cubes many times as large as the memory that work on them may take, and the peaks of the processes that do it."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.executors.base import Place, Threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.stages.stored_views import Composition, store_composites
from stac2cube.store.ledger import Entry
from stac2cube.store.reader import differences

log = logging.getLogger(__name__)

BANDS = ("B04", "B08")
MIB = 2**20


@dataclass(frozen=True)
class Draw:
    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        rows, columns = (part.stop - part.start for part in block.grid.window(block.tile))
        random = np.random.default_rng((number, *block.tile))
        # Compresses well and differs everywhere; every seventh step or so lacks data in each pixel.
        coarse = random.integers(1100, 6000, (len(BANDS), -(-rows // 8), -(-columns // 8)), dtype="uint16")
        coarse[:, random.random(coarse.shape[1:]) < 0.15] = 0
        fine = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :rows, :columns]
        return {band: fine[place] for place, band in enumerate(BANDS)}


def make(path: Path, edge: int, steps: int, shard: int = 2048) -> Path:
    """A cube of two bands, in blocks of ``shard`` pixels, all of one year."""
    grid = Grid("EPSG:32632", 10.0, (500000.0, 5300000.0), (edge, edge), chunk=(256, 256), shard=(shard, shard))
    layers = tuple(Layer(band, "uint16", 0, 1e-4, -0.1) for band in BANDS)
    wanted = []
    for number in range(steps):
        time = datetime(2023, 1, 1, 10, tzinfo=UTC) + timedelta(days=360 * number / steps)
        entry = Entry(f"sentinel-2a_R108_{number:04d}", time, "sealed", (f"item-{number}",), {"tile": "05.00"})
        wanted.append(Step(entry, number, tuple(grid.tiles())))
    spec = CubeSpec("layers", grid, layers, {"mission": "sentinel-2-l2a"})
    assert build(path, spec, wanted, Draw(), Threads(2)).exit_code == 0
    return path


def decoded(edge: int, steps: int) -> float:
    """MiB of the cube as float32."""
    return edge**2 * steps * len(BANDS) * 4 / MIB


FIXED = 36
"""MiB for what does not grow with a cube: what is made and being compressed, chunks in decoding."""


@dataclass
class Peak:
    """The largest peak of resident memory, MiB, of any process that was seen, and how many were."""

    largest: float = 0.0
    processes: int = 0


@contextmanager
def peak_of(find: Callable[[], Iterable[int]]) -> Iterator[Peak]:
    """Watch processes by their ids; peaks are as the kernel keeps them, from here on."""
    peak, seen, over = Peak(), set[int](), threading.Event()
    for process in find():
        Path(f"/proc/{process}/clear_refs").write_text("5")

    def look() -> None:
        for process in find():
            try:
                said = Path(f"/proc/{process}/status").read_text()
            except OSError:
                continue
            if high := re.search(r"VmHWM:\s+(\d+) kB", said):
                seen.add(process)
                peak.largest = max(peak.largest, int(high[1]) / 1024)
                peak.processes = len(seen)

    def watch() -> None:
        while not over.wait(0.05):
            look()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peak
    finally:
        over.set()
        watching.join()


@dataclass(frozen=True)
class Meal:
    """A cube to compose, and how much its workers may hold.

    Attributes:
        edge: Rows and columns.
        steps: All of one year.
        shard: Edge of a block.
        memory: Bytes per block in work.
    """

    edge: int
    steps: int
    shard: int
    memory: int

    def take(self, folder: Path, place: Place, find: Callable[[], Iterable[int]]) -> Peak:
        """Compose a small cube and this one, which is more than ten times its memory, at a place: its peak.

        Asserts that the pixels are those of threads, and that this one takes no more beside the small one than allowed.
        """
        assert decoded(self.edge, self.steps) > 10 * self.memory / MIB
        cubes = {
            "small": make(folder / "s.zarr", 64, 3),
            "large": make(folder / "l.zarr", self.edge, self.steps, self.shard),
        }
        peaks = {}
        for name, cube in cubes.items():
            with peak_of(find) as peaks[name]:
                store_composites(cube, folder / f"{name}.zarr", Composition("year"), place=place, memory=self.memory)
        assert 0 < peaks["large"].largest < peaks["small"].largest + self.memory / MIB + FIXED, peaks
        store_composites(cubes["large"], folder / "threads.zarr", Composition("year"), memory=self.memory)
        assert differences(folder / "large.zarr", folder / "threads.zarr") == []
        if self is FEAST:
            assert peaks["large"].largest < decoded(self.edge, self.steps) / 10, "libraries and all"
        log.info("%s: cube of %.0f MiB, peaks %s", place, decoded(self.edge, self.steps), peaks)
        return peaks["large"]


SNACK = Meal(640, 40, 2048, 12 * MIB)
FEAST = Meal(2048, 200, 1024, 128 * MIB)
"""6.4 GB as float32, in four blocks."""
