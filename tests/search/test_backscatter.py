"""Backscatter declared in dB in one of the ways that providers have, or not at all: power, or refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely.geometry import box

from stac2cube.errors import ReadError
from stac2cube.model.catalog import find_catalog
from stac2cube.model.image import BandRequest
from stac2cube.model.mission import find_mission
from stac2cube.model.scene import AssetRef, Scene
from stac2cube.pixels.warp import stored
from stac2cube.search.search import search
from tests.items import query_over
from tests.pixels.products import Json, collection, product

YEAR = (datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC) - timedelta(microseconds=1))
VV = BandRequest("VV", "float32", float("nan"), "continuous", above=0.0)


ABOUT = {
    "datetime": "2023-07-14T17:30:17Z",
    "platform": "SENTINEL-1A",
    "sat:relative_orbit": 30,
    "sat:orbit_state": "ascending",
    "proj:epsg": 32632,
}


def find(folder: Path, asset: Json, properties: Json) -> Scene:
    radar = product("radar") | {"collection": "sentinel-1-rtc", "properties": ABOUT | properties}
    radar["assets"] = {"vv": {"href": "/data/vv.tif"} | asset}
    (scene,) = _found(folder, radar)
    return scene


def find_all(folder: Path, *named: tuple[str, str | None]) -> list[Scene]:
    radar = product("radar") | {"properties": ABOUT, "assets": {"vv": {"href": "/data/vv.tif"}}}
    return _found(folder, *(radar | {"id": name, "collection": of} for name, of in named))


def _found(folder: Path, *items: Json) -> list[Scene]:
    query = query_over(box(9.2, 47.2, 9.8, 47.8), YEAR, "VV", mission="sentinel-1-rtc")
    return search(query, find_catalog(str(collection(folder / "items.json", *items))))


@pytest.mark.parametrize(
    ("asset", "properties", "decibels"),
    [
        ({}, {}, False),
        ({"unit": "1"}, {}, False),
        ({"description": "linear power; 10*log10 makes dB of it"}, {}, False),
        ({"raster:bands": [{"unit": "natural units", "nodata": -32768}]}, {}, False),
        ({"bands": "none", "eo:bands": [None]}, {}, False),
        *(({"raster:bands": [{"unit": unit}]}, {}, True) for unit in ("dB", "[dB]", "gamma0 dB", "decibels", "dBsm")),
        ({"bands": [{"name": "VV_dB"}]}, {}, True),
        ({"eo:bands": [{"name": "Gamma0_VV_db"}]}, {}, True),
        ({"title": "VV backscatter (dB)"}, {}, True),
        ({}, {"s1:units": "dB"}, True),
        ({}, {"raster:unit": "decibel"}, True),
    ],
)
def test_ways_to_declare_decibels(asset: Json, properties: Json, decibels: bool, tmp_path: Path) -> None:
    (granule,) = find(tmp_path, asset, properties).granules
    assert granule.assets["VV"].decibels is decibels


@pytest.mark.parametrize(
    ("asset", "problem"),
    [
        ({"raster:bands": [{"unit": "amplitude"}]}, "item radar declares its backscatter VV as amplitude"),
        ({"raster:bands": [{"unit": "dB", "scale": 0.01}]}, "item radar declares its backscatter VV with scale 0.01"),
        ({"bands": [{"raster:offset": -80}]}, "item radar declares its backscatter VV with raster:offset -80"),
    ],
)
def test_what_is_neither_power_nor_decibels_is_refused(asset: Json, problem: str, tmp_path: Path) -> None:
    assert problem in find(tmp_path, asset, {}).problem


def test_decibels_that_nobody_declares_are_refused() -> None:
    asset = AssetRef("/data/vv.tif")
    decibels = np.array([[-12.5, -7.0, 3.0, -99.0]], "float32")
    power = stored(decibels, -99.0, VV, AssetRef("/data/vv.tif", decibels=True))
    np.testing.assert_allclose(power, [[10**-1.25, 10**-0.7, 10**0.3, np.nan]], rtol=1e-6)
    with pytest.raises(ReadError, match=r"holds -12.5 to 3, as backscatter in dB has"):
        stored(decibels, -99.0, VV, asset)
    noise = np.array([[0.02, -0.001, -0.003, -32768.0]], "float32")
    np.testing.assert_array_equal(stored(noise, np.nan, VV, asset), np.float32([[0.02, np.nan, np.nan, np.nan]]))
    counts: Any = np.array([[-1250, -700]], "int16")
    with pytest.raises(ReadError, match=r"holds -1250 to -700, as backscatter in dB has"):
        stored(counts, -32768, VV, asset)
    with pytest.raises(ReadError, match=r"holds -1250 to -700, which are no dB but scaled"):
        stored(counts, -32768, VV, AssetRef("/data/vv.tif", decibels=True))


def test_a_product_that_is_not_terrain_corrected_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Items that name no collection may be of any; these have assets of the same names."""
    grd = "S1A_IW_GRDH_1SDV_20230714T173017_20230714T173042_049420_05F15A"
    found = find_all(tmp_path, (grd, None), (f"{grd}_rtc", None), (grd[:-1] + "B", "sentinel-1-rtc"))
    assert [name for scene in found for name in (*scene.item_ids, *scene.superseded)] == [grd[:-1] + "B", f"{grd}_rtc"]
    assert f"item {grd} is a product of level GRD, and not Sentinel-1 RTC" in caplog.text


# The same for what other missions measure: its unit, scale and nodata are the mission's, or it is refused by name.

LANDSAT = "LC08_L2SP_193027_20230714_20230722_02_T1"
RED = BandRequest("red", "uint16", 0, "continuous")


def other(folder: Path, mission: str, band: str, key: str, asset: Json, **properties: Any) -> list[Scene]:
    about = {"datetime": "2023-07-14T10:05:46Z", "platform": find_mission(mission).platforms[-1], "proj:epsg": 32632}
    made = product(LANDSAT) | {"collection": mission, "properties": about | properties}
    made["assets"] = {key: {"href": f"/data/{key}.tif"} | asset}
    query = query_over(box(9.2, 47.2, 9.8, 47.8), YEAR, band, mission=mission)
    return search(query, find_catalog(str(collection(folder / "items.json", made))))


@pytest.mark.parametrize(
    ("asset", "nodata"),
    [
        ({}, None),
        ({"raster:bands": [{"scale": 2.75e-5, "offset": -0.2, "nodata": 0, "unit": "reflectance"}]}, None),
        ({"raster:bands": [{"scale": 1.0, "offset": 0.0}]}, None),
        ({"raster:bands": [{"nodata": "-9999"}]}, -9999),
        ({"bands": [{"nodata": 65535}]}, 65535),
        ({"bands": [{"nodata": "none"}]}, None),
        ({"bands": [{"nodata": 10**400}]}, None),
    ],
)
def test_what_a_mission_has_may_be_declared(asset: Json, nodata: float | None, tmp_path: Path) -> None:
    (scene,) = other(tmp_path, "landsat-c2-l2", "red", "red", asset)
    assert not scene.problem
    assert scene.granules[0].assets["red"].nodata == nodata


@pytest.mark.parametrize(
    ("mission", "band", "key", "asset", "problem"),
    [
        ("landsat-c2-l2", "red", "red", {"raster:bands": [{"scale": 1e-4}]}, "declares its band red with scale 0.0001"),
        ("landsat-c2-l2", "red", "red", {"raster:offset": -0.1}, "with offset -0.1: its mission has -0.2"),
        ("landsat-c2-l2", "red", "red", {"raster:scale": "much"}, "declares a scale of red that is no number"),
        ("landsat-c2-l2", "red", "red", {"bands": [{"unit": "W/m^2/sr/um"}]}, "declares its band red in W/m"),
        ("landsat-c2-l2", "st", "lwir11", {"bands": [{"unit": "degree Celsius"}]}, "in degree Celsius: only kelvin"),
        ("landsat-c2-l2", "st", "lwir11", {"raster:bands": [{"unit": "°C"}]}, "only kelvin is read"),
        ("cop-dem-glo-30", "height", "data", {"raster:bands": [{"unit": "feet"}]}, "in feet: only metres is read"),
        ("cop-dem-glo-30", "height", "data", {"raster:bands": [{"scale": 0.1}]}, "with scale 0.1: its mission has 1"),
    ],
)
def test_what_a_mission_does_not_have_is_refused(
    mission: str, band: str, key: str, asset: Json, problem: str, tmp_path: Path
) -> None:
    (scene,) = other(tmp_path, mission, band, key, asset)
    assert f"item {LANDSAT} " in scene.problem
    assert problem in scene.problem


def test_products_of_another_level_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An item that names no collection may be of any."""
    assert len(other(tmp_path, "landsat-c2-l2", "red", "red", {}, **{"landsat:correction": "L2SP"})) == 1
    assert other(tmp_path, "landsat-c2-l2", "red", "red", {}, **{"landsat:correction": "L1TP"}) == []
    assert "is a product of level L1, and not Landsat" in caplog.text
    names = ("S2A_MSIL1C_20230512T102601_N0509_R108_T32TNT_20230512T161500", "S2A_32TNT_20230512_0_L1C", "toa")
    path = collection(
        tmp_path / "levels.json",
        *(product(name) | {"collection": None} for name in names[:2]),
        product(names[2], **{"s2:product_type": "S2MSI1C"}),
        product("S2A_32TNT_20230512_0_L2A", **{"s2:product_type": "S2MSI2A"}),
    )
    for name, ids in (("sentinel-2-l2a", ["S2A_32TNT_20230512_0_L2A"]), ("sentinel-2-l1c", sorted(names[:2]))):
        query = query_over(box(9.2, 47.2, 9.8, 47.8), YEAR, "B02", mission=name)
        (scene,) = search(query, find_catalog(str(path)))
        assert sorted((*scene.item_ids, *scene.superseded)) == ids


def test_counts_in_files_of_floats() -> None:
    asset = AssetRef("/data/red.tif")
    counts = np.array([[7999.9995, 8000.4, np.nan, -9999]], "float32")
    np.testing.assert_array_equal(stored(counts, -9999, RED, asset), np.uint16([[8000, 8000, 0, 0]]))
    with pytest.raises(ReadError, match=r"holds fractions from 0\.02 to 0\.6, as physical values are"):
        stored(np.array([[0.02, 0.6, np.nan]], "float32"), -9999, RED, asset)
    with pytest.raises(ReadError, match=r"holds fractions from 11\.25 to 38\.5"):
        stored(np.array([[11.25, 38.5]], "float32"), -9999, RED, asset)
