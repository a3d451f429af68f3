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
from stac2cube.model.scene import AssetRef, Scene
from stac2cube.pixels.warp import stored
from stac2cube.search.search import search
from tests.items import query_over
from tests.pixels.products import Json, collection, product

YEAR = (datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC) - timedelta(microseconds=1))
VV = BandRequest("VV", "float32", float("nan"), "continuous", above=0.0)


def find(folder: Path, asset: Json, properties: Json) -> Scene:
    about = {
        "datetime": "2023-07-14T17:30:17Z",
        "platform": "SENTINEL-1A",
        "sat:relative_orbit": 30,
        "sat:orbit_state": "ascending",
        "proj:epsg": 32632,
    }
    radar = product("radar") | {"collection": "sentinel-1-rtc", "properties": about | properties}
    radar["assets"] = {"vv": {"href": "/data/vv.tif"} | asset}
    query = query_over(box(9.2, 47.2, 9.8, 47.8), YEAR, "VV", mission="sentinel-1-rtc")
    (scene,) = search(query, find_catalog(str(collection(folder / "items.json", radar))))
    return scene


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
