"""Against GDAL's own program, planes of known tilt, and Horn's formula written out pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stac2cube.algorithms.raster import horn_aspect, horn_hillshade, horn_slope

ROUGH = np.array(
    [
        [400, 412, 431, 433, 420],
        [398, 405, 440, 452, 447],
        [371, 390, 402, 430, 455],
        [360, 366, 380, 401, 433],
        [355, 350, 366, 390, 399],
    ],
    "float32",
)
INNER = (slice(1, -1), slice(1, -1))

# What gdaldem of GDAL 3.13.3 gives for ROUGH on pixels of 20 x 30 m; hillshade with -az 225 -alt 30.
GDAL_SLOPE = [
    [45.188988, 45.80853, 19.290047],
    [46.85546, 53.230267, 51.794132],
    [36.9347, 48.52726, 54.41807],
]
GDAL_SHADE = [[237, 232, 172], [248, 253, 250], [235, 247, 248]]
# Its aspect takes pixels for squares.
GDAL_ASPECT = [
    [235.0607, 241.83167, 270.0],
    [215.16644, 217.64763, 223.32516],
    [211.84904, 224.62057, 228.14496],
]


def test_equals_gdal() -> None:
    np.testing.assert_allclose(horn_slope(ROUGH, 20, 30)[INNER], GDAL_SLOPE, rtol=1e-6)
    np.testing.assert_allclose(horn_aspect(ROUGH, 20, 20)[INNER], GDAL_ASPECT, rtol=1e-6)
    # GDAL writes 1 + 254 times the light, as bytes.
    np.testing.assert_allclose(1 + 254 * horn_hillshade(ROUGH, 20, 30, 225, 30)[INNER], GDAL_SHADE, atol=0.51)


@given(
    st.floats(0, 359.9),
    st.floats(1, 70),
    st.tuples(st.floats(1, 60), st.floats(1, 60)),
)
@settings(max_examples=60, deadline=None)
def test_a_plane_has_the_tilt_it_was_given(facing: float, steep: float, pixel: tuple[float, float]) -> None:
    width, height = pixel
    rows, columns = np.indices((5, 6))
    downhill = columns * width * math.sin(math.radians(facing)) - rows * height * math.cos(math.radians(facing))
    plane = 100 - downhill * math.tan(math.radians(steep))
    np.testing.assert_allclose(horn_slope(plane, width, height)[INNER], steep, rtol=1e-5)
    apart = (horn_aspect(plane, width, height)[INNER] - facing + 180) % 360 - 180
    np.testing.assert_allclose(apart, 0, atol=1e-3)
    light = horn_hillshade(plane, width, height, azimuth=facing, altitude=90 - steep)[INNER]
    np.testing.assert_allclose(light, 1, atol=1e-6)  # the sun stands right above the slope


def test_equals_the_formula_written_out() -> None:
    found = horn_slope(ROUGH, 7, 11)
    for row in range(1, 4):
        for column in range(1, 4):
            (a, b, c), (d, _, f), (g, h, i) = ROUGH[row - 1 : row + 2, column - 1 : column + 2].astype(float)
            east, north = ((c + 2 * f + i) - (a + 2 * d + g)) / 56, ((a + 2 * b + c) - (g + 2 * h + i)) / 88
            assert found[row, column] == pytest.approx(math.degrees(math.atan(math.sqrt(east**2 + north**2))), rel=1e-6)


def test_the_rim_and_what_touches_no_data_have_none() -> None:
    heights = np.arange(49.0).reshape(1, 7, 7)
    heights[0, 3, 3] = np.nan
    for kernel in (horn_slope, horn_aspect, lambda *words: horn_hillshade(*words, 315, 45)):
        known = np.isfinite(kernel(heights, 10, 10)[0])
        expected = np.zeros((7, 7), bool)
        expected[1:-1, 1:-1] = True
        expected[2:5, 2:5] = False
        assert np.array_equal(known, expected)


def test_flat_ground_faces_nowhere_and_is_lit_by_the_height_of_the_sun() -> None:
    flat = np.full((4, 4), 12.0)
    assert (horn_slope(flat, 10, 10)[INNER] == 0).all()
    assert np.isnan(horn_aspect(flat, 10, 10)).all()
    np.testing.assert_allclose(horn_hillshade(flat, 10, 10, 100, 30)[INNER], 0.5, rtol=1e-6)
    wall = np.repeat([[0.0, 0.0, 1e4, 1e4]], 4, axis=0)
    assert (horn_hillshade(wall, 10, 10, 90, 20)[INNER] == 0).all()


def test_circle_is_closed_at_north() -> None:
    north = 100.0 + np.arange(5.0)[:, None] + np.zeros((5, 5))
    north[:, 2] += 1e-9
    faced = horn_aspect(north, 10, 10)[INNER]
    assert ((faced >= 0) & (faced < 360)).all()
