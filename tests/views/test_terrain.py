from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod

from stac2cube.algorithms import raster as terrain
from stac2cube.errors import BadInputError
from stac2cube.views.units import aspect, hillshade, pixel_sizes, slope
from tests.algorithms.test_terrain import GDAL_SLOPE, INNER, ROUGH
from tests.views.cubes import image, nothing_computed

RANDOM = np.random.default_rng(5).normal(500, 30, (40, 37)).astype("float32")
RANDOM[7, 9] = np.nan

# gdaldem of GDAL 3.13.3 on ROUGH in degrees, pixels of one arc second, upper left corner at 11 E, 48 N.
GDAL_DEGREES = [
    [44.234715, 44.847332, 18.691103],
    [45.93347, 52.33646, 50.879116],
    [36.058357, 47.592648, 53.518696],
]


@pytest.mark.parametrize("view", [slope, aspect, lambda heights: hillshade(heights, azimuth=200, altitude=20)])
@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326"])
@pytest.mark.parametrize("chunks", [(7, 5), (40, 37), (13, 37), (1, 37)])
def test_blocks_do_not_show(view, crs: str, chunks: tuple[int, int]) -> None:
    heights = image(RANDOM, "dem", crs, 10.0 if crs == "EPSG:32632" else 1 / 3600)
    whole = view(heights)
    with nothing_computed():
        lazy = view(heights.chunk(dict(zip(("y", "x"), chunks, strict=True))))
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy.values, whole.values)
    assert lazy.attrs == whole.attrs
    assert whole.dtype == np.float32


def test_a_step_of_a_cube_is_a_height_model_too() -> None:
    heights = image(np.stack([RANDOM, RANDOM + 5]), "dem")
    both = slope(heights.chunk({"time": 1, "y": 9, "x": 9})).values
    np.testing.assert_array_equal(both[0], slope(heights[0]).values)
    np.testing.assert_allclose(both[1], both[0], rtol=1e-4, atol=1e-3)


def test_metres_and_degrees() -> None:
    metric = image(ROUGH, "dem")
    metric = metric.assign_coords(x=500000 + 20 * (np.arange(5) + 0.5), y=5300000 - 30 * (np.arange(5) + 0.5))
    np.testing.assert_allclose(slope(metric).values[INNER], GDAL_SLOPE, rtol=1e-6)
    degrees = image(ROUGH, "dem", "EPSG:4326", 1 / 3600)
    # GDAL scales degrees by one radius of the Earth; the ellipsoid's differ by some parts in a thousand.
    np.testing.assert_allclose(slope(degrees).values[INNER], GDAL_DEGREES, atol=0.15)


@pytest.mark.parametrize("latitude", [-75.0, -33.0, 0.0, 48.0, 83.0])
def test_pixels_in_degrees_are_as_long_as_geodesics(latitude: float) -> None:
    heights = image(np.zeros((5, 5), "float32"), "dem", "EPSG:4326", 1 / 3600)
    heights = heights.assign_coords(y=latitude - (np.arange(5) - 2) / 3600)
    east, north = pixel_sizes(heights)
    earth = Geod(ellps="WGS84")
    _, _, width = earth.inv(11, latitude, 11 + 1 / 3600, latitude)
    _, _, height = earth.inv(11, latitude - 0.5 / 3600, 11, latitude + 0.5 / 3600)
    assert east[2] == pytest.approx(width, rel=1e-6)
    assert north[2] == pytest.approx(height, rel=1e-6)


def test_rows_from_south_to_north_give_the_same_ground() -> None:
    heights = image(RANDOM, "dem")
    for view in (slope, aspect, hillshade):
        turned = view(heights.isel(y=slice(None, None, -1))).isel(y=slice(None, None, -1))
        np.testing.assert_allclose(turned.values, view(heights).values, rtol=1e-5, atol=1e-5)


def test_stored_heights_with_a_fill_value() -> None:
    stored = np.where(np.isnan(RANDOM), -32768, np.round(RANDOM)).astype("int16")
    found = slope(image(stored, "dem", _FillValue=-32768))
    expected = terrain.horn_slope(np.where(stored == -32768, np.nan, stored), 10, 10)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)


def test_feet_are_no_metres() -> None:
    heights = image(ROUGH, "dem").assign_coords(spatial_ref=0)
    heights = heights.odc.assign_crs("EPSG:2263")  # New York Long Island, US survey feet
    near = heights.assign_coords(x=984000 + 10 * np.arange(5.0), y=200000 - 10 * np.arange(5.0))
    east, north = pixel_sizes(near)
    assert east[0] == pytest.approx(3.048006, rel=1e-6)
    assert north[0] == pytest.approx(3.048006, rel=1e-6)


def test_what_would_be_wrong_is_refused() -> None:
    heights = image(ROUGH, "dem")
    mercator = heights.odc.assign_crs("EPSG:3857").assign_coords(y=6.1e6 - 10 * np.arange(5.0))
    with pytest.raises(BadInputError, match=r"lengths in WGS 84 / Pseudo-Mercator are off by \d\d% here"):
        slope(mercator)
    with pytest.raises(BadInputError, match="have no CRS"):
        slope(heights.drop_vars("spatial_ref"))
    with pytest.raises(BadInputError, match="not evenly spaced along x"):
        slope(heights.assign_coords(x=[0.0, 10, 20, 35, 40]))
    with pytest.raises(BadInputError, match="at least 2 pixels along y"):
        slope(heights.isel(y=[0]))
    with pytest.raises(BadInputError, match="y and x as their last dims"):
        slope(heights.transpose("x", "y"))
    with pytest.raises(BadInputError, match="0 to 90 degrees"):
        hillshade(heights, altitude=-5)
