"""A GeoTIFF for each geometry and scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from stac2cube.errors import BadInputError
from stac2cube.names import names_for, path_below, require_own, safe_name
from stac2cube.products.geotiff import write_cog
from stac2cube.progress import Progress
from stac2cube.reads.selection import Source, Words, features_of, inside, select, window_over
from stac2cube.reads.windows import Pixels, geobox_of, read_windows
from stac2cube.scene import Scene
from stac2cube.source.asset import is_nodata


def save_per_geometry(
    source: Source,
    geometries: Any,
    folder: str | Path,
    bands: Sequence[str] | None = None,
    *,
    time: Any = None,
    mission: str | None = None,
    resolution: float | None = None,
    crs: str | None = None,
    resampling: str | Mapping[str, str] | None = None,
    max_cloud_cover: float | None = None,
) -> list[Path]:
    """Write the pixels of each geometry and scene as ``FOLDER/<feature>/<scene>.tif``.

    The files are cloud-optimised GeoTIFFs: a band per layer with name, scale, offset and unit, stored numbers, no data
    outside the geometry. A scene without any pixel with data over a geometry gives no file.

    Args:
        source: An index or a catalog by name, path or URL; or STAC items.
        geometries: Polygons: anything that can be an area of interest.
        folder: Where the files go.
        bands: Names or common names; the mission's default if None.
        time: Period; all times of an index or of given items if None.
        mission: Name of the mission; what the index or the items tell if None.
        resolution: Pixel edge in units of the CRS; the finest band's if None.
        crs: CRS of the pixels; that in which most of the area was delivered if None.
        resampling: As of :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent; scenes with more are left out.

    Returns:
        The files, in order of time.

    Raises:
        BadInputError: A word that is not understood, nothing found, bands that do not fit into one GeoTIFF.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    words = Words(bands, time, mission, resolution, crs, resampling, max_cloud_cover)
    return save_files(source, geometries, folder, words)


def save_files(
    source: Source, geometries: Any, folder: str | Path, words: Words, progress: Progress | None = None
) -> list[Path]:
    """See :func:`save_per_geometry`."""
    area, areas = features_of(geometries)
    selection = select(source, area, words)
    fills = {float(layer.fill) for layer in selection.layers}
    if len(fills) > 1:
        raise BadInputError(f"bands with different fill values {sorted(fills)} do not fit into one GeoTIFF")
    shapes = [selection.shape_in_grid(one.native, one.native_crs) for one in areas]
    windows = [window_over(selection.grid, shape) for shape in shapes]
    target, names = Path(folder), names_for(one.name for one in areas)
    for one in areas:
        path_below(target, names[one.name]).mkdir(parents=True, exist_ok=True)

    def write(scene: Scene, place: int, pixels: Pixels) -> Path | None:
        geobox = geobox_of(selection, windows[place])
        within = inside(geobox, shapes[place])
        whole = RasterWindow(0, 0, geobox.shape[1], geobox.shape[0])
        parts = [
            (layer.name, whole, np.where(within, pixels[layer.name], layer.fill_scalar)) for layer in selection.layers
        ]
        if all(is_nodata(part, layer.fill).all() for (_, _, part), layer in zip(parts, selection.layers, strict=True)):
            return None
        tags = {"scene": str(scene.key), "time": scene.time.isoformat(), "feature": areas[place].name}
        file = path_below(target, names[areas[place].name], f"{safe_name(str(scene.key))}.tif")
        _require_ours(file)
        return write_cog(file, selection.layers, geobox, parts, tags)

    return [file for file in read_windows(selection, windows, write, progress) if file is not None]


def _require_ours(file: Path) -> None:
    """See that a file that is there was written here before: it says its scene and feature.

    Raises:
        BadInputError: It was not.
    """
    require_own(file, "the pixels of a geometry")
    if not file.exists():
        return
    try:
        with rasterio.open(file, driver="GTiff") as there:
            tags = there.tags()
    except RasterioError:
        tags = {}
    if not {"scene", "feature"} <= tags.keys():
        raise BadInputError(f"{file} is there, and was not written by stac2cube: name another folder, or remove it")
