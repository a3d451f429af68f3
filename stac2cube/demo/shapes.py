"""The same granule as four catalogs describe it: item ids, asset names, statements about offsets, addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from stac2cube.demo.scenes import GSD, Overpass, Tile

Json = dict[str, Any]

COMMON_NAMES = {
    "B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2",
    "B07": "rededge3", "B08": "nir", "B8A": "nir08", "B09": "nir09", "B11": "swir16", "B12": "swir22",
    "SCL": "scl", "AOT": "aot", "WVP": "wvp",
}  # fmt: skip
"""What STAC calls the bands."""


@dataclass(frozen=True)
class Product:
    """One processing of one granule.

    Attributes:
        tile: Where.
        overpass: When, and in which baseline.
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
        """Start of the datastrip, as it stands in product names."""
        return f"{self.overpass.time + timedelta(minutes=2):%Y%m%dT%H%M%S}"

    @property
    def uri(self) -> str:
        """ESA's product name without suffix; it holds the time of processing, so it changes with every baseline."""
        over = self.overpass
        made = over.time + timedelta(days=1 if self.sequence == 0 else 900)
        number = over.baseline.replace(".", "")
        start, end = f"{over.unit}_MSIL2A_{over.time:%Y%m%dT%H%M%S}", f"{made:%Y%m%dT%H%M%S}"
        return f"{start}_N{number}_R{over.orbit:03d}_T{self.tile.code}_{end}"

    @property
    def datastrip(self) -> str:
        """ESA's name of the datastrip; reprocessing renames all of it but the sensing start."""
        over = self.overpass
        made = self.uri.rsplit("_", 1)[1]
        return f"{over.unit}_OPER_MSI_L2A_DS_2APS_{made}_S{self.sensed}_N{over.baseline}"


@dataclass(frozen=True)
class Form:
    """How a catalog stores pixels.

    Attributes:
        shifted: Whether the offset has been subtracted from the pixels (and clipped at 0).
        jp2: Whether the files are JPEG 2000 when the archive asks for it.
    """

    shifted: bool
    jp2: bool


def earth_search(product: Product, href: Callable[[str], str]) -> Json:
    """As Earth Search v1: common names, a flag, and a declared offset that the flag overrules."""
    over, tile = product.overpass, product.tile
    since_0400 = float(over.baseline) >= 4
    seconds = 13 * (1 + int(tile.code[:2]) % 2) + ord(tile.code[3]) % 7
    properties = {
        **_common(product, over.time + timedelta(minutes=7, seconds=seconds)),
        "platform": over.platform,
        "proj:epsg": tile.epsg,
        "grid:code": f"MGRS-{tile.code}",
        "s2:sequence": str(product.sequence),
        "earthsearch:boa_offset_applied": since_0400,
    }
    assets = {
        COMMON_NAMES[band]: {
            **_asset(product, band, href(band), "image/tiff; application=geotiff; profile=cloud-optimized"),
            "raster:bands": [_raster_band(band, -0.1 if since_0400 else 0)],
        }
        for band in GSD
    }
    name = f"{over.unit}_{tile.code}_{over.time:%Y%m%d}_{product.sequence}_L2A"
    return _item(name, "sentinel-2-l2a", "1.0.0", product, properties, assets)


def planetary_computer(product: Product, href: Callable[[str], str]) -> Json:
    """As the Planetary Computer does: ESA's band names, no word about offsets, its own capitals in the platform."""
    over = product.overpass
    properties = {
        **_common(product, over.time),
        "platform": f"Sentinel-2{over.platform[-1].upper()}",
        "proj:epsg": product.tile.epsg,
        "sat:relative_orbit": over.orbit,
        "s2:mgrs_tile": product.tile.code,
    }
    assets = {band: _asset(product, band, href(band), "image/tiff; application=geotiff") for band in GSD}
    return _item(
        product.uri.replace(f"_N{over.baseline.replace('.', '')}", ""),
        "sentinel-2-l2a",
        "1.0.0",
        product,
        properties,
        assets,
    )


def terrabyte(product: Product, href: Callable[[str], str]) -> Json:
    """As terrabyte's Collection 1: product name as id, band names, declared offsets, newer items with ``proj:code``."""
    over, tile = product.overpass, product.tile
    recent = over.time.year >= 2024
    properties = {
        **_common(product, over.time),
        "platform": over.platform,
        **({"proj:code": f"EPSG:{tile.epsg}"} if recent else {"proj:epsg": tile.epsg}),
        "sat:relative_orbit": over.orbit,
        "sat:orbit_state": "descending",
        "grid:code": f"MGRS-{tile.code}",
    }
    offset = -0.1 if float(over.baseline) >= 4 else 0
    # Items of the first ingest name their assets like stactools did, by common name.
    old = over.time.year <= 2022
    assets = {
        COMMON_NAMES[band] if old else band: {
            **_asset(product, band, f"file://{href(band)}" if href(band).startswith("/") else href(band), "image/jp2"),
            "raster:bands": [_raster_band(band, offset)],
        }
        for band in GSD
    }
    collection = "sentinel-2-l2a" if old else "sentinel-2-c1-l2a"
    return _item(product.uri, collection, "1.0.0", product, properties, assets)


def cdse(product: Product, href: Callable[[str], str]) -> Json:
    """As the Copernicus Data Space: STAC 1.1, pixel size in asset names, an offset declared on AOT and WVP too."""
    over, tile = product.overpass, product.tile
    properties = {
        "datetime": _text(over.time),
        "platform": over.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": product.cloud_cover,
        "grid:code": f"MGRS-{tile.code}",
        "sat:relative_orbit": over.orbit,
        "processing:version": over.baseline,
        "processing:level": "L2",
        "eopf:datastrip_id": product.datastrip,
        "eopf:datatake_id": f"G{over.unit}_{over.time:%Y%m%dT%H%M%S}_000000_N{over.baseline}",
    }
    offset = -0.1 if float(over.baseline) >= 4 else 0
    assets = {}
    for band, gsd in GSD.items():
        asset = {
            **_asset(product, band, href(band), "image/jp2"),
            "proj:code": f"EPSG:{tile.epsg}",
            "bands": [{"name": band, "eo:common_name": COMMON_NAMES[band]}],
            "nodata": 0,
            "data_type": "uint8" if band == "SCL" else "uint16",
        }
        if band != "SCL":
            asset |= {"raster:scale": 0.0001, "raster:offset": offset}
        assets[f"{band}_{gsd}m"] = asset
    return _item(product.uri, "sentinel-2-l2a", "1.1.0", product, properties, assets)


SHAPES: Mapping[str, tuple[Callable[[Product, Callable[[str], str]], Json], Form]] = {
    "earth-search": (earth_search, Form(shifted=True, jp2=False)),
    "planetary-computer": (planetary_computer, Form(shifted=False, jp2=False)),
    "terrabyte": (terrabyte, Form(shifted=False, jp2=True)),
    "cdse": (cdse, Form(shifted=False, jp2=True)),
}
"""Per catalog how it describes and how it stores."""


def collections(items: list[Json]) -> list[Json]:
    """STAC collections for the items, for an API server."""
    return [
        {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": name,
            "description": "Simulated Sentinel-2 L2A scenes",
            "license": "CC0-1.0",
            "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
            "links": [],
        }
        for name in sorted({item["collection"] for item in items})
    ]


def _common(product: Product, time: Any) -> Json:
    over = product.overpass
    return {
        "datetime": _text(time),
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": product.cloud_cover,
        "s2:processing_baseline": over.baseline,
        "s2:product_uri": f"{product.uri}.SAFE",
        "s2:datatake_id": f"G{over.unit}_{over.time:%Y%m%dT%H%M%S}_000000_N{over.baseline}",
        "s2:datastrip_id": product.datastrip,
        "s2:generation_time": _text(over.time + timedelta(days=1 if product.sequence == 0 else 900)),
    }


def _asset(product: Product, band: str, href: str, media: str) -> Json:
    transform, gsd = product.tile.transform(GSD[band]), GSD[band]
    pixels = product.tile.pixels * 10 // gsd
    return {
        "href": href,
        "type": media,
        "roles": ["data"],
        "gsd": gsd,
        "proj:shape": [pixels, pixels],
        "proj:transform": list(transform)[:6],
    }


def _raster_band(band: str, offset: float) -> Json:
    if band == "SCL":
        return {"nodata": 0, "data_type": "uint8", "spatial_resolution": 20}
    scale, shift = (0.001, 0) if band in ("AOT", "WVP") else (0.0001, offset)
    return {"nodata": 0, "data_type": "uint16", "spatial_resolution": GSD[band], "scale": scale, "offset": shift}


def _item(name: str, collection: str, version: str, product: Product, properties: Json, assets: Json) -> Json:
    corners = [corner for ring in product.footprint["coordinates"] for corner in ring]
    longitudes, latitudes = zip(*corners, strict=True)
    return {
        "type": "Feature",
        "stac_version": version,
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        "geometry": product.footprint,
        "bbox": [min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        "properties": properties,
        "links": [],
        "assets": assets,
    }


def _text(time: Any) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
