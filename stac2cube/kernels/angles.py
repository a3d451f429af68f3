"""Where sun and sensor stand, from the coarse grids of a product to its pixels.

A Sentinel-2 granule's metadata give zenith and azimuth at nodes every 5 km, the first on the tile's upper left corner;
of the view per band and per detector, NaN where a detector saw nothing (Sentinel-2 Products Specification Document,
issue 14.9, tile metadata). Twelve detectors look ahead and aback by turns, so their azimuths differ by tens of degrees
near the nadir.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pyproj import CRS, Transformer


@dataclass(frozen=True)
class AngleNodes:
    """Zenith and azimuth of one direction at the nodes of a coarse grid.

    Attributes:
        crs: CRS of the positions, and whose grid north azimuths are counted from.
        corner: x and y of the first node.
        step: Distance of the nodes, units of the CRS.
        zenith: ``(rows, columns)`` degrees, rows running south; NaN where unknown.
        azimuth: Same shape, degrees clockwise from north.
    """

    crs: str
    corner: tuple[float, float]
    step: float
    zenith: np.ndarray
    azimuth: np.ndarray


@dataclass(frozen=True)
class TileAngles:
    """All angles of a granule.

    Attributes:
        sun: Where the sun stands.
        view: Band -> where the sensor stands, detectors merged.
    """

    sun: AngleNodes
    view: Mapping[str, AngleNodes]


def merged(zenith: np.ndarray, azimuth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grids of several detectors as one: a node that one saw is its, one where they overlap gets their mean.

    Args:
        zenith: ``(detectors, rows, columns)`` degrees, NaN where a detector saw nothing.
        azimuth: Same shape, degrees.

    Returns:
        Zenith, the mean of those known; azimuth in 0 to 360, the direction of the sum of unit vectors; each
        ``(rows, columns)``, NaN where none saw.
    """
    known = np.isfinite(zenith) & np.isfinite(azimuth)
    count = known.sum(axis=0)
    some, one = count > 0, count == 1
    total = np.where(known, zenith, 0).sum(axis=0)
    mean = np.divide(total, count, out=np.full(count.shape, np.nan), where=some)
    turned = np.radians(np.where(known, azimuth, 0))
    east, north = (np.where(known, part(turned), 0).sum(axis=0) for part in (np.sin, np.cos))
    # What one detector says alone is taken as it is, to the last digit.
    direction = np.where(one, np.where(known, azimuth, 0).sum(axis=0), np.degrees(np.arctan2(east, north)) % 360)
    return mean, np.where(some, direction, np.nan)


def interpolated(nodes: AngleNodes, x: np.ndarray, y: np.ndarray, crs: str) -> tuple[np.ndarray, np.ndarray]:
    """Zenith and azimuth at positions: bilinear between nodes, of the azimuth as a direction.

    Where some of the four nodes around are unknown, at the edge of the swath, the others count alone. A position on a
    node gets the node's value exactly.

    Args:
        nodes: The grid.
        x: Positions in ``crs``, any shape.
        y: Same shape.
        crs: CRS of the positions, from whose grid north the azimuths given back are counted.

    Returns:
        Zenith and azimuth (0 to 360) in degrees, float64, of the same shape; NaN where all four nodes are unknown or
        the position lies outside the grid.
    """
    same = CRS(crs) == CRS(nodes.crs)
    east, north = (x, y) if same else Transformer.from_crs(crs, nodes.crs, always_xy=True).transform(x, y)
    rows, columns = nodes.zenith.shape
    down, right = (nodes.corner[1] - north) / nodes.step, (east - nodes.corner[0]) / nodes.step
    inside = (down >= 0) & (down <= rows - 1) & (right >= 0) & (right <= columns - 1)
    row = np.clip(np.floor(np.where(inside, down, 0)).astype(int), 0, max(rows - 2, 0))
    column = np.clip(np.floor(np.where(inside, right, 0)).astype(int), 0, max(columns - 2, 0))
    lower, further = np.where(inside, down - row, 0), np.where(inside, right - column, 0)
    known = np.isfinite(nodes.zenith) & np.isfinite(nodes.azimuth)
    slopes, turns = np.where(known, nodes.zenith, 0), np.where(known, nodes.azimuth, 0)
    sines, cosines = np.sin(np.radians(turns)), np.cos(np.radians(turns))  # of the nodes: far fewer than the positions
    weight, zenith, sine, cosine = (np.zeros(np.shape(east)) for _ in range(4))
    alone = np.full(np.shape(east), np.nan)
    for below in (0, 1):
        for beside in (0, 1):
            at = (np.minimum(row + below, rows - 1), np.minimum(column + beside, columns - 1))
            share = (lower if below else 1 - lower) * (further if beside else 1 - further) * known[at]
            weight += share
            zenith += share * slopes[at]
            sine += share * sines[at]
            cosine += share * cosines[at]
            if (on := share == 1).any():
                alone = np.where(on, turns[at], alone)
    with np.errstate(invalid="ignore", divide="ignore"):
        zenith = np.where(inside & (weight > 0), zenith / weight, np.nan)
    azimuth = np.where(np.isnan(alone), np.degrees(np.arctan2(sine, cosine)) % 360, alone)
    azimuth = np.where(np.isnan(zenith), np.nan, azimuth)
    if not same:
        azimuth = _turned(azimuth, np.asarray(east), np.asarray(north), nodes.crs, crs)
    return zenith, azimuth


_STRIDE = 100.0
"""Metres of the step by which a direction is carried from one CRS to another."""


def _turned(azimuth: np.ndarray, east: np.ndarray, north: np.ndarray, crs: str, other: str) -> np.ndarray:
    """Azimuths counted from the north of one (metric) CRS, counted from that of another."""
    back = Transformer.from_crs(crs, other, always_xy=True)
    radians = np.radians(np.nan_to_num(azimuth))
    x0, y0 = back.transform(east, north)
    x1, y1 = back.transform(east + _STRIDE * np.sin(radians), north + _STRIDE * np.cos(radians))
    turned: np.ndarray = np.degrees(np.arctan2(x1 - x0, y1 - y0)) % 360
    return np.where(np.isnan(azimuth), np.nan, turned)
