"""Fields of shifts: fitted where they say something, and pixels moved by them."""

from __future__ import annotations

import numpy as np

from stac2cube.coregister.apply import Field, fit_field, margin_for, moved_by, places_in

TRUE = Field((1.0, 0.4, 0.0, -0.5, 0.8, 0.0), (-0.6, 0.0, 0.7, 0.0, 0.0, 0.0))


def points(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1, 1, (count, 2))
    return places, np.stack(TRUE.at(*places.T), axis=1) + rng.normal(0, 0.05, (count, 2))


def test_a_field_is_found_among_wrong_points() -> None:
    places, shifts = points(200)
    shifts[::11] = 7.0
    found = fit_field(places, shifts)
    assert found is not None
    field, before, after = found
    np.testing.assert_allclose(field.right + field.down, TRUE.right + TRUE.down, atol=0.06)
    assert after < 0.3 * before
    assert 1.5 < TRUE.largest < 4
    assert margin_for(TRUE, 1.0) > TRUE.largest


def test_one_shift_is_enough_where_it_says_as_much() -> None:
    places, _ = points(200)
    same = np.random.default_rng(1).normal((1.0, -2.0), 0.1, (200, 2))
    assert fit_field(places, same) is None
    assert fit_field(*points(20)) is None


def test_pixels_are_moved_and_gaps_with_them() -> None:
    rows, columns = np.mgrid[0:60, 0:80].astype(float)
    picture = np.sin(rows / 5) + np.cos(columns / 7)
    missing = np.zeros(picture.shape, dtype=bool)
    missing[30:34, 40:44] = True
    below, beside = rows[10:-10, 10:-10] - 1.3, columns[10:-10, 10:-10] + 0.4
    out = moved_by(picture, missing, below, beside, 3)
    real = np.sin(below / 5) + np.cos(beside / 7)
    seen = ~np.isnan(out)
    assert np.abs(out - real)[seen].max() < 0.05
    assert 16 <= (~seen).sum() <= 36
    classes = moved_by((picture > 0).astype("uint8"), missing, below, beside, 0)
    assert set(np.unique(classes[~np.isnan(classes)])) == {0.0, 1.0}
    u, v = places_in(slice(0, 2), slice(0, 4), (2, 4))
    assert (u[0].tolist(), v[:, 0].tolist()) == ([-0.75, -0.25, 0.25, 0.75], [-0.5, 0.5])
