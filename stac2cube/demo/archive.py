"""The simulated archive on disk: files of granules, and the catalogs that describe them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pystac
from pyproj import Transformer

from stac2cube.demo.raster import write_cog, write_jp2
from stac2cube.demo.scenes import GSD, OFFSET, Image, Overpass, Tile, counts, image, overpasses, tiles
from stac2cube.demo.shapes import SHAPES, Json, Product, collections
from stac2cube.errors import BadInputError


@dataclass(frozen=True)
class ArchiveSpec:
    """Everything that decides the bytes of an archive.

    Attributes:
        seed: Of the landscape and the weather.
        years: Years with scenes.
        dates_per_year: Overpasses a year.
        tile_px: 10 m pixels per tile edge, a multiple of 12.
        catalogs: Which catalogs describe it.
        faults: Whether there are a late item and a corrupt asset.
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
        """The overpass whose products exist twice: as first processed, and reprocessed by baseline 05.10."""
        return self.overpasses[min(1, len(self.overpasses) - 1)]

    @property
    def late(self) -> tuple[Overpass, Tile]:
        """The granule whose item comes late, in archives with faults."""
        return self.overpasses[len(self.overpasses) // 2], self.tiles[1]

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
        return {"type": "Polygon", "coordinates": [_lonlat(second.epsg, corners)]}

    def image(self, overpass: Overpass, tile: Tile) -> Image:
        """The picture of a tile and the truth behind it."""
        return image(tile, overpass, self.spec.seed)

    def file(self, catalog: str, product: Product, band: str) -> Path:
        """Where a catalog's file of a band lies."""
        form = SHAPES[catalog][1]
        shifted = form.shifted and float(product.overpass.baseline) >= 4 and band not in ("SCL", "AOT", "WVP")
        kind = "shifted" if shifted else "raw"
        suffix = "jp2" if form.jp2 and self.spec.jp2 else "tif"
        return self.root / "files" / product.uri / kind / f"{band}.{suffix}"

    def products(self) -> list[Product]:
        """Every product, the reprocessed ones included."""
        found = []
        for overpass in self.overpasses:
            for tile in self.tiles:
                footprint, cloud = self._facts()[f"{overpass.time.isoformat()} {tile.code}"]
                if footprint is None:
                    continue
                found.append(Product(tile, overpass, footprint, cloud))
                if overpass == self.duplicate:
                    found.append(Product(tile, overpass.reprocessed("05.10"), footprint, cloud, sequence=1))
        return found

    def items(self, catalog: str, *, late: bool = False, base_url: str | None = None) -> list[Json]:
        """Items as a catalog serves them.

        Args:
            catalog: Its name.
            late: Whether the late item has come.
            base_url: Address under which the archive's folder is served; paths on disk if None.
        """
        shape = SHAPES[catalog][0]
        items = []
        for product in self.products():
            if self.spec.faults and not late and (product.overpass, product.tile) == self.late:
                continue

            def href(band: str, product: Product = product) -> str:
                path = self.file(catalog, product, band)
                return f"{base_url}/{path.relative_to(self.root)}" if base_url else str(path)

            items.append(shape(product, href))
        return items

    def collections(self, catalog: str) -> list[Json]:
        """STAC collections of the items, for an API server."""
        return collections(self.items(catalog))

    def catalog(self, name: str, *, late: bool = False) -> Path:
        """An ItemCollection of a catalog's items with absolute paths, written anew."""
        path = self.root / f"{name}{'-late' if late else ''}.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": self.items(name, late=late)}))
        return path

    def static_catalog(self, name: str) -> Path:
        """A self-contained static STAC catalog with relative links, written anew."""
        folder = self.root / f"{name}-static"
        catalog = pystac.Catalog(name, "Simulated Sentinel-2 L2A scenes")
        for item in self.items(name):
            catalog.add_item(pystac.Item.from_dict({**item, "collection": None}, migrate=False))
            catalog.get_item(item["id"]).extra_fields["collection"] = item["collection"]  # type: ignore[union-attr]
        catalog.normalize_hrefs(str(folder))
        catalog.make_all_asset_hrefs_relative()
        catalog.save(pystac.CatalogType.SELF_CONTAINED)
        return folder / "catalog.json"

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.root / "facts.json").read_text())
        return facts


def simulate(
    root: Path, spec: ArchiveSpec | None = None, progress: Callable[[int, int], None] | None = None
) -> Archive:
    """Make an archive, or take the one that is there if it was made to the same specification.

    Args:
        root: Its folder.
        spec: What it shall be.
        progress: Called with granules done and granules in all.

    Raises:
        BadInputError: A tile edge that its pixel sizes do not divide.
    """
    spec = spec or ArchiveSpec()
    if spec.tile_px % 12:
        raise BadInputError(f"tile_px must be a multiple of 12, not {spec.tile_px}")
    archive = Archive(root, spec)
    stamp, mark = root / "spec.json", json.dumps(asdict(spec) | {"version": _version()})
    if stamp.exists() and stamp.read_text() == mark:
        return archive
    stamp.unlink(missing_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    jobs = [(overpass, tile) for overpass in archive.overpasses for tile in archive.tiles]
    facts: dict[str, Any] = {}
    with ThreadPoolExecutor(2) as pool:
        for done, (key, fact) in enumerate(pool.map(lambda job: _make(archive, *job), jobs), start=1):
            facts[key] = fact
            if progress is not None:
                progress(done, len(jobs))
    (root / "facts.json").write_text(json.dumps(facts))
    if spec.faults:
        _break(archive)
    stamp.write_text(mark)
    return archive


def _make(archive: Archive, overpass: Overpass, tile: Tile) -> tuple[str, Any]:
    """Write the files of one granule, in all its forms; returns its footprint and cloud cover."""
    picture = archive.image(overpass, tile)
    key = f"{overpass.time.isoformat()} {tile.code}"
    if not picture.valid.any():
        return key, (None, 0.0)
    footprint = _footprint(tile, picture.valid)
    cloud = round(100 * float((picture.truth.cloud[picture.valid] > 0.2).mean()), 4)
    versions = [Product(tile, overpass, footprint, cloud)]
    if overpass == archive.duplicate:
        versions.append(Product(tile, overpass.reprocessed("05.10"), footprint, cloud, sequence=1))
    for product in versions:
        for band, gsd in GSD.items():
            pixels = _pixels(picture, band, product.overpass.baseline)
            for catalog in archive.spec.catalogs:
                path = archive.file(catalog, product, band)
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write = write_jp2 if path.suffix == ".jp2" else write_cog
                    # The provider that subtracts the offset clips at 0, which then reads as no data.
                    less = np.maximum(pixels, OFFSET) - OFFSET if path.parent.name == "shifted" else pixels
                    write(path, less.astype(pixels.dtype), tile.epsg, tile.transform(gsd))
    return key, (footprint, cloud)


def _pixels(picture: Image, band: str, baseline: str) -> np.ndarray:
    others = {"SCL": picture.scl, "AOT": picture.aot, "WVP": picture.wvp}
    return others[band] if band in others else counts(picture.reflectance[band], baseline)


def _break(archive: Archive) -> None:
    overpass, tile, band = archive.corrupt
    for product in archive.products():
        if (product.overpass, product.tile) == (overpass, tile):
            for catalog in archive.spec.catalogs:
                path = archive.file(catalog, product, band)
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def _footprint(tile: Tile, valid: np.ndarray) -> Json:
    """Outline of the valid pixels: each row's first and last, which is exact for an oblique swath edge."""
    rows = np.flatnonzero(valid.any(axis=1))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, 25).astype(int))]
    left = [(int(valid[row].argmax()), int(row)) for row in rows]
    right = [(int(valid.shape[1] - valid[row][::-1].argmax()), int(row)) for row in rows]
    last = int(rows[-1]) + 1
    ring = [*left, (left[-1][0], last), (right[-1][0], last), *right[::-1], left[0]]
    x, y = tile.origin
    corners = [(float(x + 10 * column), float(y - 10 * row)) for column, row in ring]
    return {"type": "Polygon", "coordinates": [_lonlat(tile.epsg, corners)]}


def _lonlat(epsg: int, corners: list[tuple[float, float]]) -> list[list[float]]:
    project = Transformer.from_crs(epsg, 4326, always_xy=True)
    return [[round(value, 7) for value in project.transform(x, y)] for x, y in corners]


def _version() -> str:
    """Changes when the simulator does, so that an archive of an older one is not taken for today's."""
    folder = Path(__file__).parent
    names = ("surface.py", "scenes.py", "shapes.py", "raster.py", "archive.py")
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()[:12]
