"""Products over all tiles of an archive: mosaics as COGs, series of points and polygons, a catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import xarray as xr
from rasterio.windows import Window
from shapely.geometry import mapping

from stac2cube.archives.archive import TileArchive, read_archive
from stac2cube.archives.mosaic import layers_of_product, open_archive
from stac2cube.archives.tiling import ArchiveTile, tile_footprints
from stac2cube.errors import BadInputError
from stac2cube.export.export import write_cog
from stac2cube.export.publish import link_to_self
from stac2cube.export.series import series, series_of
from stac2cube.model.cube_spec import Layer
from stac2cube.model.geometry import WGS84, read_features
from stac2cube.model.grid import Grid, grid_from_geobox
from stac2cube.store.files import write_whole
from stac2cube.trust.address import public
from stac2cube.trust.names import require_own, safe_name
from stac2cube.views.options import Columns

if TYPE_CHECKING:
    import pandas as pd

WINDOW = 2048
"""Edge of the windows in which a mosaic is read and written, pixels: the shards of its tiles."""


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
    """Write a cloud-optimised GeoTIFF over all tiles for each step of a product: of monthly composites, one per month.

    Pixels are read and written window by window, so that memory does not grow with the area. They are stored numbers,
    with scale, offset, unit and nodata in the file; see :func:`stac2cube.open_archive` for which tile counts where.

    Args:
        path: The archive's folder, or its ``archive.json``.
        out: Folder of the files, which are called by the key of their step.
        product: Name of an entry of the recipe that makes cubes.
        bands: Names of layers, in the order of the bands; all if None.
        time: Only steps in this period, ``"2023"``, ``"2023-06/2023-08"``; all if None.
        aoi: Only the window around this area; all tiles if None.
        crs: CRS of the files; that of most tiles if None.
        resolution: Pixel edge, units of ``crs``; that of the tiles if None.

    Returns:
        The files, by time; each is replaced whole.

    Raises:
        BadInputError: As of :func:`stac2cube.open_archive`; no step in the period; or layers with different nodata
            values, which do not fit into one file.
        OSError: The disk is full.
    """
    words = {"bands": bands, "time": time, "aoi": aoi, "crs": crs, "resolution": resolution}
    dataset = open_archive(path, product, decode=False, **words)
    layers, grid = layers_of_product(path, product, bands), _grid_of(dataset)
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


def _grid_of(dataset: xr.Dataset) -> Grid:
    return grid_from_geobox(dataset.odc.geobox)


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
        several), ``time`` (UTC), ``scene``; for points a column per layer, the value of the pixel they lie in; for
        polygons ``B04_mean`` and so on, ``pixels`` and ``valid``. Physical units; NaN where there is no data.

    Raises:
        BadInputError: There is no archive or product of that name, or a place lies in no tile of it.
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
    """The first tile that holds a place whole, else all that hold a part of it."""
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
    dataset = open_archive(archive.folder, product, crs=crs, aoi=place["geometry"], time=time, tiles=names)
    return series_of(dataset, _grid_of(dataset), place, columns)


def write_catalog(path: str | Path, out: Path, address: str = "") -> Path:
    """Write the STAC Catalog over the Collections of an archive that were published into a folder.

    Args:
        path: The archive's folder, or its ``archive.json``.
        out: The folder, with ``TILE/PRODUCT/collection.json``.
        address: Where people will find the folder, for the ``self`` link; none if "".

    Returns:
        The Catalog's file, ``catalog.json``; replaced whole if it exists.

    Raises:
        BadInputError: There is no archive, or something else is in the place of the file.
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
