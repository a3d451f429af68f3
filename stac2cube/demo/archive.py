"""The simulated archive on disk: files of granules, and the catalogs that describe them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pystac
from affine import Affine
from pyproj import Transformer

from stac2cube.demo.product import Form, Json, Product
from stac2cube.demo.scenes import (
    WORLD,
    Image,
    Overpass,
    Tile,
    image,
    lonlat,
    overpasses,
    tiles,
)
from stac2cube.demo.shapes import VIEWS, collections
from stac2cube.demo.surface import Truth, look


@dataclass(frozen=True)
class ArchiveSpec:
    """Everything that decides the bytes of an archive.

    Attributes:
        seed: Of the landscape and the weather.
        years: Years with scenes.
        dates_per_year: Overpasses a year.
        tile_px: 10 m pixels per tile edge, a multiple of 12.
        catalogs: Which catalogs describe it.
        faults: Whether there are a late scene, a late granule and a corrupt file; takes four overpasses or more.
        cloud: Mean cloud cover of the cloudy dates.
        jp2: Whether terrabyte's and the Copernicus Data Space's files are JPEG 2000 (else GeoTIFF).
    """

    seed: int = 7
    years: tuple[int, ...] = (2022, 2023, 2024)
    dates_per_year: int = 4
    tile_px: int = 480
    catalogs: tuple[str, ...] = ("earth-search",)
    faults: bool = False
    cloud: float = 0.35
    jp2: bool = False


class Archive:
    """A simulated archive; made by :func:`simulate`.

    Args:
        root: Its folder.
        spec: What it is.
    """

    def __init__(self, root: Path, spec: ArchiveSpec) -> None:
        self.root = root.resolve()
        self.spec = spec
        self.tiles: tuple[Tile, ...] = tiles(spec.tile_px)
        self.overpasses = overpasses(spec.years, spec.dates_per_year, spec.cloud, spec.seed)

    @property
    def duplicate(self) -> Overpass:
        """The overpass whose products exist twice: as first processed, and reprocessed in a newer baseline."""
        return self.overpasses[0]

    @property
    def late(self) -> Overpass:
        """The overpass none of whose items is there at first, in archives with faults."""
        return self.overpasses[len(self.overpasses) // 2]

    @property
    def late_granule(self) -> tuple[Overpass, Tile]:
        """The one granule that comes later than the others of its overpass, in archives with faults."""
        return self.overpasses[1], self.tiles[1]

    @property
    def corrupt(self) -> tuple[Overpass, Tile, str]:
        """The granule and band whose file is cut off, in archives with faults."""
        return self.overpasses[-1], self.tiles[0], "B03"

    def area(self, *, two_zones: bool = False) -> Json:
        """An area of interest as GeoJSON: over the overlap of the tiles in zone 32, or into zone 33."""
        edge = 10 * self.spec.tile_px
        second = self.tiles[1]
        x, y = second.origin[0] - 0.25 * edge, second.origin[1] - 0.2 * edge
        width = 1.3 * edge if two_zones else 0.7 * edge
        corners = [(x, y), (x, y - 0.6 * edge), (x + width, y - 0.6 * edge), (x + width, y), (x, y)]
        return {"type": "Polygon", "coordinates": [lonlat(second.epsg, corners)]}

    def image(self, overpass: Overpass, tile: Tile) -> Image:
        """The picture of a tile and the truth behind it."""
        return image(tile, overpass, self.spec.seed)

    def truth(self, overpass: Overpass, epsg: int, transform: Affine, shape: tuple[int, int]) -> Truth:
        """The world at the pixel centres of any lattice, of any pixel size.

        Args:
            overpass: When, and under which sky.
            epsg: CRS of the lattice.
            transform: From pixel corners to that CRS, north up.
            shape: Rows and columns.
        """
        columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
        # A lattice north up: the transform's other two terms are 0.
        x, y = transform.c + transform.a * columns, transform.f + transform.e * rows
        if f"EPSG:{epsg}" != WORLD:
            x, y = Transformer.from_crs(epsg, WORLD, always_xy=True).transform(x, y)
        return look(x, y, overpass.time.timetuple().tm_yday, overpass.sky, self.spec.seed)

    def file(self, catalog: str, product: Product, band: str, *, collection: int = 0) -> Path:
        """Where a catalog's file of a band lies; Earth Search has a second collection, number 1."""
        return self.path(VIEWS[catalog][collection].form, product, band)

    def path(self, form: Form, product: Product, band: str) -> Path:
        """Where the file of a band in a form lies."""
        return self.root / "files" / form.file_name(product, band, jp2=self.spec.jp2)

    def products(self) -> list[Product]:
        """Every product, the reprocessed ones included."""
        found = []
        for overpass in self.overpasses:
            for tile in self.tiles:
                footprint, cloud = self._facts[key_of(overpass, tile)]
                if footprint is not None:
                    found += versions_of(self, overpass, tile, footprint, cloud)
        return found

    def items(self, catalog: str, *, late: bool = False, base_url: str | None = None) -> list[Json]:
        """Items as a catalog serves them.

        Args:
            catalog: Its name.
            late: Whether what comes late has come.
            base_url: Address under which the archive's folder is served; paths on disk if None.
        """
        items = []
        for product in self.products():
            if self.spec.faults and not late and self._is_late(product):
                continue
            for view in VIEWS[catalog]:
                if view.holds(product):

                    def href(band: str, form: Form = view.form, product: Product = product) -> str:
                        path = self.path(form, product, band)
                        return f"{base_url}/{path.relative_to(self.root)}" if base_url else str(path)

                    items.append(view.describe(product, href))
        return items

    def collections(self, catalog: str) -> list[Json]:
        """STAC collections of the items, for an API server."""
        return collections(self.items(catalog))

    def catalog(self, name: str, *, late: bool = False) -> Path:
        """An ItemCollection of a catalog's items with absolute paths, written anew."""
        path = self.root / f"{name}{'-late' if late else ''}.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": self.items(name, late=late)}))
        return path

    def static_catalog(self, name: str, *, late: bool = False) -> Path:
        """A self-contained static STAC catalog with relative links, one child per collection, written anew."""
        folder = self.root / f"{name}{'-late' if late else ''}-static"
        items = self.items(name, late=late)
        catalog = pystac.Catalog(name, "Simulated Sentinel-2 L2A scenes")
        for collection in collections(items):
            child = pystac.Collection.from_dict(collection, migrate=False)
            catalog.add_child(child)
            own = (item for item in items if item["collection"] == collection["id"])
            child.add_items(pystac.Item.from_dict(item, migrate=False) for item in own)
        catalog.normalize_hrefs(str(folder))
        for item in catalog.get_items(recursive=True):
            for asset in item.assets.values():
                place = Path(item.self_href).parent
                asset.href = os.path.relpath(asset.href.removeprefix("file://"), place)
        catalog.save(pystac.CatalogType.SELF_CONTAINED)
        return folder / "catalog.json"

    def _is_late(self, product: Product) -> bool:
        when = product.overpass.time
        overpass, tile = self.late_granule
        return when == self.late.time or (when == overpass.time and product.tile == tile)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """Footprint and cloud cover of each granule, found when its files were made."""
        facts: dict[str, Any] = json.loads((self.root / "facts.json").read_text())
        return facts


def key_of(overpass: Overpass, tile: Tile) -> str:
    """Of a granule among the facts of an archive."""
    return f"{overpass.time.isoformat()} {tile.code}"


def versions_of(archive: Archive, overpass: Overpass, tile: Tile, footprint: Json, cloud: float) -> list[Product]:
    """A granule's product as first processed, and the reprocessed one of the overpass that has both."""
    versions = [Product(tile, overpass, footprint, cloud)]
    if overpass == archive.duplicate:
        newer = "05.00" if float(overpass.baseline) < 5 else "05.11"
        versions.append(Product(tile, overpass.reprocessed(newer), footprint, cloud, sequence=1))
    return versions
