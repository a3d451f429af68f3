from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stac2cube.algorithms.raster import box_sum, lee
from stac2cube.errors import BadInputError


def by_hand(power: np.ndarray, window: int, looks: float) -> np.ndarray:
    """Lee's paper, pixel by pixel."""
    radius, noise = window // 2, 1 / looks
    result = np.full(power.shape, np.nan)
    for row in range(power.shape[0]):
        for column in range(power.shape[1]):
            if not power[row, column] > 0:
                continue
            around = power[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]
            around = around[around > 0].astype("float64")
            mean, variance = around.mean(), around.var()
            surface = max((variance + mean**2) / (noise + 1) - mean**2, 0)
            weight = surface / (mean**2 * noise + surface)
            result[row, column] = mean + weight * (power[row, column] - mean)
    return result


@given(
    hnp.arrays("float32", (7, 9), elements=st.floats(2**-10, 100, width=32) | st.sampled_from([0.0, -1.0, np.nan])),
    st.sampled_from([3, 5, 7, 11]),
    st.floats(0.5, 50),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_paper_pixel_by_pixel(power: np.ndarray, window: int, looks: float) -> None:
    found = lee(power, window, looks)
    assert np.array_equal(np.isnan(found), ~(power > 0))
    np.testing.assert_allclose(found, by_hand(power, window, looks), rtol=2e-4, atol=1e-6)


def test_speckle_of_an_even_field_goes_and_its_mean_stays() -> None:
    looks = 4.4
    power = np.random.default_rng(1).gamma(looks, 0.05 / looks, (400, 400)).astype("float32")
    filtered = lee(power, 7, looks)
    assert filtered.mean() == pytest.approx(0.05, rel=0.005)
    equivalent = filtered.mean() ** 2 / filtered.var()
    assert equivalent > 8 * looks


def test_an_edge_stays_where_it_is() -> None:
    looks = 4.4
    surface = np.where(np.arange(200) < 100, 0.01, 1.0) * np.ones((200, 1))
    power = (surface * np.random.default_rng(2).gamma(looks, 1 / looks, (200, 200))).astype("float32")
    filtered = lee(power, 7, looks)
    columns = filtered.mean(axis=0)
    assert columns[96] < 0.1
    assert columns[104] > 0.8


def test_sums_do_not_depend_on_where_the_array_was_cut() -> None:
    image = np.random.default_rng(3).random((40, 50)) * 10.0 ** np.random.default_rng(4).integers(-6, 6, (40, 50))
    whole, part = box_sum(image, 3), box_sum(image[7:31, 11:43], 3)
    assert np.array_equal(whole[10:28, 14:40], part[3:-3, 3:-3])


@pytest.mark.parametrize(("window", "looks"), [(4, 1), (1, 1), (-3, 1), (3, 0), (3, -1), (3, np.nan)])
def test_senseless_settings(window: int, looks: float) -> None:
    with pytest.raises(BadInputError):
        lee(np.ones((3, 3)), window, looks)
