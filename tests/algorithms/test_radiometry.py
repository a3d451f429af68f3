"""The offset rule, case by case, and the arithmetic of counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stac2cube.algorithms.radiometry import S2Facts, apply_shift, s2_shift
from stac2cube.errors import RadiometryError

# baseline, declared offset, "offset removed" flag -> counts to add; None = contradiction.
# Written by hand from ESA's product specification and what each provider documents.
CASES = {
    "old, nothing said (Planetary Computer)": ("02.12", None, None, 1000),
    "since 04.00, nothing said (Planetary Computer)": ("04.00", None, None, 0),
    "reprocessed 05.00, nothing said": ("05.00", None, None, 0),
    "old, offset 0 declared (terrabyte)": ("03.01", 0.0, None, 1000),
    "since 04.00, declared (terrabyte, Copernicus, Earth Search collection 1)": ("05.09", -0.1, None, 0),
    "old, flag false (Earth Search)": ("02.14", 0.0, False, 1000),
    "since 04.00, flag true, -0.1 still declared (Earth Search)": ("05.00", -0.1, True, 1000),
    "since 04.00, flag true, 0 declared": ("05.00", 0.0, True, 1000),
    "since 04.00, flag false, declared": ("05.00", -0.1, False, 0),
    "first baseline of all": ("00.01", 0.0, False, 1000),
    "baseline unknown, declared": ("", -0.1, None, 0),
    "baseline unknown, none declared explicitly": ("", 0.0, None, 1000),
    "baseline unknown, flag true": ("", -0.1, True, 1000),
    "old, but declared": ("02.14", -0.1, None, None),
    "since 04.00, but 0 declared": ("05.10", 0.0, None, None),
    "old, but said to be removed": ("02.14", -0.1, True, None),
    "nothing known at all": ("", None, None, None),
    "no number": ("new", -0.1, None, None),
}


@pytest.mark.parametrize(("baseline", "declared", "removed", "shift"), CASES.values(), ids=CASES.keys())
def test_the_rule(baseline: str, declared: float | None, removed: bool | None, shift: int | None) -> None:
    facts = S2Facts("item-7", baseline, declared, removed)
    if shift is None:
        with pytest.raises(RadiometryError, match="item-7"):
            s2_shift(facts)
    else:
        assert s2_shift(facts) == shift


COUNTS = st.lists(st.integers(0, 65535), min_size=1, max_size=200).map(lambda values: np.array(values, "uint16"))


@given(COUNTS)
def test_shifted_counts_are_exact_saturated_or_nothing(counts: np.ndarray) -> None:
    shifted = apply_shift(counts, 1000)
    assert shifted.dtype == np.uint16
    for before, after in zip(counts.astype(int), shifted.astype(int), strict=True):
        assert after == (0 if before == 0 else min(before + 1000, 65535))


@given(COUNTS)
def test_no_shift_gives_the_very_array(counts: np.ndarray) -> None:
    assert apply_shift(counts, 0) is counts


def test_the_named_limits() -> None:
    counts = np.array([0, 1, 999, 64534, 64535, 64536, 65535], "uint16")
    assert apply_shift(counts, 1000).tolist() == [0, 1001, 1999, 65534, 65535, 65535, 65535]
