"""The simulated archive on disk: granules as files, and the catalogs that describe them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
from affine import Affine
from pyproj import Transformer

from stac2cube.errors import BadInputError
from stac2cube.testing.items import OTHER, VIEWS, Form, GranuleProduct, Json, collections
from stac2cube.testing.scenes import (
    GSD,
    OFFSET,
    WORLD,
    GranuleImage,
    Overpass,
    SurfaceTruth,
    Tile,
    counts,
    image,
    lonlat,
    overpasses,
    simulated_footprint,
    tiles,
    view_surface,
)

# The simulated archive on disk: files of granules, and the catalogs that describe them.


@dataclass(frozen=True)
class ArchiveSpec:
    """Specification that determines the bytes of an archive.

    Attributes:
        seed: Seed of the landscape and the weather.
        years: Years with scenes.
        dates_per_year: Overpasses per year.
        tile_px: 10 m pixels per tile edge, a multiple of 12.
        catalogs: Names of the catalogs that describe it.
        faults: Whether there are a late scene, a late granule and a corrupt file; needs four overpasses or more.
        cloud: Mean cloud cover of the cloudy dates.
        jp2: Whether the files of terrabyte and the Copernicus Data Space are JPEG 2000 (else GeoTIFF).
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
        spec: Its specification.
    """

    def __init__(self, root: Path, spec: ArchiveSpec) -> None:
        self.root = root.resolve()
        self.spec = spec
        self.tiles: tuple[Tile, ...] = tiles(spec.tile_px)
        self.overpasses = overpasses(spec.years, spec.dates_per_year, spec.cloud, spec.seed)

    @property
    def duplicate(self) -> Overpass:
        """The overpass whose products exist twice: as first processed, and reprocessed with a newer baseline."""
        return self.overpasses[0]

    @property
    def late(self) -> Overpass:
        """The overpass all of whose items appear late, in archives with faults."""
        return self.overpasses[len(self.overpasses) // 2]

    @property
    def late_granule(self) -> tuple[Overpass, Tile]:
        """The one granule that appears later than the others of its overpass, in archives with faults."""
        return self.overpasses[1], self.tiles[1]

    @property
    def corrupt(self) -> tuple[Overpass, Tile, str]:
        """The granule and band whose file is truncated, in archives with faults."""
        return self.overpasses[-1], self.tiles[0], "B03"

    def area(self, *, two_zones: bool = False) -> Json:
        """An area of interest as GeoJSON: over the overlap of the tiles in zone 32, or into zone 33."""
        edge = 10 * self.spec.tile_px
        second = self.tiles[1]
        x, y = second.origin[0] - 0.25 * edge, second.origin[1] - 0.2 * edge
        width = 1.3 * edge if two_zones else 0.7 * edge
        corners = [(x, y), (x, y - 0.6 * edge), (x + width, y - 0.6 * edge), (x + width, y), (x, y)]
        return {"type": "Polygon", "coordinates": [lonlat(second.epsg, corners)]}

    def image(self, overpass: Overpass, tile: Tile) -> GranuleImage:
        """The image of a tile and the true surface."""
        return image(tile, overpass, self.spec.seed)

    def truth(self, overpass: Overpass, epsg: int, transform: Affine, shape: tuple[int, int]) -> SurfaceTruth:
        """The true surface at the pixel centres of any lattice, of any pixel size.

        Args:
            overpass: Time and weather.
            epsg: CRS of the lattice.
            transform: From pixel corners to that CRS, north up.
            shape: Rows and columns.
        """
        columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
        # For a lattice with north up the transform's other two terms are 0.
        x, y = transform.c + transform.a * columns, transform.f + transform.e * rows
        if f"EPSG:{epsg}" != WORLD:
            x, y = Transformer.from_crs(epsg, WORLD, always_xy=True).transform(x, y)
        return view_surface(x, y, overpass.time.timetuple().tm_yday, overpass.sky, self.spec.seed)

    def file(self, catalog: str, product: GranuleProduct, band: str, *, collection: int = 0) -> Path:
        """Path of a catalog's file of a band; Earth Search has a second collection, number 1."""
        return self.path(VIEWS[catalog][collection].form, product, band)

    def path(self, form: Form, product: GranuleProduct, band: str) -> Path:
        """Path of the file of a band in a form."""
        return self.root / "files" / form.file_name(product, band, jp2=self.spec.jp2)

    def products(self) -> list[GranuleProduct]:
        """All products, the reprocessed ones included."""
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
            late: Whether late items are included.
            base_url: Address under which the archive's folder is served; paths on disk if None.
        """
        items = []
        for product in self.products():
            if self.spec.faults and not late and self._is_late(product):
                continue
            for view in VIEWS[catalog]:
                if view.holds(product):

                    def href(band: str, form: Form = view.form, product: GranuleProduct = product) -> str:
                        path = self.path(form, product, band)
                        return f"{base_url}/{path.relative_to(self.root)}" if base_url else str(path)

                    items.append(view.describe(product, href))
        return items

    def collections(self, catalog: str) -> list[Json]:
        """STAC collections of the items, for an API server."""
        return collections(self.items(catalog))

    def catalog(self, name: str, *, late: bool = False) -> Path:
        """Write an ItemCollection of a catalog's items with absolute paths."""
        path = self.root / f"{name}{'-late' if late else ''}.json"
        path.write_text(
            json.dumps({"type": "FeatureCollection", "features": self.items(name, late=late)}), encoding="utf-8"
        )
        return path

    def static_catalog(self, name: str, *, late: bool = False) -> Path:
        """Write a self-contained static STAC catalog with relative links, one child per collection."""
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

    def _is_late(self, product: GranuleProduct) -> bool:
        when = product.overpass.time
        overpass, tile = self.late_granule
        return when == self.late.time or (when == overpass.time and product.tile == tile)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """Footprint and cloud cover of each granule, computed when its files were made."""
        facts: dict[str, Any] = json.loads((self.root / "facts.json").read_text(encoding="utf-8"))
        return facts


def key_of(overpass: Overpass, tile: Tile) -> str:
    """Key of a granule among the facts of an archive."""
    return f"{overpass.time.isoformat()} {tile.code}"


def versions_of(
    archive: Archive, overpass: Overpass, tile: Tile, footprint: Json, cloud: float
) -> list[GranuleProduct]:
    """A granule's product as first processed, and also the reprocessed one for the overpass that has both."""
    versions = [GranuleProduct(tile, overpass, footprint, cloud)]
    if overpass == archive.duplicate:
        newer = "05.00" if float(overpass.baseline) < 5 else "05.11"
        versions.append(GranuleProduct(tile, overpass.reprocessed(newer), footprint, cloud, sequence=1))
    return versions


# Writing granules as the providers store them: cloud-optimised GeoTIFF, or lossless JPEG 2000.


def write_simulated_cog(path: Path, pixels: np.ndarray, epsg: int, transform: Affine) -> None:
    """Write a COG with overviews, nodata 0."""
    overviews = "nearest" if pixels.dtype == np.uint8 else "average"
    options = {"nodata": 0, "compress": "deflate", "predictor": 2, "blocksize": 256, "overview_resampling": overviews}
    _write(path, pixels, epsg, transform, {"driver": "COG", **options})


def write_jp2(path: Path, pixels: np.ndarray, epsg: int, transform: Affine) -> None:
    """Write a lossless JPEG 2000 without a nodata tag, like ESA's products."""
    options = {"driver": "JP2OpenJPEG", "reversible": "YES", "quality": 100, "ycbcr420": "NO"}
    _write(path, pixels, epsg, transform, options)


def _write(path: Path, pixels: np.ndarray, epsg: int, transform: Affine, options: Mapping[str, Any]) -> None:
    height, width = pixels.shape
    lattice = {"height": height, "width": width, "crs": f"EPSG:{epsg}", "transform": transform}
    with rasterio.open(path, "w", count=1, dtype=pixels.dtype, **lattice, **options) as file:
        file.write(pixels, 1)


# Making the archive's files: every granule in every form, once.


def simulate(
    root: Path, spec: ArchiveSpec | None = None, progress: Callable[[int, int], None] | None = None
) -> Archive:
    """Make an archive, or use the existing one if it was made to the same specification.

    Args:
        root: Its folder.
        spec: Its specification.
        progress: Called with the number of granules done and the number of all.

    Raises:
        BadInputError: A tile edge that its pixel sizes do not divide, an unknown catalog, too few overpasses.
    """
    spec = spec or ArchiveSpec()
    if spec.tile_px < 24 or spec.tile_px % 12:
        raise BadInputError(f"tile_px must be a multiple of 12 from 24 on, not {spec.tile_px}")
    if unknown := [name for name in spec.catalogs if name not in VIEWS]:
        raise BadInputError(f"the simulator knows {', '.join(VIEWS)}, not {', '.join(unknown)}")
    archive = Archive(root, spec)
    if spec.faults and len(archive.overpasses) < 4:
        raise BadInputError(f"an archive with faults takes 4 overpasses or more, not {len(archive.overpasses)}")
    stamp, mark = root / "spec.json", json.dumps(asdict(spec) | {"version": _version()})
    if stamp.exists() and stamp.read_text(encoding="utf-8") == mark:
        return archive
    stamp.unlink(missing_ok=True)
    # Files of another specification, or of a run that was killed, would be used as ours.
    shutil.rmtree(root / "files", ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    jobs = [(overpass, tile) for overpass in archive.overpasses for tile in archive.tiles]
    facts: dict[str, Any] = {}
    with ThreadPoolExecutor(2) as pool:
        for done, (key, fact) in enumerate(pool.map(lambda job: _make(archive, *job), jobs), start=1):
            facts[key] = fact
            if progress is not None:
                progress(done, len(jobs))
    (root / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    if spec.faults:
        _break(archive)
    stamp.write_text(mark, encoding="utf-8")
    return archive


def _make(archive: Archive, overpass: Overpass, tile: Tile) -> tuple[str, Any]:
    """Write the files of one granule, in all its forms; returns its footprint and cloud cover."""
    picture = archive.image(overpass, tile)
    key = key_of(overpass, tile)
    if not picture.valid.any():
        return key, (None, 0.0)
    footprint = simulated_footprint(tile, picture.valid)
    cloud = round(100 * float((picture.truth.cloud[picture.valid] > 0.2).mean()), 4)
    for product in versions_of(archive, overpass, tile, footprint, cloud):
        for form in _forms(archive, product):
            for band in GSD:
                path = archive.path(form, product, band)
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write = write_jp2 if path.suffix == ".jp2" else write_simulated_cog
                    pixels = _pixels(picture, band, product, form)
                    write(path, pixels, tile.epsg, tile.transform(form.gsd(band)))
    return key, (footprint, cloud)


def _forms(archive: Archive, product: GranuleProduct) -> list[Form]:
    views = [view for catalog in archive.spec.catalogs for view in VIEWS[catalog]]
    return [view.form for view in views if view.holds(product)]


def _pixels(picture: GranuleImage, band: str, product: GranuleProduct, form: Form) -> np.ndarray:
    """Pixels of a file."""
    if band in OTHER:
        pixels = {"SCL": picture.scl, "AOT": picture.aot, "WVP": picture.wvp}[band]
        step = form.gsd(band) // GSD[band]
        return pixels[::step, ::step]
    numbers = counts(picture.reflectance[band], product.overpass.baseline)
    if form.shifted and product.since_0400:
        # The provider that subtracts the offset clips at 0, which then reads as no data.
        numbers = np.maximum(numbers, OFFSET) - np.uint16(OFFSET)
    return numbers


def _break(archive: Archive) -> None:
    """Truncate the corrupt file in every form."""
    overpass, tile, band = archive.corrupt
    products = [product for product in archive.products() if (product.overpass, product.tile) == (overpass, tile)]
    for path in {archive.path(form, product, band) for product in products for form in _forms(archive, product)}:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def _version() -> str:
    """Digest that changes with the simulator's code, so that an archive of older code is not used."""
    folder = Path(__file__).parent
    names = ("scenes", "items", "archive")
    return hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in names)).hexdigest()[:12]
