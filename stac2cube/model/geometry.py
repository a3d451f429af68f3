"""Areas of interest: user input as polygons on the globe, with GeoJSON and map projections."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stac2cube.errors import BadInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyproj import CRS
    from shapely.geometry import Polygon
    from shapely.geometry.base import BaseGeometry


# Numbers from documents of other sources.


def numbers_of(said: Any) -> list[float]:
    """A list of finite numbers. Anything else gives an empty list, also integers too large for a float."""
    if not isinstance(said, (list, tuple)):
        return []
    try:
        numbers = [float(n) for n in said if isinstance(n, (int, float)) and not isinstance(n, bool)]
    except OverflowError:
        return []
    return numbers if len(numbers) == len(said) and all(map(math.isfinite, numbers)) else []


def sides_in_metres(said: Any) -> tuple[float, float, float, float] | None:
    """West, south, east, north of a valid ``proj:bbox`` in metres; else None, also if it is in degrees."""
    numbers = numbers_of(said)
    if len(numbers) != 4:
        return None
    west, south, east, north = numbers
    return (west, south, east, north) if max(map(abs, numbers)) > 360 and west < east and south < north else None


# Shapes on the globe: from any CRS to WGS84 polygons, split at the antimeridian.

WGS84 = "EPSG:4326"

_SIDES = 64
"""Number of pieces into which an edge is cut before reprojection, because straight lines become curves."""

_MOST_SIDES = 1024
"""And into no more than this."""


def parse_crs(crs: object) -> CRS:
    """A CRS from an EPSG code, a WKT or PROJ text, or an object with a CRS.

    Raises:
        BadInputError: There is no such CRS, or it is not a projected or geographic CRS of the Earth (vertical, a
            building site, the Moon).
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        # EPSG:4326 and OGC:CRS84 differ in axis order only; here longitude always comes first.
        made = CRS.from_user_input(crs)
    except (CRSError, TypeError, ValueError) as error:
        raise BadInputError(f"unknown CRS {crs!r}: use an EPSG code such as EPSG:32632") from error
    # The ellipsoids of the Earth differ from that of WGS84 by less than a thousandth.
    radius = made.ellipsoid.semi_major_metre if made.ellipsoid else 0.0
    if not (made.is_projected or made.is_geographic) or abs(radius - 6_378_137.0) > 30_000:
        raise BadInputError(f"CRS {made.name!r} has no places on a map of the Earth: use one such as EPSG:32632")
    return made


def crs_name(crs: CRS) -> str:
    """``"EPSG:n"`` where the CRS has a code, else its WKT; every WGS84 in degrees is ``"EPSG:4326"``."""
    if is_wgs84(crs):
        return WGS84
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg is not None else str(crs.to_wkt())


def is_wgs84(crs: CRS) -> bool:
    """Whether coordinates in this CRS are WGS84 degrees, in any axis order."""
    return bool(crs.equals(WGS84, ignore_axis_order=True))


def utm_code(longitude: float, latitude: float) -> str:
    """The WGS84 / UTM zone of a point, ``"EPSG:326zz"`` in the north and ``"EPSG:327zz"`` in the south.

    Zones are 6 degrees wide and counted from 180 W. The exceptions of Norway and Svalbard are ignored: EPSG's areas
    of use do not have them, and for a square of some kilometres the neighbouring zone is as good.

    Raises:
        BadInputError: UTM ends at 80 S and 84 N.
    """
    if not -80 <= latitude <= 84:
        raise BadInputError(f"UTM has no zone at latitude {latitude:g}: give a polygon in a polar CRS instead")
    zone = math.floor((longitude + 180) / 6) % 60 + 1
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"


def to_wgs84(shape: BaseGeometry, crs: CRS, *, repair: bool = False) -> BaseGeometry:
    """Polygons of any CRS as WGS84 longitude and latitude, split at the antimeridian.

    WGS84 input may have longitudes up to 360. An edge that spans more than 180 (and less than 360) degrees takes the
    shorter way across the antimeridian. A ring around a pole is closed along the pole.

    Args:
        shape: Valid Polygon or MultiPolygon, two-dimensional.
        crs: CRS of its coordinates.
        repair: Repair a WGS84 polygon that becomes invalid when it is unrolled across the antimeridian, instead of
            refusing it.

    Returns:
        Valid Polygon or MultiPolygon, every part within -180 to 180 degrees.

    Raises:
        BadInputError: Coordinates are outside the domain of the CRS, or the polygon becomes invalid when it is unrolled
            across the antimeridian.
    """
    import shapely

    degrees = is_wgs84(crs)
    lonlat = shape if degrees else _transformed(shape, crs)
    parts = [_unrolled(part) for part in getattr(lonlat, "geoms", [lonlat])]
    if degrees and not repair:
        for part in parts:
            if not part.is_valid:
                raise BadInputError(invalid_text(part))
    # Reprojection can make edges touch that were almost touching. This shape is for searching; the native one is exact.
    parts = [part if part.is_valid else shapely.make_valid(part) for part in parts]
    return polygons_of(shapely.union_all([piece for part in parts for piece in _wrapped(part)]))


@lru_cache(maxsize=32)
def _between(crs: Hashable, target: Hashable) -> tuple[bool, Callable[..., Any] | None]:
    """Whether a CRS is WGS84 in degrees, and what brings x and y into another; None where both are the same."""
    from pyproj import Transformer

    source, wanted = parse_crs(crs), parse_crs(target)
    same = source.equals(wanted, ignore_axis_order=True)
    return is_wgs84(source), None if same else Transformer.from_crs(source, wanted, always_xy=True).transform


def shape_in(shape: BaseGeometry, crs: Hashable, target: Hashable, tolerance: float = 0.0) -> BaseGeometry:
    """A geometry in another CRS, its long edges bent: a straight line in degrees is a curve on a map.

    Polygons in WGS84 may cross the antimeridian, as in :func:`to_wgs84`; their longitudes then run on beyond 180.

    Args:
        shape: Two-dimensional geometry of any type.
        crs: Its CRS.
        target: The CRS that is wanted.
        tolerance: Edges that would bend by no more than this stay straight, units of ``target``.

    Returns:
        The same type of geometry, x first.
    """
    import numpy as np
    import shapely

    degrees, transform = _between(crs, target)
    is_polygon = shape.geom_type in ("Polygon", "MultiPolygon") and not shape.is_empty
    if is_polygon and degrees:
        parts = [_unrolled(part) for part in shapely.get_parts(shape)]
        shape = parts[0] if shape.geom_type == "Polygon" else shapely.MultiPolygon(parts)
    if shape.is_empty or transform is None:
        return shape
    lines = shapely.get_rings(shape) if is_polygon else shapely.get_parts(shape)
    points, line = shapely.get_coordinates(lines, return_index=True)
    edges = line[1:] == line[:-1]
    ends = np.column_stack(transform(*points.T))
    middles = np.column_stack(transform(*((points[1:] + points[:-1]) / 2)[edges].T))
    bend = float(np.abs(middles - ((ends[1:] + ends[:-1]) / 2)[edges]).max(initial=0.0))
    if not bend <= tolerance:
        longest = float(np.hypot(*np.diff(points, axis=0)[edges].T).max())
        # An edge half as long bends a quarter as much.
        pieces = math.ceil(math.sqrt(bend / tolerance)) if tolerance and math.isfinite(bend) else _SIDES
        shape = shapely.segmentize(shape, (longest or 1.0) / min(pieces, _MOST_SIDES))
    return shapely.transform(shape, transform, interleaved=False)


def polygons_of(shape: BaseGeometry) -> BaseGeometry:
    """The polygons of a shape, without the points and lines that set operations leave behind."""
    import shapely

    pieces = [p for p in shapely.get_parts(shapely.get_parts(shape)) if p.geom_type == "Polygon" and not p.is_empty]
    return pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)


def invalid_text(shape: BaseGeometry) -> str:
    """The reason why a polygon is invalid, where, and how to repair it."""
    import shapely

    # GEOS writes "Self-intersection[11.5 48.2]".
    return f"not a valid polygon ({shapely.is_valid_reason(shape)}): repair it, in QGIS with 'Fix geometries'"


def centre_longitude(shape: BaseGeometry) -> float:
    """Longitude of the centroid of WGS84 polygons, degrees, also for parts on both sides of the antimeridian."""
    parts = [(part.area, part.centroid.x) for part in getattr(shape, "geoms", [shape])]
    east = sum(area * math.sin(math.radians(x)) for area, x in parts)
    north = sum(area * math.cos(math.radians(x)) for area, x in parts)
    # The circular mean gives the side of the globe; relative to it a plain mean is exact.
    about: float = math.degrees(math.atan2(east, north))
    offset: float = sum(area * ((x - about + 180) % 360 - 180) for area, x in parts) / sum(area for area, _ in parts)
    # A billionth of a degree is 0.1 mm; results of different platforms may differ below that.
    return round((about + offset + 180) % 360 - 180, 9)


def _transformed(shape: BaseGeometry, crs: CRS) -> BaseGeometry:
    """Reproject a shape to WGS84, with edges densified first."""
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
    """A polygon whose longitudes continue beyond 180 instead of jumping to -180."""
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
    """A ring (n, 2) of longitude and latitude, float64 degrees, without jumps; closed along a pole that it encloses."""
    import numpy as np

    ring = _meeting_at_poles(ring)
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


def _meeting_at_poles(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ring with each single point at a pole, which has no longitude, split in two with neighbouring longitudes."""
    import numpy as np

    points = ring[:-1]
    polar = np.abs(points[:, 1]) > 90 - 1e-9
    alone = np.flatnonzero(polar & ~np.roll(polar, 1) & ~np.roll(polar, -1))
    if not alone.size:
        return ring
    opened = points.copy()
    opened[alone, 0] = np.roll(points[:, 0], -1)[alone]
    before = np.column_stack([np.roll(points[:, 0], 1)[alone], points[alone, 1]])
    opened = np.insert(opened, alone, before, axis=0)
    return np.vstack([opened, opened[:1]])


def _wrapped(shape: BaseGeometry) -> list[BaseGeometry]:
    """A shape cut at multiples of 360 degrees, each piece moved back to -180 to 180."""
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


# User input for an area of interest (path, text, numbers, shape) as named geometries.

FORMS = (
    "give a GeoJSON, GeoPackage, Shapefile or KML file, GeoJSON text, a box 'west,south,east,north', "
    "or a point 'lat,lon' with an edge length in metres"
)
"""The accepted forms, for error messages and for help texts."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBERS = re.compile(rf"{_NUMBER}(?:\s*[,;\s]\s*{_NUMBER})*", re.ASCII)
_JSON_SUFFIXES = (".json", ".geojson")


@dataclass(frozen=True)
class Feature:
    """One geometry of the input.

    Attributes:
        names: Candidate names (its ``name``, its ``id``), None where it lacks one. All features of one source have the
            same number of candidates.
        shape: Two-dimensional geometry of any type.
        crs: Its CRS.
    """

    names: tuple[str | None, ...]
    shape: BaseGeometry = field(repr=False)
    crs: CRS


def read_features(aoi: object, crs: CRS | None) -> tuple[str, list[Feature]]:
    """Features of an area in any form that :func:`stac2cube.model.geometry.read_areas` accepts.

    Args:
        aoi: See there.
        crs: CRS of coordinates without one; WGS84 if None.

    Returns:
        Name of the whole (the file's stem or ``"area"``) and its features; features without a geometry are left out.

    Raises:
        BadInputError: Not one of the accepted forms, or the file cannot be read.
    """
    from shapely.geometry.base import BaseGeometry

    if isinstance(aoi, str):
        return _from_text(aoi.strip(), crs)
    if isinstance(aoi, Path):
        return _file(str(aoi), crs)
    if isinstance(aoi, Mapping):
        return "area", _geojson(aoi, crs, "the area")
    if isinstance(aoi, BaseGeometry):
        return "area", [_feature((None,), aoi, crs or parse_crs(WGS84))]
    if hasattr(aoi, "geometry") and hasattr(aoi, "crs"):
        return "area", _frame(aoi, crs, "the area")
    values = aoi.tolist() if hasattr(aoi, "tolist") else aoi
    if isinstance(values, Sequence) and all(isinstance(v, Real) and not isinstance(v, bool) for v in values):
        return "area", [_from_numbers([float(v) for v in values], crs)]
    raise BadInputError(f"cannot read {reprlib.repr(aoi)} as an area: {FORMS}")


def _from_text(text: str, crs: CRS | None) -> tuple[str, list[Feature]]:
    """GeoJSON, numbers or a path."""
    if not text:  # a variable of a shell that is not set; as a path it would be the present folder
        raise BadInputError(f"the area is an empty text: {FORMS}")
    if text.startswith("{"):
        return "area", _geojson(_parsed(text, "the area"), crs, "the area")
    if _NUMBERS.fullmatch(text.strip("[]()")):
        return "area", [_from_numbers([float(number) for number in re.findall(_NUMBER, text)], crs)]
    return _file(text, crs)


def _from_numbers(numbers: list[float], crs: CRS | None) -> Feature:
    """A point (latitude, longitude) or a box (west, south, east, north)."""
    import shapely

    crs = crs or parse_crs(WGS84)
    if not all(math.isfinite(n) for n in numbers):
        raise BadInputError(f"area {numbers} holds a number that is not finite")
    if len(numbers) == 2:
        if not is_wgs84(crs):
            raise BadInputError("a point is 'lat,lon' in WGS84 degrees: leave the CRS out, or give a box")
        return _feature((None,), shapely.Point(numbers[1], numbers[0]), crs)
    if len(numbers) != 4:
        raise BadInputError(f"an area of {len(numbers)} numbers is neither a point (2) nor a box (4): {FORMS}")
    west, south, east, north = numbers
    degrees = is_wgs84(crs)
    if degrees and -180 <= east < west <= 180:
        east += 360
    if south >= north or west >= east:
        raise BadInputError(f"box {tuple(numbers)} is empty or reversed: the order is west,south,east,north")
    # Corners only, unless an edge spans half the globe: a longer edge would be read as crossing the antimeridian.
    box = shapely.box(west, south, east, north)
    return _feature((None,), shapely.segmentize(box, 90) if degrees else box, crs)


def _file(text: str, crs: CRS | None) -> tuple[str, list[Feature]]:
    """Features of a vector file."""
    location, _, layer = text.partition("|layername=")
    try:
        path = Path(location).expanduser()
        path.stat()  # not exists(), which from Python 3.14 on is False if a path cannot be accessed
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInputError(f"area {text!r}: there is no such file; {FORMS}") from error
    # Too long for a file name, a folder without permission, an unknown ~user, a null character.
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInputError(f"area {reprlib.repr(text)} cannot be a file ({type(error).__name__}); {FORMS}") from error
    stem = _fit(layer or path.stem) or "area"
    if path.suffix.lower() in _JSON_SUFFIXES:
        try:
            content = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"cannot read area {location}: {error}") from error
        return stem, _geojson(_parsed(content, location), crs, location)
    return stem, [feature for frame in _frames(path, layer) for feature in _frame(frame, crs, location)]


def _frames(path: Path, layer: str) -> Iterable[Any]:
    """The spatial layers of a file as GeoDataFrames: the named one, the only one, or all folders of a KML."""
    import geopandas
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, GeometryError

    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if layer:
            layers = [name for name in layers if name == layer] or [layer]
        elif len(layers) > 1 and path.suffix.lower() not in (".kml", ".kmz"):
            raise BadInputError(
                f"area {path} has several layers ({', '.join(layers)}): choose one with '{path}|layername={layers[0]}'"
            )
        return [geopandas.read_file(path, layer=name) for name in layers]
    except (DataSourceError, DataLayerError, FeatureError, GeometryError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(f"cannot read area {path}: {reason}") from error


def _frame(frame: Any, crs: CRS | None, where: str) -> list[Feature]:
    """The rows of a GeoDataFrame or GeoSeries."""
    own = None if frame.crs is None else parse_crs(frame.crs)
    if own is None and crs is None:
        raise BadInputError(
            f"{where} does not say its CRS: store it with one (set_crs of GeoPandas, 'Define projection' of QGIS), or "
            "say --aoi-crs EPSG:32632 where the command has that option"
        )
    used = _agreed(own, crs, where)
    columns = {str(column).lower(): frame[column] for column in getattr(frame, "columns", ())}
    rows = []
    for row, shape in enumerate(frame.geometry):
        if shape is None:
            continue
        names = (columns[key].iloc[row] if key in columns else None for key in ("name", "id"))
        rows.append(_feature(names, shape, used))
    return rows


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadInputError(f"{where} is not JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise BadInputError(f"{where} is JSON but not GeoJSON: a GeoJSON object has a 'type'")
    return value


def _geojson(value: Mapping[str, Any], crs: CRS | None, where: str) -> list[Feature]:
    """A GeoJSON geometry, feature or collection of features."""
    import shapely

    kind = value.get("type")
    if kind == "FeatureCollection":
        features = value.get("features")
    elif kind == "Feature":
        features = [value]
    else:
        features = [{"geometry": value, "properties": {}}]
    if not isinstance(features, list) or not all(isinstance(feature, Mapping) for feature in features):
        raise BadInputError(f"{where} is not GeoJSON: its 'features' are not a list of features")
    # GeoJSON before RFC 7946 could name its CRS; GDAL still writes that member for projected coordinates.
    member = value.get("crs")
    own = None
    if member is not None:
        properties = member.get("properties") if isinstance(member, Mapping) else None
        own = parse_crs(properties.get("name") if isinstance(properties, Mapping) else member)
    used = _agreed(own, crs, where)
    rows = []
    for feature in features:
        if feature.get("geometry") is None:
            continue
        try:
            shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        except (shapely.errors.GEOSException, TypeError, ValueError) as error:
            raise BadInputError(f"{where} is not GeoJSON: {str(error).splitlines()[0]}") from error
        properties = feature.get("properties") or {}
        rows.append(_feature((properties.get("name"), properties.get("id"), feature.get("id")), shape, used))
    return rows


def _agreed(own: CRS | None, crs: CRS | None, where: str) -> CRS:
    """The CRS of the data, the requested one, or WGS84."""
    if own is not None and crs is not None and not own.equals(crs, ignore_axis_order=True):
        raise BadInputError(f"{where} is in {crs_name(own)}, not in {crs_name(crs)}: leave the CRS out")
    return own or crs or parse_crs(WGS84)


def _feature(names: Iterable[object], shape: BaseGeometry, crs: CRS) -> Feature:
    """Names as text, heights dropped."""
    import shapely

    # A missing value of a table is NaN, the only value that differs from itself.
    texts = tuple(None if name is None or name != name else _fit(str(name)) or None for name in names)  # noqa: PLR0124
    return Feature(texts, shapely.force_2d(shape), crs)


def _fit(name: str) -> str:
    """A name reduced to characters that are safe in file names."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")


# Areas of interest: user input turned into polygons on the globe.


@dataclass(frozen=True)
class Area:
    """An area of interest.

    Attributes:
        name: The file's stem or ``"area"``; with one area per feature, the feature's name. Valid as a file name.
        geometry: Valid Polygon or MultiPolygon, WGS84 longitude and latitude, split at the antimeridian into parts
            within -180 to 180 degrees. For searching.
        native: The same area in the CRS of the input, not reprojected. The grid is derived from it.
        native_crs: CRS of ``native``, ``"EPSG:n"`` or WKT.
    """

    name: str
    geometry: BaseGeometry = field(repr=False)
    native: BaseGeometry = field(repr=False)
    native_crs: str

    @cached_property
    def longitude(self) -> float:
        """Centre longitude, degrees within -180 to 180, also for areas on both sides of the antimeridian."""
        return centre_longitude(self.geometry)

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in WGS84 degrees; west > east if the antimeridian is crossed (RFC 7946)."""
        west, south, east, north = self.geometry.bounds
        if west == -180 and east == 180:
            boxes = [part.bounds for part in getattr(self.geometry, "geoms", [self.geometry])]
            # The box leaves out the widest range of longitudes without any part of the area.
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
    """Parse an area of interest.

    Args:
        aoi: Path of a vector file (GeoJSON, GeoPackage, Shapefile, KML, and other formats of pyogrio; one layer of
            several as ``"PATH|layername=NAME"``), GeoJSON text or mapping, a box of four numbers (west, south, east,
            north; west > east in WGS84 crosses the antimeridian), a point of two numbers (**latitude, longitude**,
            with ``edge``), a shapely geometry (x first), a GeoDataFrame or GeoSeries.
        crs: CRS of coordinates without one; WGS84 if None.
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
    """The names, else the ids, if every feature has one and all differ (ignoring case); else the stem with numbers."""
    for column in zip(*(feature.names for feature in features), strict=True):
        names = [name for name in column if name]
        if len(names) == len(features) and max(Counter(name.lower() for name in names).values()) == 1:
            return names
    return [f"{stem}-{number}" for number in range(1, len(features) + 1)]


def _area(name: str, feature: Feature, edge: float | None) -> Area:
    """Check one feature and convert it to an area on the globe."""
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
    # Degrees are checked after unrolling across the antimeridian; before, a ring may seem to cross itself.
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
    """Refuse coordinates that do not fit their CRS.

    Degrees outside the globe are mostly metres, or swapped longitude and latitude. Metres small enough to be degrees
    and outside the area of use of the CRS are mostly degrees.
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
    """Several features as one area, in WGS84 if their CRS differ."""
    import shapely

    geometry = polygons_of(shapely.union_all([area.geometry for area in areas]))
    if len({area.native_crs for area in areas}) > 1:
        return Area(stem, geometry, geometry, WGS84)
    native = polygons_of(shapely.union_all([area.native for area in areas]))
    return Area(stem, geometry, native, areas[0].native_crs)
