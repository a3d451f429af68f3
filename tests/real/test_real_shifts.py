"""Shifts on real texture, with clouds of every size: an honest slice of ``python -m tests.bench.shifts``."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from stac2cube.build.clear_pixels import Patch
from stac2cube.coregister.matching import MARGIN, match
from tests.bench.shifts import measured, opened, taken
from tests.real.recorded import MAT_FINE, RASTERS, real
from tests.registration import engines, fourier_moved

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


@pytest.mark.parametrize("engine", engines())
def test_a_hole_in_the_middle_of_each_window_hides_no_shift(engine: str) -> None:
    """Nine hundredths of each window without data, in both images: AROSICS alone measures the holes, or fails."""
    with h5py.File(TEXTURE) as file:
        red = np.asarray(file["im10"][MAT_FINE.index("B04")], dtype=float)
    size = 256 + 2 * MARGIN
    edge = round(0.3 * size)
    first = (size - edge) // 2
    hole = np.zeros((size, size), dtype=bool)
    hole[first : first + edge, first : first + edge] = True
    patches = []
    for number in range(6):
        ground = red[20 + 50 * number :, 30 + 40 * number :][:size, :size]
        target = fourier_moved(ground, -1.3, 0.6)
        patches.append(Patch(*(np.where(hole, 0, one).astype("float32") for one in (ground, target)), ~hole))
    found = match(patches, engine)
    assert found is not None
    assert found.windows >= 5
    assert (found.right, found.down) == (pytest.approx(1.3, abs=0.1), pytest.approx(-0.6, abs=0.1))
