"""Areas that were drawn, written or opened on the page."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stac2cube.area import Area, read_areas
from stac2cube.errors import BadInputError
from stac2cube.globe import WGS84, utm_code

_BESIDE = {".dbf", ".shx", ".prj", ".cpg", ".qix", ".sbn", ".sbx", ".xml"}
"""Suffixes of the files that belong to a Shapefile."""


@dataclass(frozen=True)
class Place:
    """An area, and how a recipe names it.

    Attributes:
        area: What it is.
        files: Files to lie beside the recipe, by name; the first is the area's. One without a name is called like the
            recipe.
        text: What a recipe says instead, "" where there are files.
    """

    area: Area
    files: Mapping[str, bytes] = field(hash=False, repr=False)
    text: str = ""


def read_place(said: Mapping[str, Any]) -> Place:
    """An area from what the page sends: ``ring`` that was drawn, ``text`` that was written, or ``files`` opened.

    Raises:
        BadInputError: It is none, or not an area.
    """
    if "files" in said:
        return _opened(said["files"])
    if "ring" in said:
        return _drawn(said["ring"])
    text = str(said.get("text") or "").strip()
    if not text:
        raise BadInputError("there is no area: draw one, open a file, or write its corners")
    if not re.fullmatch(r"[-+\d.,;\s\[\]()eE]+", text) and not text.startswith("{"):
        # A path would be read from this machine's disk: files are opened by their button.
        raise BadInputError("write a box as west, south, east, north, a point as lat, lon, or GeoJSON")
    edge = said.get("edge")
    (area,) = read_areas(text, edge=float(edge) if edge else None)
    if edge:
        return Place(area, {"": _geojson(area)})
    return Place(area, {"": text.encode()} if text.startswith("{") else {}, text)


def described(place: Place) -> dict[str, Any]:
    """An area for the page: outline, name, size, place."""
    import shapely
    from pyproj import Geod
    from shapely.geometry.polygon import orient

    area = place.area
    ellipsoid = Geod(ellps="WGS84")
    parts = [orient(part) for part in shapely.get_parts(area.geometry)]
    middle = area.geometry.representative_point()
    # Without its code the page can do: the poles have none.
    zone = utm_code(area.longitude, middle.y) if -80 <= middle.y <= 84 else ""
    return {
        "name": area.name,
        "geometry": json.loads(shapely.to_geojson(area.geometry)),
        "bounds": list(area.bounds),
        "km2": sum(abs(ellipsoid.geometry_area_perimeter(part)[0]) for part in parts) / 1e6,
        "crs": zone,
    }


def _drawn(ring: Any) -> Place:
    """A ring of longitudes and latitudes; longitudes may run on beyond 180 degrees."""
    import shapely

    if not isinstance(ring, Sequence) or len(ring) < 3:
        raise BadInputError("an area has three corners or more")
    try:
        corners = [(float(x), float(y)) for x, y in ring]
    except (TypeError, ValueError) as error:
        raise BadInputError(f"corners are longitudes and latitudes: {error}") from error
    turn = 360 if min(x for x, _ in corners) < -180 else 0
    closed = [(x + turn, y) for x, y in [*corners, corners[0]]]
    if not shapely.Polygon(closed).is_valid:
        raise BadInputError("its edges cross each other: draw it anew")
    (area,) = read_areas({"type": "Polygon", "coordinates": [closed]})
    return Place(area, {"": _geojson(area)})


def _opened(files: Any) -> Place:
    """Files that were opened on the page, read as from a disk."""
    if not isinstance(files, Sequence) or not files:
        raise BadInputError("no file was opened")
    content: dict[str, bytes] = {}
    for file in files:
        try:
            name, data = Path(str(file["name"])).name, base64.b64decode(str(file["data"]), validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            raise BadInputError(f"the page sent something that is no file: {error}") from error
        content[re.sub(r"[^\w.-]+", "-", name)[-100:].lstrip(".-") or "area"] = data
    ordered = sorted(content, key=lambda name: Path(name).suffix.lower() in _BESIDE)
    with TemporaryDirectory(prefix="stac2cube-") as folder:
        for name, data in content.items():
            (Path(folder) / name).write_bytes(data)
        try:
            (area,) = read_areas(Path(folder) / ordered[0])
        except BadInputError as error:
            raise BadInputError(str(error).replace(f"{folder}/", "")) from error
    return Place(area, {name: content[name] for name in ordered})


def _geojson(area: Area) -> bytes:
    import shapely

    shape = area.native if area.native_crs == WGS84 else area.geometry
    return (str(shapely.to_geojson(shape, indent=1)) + "\n").encode()
