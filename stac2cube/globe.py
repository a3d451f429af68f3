"""Shapes on the globe: from any CRS to WGS84 polygons that are split at the antimeridian."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stac2cube.errors import BadInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyproj import CRS
    from shapely.geometry import Polygon
    from shapely.geometry.base import BaseGeometry

WGS84 = "EPSG:4326"

_SIDES = 64
"""An edge is cut into as many pieces before it is bent into another CRS: a straight line there is a curve here."""


def parse_crs(crs: object) -> CRS:
    """A CRS from an EPSG code, a WKT or PROJ text, or an object that knows its own.

    Raises:
        BadInputError: Nothing is known by that name.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        # EPSG:4326 and OGC:CRS84 differ in axis order only, and everything here is longitude first.
        return CRS.from_user_input(crs)
    except (CRSError, TypeError, ValueError) as error:
        raise BadInputError(f"unknown CRS {crs!r}: use an EPSG code such as EPSG:32632") from error


def crs_name(crs: CRS) -> str:
    """``"EPSG:n"`` where the CRS has a code, else its WKT; every WGS84 in degrees is ``"EPSG:4326"``."""
    if is_wgs84(crs):
        return WGS84
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg is not None else str(crs.to_wkt())


def is_wgs84(crs: CRS) -> bool:
    """Whether coordinates in this CRS are WGS84 degrees, whatever the order that its definition gives the axes."""
    return bool(crs.equals(WGS84, ignore_axis_order=True))


def utm_code(longitude: float, latitude: float) -> str:
    """The WGS84 / UTM zone of a point, ``"EPSG:326zz"`` in the north and ``"EPSG:327zz"`` in the south.

    Zones are 6 degrees wide and counted from 180 W. The exceptions of Norway and Svalbard are left out: EPSG's areas
    of use do not have them, and a square of some kilometres is as good in the neighbour's zone.

    Raises:
        BadInputError: UTM ends at 80 S and 84 N.
    """
    if not -80 <= latitude <= 84:
        raise BadInputError(f"UTM has no zone at latitude {latitude:g}: give a polygon in a polar CRS instead")
    zone = math.floor((longitude + 180) / 6) % 60 + 1
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"


def to_wgs84(shape: BaseGeometry, crs: CRS) -> BaseGeometry:
    """Polygons of any CRS as WGS84 longitude and latitude, split at the antimeridian.

    In WGS84 input longitudes up to 360 are understood, and an edge that spans more than 180 (and less than 360)
    degrees is taken the shorter way, across the antimeridian. A ring around a pole is closed along it.

    Args:
        shape: Valid Polygon or MultiPolygon, two-dimensional.
        crs: CRS of its coordinates.

    Returns:
        Valid Polygon or MultiPolygon, every part within -180 to 180 degrees.

    Raises:
        BadInputError: The coordinates lie outside what the CRS can express, or the polygon is invalid once it is laid
            across the antimeridian.
    """
    import shapely

    degrees = is_wgs84(crs)
    lonlat = shape if degrees else _transformed(shape, crs)
    parts = [_unrolled(part) for part in getattr(lonlat, "geoms", [lonlat])]
    if degrees:
        for part in parts:
            if not part.is_valid:
                raise BadInputError(invalid_text(part))
    # Bending can make edges touch that were a hair apart; this shape is for searching, the native one stays exact.
    parts = [part if part.is_valid else shapely.make_valid(part) for part in parts]
    return polygons_of(shapely.union_all([piece for part in parts for piece in _wrapped(part)]))


def polygons_of(shape: BaseGeometry) -> BaseGeometry:
    """The polygons of a shape, without the points and lines that set operations leave behind."""
    import shapely

    pieces = [p for p in shapely.get_parts(shapely.get_parts(shape)) if p.geom_type == "Polygon" and not p.is_empty]
    return pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)


def invalid_text(shape: BaseGeometry) -> str:
    """What is wrong with an invalid polygon, where, and what to do."""
    import shapely

    # GEOS writes "Self-intersection[11.5 48.2]".
    return f"not a valid polygon ({shapely.is_valid_reason(shape)}): repair it, in QGIS with 'Fix geometries'"


def centre_longitude(shape: BaseGeometry) -> float:
    """Longitude of the centroid of WGS84 polygons, degrees, also where they lie on both sides of the antimeridian."""
    parts = [(part.area, part.centroid.x) for part in getattr(shape, "geoms", [shape])]
    east = sum(area * math.sin(math.radians(x)) for area, x in parts)
    north = sum(area * math.cos(math.radians(x)) for area, x in parts)
    # The circular mean says on which side of the globe the parts lie; around it a plain mean is exact.
    about: float = math.degrees(math.atan2(east, north))
    offset: float = sum(area * ((x - about + 180) % 360 - 180) for area, x in parts) / sum(area for area, _ in parts)
    # A billionth of a degree is 0.1 mm: below it, platforms may round differently.
    return round((about + offset + 180) % 360 - 180, 9)


def _transformed(shape: BaseGeometry, crs: CRS) -> BaseGeometry:
    """Coordinates from another CRS, edges cut into pieces before."""
    import numpy as np
    import shapely
    from pyproj import Transformer

    west, south, east, north = shape.bounds
    dense = shapely.segmentize(shape, max(east - west, north - south) / _SIDES)
    transform = Transformer.from_crs(crs, WGS84, always_xy=True).transform
    lonlat = shapely.transform(dense, transform, interleaved=False)
    if not np.isfinite(shapely.get_coordinates(lonlat)).all():
        where = f"x={west:g}, y={south:g}"
        raise BadInputError(f"not on the globe: {where} and beyond lies outside {crs_name(crs)}, is that its CRS?")
    return lonlat


def _unrolled(part: Polygon) -> Polygon:
    """A polygon whose longitudes run on beyond 180 instead of jumping to -180."""
    import numpy as np
    from shapely import Polygon, get_coordinates

    shell = _unrolled_ring(get_coordinates(part.exterior))
    middle = float(shell[:, 0].mean())
    holes = []
    for interior in part.interiors:
        hole = _unrolled_ring(get_coordinates(interior))
        hole[:, 0] += 360 * np.round((middle - hole[:, 0].mean()) / 360)
        holes.append(hole)
    return Polygon(shell, holes)


def _unrolled_ring(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitude and latitude, (n, 2) float64 degrees, without jumps; closed along a pole inside it."""
    import numpy as np

    steps = np.diff(ring[:, 0])
    # An edge of exactly 360 degrees is the rim of a whole-world rectangle, not a jump.
    jumps = np.where((np.abs(steps) > 180) & (np.abs(steps) < 360), -np.sign(steps), 0).cumsum()
    unrolled = ring.copy()
    unrolled[1:, 0] += 360 * jumps
    if round(jumps[-1]) == 0:
        return unrolled
    pole = math.copysign(90, ring[:, 1].mean())
    corners = np.array([[unrolled[-1, 0], pole], [unrolled[0, 0], pole], unrolled[0]])
    return np.vstack([unrolled, corners])


def _wrapped(shape: BaseGeometry) -> list[BaseGeometry]:
    """A shape cut into worlds of 360 degrees, each moved back to -180 to 180."""
    import shapely

    west, _, east, _ = shape.bounds
    if west >= -180 and east <= 180:
        return [shape]
    pieces = []
    for world in range(math.floor((west + 180) / 360), math.ceil((east - 180) / 360) + 1):
        cut = shape.intersection(shapely.box(360 * world - 180, -90, 360 * world + 180, 90))
        if cut.area > 0:
            pieces.append(shapely.transform(cut, lambda xy, shift=360 * world: xy - [shift, 0]))
    return pieces
