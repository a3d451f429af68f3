from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stac2cube.datasets.statistics import Bins, clipped_moments, mean_and_std, thinned
from stac2cube.errors import BadInputError

RANDOM = np.random.default_rng(1)


def test_bins_count_as_numpy_does() -> None:
    bins = Bins(0.0, 1.0, 0.1)
    values = np.concatenate([RANDOM.normal(0.5, 0.4, 5000), bins.edges, [np.nan, np.inf, -np.inf]]).astype("float64")
    counted = bins.histogram(values)
    finite = values[np.isfinite(values)]
    within, _ = np.histogram(finite[finite < 1.0], bins.edges)
    assert bins.count == 10
    assert counted[1:-1].tolist() == within.tolist()
    assert (counted[0], counted[-1]) == ((finite < 0).sum(), (finite >= bins.edges[-1]).sum())
    assert counted.sum() == finite.size


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=200), st.floats(0, 100))
def test_a_percentile_is_no_farther_than_a_bin_from_a_value_that_splits_so(values: list[float], percent: float) -> None:
    bins = Bins(0.0, 1.0, 0.01)
    found = bins.percentile(bins.histogram(np.array(values)), percent)
    slack = 1.001 * bins.width
    below = np.sum(np.array(values) < found - slack) / len(values) * 100
    above = np.sum(np.array(values) > found + slack) / len(values) * 100
    assert below <= percent + 1e-9
    assert above <= 100 - percent + 1e-9
    assert min(values) - slack <= found <= max(values) + slack


def test_percentiles_of_many_values_are_numpys() -> None:
    values = RANDOM.beta(2, 5, 200_000)
    bins = Bins(0.0, 1.0, 0.001)
    histogram = bins.histogram(values)
    for percent in (0.5, 2, 25, 50, 98, 99.9):
        assert bins.percentile(histogram, percent) == pytest.approx(np.percentile(values, percent), abs=0.001)


def test_what_lies_beyond_the_range_counts_at_its_ends() -> None:
    bins = Bins(0.0, 1.0, 0.5)
    histogram = bins.histogram(np.array([-1.0, -1.0, 0.25, 2.0]))
    assert bins.percentile(histogram, 50) == 0.0
    assert bins.percentile(histogram, 99) == 1.0
    with pytest.raises(BadInputError, match="no valid pixel"):
        bins.percentile(np.zeros(4, int), 50)
    with pytest.raises(BadInputError, match="low < high"):
        Bins(1.0, 0.0, 0.1)


def test_moments_in_any_order_are_numpys_of_all() -> None:
    parts = [RANDOM.normal(0.3, 0.2, size).astype("float32") for size in (1, 1000, 77_000, 3)]
    low, high = 0.05, 0.6
    moments = [clipped_moments(part, low, high) for part in parts]
    all_of_them = np.clip(np.concatenate(parts).astype("float64"), low, high)
    mean, std = mean_and_std(moments, low, high)
    assert mean == pytest.approx(all_of_them.mean(), abs=1e-12)
    assert std == pytest.approx(all_of_them.std(), abs=1e-12)
    assert mean_and_std(moments[::-1], low, high) == (mean, std)
    with pytest.raises(BadInputError, match="no mean"):
        mean_and_std([clipped_moments(np.array([np.nan]), low, high)], low, high)


@pytest.mark.parametrize("most", [1, 99, 1000, None])
def test_thinning_takes_so_many_pixels_and_always_the_same(most: int | None) -> None:
    strips = [slice(0, 40), slice(40, 80), slice(80, 90)]
    chosen = thinned(90, 30, most, strips, [7])
    assert sum(map(len, chosen)) == (90 * 30 if most is None else most)
    for strip, places in zip(strips, chosen, strict=True):
        assert len(set(places.tolist())) == len(places)
        assert not len(places) or places.max() < (strip.stop - strip.start) * 30
    again = thinned(90, 30, most, strips, [7])
    assert all(np.array_equal(one, other) for one, other in zip(chosen, again, strict=True))
    if most == 1000:
        other = thinned(90, 30, most, strips, [8])
        assert not all(np.array_equal(one, two) for one, two in zip(chosen, other, strict=True))
