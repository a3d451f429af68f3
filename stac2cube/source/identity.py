"""Who an item is: platform, orbit, tile and version, by the rules of its mission, whatever the catalog."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stac2cube.errors import ItemError
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
        ItemError: It does not say what its mission's rule needs.
    """
    platform = platform_of(item, mission)
    return _RULES[mission.identity](item, platform) if platform else None


def _sentinel2(item: Item, platform: str) -> Identity:
    return Identity(platform, orbit_of(item, platform), tile_of(item), datastrip_of(item), baseline_of(item))


def _sentinel1(item: Item, platform: str) -> Identity:
    """Slices of one pass are told apart by when they begin."""
    orbit = _declared_orbit(item, _MOST_ORBITS["sentinel-1"])
    if orbit is None:
        raise ItemError(f"item {item['id']} does not say its relative orbit")
    began = moment(item, "start_datetime") or time_of(item)
    return Identity(platform, orbit, _text(item, "mgrs:grid_square"), f"{began:%Y%m%d%H%M%S}", baseline_of(item))


def _landsat(item: Item, platform: str) -> Identity:
    """Path and row of the Worldwide Reference System. A product of tier T1 or T2 replaces the real-time one (RT)."""
    found = re.search(r"_(\d{3})(\d{3})_\d{8}_", item["id"] + "_")
    path = _text(item, "landsat:wrs_path") or (found[1] if found else "")
    row = _text(item, "landsat:wrs_row") or (found[2] if found else "")
    if not path or not row:
        raise ItemError(f"item {item['id']} does not say its path and row")
    for name, number, most in (("path", path, 251), ("row", row, 248)):  # of the WRS-1 and WRS-2 grids, USGS
        if not _is_number(number, most):
            raise ItemError(f"item {item['id']} has a {name} that is none: {number!r}")
    tier = _text(item, "landsat:collection_category")
    version = f"{_text(item, 'landsat:collection_number') or '02'}.{0 if tier == 'RT' else 1}"
    return Identity(platform, int(path), row.zfill(3), "", version)


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
    text = _text(item, "platform").lower().replace(" ", "-").replace("_", "-")
    if (
        mission.identity == "sentinel-2"
        and text in ("", mission.constellation)
        and (match := _PRODUCT.search(_product_names(item)))
    ):
        text = f"{mission.constellation}{match['unit'].lower()}"
    if short := _SHORT.fullmatch(text):
        text = f"sentinel-{short[1]}{short[2]}"
    return text if text in mission.platforms else ""


_SHORT = re.compile(r"s([12])-?([a-d])(?:-msi|-sar)?")
"""Platforms as products name them: S2A, S1A."""


def orbit_of(item: Item, platform: str) -> int:
    """Relative orbit number, 1 to 143 for Sentinel-2.

    Raises:
        ItemError: Neither the item nor its product names say.
    """
    declared = _declared_orbit(item, _MOST_ORBITS["sentinel-2"])
    if declared is not None:
        return declared
    names = _product_names(item)
    if match := re.search(r"_R(\d{3})_", names):
        return int(match[1])
    if (match := re.search(r"_A?(\d{6})_(?:N|T)", names)) and platform in _ORBIT_SHIFT:
        return (int(match[1]) + _ORBIT_SHIFT[platform] - 1) % 143 + 1
    raise ItemError(f"item {item['id']} does not say its relative orbit")


def _declared_orbit(item: Item, most: int) -> int | None:
    """``sat:relative_orbit``, also as 65.0, "65" or "R065"; None if the item does not say.

    Raises:
        ItemError: It says something else.
    """
    said = item["properties"].get("sat:relative_orbit")
    if said is None:
        return None
    found = re.fullmatch(r"\s*[Rr]?(\d{1,3})(?:\.0*)?\s*", str(said))
    if found is None or not 1 <= int(found[1]) <= most:
        raise ItemError(f"item {item['id']} has a relative orbit that is none: {said!r} (1 to {most})")
    return int(found[1])


_MOST_ORBITS = {"sentinel-1": 175, "sentinel-2": 143}
"""Orbits of the 12-day cycle of Sentinel-1 and of the 10-day cycle of Sentinel-2 (ESA, mission guides)."""

_ORBIT_SHIFT = {"sentinel-2a": 3, "sentinel-2b": -26}
"""Relative orbit = (absolute orbit + shift) modulo 143, the orbits of Sentinel-2's ten-day cycle. Found from products
that name both: S2A 24558 is R108 and 44964 is R065; S2B 17394 is R065 and 37185 is R122."""

_PRODUCT = re.compile(r"S2(?P<unit>[A-D])_")


def orbit_state(item: Item) -> str:
    """``"ascending"`` or ``"descending"``, "" if the item does not say."""
    return _text(item, "sat:orbit_state").lower()


def tile_of(item: Item) -> str:
    """Tile code ``"32TMT"``, "" if the mission has none."""
    code = (_text(item, "grid:code") or _text(item, "s2:mgrs_tile")).upper().removeprefix("MGRS-")
    code = code[1:] if re.fullmatch(r"T\d{2}[A-Z]{3}", code) else code
    if not code and (match := re.search(r"_T(\d{2}[A-Z]{3})[_. ]", _product_names(item))):
        code = match[1]
    return code.zfill(5) if code else ""


def datastrip_of(item: Item) -> str:
    """Sensing start of the datastrip, "" if unknown: what reprocessing does not rename.

    Where the item does not name its datastrip, the granule's folder in its assets' addresses does:
    ``L2A_T32TMT_A024558_20200305T103210``, the same instant in all recorded products that have both.
    """
    text = _text(item, "s2:datastrip_id") or _text(item, "eopf:datastrip_id")
    if match := re.search(r"_S(\d{8}T\d{6})", text):
        return match[1]
    folders = (re.search(r"_A\d{6}_(\d{8}T\d{6})/", asset["href"]) for asset in item["assets"].values())
    return next((match[1] for match in folders if match), "")


def baseline_of(item: Item) -> str:
    """Processing baseline ``"05.00"``, "" if neither the item nor its product names say."""
    for key in ("s2:processing_baseline", "processing:version"):
        said = item["properties"].get(key)
        if isinstance(said, float) and not isinstance(said, bool):
            return f"{said:05.2f}"  # 05.10 became 5.1 where a table took it for a number
        if text := _text(item, key):
            named = re.fullmatch(r"N(\d{2})\.?(\d{2})", text)  # as names of products have it
            return f"{named[1]}.{named[2]}" if named else text
    match = re.search(r"_N(\d{2})\.?(\d{2})[_. ]", _product_names(item))
    return f"{match[1]}.{match[2]}" if match else ""


def generated(item: Item) -> str:
    """When the product was made, as a text that sorts by time; "" if the item does not say."""
    keys = ("s2:generation_time", "processing:datetime", "s1:processing_datetime", "landsat:product_generated")
    times = (moment_or_none(item["properties"].get(key)) for key in keys)
    time = next((time for time in times if time is not None), None)
    # LC08_L2SP_193027_20200714_20200912_02_T1: acquired, processed (USGS, Landsat Collection 2 product identifiers).
    if time is None and (found := re.search(r"_\d{6}_\d{8}_(\d{8})_\d{2}_", item["id"] + "_")):
        time = moment_or_none(found[1])
    return "" if time is None else time.isoformat(timespec="microseconds")


def time_of(item: Item) -> datetime:
    """Acquisition time, UTC.

    Raises:
        ItemError: The item gives none.
    """
    time = moment(item, "datetime") or moment(item, "start_datetime")
    if time is None:
        raise ItemError(f"item {item['id']} has no time")
    return time


def moment(item: Item, key: str) -> datetime | None:
    """A property that is a time, UTC; None if the item does not have it.

    Raises:
        ItemError: It has, but not as a time.
    """
    said = item["properties"].get(key)
    if said is None or said == "":
        return None
    time = moment_or_none(said)
    if time is None:
        raise ItemError(f"item {item['id']} has a time that is none: {said!r:.60}")
    return time


def moment_or_none(text: Any) -> datetime | None:
    """A text of RFC 3339, or of ISO 8601 as Python reads it, as a time, UTC; None if it is none.

    RFC 3339 allows small ``t`` and ``z`` and, in the last minute of a month, the second 60, which here is the first one
    of the next minute. What names no zone is taken for UTC.
    """
    if not isinstance(text, str):
        return None
    said = text.strip().upper()
    leap = re.match(r"(.*[T ]\d{2}:\d{2}):60(.*)", said)
    try:
        time = datetime.fromisoformat(f"{leap[1]}:59{leap[2]}" if leap else said)
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        return time.replace(microsecond=0) + timedelta(seconds=1) if leap else time
    except (ValueError, OverflowError):
        return None


def _text(item: Item, key: str) -> str:
    """A property as a text, "" if the item does not have it.

    Raises:
        ItemError: It is neither text nor number.
    """
    said = item["properties"].get(key)
    if said is None:
        return ""
    if isinstance(said, float) and said.is_integer():
        said = int(said)
    if isinstance(said, bool) or not isinstance(said, (str, int, float)):
        raise ItemError(f"item {item['id']}: {key} is no text: {said!r:.60}")
    return str(said).strip()


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= most


def _product_names(item: Item) -> str:
    keys = ("s2:product_uri", "s2:datatake_id", "eopf:datatake_id", "s2:granule_id", "s2:tile_id")
    return " ".join([item["id"], *(str(item["properties"][key]) for key in keys if key in item["properties"])]) + " "
