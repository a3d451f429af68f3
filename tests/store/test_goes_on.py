"""What xarray does with an opened cube, and what CF readers make of its attributes."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import stac2cube
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.executors.base import Threads
from stac2cube.export.netcdf import export_netcdf
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.model.mission import find_mission, mission_names
from stac2cube.store.ledger import Entry
from stac2cube.store.metadata import read_root
from stac2cube.store.verify import find_damage
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.export.test_cf import layers_of
from tests.real.recorded import DATA

GRID = Grid("EPSG:32632", 10.0, (500000.0, 5300000.0), (150, 170), chunk=(16, 16), shard=(64, 64))
LAYERS = (
    Layer("B04", "uint16", 0, 1e-4, -0.1),
    Layer("flags", "uint8", 255, bits=((1, 1, "cloud"), (2, 2, "cloud_shadow"))),
)
DAYS = (5, 1, 9)
OLD = DATA / "cubes_0.1.0"


@dataclass(frozen=True)
class Draw:
    def __call__(self, day: int, block: Block) -> Mapping[str, np.ndarray]:
        rows, columns = np.indices(block.geobox.shape)
        red, flags = (1000 + 10 * day + rows + columns).astype("uint16"), (columns % 4).astype("uint8")
        red[:3], flags[:3] = 0, 255
        return {"B04": red, "flags": flags}


def extend(path: Path, days: tuple[int, ...]) -> None:
    steps = []
    for day in days:
        facts = {"platform": "sentinel-2a", "cloud_cover": 1.0}
        entry = Entry(f"S_{day}", datetime(2023, 7, day, 10, tzinfo=UTC), "sealed", ("i",), properties=facts)
        steps.append(Step(entry, day, tuple(GRID.tiles())))
    build(path, CubeSpec("layers", GRID, LAYERS, {"mission": "sentinel-2-l2a"}), steps, Draw(), Threads(2))


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("on") / "a.zarr"
    extend(path, DAYS)
    return path


def pixels(dataset: xr.Dataset) -> np.ndarray:
    return np.asarray(dataset["B04"].astype("float64").values)


@pytest.mark.parametrize("chunks", ["shards", "auto", None])
def test_it_is_stored_pickled_and_joined(cube: Path, chunks: object, tmp_path: Path) -> None:
    opened = stac2cube.open_cube(cube, chunks=chunks)  # type: ignore[arg-type]
    assert list(np.diff(opened.time.values) > np.timedelta64(0, "us")) == [True, True]
    assert opened.scene.dtype.kind == opened.platform.dtype.kind == "U"
    assert json.loads(opened.attrs["stac2cube"])["spec"]["stage"] == "layers"
    assert not [name for name in opened.attrs if name.startswith(("spatial:", "zarr_"))], "a part lies elsewhere"
    for number, part in enumerate((opened, opened.isel(time=slice(1), x=slice(5, 60), y=slice(0, None, 2)))):
        wanted = pixels(part)
        for engine in ("netcdf4", "h5netcdf"):
            part.to_netcdf(tmp_path / f"{number}-{engine}.nc", engine=engine)
            with xr.open_dataset(tmp_path / f"{number}-{engine}.nc", engine=engine) as again:
                np.testing.assert_allclose(pixels(again), wanted, rtol=1e-6)
                assert list(again.scene.values) == list(part.scene.values)
        part.chunk("auto").to_zarr(tmp_path / f"{number}.zarr")
        np.testing.assert_allclose(pixels(xr.open_zarr(tmp_path / f"{number}.zarr")), wanted, rtol=1e-6)
        np.testing.assert_array_equal(pixels(pickle.loads(pickle.dumps(part))), wanted)
    opened.to_zarr(tmp_path / "whole.zarr")
    joined = xr.concat([opened.isel(time=[0, 1]), opened.isel(time=[2])], "time")
    np.testing.assert_array_equal(pixels(joined), pixels(opened))
    assert str(opened.sel(time="2023-07-06", method="nearest").scene.values) == "S_5"
    assert opened[["B04"]].resample(time="1MS").max().sizes["time"] == 1


def require_stored_as_it_is(dataset: xr.Dataset, folder: Path) -> None:
    """What is made of a Dataset of ours comes back from NetCDF and Zarr, its times in a unit that CDO knows."""
    summed = dataset.coarsen(y=8, x=8, boundary="trim").sum()
    assert float(summed["B04"].max()) > 6.5535, "more than the cube's integers hold"
    assert "GeoTransform" not in dataset["spatial_ref"].attrs
    summed.to_netcdf(folder / "as_it_is.nc")
    summed.to_zarr(folder / "as_it_is.zarr", mode="w", zarr_format=2)
    with xr.open_dataset(folder / "as_it_is.nc") as of_nc, xr.open_zarr(folder / "as_it_is.zarr") as of_zarr:
        for again in (of_nc, of_zarr):
            np.testing.assert_allclose(pixels(again), pixels(summed), rtol=1e-6)
            assert again["time"].encoding["units"].startswith("seconds since ")
            assert list(again["scene"].values) == list(dataset["scene"].values)
            assert "spatial_ref" in again.coords


def test_scenes_that_are_no_cube_are_stored_as_they_are(tmp_path: Path) -> None:
    archive = simulate(tmp_path / "archive", ArchiveSpec(years=(2024,), dates_per_year=1, tile_px=96))
    catalog, words = str(archive.catalog("earth-search")), {"mission": "sentinel-2-l2a", "time": "2024"}
    require_stored_as_it_is(stac2cube.read(catalog, archive.area(), ["B04"], **words), tmp_path)
    lazy = stac2cube.get_stac_layers(aoi=archive.area(), bands=["B04"], catalog=catalog, **words)
    require_stored_as_it_is(lazy, tmp_path)


@pytest.mark.parametrize("decode", [True, False])
def test_what_is_made_of_it_is_written_as_it_is(cube: Path, decode: bool, tmp_path: Path) -> None:
    """Not in the cube's own integers: a sum of many pixels is more than they can hold, a mean between two of them."""
    opened = stac2cube.open_cube(cube, decode=decode)
    blocks = opened.coarsen(y=30, x=30, boundary="trim")
    for number, made in enumerate((blocks.sum(), blocks.mean())):
        made.to_netcdf(tmp_path / f"{number}.nc")
        made.to_zarr(tmp_path / f"{number}.zarr")
        names = {"mask_and_scale": decode}
        for again in (
            xr.open_dataset(tmp_path / f"{number}.nc", **names),
            xr.open_zarr(tmp_path / f"{number}.zarr", **names),
        ):
            for name in ("B04", "flags"):
                np.testing.assert_allclose(again[name].values, made[name].values, rtol=1e-6, err_msg=name)
            assert "spatial_ref" in again.coords
    assert float(blocks.sum().B04.max()) > (6.5535 if decode else 65535)


def test_plain_xarray_needs_two_lines(cube: Path, tmp_path: Path) -> None:
    plain = xr.open_zarr(cube, chunks="auto", drop_variables="scene").sortby("time")
    plain.attrs = {}
    plain.to_netcdf(tmp_path / "plain.nc")
    with xr.open_dataset(tmp_path / "plain.nc") as again:
        np.testing.assert_allclose(pixels(again), pixels(stac2cube.open_cube(cube)), rtol=1e-6)


def flagged(numbers: np.ndarray, attributes: Mapping[str, object]) -> dict[str, np.ndarray]:
    """CF 1.11, section 3.5."""
    names = str(attributes["flag_meanings"]).split()
    pairs = zip(np.atleast_1d(attributes["flag_masks"]), np.atleast_1d(attributes["flag_values"]), strict=True)
    return {name: (numbers & mask) == value for name, (mask, value) in zip(names, pairs, strict=True)}


def test_no_data_has_no_flag(cube: Path) -> None:
    for flags in (xr.open_zarr(cube, chunks=None).flags, stac2cube.open_cube(cube).flags):
        found = flagged(flags.values, flags.attrs)
        assert list(found) == ["cloud", "cloud_shadow"]
        for bit, mask in zip((1, 2), found.values(), strict=True):
            np.testing.assert_array_equal(mask, (flags.values != 255) & (flags.values & bit > 0))
            assert mask.any()


def test_classes_that_others_reproject_are_no_data_outside(cube: Path, tmp_path: Path) -> None:
    """Not 0, which is no cloud."""
    import odc.geo.xr  # noqa: F401

    export_netcdf(cube, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as of_nc:
        assert of_nc["flags"].attrs["nodata"].dtype == np.uint8
        for opened in (xr.open_zarr(cube, chunks=None), stac2cube.open_cube(cube, chunks=None), of_nc):
            flags = opened["flags"].isel(time=0)
            turned = flags.odc.reproject(flags.odc.geobox.to_crs("EPSG:3857").pad(2)).values
            assert turned.dtype == np.uint8
            assert (turned[0] == 255).all()
            assert set(np.unique(turned)) == {0, 1, 2, 3, 255}


@pytest.mark.parametrize("mission", mission_names())
def test_no_band_of_a_mission_has_flags_where_it_has_no_data(mission: str) -> None:
    for layer in layers_of(mission):
        if layer.bits:
            numbers = np.array([layer.fill], layer.dtype)
            said = {name for name, mask in flagged(numbers, layer.attributes()).items() if mask[0]}
            assert said <= {"fill"}, layer.name
    assert find_mission(mission).bands


def test_coordinates_alone_say_the_transform(cube: Path) -> None:
    for name in ("zarr.json", "spatial_ref/zarr.json"):
        assert "GeoTransform" not in (cube / name).read_text()
    reference = xr.open_zarr(cube, chunks=None).spatial_ref
    assert {"crs_wkt", "spatial_ref", "grid_mapping_name"} <= set(reference.attrs)


def test_what_an_older_version_wrote_changes_at_the_next_commit(tmp_path: Path) -> None:
    path = tmp_path / "old.zarr"
    extend(path, DAYS[:2])
    for file in (path / "zarr.json", path / "spatial_ref/zarr.json", path / "flags/zarr.json"):
        document = json.loads(file.read_text())
        known = document.get("consolidated_metadata", {}).get("metadata", {file.parent.name: document})
        if "spatial_ref" in known:
            known["spatial_ref"]["attributes"]["GeoTransform"] = "500000.0 10.0 0.0 5300000.0 0.0 -10.0"
        if "flags" in known:
            known["flags"]["attributes"]["flag_masks"] = [1, 2]
            del known["flags"]["attributes"]["nodata"]
        document["attributes"].get("stac2cube", {}).pop("checksums", None)  # which came later, too
        file.write_text(json.dumps(document))
    (path / ".stac2cube/history/000001.json").write_bytes((path / "zarr.json").read_bytes())
    assert find_damage(path) == []
    before = pixels(stac2cube.open_cube(path))
    extend(path, DAYS)
    for file in (path / "zarr.json", path / "spatial_ref/zarr.json"):
        assert "GeoTransform" not in file.read_text()
    told = json.loads((path / "flags/zarr.json").read_text())["attributes"]
    assert (told["flag_masks"], told["nodata"]) == ([129, 130], 255)
    assert find_damage(path) == []
    np.testing.assert_array_equal(pixels(stac2cube.open_cube(path))[:2], before)


@pytest.mark.real
@pytest.mark.skipif(not OLD.exists(), reason="there are no cubes of 0.1.0 here")
@pytest.mark.parametrize("name", ["layers", "clouds", "superres", "indices", "moved"])
def test_cubes_of_0_1_0_go_on(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    path = folder / f"{name}.zarr"
    assert "GeoTransform" in (path / "zarr.json").read_text()
    opened = stac2cube.open_cube(path)
    assert "GeoTransform" not in opened.spatial_ref.attrs, "untrue of a part"
    opened.isel(time=[0]).to_netcdf(tmp_path / "a.nc")
    assert read_root(path).spec.layers
