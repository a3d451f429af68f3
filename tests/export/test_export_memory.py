"""Exporting cubes larger than the memory that it takes: the peak of a process of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio
import xarray as xr
from rasterio.env import get_gdal_config

from stac2cube.export.export import CACHE, small_cache
from tests.stages.hungry import BANDS, MIB, make

log = logging.getLogger(__name__)

RUN = """
import re, sys
from pathlib import Path
from stac2cube.export.export import Export, export
from stac2cube.views.options import Style
from stac2cube.views.options import TimeSelection

def now(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

small, large, out, kind = sys.argv[1:]
one = TimeSelection(steps=("2023-01-01",))
how = {"nc": Export(), "tif": Export(choice=one), "png": Export(choice=one, look=Style("nir,red,red"))}[kind]
export(small, f"{out}/small.{kind}", how)
before = now("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here, and not from when libraries came
export(large, f"{out}/large.{kind}", how)
print(before, now("VmHWM"))
"""

BESIDE = {"nc": 45, "tif": 80 + CACHE / MIB, "png": 170 + CACHE / MIB}
"""MiB for windows of 1024 x 1024 pixels, decoded, drawn and compressed, and for what GDAL keeps."""


def check(folder: Path, kind: str, edge: int, steps: int) -> Path:
    """Export a cube; the file."""
    small, large = make(folder / "s.zarr", 300, 2), make(folder / "l.zarr", edge, steps)
    words = [sys.executable, "-c", RUN, str(small), str(large), str(folder), kind]
    said = subprocess.run(words, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout
    before, after = (int(number) / 1024 for number in said.split())
    taken = edge**2 * len(BANDS) * 2 * (steps if kind == "nc" else 1) / MIB
    log.info("%s of %.0f MiB: %.0f MiB before, %.0f MiB at most", kind, taken, before, after)
    assert after - before < BESIDE[kind] < taken
    return folder / f"large.{kind}"


def test_a_netcdf_takes_no_more_memory_for_a_larger_cube(tmp_path: Path) -> None:
    with xr.open_dataset(check(tmp_path, "nc", 1024, 24), engine="h5netcdf") as made:
        assert made["B04"].shape == (24, 1024, 1024)


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "steps"), [("nc", 3), ("tif", 1), ("png", 1)])
def test_an_export_is_larger_than_the_memory_it_takes(tmp_path: Path, kind: str, steps: int) -> None:
    check(tmp_path, kind, 8192, steps)


def test_gdals_cache_is_small_while_a_file_is_written_and_then_as_before() -> None:
    def size() -> int:
        return int(get_gdal_config("GDAL_CACHEMAX"))

    before = size()
    with small_cache():
        assert size() == min(before, CACHE)
    assert size() == before
    with rasterio.Env(GDAL_CACHEMAX=MIB), small_cache():
        assert size() == MIB, "whoever wants less has less"
    with rasterio.Env(GDAL_CACHEMAX=before):
        assert size() == before
