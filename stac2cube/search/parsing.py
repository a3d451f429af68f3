"""Check items as catalogs deliver them: required fields, footprints, old asset keys."""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from shapely import make_valid
from shapely.errors import ShapelyError
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError, CatalogError, ItemError
from stac2cube.model.geometry import WGS84, crs_name, numbers_of, parse_crs, polygons_of, sides_in_metres, to_wgs84
from stac2cube.model.mission import Band, Mission
from stac2cube.model.scene import Item, is_zarr_array, tile_of, time_of

# Any JSON value as a STAC item whose fields have the required types, or the reason why it is not an item.
#
# Catalogs are written by many programs. All forms that a specification allows are read. Invalid values are left out of
# the item if they are irrelevant; otherwise the item as a whole is left out. Such an item never stops the others.

log = logging.getLogger(__name__)


def parse_item(value: Any) -> Item:
    """Check a value and return it as a STAC item with a text as id, properties, and assets that all have an address.

    Valid items are returned unchanged. An id that is a number is converted to a text. An invalid cloud cover is set to
    None; a cloud cover given as a text is converted. Assets without an address are left out.

    Args:
        value: Parsed JSON.

    Raises:
        ItemError: It is not an item, or lacks a time or geometry.
    """
    if not isinstance(value, Mapping):
        raise ItemError(f"something that is not a STAC item: {value!r:.60}")
    name = value.get("id")
    if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
        raise ItemError(f"something that is not a STAC item: its id is {name!r:.60}")
    for key in ("properties", "assets"):
        if not isinstance(value.get(key), Mapping):
            raise ItemError(f"item {name} is not a STAC item: it has no {key}")
    collection = value.get("collection")
    if collection is not None and not isinstance(collection, str):
        raise ItemError(f"item {name} has a collection that is no text: {collection!r:.60}")
    if not isinstance(value.get("geometry"), Mapping):
        raise ItemError(f"item {name} has no geometry")
    changes: dict[str, Any] = {} if isinstance(name, str) else {"id": str(name)}
    sound = {key: asset for key, asset in value["assets"].items() if _has_address(asset)}
    if len(sound) < len(value["assets"]):
        changes["assets"] = sound
    if (said := value["properties"].get("eo:cloud_cover")) is not None:
        cover = _percentage(said)
        if cover is None or isinstance(said, str):
            changes["properties"] = {**value["properties"], "eo:cloud_cover": cover}
    item = {**value, **changes} if changes else value
    time_of(item)
    return item


def _has_address(asset: Any) -> bool:
    # The check of the type is faster than that of the abstract class; nearly all assets are dicts.
    plain = type(asset) is dict or isinstance(asset, Mapping)
    return plain and isinstance(asset.get("href"), str) and bool(asset["href"].strip())


def _percentage(said: Any) -> float | None:
    """A number from 0 to 100, also parsed from a text; None for anything else."""
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None
    try:
        number = float(said.strip().removesuffix("%") if isinstance(said, str) else said)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 <= number <= 100 else None


@dataclass
class Notes:
    """What a search reports besides the items it found.

    Attributes:
        left_out: Why an item was left out, by its id, or by a number where it has none.
        met: Ids of all items that the catalog returned, used or not.
        deprecated: Ids of items that their catalog marks as deprecated.
        strangers: Ids of items of platforms that the mission does not have.
        elsewhere: Number of items by collection, for collections that are not the mission's.
        incomplete: Why there may be more items than were found, "" if there is no sign of that.
    """

    left_out: dict[str, str] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    deprecated: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    elsewhere: Counter[str] = field(default_factory=Counter)
    incomplete: str = ""

    def leave_out(self, value: Any, error: CatalogError) -> None:
        """Record why an item is left out."""
        name = value.get("id") if isinstance(value, Mapping) else None
        self.left_out[str(name) if isinstance(name, (str, int)) else f"#{len(self.left_out) + 1}"] = str(error)

    def say(self, catalog: str) -> None:
        """Log the notes, once for all items."""
        if self.left_out:
            log.warning(
                "%s: left out %d items: %s", catalog, len(self.left_out), counted_reasons(self.left_out.values())
            )
        if self.deprecated:
            log.info("%s: left out %d deprecated items: %s", catalog, len(self.deprecated), _some(self.deprecated))
        if self.incomplete:
            log.warning("%s: the search may be incomplete: %s", catalog, self.incomplete)

    def why_nothing(self) -> str:
        """Why a search found no usable scene, as far as its items show."""
        reasons = []
        if self.left_out:
            reasons.append(f"{len(self.left_out)} items cannot be used: {counted_reasons(self.left_out.values())}")
        if self.strangers:
            reasons.append(f"{len(self.strangers)} items are of unknown platforms, as {min(self.strangers)}")
        if self.elsewhere:
            names = ", ".join(f"{name} ({count})" for name, count in self.elsewhere.most_common(5))
            reasons.append(f"it has items of other collections, {names}")
        return "; ".join(reasons)


def _some(names: Iterable[str], most: int = 3) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (" ..." if len(ordered) > most else "")


def counted_reasons(reasons: Iterable[str], most: int = 6) -> str:
    """Reasons with their counts, the most frequent first; reasons that differ only in the item's id count as one kind.

    Args:
        reasons: Sentences that name an item, ``"item X has no geometry"``.
        most: Number of kinds that are listed; of the others only their number is given.
    """
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(_kind(reason), []).append(reason)
    ordered = sorted(kinds.values(), key=lambda members: -len(members))
    texts = [members[0] if len(members) == 1 else f"{len(members)} x {_joined(members)}" for members in ordered[:most]]
    more = sum(map(len, ordered[most:]))
    return "; ".join([*texts, f"and {more} more"] if more else texts)


def _kind(reason: str) -> str:
    """A reason without the id of the item at its beginning."""
    words = reason.split(" ", 2)
    return words[2] if words[0] == "item" and len(words) == 3 else reason


def _joined(members: list[str]) -> str:
    names = [member.split(" ", 2)[1] for member in members if member.startswith("item ")]
    others = ", ".join(names[1:4]) + (" ..." if len(names) > 4 else "")
    return members[0] + (f" (also {others})" if others else "")


# The location of an item: its footprint on the globe, and the CRS and corner of its bands.


def footprint_of(item: Item) -> BaseGeometry:
    """The item's footprint: valid polygons in WGS84, split at the antimeridian, however the item crosses it.

    Raises:
        ItemError: It has no geometry, or an invalid one.
    """
    if not item.get("geometry"):
        raise ItemError(f"item {item['id']} has no geometry")
    try:
        drawn = shapely.force_2d(_shape_of(item["geometry"]))
        if drawn.is_empty:
            raise ValueError("it is empty")
        west, south, east, north = drawn.bounds
        if not (-361 <= west <= east <= 541 and -91 <= south <= north <= 91):
            raise ValueError(f"it runs from {west:g}, {south:g} to {east:g}, {north:g}, which are no degrees")
        # A shape that seems to span the globe is across the antimeridian or around a pole. It is split before it is
        # repaired: a repair may cut it into pieces.
        if east - west > 180 and any(east - west > 180 for west, _, east, _ in _boxes_of(drawn)):
            drawn = to_wgs84(polygons_of(drawn), parse_crs(WGS84), repair=True)
        valid = drawn if drawn.is_valid else make_valid(drawn)
        if valid.geom_type not in ("Polygon", "MultiPolygon"):
            valid = polygons_of(valid)
        west, _, east, _ = valid.bounds
        lying = to_wgs84(valid, parse_crs(WGS84)) if west < -180 or east > 180 else valid
        if lying.is_empty or not lying.area > 0:
            raise ValueError("it covers nothing")
        return lying
    except (
        *(ShapelyError, BadInputError, ValueError, TypeError, AttributeError, KeyError, IndexError),
        *(OverflowError, RecursionError),  # integers too large for a float; lists in lists in lists
    ) as error:
        raise ItemError(f"item {item['id']} has a geometry that is none: {error!s:.200}") from error


def _boxes_of(drawn: BaseGeometry) -> list[list[float]]:
    """West, south, east and north of each polygon of a shape, also of a collection."""
    boxes: list[list[float]] = shapely.bounds(shapely.get_parts(polygons_of(drawn))).tolist()
    return boxes


def _shape_of(said: Mapping[str, Any]) -> BaseGeometry:
    """A shape from GeoJSON; for a single ring, the usual case, three times as fast as shapely's ``shape``."""
    if said.get("type") == "Polygon" and len(said["coordinates"]) == 1:
        ring = np.asarray(said["coordinates"][0])
        if ring.dtype.kind in "if" and ring.ndim == 2 and ring.shape[1] in (2, 3):
            return shapely.polygons(ring)
    return shape(said)


def declared_box(item: Item) -> BaseGeometry | None:
    """The item's ``bbox`` in WGS84; None if it is missing, invalid, or crosses the antimeridian."""
    said = item.get("bbox")
    numbers = numbers_of(said)
    if len(numbers) not in (4, 6):
        return None
    half = len(numbers) // 2
    west, south, east, north = numbers[0], numbers[1], numbers[half], numbers[half + 1]
    return box(west, south, east, north) if west <= east and south <= north else None


@dataclass(frozen=True)
class Footprint:
    """CRS and corner of an item's pixels.

    Attributes:
        crs: ``"EPSG:32632"`` or WKT; "" if not declared.
        corner: x and y of the upper left corner, None if not declared.
    """

    crs: str
    corner: tuple[float, float] | None


def place_of(
    item: Item,
    present: Sequence[tuple[Band, Mapping[str, Any]]],
    mission: Mission,
    every_asset: Callable[[], Sequence[Mapping[str, Any]]],
) -> Footprint:
    """CRS and corner of the requested bands, declared by their assets, else by the item, else by its other bands.

    Previews, thumbnails and other files are ignored. An item of Sentinel-2 that declares no CRS is in the UTM zone that
    its tile's code begins with (ESA, Sentinel-2 tiling grid).

    Args:
        item: The item.
        present: The requested bands, with their assets.
        mission: The mission of the item.
        every_asset: Returns the assets of all bands of the mission; called if the requested bands do not declare
            enough.

    Raises:
        ItemError: Requested bands are in different CRSs, or their corners are more than a pixel apart.
    """
    properties, assets = item["properties"], [asset for _, asset in present]
    said = {band.name: crs for band, asset in present if (crs := declared_crs(asset))}
    if len(set(said.values())) > 1:
        words = ", ".join(f"{name} in {crs}" for name, crs in said.items())
        raise ItemError(f"item {item['id']} contradicts itself: its bands lie in different CRSs, {words:.300}")
    lattices = [lattice for asset in assets if (lattice := declared_lattice(asset))]
    for x, y, pixel in lattices[1:]:
        most = max(pixel, lattices[0][2])
        if abs(x - lattices[0][0]) > most or abs(y - lattices[0][1]) > most:
            raise ItemError(
                f"item {item['id']} contradicts itself: by proj:transform its bands begin at {lattices[0][0]:.9g}, "
                f"{lattices[0][1]:.9g} and at {x:.9g}, {y:.9g}"
            )
    crs = next(iter(said.values()), "") or declared_crs(properties)
    lattice = next(iter(lattices), None) or declared_lattice(properties)
    if not crs or not lattice:
        others = every_asset()
        crs = crs or _first(map(declared_crs, others)) or ""
        lattice = lattice or _first(map(declared_lattice, others))
    if lattice is None and any(is_zarr_array(str(asset.get("href"))) for asset in assets):
        lattice = _corner_of_bbox(properties)
    if not crs and mission.identity == "sentinel-2":
        crs = utm_of_tile(tile_of(item))
    return Footprint(crs, (lattice[0], lattice[1]) if lattice else None)


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value), None)


def declared_crs(place: Mapping[str, Any]) -> str:
    """The CRS that an asset or properties declare by the projection extension, "" if there is none or it is invalid.

    Tables with gaps turn 32632 into 32632.0 and a missing code into "EPSG:None".
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
    if crs or not isinstance(projjson, dict):
        return crs
    try:
        return _known_crs(json.dumps(projjson))
    except RecursionError:
        return ""


@lru_cache(maxsize=256)
def _known_crs(text: str) -> str:
    try:
        return crs_name(parse_crs(text.strip())) if text.strip() else ""
    except BadInputError:
        return ""


_FARTHEST = 1e8
"""Upper limit of map coordinates on the Earth: four times its circumference in metres."""


def declared_lattice(place: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """X and y of the upper left corner, and the pixel's edge, by ``proj:transform``; None if not declared.

    GDAL's order (x, width, 0, y, 0, height) is accepted too. It is distinguishable from STAC's order, in which the
    fifth number, the pixel's height, is never zero.
    """
    said = place.get("proj:transform")
    numbers = numbers_of(said[:6]) if isinstance(said, (list, tuple)) else []
    if len(numbers) < 6 or max(map(abs, numbers)) > _FARTHEST:
        return None
    if not (numbers[0] or numbers[1]):  # pixels without a width
        return None
    if numbers[1] and numbers[5] and not numbers[2] and not numbers[4]:
        return numbers[0], numbers[3], abs(numbers[1])
    return numbers[2], numbers[5], abs(numbers[0])


def _corner_of_bbox(properties: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """The same by ``proj:bbox`` in metres; some EOPF items have it in degrees, against the extension."""
    sides = sides_in_metres(properties.get("proj:bbox"))
    return (sides[0], sides[3], 1.0) if sides else None


def utm_of_tile(tile: str) -> str:
    """The CRS of a Sentinel-2 tile by its code, ``"32TPT"`` (ESA, tiling grid); "" for an invalid code."""
    found = re.fullmatch(r"(\d{2})([C-HJ-NP-X])[A-Z]{2}", tile)
    if found is None or not 1 <= int(found[1]) <= 60:
        return ""
    return f"EPSG:{(32600 if found[2] >= 'N' else 32700) + int(found[1])}"


# Assets of Landsat items by the first names that the USGS used: the ends of their file names, ``SR_B2.TIF``.
#
# Band numbers mean other colours on TM and ETM+ (Landsat 4 to 7) than on OLI (8 and 9): USGS, Landsat Collection 2
# Level-2 Science Product Guides, LSDS-1618 and LSDS-1619. Current items name assets by their common names.

_TM = {"1": "blue", "2": "green", "3": "red", "4": "nir08", "5": "swir16", "7": "swir22"}
_OLI = {"1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "nir08", "6": "swir16", "7": "swir22"}
_OLD = re.compile(r"(?:.*_)?(SR_B(\d)|ST_B(?:6|10)|QA_PIXEL|QA_RADSAT)\.TIF", re.IGNORECASE)
_PRODUCT = re.compile(r"L([COET])0(\d)_")


def assets_of_today(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Assets of an item by their current names; current names, and assets of other missions, remain unchanged."""
    assets: Mapping[str, Any] = item["assets"]
    old = {key: match for key in assets if (match := _OLD.fullmatch(key))}
    product = _PRODUCT.match(str(item["id"])) if old else None
    if product is None:
        return assets
    numbers = _OLI if int(product[2]) >= 8 else _TM
    named = {key: _name(match, numbers) for key, match in old.items()}
    return {named.get(key) or key: asset for key, asset in assets.items()}


def _name(match: re.Match[str], numbers: Mapping[str, str]) -> str:
    if match[2]:
        return numbers.get(match[2], "")
    word = match[1].upper()
    return "lwir" if word.startswith("ST") else word.lower()
