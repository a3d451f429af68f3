"""One STAC item in the numbers and on the lattice that a cube would have, and what views make of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from shapely.geometry import box, mapping

from stac2cube.area import Area, read_areas
from stac2cube.catalog import Catalog
from stac2cube.cube.spec import CubeSpec
from stac2cube.errors import BadInputError, CatalogError, ReadError
from stac2cube.flow import Flow
from stac2cube.grid import Grid, Tile
from stac2cube.kernels.colour import white_of
from stac2cube.mission import find_mission, mission_names
from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.scene import Scene
from stac2cube.source.identity import time_of
from stac2cube.source.lying import declared_crs, footprint_of
from stac2cube.source.parsing import parse_item
from stac2cube.source.search import scenes_of
from stac2cube.stages.layers import LayersJob, area_words, lazy_layers
from stac2cube.stages.reading import ReadScene
from stac2cube.stages.request import Request, grid_for, spec_for, understand
from stac2cube.work import Block, Orders

if TYPE_CHECKING:
    import xarray as xr

LOOK = 1000
"""Pixels of the longer edge of the picture from which a stretch is found."""


@dataclass(frozen=True)
class OneItem:
    """An item and how it is looked at.

    Attributes:
        item: As its catalog gave it, with absolute hrefs.
        mission: Whose it is.
        aoi: What is looked at of it, in any form of an area of interest; all of it if None.
        origin: Address that it comes from, which decides what it may name; "" if it lies in a file of one's own.
    """

    item: Mapping[str, Any] = field(repr=False)
    mission: str
    aoi: Any = None
    origin: str = ""

    @classmethod
    def of(cls, item: Mapping[str, Any], mission: str | None = None, aoi: Any = None, origin: str = "") -> OneItem:
        """An item whose mission follows from its collection, if it is not said.

        Raises:
            BadInputError: No mission, or several, have such a collection.
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
        """Bands of the item on their lattice, to be looked at by :func:`stac2cube.stages.layers.lazy_layers`.

        Args:
            bands: Names or common names.
            resolution: Pixel edge in units of the item's CRS; the finest band's if None.

        Raises:
            BadInputError: Unknown band, or an area that the item does not touch.
            CatalogError: The item lacks what no pixel can do without.
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
        wanted = understand(Request(**words))
        name = str(self.item["id"])
        scenes = scenes_of([self.item], wanted.query, Catalog(name, name, name, origin=self.origin))
        if not scenes:
            raise BadInputError(f"item {name} is not of {self.mission}")
        if problem := scenes[0].problem:
            raise CatalogError(problem)
        if not footprint_of(self.item).intersects(wanted.query.area):
            raise BadInputError(f"item {name} has nothing of the area")
        spec = spec_for(wanted, grid_for(wanted, scenes))
        return LayersJob(None, wanted, tuple(scenes), spec, ())


@dataclass(frozen=True)
class Wanted:
    """What is to be made of an item.

    Attributes:
        indices: Names of spectral indices.
        colours: Names of colour composites.
        resolution: Pixel edge in units of the item's CRS; the finest band's if None.
        clear: Whether indices have no data where the scene's classes say cloud, shadow or no data.
    """

    indices: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    resolution: float | None = None
    clear: bool = False

    def of(self, one: OneItem) -> MakeProducts:
        """How it is made of an item. A small picture of it is read, from which the stretch of colours is found.

        Raises:
            BadInputError: Unknown index or colours, or a mission that lacks a band for them.
            CatalogError: The item lacks what no pixel can do without.
            ReadError: The small picture cannot be read.
        """
        from stac2cube.views.combinations import bands_of
        from stac2cube.views.layer import is_class
        from stac2cube.views.spectral import recipe_for

        blank = _blank(one.mission)
        recipes = [recipe_for(blank, name) for name in self.indices]
        shown = {colours: bands_of(blank, colours) for colours in self.colours}
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
                *(Product(recipe.name.lower(), recipe.long_name, index=recipe.name) for recipe in recipes),
                *(Product(name, f"{name} colours", tuple(bands), whites[name]) for name, bands in shown.items()),
            ),
            clear=self.clear,
        )


@dataclass(frozen=True)
class Product:
    """One product of an item: an index, or a picture.

    Attributes:
        name: Of its file.
        title: What it is.
        bands: Shown as red, green and blue; none for an index.
        white: What becomes white.
        index: The registry's name; "" for a picture.
    """

    name: str
    title: str
    bands: tuple[str, ...] = ()
    white: float = 1.0
    index: str = ""


@dataclass(frozen=True)
class MakeProducts:
    """The task: all products of one block of an item. It runs on a worker.

    Attributes:
        read: Reads bands.
        scene: The item as a scene.
        spec: Its layers and lattice.
        products: What is made.
        clear: See :class:`Wanted`.
    """

    read: ReadScene
    scene: Scene = field(repr=False)
    spec: CubeSpec = field(repr=False)
    products: tuple[Product, ...]
    clear: bool

    def __call__(self, tile: Tile) -> dict[str, np.ndarray]:
        """Products of one block by name, each ``(bands, rows, columns)``.

        Indices are float32, NaN without data; pictures uint8 in four bands, the last 0 without data, else 255.

        Raises:
            ReadError: An asset is missing or cannot be read.
        """
        import xarray as xr

        from stac2cube.views.classes import mask_classes
        from stac2cube.views.colour import rgb
        from stac2cube.views.spectral import indices

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
    """All blocks of an item's products, in the order in which they are ready; few are in flight at a time.

    Raises:
        ReadError: A block could not be made.
        PlaceError: The place cannot be had.
    """
    flow = Flow(place, Orders(), Progress())
    with (
        place.open() as executor,
        closing(flow.handed_out(task.spec.grid.tiles(), lambda tile: executor.submit(task, tile))) as coming,
    ):
        for tile, future in coming:
            if reason := flow.failure(future):
                raise ReadError(reason) from future.exception()
            yield tile, future.result()


def _extent(item: Mapping[str, Any]) -> Area:
    """All of an item: the rectangle of its pixels where it tells it, else its footprint."""
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
"""Roles of assets that may lie elsewhere than the bands do."""


def _numbers(place: Mapping[str, Any], key: str, count: int) -> list[float]:
    """So many numbers of a list, none if it is not one of numbers."""
    said = place.get(key)
    values = said[:count] if isinstance(said, (list, tuple)) else ()
    return [float(value) for value in values if isinstance(value, (int, float)) and math.isfinite(value)]


def _blank(mission: str) -> xr.Dataset:
    """A Dataset without pixels that has all layers of a mission: it tells which of them a view needs."""
    import xarray as xr

    layers: dict[str, Any] = {
        band.name: ("x", np.zeros(0, "float32"), {"flag_values": []} if band.quantity.is_class else {})
        for band in find_mission(mission).bands.values()
    }
    return xr.Dataset(layers, attrs={"mission": mission})


def _white(one: OneItem, bands: Sequence[str], grid: Grid) -> float:
    """What becomes white, from a picture of the whole that is read from overviews."""
    coarser = grid.resolution * math.ceil(max(grid.shape) / LOOK)
    small = lazy_layers(one.job(bands, coarser)).isel(time=0).load()
    return white_of(np.stack([small[band].values for band in bands], axis=-1))
