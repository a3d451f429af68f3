from __future__ import annotations

import numpy as np

from stac2cube.views.render import GREY, stretched, white_of


def test_white_is_a_percentile_within_bounds() -> None:
    ramp = np.linspace(0, 0.4, 101)[:, None] * np.ones(3)
    assert np.isclose(white_of(ramp), 0.392)
    assert white_of(ramp * 10) == 0.45
    assert white_of(ramp / 100) == 0.05
    with_gap = np.concatenate([ramp, np.array([[np.nan, 9.0, 9.0]])])
    assert white_of(with_gap) == white_of(ramp)
    assert white_of(np.full((4, 3), np.nan)) == 0.45


def test_stretch_from_black_to_white() -> None:
    colours = np.array([[-1, 0, 0.1], [0.2, 0.4, 0.5], [np.nan, 0.2, 0.2]])
    shown = stretched(colours, 0.4, gamma=1)
    np.testing.assert_allclose(shown, [[0, 0, 0.25], [0.5, 1, 1], [GREY] * 3], rtol=1e-6)
    np.testing.assert_allclose(stretched(colours, 0.5, black=0.1, gamma=0.5)[1], [0.5, 0.75**0.5, 1], rtol=1e-6)
    assert (stretched(colours, 0.4, nodata=1.0)[2] == 1).all()
