"""Where two pictures are compared: clear windows with something to see, spread over the area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

EDGES = (256, 128, 64)
"""Edges of windows, pixels: the largest of which four fit side by side."""

LEAST_CLEAR = 0.5
"""Part of a window that must be clear in both pictures."""

FLATTEST = 0.25
"""A window with less texture than this part of the median is left out: water, snow."""

INFILL_SIGMA = 8.0
"""Pixels over which gaps are filled smoothly."""

INFILL_AROUND = 3
"""Pixels around a gap that are filled with it: edges of clouds are bright, too."""


@dataclass(frozen=True)
class Patch:
    """One window of both pictures, a margin around it.

    Attributes:
        reference: ``(rows, columns)`` float32.
        target: Of the same shape.
        good: Where both were seen.
    """

    reference: np.ndarray
    target: np.ndarray
    good: np.ndarray


def edge_for(shape: tuple[int, int]) -> int | None:
    """Edge of the windows for an area, pixels; None where it is too small to say anything."""
    return next((edge for edge in EDGES if min(shape) >= 4 * edge), EDGES[-1] if min(shape) >= 2 * EDGES[-1] else None)


def per_cell(values: np.ndarray, edge: int) -> np.ndarray:
    """Means over cells of ``edge`` pixels; what is left at the lower and right edge is not a cell."""
    rows, columns = (size // edge for size in values.shape)
    whole = values[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge)
    means: np.ndarray = whole.mean(axis=(1, 3), dtype="float64")
    return means


def texture(picture: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Steps from pixel to pixel, 0 where one of them was not seen: of the shape of the picture."""
    steps = np.zeros(picture.shape, dtype="float32")
    values = picture.astype("float32")
    steps[:, 1:] += np.where(good[:, 1:] & good[:, :-1], np.abs(np.diff(values, axis=1)), 0)
    steps[1:] += np.where(good[1:] & good[:-1], np.abs(np.diff(values, axis=0)), 0)
    return steps


def choose(clear: np.ndarray, rough: np.ndarray, count: int) -> list[tuple[int, int]]:
    """The windows to compare: the clearest with texture, each as far from the others as can be.

    Args:
        clear: ``(rows, columns)`` of windows: the part that is clear in both.
        rough: The same of texture.
        count: How many at most.

    Returns:
        Rows and columns; always the same for the same input.
    """
    able = clear >= LEAST_CLEAR
    if not able.any():
        return []
    able &= rough >= FLATTEST * np.median(rough[able])
    able &= rough > 0
    places = np.argwhere(able)
    chosen: list[int] = []
    rank = np.floor(clear[able] * 5)  # a fifth clearer is worth more than any distance
    apart = np.full(len(places), np.inf)
    while len(chosen) < min(count, len(places)):
        score = rank * 1e6 + np.minimum(apart, 1e5) + 1e-6 * rough[able] / rough.max()
        score[chosen] = -1
        chosen.append(int(np.argmax(score)))
        apart = np.minimum(apart, np.hypot(*(places - places[chosen[-1]]).T))
    return [(int(row), int(column)) for row, column in places[chosen]]


def infilled(pictures: Sequence[np.ndarray], good: np.ndarray) -> list[np.ndarray]:
    """The pictures with what was not seen in either filled smoothly from around it.

    Without this a cloud's edge, which stays where it is in one picture only, decides the match.
    """
    gaps = ~good
    if not gaps.any():
        return [picture.astype("float32") for picture in pictures]
    gaps = ndimage.binary_dilation(gaps, iterations=INFILL_AROUND)
    seen = (~gaps).astype("float32")
    weight = ndimage.gaussian_filter(seen, INFILL_SIGMA, truncate=3.0)
    filled = []
    for picture in pictures:
        values = np.where(gaps, 0, picture).astype("float32")
        mean = values.sum() / max(seen.sum(), 1)
        smooth = ndimage.gaussian_filter(values, INFILL_SIGMA, truncate=3.0)
        around = np.where(weight > 1e-3, smooth / np.maximum(weight, 1e-3), mean)
        filled.append(np.where(gaps, around, values).astype("float32"))
    return filled
