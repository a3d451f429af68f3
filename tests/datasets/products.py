"""Small Sentinel-2 products with known numbers: a Level-1C and its Level-2A, with metadata files, and their items."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping

Json = dict[str, Any]

WEST, NORTH, EDGE = 600000.0, 5300040.0, 1920.0
"""Corner and edge of the tile, metres, in EPSG:32632."""

GSD = {"B02": 10, "B03": 10, "B11": 20, "B09": 60}
NUMBERS = {"B02": 1, "B03": 2, "B09": 9, "B11": 11}
OFFSETS = {"B02": -1000, "B03": -1000, "B09": -900, "B11": -500}
"""Not the agency's: by band, so that mixing them up shows."""

QUANTIFICATION = 8000.0


@dataclass(frozen=True)
class Pair:
    """A Level-1C and a Level-2A product of one acquisition.

    Attributes:
        folder: Where their files lie.
        day: Of May 2023.
        baseline: Of both.
    """

    folder: Path
    day: int = 12
    baseline: str = "05.09"

    @property
    def stamp(self) -> str:
        return f"202305{self.day:02d}T102601"

    def name(self, level: str) -> str:
        made = f"202305{self.day + 1:02d}T0{self.baseline[1]}0000"
        return f"S2A_MSI{level}_{self.stamp}_N{self.baseline.replace('.', '')}_R108_T32TNT_{made}"

    def path(self, level: str, key: str) -> Path:
        suffix = "xml" if key.endswith("metadata") else "tif"
        return self.folder / self.name(level) / f"{key}.{suffix}"

    def counts(self, band: str) -> np.ndarray:
        """What the band holds; 0, no data, in a corner."""
        pixels = round(EDGE / GSD[band])
        random = np.random.default_rng([self.day, NUMBERS[band]])
        counts = random.integers(1100, 9000, (pixels, pixels)).astype("uint16")
        empty = round(240 / GSD[band])
        counts[:empty, :empty] = 0
        return counts

    def classes(self) -> np.ndarray:
        """Scene classes, at 20 m."""
        return np.random.default_rng([self.day, 99]).integers(0, 12, (96, 96)).astype("uint8")

    def reflectance(self, band: str) -> np.ndarray:
        """By the product's metadata; NaN without data."""
        counts = self.counts(band).astype("float64")
        return np.where(counts == 0, np.nan, (counts + OFFSETS[band]) / QUANTIFICATION)

    def write(self, *bands: str) -> Pair:
        for band in bands or GSD:
            write_raster(self.path("L1C", band), self.counts(band), GSD[band])
        write_raster(self.path("L2A", "SCL_20m"), self.classes(), 20)
        self.path("L1C", "product_metadata").write_text(product_xml(self.baseline))
        for level in ("L1C", "L2A"):
            self.path(level, "granule_metadata").write_text(tile_xml())
        return self

    def items(self, *levels: str) -> list[Json]:
        return [self.item(level) for level in levels or ("L1C", "L2A")]

    def item(self, level: str) -> Json:
        keys = [*GSD, "product_metadata", "granule_metadata"] if level == "L1C" else ["SCL_20m", "granule_metadata"]
        bounds = transform_bounds("EPSG:32632", "EPSG:4326", WEST, NORTH - EDGE, WEST + EDGE, NORTH)
        return {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": self.name(level),
            "collection": f"sentinel-2-{level.lower()}",
            "geometry": mapping(box(*bounds)),
            "bbox": list(bounds),
            "properties": {
                "datetime": f"2023-05-{self.day:02d}T10:26:01.024Z",
                "platform": "sentinel-2a",
                "sat:relative_orbit": 108,
                "grid:code": "MGRS-32TNT",
                "eopf:datastrip_id": f"S2A_OPER_MSI_{level}_DS_2APS_x_S202305{self.day:02d}T103010_N{self.baseline}",
                "eopf:datatake_id": f"GS2A_{self.stamp}_041200_N{self.baseline}",
                "processing:version": self.baseline,
                "eo:cloud_cover": 10.0 + self.day,
                "proj:code": "EPSG:32632",
            },
            "assets": {key: {"href": str(self.path(level, key))} for key in keys},
            "links": [],
        }

    def again(self, baseline: str) -> Pair:
        """The same acquisition, processed otherwise."""
        return replace(self, baseline=baseline)


def write_raster(path: Path, pixels: np.ndarray, gsd: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = pixels.shape
    lattice = {"crs": "EPSG:32632", "transform": Affine(gsd, 0, WEST, 0, -gsd, NORTH)}
    about = {"driver": "GTiff", "height": rows, "width": columns, "count": 1, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **about, **lattice) as file:
        file.write(pixels, 1)


def product_xml(baseline: str) -> str:
    offsets = "".join(
        f'<RADIO_ADD_OFFSET band_id="{NUMBERS[b]}">{value}</RADIO_ADD_OFFSET>' for b, value in OFFSETS.items()
    )
    return (
        f"<Level-1C><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>"
        f"<QUANTIFICATION_VALUE>{QUANTIFICATION}</QUANTIFICATION_VALUE>{offsets}</Level-1C>"
    )


def tile_xml() -> str:
    """Angles at nodes every 5 km; the tile lies within the first four."""
    sun = angle_grid("Sun_Angles_Grid", "", [[30, 31], [32, 33]], [[150, 151], [152, 153]])
    view = "".join(
        angle_grid("Viewing_Incidence_Angles_Grids", f'bandId="{number}" detectorId="{detector}"', zenith, azimuth)
        for number in range(13)
        for detector, zenith, azimuth in (
            (1, [[number, "NaN"], [number, "NaN"]], [[350, "NaN"], [350, "NaN"]]),
            (2, [["NaN", number + 1], ["NaN", number + 1]], [["NaN", 10], ["NaN", 10]]),
        )
    )
    return (
        "<Tile><HORIZONTAL_CS_CODE>EPSG:32632</HORIZONTAL_CS_CODE>"
        f'<Geoposition resolution="10"><ULX>{WEST}</ULX><ULY>{NORTH}</ULY></Geoposition>{sun}{view}</Tile>'
    )


def angle_grid(tag: str, attributes: str, zenith: list[list], azimuth: list[list]) -> str:
    def part(name: str, values: list[list]) -> str:
        rows = "".join(f"<VALUES>{' '.join(map(str, row))}</VALUES>" for row in values)
        return f"<{name}><COL_STEP>5000</COL_STEP><ROW_STEP>5000</ROW_STEP><Values_List>{rows}</Values_List></{name}>"

    return f"<{tag} {attributes}>{part('Zenith', zenith)}{part('Azimuth', azimuth)}</{tag}>"
