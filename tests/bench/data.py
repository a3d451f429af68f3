"""A seeded archive like Sentinel-2's: three tiles on both sides of a zone border, ten bands and classes, some dates.

Files are cloud-optimised GeoTIFF as providers write them: DEFLATE, predictor 2, blocks of 1024 pixels, overviews. The
texture compresses to 0.57 of its size, as real full-resolution bands do; swaths leave corners empty.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage
from shapely.geometry import mapping

TEN = ("B02", "B03", "B04", "B08")
BANDS = dict.fromkeys(TEN, 10) | dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 20)
COMMON = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B05": "rededge1", "B06": "rededge2"} | {
    "B07": "rededge3",
    "B8A": "nir08",
    "B11": "swir16",
    "B12": "swir22",
    "SCL": "scl",
}
TILES = {"32TQT": (32632, 699_960), "32TPT": (32632, 0), "33TTN": (32633, 0)}


@dataclass(frozen=True)
class BenchArchive:
    """Where files lie.

    Attributes:
        folder: Of the files.
        tile_px: Pixels of 10 m along the edge of a tile.
        dates: ISO days.
    """

    folder: Path
    tile_px: int
    dates: tuple[str, ...]

    def lattice(self, tile: str, gsd: int = 10) -> GeoBox:
        """Of a tile: the second overlaps the first from the west, the third from the neighbouring zone in the east."""
        size = self.tile_px * 10
        north = 5_300_040
        if tile == "33TTN":
            middle = self.lattice("32TQT").extent.exterior.to_crs("EPSG:32633").boundingbox
            x, y = middle.left + 0.55 * size, middle.top - 0.02 * size
            x, y, epsg = 20 * round(x / 20), 20 * round(y / 20), 32633
        else:
            x, y, epsg = 699_960 - (tile == "32TPT") * 20 * round(0.9 * size / 20), north, 32632
        shape = (self.tile_px * 10 // gsd,) * 2
        return GeoBox(shape, Affine(gsd, 0, x, 0, -gsd, y), f"EPSG:{epsg}")

    def path(self, tile: str, date: str, band: str) -> Path:
        """Of a file."""
        return self.folder / f"{tile}_{date}_{band}.tif"

    def items(self, tiles: tuple[str, ...], dates: int, url: str = "") -> list[dict[str, Any]]:
        """STAC items that all tools read."""
        return [self._item(tile, date, url) for date in self.dates[:dates] for tile in tiles]

    def _item(self, tile: str, date: str, url: str) -> dict[str, Any]:
        lattice, day = self.lattice(tile), date.replace("-", "")
        assets = {}
        for band, gsd in BANDS.items():
            own = self.lattice(tile, gsd)
            path = self.path(tile, date, band)
            assets[COMMON[band]] = {
                "href": f"{url}/{path.name}" if url else str(path.resolve()),
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
                "eo:bands": [{"name": band, "common_name": COMMON[band]}],
                "gsd": gsd,
                "proj:shape": list(own.shape),
                "proj:transform": list(own.transform)[:6],
                "raster:bands": [{"nodata": 0, "data_type": "uint8" if band == "SCL" else "uint16"}],
            }
        outline = lattice.extent.to_crs("EPSG:4326")
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"S2A_{tile}_{day}_0_L2A",
            "collection": "sentinel-2-l2a",
            "geometry": mapping(outline.geom),
            "bbox": list(outline.boundingbox),
            "properties": {
                "datetime": f"{date}T10:20:{list(TILES).index(tile):02d}Z",
                "platform": "sentinel-2a",
                "proj:epsg": int(str(lattice.crs).split(":")[1]),
                "grid:code": f"MGRS-{tile}",
                "sat:relative_orbit": 65,
                "s2:processing_baseline": "05.09",
                "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_X_{day}T102021_S{day}T102021_N05.09",
                "eo:cloud_cover": 10.0,
            },
            "links": [],
            "assets": assets,
        }


def make(folder: Path, tile_px: int, dates: int) -> BenchArchive:
    """Write the archive, unless it is there."""
    days = tuple(f"2023-{6 + day // 28:02d}-{1 + day % 28:02d}" for day in range(0, 5 * dates, 5))
    archive = BenchArchive(folder, tile_px, days)
    stamp = folder / "made.json"
    told = json.dumps({"tile_px": tile_px, "dates": dates, "version": 1})
    if stamp.exists() and stamp.read_text() == told:
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20)
    fields = {gsd: texture(rng, tile_px * 10 // gsd + 400) for gsd in (10, 20)}
    for number, date in enumerate(days):
        for place, tile in enumerate(TILES):
            for depth, (band, gsd) in enumerate(BANDS.items()):
                lattice = archive.lattice(tile, gsd)
                first = (37 * number + 53 * depth + 11 * place) % 400
                pixels = fields[gsd][first : first + lattice.shape[0], 400 - first : 400 - first + lattice.shape[1]]
                if band == "SCL":
                    pixels = np.array([4, 5, 6, 8, 9], "uint8")[np.digitize(pixels, (1500, 2300, 3000, 3600))]
                pixels = np.where(_swath(lattice, place), pixels + (0 if band == "SCL" else 40 * number), 0)
                _write(archive.path(tile, date, band), pixels.astype("uint8" if band == "SCL" else "uint16"), lattice)
    stamp.write_text(told)
    return archive


def texture(rng: np.random.Generator, edge: int) -> np.ndarray:
    """Of a band: it compresses as real ones do."""
    smooth = ndimage.zoom(ndimage.gaussian_filter(rng.standard_normal((edge // 4 + 1,) * 2), 3), 4, order=1)
    return (2500 + 4000 * smooth[:edge, :edge] + rng.normal(0, 12, (edge, edge))).clip(1, 9000).astype("uint16")


def _swath(lattice: GeoBox, place: int) -> np.ndarray:
    """True inside: a slanted edge takes a corner off."""
    rows, columns = np.ogrid[: lattice.shape[0], : lattice.shape[1]]
    inside: np.ndarray = rows * 0.25 + columns > (0.12, 0.02, 0.05)[place] * lattice.shape[1]
    return inside


def _write(path: Path, pixels: np.ndarray, lattice: GeoBox) -> None:
    with rasterio.open(
        path,
        "w",
        driver="COG",
        count=1,
        dtype=pixels.dtype,
        height=lattice.shape[0],
        width=lattice.shape[1],
        crs=str(lattice.crs),
        transform=lattice.transform,
        nodata=0,
        compress="deflate",
        predictor=2,
        blocksize=1024,
        overview_resampling="nearest" if pixels.dtype == np.uint8 else "average",
        num_threads=2,
    ) as file:
        file.write(pixels, 1)
