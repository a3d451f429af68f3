"""Blocks read without GDAL are those that GDAL makes, bit for bit: that is why the engine is in no recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from stac2cube.model.image import BandRequest
from stac2cube.model.scene import Granule
from stac2cube.pixels.open import Engine
from stac2cube.pixels.read import read_block
from tests.pixels.granules import box32, granule, texture, write

EAST = GeoBox((420, 400), Affine(10, 0, 250_000, 0, -10, 5_300_000), "EPSG:32633")
"""A tile of the neighbouring zone; seen from zone 32 it is turned by more than four degrees."""


def of_zone_32() -> GeoBox:
    x, y = EAST.extent.to_crs("EPSG:32632").centroid.coords[0]
    return box32(400, 400, x=20 * round(x / 20) - 4000, y=20 * round(y / 20) + 2000)


@pytest.fixture(scope="module")
def granules(tmp_path_factory: pytest.TempPathFactory) -> list[Granule]:
    """Two granules of two zones, with swath edges and holes: 10 and 20 m, classes, floats without and with a shift."""
    folder = tmp_path_factory.mktemp("granules")
    made = []
    for name, whole in (("west", of_zone_32()), ("east", EAST)):
        coarse = GeoBox(tuple(edge // 2 for edge in whole.shape), whole.transform * Affine.scale(2), whole.crs)
        rng = np.random.default_rng(len(made))

        def holes(pixels: np.ndarray, rng: np.random.Generator = rng, fill: float = 0) -> np.ndarray:
            rows, columns = np.indices(pixels.shape)
            empty = (rows + 2 * columns < 150) | (rng.random(pixels.shape) < 0.02)
            return np.where(empty, fill, pixels).astype(pixels.dtype)

        nan = float("nan")
        assets = {
            "ten": write(folder / f"{name}10.tif", holes(texture(whole)), whole, overview_resampling="average"),
            "twenty": write(folder / f"{name}20.tif", holes(texture(coarse)), coarse),
            "SCL": write(folder / f"{name}S.tif", holes(texture(coarse) // 700).astype("uint8"), coarse),
            "float": write(
                folder / f"{name}F.tif",
                holes(texture(whole).astype("float32"), fill=nan),
                whole,
                predictor=3,
                nodata=nan,
            ),
        }
        made.append(granule(whole, name, shift=1000, **assets))
        made[-1].assets["float"] = replace(made[-1].assets["float"], shift=0)
    return made


def requests(method: str) -> list[BandRequest]:
    return [
        BandRequest("ten", "uint16", 0, "continuous", method),
        BandRequest("twenty", "uint16", 0, "continuous", method),
        BandRequest("float", "float32", float("nan"), "continuous", method),
        BandRequest("SCL", "uint8", 0, "class", "nearest"),
    ]


def assert_same(granules: list[Granule], bands: list[BandRequest], block: GeoBox, *, seamless: bool = False) -> None:
    mine, theirs = (
        read_block(granules, bands, block, seamless=seamless, engine=Engine(name)) for name in ("auto", "rasterio")
    )
    for name, pixels in mine.items():
        np.testing.assert_array_equal(pixels, theirs[name], err_msg=name)
        assert pixels.dtype == theirs[name].dtype


@settings(max_examples=20, deadline=None)
@given(
    method=st.sampled_from(["nearest", "bilinear", "bilinear", "bilinear", "cubic", "average"]),
    gsd=st.sampled_from([10, 10, 10, 20, 7, 15, 60]),
    zone=st.sampled_from([32632, 32633, 3035]),
    left=st.integers(-200, 300),
    top=st.integers(-200, 300),
    odd=st.sampled_from([0, 0, 3.3]),
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    seamless=st.booleans(),
)
def test_any_block(
    granules: list[Granule],
    method: str,
    gsd: int,
    zone: int,
    left: int,
    top: int,
    odd: float,
    shape: tuple[int, int],
    seamless: bool,
) -> None:
    corner = of_zone_32().extent.to_crs(f"EPSG:{zone}").boundingbox
    x, y = 20 * round(corner.left / 20) + 10 * left + odd, 20 * round(corner.top / 20) - 10 * top
    block = GeoBox(shape, Affine(gsd, 0, x, 0, -gsd, y), f"EPSG:{zone}")
    assert_same(granules, requests(method), block, seamless=seamless)


def test_most_is_resampled_without_gdal(granules: list[Granule], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would compare GDAL with itself."""
    monkeypatch.setattr("rasterio.warp.reproject", None)
    for zone in (32632, 32633):
        corner = EAST.extent.to_crs(f"EPSG:{zone}").boundingbox
        block = GeoBox(
            (300, 300), Affine(10, 0, 20 * round(corner.left / 20), 0, -10, corner.top - 500), f"EPSG:{zone}"
        )
        made = read_block(granules, requests("bilinear"), block, engine=Engine("auto"))
        assert all(np.nan_to_num(pixels).any() for pixels in made.values())
