"""Resampling by shared positions beside GDAL's warper: every type, with holes, at edges, across zones."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.warp import reproject

from stac2cube.fastcog.warp import positions, resample_quickly
from stac2cube.model.classes import not_nodata
from stac2cube.model.image import BandRequest
from stac2cube.pixels.warp import SourceWindow, warp
from tests.pixels.granules import box32

FINE = box32(256, 300, x=600_000, y=5_300_040)
COARSE = box32(150, 160, x=599_840, y=5_300_200, gsd=20)


def assert_same(image: np.ndarray, source: GeoBox, target: GeoBox, fill: float, method: str) -> None:
    band = BandRequest("band", str(image.dtype), fill, "continuous", method)
    here, there = np.empty(target.shape, image.dtype), np.empty(target.shape, image.dtype)
    warp(SourceWindow(image, source, (1.0, 1.0), quick=True), band, target, here)
    warp(SourceWindow(image, source, (1.0, 1.0)), band, target, there)
    np.testing.assert_array_equal(here, there)
    assert (here != fill).any()


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize(
    ("dtype", "fill", "low", "high"),
    [
        ("uint8", 255, 0, 256),
        ("int8", 0, -5, 6),
        ("uint16", 0, 0, 12),
        ("int16", 0, -3, 4),
        ("int16", -5, -9, 4),
        ("uint32", 7, 0, 9),
        ("uint32", 0, 0, 2**32 - 1),
        ("int32", 0, -70_000, 90_000),
        ("float32", -9999, -50, 50),
        ("float32", 0, -2, 3),
        ("float32", float("nan"), -2, 3),
        ("float64", float("nan"), -2, 3),
    ],
)
def test_every_type(method: str, dtype: str, fill: float, low: int, high: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(low, high, COARSE.shape).astype(dtype)
    image[rng.random(image.shape) < 0.1] = fill
    assert_same(image, COARSE, FINE, fill, method)


@pytest.mark.parametrize(
    ("dtype", "fill", "instead"),
    [
        ("float32", 0, np.finfo("float32").smallest_subnormal),
        ("float32", -1, np.nextafter(np.float32(-1), np.float32(0))),
        ("float64", 3, np.nextafter(3.0, 4.0)),
        ("uint16", 9, 8),
        ("int16", -5, -6),
    ],
)
@pytest.mark.parametrize("quick", [True, False])
def test_a_mean_that_is_the_fill_stays_data(dtype: str, fill: int, instead: float, quick: bool) -> None:
    """Whichever GDAL: before 3.12 its warper let floats be no data there."""
    image = np.broadcast_to(np.array([fill - 1, fill + 1] * 80), COARSE.shape).astype(dtype)
    target = box32(100, 100, x=599_850, y=5_300_200, gsd=20)  # half a pixel to the right
    out = np.empty(target.shape, dtype)
    warp(
        SourceWindow(image, COARSE, (1.0, 1.0), quick=quick),
        BandRequest("band", dtype, fill, "continuous", "bilinear"),
        target,
        out,
    )
    np.testing.assert_array_equal(out, np.full(target.shape, instead, dtype))


def test_beside_the_fill_is_another_number_of_the_type() -> None:
    for dtype, fill, instead in (("uint8", 0, 1), ("int8", -128, -127), ("uint32", 2**32 - 1, 2**32 - 2)):
        assert not_nodata(np.array(fill, dtype)[()]) == instead
    largest = np.finfo("float32").max
    assert 0 < not_nodata(largest) < largest
    assert not_nodata(np.float32(-9999)) > -9999
    assert not_nodata(np.float32(0)).dtype == "float32"


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize(
    ("zones", "north"),
    [
        ((32633, 32632), 5_300_000),
        ((32634, 32632), 5_300_000),
        ((32633, 32632), 8_882_000),
        ((32733, 32732), 6_100_000),
    ],
)
def test_across_zones(method: str, zones: tuple[int, int], north: float) -> None:
    """From well inside to well beyond the edges, where positions just outside are worked out again."""
    rng = np.random.default_rng(1)
    source = GeoBox((400, 420), Affine(10, 0, 300_000, 0, -10, north), f"EPSG:{zones[0]}")
    image = rng.integers(0, 9000, source.shape).astype("uint16")
    image[:, :40] = 0
    corner = source.extent.to_crs(f"EPSG:{zones[1]}").boundingbox
    for off in (40, -7, -133, -260):
        target = GeoBox(
            (300, 520), Affine(10, 0, corner.left + 10 * off, 0, -10, corner.top - 10 * off), f"EPSG:{zones[1]}"
        )
        assert_same(image, source, target, 0, method)


def test_positions_are_worked_out_once() -> None:
    again = GeoBox(FINE.shape, FINE.transform, FINE.crs)
    assert positions(COARSE, FINE, 300) is positions(COARSE, again, 300)
    rows, columns, counts, x, y, across, down = positions(COARSE, FINE, 300)
    assert (rows[7], columns[7], counts[7], down[7]) == (7, 0, 300, 0)
    np.testing.assert_allclose([x[7], y[7], across[7]], [8.25, 8 + 7.5 / 2, 0.5])


def test_long_lines_are_halved_where_they_bend() -> None:
    """Interpolated over 4000 km a position is off by more than an eighth of a pixel; in halves of halves it is not."""
    source = GeoBox((500, 4000), Affine(1000, 0, -1_500_000, 0, -1000, 5_600_000), "EPSG:32633")
    target = GeoBox((3, 3000), Affine(1000, 0, -1_000_000, 0, -1000, 5_300_000), "EPSG:32632")
    image = (np.indices(source.shape).sum(axis=0) * 7 % 9000 + 1).astype("uint16")
    assert positions(source, target, 3000)[2].max() < 3000
    band = BandRequest("band", "uint16", 0, "continuous", "bilinear")
    out = np.zeros(target.shape, "uint16")
    resample_quickly(image, source, target, 3000, band, out)
    wanted = np.zeros(target.shape, "uint16")
    words = {"src_transform": source.transform, "src_crs": str(source.crs), "dst_transform": target.transform}
    more = {"dst_crs": str(target.crs), "src_nodata": 0, "dst_nodata": 0, "SRC_FILL_RATIO_HEURISTICS": "NO"}
    reproject(image, wanted, resampling=1, XSCALE=1, YSCALE=1, **words, **more)
    np.testing.assert_array_equal(out, wanted)
