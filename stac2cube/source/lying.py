"""Where an item lies: its footprint on the globe, and the CRS and corner of its bands."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely import make_valid, transform
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError, ItemError
from stac2cube.globe import WGS84, crs_name, parse_crs, polygons_of, to_wgs84
from stac2cube.mission import Band
from stac2cube.source.identity import Item, tile_of

if TYPE_CHECKING:
    from stac2cube.source.items import Reading


def footprint_of(item: Item) -> BaseGeometry:
    """Where the item lies: valid polygons in WGS84, split at the antimeridian, whichever way the item crosses it.

    Raises:
        ItemError: It has no geometry, or one that cannot be understood.
    """
    if not item.get("geometry"):
        raise ItemError(f"item {item['id']} has no geometry")
    try:
        drawn = shapely.force_2d(shape(item["geometry"]))
        if drawn.is_empty:
            raise ValueError("it is empty")
        west, south, east, north = drawn.bounds
        if not (-361 <= west <= east <= 541 and -91 <= south <= north <= 91):
            raise ValueError(f"it runs from {west:g}, {south:g} to {east:g}, {north:g}, which are no degrees")
        # Only what runs beyond 180 degrees, or seems to span the globe, lies across the antimeridian.
        if east - west > 180 and drawn.geom_type == "Polygon":
            # Unrolled before it is repaired: a repair may cut what seems to span the globe into pieces.
            drawn = transform(drawn, lambda points: points + np.where(points < 0, [360.0, 0.0], 0.0))
        valid = drawn if drawn.is_valid else make_valid(drawn)
        if valid.geom_type not in ("Polygon", "MultiPolygon"):
            valid = polygons_of(valid)
        west, _, east, _ = valid.bounds
        lying = to_wgs84(valid, parse_crs(WGS84)) if west < -180 or east > 180 else valid
        if lying.is_empty or not lying.area > 0:
            raise ValueError("it covers nothing")
        return lying
    except (ShapelyError, BadInputError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise ItemError(f"item {item['id']} has a geometry that is none: {error!s:.200}") from error


@dataclass(frozen=True)
class Lying:
    """Where the pixels of an item lie.

    Attributes:
        crs: ``"EPSG:32632"`` or WKT; "" if the item does not say.
        corner: x and y of the upper left corner, None if the item does not say.
    """

    crs: str
    corner: tuple[float, float] | None


def place_of(item: Item, present: Sequence[tuple[Band, Mapping[str, Any]]], reading: Reading) -> Lying:
    """CRS and corner of the bands asked for: as their assets say, else the item, else its other bands.

    What previews, thumbnails and other files say never counts. An item of Sentinel-2 that says nothing lies in the UTM
    zone that its tile's code begins with (ESA, Sentinel-2 tiling grid).

    Args:
        item: The item.
        present: The bands asked for, with their assets.
        reading: How the item is read.

    Raises:
        ItemError: Bands that are asked for lie in different CRSs, or more than a pixel apart.
    """
    properties, assets = item["properties"], [asset for _, asset in present]
    said = {band.name: crs for band, asset in present if (crs := declared_crs(asset))}
    if len(set(said.values())) > 1:
        words = ", ".join(f"{name} in {crs}" for name, crs in said.items())
        raise ItemError(f"item {item['id']} contradicts itself: its bands lie in different CRSs, {words:.300}")
    lattices = [lattice for asset in assets if (lattice := _lattice(asset))]
    for x, y, pixel in lattices[1:]:
        most = max(pixel, lattices[0][2])
        if abs(x - lattices[0][0]) > most or abs(y - lattices[0][1]) > most:
            raise ItemError(
                f"item {item['id']} contradicts itself: by proj:transform its bands begin at {lattices[0][0]:.9g}, "
                f"{lattices[0][1]:.9g} and at {x:.9g}, {y:.9g}"
            )
    crs = next(iter(said.values()), "") or declared_crs(properties)
    lattice = next(iter(lattices), None) or _lattice(properties)
    if not crs or not lattice:
        chosen = reading.with_every_band.assets_of(item)
        others = [asset for _, asset in chosen[1]] if chosen else []
        crs = crs or _first(map(declared_crs, others)) or ""
        lattice = lattice or _first(map(_lattice, others))
    if not crs and reading.mission.identity == "sentinel-2":
        crs = _utm_of_tile(tile_of(item))
    return Lying(crs, (lattice[0], lattice[1]) if lattice else None)


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value), None)


def declared_crs(place: Mapping[str, Any]) -> str:
    """What an asset or properties declare by the projection extension, "" if nothing, or nothing that is a CRS.

    Tables with gaps make 32632.0 of 32632 and "EPSG:None" of nothing.
    """
    code, epsg = place.get("proj:code"), place.get("proj:epsg")
    if isinstance(code, str) and (crs := _known_crs(code)):
        return crs
    if isinstance(epsg, (int, float, str)) and not isinstance(epsg, bool):
        digits = re.fullmatch(r"\s*(?:EPSG:)?(\d{4,6})(?:\.0*)?\s*", str(epsg))
        if digits and (crs := _known_crs(f"EPSG:{digits[1]}")):
            return crs
    wkt, projjson = place.get("proj:wkt2"), place.get("proj:projjson")
    crs = _known_crs(wkt) if isinstance(wkt, str) else ""
    return crs or (_known_crs(json.dumps(projjson)) if isinstance(projjson, dict) else "")


@lru_cache(maxsize=256)
def _known_crs(text: str) -> str:
    try:
        return crs_name(parse_crs(text.strip())) if text.strip() else ""
    except BadInputError:
        return ""


def _lattice(place: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """X and y of the upper left corner, and the pixel's edge, by ``proj:transform``; None if it is not said.

    Also in GDAL's order (x, width, 0, y, 0, height), which is none of STAC's, since no pixel has its width there.
    """
    said = place.get("proj:transform")
    if not isinstance(said, (list, tuple)) or len(said) < 6:
        return None
    if not all(isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in said[:6]):
        return None
    if said[1] and said[5] and not said[2] and not said[4]:
        return float(said[0]), float(said[3]), abs(float(said[1]))
    return float(said[2]), float(said[5]), abs(float(said[0]))


def _utm_of_tile(tile: str) -> str:
    found = re.fullmatch(r"(\d{2})([C-HJ-NP-X])[A-Z]{2}", tile)
    if found is None or not 1 <= int(found[1]) <= 60:
        return ""
    return f"EPSG:{(32600 if found[2] >= 'N' else 32700) + int(found[1])}"
