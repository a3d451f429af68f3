"""Convert STAC items of any provider into a :class:`~stac2cube.model.scene.Granule`."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry import mapping

from stac2cube.access.hrefs import check_href, kept_assets, local_path, problem_of_href, require_plain_file
from stac2cube.access.sign import opening
from stac2cube.algorithms.radiometry import ProductFacts, S2Facts, parse_product, s2_shift
from stac2cube.errors import ItemError, RadiometryError, ReadError
from stac2cube.model.catalog import Catalog, catalogs
from stac2cube.model.mission import Band, Mission, Page
from stac2cube.model.scene import (
    AssetRef,
    Granule,
    Identity,
    Item,
    Scene,
    baseline_of,
    is_zarr_array,
    split_store,
    time_of,
)
from stac2cube.pixels.gdal import gdal_settings, open_image
from stac2cube.search.index_files import StoredItem
from stac2cube.search.parsing import assets_of_today, footprint_of, place_of
from stac2cube.trust.address import has_secret, may_see_keys, public
from stac2cube.trust.deadline import within
from stac2cube.trust.text import is_printable, printable

SIMULATED = "stac2cube:simulated"
"""Property that marks simulated items: true for items of the simulator, absent elsewhere."""


@dataclass(frozen=True)
class Reading:
    """How the items of one search are read.

    Attributes:
        mission: The mission searched for.
        catalog: Where the items come from.
        bands: Bands wanted.
    """

    mission: Mission
    catalog: Catalog
    bands: tuple[Band, ...]

    @cached_property
    def known(self) -> Mapping[str, Catalog]:
        """The configured catalogs, read once for all items."""
        return catalogs()

    @cached_property
    def with_every_band(self) -> Reading:
        """The same reading with every band of the mission wanted."""
        return replace(self, bands=tuple(self.mission.bands.values()))

    @cached_property
    def _chosen(self) -> dict[tuple[Any, ...], tuple[Page, tuple[tuple[Band, str], ...]] | None]:
        """Cache of :meth:`_choose`: nearly all items of a search have assets of the same names."""
        return {}

    def assets_of(self, item: Item) -> tuple[Page, list[tuple[Band, Mapping[str, Any]]]] | None:
        """The page that fits an item, and its assets of the wanted bands; None if no page fits.

        A page fits if it is of the item's catalog and collection; otherwise the page that names most of the item's
        assets is used. Pages with paths of arrays in a Zarr store are used for items that have a store, other pages for
        other items.
        """
        assets = assets_of_today(item)
        store = ZarrStore.of(assets)
        names = (item.get("collection") or "", frozenset(assets), store and store.bands)
        if names not in self._chosen:
            self._chosen[names] = self._choose(names[0], names[1], store)
        chosen = self._chosen[names]
        return chosen and (chosen[0], [(band, _asset_named(name, assets, store)) for band, name in chosen[1]])

    def every_asset_of(self, item: Item) -> list[Mapping[str, Any]]:
        """The assets of an item that are bands of the mission, wanted or not."""
        chosen = self.with_every_band.assets_of(item)
        return [asset for _, asset in chosen[1]] if chosen else []

    def _choose(
        self, collection: str, assets: frozenset[str], store: ZarrStore | None
    ) -> tuple[Page, tuple[tuple[Band, str], ...]] | None:
        pages = [page for page in self.mission.pages if page.catalog == self.catalog.like] or list(self.mission.pages)
        suited = [page for page in pages if bool(page.paths) == bool(store)] or pages
        named = [page for page in suited if page.collection == collection] or suited
        present = [_present(page, assets, store, self.mission.bands.values()) for page in named]
        best = max(range(len(named)), key=lambda place: len(present[place]))
        return (named[best], tuple(_present(named[best], assets, store, self.bands))) if present[best] else None


@dataclass(frozen=True)
class ZarrStore:
    """The Zarr store of an item; it may hold arrays of bands that have no asset of their own.

    Attributes:
        href: Its address, without a slash at its end.
        query: Query string of its address with the question mark, "" if there is none.
        bands: Names of the bands listed by the asset of the reflectance group, in lower case; empty without that asset.
    """

    href: str
    query: str
    bands: frozenset[str]

    @classmethod
    def of(cls, assets: Mapping[str, Mapping[str, Any]]) -> ZarrStore | None:
        """The store that most assets are in, None if there is no store.

        Args:
            assets: Assets of an item, all with an address.
        """
        places = [(found, asset) for asset in assets.values() if (found := split_store(asset["href"]))]
        if not places:
            return None
        ((href, query), _), *_ = Counter((store, _query_of(asset["href"])) for (store, _), asset in places).most_common(
            1
        )
        listed = (
            band["name"]
            for (_, path), asset in places
            if path == _REFLECTANCE
            for band in (asset["bands"] if isinstance(asset.get("bands"), list) else ())
            if isinstance(band, Mapping) and isinstance(band.get("name"), str)
        )
        return cls(href, query, frozenset(name.rpartition("/")[2].lower() for name in listed))

    def holds(self, path: str) -> bool:
        """Whether the array may exist: false for a band that the asset of the reflectance group does not list."""
        return not self.bands or not path.startswith(_REFLECTANCE) or path.rpartition("/")[2] in self.bands


_REFLECTANCE = "measurements/reflectance"
"""Group of the arrays of reflectance in EOPF's stores of Sentinel-2 (EOPF product format, 2.5 to 3.1)."""


def _query_of(href: str) -> str:
    _, mark, query = href.partition("?")
    return mark + query if "://" in href else ""


def _asset_named(name: str, assets: Mapping[str, Any], store: ZarrStore | None) -> Mapping[str, Any]:
    """An asset by its name, or by a path from :func:`_present`."""
    if name in assets or store is None:
        found: Mapping[str, Any] = assets[name]
        return found
    return {"href": f"{store.href}/{name.removeprefix(_PATH)}{store.query}", "type": "application/vnd.zarr"}


_PATH = "zarr:/"
"""Prefix of a path within a Zarr store where otherwise the name of an asset is used."""


def _present(
    page: Page, assets: Collection[str], store: ZarrStore | None, bands: Iterable[Band]
) -> list[tuple[Band, str]]:
    """Bands that an item has, with the names of their assets or the paths of their arrays in the store."""
    found = []
    for band in bands:
        name = next((name for name in page.asset_names(band) if name in assets), None)
        if name is None and store is not None and (path := page.path_of(band)) and store.holds(path):
            name = _PATH + path
        if name is not None:
            found.append((band, name))
    return found


def to_granule(item: Item, reading: Reading, identity: Identity) -> Granule:
    """Reduce an item to what building and bookkeeping need.

    Args:
        item: The item, with absolute hrefs.
        reading: How it is read.
        identity: Its identity.

    Raises:
        ItemError: It lacks a required part (a time, a geometry, a known asset), names an address that its catalog may
            not name, or its bands have contradicting CRSs or corners.
        RadiometryError: Its metadata contradict each other.
    """
    properties, name = item["properties"], item["id"]
    _check_words(item)
    chosen = reading.assets_of(item)
    if chosen is None:
        raise ItemError(f"item {name} has none of the assets that {reading.mission.name} knows")
    page, present = chosen
    place = place_of(item, present, reading.mission, partial(reading.every_asset_of, item))
    known = reading.known.get(page.catalog)
    for band, asset in present:
        check_href(name, band.name, asset.get("href"), reading.catalog)
    if reading.catalog.is_foreign and (kept := kept_assets(item, reading.catalog)) != item["assets"]:
        item = {**item, "assets": kept}
    hosts = {*reading.catalog.hosts, *(known.hosts if known else ())}
    return Granule(
        id=name,
        collection=item.get("collection") or page.collection,
        catalog=reading.catalog.name,
        signer=page.signer or (known.signer if known and reading.catalog.signer == "none" else reading.catalog.signer),
        time=time_of(item),
        tile=identity.tile,
        datastrip=identity.datastrip,
        baseline=identity.baseline,
        cloud_cover=properties.get("eo:cloud_cover"),
        footprint=dict(mapping(footprint_of(item))),
        crs=place.crs,
        corner=place.corner,
        assets={
            band.name: _reference(asset, shift, hosts, _stored_as(item, band, asset))
            for (band, asset), shift in zip(present, _shifts(item, present, page, reading.catalog), strict=True)
        },
        item=item_text(item),
        simulated=properties.get(SIMULATED) is True,
        signed={
            (name, key): href for key, asset in item["assets"].items() if has_secret(href := str(asset.get("href")))
        },
    )


def _check_words(item: Item) -> None:
    """Check that the texts that name an item can be displayed and stored.

    Raises:
        ItemError: A text has control characters, or is not a text.
    """
    properties = item["properties"]
    words = {"id": item["id"], "collection": item.get("collection") or ""}
    words |= {key: properties[key] for key in _NAMING if isinstance(properties.get(key), str)}
    for key, word in words.items():
        if not isinstance(word, str) or not is_printable(word):
            raise ItemError(f"item {printable(item['id'])}: its {key} has control characters, or is no text")


_NAMING = ("platform", "grid:code", "s2:mgrs_tile", "s2:processing_baseline", "processing:version", "sat:orbit_state")
"""Properties whose texts a cube stores."""


def _reference(
    asset: Mapping[str, Any], shift: int, hosts: Collection[str], stored: tuple[bool, float | None]
) -> AssetRef:
    """Reference to the pixels of a band; ``hosts`` may receive keys, ``stored`` comes from :func:`_stored_as`."""
    href = asset["href"]
    plain = public(href)
    return AssetRef(
        href=plain,
        shift=shift,
        alternate=_alternate(asset, hosts),
        signed="" if plain == href else href,
        keys=may_see_keys(href, hosts),
        decibels=stored[0],
        nodata=stored[1],
    )


def _alternate(asset: Mapping[str, Any], hosts: Collection[str]) -> str:
    """The HTTPS address of an asset by STAC's alternate-assets extension; "" if its host may not receive a token."""
    alternates = asset.get("alternate")
    way = alternates.get("https") if isinstance(alternates, Mapping) else None
    href = way.get("href") if isinstance(way, Mapping) else None
    return public(href) if isinstance(href, str) and may_see_keys(href, hosts) else ""


def _shifts(item: Item, present: Sequence[tuple[Band, Mapping[str, Any]]], page: Page, catalog: Catalog) -> list[int]:
    """Counts to add to each band, by the rule that the page names. Only reflectance ever had the offset."""
    reflectance = [page.radiometry != "none" and band.quantity.name == "reflectance" for band, _ in present]
    if not any(reflectance):
        return [0] * len(present)
    removed = item["properties"].get("earthsearch:boa_offset_applied")
    if removed is not None and not isinstance(removed, bool):
        raise RadiometryError(
            f"item {item['id']}: earthsearch:boa_offset_applied is neither true nor false: {removed!r}"
        )
    said = baseline_of(item)
    if page.radiometry == "sentinel-2-eopf":
        return [_eopf_shift(item, said) if carries else 0 for carries in reflectance]
    shifts = []
    for (_, asset), carries in zip(present, reflectance, strict=True):
        baseline, declared = said, _declared_offset(item, asset) if carries else None
        if carries and not baseline and declared is None and (product := _product_file(item, catalog)):
            facts = product_facts(product)
            baseline, declared = facts.baseline, facts.offset / 10_000
        shifts.append(s2_shift(S2Facts(item["id"], baseline, declared, removed)) if carries else 0)
    return shifts


def _eopf_shift(item: Item, baseline: str) -> int:
    """Counts to add to the reflectance of an EOPF Zarr store, whose counts are those of the product.

    The scale of 1e-4 and the offset of -0.1 that arrays and items declare are constants of the converter, also where a
    product older than baseline 04.00 has no offset. So the baseline alone decides.

    Raises:
        RadiometryError: The item names no baseline.
    """
    if not baseline:
        raise RadiometryError(
            f"item {item['id']} names no processing baseline, neither in its id nor by its datatake or datastrip: "
            "whether its counts carry the +1000 of baseline 04.00 cannot be known, because the offset of -0.1 that "
            "Zarr stores of EOPF declare is there in any case"
        )
    return s2_shift(S2Facts(item["id"], baseline, None, None))


def _stored_as(item: Item, band: Band, asset: Mapping[str, Any]) -> tuple[bool, float | None]:
    """Whether backscatter is declared in dB, and the declared no-data value of a band, None if there is none.

    Raises:
        RadiometryError: The band is declared with a unit or scale that differs from the mission's.
    """
    lists = (asset.get(key) for key in ("raster:bands", "bands", "eo:bands"))
    bands = [part for found in lists if isinstance(found, list) for part in found if isinstance(part, Mapping)]
    places = [*bands, asset]
    units = [str(place[key]).strip() for place in places for key in ("unit", "raster:unit") if place.get(key)]
    if band.quantity.name == "power":
        decibels = _decibels(item, band, asset, bands, units)
        return decibels, _declared_nodata(item["id"], band, places, strict=decibels)
    if band.quantity.is_class:
        return False, None
    _require_unit(item["id"], band, units)
    _require_scale(item["id"], band, places)
    return False, _declared_nodata(item["id"], band, places, strict=False)


def _declared_nodata(name: str, band: Band, places: Sequence[Mapping[str, Any]], *, strict: bool) -> float | None:
    """The declared no-data value of a band; None if none is declared, or the mission's own.

    Raises:
        RadiometryError: With ``strict``, if it is not a number.
    """
    declared = (place[key] for place in places for key in ("nodata", "raster:nodata") if place.get(key) is not None)
    try:
        said = next((float(value) for value in declared), band.quantity.fill)
        return None if said == band.quantity.fill else said
    except (TypeError, ValueError, OverflowError):
        if not strict:
            return None
        raise RadiometryError(f"item {name} declares a nodata of {band.name} that is no number") from None


_OTHER_UNITS = {
    "reflectance": re.compile(r"%|per ?cent|W/m.*|W ?m.*|.*radiance", re.IGNORECASE),
    "temperature": re.compile(
        r"(?:deg(?:rees?)?[ _.]*)?(?:C|Celsius|F|Fahrenheit)|\N{DEGREE SIGN} ?[CF]", re.IGNORECASE
    ),
    "height": re.compile(
        r"(?:international |us survey )?(?:f(?:oo|ee)?t|cm|centimet(?:er|re)s?|dm|mm|k(?:ilo)?m.*)", re.I
    ),
}
"""Units by quantity in which other products store pixels; their values would be misread."""


def _require_unit(name: str, band: Band, units: Iterable[str]) -> None:
    """Check that a band is not declared in a unit known to differ from its mission's.

    Raises:
        RadiometryError: The unit differs.
    """
    other = _OTHER_UNITS.get(band.quantity.name)
    for unit in units:
        if other is not None and other.fullmatch(unit):
            own = {"1": "reflectance", "K": "kelvin", "m": "metres"}.get(band.quantity.units, band.quantity.units)
            raise RadiometryError(f"item {name} declares its band {band.name} in {unit}: only {own} is read")


_NOT_BELIEVED = ("aerosol", "vapour")
"""Quantities whose scale is wrong in items of the Copernicus Data Space, which declare the scale of reflectance."""


def _require_scale(name: str, band: Band, places: Sequence[Mapping[str, Any]]) -> None:
    """Check that a band is not declared with another scale or offset than its mission's.

    A scale of 1 counts as not declared: tools write it where a file has no scale. The offset of Sentinel-2 has its own
    rules.

    Raises:
        RadiometryError: The scale or offset differs, or is not a number.
    """
    quantity = band.quantity
    if quantity.name in _NOT_BELIEVED:
        return
    for key, own, plain in (("scale", quantity.scale, 1.0), ("offset", quantity.offset, 0.0)):
        if key == "offset" and quantity.name == "reflectance" and math.isclose(quantity.scale, 1e-4):
            continue
        for said in (place[word] for place in places for word in (f"raster:{key}", key) if place.get(word) is not None):
            try:
                number = float(said)
            except (TypeError, ValueError, OverflowError):
                raise RadiometryError(f"item {name} declares a {key} of {band.name} that is no number") from None
            if not math.isclose(number, own, rel_tol=1e-3, abs_tol=1e-12) and number != plain:
                raise RadiometryError(
                    f"item {name} declares its band {band.name} with {key} {said}: its mission has {own:g}, and no "
                    "other is read"
                )


_DECIBELS = re.compile(r"(?<![A-Za-z])(?:d[Bb]s?|DB|[Dd]eci-?[Bb]els?|dBsm|10 ?\*? ?log_?10)(?![A-Za-z])", re.ASCII)
_LINEAR = re.compile(r"\b(?:linear|power)\b", re.IGNORECASE)
_AMPLITUDE = re.compile(r"(linear )?amplitude\b.*", re.IGNORECASE)
_NAME_IN_DECIBELS = re.compile(r".*[_\-. (]d[Bb]\)?|.*[Dd]ecibels?", re.ASCII)


def _decibels(
    item: Item, band: Band, asset: Mapping[str, Any], bands: Sequence[Mapping[str, Any]], said_units: Sequence[str]
) -> bool:
    """Whether backscatter is declared in dB.

    The declaration may be a unit of the asset, of its bands or of the item (``raster:bands``, ``bands``, ``s1:units``),
    the name of the band (``VV_dB``), or a title or description that does not mention linear power.

    Raises:
        RadiometryError: It is declared in a unit that is neither power nor dB, or scaled.
    """
    name = item["id"]
    units = [*said_units, *(str(said) for key, said in item["properties"].items() if said and _UNIT_KEY.search(key))]
    for unit in filter(_AMPLITUDE.fullmatch, units):
        raise RadiometryError(f"item {name} declares its backscatter {band.name} as {unit}, and not as power or in dB")
    for key, plain in (("scale", 1), ("raster:scale", 1), ("offset", 0), ("raster:offset", 0)):
        for said in (place[key] for place in (*bands, asset) if place.get(key) is not None):
            if said != plain:
                raise RadiometryError(
                    f"item {name} declares its backscatter {band.name} with {key} {said}: only power or dB is read"
                )
    named = [str(part["name"]) for part in bands if part.get("name")]
    words = [str(asset[key]) for key in ("title", "description") if asset.get(key)]
    if any(map(_DECIBELS.search, units)) or any(map(_NAME_IN_DECIBELS.fullmatch, named)):
        return True
    return any(map(_DECIBELS.search, words)) and not any(map(_LINEAR.search, (*words, *units)))


_UNIT_KEY = re.compile(r"(^|:)units?$")


def _product_file(item: Item, catalog: Catalog) -> str:
    """Path of the product's metadata file, "" if the item names none, may not name it, or it is not on disk."""
    hrefs = (item["assets"][key]["href"] for key in ("product_metadata", "product-metadata") if key in item["assets"])
    return next((path for href in hrefs if (path := local_path(href)) and not problem_of_href(href, catalog)), "")


@lru_cache(maxsize=64)
def product_facts(path: str) -> ProductFacts:
    """Facts from a product's own metadata file, see :func:`stac2cube.algorithms.radiometry.parse_product`.

    Raises:
        RadiometryError: It cannot be read, or no rule covers its content.
    """
    try:
        require_plain_file(path)
        return parse_product(Path(path).read_text(encoding="utf-8"), path)
    except OSError as error:
        raise RadiometryError(f"{path} cannot be read: {error.strerror}") from error
    except ReadError as error:
        raise RadiometryError(str(error)) from error


def _declared_offset(item: Item, asset: Mapping[str, Any]) -> float | None:
    """A value declared by an asset or by its first band, in the raster extension or in STAC 1.1."""
    lists = (asset.get(key) for key in ("raster:bands", "bands"))
    firsts = (found[0] for found in lists if isinstance(found, list) and found and isinstance(found[0], Mapping))
    for place in (asset, *firsts):
        for key in ("raster:offset", "offset"):
            if place.get(key) is None:
                continue
            try:
                return float(place[key])
            except (TypeError, ValueError, OverflowError):
                raise RadiometryError(
                    f"item {item['id']} declares an offset that is no number: {place[key]!r}"
                ) from None
    return None


def item_text(item: Item) -> str:
    """An item as JSON, unsigned and without links, as ledger and index store it."""
    if isinstance(item, StoredItem):
        return item.text
    text = _encoded({**item, "links": []})
    if not _MAY_BE_SECRET.search(text):  # nearly always; walking through an item is slower than encoding it
        return text
    return _encoded({**_unsigned_within(item), "links": []})


_MAY_BE_SECRET = re.compile(r"://[^\s\"]*[@?#;=]|\"/[^\s\"]*\?")
"""Matches texts that hold an address that may contain a key."""

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def _encoded(item: Any) -> str:
    """JSON without NaN and infinity, which JSON lacks: STAC writes them as texts (common metadata, nodata)."""
    try:
        return _ENCODER.encode(item)
    except (ValueError, RecursionError):
        return _ENCODER.encode(_finite(item))


_DEEPEST = 100
"""Deepest nesting of lists and objects that is kept of an item; no STAC extension uses a tenth of it."""


def _finite(value: Any, level: int = 0) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if level > _DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {key: _finite(part, level + 1) for key, part in value.items()}
    return [_finite(part, level + 1) for part in value] if isinstance(value, list) else value


def _unsigned_within(value: Any, level: int = 0) -> Any:
    """The same value with every address made :func:`~stac2cube.trust.address.public`, at any depth."""
    if level > _DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {key: _unsigned_within(part, level + 1) for key, part in value.items()}
    if isinstance(value, list):
        return [_unsigned_within(part, level + 1) for part in value]
    return public(value) if isinstance(value, str) else value


# Whether a Sentinel-2 scene's pixels contradict its metadata about the offset.
#
# Some items of Earth Search have a flag that contradicts their pixels, in both directions (threads 9, 66 and 71 of
# github.com/Element84/earth-search). An error of 1000 counts shows in dark surfaces: their blue or red reflectance is
# near 0.02 to 0.05 in all light, and never far below zero.

LONGEST_LOOK = 60.0
"""Time limit for reading a preview, in seconds."""

LOOKED_AT = ("B02", "B04")
"""Bands to check: blue, or else red."""

LOOK_EDGE = 256
"""Edge of the preview, in pixels."""

TOO_DARK = 800
"""Stored counts (reflectance -0.02): if the darkest hundredth is below, an offset is missing. In recorded scenes with a
correct offset it is between 1180 and 1515."""

TOO_BRIGHT = 1900
"""Stored counts (reflectance 0.09): if the darkest hundredth of vegetation and water is above, an offset was added to
pixels that already had it."""

DARK_CLASSES = (3, 4, 6)
"""Cloud shadow, vegetation and water of the scene classification."""

ENOUGH = 100
"""Smallest number of pixels of these classes for a judgement."""


def offset_problems(scenes: Sequence[Scene]) -> list[str]:
    """Why the pixels of each scene contradict its metadata, "" if they do not.

    A preview of one band and of the classes is read for each granule. If that fails, nothing is reported: reading the
    pixels will raise the error.
    """
    with ThreadPoolExecutor(16, thread_name_prefix="judge") as pool:
        return list(pool.map(_contradiction_in, scenes))


def _contradiction_in(scene: Scene) -> str:
    if scene.problem:
        return ""
    return next((words for granule in scene.granules if (words := contradiction(granule))), "")


def is_flagged(scene: Scene) -> bool:
    """Whether a provider declares that it changed the offset of a scene: only then can flag and pixels differ."""
    return any('"earthsearch:boa_offset_applied"' in granule.item for granule in scene.granules)


def contradiction(granule: Granule) -> str:
    """Why the pixels of a granule contradict its metadata, "" if they do not."""
    band = next((name for name in LOOKED_AT if name in granule.assets), None)
    if band is None:
        return ""
    pixels = _picture(granule, band)
    if pixels is None or not (pixels > 0).any():
        return ""
    counts = pixels.astype("int64") + granule.assets[band].shift
    darkest = float(np.percentile(counts[pixels > 0], 1))
    if darkest < TOO_DARK:
        return _offset_words(
            granule, band, darkest, "darker than any surface: its pixels seem to have lost their offset"
        )
    classes = _picture(granule, "SCL")
    if classes is None or classes.shape != pixels.shape:
        return ""
    dark = np.isin(classes, DARK_CLASSES) & (pixels > 0)
    if dark.sum() >= ENOUGH and (darkest := float(np.percentile(counts[dark], 1))) > TOO_BRIGHT:
        return _offset_words(
            granule, band, darkest, "too bright for vegetation and water: its pixels seem to have an offset"
        )
    return ""


def _offset_words(granule: Granule, band: str, darkest: float, what: str) -> str:
    reflectance = darkest * 1e-4 - 0.1
    return (
        f"item {granule.id}: by its metadata the darkest {band} is {reflectance:.2f} reflectance, {what}. Its offset "
        f"flag and its pixels contradict each other (baseline {granule.baseline or 'unknown'}, shift "
        f"{granule.assets[band].shift})"
    )


def _picture(granule: Granule, band: str) -> np.ndarray | None:
    import rasterio
    from rasterio.enums import Resampling

    asset = granule.assets.get(band)
    if asset is None or is_zarr_array(asset.href):
        return None  # a Zarr array has no overview: the whole array would have to be read

    def look() -> np.ndarray:
        way = opening(asset, granule.signer)
        with gdal_settings(remote=way.remote, store=way.settings), open_image(way.location) as file:
            shape = (min(LOOK_EDGE, file.height), min(LOOK_EDGE, file.width))
            picture: np.ndarray = file.read(asset.index, out_shape=shape, resampling=Resampling.nearest)
            return picture

    try:
        return within(LONGEST_LOOK, look, "a look at it")
    except (rasterio.errors.RasterioError, ReadError, OSError):
        return None
