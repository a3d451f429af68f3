"""Speckle of radar images: Lee's filter on linear power, aware of pixels without data."""

from __future__ import annotations

import numpy as np

from stac2cube.errors import BadInputError


def lee(power: np.ndarray, window: int, looks: float) -> np.ndarray:
    """Lee's local-statistics filter for multiplicative noise.

    With speckle of mean 1 and variance ``s² = 1 / looks`` the observed ``z = x v`` has, in a window, mean ``m`` and
    variance ``V``; the surface then varies by ``Q = (V + m²) / (s² + 1) - m²`` (not less than 0) and is estimated as
    ``m + k (z - m)`` with ``k = Q / (m² s² + Q)``. Source: J.-S. Lee, "Digital image enhancement and noise filtering by
    use of local statistics", IEEE TPAMI 2(2), 165-168, 1980 (multiplicative case), doi:10.1109/TPAMI.1980.4766994.
    Statistics are those of the pixels with data in the window; beyond the edge there is no data.

    Args:
        power: ``(..., y, x)`` float, linear power; NaN and values not above 0 are without data.
        window: Edge of the square window, pixels, odd, 3 or more.
        looks: Equivalent number of looks of the image, above 0.

    Returns:
        Same shape, float32; NaN exactly where the input has no data.

    Raises:
        BadInputError: An even or too small window, looks not above 0.
    """
    check_window(window)
    if not (np.isfinite(looks) and looks > 0):
        raise BadInputError(f"looks must be a number above 0, not {looks!r}")
    valid = power > 0
    observed = np.where(valid, power, 0).astype("float64")
    radius = window // 2
    count = box_sum(valid.astype("float64"), radius)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = box_sum(observed, radius) / count
        variance = np.maximum(box_sum(observed**2, radius) / count - mean**2, 0)
        noise = 1 / looks
        surface = np.maximum((variance + mean**2) / (noise + 1) - mean**2, 0)
        weight = surface / (mean**2 * noise + surface)
        estimate = mean + weight * (observed - mean)
    filtered: np.ndarray = np.where(valid, estimate, np.nan).astype("float32")
    return filtered


def check_window(window: int) -> None:
    """Refuse a window without a middle.

    Raises:
        BadInputError: It is even or smaller than 3.
    """
    if window < 3 or window % 2 == 0:
        raise BadInputError(f"a window is an odd number of pixels, 3 or more, not {window!r}")


def box_sum(values: np.ndarray, radius: int) -> np.ndarray:
    """Sums over square windows; what lies beyond the edge counts as 0.

    The terms are added in the same order for every pixel, whatever the size of the array, so that blocks with a halo of
    ``radius`` give the very numbers of the whole image (running sums would not).

    Args:
        values: ``(..., y, x)`` float, finite.
        radius: Half the window, pixels: the edge is ``2 radius + 1``.

    Returns:
        Same shape and dtype.
    """
    total = values
    for axis in (-2, -1):
        length = total.shape[axis]
        around = [(0, 0)] * total.ndim
        around[axis] = (radius, radius)
        padded = np.pad(total, around)
        rows: list[slice] = [slice(None)] * total.ndim
        total = np.zeros_like(total)
        for shift in range(2 * radius + 1):
            rows[axis] = slice(shift, shift + length)
            total += padded[tuple(rows)]
    return total
