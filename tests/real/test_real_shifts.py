"""Shifts on real texture, with clouds of every size: an honest slice of ``python -m tests.bench.shifts``."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.shifts import measured, opened, taken
from tests.real.recorded import RASTERS, real
from tests.registration import engines

pytestmark = real

TEXTURE = RASTERS / "super_resolution/S2A_MSIL1C_20170527_T33UUB.mat"


@pytest.mark.parametrize("engine", engines())
@pytest.mark.parametrize(
    ("cover", "limit", "least"), [pytest.param(0.0, 0.05, 10, marks=pytest.mark.soak), (0.5, 0.1, 7), (0.8, 0.2, 0)]
)
def test_shifts_are_right_or_not_believed(engine: str, cover: float, limit: float, least: int) -> None:
    picture = opened(TEXTURE)
    errors = []
    for trial in range(10):
        rng = np.random.default_rng(500 + trial)
        off = (float(rng.uniform(-2.8, 2.8)), float(rng.uniform(-2.8, 2.8)))
        reference, target = taken(picture, (0, 0), 0, 20_000 + trial), taken(picture, off, cover, 30_000 + trial)
        found = measured(reference, target, engine)
        if found:
            errors.append((found.right + off[0], found.down + off[1]))
            left = float(np.hypot(*errors[-1]))
            assert left <= 0.5
            assert left < max(float(np.hypot(*off)), 0.1), "never worse than uncorrected"
    assert len(errors) >= least
    if errors:
        assert np.sqrt(np.mean(np.square(errors), axis=0)).max() <= limit
