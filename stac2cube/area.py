"""Area words: what a person gives for an area of interest, turned into polygons on the globe."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from stac2cube.errors import BadInputError
from stac2cube.feature import Feature, read_features
from stac2cube.globe import (
    WGS84,
    centre_longitude,
    crs_name,
    invalid_text,
    is_wgs84,
    parse_crs,
    polygons_of,
    to_wgs84,
    utm_code,
)

if TYPE_CHECKING:
    from pyproj import CRS
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class Area:
    """An area of interest.

    Attributes:
        name: The file's stem or ``"area"``; with one area per feature, the feature's name. Fit for a file name.
        geometry: Valid Polygon or MultiPolygon, WGS84 longitude and latitude, split at the antimeridian into parts
            within -180 to 180 degrees. For searching.
        native: The same area in the CRS in which it was given, unbent. For laying out the grid.
        native_crs: CRS of ``native``, ``"EPSG:n"`` or WKT.
    """

    name: str
    geometry: BaseGeometry = field(repr=False)
    native: BaseGeometry = field(repr=False)
    native_crs: str

    @cached_property
    def longitude(self) -> float:
        """Centre longitude, degrees within -180 to 180, also where the area lies on both sides of the antimeridian."""
        return centre_longitude(self.geometry)

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in WGS84 degrees; west > east says that the antimeridian is crossed (RFC 7946)."""
        west, south, east, north = self.geometry.bounds
        if west == -180 and east == 180:
            boxes = [part.bounds for part in getattr(self.geometry, "geoms", [self.geometry])]
            # The widest stretch of longitude without any of the area is what the box leaves out.
            edges = sorted((box[0], box[2]) for box in boxes)
            reach, gap = edges[0][1], 0.0
            for left, right in edges[1:]:
                if left - reach > gap:
                    gap, west, east = left - reach, left, reach
                reach = max(reach, right)
        return west, south, east, north


def read_areas(
    aoi: object, *, crs: str | None = None, edge: float | None = None, split: bool = False
) -> tuple[Area, ...]:
    """Understand an area of interest.

    Args:
        aoi: Path of a vector file (GeoJSON, GeoPackage, Shapefile, KML, and what else pyogrio reads; one layer of
            several as ``"PATH|layername=NAME"``), GeoJSON text or mapping, a box of four numbers (west, south, east,
            north; west > east in WGS84 crosses the antimeridian), a point of two numbers (**latitude, longitude**,
            with ``edge``), a shapely geometry (x first), a GeoDataFrame or GeoSeries.
        crs: CRS of coordinates that bring none; WGS84 if None.
        edge: Edge of the square around each point, metres in the point's UTM zone.
        split: One area per feature instead of their union.

    Returns:
        One area, or one per feature.

    Raises:
        BadInputError: Not one of these forms; a file that is missing or unreadable; an empty, self-crossing or
            lineal geometry; coordinates outside the CRS; an unknown CRS or one that contradicts the file's own.
    """
    if edge is not None and not (math.isfinite(edge) and edge > 0):
        raise BadInputError(f"the edge must be a positive number of metres, not {edge!r}")
    stem, features = read_features(aoi, None if crs is None else parse_crs(crs))
    if not features:
        raise BadInputError(f"area {stem!r} has no feature with a geometry")
    names = _names(stem, features) if split and len(features) > 1 else [stem] * len(features)
    areas = [_area(name, feature, edge) for name, feature in zip(names, features, strict=True)]
    return tuple(areas) if split or len(areas) == 1 else (_union(stem, areas),)


def _names(stem: str, features: list[Feature]) -> list[str]:
    """The first of name and id that every feature has and no two share (also on a file system without case)."""
    for column in zip(*(feature.names for feature in features), strict=True):
        names = [name for name in column if name]
        if len(names) == len(features) and max(Counter(name.lower() for name in names).values()) == 1:
            return names
    return [f"{stem}-{number}" for number in range(1, len(features) + 1)]


def _area(name: str, feature: Feature, edge: float | None) -> Area:
    """One feature checked and laid on the globe."""
    import shapely

    shape, crs = feature.shape, feature.crs
    if shape.is_empty:
        raise BadInputError(f"area {name!r} is empty")
    _check_range(name, shape, crs)
    kinds = sorted({part.geom_type for part in shapely.get_parts(shapely.get_parts(shape))})
    if kinds == ["Point"]:
        shape, crs = _squares(name, shape, crs, edge)
    elif kinds != ["Polygon"]:
        raise BadInputError(f"area {name!r} holds {', '.join(kinds)}: only polygons enclose pixels")
    elif edge is not None:
        raise BadInputError(f"area {name!r} is a polygon: an edge length goes with points only")
    shape = polygons_of(shape)
    degrees = is_wgs84(crs)
    # Degrees are checked once they are laid across the antimeridian, where a ring may seem to cross itself.
    if not degrees and not shape.is_valid:
        raise BadInputError(f"area {name!r} is {invalid_text(shape)}")
    try:
        geometry = to_wgs84(shape, crs)
    except BadInputError as error:
        raise BadInputError(f"area {name!r} is {error}") from error
    if geometry.area == 0:
        raise BadInputError(f"area {name!r} encloses nothing: all its points lie on one line")
    return Area(name, geometry, geometry if degrees else shape, crs_name(crs))


def _squares(name: str, shape: BaseGeometry, crs: CRS, edge: float | None) -> tuple[BaseGeometry, CRS]:
    """Squares around points, in the UTM zone of the first."""
    import shapely
    from pyproj import Transformer

    if edge is None:
        raise BadInputError(f"area {name!r} is a point: pass the edge length of the square around it in metres")
    lonlat = Transformer.from_crs(crs, WGS84, always_xy=True)
    points = [lonlat.transform(point.x, point.y) for point in shapely.get_parts(shape)]
    utm = parse_crs(utm_code(*points[0]))
    project = Transformer.from_crs(WGS84, utm, always_xy=True)
    half = edge / 2
    centres = [project.transform(*point) for point in points]
    return shapely.union_all([shapely.box(x - half, y - half, x + half, y + half) for x, y in centres]), utm


def _check_range(name: str, shape: BaseGeometry, crs: CRS) -> None:
    """Refuse coordinates that cannot be what their CRS says.

    Degrees beyond the globe are mostly metres, or longitude and latitude swapped; metres that would pass as degrees
    and lie outside the area where the CRS is used are mostly degrees.
    """
    import numpy as np
    import shapely
    from pyproj import Transformer

    coordinates = shapely.get_coordinates(shape)
    if not np.isfinite(coordinates).all():
        raise BadInputError(f"area {name!r} has coordinates that are not finite")
    x, y = np.abs(coordinates).max(axis=0)
    if crs.is_geographic:
        if x > 360:
            raise BadInputError(f"area {name!r} has longitudes up to {x:g}: pass the CRS of its coordinates")
        if y > 90:
            raise BadInputError(f"area {name!r} has latitudes up to {y:g}: longitude comes first, are they swapped?")
    elif x <= 360 and y <= 90 and crs.area_of_use is not None:
        west, south, east, north = crs.area_of_use.bounds
        lon, lat = Transformer.from_crs(crs, WGS84, always_xy=True).transform(shape.centroid.x, shape.centroid.y)
        within = west <= lon <= east if west <= east else lon >= west or lon <= east
        if not (within and south <= lat <= north):
            raise BadInputError(f"area {name!r} has coordinates in degrees, but {crs_name(crs)} is not in degrees")


def _union(stem: str, areas: list[Area]) -> Area:
    """Several features as one area; in WGS84 where they are given in different CRS."""
    import shapely

    geometry = polygons_of(shapely.union_all([area.geometry for area in areas]))
    if len({area.native_crs for area in areas}) > 1:
        return Area(stem, geometry, geometry, WGS84)
    native = polygons_of(shapely.union_all([area.native for area in areas]))
    return Area(stem, geometry, native, areas[0].native_crs)
