"""Who an item is: platform, orbit, tile and version, by the rules of its mission, whatever the catalog."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stac2cube.errors import CatalogError
from stac2cube.mission import Mission

Item = Mapping[str, Any]
"""A STAC item as parsed JSON, version 1.0 or 1.1."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes an item the same in every catalog.

    Attributes:
        platform: Normalised, ``"sentinel-2a"``.
        orbit: Relative orbit, or the path of Landsat; 0 where the mission has none.
        tile: Tile or row; "" where there is none.
        datastrip: What reprocessing does not rename, and what tells granules of one tile apart.
        baseline: Version of the processing; newer ones sort later.
    """

    platform: str
    orbit: int
    tile: str
    datastrip: str
    baseline: str


def identify(item: Item, mission: Mission) -> Identity | None:
    """Who an item is, None if it is of none of the mission's platforms.

    Raises:
        CatalogError: It does not say what its mission's rule needs.
    """
    platform = platform_of(item, mission)
    return _RULES[mission.identity](item, platform) if platform else None


def _sentinel2(item: Item, platform: str) -> Identity:
    return Identity(platform, orbit_of(item, platform), tile_of(item), datastrip_of(item), baseline_of(item))


def _sentinel1(item: Item, platform: str) -> Identity:
    """Slices of one pass are told apart by when they begin."""
    properties = item["properties"]
    orbit = properties.get("sat:relative_orbit")
    if orbit is None:
        raise CatalogError(f"item {item['id']} does not say its relative orbit")
    began = str(properties.get("start_datetime") or properties.get("datetime"))[:19]
    tile = str(properties.get("mgrs:grid_square") or "")
    return Identity(platform, int(orbit), tile, re.sub(r"[-: ]", "", began.replace("T", " ")), baseline_of(item))


def _landsat(item: Item, platform: str) -> Identity:
    """Path and row of the Worldwide Reference System. A product of tier T1 or T2 replaces the real-time one (RT)."""
    properties = item["properties"]
    found = re.search(r"_(\d{3})(\d{3})_\d{8}_", item["id"] + "_")
    path = properties.get("landsat:wrs_path") or (found and found[1])
    row = properties.get("landsat:wrs_row") or (found and found[2])
    if not path or not row:
        raise CatalogError(f"item {item['id']} does not say its path and row")
    tier = properties.get("landsat:collection_category", "")
    version = f"{properties.get('landsat:collection_number', '02')}.{0 if tier == 'RT' else 1}"
    return Identity(platform, int(path), str(row).zfill(3), "", version)


def _static(item: Item, platform: str) -> Identity:
    """A model without a time series: its tiles make one step together."""
    return Identity(platform, 0, item["id"], "", baseline_of(item))


_RULES: Mapping[str, Callable[[Item, str], Identity]] = {
    "sentinel-2": _sentinel2,
    "sentinel-1": _sentinel1,
    "landsat": _landsat,
    "static": _static,
}


def platform_of(item: Item, mission: Mission) -> str:
    """Normalised platform name, "" if the item is of none of the mission's satellites."""
    text = str(item["properties"].get("platform") or "").lower().replace(" ", "-").replace("_", "-")
    if (
        mission.identity == "sentinel-2"
        and text in ("", mission.constellation)
        and (match := _PRODUCT.search(_product_names(item)))
    ):
        text = f"{mission.constellation}{match['unit'].lower()}"
    return text if text in mission.platforms else ""


def orbit_of(item: Item, platform: str) -> int:
    """Relative orbit number, 1 to 143 for Sentinel-2.

    Raises:
        CatalogError: Neither the item nor its product names say.
    """
    declared = item["properties"].get("sat:relative_orbit")
    if declared is not None:
        return int(declared)
    names = _product_names(item)
    if match := re.search(r"_R(\d{3})_", names):
        return int(match[1])
    if (match := re.search(r"_A?(\d{6})_(?:N|T)", names)) and platform in _ORBIT_SHIFT:
        return (int(match[1]) + _ORBIT_SHIFT[platform] - 1) % 143 + 1
    raise CatalogError(f"item {item['id']} does not say its relative orbit")


_ORBIT_SHIFT = {"sentinel-2a": 3, "sentinel-2b": -26}
"""Relative orbit = (absolute orbit + shift) modulo 143, the orbits of Sentinel-2's ten-day cycle. Found from products
that name both: S2A 24558 is R108 and 44964 is R065; S2B 17394 is R065 and 37185 is R122."""

_PRODUCT = re.compile(r"S2(?P<unit>[A-D])_")


def orbit_state(item: Item) -> str:
    """``"ascending"`` or ``"descending"``, "" if the item does not say."""
    return str(item["properties"].get("sat:orbit_state") or "").lower()


def tile_of(item: Item) -> str:
    """Tile code ``"32TMT"``, "" if the mission has none."""
    properties = item["properties"]
    code = str(properties.get("grid:code") or properties.get("s2:mgrs_tile") or "").removeprefix("MGRS-")
    if not code and (match := re.search(r"_T(\d{2}[A-Z]{3})[_. ]", _product_names(item))):
        code = match[1]
    return code.zfill(5) if code else ""


def datastrip_of(item: Item) -> str:
    """Sensing start of the datastrip, "" if unknown: what reprocessing does not rename.

    Where the item does not name its datastrip, the granule's folder in its assets' addresses does:
    ``L2A_T32TMT_A024558_20200305T103210``, the same instant in all recorded products that have both.
    """
    properties = item["properties"]
    text = str(properties.get("s2:datastrip_id") or properties.get("eopf:datastrip_id") or "")
    if match := re.search(r"_S(\d{8}T\d{6})", text):
        return match[1]
    folders = (re.search(r"_A\d{6}_(\d{8}T\d{6})/", asset["href"]) for asset in item["assets"].values())
    return next((match[1] for match in folders if match), "")


def baseline_of(item: Item) -> str:
    """Processing baseline ``"05.00"``, "" if neither the item nor its product names say."""
    properties = item["properties"]
    declared = properties.get("s2:processing_baseline") or properties.get("processing:version")
    if declared:
        return str(declared)
    match = re.search(r"_N(\d{2})\.?(\d{2})[_. ]", _product_names(item))
    return f"{match[1]}.{match[2]}" if match else ""


def generated(item: Item) -> str:
    """When the product was made, as a text that sorts by time; "" if the item does not say."""
    properties = item["properties"]
    keys = ("s2:generation_time", "processing:datetime", "s1:processing_datetime", "landsat:product_generated")
    text = next((str(properties[key]) for key in keys if properties.get(key)), "")
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return (time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)).isoformat(timespec="microseconds")


def time_of(item: Item) -> datetime:
    """Acquisition time, UTC.

    Raises:
        CatalogError: The item gives none.
    """
    properties = item["properties"]
    text = properties.get("datetime") or properties.get("start_datetime")
    if not text:
        raise CatalogError(f"item {item['id']} has no time")
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise CatalogError(f"item {item['id']} has a time that is none: {text!r}") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _product_names(item: Item) -> str:
    properties = item["properties"]
    keys = ("s2:product_uri", "s2:datatake_id", "eopf:datatake_id", "s2:granule_id", "s2:tile_id")
    return " ".join([item["id"], *(str(properties[key]) for key in keys if key in properties)]) + " "
