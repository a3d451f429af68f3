from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stac2cube.algorithms import raster as temporal

SERIES = hnp.arrays(
    "float32",
    st.tuples(st.just(3), st.integers(1, 9)),
    elements=st.floats(-100, 100, width=32) | st.just(np.nan),
)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(All-NaN|Mean of empty)", RuntimeWarning)
        yield


@given(SERIES)
@settings(max_examples=80, deadline=None)
def test_each_equals_numpys_own(values: np.ndarray) -> None:
    np.testing.assert_allclose(temporal.median(values), np.nanmedian(values, axis=-1), rtol=1e-6)
    mean = np.nanmean(values.astype("float64"), axis=-1)  # of the least numbers float32 has no mean between
    np.testing.assert_allclose(temporal.mean(values), mean, rtol=1e-6, atol=1e-37)
    np.testing.assert_array_equal(temporal.lowest(values), np.nanmin(values, axis=-1))
    np.testing.assert_array_equal(temporal.highest(values), np.nanmax(values, axis=-1))
    assert np.array_equal(temporal.count_whole(values), np.isfinite(values).sum(axis=-1))
    for part in (0, 0.1, 0.25, 0.9, 1):
        expected = np.nanquantile(values.astype("float64"), part, axis=-1)
        np.testing.assert_allclose(temporal.quantile(values, part), expected, rtol=1e-5, atol=1e-5)


@given(hnp.arrays("float32", (2, 3, 6), elements=st.integers(-5, 5).map(np.float32) | st.just(np.nan)))
@settings(max_examples=80, deadline=None)
def test_the_medoid_has_the_least_sum_of_distances(layers: np.ndarray) -> None:
    """Layers are the first axis, pixels the second."""
    place = temporal.medoid_place(*layers)
    for pixel in range(layers.shape[1]):
        whole = [step for step in range(6) if np.isfinite(layers[:, pixel, step]).all()]
        sums = {
            one: sum(np.linalg.norm(layers[:, pixel, one].astype(float) - layers[:, pixel, other]) for other in whole)
            for one in whole
        }
        if not whole:
            assert place[pixel] == -1
            continue
        assert place[pixel] in whole
        assert sums[place[pixel]] == pytest.approx(min(sums.values()), abs=1e-9)


def test_the_medoid_is_no_cloud() -> None:
    red = np.array([[0.10, 0.11, 0.9, 0.12, 0.8]])
    nir = np.array([[0.40, 0.41, 0.9, 0.39, 0.8]])
    assert temporal.medoid_place(red, nir)[0] in (0, 1)


def test_best_is_the_highest_score_of_whole_observations_and_the_first_of_equals() -> None:
    score = np.array([[1, 5, 3, 5], [np.nan, 2, 9, 1], [np.nan] * 4], "float32")
    layer = np.array([[1, 1, 1, 1], [1, 1, np.nan, 1], [1] * 4], "float32")
    assert temporal.best_place(score, layer).tolist() == [1, 1, -1]
    taken = temporal.take(layer * 10, np.array([1, 1, -1]))
    assert taken[:2].tolist() == [10, 10]
    assert np.isnan(taken[2])
