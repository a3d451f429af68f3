"""Exports onto a disk that is full: one clear line, nothing half written, and the next run goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from stac2cube.build import build
from stac2cube.cube.reader import open_cube
from stac2cube.errors import BadInputError
from stac2cube.places.threads import Threads
from stac2cube.products.export import Export, export
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
    with pytest.raises(BadInputError, match=r"cannot be written.*run again to go on"):
        export(cube, small / "files", how)
    assert not [path for path in small.rglob("*") if ".partial" in path.name]
    subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
    truth = open_cube(cube, decode=False)["B02"].values
    for file, pixels in zip(export(cube, small / "files", how), truth, strict=True):
        with rasterio.open(file) as opened:
            np.testing.assert_array_equal(opened.read(1), pixels)


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

    monkeypatch.setattr("stac2cube.products.export.write_netcdf", fail)
    with pytest.raises(BadInputError, match=rf"cube.nc cannot be written: {says} what is whole stays"):
        export(cube, tmp_path / "cube.nc", Export(format="netcdf"))
