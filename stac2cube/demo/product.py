"""Products of granules: ESA's names for them, and the forms in which collections store them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stac2cube.demo.scenes import GSD, Overpass, Tile

Json = dict[str, Any]

OTHER = ("SCL", "AOT", "WVP")
"""Bands that are no reflectance."""


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
    def made(self) -> datetime:
        """When it was processed."""
        return self.overpass.time + timedelta(days=1 if self.sequence == 0 else 900)

    @property
    def since_0400(self) -> bool:
        """Whether ESA added the offset to its counts."""
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
    """How a collection stores pixels.

    Attributes:
        shifted: Whether the offset has been subtracted from the counts (and clipped at 0).
        jp2: Whether the files are JPEG 2000 when the archive asks for it.
        fine_haze: Whether aerosol and water vapour are stored at 10 m, else at 20 m.
    """

    shifted: bool = False
    jp2: bool = False
    fine_haze: bool = True

    def gsd(self, band: str) -> int:
        """Pixel size of a band's file, metres."""
        return 20 if band in ("AOT", "WVP") and not self.fine_haze else GSD[band]

    def file_name(self, product: Product, band: str, *, jp2: bool) -> str:
        """Path of a band's file below the archive; one file serves all collections that store the same."""
        kind = "shifted" if self.shifted and product.since_0400 and band not in OTHER else "raw"
        suffix = "jp2" if self.jp2 and jp2 else "tif"
        return f"{product.uri}/{kind}/{band}_{self.gsd(band)}m.{suffix}"


EARTH_SEARCH = Form(shifted=True, fine_haze=False)
EARTH_SEARCH_C1 = Form(fine_haze=False)
PLANETARY_COMPUTER = Form()
TERRABYTE = Form(jp2=True)
CDSE = Form(jp2=True)


def in_collection_1(product: Product) -> bool:
    """Whether Earth Search has a product in Collection 1, beside its first collection."""
    return float(product.overpass.baseline) >= 5.10 and product.overpass.orbit == 108 and product.sequence == 0
