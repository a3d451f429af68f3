"""Composing a cube many times as large as the memory that it may take: the peak of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import stac2cube
from stac2cube.build import build
from stac2cube.cube.ledger import Entry
from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.grid import Grid
from stac2cube.places.threads import Threads
from stac2cube.work import Block, Step

BANDS = ("B04", "B08")
MIB = 2**20

RUN = """
import re, sys
from pathlib import Path
import stac2cube
from stac2cube import Composition, Threads, store_composites

def now(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

small, large, out, method, memory = sys.argv[1:]
how = Composition("year", method, "NDVI" if method == "best" else None)
store_composites(small, out + "/small.zarr", how, place=Threads(1), memory=int(memory))
before = now("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here, and not from when libraries came
store_composites(large, out + "/large.zarr", how, place=Threads(1), memory=int(memory))
print(before, now("VmHWM"))
"""


@dataclass(frozen=True)
class Draw:
    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        rows, columns = (part.stop - part.start for part in block.grid.window(block.tile))
        random = np.random.default_rng(number)
        # Compresses well and differs everywhere; every seventh step or so lacks data in each pixel.
        coarse = random.integers(1100, 6000, (len(BANDS), -(-rows // 8), -(-columns // 8)), dtype="uint16")
        coarse[:, random.random(coarse.shape[1:]) < 0.15] = 0
        fine = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :rows, :columns]
        return {band: fine[place] for place, band in enumerate(BANDS)}


def make(path: Path, edge: int, steps: int) -> Path:
    grid = Grid("EPSG:32632", 10.0, (500000.0, 5300000.0), (edge, edge), chunk=(256, 256), shard=(2048, 2048))
    layers = tuple(Layer(band, "uint16", 0, 1e-4, -0.1) for band in BANDS)
    wanted = []
    for number in range(steps):
        time = datetime(2023, 1, 1, 10, tzinfo=UTC) + timedelta(days=360 * number / steps)
        entry = Entry(f"sentinel-2a_R108_{number:04d}", time, "sealed", (f"item-{number}",), {"tile": "05.00"})
        wanted.append(Step(entry, number, tuple(grid.tiles())))
    spec = CubeSpec("layers", grid, layers, {"mission": "sentinel-2-l2a"})
    assert build(path, spec, wanted, Draw(), Threads(2)).exit_code == 0
    return path


def peaks(folder: Path, edge: int, steps: int, method: str, memory: int) -> tuple[float, float]:
    """MiB at most before the large cube and after it."""
    small, large = make(folder / "s.zarr", 64, 3), make(folder / "l.zarr", edge, steps)
    words = [sys.executable, "-c", RUN, str(small), str(large), str(folder), method, str(memory)]
    said = subprocess.run(words, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout
    before, after = (int(number) / 1024 for number in said.split())
    return before, after


def decoded(edge: int, steps: int) -> float:
    """MiB of the cube as float32."""
    return edge**2 * steps * len(BANDS) * 4 / MIB


FIXED = 36
"""MiB for what does not grow with the cube: what is made and being compressed, chunks in decoding."""


@pytest.mark.parametrize("method", ["median", "best"])
def test_memory_stays_within_what_is_allowed(tmp_path: Path, method: str) -> None:
    edge, steps, memory = 640, 40, 12 * MIB
    assert decoded(edge, steps) > 10 * memory / MIB
    before, after = peaks(tmp_path, edge, steps, method, memory)
    assert after - before < memory / MIB + FIXED, (before, after)
    cube = stac2cube.open_cube(tmp_path / "l.zarr", chunks=None)
    if method == "median":
        found = stac2cube.open_cube(tmp_path / "large.zarr")["B08"].values[0, ::37, ::41]
        expected = np.nanmedian(cube["B08"][:, ::37, ::41].values, axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.soak
def test_a_cube_ten_times_as_large_as_the_whole_process_may_be(tmp_path: Path) -> None:
    """Two bands of 2048 x 2048 pixels on 200 dates are 6.4 GB; the process, libraries and all, stays below a tenth."""
    edge, steps = 2048, 200
    _, after = peaks(tmp_path, edge, steps, "median", 128 * MIB)
    assert after < decoded(edge, steps) / 10, after
