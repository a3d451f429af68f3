"""Angles between the nodes of a granule, against the formula said plainly, pixel by pixel."""

from __future__ import annotations

import cmath
import math
import time

import numpy as np
import pytest

from stac2cube.algorithms.radiometry import AngleNodes, Direction, interpolated, merged

CRS, CORNER, STEP = "EPSG:32632", (600_000.0, 5_300_040.0), 5000.0


def nodes(seed: int, unknown: float = 0.3) -> AngleNodes:
    random = np.random.default_rng(seed)
    zenith, azimuth = random.uniform(0, 12, (5, 6)), random.uniform(0, 360, (5, 6))
    gone = random.random((5, 6)) < unknown
    zenith[gone] = azimuth[gone] = np.nan
    return AngleNodes(CRS, CORNER, STEP, zenith, azimuth)


def plainly(of: AngleNodes, x: float, y: float) -> tuple[float, complex]:
    """Zenith, and the azimuth as a unit number; NaN where unknown."""
    down, right = (CORNER[1] - y) / STEP, (x - CORNER[0]) / STEP
    if not (0 <= down <= 4 and 0 <= right <= 5):
        return math.nan, complex(math.nan)
    weight, zenith, towards = 0.0, 0.0, 0j
    for row in range(5):
        for column in range(6):
            share = max(0.0, 1 - abs(row - down)) * max(0.0, 1 - abs(column - right))
            if share and math.isfinite(of.zenith[row, column]):
                weight += share
                zenith += share * of.zenith[row, column]
                towards += share * cmath.exp(1j * math.radians(of.azimuth[row, column]))
    return (zenith / weight, towards / abs(towards)) if weight else (math.nan, complex(math.nan))


def positions() -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of a lattice that reaches beyond the nodes on every side, and lies on some of them."""
    return (CORNER[0] + np.arange(-500.0, 26_000, 500))[np.newaxis], (CORNER[1] - np.arange(-500.0, 21_000, 500))[
        :, np.newaxis
    ]


@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_a_lattice_and_its_positions_one_by_one(unknown: float) -> None:
    of, (x, y) = nodes(1, unknown), positions()
    found = interpolated(of, x, y, CRS)
    zenith, azimuth = found.degrees
    single = interpolated(of, *np.meshgrid(x[0], y[:, 0]), CRS).degrees
    np.testing.assert_array_equal(zenith, single[0])
    np.testing.assert_array_equal(azimuth, single[1])
    expected = [[plainly(of, column, row) for column in x[0]] for row in y[:, 0]]
    np.testing.assert_allclose(zenith, [[one[0] for one in row] for row in expected], atol=1e-12)
    towards = np.array([[one[1] for one in row] for row in expected])
    np.testing.assert_allclose(np.exp(1j * np.radians(azimuth)), towards, atol=1e-12)
    sines = found.sines
    np.testing.assert_allclose(sines[0], np.sin(np.radians(zenith)), atol=1e-15)
    np.testing.assert_allclose(sines[1], np.cos(np.radians(zenith)), atol=1e-15)
    np.testing.assert_allclose(sines[2] * 1j + sines[3], towards, atol=1e-12)
    assert np.isnan(zenith).any()
    assert np.isfinite(zenith).sum() > 1500
    at_nodes = np.s_[1::10, 1::10]
    np.testing.assert_array_equal(zenith[at_nodes], of.zenith)
    np.testing.assert_array_equal(azimuth[at_nodes], of.azimuth)


def test_several_directions_are_their_mean_where_more_than_one_is_known() -> None:
    x, y = positions()
    several = [interpolated(nodes(seed), x, y, CRS) for seed in range(4)]
    zenith, azimuth = merged(several).degrees
    zeniths, azimuths = (np.stack(parts) for parts in zip(*(one.degrees for one in several), strict=True))
    count = np.isfinite(zeniths).sum(axis=0)
    assert {0, 1, 2, 3, 4} <= set(count.ravel().tolist())
    np.testing.assert_array_equal(np.isnan(zenith), count == 0)
    some = count > 0
    np.testing.assert_allclose(zenith[some], np.nanmean(zeniths[:, some], axis=0), atol=1e-12)
    total = np.nansum(np.exp(1j * np.radians(azimuths)), axis=0)[some]
    np.testing.assert_allclose(np.exp(1j * np.radians(azimuth[some])), total / abs(total), atol=1e-9)
    alone = count == 1
    np.testing.assert_array_equal(zenith[alone], np.nansum(zeniths, axis=0)[alone])
    np.testing.assert_allclose(azimuth[alone], np.nansum(azimuths, axis=0)[alone], atol=1e-9)


def test_one_detector_alone_keeps_its_numbers_to_the_last_digit() -> None:
    one = Direction.of_degrees(np.array([7.1, 7.1, np.nan]), np.array([123.4567, 10.0, np.nan]))
    other = Direction.of_degrees(np.array([np.nan, 7.3, np.nan]), np.array([np.nan, 350.0, np.nan]))
    zenith, azimuth = merged((one, other)).degrees
    np.testing.assert_array_equal(zenith, [7.1, (7.1 + 7.3) / 2, np.nan])
    assert azimuth[0] == 123.4567
    assert math.cos(math.radians(azimuth[1])) == pytest.approx(1)
    assert np.isnan(azimuth[2])


def test_opposite_directions_are_no_gap() -> None:
    one, other = (Direction.of_degrees(np.array([5.0]), np.array([azimuth])) for azimuth in (0.0, 180.0))
    middle = merged((one, Direction(other.zenith, -one.east, -one.north)))
    assert [float(angle[0]) for angle in middle.degrees] == [5.0, 0.0]
    assert [float(part[0]) for part in middle.sines[2:]] == [0.0, 1.0]


def test_six_bands_of_a_lattice_cost_less_than_five_of_positions_one_by_one() -> None:
    of = AngleNodes(CRS, CORNER, STEP, np.full((23, 23), 5.0), np.full((23, 23), 100.0))
    x, y = CORNER[0] + 10.0 * np.arange(1024)[np.newaxis], CORNER[1] - 10.0 * np.arange(1024)[:, np.newaxis]
    begun = time.process_time()
    merged(interpolated(of, x, y, CRS) for _ in range(6))
    lattice = time.process_time() - begun
    begun = time.process_time()
    interpolated(of, *np.meshgrid(x[0], y[:, 0]), CRS)
    positions_alone = time.process_time() - begun
    assert lattice < 5 * positions_alone
