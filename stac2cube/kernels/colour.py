"""From reflectance to what a screen shows: one stretch for all pictures of a series, so that nothing flickers."""

from __future__ import annotations

import numpy as np

BRIGHTEST = 98.0
"""Percentile of all dates together that becomes white; clouds may saturate."""

GAMMA = 1 / 1.6
"""Exponent that lifts dark land, as quicklooks of the agencies do."""

GREY = 0.82
"""Grey of pixels without data."""

WHITE_BOUNDS = (0.05, 0.45)
"""Reflectance that may become white: neither a night nor a sky full of clouds decides the stretch."""


def white_of(colours: np.ndarray) -> float:
    """The value that becomes white, from pictures.

    Args:
        colours: ``(..., 3)`` float, reflectance, NaN without data.

    Returns:
        The percentile :data:`BRIGHTEST` of pixels with data in all three, within :data:`WHITE_BOUNDS`.
    """
    valid = np.isfinite(colours).all(axis=-1)
    white = float(np.percentile(colours[valid], BRIGHTEST)) if valid.any() else 1.0
    return min(max(white, WHITE_BOUNDS[0]), WHITE_BOUNDS[1])


def stretched(
    colours: np.ndarray,
    white: float | np.ndarray,
    *,
    black: float | np.ndarray = 0.0,
    gamma: float = GAMMA,
    nodata: float = GREY,
) -> np.ndarray:
    """Values to screen: linear from black to white, cut off beyond, then to the power of gamma.

    Args:
        colours: ``(..., 3)`` float, NaN without data.
        white: What becomes 1, one value or one per channel.
        black: What becomes 0.
        gamma: Exponent.
        nodata: What pixels become that lack data in any of the three.

    Returns:
        ``(..., 3)`` float32, 0 to 1.
    """
    valid = np.isfinite(colours).all(axis=-1)
    scaled = np.clip((np.nan_to_num(colours) - black) / (white - black), 0, 1) ** gamma
    shown: np.ndarray = np.where(valid[..., None], scaled, nodata).astype("float32")
    return shown
