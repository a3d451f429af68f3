"""STAC items, their identity across catalogs, and the granules and scenes made from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

from stac2cube.errors import ItemError
from stac2cube.model.fields import equal_nan
from stac2cube.model.mission import Mission

# Identity of an item: platform, orbit, tile and version, by the rules of its mission, independent of the catalog.

Item = Mapping[str, Any]
"""A STAC item as parsed JSON, version 1.0 or 1.1."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The properties by which an item is recognised in every catalog.

    Attributes:
        platform: Normalised, ``"sentinel-2a"``.
        orbit: Relative orbit, or the path of Landsat; 0 if the mission has none.
        tile: Tile or row; "" if there is none.
        datastrip: An identifier that reprocessing does not change, and that distinguishes granules of one tile.
        baseline: Version of the processing; newer ones sort later.
    """

    platform: str
    orbit: int
    tile: str
    datastrip: str
    baseline: str


def identify(item: Item, mission: Mission) -> Identity | None:
    """The identity of an item, None if its platform does not belong to the mission.

    Raises:
        ItemError: The item lacks a value that its mission's rule needs, or is a product of another level.
    """
    platform = platform_of(item, mission)
    if platform:
        _require_level(item, mission)
    return _RULES[mission.identity](item, platform) if platform else None


def _require_level(item: Item, mission: Mission) -> None:
    """Refuse an item whose product level differs from that in its mission's name.

    An item with a collection is accepted unless a property contradicts. An item without one may be anything, so its
    id is checked too.

    Raises:
        ItemError: The level differs.
    """
    anybody = not item.get("collection")
    if mission.name == "sentinel-1-rtc" and anybody and (grd := _NOT_CORRECTED.fullmatch(item["id"])):
        raise ItemError(f"item {item['id']} is a product of level {grd[1]}, and not {mission.title}")
    wanted = re.search(r"-l(\d[a-z]?)$", mission.name)
    if wanted is None or mission.identity not in _LEVELS:
        return
    keys, pattern = _LEVELS[mission.identity]
    said = [word for key in keys if isinstance(word := item["properties"].get(key), str)]
    words = [*said, item["id"] if anybody else ""]
    found = pattern.search(" ".join(words))
    if found and next(filter(None, found.groups())).lower() != wanted[1]:
        raise ItemError(f"item {item['id']} is a product of level {found[0].strip('_')}, and not {mission.title}")


_NOT_CORRECTED = re.compile(r"S1[A-D]_\w\w_(GRD|SLC|OCN)._\w{4}_\d{8}T\d{6}_\d{8}T\d{6}_\d{6}_\w{6}(?:_\w{4})?")
"""Ids of ESA's products; a terrain corrected one has a suffix (``_rtc``)."""

_LEVELS = {
    "sentinel-2": (("s2:product_type", "product:type"), re.compile(r"S2MSI(1C|2A)\b|_MSIL(1C|2A)_|_L(1C|2A)\b")),
    "landsat": (("landsat:correction",), re.compile(r"^L([12])(?=[A-Z]{2}\b)|_L([12])(?=[A-Z]{2}_)")),
}
"""By identity: the properties with a product's level, and the position of the level in them and in ids (ESA, naming
conventions; USGS, Landsat Collection 2 product identifiers)."""


def _sentinel2(item: Item, platform: str) -> Identity:
    return Identity(platform, orbit_of(item, platform), tile_of(item), datastrip_of(item), baseline_of(item))


def _sentinel1(item: Item, platform: str) -> Identity:
    """Slices of one pass are distinguished by their start times."""
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
    """A model without a time series: all its tiles form one step."""
    return Identity(platform, 0, item["id"], "", baseline_of(item))


_RULES: Mapping[str, Callable[[Item, str], Identity]] = {
    "sentinel-2": _sentinel2,
    "sentinel-1": _sentinel1,
    "landsat": _landsat,
    "static": _static,
}


def platform_of(item: Item, mission: Mission) -> str:
    """Normalised platform name, "" if it is not a satellite of the mission."""
    text = _text(item, "platform").lower().replace(" ", "-").replace("_", "-")
    if text in ("", mission.constellation):
        names = _product_names(item) if mission.identity == "sentinel-2" else item["id"]
        found = _OF_PRODUCT[mission.identity].search(names) if mission.identity in _OF_PRODUCT else None
        text = found[1].lower() if found else text
    if spelled := _SENTINEL.fullmatch(text):
        text = f"sentinel-{spelled[1]}{spelled[2]}"
    elif spelled := _LANDSAT.fullmatch(text):
        text = f"landsat-{spelled[1]}"
    return text if text in mission.platforms else ""


_SENTINEL = re.compile(r"s(?:entinel)?-?([12])-?([a-d])(?:-msi|-sar|-c-sar)?")
_LANDSAT = re.compile(r"l(?:andsat)?[ceot]?-?0?([4-9])(?:-oli|-tirs|-oli-tirs|-etm\+?|-tm)?")
"""Spellings of platforms, in lower case and with dashes: S2A, sentinel2a, Landsat8, LANDSAT_08, LC08."""


def orbit_of(item: Item, platform: str) -> int:
    """Relative orbit number, 1 to 143 for Sentinel-2.

    Raises:
        ItemError: Neither the item nor its product names contain it.
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
    """``sat:relative_orbit``, also as 65.0, "65" or "R065"; None if the item has none.

    Raises:
        ItemError: The value is invalid.
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
"""Relative orbit = (absolute orbit + shift) modulo 143, the orbits of Sentinel-2's ten-day cycle. Derived from products
that name both: S2A 24558 is R108 and 44964 is R065; S2B 17394 is R065 and 37185 is R122."""

_OF_PRODUCT = {
    "sentinel-2": re.compile(r"(S2[A-D])_"),
    "sentinel-1": re.compile(r"^(S1[A-D])_"),
    "landsat": re.compile(r"^(L[CEOT]0\d)_"),
}
"""By identity: the platform in names of products (ESA and USGS, naming conventions)."""


def orbit_state(item: Item) -> str:
    """``"ascending"`` or ``"descending"``, "" if the item declares neither."""
    return _text(item, "sat:orbit_state").lower()


def tile_of(item: Item) -> str:
    """Tile code ``"32TMT"``, "" if the mission has none."""
    code = (_text(item, "grid:code") or _text(item, "s2:mgrs_tile")).upper().removeprefix("MGRS-")
    code = code[1:] if re.fullmatch(r"T\d{2}[A-Z]{3}", code) else code
    if not code and (match := re.search(r"_T(\d{2}[A-Z]{3})[_. ]", _product_names(item))):
        code = match[1]
    if not code:
        square = "".join(_text(item, f"mgrs:{part}") for part in ("utm_zone", "latitude_band", "grid_square")).upper()
        code = square if re.fullmatch(r"\d{1,2}[A-Z]{3}", square) else ""
    return code.zfill(5) if code else ""


def datastrip_of(item: Item) -> str:
    """Sensing start of the datastrip, "" if unknown; reprocessing does not change it.

    If the item does not name its datastrip, it is read from the granule's folder in the addresses of its assets:
    ``L2A_T32TMT_A024558_20200305T103210``, the same instant in all recorded products that have both.
    """
    text = _text(item, "s2:datastrip_id") or _text(item, "eopf:datastrip_id")
    if match := re.search(r"_S(\d{8}T\d{6})", text):
        return match[1]
    folders = (re.search(r"_A\d{6}_(\d{8}T\d{6})/", asset["href"]) for asset in item["assets"].values())
    return next((match[1] for match in folders if match), "")


def baseline_of(item: Item) -> str:
    """Processing baseline ``"05.00"``, "" if neither the item nor its product names contain it."""
    if is_eopf(item):
        # processing:version of EOPF is the baseline in some versions of its software, in others that of a mapping.
        version = _text(item, "processing:version")
        return _named_baseline(item) or (version if re.fullmatch(r"\d{2}\.\d{2}", version) else "")
    for key in ("s2:processing_baseline", "processing:version"):
        said = item["properties"].get(key)
        if isinstance(said, float) and not isinstance(said, bool):
            return f"{said:05.2f}"  # 05.10 became 5.1 where a table stored it as a number
        if text := _text(item, key):
            named = re.fullmatch(r"N(\d{2})\.?(\d{2})", text)  # as in the names of products
            return f"{named[1]}.{named[2]}" if named else text
    return _named_baseline(item)


def _named_baseline(item: Item) -> str:
    """The processing baseline in the names of product, datatake or datastrip, "" if none has it."""
    match = re.search(r"_N(\d{2})\.?(\d{2})[_. ]", _product_names(item))
    return f"{match[1]}.{match[2]}" if match else ""


def generated(item: Item) -> str:
    """Processing time of the product, as a text that sorts by time; "" if unknown."""
    keys = ("s2:generation_time", "processing:datetime", "s1:processing_datetime", "landsat:product_generated")
    times = (moment_or_none(item["properties"].get(key)) for key in keys)
    time = next((time for time in times if time is not None), None)
    # LC08_L2SP_193027_20200714_20200912_02_T1: acquired, processed (USGS, Landsat Collection 2 product identifiers).
    if time is None and (found := re.search(r"_\d{6}_\d{8}_(\d{8})_\d{2}_", item["id"] + "_")):
        time = moment_or_none(found[1])
    # S2A_MSIL2A_..._20250510T141114, S2A_OPER_MSI_L2A_DS_2APS_20230626T022157_S... (ESA, naming conventions).
    if time is None and is_eopf(item):
        named = re.search(r"S2[A-D]_MSIL\d[AC]_\S+_(\d{8}T\d{6})[. ]", _product_names(item))
        named = named or re.search(r"_DS_\w+?_(\d{8}T\d{6})_S", _product_names(item))
        time = moment_or_none(named[1]) if named else None
    return "" if time is None else time.isoformat(timespec="microseconds")


def converted(item: Item) -> str:
    """Time of conversion of an EOPF product to Zarr, as a text that sorts by time; "" if unknown or another product.

    A product may be converted again under the same id.
    """
    time = moment_or_none(item["properties"].get("created")) if is_eopf(item) else None
    return "" if time is None else time.isoformat(timespec="microseconds")


def written(item: Item) -> str:
    """Time when the catalog created or last updated the item, as a text that sorts by time; "" if unknown."""
    times = (moment_or_none(item["properties"].get(key)) for key in ("created", "updated"))
    return max((time.isoformat(timespec="microseconds") for time in times if time is not None), default="")


def time_of(item: Item) -> datetime:
    """Acquisition time, UTC.

    Raises:
        ItemError: The item has none.
    """
    time = moment(item, "datetime") or moment(item, "start_datetime")
    if time is None:
        raise ItemError(f"item {item['id']} has no time")
    return time


def moment(item: Item, key: str) -> datetime | None:
    """A property as a time, UTC; None if the item does not have it.

    Raises:
        ItemError: The value is not a time.
    """
    said = item["properties"].get(key)
    if said is None or said == "":
        return None
    time = moment_or_none(said)
    if time is None:
        raise ItemError(f"item {item['id']} has a time that is none: {said!r:.60}")
    return time


def moment_or_none(text: Any) -> datetime | None:
    """Parse a time of RFC 3339, or of ISO 8601 as Python accepts it, as UTC; None if it is invalid.

    RFC 3339 allows lower case ``t`` and ``z`` and, in the last minute of a month, the second 60, which becomes the
    first second of the next minute. Times without a zone are treated as UTC.
    """
    return _moment_of(text) if isinstance(text, str) else None


@lru_cache(maxsize=64)
def _moment_of(text: str) -> datetime | None:
    # Cached, because a search reads the time of an item several times in a row.
    said = text.strip().upper()
    leap = re.match(r"(.*[T ]\d{2}:\d{2}):60(.*)", said) if ":60" in said else None
    try:
        time = datetime.fromisoformat(f"{leap[1]}:59{leap[2]}" if leap else said)
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        return time.replace(microsecond=0) + timedelta(seconds=1) if leap else time
    except (ValueError, OverflowError):
        return None


def _text(item: Item, key: str) -> str:
    """A property as a text, "" if the item does not have it.

    Raises:
        ItemError: The value is neither text nor number.
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
    keys = ("s2:product_uri", "s2:datatake_id", "eopf:datatake_id", "eopf:datastrip_id", "s2:granule_id", "s2:tile_id")
    said = (str(item["properties"][key]) for key in keys if key in item["properties"])
    return " ".join([item["id"], *said, *_store_names(item)]) + " "


def _store_names(item: Item) -> list[str]:
    """Names of the Zarr stores of an item. Stores of EOPF are named like their product; items of CPM 3 are not."""
    return sorted({store.rpartition("/")[2] for store in _stores(item)})


def _stores(item: Item) -> list[str]:
    """Addresses of the Zarr stores that contain the assets of an item."""
    addresses = [str(asset["href"]) for asset in item.get("assets", {}).values()]
    if ".zarr" not in "\n".join(addresses).lower():  # one check for all of them: this runs for each item of a search
        return []
    return [found[0] for found in map(split_store, addresses) if found]


# Addresses of arrays in Zarr stores.

_STORE = re.compile(r"(.*?\.zarr)(?:/(.*))?", re.IGNORECASE | re.DOTALL)


def split_store(href: str) -> tuple[str, str] | None:
    """Split an address into a Zarr store and the path within it; None if it is not in a Zarr store.

    The first folder whose name ends with ``.zarr`` is the store.

    Args:
        href: A path or URL. The query after a question mark is ignored.

    Returns:
        Address of the store without a trailing slash, and the path within it, "" for the store itself.
    """
    if ".zarr" not in href.lower():  # as in nearly all items
        return None
    plain = href.split("?", 1)[0] if "://" in href else href
    found = _STORE.fullmatch(plain)
    if found is None or ("://" not in href and href.startswith("/vsi")):
        return None
    return found[1], (found[2] or "").strip("/")


def is_zarr_array(href: str) -> bool:
    """Whether an address is an array within a Zarr store, and not a file in a folder with such a name."""
    found = split_store(href)
    return found is not None and bool(found[1]) and "." not in found[1].rpartition("/")[2]


def is_eopf(item: Item) -> bool:
    """Whether an item is an EOPF product of ESA in Zarr: by its assets, or by its id (``S02MSIL2A_``).

    Properties with the prefix ``eopf:`` prove nothing: items of the Copernicus Data Space have them for SAFE.
    """
    return str(item["id"]).startswith("S02MSI") or bool(_stores(item))


# Versions of items: facts that show whether the files of an item are still those that a step was made from.
#
# The processing baseline alone is not enough: archives replace broken products by new ones of the same baseline, under
# another id or under the same (microsoft/PlanetaryComputer, discussions 264 and 291). So the ledger stores of the items
# of a step their processing time, product, times of catalog entry, and checksums.

_PRODUCTS = ("s2:product_uri", "s2:datastrip_id", "eopf:datastrip_id", "s1:product_identifier", "landsat:product_id")
_CHECKSUMS = ("file:checksum", "checksum:multihash")

Standing = Literal["newer", "same", "older"]


def version_of(item: Item, assets: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Facts of an item that change when its files do; unknown ones are absent.

    Args:
        item: The item.
        assets: Its assets that are read.

    Returns:
        ``generated``, ``created`` and ``updated`` as times of ISO 8601; ``product``, the names of product and
        datastrip; ``checksum``, a hash of the checksums of all assets read, if all have one; ``size``, their sizes.
    """
    properties = item["properties"]
    found = {"generated": generated(item)}
    for key in ("created", "updated"):
        time = moment_or_none(properties.get(key))
        found[key] = time.isoformat(timespec="microseconds") if time else ""
    found["product"] = " ".join(str(properties[key]) for key in _PRODUCTS if isinstance(properties.get(key), str))
    sums = [next((str(asset[key]) for key in _CHECKSUMS if asset.get(key)), "") for asset in assets]
    if sums and all(sums):
        found["checksum"] = hashlib.sha256("\n".join(sorted(sums)).encode()).hexdigest()[:16]
    sizes = [str(size) for asset in assets if isinstance(size := asset.get("file:size"), int)]
    if sizes and len(sizes) == len(sums):
        found["size"] = "+".join(sorted(sizes))
    return {key: value for key, value in found.items() if value}


def standing(had: Mapping[str, str], now: Mapping[str, str]) -> Standing:
    """Compare the current version of an item with its former one, or with that of the item that it replaces.

    Equal checksums mean that nothing changed, whatever the times. A fact that only one version has is ignored. Times
    are compared to the millisecond. Addresses are not compared: archives move files without changing them.
    """
    sums = had.get("checksum"), now.get("checksum")
    if all(sums) and sums[0] == sums[1]:
        return "same"
    made = _instant(had, "generated"), _instant(now, "generated")
    if all(made) and made[0] != made[1]:
        return "newer" if made[1] > made[0] else "older"
    if all(sums):
        return "newer"
    for key in ("size", "product"):
        said = had.get(key), now.get(key)
        if all(said) and said[0] != said[1]:
            return "newer"
    for key in ("created", "updated"):
        times = _instant(had, key), _instant(now, key)
        if all(times) and times[1] > times[0]:
            return "newer"
    # An item that was never updated may lack that time.
    last = [max(_instant(version, "created"), _instant(version, "updated")) for version in (had, now)]
    return "newer" if all(last) and last[1] > last[0] else "same"


def _instant(version: Mapping[str, str], key: str) -> str:
    """A time of a version to the millisecond, which is the precision of some writers of tables (rustac)."""
    return version.get(key, "")[: len("2022-11-03T06:10:59.240")]


# Scenes: acquisitions in one form, independent of the catalog.
#
# A :class:`Scene` becomes a time step of a cube. It holds the :class:`Granule` records of one platform, one relative
# orbit and one solar day. Everything here is small, frozen and can be pickled, because scenes are sent to the workers.


@equal_nan
@dataclass(frozen=True, slots=True)
class AssetRef:
    """Location of the pixels of one band of one granule.

    Attributes:
        href: Unsigned location: a local path, ``file://``, ``http(s)://`` or ``s3://``. Signed by the worker when read.
        index: 1-based band index within the file.
        shift: Counts to add to every valid pixel so that it takes the stored form of the band (see
            :mod:`stac2cube.algorithms.radiometry`); 0 for classes and for quantities without a provider offset.
        alternate: HTTPS address of the same file that takes a token, "" if there is none (or no token may be sent).
        decibels: Whether the item declares dB for a quantity that the mission has as power: converted when read.
        nodata: No-data value of the item's metadata, None if not given. Used if the file declares none; for decibels,
            in addition to that of the file.
        signed: The href as signed by the catalog, "" if unsigned. In memory only, never written.
        keys: Whether its host may receive keys of its catalog, see :attr:`stac2cube.model.catalog.Catalog.hosts`.
    """

    href: str
    index: int = 1
    shift: int = 0
    alternate: str = ""
    decibels: bool = False
    nodata: float | None = None
    signed: str = field(default="", repr=False)
    keys: bool = False

    @property
    def address(self) -> str:
        """The href as its catalog gave it, in memory only: two files may differ only in a parameter like a key."""
        return self.signed or self.href


@dataclass(frozen=True, slots=True)
class Granule:
    """One STAC item, reduced to what building and the ledger need.

    Attributes:
        id: The item's id.
        collection: The item's collection in its catalog.
        catalog: Name of the catalog that delivered it (a name of ``tables/catalogs.toml`` or the path of a local one).
        signer: How the worker signs hrefs when reading (``"none"``, ``"planetary-computer"``; from the catalog).
        time: Acquisition time as given by the catalog, UTC, timezone-aware.
        tile: Tile code without prefix (``"32TMT"``), or "" if the mission has none.
        datastrip: Stable identity of the datastrip: its sensing start ``"20200305T103210"``, or "" if unknown.
        baseline: Processing baseline ``"05.00"``, or "" if unknown.
        cloud_cover: Percent as given by the catalog, or None.
        footprint: GeoJSON geometry in WGS84, as a mapping.
        crs: CRS of the pixels as ``"EPSG:32632"``, or "" if the item declares none.
        corner: x and y of the upper left corner in that CRS, or None if the item declares none.
        assets: Band name of the mission page -> :class:`AssetRef`. Bands that the item lacks are absent.
        item: The STAC item as a JSON text with unsigned hrefs, for the ledger.
        completed_by: Id and JSON text of further items of the same tile that supply bands missing in this one; their
            assets are among ``assets``.
        simulated: Whether the item declares that it is simulated.
        signed: (item id, asset key) -> href signed by the catalog, for the assets that it signed; in memory only.
    """

    id: str
    collection: str
    catalog: str
    signer: str
    time: datetime
    tile: str
    datastrip: str
    baseline: str
    cloud_cover: float | None
    footprint: dict[str, Any] = field(hash=False)
    crs: str
    corner: tuple[float, float] | None
    assets: dict[str, AssetRef] = field(hash=False)
    item: str = field(hash=False, repr=False)
    simulated: bool = False
    signed: dict[tuple[str, str], str] = field(default_factory=dict, hash=False, repr=False)
    completed_by: tuple[tuple[str, str], ...] = field(default=(), hash=False, repr=False)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids of its source items, its own first."""
        return (self.id, *(name for name, _ in self.completed_by))

    @property
    def items(self) -> list[dict[str, Any]]:
        """Its source items, its own first, with unsigned hrefs."""
        return [json.loads(text) for text in (self.item, *(text for _, text in self.completed_by))]


@dataclass(frozen=True, slots=True, order=True)
class SceneKey:
    """Identity of a scene in every catalog. It has no exact time, because catalogs stamp one scene minutes apart.

    Attributes:
        mission: Name of the mission page, ``"sentinel-2-l2a"``.
        day: Solar day of the area's centre.
        platform: Normalised platform name, ``"sentinel-2a"``.
        orbit: Relative orbit, 0 if the mission has none.
    """

    mission: str
    day: date
    platform: str
    orbit: int

    def __str__(self) -> str:
        return f"{self.platform}_R{self.orbit:03d}_{self.day:%Y%m%d}"


@dataclass(frozen=True, slots=True)
class Scene:
    """A future time step: its key, its time and its granules in mosaic order (first valid pixel wins).

    Attributes:
        key: See :class:`SceneKey`.
        time: The earliest acquisition time of its granules, UTC.
        granules: In fixed order: by tile code, then by datastrip.
        superseded: Ids of items of this scene that are left out because a newer baseline of the same datastrip and
            tile exists, or because they lack bands that an older one has.
        cloud_cover: Percent, mean of its granules weighted by their share of the area; None if unknown.
        orbit_state: ``"ascending"`` or ``"descending"``, "" if the items declare neither.
        problem: Why it cannot be used as it is (contradictory metadata), "" if it can.
        passed_over: Id of each newer item that is not used -> the reason.
        unreadable: The subset of ``passed_over`` whose files could not be read.
        spares: Per part, as in :attr:`parts`, possible replacement granules, complete and newest first.
        versions: Item id -> facts that show whether its files are unchanged, see :func:`version_of`.
    """

    key: SceneKey
    time: datetime
    granules: tuple[Granule, ...]
    superseded: tuple[str, ...] = ()
    cloud_cover: float | None = None
    orbit_state: str = ""
    problem: str = ""
    passed_over: Mapping[str, str] = field(default_factory=dict, hash=False)
    unreadable: Mapping[str, str] = field(default_factory=dict, hash=False)
    spares: Mapping[str, tuple[Granule, ...]] = field(default_factory=dict, hash=False, repr=False)
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False, repr=False)

    @property
    def named(self) -> dict[str, Granule]:
        """Granules by part: tile and datastrip, plus the id where halves of a tile do not name their datastrips."""
        found: dict[str, Granule] = {}
        for granule in self.granules:
            part = f"{granule.tile}/{granule.datastrip}"
            found[f"{part}#{granule.id}" if part in found else part] = granule
        return found

    @property
    def parts(self) -> dict[str, str]:
        """Tile and datastrip of each granule -> the baseline used; later searches are compared with it."""
        return {part: granule.baseline for part, granule in self.named.items()}

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids of the items used, sorted."""
        return tuple(sorted(name for granule in self.granules for name in granule.item_ids))
