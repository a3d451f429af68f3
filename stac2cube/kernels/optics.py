"""What a sensor's optics do to a picture, and bringing a sharper picture into agreement with what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

MTF: Mapping[str, float] = {
    "B02": 0.26,
    "B03": 0.28,
    "B04": 0.24,
    "B05": 0.38,
    "B06": 0.34,
    "B07": 0.34,
    "B08": 0.26,
    "B8A": 0.33,
    "B11": 0.22,
    "B12": 0.23,
}
"""Modulation transfer of each Sentinel-2 band at half a cycle per pixel of its own size (as Ulfarsson, Palsson, Dalla
Mura and Sveinsson 2019, doi:10.1109/TGRS.2019.2906048, took them from ESA's data quality reports)."""

ITERATIONS = 5
"""Back-projections; three to ten gain the same, thirty less."""

_SIGMAS = 3.0
"""Standard deviations after which a point spread is cut off."""


def spread(scale: int, gain: float) -> np.ndarray:
    """Weights with which fine pixels make a coarse one, along one axis: a Gaussian with that gain at Nyquist.

    Args:
        scale: Fine pixels per coarse one.
        gain: Modulation transfer at half a cycle per coarse pixel.

    Returns:
        ``(scale + 2 * n,)`` float32 that sum to 1, about the middle of the coarse pixel.
    """
    sigma = scale * math.sqrt(-2 * math.log(gain)) / math.pi
    reach = _reach(scale, gain)
    places = np.arange(-reach * scale, (reach + 1) * scale) - (scale - 1) / 2
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    normal: np.ndarray = (weights / weights.sum()).astype("float32")
    return normal


def degraded(picture: np.ndarray, scale: int, gains: Sequence[float]) -> np.ndarray:
    """What a sensor of coarser pixels would see.

    Args:
        picture: ``(bands, rows, columns)`` float32, sizes multiples of ``scale``.
        scale: Fine pixels per coarse one.
        gains: Per band, see :func:`spread`.

    Returns:
        ``(bands, rows / scale, columns / scale)`` float32. Beyond the edge the picture is mirrored.
    """
    return np.stack(
        [
            _along(_along(band, spread(scale, g), scale).T, spread(scale, g), scale).T
            for band, g in zip(picture, gains, strict=True)
        ]
    )


def bicubic(picture: np.ndarray, scale: int) -> np.ndarray:
    """Between pixels by cubic convolution (Keys 1981, a = -0.5): ``(bands, rows, columns)``, each axis times ``scale``.

    Pixel edges stay where they are: a coarse pixel's centre lies in the middle of its fine ones.
    """
    return np.stack([_finer(_finer(band, scale).T, scale).T for band in picture])


def linear(picture: np.ndarray, scale: int) -> np.ndarray:
    """Between pixels by straight lines: ``(bands, rows, columns)``, each axis times ``scale``."""
    return np.stack([_finer(_finer(band, scale, _tent).T, scale, _tent).T for band in picture])


def means(picture: np.ndarray, scale: int) -> np.ndarray:
    """Means of ``scale`` x ``scale`` pixels: ``(bands, rows / scale, columns / scale)`` float32."""
    bands, rows, columns = picture.shape
    cells = picture.reshape(bands, rows // scale, scale, columns // scale, scale)
    average: np.ndarray = cells.mean(axis=(2, 4), dtype="float32")
    return average


def agreeing(fine: np.ndarray, coarse: np.ndarray, scale: int, gains: Sequence[float] | None) -> np.ndarray:
    """A fine picture moved until the sensor would have seen the coarse one in it (Irani and Peleg 1991).

    Args:
        fine: ``(bands, rows, columns)`` float32.
        coarse: ``(bands, rows / scale, columns / scale)`` float32, as measured.
        scale: Fine pixels per coarse one.
        gains: Modulation transfer per band; None for plain means, which are met exactly.

    Returns:
        Shape of ``fine``.
    """
    if gains is None:
        # Adding each mean's error to all of its pixels meets the means in one step.
        return fine + np.kron(coarse - means(fine, scale), np.ones((1, scale, scale), dtype="float32"))
    for _ in range(ITERATIONS):
        fine = fine + bicubic(coarse - degraded(fine, scale, gains), scale)
    return fine


def residual(fine: np.ndarray, coarse: np.ndarray, scale: int, gains: Sequence[float] | None) -> np.ndarray:
    """What the sensor would have seen otherwise, per coarse pixel: mean absolute difference over the bands."""
    seen = means(fine, scale) if gains is None else degraded(fine, scale, gains)
    apart: np.ndarray = np.abs(seen - coarse).mean(axis=0)
    return apart


def _reach(scale: int, gain: float) -> int:
    """Coarse pixels beside its own from which light reaches a coarse pixel."""
    sigma = scale * math.sqrt(-2 * math.log(gain)) / math.pi
    return math.ceil(_SIGMAS * sigma / scale - 0.5)


def _along(picture: np.ndarray, weights: np.ndarray, scale: int) -> np.ndarray:
    """Weighted sums down the rows, one for every ``scale`` of them."""
    reach = (len(weights) - scale) // 2
    padded = np.pad(picture, ((reach, reach), (0, 0)), mode="symmetric")
    count = picture.shape[0] // scale
    total = np.zeros((count, picture.shape[1]), dtype="float32")
    for place, weight in enumerate(weights):
        total += weight * padded[place : place + count * scale : scale]
    return total


def _finer(picture: np.ndarray, scale: int, kernel: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    rows, columns = picture.shape
    padded = np.pad(picture, ((2, 2), (0, 0)), mode="symmetric")
    out = np.empty((rows * scale, columns), dtype="float32")
    for phase in range(scale):
        first, weights = _weights(phase, scale, kernel or _keys)
        start = 2 + first
        out[phase::scale] = sum(weight * padded[start + tap : start + tap + rows] for tap, weight in enumerate(weights))
    return out


@lru_cache(maxsize=64)
def _weights(phase: int, scale: int, kernel: Callable[[np.ndarray], np.ndarray]) -> tuple[int, tuple[np.float32, ...]]:
    """First of the four coarse pixels and their weights for a fine pixel."""
    place = (phase + 0.5) / scale - 0.5
    base = math.floor(place)
    return base - 1, tuple(kernel(np.abs(place - (base + np.arange(-1, 3)))).astype("float32"))


def _keys(away: np.ndarray) -> np.ndarray:
    near = 1.5 * away**3 - 2.5 * away**2 + 1
    far = -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    weights: np.ndarray = np.where(away <= 1, near, far)
    return weights


def _tent(away: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.maximum(1 - away, 0)
    return weights
