"""Shifts between pictures, measured where they are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from stac2cube.build.clear_pixels import Patch, choose_windows, edge_for, infilled, per_cell, texture
from stac2cube.coregister.matching import ENGINES, MARGIN, arosics_points, arosics_shift, match, phase_shift
from stac2cube.coregister.measure import REFERENCE, MeasuredPair, along, graph
from stac2cube.errors import EngineError
from tests.registration import NEEDS_AROSICS, engines, fourier_moved

SIZE = 128 + 2 * MARGIN


def ground(seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Something to see at all scales, brighter where rougher."""
    noise = np.random.default_rng(seed).standard_normal((size, size))
    return 1000 + 200 * sum(2**k * ndimage.gaussian_filter(noise, 2**k, mode="wrap") for k in range(4))


@given(right=st.floats(-3, 3), down=st.floats(-3, 3), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_phase_correlation_finds_a_shift_to_a_twentieth_of_a_pixel(right: float, down: float, seed: int) -> None:
    picture = ground(seed)
    found = phase_shift(picture, fourier_moved(picture, -right, -down))
    assert found is not None
    assert found.right == pytest.approx(right, abs=0.05)
    assert found.down == pytest.approx(down, abs=0.05)


@pytest.mark.parametrize("engine", engines())
def test_windows_make_one_shift_and_outvote_a_wrong_one(engine: str) -> None:
    patches = []
    for seed in range(8):
        picture = ground(seed)
        off = (1.3, -0.6) if seed else (4.0, 4.0)
        target = fourier_moved(picture, -off[0], -off[1])
        noise = np.random.default_rng(seed).normal(0, 20, (2, *picture.shape))
        reference, target = (picture + noise[0]).astype("float32"), (target + noise[1]).astype("float32")
        patches.append(Patch(reference, target, np.ones(picture.shape, dtype=bool)))
    found = match(patches, engine)
    assert found is not None
    assert (found.right, found.down) == (pytest.approx(1.3, abs=0.1), pytest.approx(-0.6, abs=0.1))
    assert found.tried == 8
    assert 6 <= found.windows <= 7
    assert found.each[0] is None
    assert found.residual < 0.2
    assert found.spread < 0.05


@NEEDS_AROSICS
@pytest.mark.parametrize("size", [256, 250])
def test_points_are_found_whether_or_not_one_falls_on_the_last_edge(size: int) -> None:
    picture = ground(1, size)
    good = np.ones(picture.shape, dtype=bool)
    good[: size // 2] = False
    points, shifts = arosics_points(picture, fourier_moved(picture, -2, 1), good, 64)
    assert len(points) > 15
    assert points[:, 1].min() >= size // 2, "where both show ground"
    assert np.median(shifts, axis=0) == pytest.approx([2, -1], abs=0.05)


@NEEDS_AROSICS
def test_a_failure_of_arosics_is_none_of_matching() -> None:
    """It refuses windows of 16 pixels and less: an error, whatever it is told to ignore."""
    small = ground(0, 16)
    with pytest.raises(EngineError, match=r"AROSICS [\d.]+ with GDAL's bindings [\d.]+ failed: AssertionError: "):
        arosics_shift(small, small)


@NEEDS_AROSICS
@pytest.mark.parametrize("good", ["nowhere", "hardly anywhere"])
def test_no_point_where_no_ground_is_seen(good: str) -> None:
    picture = ground(1, 128)
    seen = np.zeros(picture.shape, dtype=bool)
    if good != "nowhere":
        seen[np.random.default_rng(0).random(seen.shape) < 0.01] = True
    points, shifts = arosics_points(picture, fourier_moved(picture, -2, 1), seen, 64)
    assert points.shape == shifts.shape == (len(points), 2)
    assert len(points) <= 2


@pytest.mark.parametrize("engine", engines())
@pytest.mark.parametrize("what", ["nothing", "constant", "other ground", "noise"])
def test_what_cannot_be_matched_is_not(engine: str, what: str) -> None:
    rng = np.random.default_rng(3)
    patches = []
    for seed in range(6):
        reference = ground(seed).astype("float32")
        target = {
            "nothing": np.zeros_like(reference),
            "constant": np.full_like(reference, 500),
            "other ground": ground(seed + 100).astype("float32"),
            "noise": rng.normal(1000, 10, reference.shape).astype("float32"),
        }[what]
        patches.append(Patch(reference, target, np.full(reference.shape, what != "nothing")))
    found = match(patches, engine)
    assert found is None or found.windows < 5 or found.spread > 0.15 or found.residual > 0.2


def test_gaps_are_filled_without_an_edge() -> None:
    picture = ground()
    good = np.ones(picture.shape, dtype=bool)
    good[60:100, 60:100] = False
    broken = np.where(good, picture, 9e4)
    (filled,) = infilled([broken], good)
    assert filled.max() < picture.max() + 1
    np.testing.assert_allclose(filled[:50], picture[:50], rtol=1e-5)
    assert infilled([picture], np.ones_like(good))[0] == pytest.approx(picture, rel=1e-5)


def test_windows_are_clear_textured_and_apart() -> None:
    clear, rough = np.ones((8, 8)), np.ones((8, 8))
    clear[:4] = 0.2
    rough[:, :2] = 0.01
    chosen = choose_windows(clear, rough, 6)
    assert len(chosen) == 6 == len(set(chosen))
    assert all(row >= 4 and column >= 2 for row, column in chosen)
    assert {(4, 2), (7, 7)} <= set(chosen) or {(4, 7), (7, 2)} <= set(chosen)
    assert choose_windows(np.zeros((4, 4)), np.ones((4, 4)), 6) == []
    assert choose_windows(np.ones((4, 4)), np.zeros((4, 4)), 6) == []
    assert (edge_for((10980, 10980)), edge_for((600, 700)), edge_for((150, 400)), edge_for((100, 100))) == (
        256,
        128,
        64,
        None,
    )
    assert per_cell(np.arange(16).reshape(4, 4), 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert texture(np.array([[0, 3], [1, 5]]), np.array([[True, True], [True, False]])).tolist() == [[0, 3], [1, 0]]


def test_chains_add_up_and_graphs_outvote() -> None:
    chain = [
        MeasuredPair("b", "a", (1.0, 0.0), 0.1),
        MeasuredPair("c", "b", (1.0, 2.0), 0.1),
        MeasuredPair("a", REFERENCE, (0.5, 0.5), 0.1),
    ]
    assert along(chain, {}, unknown_is_still=False) == {"b": (1.5, 0.5), "c": (2.5, 2.5), "a": (0.5, 0.5)}
    loose = [MeasuredPair("c", "b", (1.0, 2.0), 0.1)]
    assert along(loose, {}, unknown_is_still=False) == {}
    assert along(loose, {}, unknown_is_still=True) == {"c": (1.0, 2.0)}
    assert along(loose, {"b": (1.0, 1.0)}, unknown_is_still=False) == {"c": (2.0, 3.0)}
    true = {f"s{n}": (float(n), -float(n)) for n in range(6)}
    pairs = [MeasuredPair(name, REFERENCE, shift, 0.1) for name, shift in true.items() if name != "s5"]
    for one in true:
        for other in true:
            if one > other:
                apart = (true[one][0] - true[other][0], true[one][1] - true[other][1])
                wrong = (one, other) == ("s4", "s1")
                pairs.append(MeasuredPair(one, other, (9.0, 9.0) if wrong else apart, 0.1))
    solved = graph([*pairs, MeasuredPair("y", "x", (1.0, 1.0), 0.1)], {})
    assert solved.keys() == true.keys(), "x and y hang together with nothing"
    for name, shift in true.items():
        assert solved[name] == pytest.approx(shift, abs=0.1)
    held = graph(pairs, {"s1": (1.0, -1.0)})
    assert "s1" not in held
    assert held["s5"] == pytest.approx((5.0, -5.0), abs=0.1)


def test_every_engine_is_known() -> None:
    assert set(ENGINES) == {"arosics", "phase"}
