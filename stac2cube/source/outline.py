"""Where blocks lie on the globe, for many blocks at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

_POINTS_PER_EDGE = 32
"""They follow the curve that a block's edge is in longitude and latitude closely enough in any projection."""


def outlines(geoboxes: Sequence[GeoBox]) -> NDArray[np.object_]:
    """Outlines of blocks in WGS84.

    Longitudes run on beyond 180 degrees where a block lies across the antimeridian. A block around a pole becomes
    everything from its lowest latitude to the pole; one with corners off the globe becomes the whole globe, so that
    nothing is missed.

    Args:
        geoboxes: Of any CRS; those of one CRS are transformed in one call.

    Returns:
        ``(len(geoboxes),)`` polygons.
    """
    shapes = np.empty(len(geoboxes), dtype=object)
    places: dict[str, list[int]] = {}
    for place, geobox in enumerate(geoboxes):
        places.setdefault(str(geobox.crs), []).append(place)
    for crs, members in places.items():
        rings = np.stack([_ring(geoboxes[place]) for place in members])
        transformer, geographic = _to_degrees(crs)
        degrees = np.stack(transformer.transform(rings[..., 0], rings[..., 1]), axis=-1)
        shapes[members] = _polygons(degrees, jumps=not geographic)
    return shapes


@lru_cache(maxsize=64)
def _to_degrees(crs: str) -> tuple[Transformer, bool]:
    """From a CRS to longitude and latitude, and whether it has these itself; finding that out takes a millisecond."""
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True), bool(CRS(crs).is_geographic)


def _ring(geobox: GeoBox) -> NDArray[np.float64]:
    """Points around a block, ``(4 x 32, 2)``, native x and y."""
    rows, columns = geobox.shape
    along = np.arange(_POINTS_PER_EDGE) / _POINTS_PER_EDGE
    zero, one = np.zeros_like(along), np.ones_like(along)
    x = np.concatenate([along, one, 1 - along, zero]) * columns
    y = np.concatenate([zero, along, one, 1 - along]) * rows
    to = geobox.transform
    return np.stack([to.a * x + to.b * y + to.c, to.d * x + to.e * y + to.f], axis=-1)


def _polygons(rings: NDArray[np.float64], *, jumps: bool) -> NDArray[np.object_]:
    """Polygons of rings ``(n, points, 2)`` in degrees, whose longitudes may jump by 360 between neighbours."""
    whole = np.array([(-180.0, -90.0), (180.0, -90.0), (180.0, 90.0), (-180.0, 90.0)])
    lost: NDArray[np.bool_] = np.logical_not(np.isfinite(rings).all(axis=(1, 2)))
    rings = np.where(lost[:, None, None], whole[np.arange(rings.shape[1]) * 4 // rings.shape[1]], rings)
    around = np.zeros(len(rings), dtype=bool)
    if jumps:
        closed = np.concatenate([rings[..., 0], rings[:, :1, 0]], axis=1)
        turns = np.round(np.diff(closed, axis=1) / 360).cumsum(axis=1)
        around = (turns[:, -1] != 0) & ~lost
        rings[:, 1:, 0] -= 360 * turns[:, :-1] * ~lost[:, None]
    shapes: NDArray[np.object_] = shapely.polygons(rings)
    for place in np.flatnonzero(around):
        latitudes = rings[place, :, 1]
        south, north = (latitudes.min(), 90) if latitudes.mean() > 0 else (-90, latitudes.max())
        shapes[place] = shapely.box(-180, south, 180, north)
    return shapes
