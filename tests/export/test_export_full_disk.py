"""Exports onto a disk that is full: one clear line, nothing half written, and the next run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy as copy_raster

from stac2cube.build.loop import build
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Threads
from stac2cube.export import export as geotiff
from stac2cube.export.export import Export, export
from stac2cube.store.files import remove_tree
from stac2cube.store.reader import open_cube
from stac2cube.views.options import TimeSelection
from tests.build.test_build import SPEC, Noise, steps


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cube") / "toy.zarr"
    build(path, SPEC, steps(range(4)), Noise(), Threads(2))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_told_of_and_the_next_run_goes_on(small: Path, cube: Path) -> None:
    how = Export(layers=("B02",))
    with pytest.raises(BadInputError, match=r"cannot be written.*complete files stay, run the command again"):
        export(cube, small / "files", how)
    assert not [path for path in small.rglob("*") if ".partial" in path.name]
    subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
    truth = open_cube(cube, decode=False)["B02"].values
    for file, pixels in zip(export(cube, small / "files", how), truth, strict=True):
        with rasterio.open(file) as opened:
            np.testing.assert_array_equal(opened.read(1), pixels)


WAYS = {
    "netcdf": (["export", "CUBE", "OUT.nc"], "OUT.nc cannot be written: No space left on device"),
    "geotiff": (["export", "CUBE", "OUT.tif", "--step", "toy_0001", "--layers", "B02"], "No space left on device"),
    "picture": (["export", "CUBE", "OUT.png", "--step", "toy_0001", "--show", "B02"], "No space left on device"),
    "mp4": (["timelapse", "CUBE", "OUT.mp4", "--show", "B02"], "OUT.mp4: No space left on device; make room"),
    "gif": (["timelapse", "CUBE", "OUT.gif", "--show", "B02"], "OUT.gif: No space left on device; make room"),
    "series": (["series", "CUBE", "POINT", "OUT.parquet"], "OUT.parquet: No space left on device; make room"),
    "report": (["report", "CUBE", "OUT.html"], "OUT.html: No space left on device; make room"),
}
"""Every kind of file that a cube becomes, by the command that writes it, and what it says of a full disk."""


def written(way: str, cube: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    point = json.dumps(
        {"type": "Point", "coordinates": list(open_cube(cube).odc.geobox.geographic_extent.centroid.coords[0])}
    )
    words = [word.replace("OUT", str(folder / "out")).replace("CUBE", str(cube)) for word in WAYS[way][0]]
    words = [point if word == "POINT" else word for word in words]
    return subprocess.run([sys.executable, "-m", "stac2cube", *words], capture_output=True, text=True, check=False)


def try_on(way: str, cube: Path, small: Path, kib: int) -> int:
    """Write onto a disk of a size; the exit code."""
    subprocess.run(["mount", "-o", f"remount,size={kib}k", small], check=True)
    done = written(way, cube, small)
    left = [path.name for path in small.iterdir()]
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1, done.stderr  # not by a signal: HDF5 used to crash
        assert last.startswith("stac2cube: ")
        assert WAYS[way][1].replace("OUT", f"{small}/out") in last
        # Steps of a NetCDF that are whole stay for the next run.
        assert set(left) <= {".out.nc.parts"}
        assert not list(small.rglob("*.partial*"))
    for path in small.iterdir():
        remove_tree(path) if path.is_dir() else path.unlink()
    return done.returncode


def size_of(way: str, cube: Path, folder: Path) -> int:
    """KiB of what a command writes."""
    done = written(way, cube, folder)
    assert done.returncode == 0, done.stderr
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
@pytest.mark.parametrize("way", ["netcdf", "mp4"])
def test_a_disk_that_is_too_small_leaves_no_half_file(way: str, small: Path, cube: Path, tmp_path: Path) -> None:
    (tmp_path / "roomy").mkdir()
    assert try_on(way, cube, small, size_of(way, cube, tmp_path / "roomy") * 3 // 5) == 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
@pytest.mark.parametrize("way", WAYS)
def test_disks_of_many_sizes(way: str, small: Path, cube: Path, tmp_path: Path) -> None:
    (tmp_path / "roomy").mkdir()
    whole = size_of(way, cube, tmp_path / "roomy")
    codes = [try_on(way, cube, small, max(4, 4 * round(3 * whole * place / 80))) for place in range(1, 21)]
    print(f"{way}: {codes.count(0)} of {len(codes)} were written, {codes.count(1)} ended with their line")  # noqa: T201
    assert 1 in codes


def test_what_a_file_reads_otherwise_is_not_exported(
    cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL may lose a block without a word."""

    def spoil(raw: Path, partial: Path, **options: object) -> None:
        with rasterio.open(raw, "r+") as file:
            file.write(file.read(1) + 1, 1)
        copy_raster(raw, partial, **options)

    monkeypatch.setattr(geotiff, "copy_raster", spoil)
    with pytest.raises(BadInputError, match="its content differs from what was written"):
        export(cube, tmp_path / "out.tif", Export(layers=("B02",), choice=TimeSelection(steps=("toy_0001",))))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("flush failed (file write failed, errno = 28, error message = 'x')"), "No space left on device;"),
        (OSError(28, "Can't close file (file write failed\n, errno = 28)"), "No space left on device;"),
        (OSError("GDAL says no"), "GDAL says no;"),
    ],
)
def test_what_libraries_say_of_a_full_disk_is_one_line(
    error: Exception, says: str, cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("stac2cube.export.export.write_netcdf", fail)
    with pytest.raises(BadInputError, match=rf"cube.nc cannot be written: {says} complete files stay"):
        export(cube, tmp_path / "cube.nc", Export(format="netcdf"))
