"""Cubes that version 0.1.0 made open, verify and grow; their pixels stay what they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from stac2cube.cli import cli
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import open_cube
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.real.recorded import DATA, real

CUBES = DATA / "cubes_0.1.0"
NAMES = ("layers", "clouds", "moved.shifts", "moved", "indices", "small", "superres")
"""Each before those that are made of it."""

NEEDS_TORCH = {"superres"}

pytestmark = [*real, pytest.mark.skipif(not CUBES.is_dir(), reason="the cubes of 0.1.0 are absent")]


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that may be written to."""
    folder = tmp_path_factory.mktemp("earlier") / "cubes"
    shutil.copytree(CUBES, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    return folder


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Scenes of the year after."""
    archive = simulate(tmp_path_factory.mktemp("archive"), ArchiveSpec(years=(2024,), dates_per_year=2))
    return str(archive.catalog("earth-search"))


def told(*words: str) -> str:
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 0, done.output
    return str(done.output)


def pixels(cube: Path) -> xr.Dataset:
    return open_cube(cube, decode=False, chunks=None).load()


def followed(cube: Path, before: xr.Dataset) -> xr.Dataset:
    """What a cube holds now; its earlier steps are as they were, and the new ones hold data."""
    told("verify", str(cube))
    after = pixels(cube)
    new = ~np.isin(after["scene"].values, before["scene"].values)
    old = after.isel(time=~new)
    for name in before.data_vars:
        np.testing.assert_array_equal(old[name].values, before[name].values, err_msg=f"{name} of {cube.name}")
        assert after[name].dtype == before[name].dtype
    return after.isel(time=new)


def test_they_open_and_verify(cubes: Path) -> None:
    for name in NAMES:
        cube = cubes / f"{name}.zarr"
        told("verify", str(cube))
        opened, root = pixels(cube), read_root(cube)
        assert opened.sizes["time"] == len(Ledger(cube, root.ledger).sealed())
        assert all(opened[layer.name].dtype == layer.dtype for layer in root.spec.layers)
        assert (np.diff(opened["time"].values) > np.timedelta64(0, "us")).all()


def test_they_grow_and_what_is_made_of_them_follows(cubes: Path, catalog: str) -> None:
    before = {name: pixels(cubes / f"{name}.zarr") for name in NAMES if name not in NEEDS_TORCH}
    for name in before:
        more = ("--time", "2024", "--catalog", catalog) if name in ("layers", "small") else ()
        if name == "moved.shifts":  # it follows with the cube that was moved by it
            continue
        told("update", str(cubes / f"{name}.zarr"), "-q", *more)
    for name, dataset in before.items():
        added = followed(cubes / f"{name}.zarr", dataset)
        assert added.sizes["time"] >= 1, name
        assert (added["time"].dt.year == 2024).all()
        for layer in read_root(cubes / f"{name}.zarr").spec.layers:
            values = added[layer.name].values
            valid = ~np.isnan(values) if np.isnan(layer.fill) else values != layer.fill_scalar
            assert valid.any(), f"{layer.name} of {name}"


def test_super_resolution_follows(cubes: Path, catalog: str) -> None:
    pytest.importorskip("torch", reason="super-resolution needs torch")
    cube = cubes / "superres.zarr"
    before = pixels(cube)
    told("update", str(cubes / "small.zarr"), "-q", "--time", "2024", "--catalog", catalog)
    told("update", str(cube), "-q")
    assert (followed(cube, before)["time"].dt.year == 2024).all()
