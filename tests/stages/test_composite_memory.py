"""Composing a cube many times as large as the memory that it may take: the peak of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stac2cube
from tests.stages.hungry import FIXED, MIB, decoded, make

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


def peaks(folder: Path, edge: int, steps: int, method: str, memory: int) -> tuple[float, float]:
    """MiB at most before the large cube and after it."""
    small, large = make(folder / "s.zarr", 64, 3), make(folder / "l.zarr", edge, steps)
    words = [sys.executable, "-c", RUN, str(small), str(large), str(folder), method, str(memory)]
    said = subprocess.run(words, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout
    before, after = (int(number) / 1024 for number in said.split())
    return before, after


@pytest.mark.parametrize("method", ["median", pytest.param("best", marks=pytest.mark.soak)])
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
