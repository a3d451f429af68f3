"""Shifts that change over a scene: a smooth field through measured points, and moving pixels by it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

LEAST_POINTS = 30
"""Points below which no field is drawn through them."""

BETTER = 0.8
"""What is left at points that were held out must be at most this part of what one shift leaves there."""

_PASSES = 10


@dataclass(frozen=True)
class Field:
    """Shifts as polynomials of degree 2 in the place within the grid, -1 to 1 from edge to edge.

    Attributes:
        right: Coefficients of 1, u, v, u^2, uv, v^2; u to the right, v down.
        down: The same.
    """

    right: tuple[float, ...]
    down: tuple[float, ...]

    def at(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shifts to the right and down, of the unit of the coefficients."""
        terms = _terms(u, v)
        return terms @ np.array(self.right), terms @ np.array(self.down)

    @property
    def largest(self) -> float:
        """Length of the largest shift anywhere."""
        u, v = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))
        return float(np.hypot(*self.at(u, v)).max())


def fit_field(points: np.ndarray, shifts: np.ndarray) -> tuple[Field, float, float] | None:
    """A field through points, if it says more than one shift does.

    Robust least squares (Huber's weights, as in :mod:`stac2cube.kernels.solving`); every third point is held out and
    judges.

    Args:
        points: ``(n, 2)`` places u and v.
        shifts: ``(n, 2)`` to the right and down.

    Returns:
        The field, fitted to all points; what one shift leaves at the points held out, and what the field leaves there
        (medians of lengths). None where there are too few points or the field is not clearly better.
    """
    if len(points) < LEAST_POINTS:
        return None
    judges = np.arange(len(points)) % 3 == 2
    part = _fitted(points[~judges], shifts[~judges])
    one = np.median(shifts[~judges], axis=0)
    before = float(np.median(np.hypot(*(shifts[judges] - one).T)))
    after = float(np.median(np.hypot(*(shifts[judges] - np.stack(part.at(*points[judges].T), axis=1)).T)))
    if after > BETTER * before:
        return None
    return _fitted(points, shifts), before, after


def moved_by(pixels: np.ndarray, missing: np.ndarray, down: np.ndarray, right: np.ndarray, order: int) -> np.ndarray:
    """Pixels of a window moved by a field.

    Args:
        pixels: ``(rows, columns)`` of the window with a margin around.
        missing: Where it has no data.
        down: ``(rows, columns)`` of the window without margin: the row, within ``pixels``, that each takes its value
            from.
        right: The same, columns.
        order: Of the spline; 0 takes the nearest.

    Returns:
        float64, NaN where what is taken has no data.
    """
    places = np.stack([down, right])
    nearest = (
        ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True) if missing.any() else None
    )
    whole = pixels if nearest is None or missing.all() else pixels[tuple(nearest)]
    out = ndimage.map_coordinates(whole.astype("float64"), places, order=order, mode="nearest")
    gone = ndimage.map_coordinates(missing.astype("float64"), places, order=min(order, 1), mode="nearest") > 0
    return np.where(gone, np.nan, out)


def _terms(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def _fitted(points: np.ndarray, shifts: np.ndarray) -> Field:
    terms = _terms(*points.T)
    weight = np.ones(len(points))
    for _ in range(_PASSES):
        root = np.sqrt(weight)[:, None]
        found = np.linalg.lstsq(terms * root, shifts * root, rcond=None)[0]
        off = np.hypot(*(terms @ found - shifts).T)
        weight = np.minimum(1.0, 1.345 * (1.4826 * np.median(off) + 1e-9) / np.maximum(off, 1e-12))
    return Field(tuple(map(float, found[:, 0])), tuple(map(float, found[:, 1])))


def places_in(rows: slice, columns: slice, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Places u and v of the pixels of a window of a grid: ``(rows, columns)`` each."""
    v = 2 * (np.arange(rows.start, rows.stop) + 0.5) / shape[0] - 1
    u = 2 * (np.arange(columns.start, columns.stop) + 0.5) / shape[1] - 1
    across, along = np.meshgrid(u, v)
    return across, along


def margin_for(field: Field, resolution: float) -> int:
    """Pixels around a window that moving it may look at; a spline of degree 3 forgets by four per pixel.

    Args:
        field: In metres.
        resolution: Pixel edge, metres.
    """
    return math.ceil(field.largest / resolution) + 20
