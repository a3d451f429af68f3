"""The shape of the ground from heights: slope, aspect and hillshade after Horn.

Gradients are those of B. K. P. Horn, "Hill shading and the reflectance map", Proceedings of the IEEE 69(1), 14-47,
1981, doi:10.1109/PROC.1981.11918: central differences over 3 x 3 pixels, the middle row or column weighted twice.
"""

from __future__ import annotations

import numpy as np


def gradients(
    heights: np.ndarray, east: np.ndarray | float, north: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """How much the ground rises to the east and to the north.

    Args:
        heights: ``(..., y, x)`` float, metres, NaN without data; rows from north to south, columns from west to east.
        east: Width of a pixel, metres; one number, or ``(y, 1)`` where it differs from row to row.
        north: Height of a pixel, metres; the same.

    Returns:
        Rise to the east and to the north, ``(..., y, x)`` float64, metres per metre. NaN where any of the 3 x 3 pixels
        has no data, and along the outer rim.
    """
    padding = [(0, 0)] * (heights.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(heights.astype("float64"), padding, constant_values=np.nan)
    rows, columns = heights.shape[-2:]

    def at(row: int, column: int) -> np.ndarray:
        part: np.ndarray = padded[..., 1 + row : 1 + row + rows, 1 + column : 1 + column + columns]
        return part

    to_east = (at(-1, 1) + 2 * at(0, 1) + at(1, 1)) - (at(-1, -1) + 2 * at(0, -1) + at(1, -1))
    to_north = (at(-1, -1) + 2 * at(-1, 0) + at(-1, 1)) - (at(1, -1) + 2 * at(1, 0) + at(1, 1))
    whole = np.isfinite(to_east) & np.isfinite(to_north) & np.isfinite(heights)
    return np.where(whole, to_east / (8 * east), np.nan), np.where(whole, to_north / (8 * north), np.nan)


def slope(heights: np.ndarray, east: np.ndarray | float, north: np.ndarray | float) -> np.ndarray:
    """Steepness, degrees: 0 flat, 90 a wall. Arguments and NaN as in :func:`gradients`; float32."""
    to_east, to_north = gradients(heights, east, north)
    degrees: np.ndarray = np.degrees(np.arctan(np.hypot(to_east, to_north))).astype("float32")
    return degrees


def aspect(heights: np.ndarray, east: np.ndarray | float, north: np.ndarray | float) -> np.ndarray:
    """The direction the ground faces (downhill), degrees clockwise from north, 0 to below 360; NaN on flat ground.

    Arguments and NaN otherwise as in :func:`gradients`; float32.
    """
    to_east, to_north = gradients(heights, east, north)
    degrees = (np.degrees(np.arctan2(-to_east, -to_north)) % 360).astype("float32")
    degrees[degrees == 360] = 0  # rounding to float32 may close the circle
    flat = (to_east == 0) & (to_north == 0)
    facing: np.ndarray = np.where(flat, np.float32(np.nan), degrees)
    return facing


def hillshade(
    heights: np.ndarray, east: np.ndarray | float, north: np.ndarray | float, azimuth: float, altitude: float
) -> np.ndarray:
    """Light on the ground: the cosine between the sun and what stands upright on the ground, 0 where it faces away.

    Args:
        heights: As in :func:`gradients`.
        east: As in :func:`gradients`.
        north: As in :func:`gradients`.
        azimuth: Where the sun stands, degrees clockwise from north.
        altitude: How high it stands, degrees above the horizon.

    Returns:
        ``(..., y, x)`` float32, 0 to 1; NaN as in :func:`gradients`. Shadows cast by other ground are not in it.
    """
    to_east, to_north = gradients(heights, east, north)
    toward, up = np.radians(azimuth), np.radians(altitude)
    sun = (np.sin(toward) * np.cos(up), np.cos(toward) * np.cos(up), np.sin(up))
    light = (sun[2] - to_east * sun[0] - to_north * sun[1]) / np.sqrt(1 + to_east**2 + to_north**2)
    shade: np.ndarray = np.clip(light, 0, 1).astype("float32")
    return shade
