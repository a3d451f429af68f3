"""Open an archive as one lazy Dataset over its tiles, and make products over all of them.

The products are mosaics as COGs, series of points and polygons, and a catalog.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio.warp
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.windows import Window
from shapely.geometry import mapping

from stac2cube.archives.archive import StepTable, TileArchive, product_steps, read_archive
from stac2cube.archives.tiling import ArchiveTile, tile_footprints
from stac2cube.errors import BadInputError, CubeError
from stac2cube.export.export import write_cog
from stac2cube.export.publish import link_to_self
from stac2cube.export.series import series, series_of
from stac2cube.model.cube_spec import Layer, prepare_for_writing
from stac2cube.model.geometry import WGS84, Area, read_areas, read_features
from stac2cube.model.grid import Grid, crs_text, grid_from_geobox, grid_over
from stac2cube.model.period import parse_period
from stac2cube.store.files import write_whole
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import OuterArray, lazy_variable, open_cube
from stac2cube.trust.address import public
from stac2cube.trust.names import require_own, safe_name
from stac2cube.views.options import Columns

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

OPEN_TILES = 64
"""Number of cubes that a Dataset keeps open."""


def open_archive(
    path: str | Path,
    product: str = "layers",
    *,
    crs: str | None = None,
    resolution: float | None = None,
    aoi: Any = None,
    time: Any = None,
    bands: Sequence[str] | None = None,
    tiles: Sequence[str] | None = None,
    decode: bool = True,
    chunks: Mapping[str, int] | None = None,
) -> xr.Dataset:
    """Open a product of all tiles of an archive as one Dataset, without reading a pixel or making a dask graph.

    A time step is a scene: one platform, relative orbit and solar day, over all tiles. Where tiles overlap, the first
    tile with data counts: tiles in the Dataset's CRS come first, then the others, each by name. Pixels of tiles on the
    Dataset's own lattice are copied unchanged; those of other tiles are resampled to the nearest pixel, so that no new
    value arises. Cubes are opened when pixels of them are read.

    Args:
        path: The archive's folder, or its ``archive.json``.
        product: Name of an entry of the recipe that makes cubes.
        crs: CRS of the Dataset, ``"EPSG:32632"`` or WKT; that of most tiles if None.
        resolution: Pixel edge, units of ``crs``; that of the tiles if None.
        aoi: Only the window around this area, in any form that :func:`stac2cube.get_stac_layers` takes; all tiles if
            None.
        time: Only steps in this period, ``"2023"``, ``"2023-06/2023-08"``; all if None.
        bands: Names of layers; all if None.
        tiles: Names of the tiles to use; all if None.
        decode: True gives physical values (float, NaN where there is no data); False the stored numbers.
        chunks: Dask chunks by dimension; None for no dask.

    Returns:
        Layers ``(time, y, x)``; coordinates ``time`` (datetime64, UTC: the earliest of the tiles), ``scene`` (key),
        ``x``, ``y`` and ``spatial_ref``.

    Raises:
        BadInputError: There is no archive, product, layer or tile of that name, or the area is outside.
        CubeError: A cube is damaged.
    """
    dataset, _ = _opened(
        path, product, crs=crs, resolution=resolution, aoi=aoi, time=time, bands=bands, tiles=tiles, decode=decode
    )
    return dataset if chunks is None else dataset.chunk(dict(chunks))


def _opened(
    path: str | Path,
    product: str,
    *,
    crs: str | None = None,
    resolution: float | None = None,
    aoi: Any = None,
    time: Any = None,
    bands: Sequence[str] | None = None,
    tiles: Sequence[str] | None = None,
    decode: bool = True,
) -> tuple[xr.Dataset, GeoBox]:
    """The Dataset of :func:`open_archive`, and its lattice: coordinates in degrees give pixels that are not square."""
    archive = read_archive(path)
    chosen = _chosen(archive, product, tiles)
    table = product_steps(archive, product)
    have = [tile for tile in chosen if tile.name in set(table.tiles)]
    if not have:
        raise BadInputError(f"no tile of {archive.folder} has a cube of {product} yet")
    target = crs_text(crs) if crs is not None else _most(have)
    layers = _layers(archive.cube(have[0], product), bands)
    ordered = sorted(have, key=lambda tile: (tile.crs != target, tile.name))
    area = None if aoi is None else read_areas(aoi)[0]
    geobox = _geobox(ordered, target, resolution, area)
    keys, times = _steps(table, have, time)
    source = _Mosaic(archive.folder, product, tuple(ordered), geobox, tuple(keys.tolist()))
    shape = (keys.size, *geobox.shape)
    variables: dict[str, Any] = {}
    for layer in layers:
        array = MosaicLayer(source, layer, shape)
        variables[layer.name] = lazy_variable(array, ("time", "y", "x"), layer.attributes(), {})
    # Not by the names of the axes of the CRS, which in degrees are latitude and longitude.
    dataset = xr.Dataset(variables, coords=xr_coords(geobox, always_yx=True))
    dataset = dataset.assign_coords(time=("time", times.astype("datetime64[us]")), scene=("time", keys.astype("U")))
    dataset["time"].attrs = {"standard_name": "time", "long_name": "earliest acquisition time of the tiles, UTC"}
    dataset["scene"].attrs = {"long_name": "key of the scene: platform, relative orbit, solar day"}
    mission = str(read_root(archive.cube(have[0], product)).spec.recipe.get("mission", ""))
    dataset.attrs = {"Conventions": "CF-1.11", "product": product, "tiles": len(have)}
    dataset.attrs |= {"mission": mission} if mission else {}
    dataset.encoding["source"] = str(archive.folder)
    dataset = xr.decode_cf(dataset, decode_times=False) if decode else dataset
    prepare_for_writing(dataset)
    return dataset, geobox


def _chosen(archive: TileArchive, product: str, tiles: Sequence[str] | None) -> list[ArchiveTile]:
    if product not in archive.products:
        raise BadInputError(f"{archive.folder} has no product {product!r}; it has {', '.join(archive.products)}")
    if unknown := sorted(set(tiles or ()) - set(archive.tiles)):
        raise BadInputError(f"{archive.folder} has no tile {', '.join(unknown)}")
    return [tile for name, tile in archive.tiles.items() if tiles is None or name in tiles]


def _most(tiles: Sequence[ArchiveTile]) -> str:
    """The CRS of most tiles; the first by name if several are equally frequent."""
    counts: dict[str, int] = {}
    for tile in tiles:
        counts[tile.crs] = counts.get(tile.crs, 0) + 1
    return min(counts, key=lambda crs: (-counts[crs], crs))


def _layers(cube: Path, bands: Sequence[str] | None) -> list[Layer]:
    known = {layer.name: layer for layer in read_root(cube).spec.layers}
    if unknown := [name for name in bands or () if name not in known]:
        raise BadInputError(f"there is no layer {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in (known if bands is None else bands)]


def layers_of_product(path: str | Path, product: str, bands: Sequence[str] | None = None) -> list[Layer]:
    """Layers of a product of an archive, read from its first cube.

    Args:
        path: The archive's folder, or its ``archive.json``.
        product: Name of the product.
        bands: Names of layers; all if None.

    Raises:
        BadInputError: No tile has a cube of the product yet, or there is no such layer.
    """
    archive = read_archive(path)
    for _, _, cube in archive.cubes(product):
        return _layers(cube, bands)
    raise BadInputError(f"no tile of {archive.folder} has a cube of {product} yet")


def _steps(table: StepTable, tiles: Sequence[ArchiveTile], time: Any) -> tuple[np.ndarray, np.ndarray]:
    """Keys and times of the steps of some tiles, by time; each key has the earliest of its times."""
    names = {tile.name for tile in tiles}
    first = np.full(table.keys.size, np.iinfo(np.int64).max)
    taken = np.array([name in names for name in table.tiles], dtype=bool)
    # There may be millions of steps: they are processed in pieces, so that no copy of all is made.
    for offset in range(0, table.tile.size, _PIECE):
        piece = slice(offset, offset + _PIECE)
        mine = taken[table.tile[piece]]
        np.minimum.at(first, table.key[piece][mine], table.times[piece][mine])
    there = first < np.iinfo(np.int64).max
    if time is not None:
        inside = np.zeros(there.size, dtype=bool)
        for begin, end in parse_period(time).intervals:
            inside |= (first >= _micros(begin)) & (first <= _micros(end))
        there &= inside
    order = np.flatnonzero(there)[np.lexsort((table.keys[there], first[there]))]
    return table.keys[order], first[order]


_PIECE = 2**18
"""Number of steps that are processed together."""


def _micros(moment: datetime) -> int:
    return int(np.datetime64(moment.replace(tzinfo=None), "us").astype(np.int64))


def _geobox(tiles: Sequence[ArchiveTile], crs: str, resolution: float | None, area: Area | None) -> GeoBox:
    """The window over the tiles, or over an area, on the pixel lattice of the first tile."""
    own = [tile for tile in tiles if tile.crs == crs]
    edge = resolution or (own[0].resolution if own else None)
    if edge is None:
        raise BadInputError(f"no tile is in {crs}: say resolution= too")
    lattice = own[0].origin if own else (0.0, 0.0)
    if area is not None:
        grid = grid_over(area.native, area.native_crs, crs, edge, lattice=lattice)
        if not any(_touch(tile, grid.geobox) for tile in tiles):
            raise BadInputError(f"the area {area.name!r} touches no tile of the archive")
        return grid.geobox
    boxes = [_box_in(tile, crs) for tile in tiles]
    west, south = min(box[0] for box in boxes), min(box[1] for box in boxes)
    east, north = max(box[2] for box in boxes), max(box[3] for box in boxes)
    left, top = math.floor((west - lattice[0]) / edge + 1e-6), math.ceil((north - lattice[1]) / edge - 1e-6)
    right, low = math.ceil((east - lattice[0]) / edge - 1e-6), math.floor((south - lattice[1]) / edge + 1e-6)
    corner = Affine(edge, 0, lattice[0] + left * edge, 0, -edge, lattice[1] + top * edge)
    return GeoBox((top - low, right - left), corner, crs)


def _box_in(tile: ArchiveTile, crs: str) -> tuple[float, float, float, float]:
    """West, south, east and north edge of a tile in a CRS."""
    if tile.crs == crs:
        return tile.bounds
    west, south, east, north = rasterio.warp.transform_bounds(tile.crs, crs, *tile.bounds, densify_pts=21)
    return west, south, east, north


def _touch(tile: ArchiveTile, geobox: GeoBox) -> bool:
    west, south, east, north = _box_in(tile, str(geobox.crs))
    box = geobox.boundingbox
    return bool(west < box.right and east > box.left and south < box.top and north > box.bottom)


@dataclass
class _Mosaic:
    """The tiles of a product as a source of pixels; cubes are opened when they are first read.

    Attributes:
        folder: The archive.
        product: Name of the product.
        tiles: Tiles in mosaic order.
        geobox: The lattice of the Dataset.
        keys: Keys of its steps.
    """

    folder: Path
    product: str
    tiles: tuple[ArchiveTile, ...]
    geobox: GeoBox
    keys: tuple[str, ...]
    _open: OrderedDict[str, tuple[xr.Dataset, dict[str, int]]] = field(default_factory=OrderedDict, repr=False)
    _boxes: list[tuple[float, float, float, float]] = field(default_factory=list, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __reduce__(self) -> Any:
        """Leave out open cubes when pickled: another process opens them again."""
        return _Mosaic, (self.folder, self.product, self.tiles, self.geobox, self.keys)

    def within(self, window: GeoBox) -> list[tuple[ArchiveTile, slice, slice]]:
        """Tiles that touch a window of the Dataset, with the rows and columns of the window that each may cover."""
        if not self._boxes:
            self._boxes = [_box_in(tile, str(self.geobox.crs)) for tile in self.tiles]
        x, y, edge = window.transform.c, window.transform.f, window.transform.a
        found = []
        for tile, (west, south, east, north) in zip(self.tiles, self._boxes, strict=True):
            top, low = clipped((y - north) / edge, (y - south) / edge, window.shape[0])
            left, right = clipped((west - x) / edge, (east - x) / edge, window.shape[1])
            if top < low and left < right:
                found.append((tile, slice(top, low), slice(left, right)))
        return found

    def cube(self, tile: ArchiveTile) -> tuple[xr.Dataset, dict[str, int]]:
        """The cube of a tile, as stored numbers, and the index along ``time`` of each of its steps by key."""
        with self._guard:
            if tile.name not in self._open:
                path = self.folder / tile.folder / f"{self.product}.zarr"
                dataset = open_cube(path, decode=False, chunks=None)
                places = {str(key): place for place, key in enumerate(dataset["scene"].values)}
                self._open[tile.name] = (dataset, places)
                while len(self._open) > OPEN_TILES:
                    self._open.popitem(last=False)
            self._open.move_to_end(tile.name)
            return self._open[tile.name]


class MosaicLayer(OuterArray):
    """One layer over all tiles.

    Args:
        source: The tiles.
        layer: The layer.
        shape: Steps, rows, columns.
    """

    def __init__(self, source: _Mosaic, layer: Layer, shape: tuple[int, int, int]) -> None:
        self._source, self._layer = source, layer
        self.shape, self.dtype = shape, np.dtype(layer.dtype)

    def outer(self, key: tuple[Any, ...]) -> np.ndarray:
        """Read steps x rows x columns; a dimension indexed by one number is dropped.

        Raises:
            CubeError: A cube has another layout than the first one, or is damaged.
        """
        steps, rows, columns = (_numbers(part, size) for part, size in zip(key, self.shape, strict=True))
        out = np.full((steps.size, rows.size, columns.size), self._layer.fill, dtype=self.dtype)
        if out.size:
            top, left = int(rows.min()), int(columns.min())
            window = self._source.geobox[top : int(rows.max()) + 1, left : int(columns.max()) + 1]
            filled = self._read([self._source.keys[step] for step in steps], window)
            out[:] = filled[np.ix_(np.arange(steps.size), rows - top, columns - left)]
        drop = tuple(0 if isinstance(part, (int, np.integer)) else slice(None) for part in key)
        return np.asarray(out[drop])

    def _read(self, keys: Sequence[str], window: GeoBox) -> np.ndarray:
        out = np.full((len(keys), *window.shape), self._layer.fill, dtype=self.dtype)
        for tile, rows, columns in self._source.within(window):
            cube, places = self._source.cube(tile)
            if self._layer.name not in cube or cube[self._layer.name].dtype != self.dtype:
                raise CubeError(f"tile {tile.name} has no layer {self._layer.name} of {self.dtype}")
            mine = [step for step, key in enumerate(keys) if key in places]
            slots = [places[keys[step]] for step in mine]
            part = window[rows, columns]
            pixels = tile_pixels(cube[self._layer.name], slots, tile.geobox, part, self._layer.fill) if mine else None
            if pixels is not None:
                for step, values in zip(mine, pixels, strict=True):
                    before = out[step, rows, columns]
                    empty = np.isnan(before) if np.isnan(self._layer.fill) else before == self._layer.fill_scalar
                    before[empty] = values[empty]
        return out


def tile_pixels(
    layer: xr.DataArray, places: Sequence[int], tile: GeoBox, window: GeoBox, fill: Any
) -> np.ndarray | None:
    """Pixels of a tile on another lattice: copied where the pixels coincide, else resampled to the nearest.

    Args:
        layer: Layer of the tile's cube, stored numbers ``(time, y, x)``.
        places: Indices along ``time``.
        tile: Lattice of the layer.
        window: Target lattice.
        fill: Value for no data.

    Returns:
        ``(places, rows, columns)`` of ``window``, of the layer's dtype; None where the two do not overlap.
    """
    west, south, east, north = rasterio.warp.transform_bounds(
        str(window.crs), str(tile.crs), *window.boundingbox, densify_pts=21
    )
    if not all(map(math.isfinite, (west, south, east, north))):  # the window reaches beyond the tile's projection
        west, south, east, north = tile.boundingbox
    x, y, edge = tile.transform.c, tile.transform.f, tile.transform.a
    left, right = clipped((west - x) / edge, (east - x) / edge, tile.shape[1])
    top, low = clipped((y - north) / edge, (y - south) / edge, tile.shape[0])
    if left >= right or top >= low:
        return None
    part = tile[top:low, left:right]
    pixels = layer.isel(time=list(places), y=slice(top, low), x=slice(left, right)).values
    out = np.full((len(places), *window.shape), fill, dtype=pixels.dtype)
    offsets = _same_lattice(part, window)
    if offsets is None:
        rasterio.warp.reproject(
            pixels,
            out,
            src_transform=part.transform,
            src_crs=str(part.crs),
            src_nodata=fill,
            dst_transform=window.transform,
            dst_crs=str(window.crs),
            dst_nodata=fill,
            resampling=rasterio.warp.Resampling.nearest,
        )
        return out
    (row, column), (rows, columns) = offsets, window.shape
    first, begin = max(row, 0), max(column, 0)
    last, end = min(row + pixels.shape[1], rows), min(column + pixels.shape[2], columns)
    out[:, first:last, begin:end] = pixels[:, first - row : last - row, begin - column : end - column]
    return out


def clipped(first: float, last: float, size: int) -> tuple[int, int]:
    """Range of whole pixels between two edges, one more on each side, within a size; empty if they do not overlap."""
    if not (first < size and last > 0):
        return 0, 0
    return max(math.floor(first) - 1, 0), min(math.ceil(last) + 1, size)


def _same_lattice(part: GeoBox, window: GeoBox) -> tuple[int, int] | None:
    """Row and column of a lattice within another; None where their pixels do not coincide."""
    if part.crs != window.crs or part.transform.a != window.transform.a:
        return None
    edge = window.transform.a
    column = (part.transform.c - window.transform.c) / edge
    row = (window.transform.f - part.transform.f) / edge
    whole = round(row), round(column)
    near = abs(row - whole[0]) < _NEAR and abs(column - whole[1]) < _NEAR
    return whole if near else None


_NEAR = 1e-4
"""Largest offset, in pixels, between two lattices that are treated as the same (floating point)."""


def _numbers(part: Any, size: int) -> np.ndarray:
    if isinstance(part, slice):
        return np.arange(*part.indices(size))
    return np.atleast_1d(np.asarray(part))


def map_tiles(
    path: str | Path,
    func: Callable[[xr.Dataset], Any],
    product: str = "layers",
    *,
    tiles: Sequence[str] | None = None,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Call a function on the cube of each tile.

    Args:
        path: The archive's folder, or its ``archive.json``.
        func: Function of the cube of a tile, opened as by :func:`stac2cube.open_cube`, without dask: layers
            ``(time, y, x)``. With an executor of other processes, the function and its results must be picklable.
        product: Name of an entry of the recipe that makes cubes.
        tiles: Names of the tiles to use; all if None.
        executor: Executor of the calls, ``dask.distributed.Client.get_executor()`` for example; this process if None.

    Returns:
        Results of the function by name of the tile; tiles without that cube are left out.

    Raises:
        BadInputError: There is no archive, product or tile of that name.
        Exception: An error of the function, that of the first tile by name.
    """
    archive = read_archive(path)
    chosen = _chosen(archive, product, tiles)
    cubes = {tile.name: archive.cube(tile, product) for tile in chosen}
    there = {name: cube for name, cube in cubes.items() if (cube / "zarr.json").exists()}
    if executor is None:
        return {name: _called(func, cube) for name, cube in there.items()}
    waiting = {name: executor.submit(_called, func, cube) for name, cube in there.items()}
    return {name: future.result() for name, future in waiting.items()}


def _called(func: Callable[[xr.Dataset], Any], cube: Path) -> Any:
    return func(open_cube(cube, chunks=None))


# Products over all tiles: mosaics as COGs, series of points and polygons, a catalog.

WINDOW = 2048
"""Edge of the windows in which a mosaic is read and written, pixels: the size of the shards of its tiles."""


def export_mosaics(
    path: str | Path,
    out: str | Path,
    product: str = "layers",
    *,
    bands: Sequence[str] | None = None,
    time: Any = None,
    aoi: Any = None,
    crs: str | None = None,
    resolution: float | None = None,
) -> list[Path]:
    """Write a cloud-optimised GeoTIFF over all tiles for each step of a product; one per month for monthly composites.

    Pixels are read and written window by window, so that memory does not grow with the area. They are stored numbers,
    with scale, offset, unit and nodata in the file. For overlapping tiles see :func:`stac2cube.open_archive`.

    Args:
        path: The archive's folder, or its ``archive.json``.
        out: Folder of the files, which are named by the key of their step.
        product: Name of an entry of the recipe that makes cubes.
        bands: Names of layers, in the order of the bands; all if None.
        time: Only steps in this period, ``"2023"``, ``"2023-06/2023-08"``; all if None.
        aoi: Only the window around this area; all tiles if None.
        crs: CRS of the files; that of most tiles if None.
        resolution: Pixel edge, units of ``crs``; that of the tiles if None.

    Returns:
        The files, by time; an existing file is replaced atomically.

    Raises:
        BadInputError: As for :func:`stac2cube.open_archive`; no step in the period; or layers with different nodata
            values, which cannot be in one file.
        OSError: The disk is full.
    """
    words = {"bands": bands, "time": time, "aoi": aoi, "crs": crs, "resolution": resolution}
    dataset, geobox = _opened(path, product, decode=False, **words)
    layers, grid = layers_of_product(path, product, bands), grid_from_geobox(geobox)
    if not dataset.sizes["time"]:
        raise BadInputError(f"there is no step of {product} in {time}: choose another time")
    written = []
    for place, key in enumerate(dataset["scene"].values):
        step = dataset.isel(time=place)
        target = Path(out) / f"{safe_name(str(key))}.tif"
        tags = {"scene": str(key), "time": f"{np.datetime_as_string(dataset['time'].values[place], 's')}Z"}
        written.append(write_cog(target, layers, grid.geobox, _windows(step, layers, grid), tags))
    return written


def _windows(step: xr.Dataset, layers: Sequence[Layer], grid: Grid) -> Iterator[tuple[str, Window, np.ndarray]]:
    height, width = grid.shape
    for top in range(0, height, WINDOW):
        for left in range(0, width, WINDOW):
            rows, columns = slice(top, min(top + WINDOW, height)), slice(left, min(left + WINDOW, width))
            for layer in layers:
                yield layer.name, Window.from_slices(rows, columns), step[layer.name][rows, columns].values


def archive_series(
    path: str | Path,
    places: object,
    product: str = "layers",
    *,
    columns: Columns | None = None,
    time: Any = None,
) -> pd.DataFrame:
    """Time series of points or polygons over all tiles of an archive.

    Values of a place within one tile come from the cube of that tile, on its own lattice. If tiles overlap, the first
    one by name is used. Values of a polygon over several tiles come from all of them, joined as by
    :func:`stac2cube.open_archive` in the CRS of the first.

    Args:
        path: The archive's folder, or its ``archive.json``.
        places: Features in any form that :func:`stac2cube.model.geometry.read_areas` takes, points too.
        product: Name of an entry of the recipe that makes cubes.
        columns: Layers, indices, and statistics of polygons. Default: all layers.
        time: Only steps in this period; all if None.

    Returns:
        A row per place and step, places in their order: ``name``, ``tile`` (names, with commas where there are
        several), ``time`` (UTC), ``scene``; for points a column per layer, the value of the pixel that contains the
        point; for polygons ``B04_mean`` and so on, ``pixels`` and ``valid``. Physical units; NaN where there is no
        data.

    Raises:
        BadInputError: There is no archive or product of that name, or a place is in no tile of it.
    """
    import pandas as pd

    archive, how = read_archive(path), columns or Columns()
    if product not in archive.products:
        raise BadInputError(f"{archive.folder} has no product {product!r}; it has {', '.join(archive.products)}")
    stem, features = read_features(places, None)
    there = [tile for tile in archive.tiles.values() if (archive.cube(tile, product) / "zarr.json").exists()]
    footprints = tile_footprints(there)
    tables = []
    for number, feature in enumerate(features, start=1):
        name = next((name for name in feature.names if name), f"{stem}-{number}" if len(features) > 1 else stem)
        shape = _in_degrees(feature.shape, feature.crs)
        tiles = _tiles_of(there, footprints, shape)
        if not tiles:
            raise BadInputError(f"{name} lies in no tile of {archive.folder} that has {product}")
        place = {"type": "Feature", "properties": {"name": name}, "geometry": mapping(shape)}
        table = _told(archive, product, place, tiles, how, time)
        table.insert(1, "tile", ",".join(tile.name for tile in tiles))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _in_degrees(shape: Any, crs: Any) -> Any:
    from pyproj import Transformer

    transform = Transformer.from_crs(crs, WGS84, always_xy=True).transform
    return shapely.transform(shape, transform, interleaved=False)


def _tiles_of(tiles: Sequence[ArchiveTile], footprints: np.ndarray, shape: Any) -> list[ArchiveTile]:
    """The first tile that contains a place entirely, else all that contain a part of it."""
    near = np.flatnonzero(shapely.intersects(footprints, shape))
    whole = near[shapely.contains(footprints[near], shape)]
    return [tiles[int(place)] for place in (whole[:1] if whole.size else near)]


def _told(
    archive: TileArchive,
    product: str,
    place: dict[str, Any],
    tiles: Sequence[ArchiveTile],
    columns: Columns,
    time: Any,
) -> pd.DataFrame:
    if len(tiles) == 1:
        from stac2cube.views.options import TimeSelection

        choice = TimeSelection(None if time is None else str(time))
        return series(archive.cube(tiles[0], product), place, columns=columns, choice=choice)
    crs = tiles[0].crs
    names = [tile.name for tile in tiles]
    dataset, geobox = _opened(archive.folder, product, crs=crs, aoi=place["geometry"], time=time, tiles=names)
    return series_of(dataset, grid_from_geobox(geobox), place, columns)


def write_catalog(path: str | Path, out: Path, address: str = "") -> Path:
    """Write the STAC Catalog of the Collections of an archive that were published into a folder.

    Args:
        path: The archive's folder, or its ``archive.json``.
        out: The folder, with ``TILE/PRODUCT/collection.json``.
        address: Public address of the folder, for the ``self`` link; no such link if "".

    Returns:
        The Catalog's file, ``catalog.json``; replaced atomically if it exists.

    Raises:
        BadInputError: There is no archive, or the path of the file is taken by something else.
        OSError: The disk is full.
    """
    archive, target = read_archive(path), out / "catalog.json"
    require_own(target, "the Catalog")
    name = archive.folder.resolve().name
    links = [{"rel": "root", "href": "./catalog.json", "type": "application/json", "title": name}]
    links += link_to_self(public(address).rstrip("/"), "catalog.json", "application/json")
    for tile in archive.tiles.values():
        for product in archive.products:
            if (out / tile.folder / product / "collection.json").is_file():
                href, title = f"./{tile.folder}/{product}/collection.json", f"{product} of tile {tile.name}"
                links.append({"rel": "child", "href": href, "type": "application/json", "title": title})
    about = {"id": safe_name(name), "title": name, "description": f"Cubes of {len(archive.tiles)} tiles, by stac2cube"}
    catalog = {"type": "Catalog", "stac_version": "1.1.0", **about, "links": links}
    write_whole(target, json.dumps(catalog, indent=1).encode())
    return target
