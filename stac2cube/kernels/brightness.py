"""Pixels too bright for a network: saturated ones hold no measurement, others lie beyond what it learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

BRIGHT = 1.2
"""Reflectance above which no network is asked: surfaces stay below, clouds, glint and mirrors may not."""

SATURATED = 2.0
"""Reflectance above which a pixel holds no measurement. The agency's mark of saturation, count 65535, reads as 6.45; a
pixel that resampling made of the mark and its neighbours lies between. Detectors of Sentinel-2 reach at most about 1.8
(Sentinel-2 User Handbook, table of Lref and Lmax, for a low sun)."""

_SQUARE = np.ones((3, 3), dtype=bool)


def saturated(picture: np.ndarray, around: int) -> np.ndarray:
    """Where a band holds no measurement.

    Args:
        picture: ``(rows, columns)`` reflectance.
        around: Pixels around each saturated one that resampling may have mixed it into.

    Returns:
        ``(rows, columns)`` bool, True where it holds none.
    """
    return widened(picture > SATURATED, around)


def widened(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask with all pixels around it, diagonally too, in ``pixels`` steps; ``(rows, columns)`` bool."""
    if not pixels or not mask.any():
        return mask
    wider: np.ndarray = ndimage.binary_dilation(mask, _SQUARE, iterations=pixels)
    return wider


def without(picture: np.ndarray, gone: np.ndarray, reach: int) -> np.ndarray:
    """A picture whose gaps take the nearest pixel there is within ``reach`` pixels; farther in it is 0.

    Args:
        picture: ``(rows, columns)`` float32.
        gone: ``(rows, columns)`` bool, True where there is nothing.
        reach: Pixels.
    """
    return without_all([picture], gone, reach)[0]


def without_all(pictures: Sequence[np.ndarray], gone: np.ndarray, reach: int) -> list[np.ndarray]:
    """The same for pictures that have their gaps at the same places."""
    if not gone.any():
        return list(pictures)
    away, (rows, columns) = ndimage.distance_transform_edt(gone, return_indices=True)
    near = away <= reach
    return [np.where(near, picture[rows, columns], np.float32(0)) for picture in pictures]
