"""Where sun and sensor stand, from the coarse grids of a product to its pixels.

A Sentinel-2 granule's metadata give zenith and azimuth at nodes every 5 km, the first on the tile's upper left corner;
of the view per band and per detector, NaN where a detector saw nothing (Sentinel-2 Products Specification Document,
issue 14.9, tile metadata). Twelve detectors look ahead and aback by turns, so their azimuths differ by tens of degrees
near the nadir.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

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


@dataclass(frozen=True)
class Direction:
    """Where something stands, seen from many places.

    Attributes:
        zenith: Degrees, float64, any shape; NaN where unknown.
        east: Same shape: the azimuth's sine, of a unit vector; 0 where unknown.
        north: Same shape: its cosine.
        exact: Same shape: the azimuth in degrees where it is known as a number, NaN elsewhere; None for nowhere.
    """

    zenith: np.ndarray
    east: np.ndarray
    north: np.ndarray
    exact: np.ndarray | None = None

    @classmethod
    def of_degrees(cls, zenith: np.ndarray, azimuth: np.ndarray) -> Direction:
        """From two angles, NaN where either is unknown."""
        known = np.isfinite(zenith) & np.isfinite(azimuth)
        turned = np.radians(np.where(known, azimuth, 0))
        east, north = (np.where(known, part(turned), 0) for part in (np.sin, np.cos))
        return cls(np.where(known, zenith, np.nan), east, north, np.where(known, azimuth, np.nan))

    @property
    def known(self) -> np.ndarray:
        """Where it is, bool."""
        known: np.ndarray = np.isfinite(self.zenith)
        return known

    @property
    def degrees(self) -> tuple[np.ndarray, np.ndarray]:
        """Zenith, and azimuth from 0 to 360 clockwise from north; NaN where unknown."""
        azimuth = np.degrees(np.arctan2(self.east, self.north)) % 360
        azimuth[~self.known] = np.nan
        if self.exact is not None:
            np.copyto(azimuth, self.exact, where=np.isfinite(self.exact))
        return self.zenith, azimuth

    @property
    def sines(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Sine and cosine of the zenith, then of the azimuth; NaN where unknown."""
        zenith = np.radians(self.zenith)
        east, north = (np.where(self.known, part, np.nan) for part in (self.east, self.north))
        return np.sin(zenith), np.cos(zenith), east, north


def merged(directions: Iterable[Direction]) -> Direction:
    """Several directions as one: where only one is known it is that, where more are their mean.

    Args:
        directions: At least one, all of one shape; taken one after the other.

    Returns:
        Zenith, the mean of those known; azimuth, that of the sum of unit vectors; unknown where none is known.
    """
    count, total = reduce(_added, ((one.known.astype("uint8"), one) for one in directions))
    with np.errstate(invalid="ignore"):
        return _of_length_one(np.where(count > 0, total.zenith / count, np.nan), total.east, total.north, total.exact)


def _added(one: tuple[np.ndarray, Direction], other: tuple[np.ndarray, Direction]) -> tuple[np.ndarray, Direction]:
    """Counts and sums; an azimuth known as a number stays one only where it is alone."""
    (count, so_far), (more, added) = one, other
    exact = None
    if so_far.exact is not None or added.exact is not None:
        exact = np.full(count.shape, np.nan)
        for mine, alone in ((so_far, more == 0), (added, count == 0)):
            if mine.exact is not None:
                np.copyto(exact, mine.exact, where=alone)
    zenith = np.where(count > 0, np.where(more > 0, so_far.zenith + added.zenith, so_far.zenith), added.zenith)
    return count + more, Direction(zenith, so_far.east + added.east, so_far.north + added.north, exact)


def _of_length_one(zenith: np.ndarray, east: np.ndarray, north: np.ndarray, exact: np.ndarray | None) -> Direction:
    """A direction from a vector of any length; north where its length is 0, as of opposite directions."""
    length = np.sqrt(east * east + north * north)
    none = length == 0
    length[none] = 1
    return Direction(zenith, east / length, np.where(none & np.isfinite(zenith), 1.0, north / length), exact)


def interpolated(nodes: AngleNodes, x: np.ndarray, y: np.ndarray, crs: str) -> Direction:
    """Direction at positions: bilinear between nodes, of the azimuth as a unit vector.

    Where some of the four nodes around are unknown, at the edge of the swath, the others count alone. A position on a
    node gets the node's value exactly.

    Args:
        nodes: The grid.
        x: Positions in ``crs``, any shape; ``(1, columns)`` with ``y`` of ``(rows, 1)`` for those of a lattice.
        y: Same shape.
        crs: CRS of the positions, from whose grid north the azimuths given back are counted.

    Returns:
        Of the positions' shape, ``(rows, columns)`` of a lattice; unknown where all four nodes are or the position
        lies outside the grid.
    """
    same = CRS(crs) == CRS(nodes.crs)
    if same:
        east, north = x, y
    else:
        away = np.broadcast_arrays(x, y)
        east, north = Transformer.from_crs(crs, nodes.crs, always_xy=True).transform(away[0], away[1])
    rows, columns = nodes.zenith.shape
    row, lower, above = _split((nodes.corner[1] - north) / nodes.step, rows)
    column, further, aside = _split((east - nodes.corner[0]) / nodes.step, columns)
    at = Direction.of_degrees(nodes.zenith, nodes.azimuth)
    place = _Place(row, lower, column, further)
    zenith, sine, cosine = (place.between(np.nan_to_num(part)) for part in (at.zenith, at.east, at.north))
    known = above & aside
    if not at.known.all():
        weight = place.between(at.known.astype("float64"))
        known &= weight > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            zenith /= weight
    if not known.all():
        for part, unknown in ((zenith, np.nan), (sine, 0), (cosine, 0)):
            np.copyto(part, unknown, where=~known)
    found = _of_length_one(zenith, sine, cosine, place.on_nodes(nodes.azimuth, known))
    return found if same else _turned(found, np.asarray(east), np.asarray(north), nodes.crs, crs)


def _split(places: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The node before each place, how far it lies beyond that, 0 to 1, and whether it lies among the nodes."""
    inside = (places >= 0) & (places <= count - 1)
    places = np.where(inside, places, 0)
    before = np.clip(np.floor(places).astype(int), 0, max(count - 2, 0))
    return before, places - before, inside


@dataclass(frozen=True)
class _Place:
    """Positions among nodes; rows and columns are of one shape, or ``(rows, 1)`` and ``(1, columns)``.

    Attributes:
        row: Of the node above.
        lower: How far below it, 0 to 1.
        column: Of the node to the left.
        further: How far right of it.
    """

    row: np.ndarray
    lower: np.ndarray
    column: np.ndarray
    further: np.ndarray

    @property
    def is_lattice(self) -> bool:
        return self.row.ndim == 2 and self.row.shape[1] == 1 and self.column.shape[0] == 1

    def between(self, values: np.ndarray) -> np.ndarray:
        """Values of nodes at the positions; of a lattice along its few nodes first, then along its rows."""
        down, right = np.minimum(self.row + 1, values.shape[0] - 1), np.minimum(self.column + 1, values.shape[1] - 1)
        if self.is_lattice:
            lines = values[self.row[:, 0]] * (1 - self.lower) + values[down[:, 0]] * self.lower
            left, beyond = lines[:, self.column[0]], lines[:, right[0]]
        else:
            left = values[self.row, self.column] * (1 - self.lower) + values[down, self.column] * self.lower
            beyond = values[self.row, right] * (1 - self.lower) + values[down, right] * self.lower
        between: np.ndarray = left * (1 - self.further) + beyond * self.further
        return between

    def on_nodes(self, azimuth: np.ndarray, known: np.ndarray) -> np.ndarray | None:
        """The azimuth of the node for positions that lie on one, NaN for others; None if none does."""
        level, plumb = np.isin(self.lower, (0, 1)), np.isin(self.further, (0, 1))
        on = level & plumb & known
        if not on.any():
            return None
        row = np.minimum(self.row + (self.lower == 1), azimuth.shape[0] - 1)
        column = np.minimum(self.column + (self.further == 1), azimuth.shape[1] - 1)
        return np.where(on, azimuth[row, column], np.nan)


_STRIDE = 100.0
"""Metres of the step by which a direction is carried from one CRS to another."""


def _turned(found: Direction, east: np.ndarray, north: np.ndarray, crs: str, other: str) -> Direction:
    """Azimuths counted from the north of one (metric) CRS, counted from that of another."""
    back = Transformer.from_crs(crs, other, always_xy=True)
    x0, y0 = back.transform(east, north)
    x1, y1 = back.transform(east + _STRIDE * found.east, north + _STRIDE * found.north)
    known = found.known
    return _of_length_one(found.zenith, np.where(known, x1 - x0, 0), np.where(known, y1 - y0, 0), None)
