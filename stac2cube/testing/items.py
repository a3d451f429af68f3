"""Items of the simulated archive as each catalog describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stac2cube.testing.scenes import GSD, Overpass, Tile

# Products of granules: ESA's names, and the forms in which collections store them.

Json = dict[str, Any]

OTHER = ("SCL", "AOT", "WVP")
"""Bands that are not reflectance."""


@dataclass(frozen=True)
class GranuleProduct:
    """One processing of one granule.

    Attributes:
        tile: The tile.
        overpass: The overpass, with the processing baseline.
        footprint: GeoJSON geometry of its valid pixels, WGS84.
        cloud_cover: Percent.
        sequence: Number that Earth Search gives to repeated processings.
    """

    tile: Tile
    overpass: Overpass
    footprint: Json
    cloud_cover: float
    sequence: int = 0

    @property
    def sensed(self) -> str:
        """Start of the datastrip, as in product names."""
        return f"{self.overpass.time + timedelta(minutes=2):%Y%m%dT%H%M%S}"

    @property
    def made(self) -> datetime:
        """Time of processing."""
        return self.overpass.time + timedelta(days=1 if self.sequence == 0 else 900)

    @property
    def since_0400(self) -> bool:
        """Whether its counts include ESA's offset."""
        return float(self.overpass.baseline) >= 4

    @property
    def uri(self) -> str:
        """ESA's product name without suffix; it holds the time of processing, so it changes with every baseline."""
        over = self.overpass
        number = over.baseline.replace(".", "")
        start, end = f"{over.unit}_MSIL2A_{over.time:%Y%m%dT%H%M%S}", f"{self.made:%Y%m%dT%H%M%S}"
        return f"{start}_N{number}_R{over.orbit:03d}_T{self.tile.code}_{end}"

    @property
    def datastrip(self) -> str:
        """ESA's name of the datastrip; reprocessing renames all of it but the sensing start."""
        over, site = self.overpass, "2APS" if self.sequence == 0 else "S2RP"
        return f"{over.unit}_OPER_MSI_L2A_DS_{site}_{self.made:%Y%m%dT%H%M%S}_S{self.sensed}_N{over.baseline}"

    @property
    def datatake(self) -> str:
        """ESA's name of the datatake."""
        over = self.overpass
        return f"G{over.unit}_{over.time:%Y%m%dT%H%M%S}_{over.absolute_orbit:06d}_N{over.baseline}"


@dataclass(frozen=True)
class Form:
    """The form in which a collection stores pixels.

    Attributes:
        shifted: Whether the offset has been subtracted from the counts (and clipped at 0).
        jp2: Whether the files are JPEG 2000 if the archive's specification requests it.
        fine_haze: Whether aerosol and water vapour are stored at 10 m, else at 20 m.
    """

    shifted: bool = False
    jp2: bool = False
    fine_haze: bool = True

    def gsd(self, band: str) -> int:
        """Pixel size of a band's file, metres."""
        return 20 if band in ("AOT", "WVP") and not self.fine_haze else GSD[band]

    def file_name(self, product: GranuleProduct, band: str, *, jp2: bool) -> str:
        """Path of a band's file below the archive; one file serves all collections that store the same."""
        kind = "shifted" if self.shifted and product.since_0400 and band not in OTHER else "raw"
        suffix = "jp2" if self.jp2 and jp2 else "tif"
        return f"{product.uri}/{kind}/{band}_{self.gsd(band)}m.{suffix}"


EARTH_SEARCH = Form(shifted=True, fine_haze=False)
EARTH_SEARCH_C1 = Form(fine_haze=False)
PLANETARY_COMPUTER = Form()
TERRABYTE = Form(jp2=True)
CDSE = Form(jp2=True)


def in_collection_1(product: GranuleProduct) -> bool:
    """Whether Earth Search has a product in Collection 1, beside its first collection."""
    return float(product.overpass.baseline) >= 5.10 and product.overpass.orbit == 108 and product.sequence == 0


# Common parts of the items of all catalogs: properties, assets, bands, and the mark that they are simulated.

SIMULATED = "stac2cube:simulated"
"""Property of every item of the simulator: no satellite measured it, and it must not be attributed to a provider."""

COMMON_NAMES = {
    "B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2",
    "B07": "rededge3", "B08": "nir", "B8A": "nir08", "B09": "nir09", "B11": "swir16", "B12": "swir22",
    "SCL": "scl", "AOT": "aot", "WVP": "wvp",
}  # fmt: skip
"""Common names of the bands in STAC."""

COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def common_of(product: GranuleProduct, time: datetime) -> Json:
    """Properties given by all catalogs but the Data Space."""
    return {
        "datetime": time_text(time),
        "platform": product.overpass.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": product.cloud_cover,
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": product.overpass.baseline,
        "s2:product_uri": f"{product.uri}.SAFE",
        "s2:datatake_id": product.datatake,
        "s2:datastrip_id": product.datastrip,
        "s2:generation_time": time_text(product.made),
    }


def sun_of(over: Overpass) -> Json:
    """Position of the sun."""
    return {"view:sun_azimuth": over.sky.sun_azimuth, "view:sun_elevation": round(over.sky.sun_elevation, 4)}


def asset_of(product: GranuleProduct, href: str, gsd: int, media: str) -> Json:
    """An asset: its address, type and lattice."""
    pixels = product.tile.pixels * 10 // gsd
    return {
        "href": href,
        "type": media,
        "roles": ["data"],
        "gsd": gsd,
        "proj:shape": [pixels, pixels],
        "proj:transform": list(product.tile.transform(gsd))[:6],
    }


def box_of(tile: Tile) -> list[float]:
    """A tile's box in its own CRS: west, south, east, north."""
    x, y, edge = *tile.origin, 10 * tile.pixels
    return [float(x), float(y - edge), float(x + edge), float(y)]


def eo_of(band: str, name: str) -> Json:
    """Description of a spectral band."""
    return {} if band in OTHER else {"eo:bands": [{"name": name, "common_name": COMMON_NAMES[band]}]}


def raster_band_of(band: str, form: Form, *, offset: bool) -> Json:
    """Description of the numbers in a file, with or without a declared offset."""
    if band == "SCL":
        return {"nodata": 0, "data_type": "uint8", "spatial_resolution": 20}
    scale, shift = (0.001, 0) if band in OTHER else (0.0001, -0.1 if offset else 0)
    values = {"nodata": 0, "data_type": "uint16", "spatial_resolution": form.gsd(band)}
    return {**values, "scale": scale, "offset": shift}


def item_of(
    names: tuple[str, str, str], extensions: tuple[str, ...], product: GranuleProduct, properties: Json, assets: Json
) -> Json:
    """An item with the id, collection and STAC version in ``names``."""
    corners = [corner for ring in product.footprint["coordinates"] for corner in ring]
    longitudes, latitudes = zip(*corners, strict=True)
    return {
        "type": "Feature",
        "stac_version": names[2],
        "stac_extensions": [f"https://stac-extensions.github.io/{name}/schema.json" for name in extensions],
        "id": names[0],
        "collection": names[1],
        "geometry": product.footprint,
        "bbox": [min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        "properties": {**properties, SIMULATED: True},
        "links": [],
        "assets": assets,
    }


_TERRABYTE = ("eo/v1.1.0", "raster/v1.1.0", "sat/v1.0.0", "grid/v1.1.0", "view/v1.0.0")
EXTENSIONS: Mapping[str, tuple[str, ...]] = {
    "earth-search": ("eo/v1.1.0", "raster/v1.1.0", "projection/v1.1.0", "mgrs/v1.0.0", "grid/v1.1.0", "view/v1.0.0"),
    "planetary-computer": ("eo/v1.0.0", "sat/v1.0.0", "projection/v1.1.0"),
    "terrabyte": (*_TERRABYTE, "projection/v1.1.0"),
    "terrabyte-recent": (*_TERRABYTE, "projection/v2.0.0"),
    "cdse": (
        "eo/v2.0.0", "raster/v2.0.0", "sat/v1.0.0", "projection/v2.0.0", "grid/v1.1.0", "view/v1.0.0",
        "processing/v1.2.0", "product/v0.1.0", "alternate-assets/v1.2.0", "authentication/v1.1.0",
    ),
}  # fmt: skip
"""STAC extensions that each catalog's items declare."""


def time_text(time: datetime) -> str:
    """A time as STAC writes it, to the millisecond."""
    return f"{time:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


# The same granule as four catalogs describe it: item ids, asset names, declared offsets, addresses.
#
# Property and asset names follow items that the catalogs served; the values are simulated.

Href = Callable[[str], str]
"""Address of a band's file."""


def earth_search(product: GranuleProduct, href: Href) -> Json:
    """Item as in Earth Search v1: common names, a flag, and a declared offset that the flag overrides."""
    over, tile = product.overpass, product.tile
    properties = {
        **_earth_search_properties(product),
        "s2:sequence": str(product.sequence),
        "earthsearch:boa_offset_applied": product.since_0400,
    }
    name = f"{over.unit}_{tile.code}_{over.time:%Y%m%d}_{product.sequence}_L2A"
    assets = _earth_search_assets(product, href, EARTH_SEARCH)
    return item_of((name, "sentinel-2-l2a", "1.0.0"), EXTENSIONS["earth-search"], product, properties, assets)


def earth_search_c1(product: GranuleProduct, href: Href) -> Json:
    """Item as in Earth Search's Collection 1: ESA's counts unchanged, a declared offset that applies, no flag."""
    over, tile = product.overpass, product.tile
    name = f"{over.unit}_T{tile.code}_{product.sensed}_L2A"
    assets = _earth_search_assets(product, href, EARTH_SEARCH_C1)
    properties = _earth_search_properties(product)
    return item_of((name, "sentinel-2-c1-l2a", "1.0.0"), EXTENSIONS["earth-search"], product, properties, assets)


def planetary_computer(product: GranuleProduct, href: Href) -> Json:
    """Item as in the Planetary Computer: ESA's band names, no declared offset, its own capitals in the platform."""
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


def terrabyte(product: GranuleProduct, href: Href) -> Json:
    """Item as in terrabyte: product name as id, declared offsets, addresses of files on its own disks.

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


def cdse(product: GranuleProduct, href: Href) -> Json:
    """Item as in the Copernicus Data Space: STAC 1.1, pixel size in asset names, an offset also on AOT and WVP."""
    over, tile = product.overpass, product.tile
    time = time_text(over.time)
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
        # The web address requires a login: it must not be used.
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
        form: Form in which it stores pixels.
        holds: Whether it has a product.
    """

    describe: Callable[[GranuleProduct, Href], Json]
    form: Form
    holds: Callable[[GranuleProduct], bool] = lambda _product: True


VIEWS: Mapping[str, tuple[View, ...]] = {
    "earth-search": (View(earth_search, EARTH_SEARCH), View(earth_search_c1, EARTH_SEARCH_C1, in_collection_1)),
    "planetary-computer": (View(planetary_computer, PLANETARY_COMPUTER),),
    "terrabyte": (View(terrabyte, TERRABYTE),),
    "cdse": (View(cdse, CDSE),),
}
"""Collections by catalog."""


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


def _earth_search_properties(product: GranuleProduct) -> Json:
    over, tile = product.overpass, product.tile
    # Its times differ by tile, and are some minutes after the datatake's start, which the other catalogs give.
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


def _earth_search_assets(product: GranuleProduct, href: Href, form: Form) -> Json:
    # The offset is declared whether the counts still include it or not.
    return {
        COMMON_NAMES[band]: {
            **asset_of(product, href(band), form.gsd(band), COG),
            **eo_of(band, COMMON_NAMES[band]),
            "raster:bands": [raster_band_of(band, form, offset=product.since_0400)],
        }
        for band in GSD
    }
