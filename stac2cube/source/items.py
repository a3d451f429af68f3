"""One STAC item of any provider's shape as a :class:`~stac2cube.scene.Granule`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from shapely import make_valid, transform
from shapely.errors import ShapelyError
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from stac2cube.catalog import Catalog, catalogs
from stac2cube.errors import BadInputError, CatalogError, RadiometryError, ReadError
from stac2cube.globe import WGS84, parse_crs, to_wgs84
from stac2cube.kernels.product_xml import ProductFacts, parse_product
from stac2cube.kernels.radiometry import S2Facts, s2_shift
from stac2cube.mission import Band, Mission, Page
from stac2cube.scene import AssetRef, Granule
from stac2cube.source.hrefs import check_href, kept_assets, local_path, problem_of_href, require_plain_file
from stac2cube.source.identity import Identity, Item, baseline_of, time_of
from stac2cube.source.indexed import StoredItem
from stac2cube.trust.address import has_secret, may_see_keys, public
from stac2cube.trust.text import is_printable, printable

SIMULATED = "stac2cube:simulated"
"""Property of an item that says that no satellite measured it: true for the simulator's, absent elsewhere."""


@dataclass(frozen=True)
class Reading:
    """How the items of one search are read.

    Attributes:
        mission: What is looked for.
        catalog: Where the items come from.
        bands: Bands wanted.
    """

    mission: Mission
    catalog: Catalog
    bands: tuple[Band, ...]

    @cached_property
    def known(self) -> Mapping[str, Catalog]:
        """The catalogs of the tables, read once for all items."""
        return catalogs()

    @cached_property
    def _chosen(self) -> dict[tuple[str, frozenset[str]], tuple[Page, tuple[tuple[Band, str], ...]] | None]:
        """What :meth:`_choose` said: nearly all items of a search have assets of the same names."""
        return {}

    def assets_of(self, item: Item) -> tuple[Page, list[tuple[Band, Mapping[str, Any]]]] | None:
        """The page that fits an item, and those of its assets that are bands wanted; None if no page fits.

        It fits if it is of the item's catalog and collection, else if it names most of its assets.
        """
        names = (item.get("collection") or "", frozenset(item["assets"]))
        if names not in self._chosen:
            self._chosen[names] = self._choose(*names)
        chosen = self._chosen[names]
        return chosen and (chosen[0], [(band, item["assets"][name]) for band, name in chosen[1]])

    def _choose(self, collection: str, assets: frozenset[str]) -> tuple[Page, tuple[tuple[Band, str], ...]] | None:
        pages = [page for page in self.mission.pages if page.catalog == self.catalog.like] or list(self.mission.pages)
        named = [page for page in pages if page.collection == collection] or pages
        present = [_present(page, assets, self.mission.bands.values()) for page in named]
        best = max(range(len(named)), key=lambda place: len(present[place]))
        return (named[best], tuple(_present(named[best], assets, self.bands))) if present[best] else None


def _present(page: Page, assets: Collection[str], bands: Iterable[Band]) -> list[tuple[Band, str]]:
    """Bands that some assets hold, with the names of those."""
    found = [(band, next((name for name in page.asset_names(band) if name in assets), None)) for band in bands]
    return [(band, name) for band, name in found if name is not None]


def to_granule(item: Item, reading: Reading, identity: Identity) -> Granule:
    """Reduce an item to what building and bookkeeping need.

    Args:
        item: With absolute hrefs.
        reading: How to read it.
        identity: Who it is.

    Raises:
        CatalogError: It lacks what no cube can do without (a time, a geometry, a known asset), or names what its
            catalog may not name.
        RadiometryError: Its metadata contradict each other.
    """
    properties, name = item["properties"], item["id"]
    _check_words(item)
    chosen = reading.assets_of(item)
    if chosen is None:
        raise CatalogError(f"item {name} has none of the assets that {reading.mission.name} knows")
    page, present = chosen
    known = reading.known.get(page.catalog)
    for band, asset in present:
        check_href(name, band.name, asset.get("href"), reading.catalog)
    if reading.catalog.is_foreign and len(kept := kept_assets(item, reading.catalog)) < len(item["assets"]):
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
        crs=_crs(item),
        corner=_corner(item),
        assets={
            band.name: _reference(asset, shift, hosts)
            for (band, asset), shift in zip(present, _shifts(item, present, page, reading.catalog), strict=True)
        },
        item=item_text(item),
        simulated=properties.get(SIMULATED) is True,
        signed={key: asset["href"] for key, asset in item["assets"].items() if has_secret(str(asset.get("href")))},
    )


def _check_words(item: Item) -> None:
    """See that what names an item is fit to be shown and written.

    Raises:
        CatalogError: It has control characters.
    """
    properties = item["properties"]
    words = {"id": item["id"], "collection": item.get("collection") or ""}
    words |= {key: properties[key] for key in _NAMING if isinstance(properties.get(key), str)}
    for key, word in words.items():
        if not isinstance(word, str) or not is_printable(word):
            raise CatalogError(f"item {printable(item['id'])}: its {key} has control characters, or is no text")


_NAMING = ("platform", "grid:code", "s2:mgrs_tile", "s2:processing_baseline", "processing:version", "sat:orbit_state")
"""Properties of which a cube keeps the words."""


def _reference(asset: Mapping[str, Any], shift: int, hosts: Collection[str]) -> AssetRef:
    """Where the pixels of a band are; ``hosts`` may see keys."""
    href = asset["href"]
    plain = public(href)
    return AssetRef(
        href=plain,
        shift=shift,
        alternate=_alternate(asset, hosts),
        signed="" if plain == href else href,
        keys=may_see_keys(href, hosts),
    )


def footprint_of(item: Item) -> BaseGeometry:
    """Where the item lies: valid polygons in WGS84, split at the antimeridian, whichever way the item crosses it.

    Raises:
        CatalogError: It has no geometry, or one that cannot be understood.
    """
    if not item.get("geometry"):
        raise CatalogError(f"item {item['id']} has no geometry")
    try:
        drawn = shape(item["geometry"])
        if drawn.is_empty:
            raise ValueError("it is empty")
        west, _, east, _ = drawn.bounds
        # Only what runs beyond 180 degrees, or seems to span the globe, lies across the antimeridian.
        if east - west > 180 and drawn.geom_type == "Polygon":
            # Unrolled before it is repaired: a repair may cut what seems to span the globe into pieces.
            drawn = transform(drawn, lambda points: points + np.where(points < 0, [360.0, 0.0], 0.0))
        valid = drawn if drawn.is_valid else make_valid(drawn)
        west, _, east, _ = valid.bounds
        return to_wgs84(valid, parse_crs(WGS84)) if west < -180 or east > 180 else valid
    except (ShapelyError, BadInputError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise CatalogError(f"item {item['id']} has a geometry that is none: {error}") from error


def _alternate(asset: Mapping[str, Any], hosts: Collection[str]) -> str:
    """The HTTPS way to an asset, by STAC's alternate-assets extension; "" if its host may not see a token."""
    alternates = asset.get("alternate")
    way = alternates.get("https") if isinstance(alternates, Mapping) else None
    href = public(str(way["href"])) if isinstance(way, Mapping) and way.get("href") else ""
    return href if may_see_keys(href, hosts) else ""


def _shifts(item: Item, present: Sequence[tuple[Band, Mapping[str, Any]]], page: Page, catalog: Catalog) -> list[int]:
    """Counts to add to each band, by the rule that the page names. Only reflectance ever carried the offset."""
    reflectance = [page.radiometry != "none" and band.quantity.name == "reflectance" for band, _ in present]
    if not any(reflectance):
        return [0] * len(present)
    removed = item["properties"].get("earthsearch:boa_offset_applied")
    if removed not in (None, True, False):
        raise RadiometryError(
            f"item {item['id']}: earthsearch:boa_offset_applied is neither true nor false: {removed!r}"
        )
    said = baseline_of(item)
    shifts = []
    for (_, asset), carries in zip(present, reflectance, strict=True):
        baseline, declared = said, _declared_offset(item, asset) if carries else None
        if carries and not baseline and declared is None and (product := _product_file(item, catalog)):
            facts = product_facts(product)
            baseline, declared = facts.baseline, facts.offset / 10_000
        shifts.append(s2_shift(S2Facts(item["id"], baseline, declared, removed)) if carries else 0)
    return shifts


def _product_file(item: Item, catalog: Catalog) -> str:
    """Where the product's own metadata lie on disk, "" if the item does not say, or may not, or they are elsewhere."""
    hrefs = (item["assets"][key]["href"] for key in ("product_metadata", "product-metadata") if key in item["assets"])
    return next((path for href in hrefs if (path := local_path(href)) and not problem_of_href(href, catalog)), "")


@lru_cache(maxsize=64)
def product_facts(path: str) -> ProductFacts:
    """What a product's own metadata file says, see :func:`stac2cube.kernels.product_xml.parse_product`.

    Raises:
        RadiometryError: It cannot be read, or says what no rule covers.
    """
    try:
        require_plain_file(path)
        return parse_product(Path(path).read_text(), path)
    except OSError as error:
        raise RadiometryError(f"{path} cannot be read: {error.strerror}") from error
    except ReadError as error:
        raise RadiometryError(str(error)) from error


def _declared_offset(item: Item, asset: Mapping[str, Any]) -> float | None:
    bands: Sequence[Mapping[str, Any]] = asset.get("raster:bands") or asset.get("bands") or ({},)
    for place in (asset, bands[0]):
        for key in ("raster:offset", "offset"):
            if place.get(key) is None:
                continue
            try:
                return float(place[key])
            except (TypeError, ValueError):
                raise RadiometryError(
                    f"item {item['id']} declares an offset that is no number: {place[key]!r}"
                ) from None
    return None


def _crs(item: Item) -> str:
    for place in (item["properties"], *item["assets"].values()):
        if place.get("proj:code"):
            return str(place["proj:code"])
        if place.get("proj:epsg"):
            return f"EPSG:{place['proj:epsg']}"
        if place.get("proj:wkt2"):
            return str(place["proj:wkt2"])
    return ""


def _corner(item: Item) -> tuple[float, float] | None:
    """Upper left corner, which all assets of an item share whatever their pixel size."""
    for place in (item["properties"], *item["assets"].values()):
        if transform := place.get("proj:transform"):
            return float(transform[2]), float(transform[5])
    return None


def item_text(item: Item) -> str:
    """An item as JSON, unsigned and without links: what ledger and index keep of it."""
    if isinstance(item, StoredItem):
        return item.text
    text = _ENCODER.encode({**item, "links": []})
    if not _MAY_BE_SECRET.search(text):  # as nearly always; walking through an item is slower than writing it
        return text
    return _ENCODER.encode({**_unsigned_within(item), "links": []})


_MAY_BE_SECRET = re.compile(r"://[^\s\"]*[@?#]")
"""Whether a text holds an address that may carry a key."""

_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _unsigned_within(value: Any) -> Any:
    """The same with every address :func:`~stac2cube.trust.address.public`, wherever it stands."""
    if isinstance(value, Mapping):
        return {key: _unsigned_within(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_unsigned_within(part) for part in value]
    return public(value) if isinstance(value, str) else value
