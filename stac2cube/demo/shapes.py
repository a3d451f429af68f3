"""The same granule as four catalogs describe it: item ids, asset names, statements about offsets, addresses.

Property and asset names follow items that the catalogs served; the values are the simulator's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from stac2cube.demo.item import (
    COG,
    COMMON_NAMES,
    EXTENSIONS,
    asset_of,
    box_of,
    common_of,
    eo_of,
    item_of,
    raster_band_of,
    sun_of,
    text_of,
)
from stac2cube.demo.product import (
    CDSE,
    EARTH_SEARCH,
    EARTH_SEARCH_C1,
    OTHER,
    PLANETARY_COMPUTER,
    TERRABYTE,
    Form,
    Json,
    Product,
    in_collection_1,
)
from stac2cube.demo.scenes import GSD

Href = Callable[[str], str]
"""Address of a band's file."""


def earth_search(product: Product, href: Href) -> Json:
    """As Earth Search v1: common names, a flag, and a declared offset that the flag overrules."""
    over, tile = product.overpass, product.tile
    properties = {
        **_earth_search_properties(product),
        "s2:sequence": str(product.sequence),
        "earthsearch:boa_offset_applied": product.since_0400,
    }
    name = f"{over.unit}_{tile.code}_{over.time:%Y%m%d}_{product.sequence}_L2A"
    assets = _earth_search_assets(product, href, EARTH_SEARCH)
    return item_of((name, "sentinel-2-l2a", "1.0.0"), EXTENSIONS["earth-search"], product, properties, assets)


def earth_search_c1(product: Product, href: Href) -> Json:
    """As Earth Search's Collection 1: ESA's counts as they are, a declared offset that holds, no flag."""
    over, tile = product.overpass, product.tile
    name = f"{over.unit}_T{tile.code}_{product.sensed}_L2A"
    assets = _earth_search_assets(product, href, EARTH_SEARCH_C1)
    properties = _earth_search_properties(product)
    return item_of((name, "sentinel-2-c1-l2a", "1.0.0"), EXTENSIONS["earth-search"], product, properties, assets)


def planetary_computer(product: Product, href: Href) -> Json:
    """As the Planetary Computer does: ESA's band names, no word about offsets, its own capitals in the platform."""
    over = product.overpass
    properties = {
        **common_of(product, over.time),
        "platform": f"Sentinel-2{over.platform[-1].upper()}",
        "constellation": "Sentinel 2",
        "proj:epsg": product.tile.epsg,
        "sat:relative_orbit": over.orbit,
        "sat:orbit_state": "descending",
        "s2:mgrs_tile": product.tile.code,
    }
    assets = {
        band: {
            **asset_of(product, href(band), PLANETARY_COMPUTER.gsd(band), COG),
            "proj:bbox": box_of(product.tile),
            **eo_of(band, band),
        }
        for band in GSD
    }
    name = product.uri.replace(f"_N{over.baseline.replace('.', '')}", "")
    return item_of((name, "sentinel-2-l2a", "1.0.0"), EXTENSIONS["planetary-computer"], product, properties, assets)


def terrabyte(product: Product, href: Href) -> Json:
    """As terrabyte: product name as id, declared offsets, addresses of files on its own disks.

    Its older collection, here until 2022, names assets by common name; items since 2024 have ``proj:code``.
    """
    over, tile = product.overpass, product.tile
    old, recent = over.time.year <= 2022, over.time.year >= 2024
    properties = {
        **common_of(product, over.time),
        **({"proj:code": f"EPSG:{tile.epsg}"} if recent else {"proj:epsg": tile.epsg}),
        "sat:relative_orbit": over.orbit,
        "sat:orbit_state": "descending",
        "grid:code": f"MGRS-{tile.code}",
        **sun_of(over),
    }
    media = "image/jp2" if href("B02").endswith(".jp2") else COG
    assets = {
        COMMON_NAMES[band] if old else band: {
            **asset_of(product, href(band), TERRABYTE.gsd(band), media),
            "proj:bbox": box_of(tile),
            **eo_of(band, band),
            "raster:bands": [raster_band_of(band, TERRABYTE, offset=product.since_0400)],
        }
        for band in GSD
    }
    for asset in assets.values():
        asset["href"] = f"file://{asset['href']}" if asset["href"].startswith("/") else asset["href"]
    collection = "sentinel-2-l2a" if old else "sentinel-2-c1-l2a"
    extensions = EXTENSIONS["terrabyte-recent" if recent else "terrabyte"]
    return item_of((product.uri, collection, "1.0.0"), extensions, product, properties, assets)


def cdse(product: Product, href: Href) -> Json:
    """As the Copernicus Data Space: STAC 1.1, pixel size in asset names, an offset declared on AOT and WVP too."""
    over, tile = product.overpass, product.tile
    time = text_of(over.time)
    properties = {
        "gsd": 10,
        "datetime": time,
        "start_datetime": time,
        "end_datetime": time,
        "platform": over.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "product:type": "S2MSI2A",
        "eo:cloud_cover": product.cloud_cover,
        "grid:code": f"MGRS-{tile.code}",
        "sat:relative_orbit": over.orbit,
        "sat:absolute_orbit": over.absolute_orbit,
        "sat:orbit_state": "descending",
        "processing:version": over.baseline,
        "processing:level": "L2",
        "eopf:datastrip_id": product.datastrip,
        "eopf:datatake_id": product.datatake,
        **sun_of(over),
    }
    assets = {}
    for band in GSD:
        gsd, address = CDSE.gsd(band), href(band)
        asset = asset_of(product, address, gsd, "image/jp2" if address.endswith(".jp2") else COG)
        asset |= {"proj:code": f"EPSG:{tile.epsg}", "proj:bbox": box_of(tile), "nodata": 0}
        # The web address is behind a login: it is here to be left alone.
        elsewhere = f"https://download.invalid/{product.uri}/{band}_{gsd}m.jp2"
        asset["alternate"] = {"https": {"href": elsewhere, "auth:refs": ["oidc"], "alternate:name": "HTTPS"}}
        asset["data_type"] = "uint8" if band == "SCL" else "uint16"
        if band not in OTHER:
            asset["bands"] = [{"name": band, "eo:common_name": COMMON_NAMES[band]}]
        if band != "SCL":
            scale = 0.001 if band in OTHER else 0.0001
            asset |= {"raster:scale": scale, "raster:offset": -0.1 if product.since_0400 else 0}
        assets[f"{band}_{gsd}m"] = asset
    return item_of((product.uri, "sentinel-2-l2a", "1.1.0"), EXTENSIONS["cdse"], product, properties, assets)


@dataclass(frozen=True)
class View:
    """One collection of a catalog.

    Attributes:
        describe: Makes the item of a product, given the address of each band's file.
        form: How it stores pixels.
        holds: Whether it has a product.
    """

    describe: Callable[[Product, Href], Json]
    form: Form
    holds: Callable[[Product], bool] = lambda _product: True


VIEWS: Mapping[str, tuple[View, ...]] = {
    "earth-search": (View(earth_search, EARTH_SEARCH), View(earth_search_c1, EARTH_SEARCH_C1, in_collection_1)),
    "planetary-computer": (View(planetary_computer, PLANETARY_COMPUTER),),
    "terrabyte": (View(terrabyte, TERRABYTE),),
    "cdse": (View(cdse, CDSE),),
}
"""Per catalog its collections."""


def collections(items: list[Json]) -> list[Json]:
    """STAC collections of the items, for an API server."""
    return [
        {
            "type": "Collection",
            "stac_version": "1.0.0",
            "stac_extensions": [],
            "id": name,
            "description": "Simulated Sentinel-2 L2A scenes",
            "license": "CC0-1.0",
            "extent": _extent([item for item in items if item["collection"] == name]),
            "links": [],
        }
        for name in sorted({item["collection"] for item in items})
    ]


def _extent(items: list[Json]) -> Json:
    west, south, east, north = zip(*(item["bbox"] for item in items), strict=True)
    times = sorted(item["properties"]["datetime"] for item in items)
    box = [min(west), min(south), max(east), max(north)]
    return {"spatial": {"bbox": [box]}, "temporal": {"interval": [[times[0], times[-1]]]}}


def _earth_search_properties(product: Product) -> Json:
    over, tile = product.overpass, product.tile
    # Its times are those of each tile, some minutes after the datatake's start that the others give.
    seconds = 13 * (1 + int(tile.code[:2]) % 2) + ord(tile.code[3]) % 7
    return {
        **common_of(product, over.time + timedelta(minutes=7, seconds=seconds)),
        "proj:epsg": tile.epsg,
        "mgrs:utm_zone": int(tile.code[:2]),
        "mgrs:latitude_band": tile.code[2],
        "mgrs:grid_square": tile.code[3:],
        "grid:code": f"MGRS-{tile.code}",
        **sun_of(over),
    }


def _earth_search_assets(product: Product, href: Href, form: Form) -> Json:
    # The declared offset stands there whether the counts still carry it or not.
    return {
        COMMON_NAMES[band]: {
            **asset_of(product, href(band), form.gsd(band), COG),
            **eo_of(band, COMMON_NAMES[band]),
            "raster:bands": [raster_band_of(band, form, offset=product.since_0400)],
        }
        for band in GSD
    }
