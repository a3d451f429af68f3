"""Every way to resample a sample's bands, and the share that is valid, against the same written down in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from stac2cube.pixels.warp import METHODS, Measure, read_covered

EDGE = 120
"""Edge of the finest lattice, pixels: a multiple of every factor."""

SCALE, OFFSET = 1e-4, -0.1


@dataclass
class Held:
    """An image in memory."""

    counts: np.ndarray
    geobox: GeoBox
    nodata: float | None = 0
    bands: int = 1

    def read(self, index: int, roi: tuple[slice, slice], level: int = 0) -> np.ndarray:
        assert (index, level) == (1, 0), "overviews are never used"
        return self.counts[roi].copy()


def lattice(metres: int, pixels: int) -> GeoBox:
    return GeoBox((pixels, pixels), Affine(metres, 0, 600_000, 0, -metres, 5_300_040), "EPSG:32632")


def drawn(pixels: int, *, holes: float = 0.0, few: bool = False) -> np.ndarray:
    """Counts with some of no data; few different ones, so that some are the most frequent."""
    random = np.random.default_rng([pixels, few])
    counts = random.integers(1100, 1104 if few else 9000, (pixels, pixels)).astype("uint16")
    counts[random.random(counts.shape) < holes] = 0
    return counts


def resampled(counts: np.ndarray, fine: int, coarse: int, method: str, *, down: bool) -> tuple[np.ndarray, np.ndarray]:
    """From pixels of one size to those of the other, in metres."""
    at, to = (fine, coarse) if down else (coarse, fine)
    image = Held(counts, lattice(at, len(counts)))
    measure = Measure(SCALE, OFFSET, upsampling="max" if down else method, downsampling=method if down else "min")
    return read_covered(image, 1, measure, lattice(to, len(counts) * at // to))


def truth(counts: np.ndarray) -> np.ndarray:
    """Physical values, float64, NaN without data."""
    return np.where(counts == 0, np.nan, counts * SCALE + OFFSET)


def blocks(values: np.ndarray, factor: int) -> np.ndarray:
    """What lies in each larger pixel, along the last axis."""
    edge = len(values) // factor
    return values.reshape(edge, factor, edge, factor).swapaxes(1, 2).reshape(edge, edge, factor * factor)


def quantile(share: float) -> Callable[[np.ndarray], np.ndarray]:
    """GDAL's: of n values in order the one at floor(n * share), but the one before where that is whole."""

    def of(block: np.ndarray) -> np.ndarray:
        ordered = np.sort(block, axis=-1)  # NaN last
        count = np.isfinite(block).sum(axis=-1, keepdims=True)
        place = np.ceil(count * share).astype(int) - 1
        return np.take_along_axis(ordered, np.maximum(place, 0), axis=-1)[..., 0]

    return of


def most_frequent(block: np.ndarray) -> np.ndarray:
    """The mode; of several the one that reaches its number first, in order of reading."""
    out = np.full(block.shape[:-1], np.nan)
    for at in np.ndindex(out.shape):
        seen: dict[float, int] = {}
        for value in block[at][np.isfinite(block[at])].tolist():
            seen[value] = seen.get(value, 0) + 1
            if seen[value] == max(seen.values()) and list(seen.values()).count(seen[value]) == 1:
                out[at] = value
    return out


REDUCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "average": lambda block: np.nanmean(block, axis=-1),
    "sum": lambda block: np.nansum(block, axis=-1),
    "max": lambda block: np.nanmax(block, axis=-1),
    "min": lambda block: np.nanmin(block, axis=-1),
    "med": quantile(0.5),
    "q1": quantile(0.25),
    "q3": quantile(0.75),
    "mode": most_frequent,
}


@pytest.mark.parametrize("factor", [2, 3, 6])
@pytest.mark.parametrize("method", REDUCTIONS)
def test_reductions_are_of_the_valid_pixels_in_each_larger_one(method: str, factor: int) -> None:
    counts = drawn(EDGE, holes=0.3, few=method == "mode")
    values, coverage = resampled(counts, 10, 10 * factor, method, down=True)
    inside = blocks(truth(counts), factor)
    share = np.isfinite(inside).mean(axis=-1)
    np.testing.assert_allclose(coverage, share, rtol=0, atol=1e-6)
    some = share > 0
    np.testing.assert_array_equal(np.isfinite(values), some)
    np.testing.assert_allclose(values[some], REDUCTIONS[method](inside[some]), rtol=3e-7, atol=1e-7)


def kernel(method: str, distance: np.ndarray) -> np.ndarray:
    x = np.abs(distance)
    if method == "bilinear":
        return np.clip(1 - x, 0, None)
    # Cubic convolution with a = -1/2 (Keys 1981, "Cubic convolution interpolation for digital image processing").
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def weights(method: str, pixels: int, ratio: float) -> np.ndarray:
    """``(target, source)``: what each source pixel counts; ``ratio`` source pixels make one of the target."""
    centres = (np.arange(round(pixels / ratio)) + 0.5) * ratio - 0.5
    found = kernel(method, (centres[:, np.newaxis] - np.arange(pixels)) / max(ratio, 1.0))
    return found / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("ratio", [2, 3, 6, 1 / 2, 1 / 3, 1 / 6])
@pytest.mark.parametrize("method", ["bilinear", "cubic"])
def test_interpolation_is_the_kernel_stretched_to_the_larger_pixel(method: str, ratio: float) -> None:
    down = ratio > 1
    factor = round(max(ratio, 1 / ratio))
    counts = drawn(EDGE if down else EDGE // factor)
    values, coverage = resampled(counts, 10, 10 * factor, method, down=down)
    assert (coverage == 1).all()
    along = weights(method, len(counts), ratio)
    expected = along @ truth(counts) @ along.T
    # At the edge of the image kernels are cut off; GDAL has rules of its own there.
    edge = 3 if down else 3 * factor
    inner = (slice(edge, -edge),) * 2
    np.testing.assert_allclose(values[inner], expected[inner], rtol=0, atol=3e-7)


@pytest.mark.parametrize("factor", [2, 3, 6])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("bilinear", "cubic")])
def test_smaller_pixels_take_the_value_of_the_one_they_lie_in(method: str, factor: int) -> None:
    counts = drawn(EDGE // factor, holes=0.3)
    values, coverage = resampled(counts, 10, 10 * factor, method, down=False)
    expected = truth(counts).repeat(factor, axis=0).repeat(factor, axis=1)
    np.testing.assert_array_equal(coverage, np.isfinite(expected))
    part = factor**2 if method == "sum" else 1  # what is summed is shared out
    np.testing.assert_allclose(values, expected / part, rtol=2e-7, atol=1e-8)


@pytest.mark.parametrize("factor", [3, 5])
def test_nearest_takes_the_pixel_in_the_middle(factor: int) -> None:
    counts = drawn(EDGE, holes=0.3)
    values, coverage = resampled(counts, 10, 10 * factor, "nearest", down=True)
    middle = slice(factor // 2, None, factor)
    np.testing.assert_allclose(values, truth(counts)[middle, middle], rtol=2e-7)
    np.testing.assert_allclose(coverage, np.isfinite(blocks(truth(counts), factor)).mean(axis=-1), atol=1e-6)


@pytest.mark.parametrize("method", ["bilinear", "cubic"])
def test_interpolation_leaves_holes_out_of_account(method: str) -> None:
    """Valid pixels share the weight of those without data; a pixel whose middle lies in one of these has none."""
    counts = drawn(EDGE, holes=0.3)
    values, _ = resampled(counts, 10, 30, method, down=True)
    np.testing.assert_array_equal(np.isfinite(values), counts[1::3, 1::3] > 0)
    known, along = np.isfinite(truth(counts)), weights(method, EDGE, 3)
    expected = along @ np.nan_to_num(truth(counts)) @ along.T / (along @ known @ along.T)
    seen = np.isfinite(values)
    seen[:3] = seen[-3:] = seen[:, :3] = seen[:, -3:] = False
    np.testing.assert_allclose(values[seen], expected[seen], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shift", [3, -4])
def test_coverage_counts_parts_of_pixels_and_nothing_beyond_the_edge(shift: int) -> None:
    """A lattice moved by a part of a pixel, against areas of overlap, and by more than the image reaches."""
    counts = drawn(EDGE, holes=0.3)
    image = Held(counts, lattice(10, EDGE))
    moved = lattice(30, EDGE // 3)
    moved = GeoBox(moved.shape, moved.transform * Affine.translation(shift / 30, shift / 30), moved.crs)
    _, coverage = read_covered(image, 1, Measure(), moved)
    edges = np.arange(EDGE // 3)[:, np.newaxis] * 30 + shift
    overlap = np.clip(
        np.minimum(edges + 30, np.arange(EDGE) * 10 + 10) - np.maximum(edges, np.arange(EDGE) * 10), 0, 10
    )
    expected = overlap @ (counts > 0) @ overlap.T / 900
    np.testing.assert_allclose(coverage, expected, rtol=0, atol=2e-6)
