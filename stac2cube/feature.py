"""What a person gives for an area of interest - a path, a text, numbers, a shape - as named geometries."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stac2cube.errors import BadInputError
from stac2cube.globe import WGS84, crs_name, is_wgs84, parse_crs

if TYPE_CHECKING:
    from pyproj import CRS
    from shapely.geometry.base import BaseGeometry

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
    """One geometry as it was given.

    Attributes:
        names: What it may be called: its ``name``, its ``id``; None where it lacks one. All features of one source
            have equally many.
        shape: Two-dimensional geometry of any type.
        crs: Its CRS.
    """

    names: tuple[str | None, ...]
    shape: BaseGeometry = field(repr=False)
    crs: CRS


def read_features(aoi: object, crs: CRS | None) -> tuple[str, list[Feature]]:
    """Features of anything that :func:`stac2cube.area.read_areas` takes as an area.

    Args:
        aoi: See there.
        crs: CRS of coordinates that bring none; WGS84 if None.

    Returns:
        What the whole is called (the file's stem or ``"area"``) and its features; features without a geometry are left
        out.

    Raises:
        BadInputError: Not one of the accepted forms, or a file that cannot be read.
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
    # Corners only where no edge spans half the globe: a longer edge would read as one across the antimeridian.
    box = shapely.box(west, south, east, north)
    return _feature((None,), shapely.segmentize(box, 90) if degrees else box, crs)


def _file(text: str, crs: CRS | None) -> tuple[str, list[Feature]]:
    """Features of a vector file."""
    location, _, layer = text.partition("|layername=")
    try:
        path = Path(location).expanduser()
        path.stat()  # not exists(), which from Python 3.14 on is False where a path cannot be looked at
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInputError(f"area {text!r}: there is no such file; {FORMS}") from error
    # Too long for a file name, a folder nobody may enter, an unknown ~user, a null character.
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
        raise BadInputError(f"{where} does not say its CRS: pass one, for example crs='EPSG:32632'")
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
    """The CRS that the data name, the one that was asked for, or WGS84."""
    if own is not None and crs is not None and not own.equals(crs, ignore_axis_order=True):
        raise BadInputError(f"{where} is in {crs_name(own)}, not in {crs_name(crs)}: leave the CRS out")
    return own or crs or parse_crs(WGS84)


def _feature(names: Iterable[object], shape: BaseGeometry, crs: CRS) -> Feature:
    """Names as text, heights dropped."""
    import shapely

    # A missing value of a table is NaN, which alone differs from itself.
    texts = tuple(None if name is None or name != name else _fit(str(name)) or None for name in names)  # noqa: PLR0124
    return Feature(texts, shapely.force_2d(shape), crs)


def _fit(name: str) -> str:
    """A name with nothing in it that a file name should not have."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")
