"""From cloud to masks: averaged and dilated by a disk in metres, and the shadows clouds cast."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from stac2cube.kernels.cloud import NODATA

DARK_NIR = 0.15
"""Top-of-atmosphere reflectance of B08 below which a pixel may lie in shadow (as in Google's Earth Engine tutorial on
s2cloudless)."""

WATER_SWIR = 0.03
"""Reflectance of B11 below which a dark pixel is taken for water, which is dark without shadow."""

HIGHEST_M = 5000.0
"""Cloud height up to which shadows are looked for; higher clouds are mostly thin."""

LOWEST_M = 200.0


def disk(radius_m: float, resolution: float) -> np.ndarray:
    """Pixels whose centre lies within a radius of the middle one's: ``(n, n)`` bool, n odd."""
    reach = math.floor(radius_m / resolution + 1e-9)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside: np.ndarray = rows**2 + columns**2 <= (radius_m / resolution + 1e-9) ** 2
    return inside


def cloud_mask(
    percent: np.ndarray, threshold: float, average_m: float, dilate_m: float, resolution: float
) -> np.ndarray:
    """A mask from a probability: its mean over a disk above a threshold, dilated by a disk.

    The order is that of s2cloudless; pixels without data take no part in the mean.

    Args:
        percent: ``(rows, columns)`` uint8, whole percent, 255 without data.
        threshold: 0 to 1.
        average_m: Radius of the mean, metres; 0 for none.
        dilate_m: Radius of the dilation, metres; 0 for none.
        resolution: Pixel edge, metres.

    Returns:
        Same shape, uint8: 1 cloud, 0 none, 255 without data.
    """
    known = percent != NODATA
    values = np.where(known, percent, 0).astype("int64")
    around = disk(average_m, resolution).astype("int64")
    # Whole numbers, so that the sum is the same whatever the block.
    total = ndimage.convolve(values, around, mode="constant")
    count = ndimage.convolve(known.astype("int64"), around, mode="constant")
    cloudy = (total > threshold * 100 * count) & known
    if dilate_m >= resolution:
        cloudy = dilated(cloudy, dilate_m, resolution)
    return np.where(known, cloudy.astype("uint8"), np.uint8(NODATA))


def dilated(mask: np.ndarray, radius_m: float, resolution: float) -> np.ndarray:
    """A mask widened by a disk: True where the centre of a pixel of the mask lies within a radius."""
    if not mask.any():
        return mask
    # By distance, whose cost does not grow with the radius.
    distance = ndimage.distance_transform_edt(~mask)
    wide: np.ndarray = distance <= radius_m / resolution + 1e-9
    return wide


def dark_land(nir: np.ndarray, swir: np.ndarray) -> np.ndarray:
    """Where it is dark and no water: the only places that can lie in shadow; bool, False without data.

    Args:
        nir: Top-of-atmosphere reflectance of B08, NaN without data.
        swir: The same of B11.
    """
    dark: np.ndarray = (nir < DARK_NIR) & (swir >= WATER_SWIR)
    return dark


def shadow_mask(cloud: np.ndarray, dark: np.ndarray, sun: tuple[float, float], resolution: float) -> np.ndarray:
    """Where clouds of :data:`LOWEST_M` to :data:`HIGHEST_M` cast their shadow, and it is dark.

    A cloud of height h lies h tan(zenith) from its shadow, which falls away from the sun.

    Args:
        cloud: ``(rows, columns)`` uint8, 1 cloud, 0 none, 255 without data; rows run south.
        dark: See :func:`dark_land`.
        sun: Azimuth, clockwise from grid north, and elevation, degrees.
        resolution: Pixel edge, metres.

    Returns:
        Same shape, uint8: 1 shadow, 0 none, 255 without data.
    """
    azimuth, elevation = (math.radians(angle) for angle in sun)
    reach = 1 / math.tan(max(elevation, math.radians(5)))
    cast = np.zeros(cloud.shape, dtype=bool)
    steps = max(math.ceil((HIGHEST_M - LOWEST_M) * reach / resolution), 1)
    for height in np.linspace(LOWEST_M, HIGHEST_M, steps + 1):
        length = height * reach / resolution
        row, column = round(length * math.cos(azimuth)), round(-length * math.sin(azimuth))
        cast |= _moved(cloud == 1, row, column)
    shadow = cast & dark & (cloud == 0)
    return np.where(cloud == NODATA, np.uint8(NODATA), shadow.astype("uint8"))


def shadow_reach_m(elevation: float) -> float:
    """How far from its cloud a shadow can lie, metres."""
    return HIGHEST_M / math.tan(math.radians(max(elevation, 5.0)))


def _moved(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """A mask moved down and to the right by whole pixels; what comes in from outside is False."""
    out = np.zeros_like(mask)
    height, width = mask.shape
    if abs(rows) >= height or abs(columns) >= width:
        return out
    into = (slice(max(rows, 0), height + min(rows, 0)), slice(max(columns, 0), width + min(columns, 0)))
    of = (slice(max(-rows, 0), height + min(-rows, 0)), slice(max(-columns, 0), width + min(-columns, 0)))
    out[into] = mask[of]
    return out
