"""Products of one STAC item, as made by application packages of Earth observation platforms."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import rasterio
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window
from shapely.geometry import box, mapping

from stac2cube.build.plan import Block, BuildOptions
from stac2cube.build.scheduler import Scheduler
from stac2cube.errors import BadInputError, CatalogError, ReadError
from stac2cube.executors.base import Place
from stac2cube.export.publish import CATALOG, save_catalog
from stac2cube.export.stac import EO, FILE, GRID, PROCESSING, PROJECTION, SAT, bbox_of, geojson_of, projected, safe_id
from stac2cube.model.catalog import Catalog
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.geometry import Area, numbers_of, parse_crs, polygons_of, read_areas, to_wgs84
from stac2cube.model.grid import Grid, Tile
from stac2cube.model.mission import find_mission, mission_names
from stac2cube.model.scene import Scene, time_of
from stac2cube.progress import Progress
from stac2cube.search.cubes import grid_for, spec_for
from stac2cube.search.parsing import declared_crs, footprint_of, parse_item
from stac2cube.search.search import scenes_of
from stac2cube.stages.layers import LayersJob, ReadScene, area_words, lazy_layers, query_of_words
from stac2cube.trust.address import public
from stac2cube.trust.names import safe_name
from stac2cube.trust.text import is_printable
from stac2cube.version import __version__
from stac2cube.views.render import white_of

if TYPE_CHECKING:
    import xarray as xr


# Indices and pictures of one STAC item: cloud-optimised GeoTIFFs and a static catalog that describes them.

Item = Mapping[str, Any]

KEPT = ("platform", "constellation", "instruments", "gsd", "eo:cloud_cover", "grid:code", "sat:relative_orbit")
"""Properties of the item that are also valid for its products."""

SHA256 = "1220"
"""Prefix of a SHA-256 as a multihash, which the extension file requires: its code, and a length of 32 bytes
(github.com/multiformats/multicodec)."""


def require_free(out: Path) -> None:
    """Check that a folder is new or empty.

    Raises:
        BadInputError: The path is a file, a broken link, or a folder with content.
    """
    if out.is_symlink() and not out.exists():
        raise BadInputError(f"{out} is a link that leads nowhere: name another folder, or remove it first")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"{out} exists: name another folder, or remove it first")


@dataclass(frozen=True)
class ProductBand:
    """Description of a product.

    Attributes:
        title: Title.
        picture: Whether it is a picture, uint8 red, green, blue and alpha; else an index, float32, NaN without data.
        facts: Additional fields of its asset.
    """

    title: str
    picture: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """Dtype of its pixels."""
        return "uint8" if self.picture else "float32"


def write_item_products(
    out: Path,
    item: Item,
    grid: Grid,
    products: Mapping[str, ProductBand],
    blocks: Iterable[tuple[Tile, Mapping[str, np.ndarray]]],
) -> Path:
    """Write products of an item; the folder appears atomically.

    Args:
        out: The folder, new or empty: ``catalog.json``, and a folder of the item with its description and files.
        item: The source item.
        grid: Lattice of the products.
        products: Products by name.
        blocks: Every block of the lattice once, in any order: ``(bands, rows, columns)`` of each product.

    Returns:
        The catalog's file.

    Raises:
        BadInputError: The folder is not empty.
    """
    import pystac

    require_free(out)
    target = out.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    identity = str(item["id"])
    name = safe_name(identity)
    try:
        (partial / name).mkdir(parents=True)
        files = {product: partial / name / f"{product}.tif" for product in products}
        _write_files(files, products, grid, blocks)
        described = _described(item, grid)
        for product, band in products.items():
            described.add_asset(product, _asset(files[product], band))
        catalog = pystac.Catalog(f"{described.id}-products", f"Products of {identity}, made by stac2cube")
        catalog.add_item(described)
        save_catalog(catalog, partial, {described.id: identity})
        if target.exists():
            target.rmdir()  # it is empty
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target / CATALOG


def _write_files(
    files: Mapping[str, Path],
    products: Mapping[str, ProductBand],
    grid: Grid,
    blocks: Iterable[tuple[Tile, Mapping[str, np.ndarray]]],
) -> None:
    """Write all products block by block, then convert each to a COG."""
    raw = {name: path.with_suffix(".raw.tif") for name, path in files.items()}
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(rasterio.open(raw[name], "w", **_profile(band, grid)))
            for name, band in products.items()
        }
        for name, file in opened.items():
            channels = ("red", "green", "blue", "alpha") if products[name].picture else (name,)
            for number, channel in enumerate(channels, start=1):
                file.set_band_description(number, channel)
        for tile, made in blocks:
            for name, file in opened.items():
                file.write(made[name], window=Window.from_slices(*grid.window(tile)))
    for name, band in products.items():
        options = {"compress": "deflate", "predictor": 2 if band.picture else 3, "bigtiff": "if_safer"}
        copy_raster(raw[name], files[name], driver="COG", overview_resampling="average", **options)
        raw[name].unlink()


def _profile(band: ProductBand, grid: Grid) -> dict[str, Any]:
    rows, columns = grid.shape
    return {
        "driver": "GTiff",
        "height": rows,
        "width": columns,
        "count": 4 if band.picture else 1,
        "dtype": band.dtype,
        "crs": grid.crs,
        "transform": grid.geobox.transform,
        "tiled": True,
        "bigtiff": "if_safer",
        **({"photometric": "rgb", "alpha": "yes"} if band.picture else {"nodata": np.nan}),
    }


def _described(item: Item, grid: Grid) -> Any:
    """The STAC item of the products, without assets."""
    import pystac
    from shapely.geometry import box

    from stac2cube.model.scene import time_of
    from stac2cube.search.parsing import footprint_of

    whole, window = footprint_of(item), to_wgs84(box(*grid.geobox.boundingbox), parse_crs(grid.crs))
    seen = polygons_of(whole.intersection(window))
    # The edges of a pixel grid are curved in degrees: a grid over the whole item keeps the item's own footprint.
    place = whole if seen.area > 0.999 * whole.area else seen
    described = pystac.Item(
        id=safe_id(str(item["id"])),
        geometry=geojson_of(place),
        bbox=bbox_of(place),
        datetime=time_of(item).astimezone(UTC),
        properties={
            **{name: item["properties"][name] for name in KEPT if item["properties"].get(name) is not None},
            **projected(grid),
            "processing:software": {"stac2cube": __version__},
        },
        stac_extensions=[PROJECTION, PROCESSING, FILE],
    )
    used = {"eo:cloud_cover": EO, "grid:code": GRID, "sat:relative_orbit": SAT}
    described.stac_extensions += [uri for name, uri in used.items() if name in described.properties]
    links = [link.get("href") for link in item.get("links", ()) if link.get("rel") == "self"]
    for source in (public(href) for href in links if isinstance(href, str) and href and is_printable(href)):
        described.add_link(pystac.Link("derived_from", source, "application/geo+json"))
    return described


def _asset(path: Path, band: ProductBand) -> Any:
    import pystac

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # Nodata is NaN. The text "nan" would be valid, but a column of a table holds either numbers or texts.
    facts = {"data_type": band.dtype, **band.facts}
    return pystac.Asset(
        str(path.absolute()),
        title=band.title,
        media_type=pystac.MediaType.COG,
        roles=["visual" if band.picture else "data"],
        extra_fields={**facts, "file:size": path.stat().st_size, "file:checksum": f"{SHA256}{digest}"},
    )


# One STAC item with the values and on the lattice of a cube, and views of it.

LOOK = 1000
"""Longer edge of the picture from which a stretch is computed, pixels."""


@dataclass(frozen=True)
class OneItem:
    """An item, and the area to read.

    Attributes:
        item: The item from its catalog, with absolute hrefs.
        mission: Its mission.
        aoi: Area to read, in any form of an area of interest; the whole item if None.
        origin: Address of its source, which determines the hrefs that it may have; "" for a local file of the user.
    """

    item: Mapping[str, Any] = field(repr=False)
    mission: str
    aoi: Any = None
    origin: str = ""

    @classmethod
    def of(cls, item: Mapping[str, Any], mission: str | None = None, aoi: Any = None, origin: str = "") -> OneItem:
        """Make it from an item; if no mission is given, it follows from the item's collection.

        Raises:
            BadInputError: No mission, or several, have this collection.
        """
        item = parse_item(item)
        if mission is not None:
            return cls(item, find_mission(mission).name, aoi, origin)
        collection = item.get("collection")
        fits = [
            name for name in mission_names() if any(page.collection == collection for page in find_mission(name).pages)
        ]
        if len(fits) != 1:
            raise BadInputError(
                f"item {item['id']} is of the collection {collection!r}: say the mission, one of "
                f"{', '.join(fits or mission_names())}"
            )
        return cls(item, fits[0], aoi, origin)

    def job(self, bands: Sequence[str], resolution: float | None = None) -> LayersJob:
        """Job for bands of the item on their lattice, for :func:`stac2cube.stages.layers.lazy_layers`.

        Args:
            bands: Names or common names.
            resolution: Pixel edge in units of the item's CRS; the finest band's if None.

        Raises:
            BadInputError: Unknown band, or an area that the item does not intersect.
            CatalogError: The item has no metadata that are required to read it.
            RadiometryError: Its metadata contradict each other.
        """
        moment = time_of(self.item)
        around = [moment - timedelta(seconds=1), moment + timedelta(seconds=1)]
        words: dict[str, Any] = {
            "mission": self.mission,
            "time": "/".join(f"{when:%Y-%m-%dT%H:%M:%S}Z" for when in around),
            "bands": tuple(bands),
            "resolution": resolution,
            **(area_words(self.aoi) or {"area": _extent(self.item)}),
        }
        query, options = query_of_words(words)
        name = str(self.item["id"])
        scenes = scenes_of([self.item], query, Catalog(name, name, name, origin=self.origin))
        if not scenes:
            raise BadInputError(f"item {name} is not of {self.mission}")
        if problem := scenes[0].problem:
            raise CatalogError(problem)
        if not footprint_of(self.item).intersects(query.geometry):
            raise BadInputError(f"item {name} has nothing of the area")
        return LayersJob(None, query, tuple(scenes), spec_for(query, grid_for(query, options, scenes)))


@dataclass(frozen=True)
class ItemRequest:
    """Products to make from an item.

    Attributes:
        indices: Names of spectral indices.
        colours: Names of colour composites.
        resolution: Pixel edge in units of the item's CRS; the finest band's if None.
        clear: Whether indices have no data at cloud, shadow and nodata of the scene's classification.
    """

    indices: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    resolution: float | None = None
    clear: bool = False

    def of(self, one: OneItem) -> MakeProducts:
        """Plan the products of an item. Reads a small picture of the item to compute the stretch of colours.

        Raises:
            BadInputError: Unknown index or colours, or a mission without a band that they need.
            CatalogError: The item has no metadata that are required to read it.
            ReadError: The small picture cannot be read.
        """
        from stac2cube.views.indices import formula_for
        from stac2cube.views.render import rgb_layers_of
        from stac2cube.views.units import is_class

        blank = _blank(one.mission)
        recipes = [formula_for(blank, name) for name in self.indices]
        shown = {colours: rgb_layers_of(blank, colours) for colours in self.colours}
        needed = {layer for recipe in recipes for layer in recipe.layers.values()}
        needed |= {band for bands in shown.values() for band in bands}
        classes = [str(name) for name in blank.data_vars if is_class(blank[name])][:1] if self.clear else []
        if self.clear and not classes:
            raise BadInputError(f"{one.mission} has no classes that say what is clear")
        job = one.job([*sorted(needed), *classes], self.resolution)
        whites = {colours: _white(one, bands, job.spec.grid) for colours, bands in shown.items()}
        return MakeProducts(
            read=job.task(),
            scene=job.scenes[0],
            spec=job.spec,
            products=(
                *(ItemProduct(recipe.name.lower(), recipe.long_name, index=recipe.name) for recipe in recipes),
                *(ItemProduct(name, f"{name} colours", tuple(bands), whites[name]) for name, bands in shown.items()),
            ),
            clear=self.clear,
        )


@dataclass(frozen=True)
class ItemProduct:
    """One product of an item: an index, or a picture.

    Attributes:
        name: Name of its file.
        title: Title.
        bands: Bands shown as red, green and blue; empty for an index.
        white: Reflectance that becomes white.
        index: The registry's name; "" for a picture.
    """

    name: str
    title: str
    bands: tuple[str, ...] = ()
    white: float = 1.0
    index: str = ""


@dataclass(frozen=True)
class MakeProducts:
    """Task: all products of one block of an item. It runs on a worker.

    Attributes:
        read: Reads bands.
        scene: The item as a scene.
        spec: Its layers and lattice.
        products: Products to make.
        clear: See :class:`ItemRequest`.
    """

    read: ReadScene
    scene: Scene = field(repr=False)
    spec: CubeSpec = field(repr=False)
    products: tuple[ItemProduct, ...]
    clear: bool

    def __call__(self, tile: Tile) -> dict[str, np.ndarray]:
        """Make the products of one block by name, each ``(bands, rows, columns)``.

        Indices are float32, NaN without data; pictures are uint8 with four bands, the last 0 without data, else 255.

        Raises:
            ReadError: An asset is missing or cannot be read.
        """
        import xarray as xr

        from stac2cube.views.indices import indices
        from stac2cube.views.masks import mask_classes
        from stac2cube.views.render import rgb

        stored = self.read(self.scene, Block(self.spec.grid, tile))
        layers = {
            layer.name: (("time", "y", "x"), stored[layer.name][np.newaxis], layer.attributes())
            for layer in self.spec.layers
        }
        seen = xr.Dataset(layers, attrs={"mission": self.spec.recipe["mission"]})
        measured = mask_classes(seen) if self.clear else seen
        made = {}
        for product in self.products:
            if product.index:
                made[product.name] = indices(measured, product.index)[product.index].values
            else:
                picture = rgb(seen, product.bands, stretch=(0.0, product.white), nodata="alpha")
                made[product.name] = np.moveaxis(picture.values[0], -1, 0)
        return made


def blocks_of(task: MakeProducts, place: Place) -> Iterator[tuple[Tile, dict[str, np.ndarray]]]:
    """Make all blocks of an item's products; yields them in order of completion, with a limited number in flight.

    Raises:
        ReadError: A block could not be made.
        PlaceError: The place is not available.
    """
    scheduler = Scheduler(place, BuildOptions(), Progress())
    with (
        place.open() as executor,
        closing(scheduler.handed_out(task.spec.grid.tiles(), lambda tile: executor.submit(task, tile))) as coming,
    ):
        for tile, future in coming:
            if reason := scheduler.failure(future):
                raise ReadError(reason) from future.exception()
            yield tile, future.result()


def _extent(item: Mapping[str, Any]) -> Area:
    """Extent of an item: the rectangle of its pixels if the item declares it, else its footprint."""
    for asset in item["assets"].values():
        if set(asset.get("roles") or ()) & _PICTURES:
            continue
        place = {**item["properties"], **asset}
        code, numbers = declared_crs(place), [*_numbers(place, "proj:transform", 6), *_numbers(place, "proj:shape", 2)]
        if code and len(numbers) == 8:
            a, _, west, _, e, north, rows, columns = numbers
            return read_areas(box(west, north + rows * e, west + columns * a, north), crs=code)[0]
    return read_areas(mapping(footprint_of(item)))[0]


_PICTURES = {"thumbnail", "overview", "visual"}
"""Roles of assets that may have another extent than the bands."""


def _numbers(place: Mapping[str, Any], key: str, count: int) -> list[float]:
    """The first ``count`` numbers of a list; empty if it holds other values."""
    said = place.get(key)
    return numbers_of(said[:count]) if isinstance(said, (list, tuple)) else []


def _blank(mission: str) -> xr.Dataset:
    """A Dataset without pixels with all layers of a mission, to find the layers that a view needs."""
    import xarray as xr

    layers: dict[str, Any] = {
        band.name: ("x", np.zeros(0, "float32"), {"flag_values": []} if band.quantity.is_class else {})
        for band in find_mission(mission).bands.values()
    }
    return xr.Dataset(layers, attrs={"mission": mission})


def _white(one: OneItem, bands: Sequence[str], grid: Grid) -> float:
    """Reflectance that becomes white, from a picture of the whole item that is read from overviews."""
    coarser = grid.resolution * math.ceil(max(grid.shape) / LOOK)
    small = lazy_layers(one.job(bands, coarser)).isel(time=0).load()
    return white_of(np.stack([small[band].values for band in bands], axis=-1))
