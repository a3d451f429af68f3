"""What items of all catalogs have in common: properties, assets, bands; and that they are simulated."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from stac2cube.demo.product import OTHER, Form, Json, Product
from stac2cube.demo.scenes import Overpass, Tile

SIMULATED = "stac2cube:simulated"
"""Property of every item of the simulator: no satellite measured this, and nobody is to be named as if one had."""

COMMON_NAMES = {
    "B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2",
    "B07": "rededge3", "B08": "nir", "B8A": "nir08", "B09": "nir09", "B11": "swir16", "B12": "swir22",
    "SCL": "scl", "AOT": "aot", "WVP": "wvp",
}  # fmt: skip
"""What STAC calls the bands."""

COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def common_of(product: Product, time: datetime) -> Json:
    """Properties that all but the Data Space give."""
    return {
        "datetime": text_of(time),
        "platform": product.overpass.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": product.cloud_cover,
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": product.overpass.baseline,
        "s2:product_uri": f"{product.uri}.SAFE",
        "s2:datatake_id": product.datatake,
        "s2:datastrip_id": product.datastrip,
        "s2:generation_time": text_of(product.made),
    }


def sun_of(over: Overpass) -> Json:
    """Where the sun stands."""
    return {"view:sun_azimuth": over.sky.sun_azimuth, "view:sun_elevation": round(over.sky.sun_elevation, 4)}


def asset_of(product: Product, href: str, gsd: int, media: str) -> Json:
    """A file: its address, type and lattice."""
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
    """What is said of a spectral band."""
    return {} if band in OTHER else {"eo:bands": [{"name": name, "common_name": COMMON_NAMES[band]}]}


def raster_band_of(band: str, form: Form, *, offset: bool) -> Json:
    """What is said of the numbers of a file, and whether an offset is declared."""
    if band == "SCL":
        return {"nodata": 0, "data_type": "uint8", "spatial_resolution": 20}
    scale, shift = (0.001, 0) if band in OTHER else (0.0001, -0.1 if offset else 0)
    values = {"nodata": 0, "data_type": "uint16", "spatial_resolution": form.gsd(band)}
    return {**values, "scale": scale, "offset": shift}


def item_of(
    names: tuple[str, str, str], extensions: tuple[str, ...], product: Product, properties: Json, assets: Json
) -> Json:
    """An item of the id, collection and STAC version in ``names``."""
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


def text_of(time: datetime) -> str:
    """A time as STAC writes it, to the millisecond."""
    return f"{time:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
