"""A cube is plain Zarr: read by zarr-python alone, by xarray, and by a GDAL that knows Zarr 3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client

import stac2cube
from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import verify
from tests.build.toy import SPEC, Make, pixels, step, steps

# A wheel with GDAL 3.13. It lives in an environment of its own: two GDALs in one process are one too many.
GDAL_WHEELS = ["pyramids-core==0.72.0", "hpc-utils==0.1.5"]

READ = """
import importlib.util, json, os, sys
root = importlib.util.find_spec("pyramids").submodule_search_locations[0]
sys.path.append(os.path.join(root, "_vendor"))
from osgeo import gdal, osr
osr.SetPROJSearchPaths([os.path.join(root, "_data", "proj_data")])
gdal.SetConfigOption("GDAL_DATA", os.path.join(root, "_data", "gdal_data"))
gdal.UseExceptions()
cube = sys.argv[1]
array = gdal.OpenEx(cube, gdal.OF_MULTIDIM_RASTER).GetRootGroup().OpenMDArray("B02")
flat = gdal.Open(f'ZARR:"{cube}":/B02')
print(json.dumps({
    "version": gdal.__version__, "nodata": array.GetNoDataValue(),
    "scale": array.GetScale(), "offset": array.GetOffset(),
    "transform": flat.GetGeoTransform(), "epsg": flat.GetSpatialRef().GetAuthorityCode(None), "bands": flat.RasterCount,
    "step": array.ReadAsArray(array_start_idx=[1, 0, 0], count=[1, 150, 130])[0].tolist(),
}))
"""


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "toy.zarr"
    build(path, SPEC, steps(range(3)), Make(), Threads(1))  # whose order of arrival is that of time
    return path


def test_zarr_alone(cube: Path) -> None:
    group = zarr.open_group(cube, mode="r")
    assert {"B02", "SCL", "time", "scene", "x", "y", "spatial_ref"} <= set(group.array_keys())
    np.testing.assert_array_equal(group["B02"][2], pixels(2))


def test_what_is_ours_is_no_group_beside_the_layers(cube: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert xr.open_datatree(cube, engine="zarr").groups == ("/",)
    assert not list(zarr.open_group(cube, mode="r").groups())
    said = [str(warning.message) for warning in recwarn]
    assert not [text for text in said if ".stac2cube" in text or "recognized" in text]
    assert verify(cube) == []


def test_statistics_that_qgis_leaves_beside_a_layer_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "toy.zarr"
    build(path, SPEC, steps(range(2)), Make(), Threads(1))
    (path / "B02" / "zarr.json.aux.xml").write_text("<PAMDataset/>")
    assert verify(path) == []
    (path / "B02" / "notes.xml").write_text("<notes/>")
    assert [damage.path for damage in verify(path)] == ["B02/notes.xml"]
    build(path, SPEC, steps(range(3)), Make(), Threads(1))
    assert stac2cube.open_cube(path).sizes["time"] == 3


def test_stored_again_as_netcdf_it_says_nothing(cube: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    stac2cube.open_cube(cube).to_netcdf(tmp_path / "again.nc", engine="netcdf4")
    assert not [str(warning.message) for warning in recwarn if "endian" in str(warning.message)]


def test_flags_stored_again_have_the_type_of_their_layer(cube: Path, tmp_path: Path) -> None:
    """CF 1.11, section 3.5."""
    stac2cube.open_cube(cube).to_netcdf(tmp_path / "again.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "again.nc", decode_cf=False) as again:
        assert again["SCL"].attrs["flag_values"].dtype == again["SCL"].dtype == np.uint8
        assert again["SCL"].attrs["flag_values"].tolist() == [0, 4]


@pytest.mark.parametrize("chunks", ["shards", "series", "auto", None])
def test_a_cube_without_steps_opens_in_any_chunks(chunks: str | None, tmp_path: Path) -> None:
    build(tmp_path / "empty.zarr", SPEC, [], Make(), Threads(1))
    opened = stac2cube.open_cube(tmp_path / "empty.zarr", chunks=chunks)
    assert opened["B02"].shape == (0, *SPEC.grid.shape)


def test_a_dask_cluster_that_holds_a_cube_of_before_gives_the_pixels_of_now(tmp_path: Path) -> None:
    """Of a plain store it gives the old ones: findings/dask-gives-old-pixels-of-a-zarr.sh."""
    cube = tmp_path / "toy.zarr"
    build(cube, SPEC, steps(range(3)), Make(), Threads(1))
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
        held = stac2cube.open_cube(cube, decode=False, chunks={"time": 1}).persist()
        held["B02"].sum().compute()
        newer = BuildOptions(superseded="replace")
        build(cube, SPEC, [step(1, "05.10")], Make(bonus=50), Threads(1), options=newer)
        seen = stac2cube.open_cube(cube, decode=False, chunks={"time": 1})
        np.testing.assert_array_equal(seen["B02"][1].compute(), pixels(51))
        np.testing.assert_array_equal(held["B02"][1].compute(), pixels(1))


def test_xarray_alone_knows_the_grid(cube: Path) -> None:
    import odc.geo.xr  # noqa: F401

    dataset = xr.open_zarr(cube)
    assert dataset.odc.geobox == SPEC.grid.geobox
    assert dataset["B02"].attrs["units"] == "1"
    assert list(dataset["SCL"].attrs["flag_values"]) == [0, 4]
    assert dataset["SCL"].attrs["flag_meanings"] == "no_data vegetation"


@pytest.fixture(scope="module")
def gdal_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    venv = tmp_path_factory.mktemp("gdal") / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = str(venv / "bin/python")
    for words in (["numpy"], ["--no-deps", *GDAL_WHEELS]):
        done = subprocess.run([python, "-m", "pip", "install", "-q", *words], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("no wheel with GDAL 3.13 can be installed for this Python here")
    return python


def test_gdal_from_3_13_on(cube: Path, gdal_python: str) -> None:
    done = subprocess.run([gdal_python, "-c", READ, cube], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert tuple(map(int, seen["version"].split(".")[:2])) >= (3, 13)
    assert (seen["nodata"], seen["scale"], seen["offset"]) == (0, 1e-4, -0.1)
    assert seen["transform"] == [500000.0, 10.0, 0.0, 5000000.0, 0.0, -10.0]
    assert (seen["epsg"], seen["bands"]) == ("32632", 3)
    np.testing.assert_array_equal(np.array(seen["step"]), pixels(1))
