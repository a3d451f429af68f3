"""Read pixels without a cube: arrays, samples, zonal statistics, a file per geometry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError
from stac2cube.export.export import write_cog
from stac2cube.model.classes import is_nodata
from stac2cube.model.cube_spec import Layer, prepare_for_writing
from stac2cube.model.geometry import Area, read_features
from stac2cube.model.grid import GridOptions
from stac2cube.model.query import Query
from stac2cube.model.scene import Scene
from stac2cube.progress import Progress
from stac2cube.reading.selection import (
    Pixels,
    ReadSelection,
    Source,
    Window,
    as_frame,
    features_of,
    inside,
    query_of_pixels,
    read_windows,
    select,
    window_geobox,
    window_over,
)
from stac2cube.trust.names import names_for, path_below, require_own, safe_name

if TYPE_CHECKING:
    import xarray as xr
    from geopandas import GeoDataFrame


# Rows per geometry and scene: arrays, zonal statistics, values at points.

STATISTICS: Mapping[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "std": np.std,
    "min": np.min,
    "max": np.max,
    "median": np.median,
    "sum": np.sum,
}
"""Statistics of a zone's pixels. There are also percentiles as ``p10``, ``count``, the number of pixels with data, and
``mode``, the most frequent value (the smallest among equals)."""

FOR_CLASSES = ("count", "mode")
"""Statistics that are valid for classes."""


def read_arrays(
    source: Source,
    geometries: Any,
    bands: Sequence[str] | None = None,
    *,
    time: Any = None,
    mission: str | None = None,
    resolution: float | None = None,
    crs: str | None = None,
    resampling: str | Mapping[str, str] | None = None,
    max_cloud_cover: float | None = None,
) -> GeoDataFrame:
    """Read the pixels of geometries, a row for each geometry and scene.

    Args:
        source: An index or a catalog by name, path or URL; or STAC items.
        geometries: Polygons: anything that can be an area of interest, a GeoDataFrame for example.
        bands: Names or common names; the mission's default if None.
        time: Period; all times of an index or of given items if None.
        mission: Name of the mission; that of the index or the items if None.
        resolution: Pixel edge in units of the CRS; the finest band's if None.
        crs: CRS of the pixels; if None, that in which most of the area was delivered.
        resampling: As for :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent; scenes with more are left out.

    Returns:
        Columns ``feature``, ``scene``, ``time``; per band an array ``(rows, columns)``, physical units in float32 with
        NaN without data and outside the geometry (classes: stored values, the fill value outside); ``transform``, six
        coefficients from pixels to ``crs``; and ``geometry`` in WGS84.

    Raises:
        BadInputError: An argument is invalid, or nothing was found.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    query, options = query_of_pixels(bands, time, mission, resolution, crs, resampling, max_cloud_cover)
    selection, areas = _selected(source, geometries, query, options)
    shapes = [selection.shape_in_grid(area.native, area.native_crs) for area in areas]

    def make(place: int, pixels: Pixels, window: Window) -> dict[str, Any]:
        geobox = window_geobox(selection, window)
        within = inside(geobox, shapes[place])
        values = {layer.name: _masked(selection, layer, pixels[layer.name], within) for layer in selection.layers}
        return {**values, "transform": tuple(geobox.transform)[:6], "crs": selection.grid.crs}

    return _table(selection, areas, shapes, make, None)


def zonal_statistics(
    source: Source,
    geometries: Any,
    bands: Sequence[str] | None = None,
    *,
    statistics: Sequence[str] = ("count", "mean", "std", "min", "max"),
    time: Any = None,
    mission: str | None = None,
    resolution: float | None = None,
    crs: str | None = None,
    resampling: str | Mapping[str, str] | None = None,
    max_cloud_cover: float | None = None,
) -> GeoDataFrame:
    """Statistics of the pixels whose centres are within geometries, a row for each geometry and scene.

    Args:
        source: An index or a catalog by name, path or URL; or STAC items.
        geometries: Polygons: anything that can be an area of interest, a GeoDataFrame for example.
        bands: Names or common names.
        statistics: ``count`` of pixels with data, ``mean``, ``std``, ``min``, ``max``, ``median``, ``sum``, ``mode``,
            percentiles as ``p10``. Classes only get ``count`` and ``mode``.
        time: Period.
        mission: Name of the mission.
        resolution: Pixel edge in units of the CRS.
        crs: CRS of the pixels.
        resampling: As for :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent.

    Returns:
        Columns ``feature``, ``scene``, ``time``, a column ``B04_mean`` for each band and statistic, and ``geometry`` in
        WGS84. Without any pixel with data, all statistics except the count are NaN.

    Raises:
        BadInputError: An argument is invalid, or nothing was found.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    return statistics_table(
        source,
        geometries,
        *query_of_pixels(bands, time, mission, resolution, crs, resampling, max_cloud_cover),
        statistics,
    )


def statistics_table(
    source: Source,
    geometries: Any,
    query: Query,
    options: GridOptions,
    statistics: Sequence[str],
    progress: Progress | None = None,
) -> GeoDataFrame:
    """See :func:`zonal_statistics`."""
    reducers = {name: _reducer(name) for name in statistics}
    selection, areas = _selected(source, geometries, query, options)
    shapes = [selection.shape_in_grid(area.native, area.native_crs) for area in areas]

    def make(place: int, pixels: Pixels, window: Window) -> dict[str, Any]:
        within = inside(window_geobox(selection, window), shapes[place])
        row: dict[str, Any] = {}
        for layer in selection.layers:
            values = _values(selection, layer, pixels[layer.name][within])
            for name, reduce in reducers.items():
                if name in FOR_CLASSES or not (layer.flags or layer.bits):
                    row[f"{layer.name}_{name}"] = reduce(values)
        return row

    return _table(selection, areas, shapes, make, progress)


def sample(
    source: Source,
    points: Any,
    bands: Sequence[str] | None = None,
    *,
    time: Any = None,
    mission: str | None = None,
    resolution: float | None = None,
    crs: str | None = None,
    resampling: str | Mapping[str, str] | None = None,
    max_cloud_cover: float | None = None,
) -> GeoDataFrame:
    """Read the pixel values at points, a row for each point and scene.

    Args:
        source: An index or a catalog by name, path or URL; or STAC items.
        points: A GeoDataFrame, a file or GeoJSON of points, a list of shapely points in WGS84, or ``"lat,lon"``.
        bands: Names or common names.
        time: Period.
        mission: Name of the mission.
        resolution: Pixel edge in units of the CRS.
        crs: CRS of the pixels.
        resampling: As for :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent.

    Returns:
        Columns ``feature``, ``scene``, ``time``, one per band in physical units (NaN without data; for classes the
        stored value), and ``geometry`` in WGS84.

    Raises:
        BadInputError: Geometries other than points, an invalid argument, or nothing was found.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    return sample_table(
        source, points, *query_of_pixels(bands, time, mission, resolution, crs, resampling, max_cloud_cover)
    )


def sample_table(
    source: Source, points: Any, query: Query, options: GridOptions, progress: Progress | None = None
) -> GeoDataFrame:
    """See :func:`sample`."""
    from geopandas import GeoSeries

    selection, areas = _selected(source, points, query, options, edge=_AROUND)
    _, features = read_features(as_frame(points), None)
    for feature in features:
        if feature.shape.geom_type != "Point":
            raise BadInputError(f"only points can be sampled, not a {feature.shape.geom_type}: see zonal_statistics")
    places = [selection.shape_in_grid(feature.shape, feature.crs.to_wkt()) for feature in features]

    def make(_place: int, pixels: Pixels, _window: Window) -> dict[str, Any]:
        return {layer.name: selection.decode(layer, pixels[layer.name])[0, 0].item() for layer in selection.layers}

    table = _table(selection, areas, places, make, progress)
    lonlat = [GeoSeries([feature.shape], crs=feature.crs).to_crs("EPSG:4326").iloc[0] for feature in features]
    by_name = {area.name: point for area, point in zip(areas, lonlat, strict=True)}
    return table.set_geometry([by_name[name] for name in table["feature"]], crs="EPSG:4326")


_AROUND = 1.0
"""Edge of the search area around a point, metres."""


def _selected(
    source: Source, geometries: Any, query: Query, options: GridOptions, edge: float | None = None
) -> tuple[ReadSelection, tuple[Area, ...]]:
    area, areas = features_of(geometries, edge)
    return select(source, replace(query, area=area), options), areas


def _table(
    selection: ReadSelection,
    areas: Sequence[Area],
    shapes: Sequence[BaseGeometry],
    make: Callable[[int, Pixels, Window], dict[str, Any]],
    progress: Progress | None,
) -> GeoDataFrame:
    """Make a row per window and scene."""
    import pandas as pd
    from geopandas import GeoDataFrame

    windows = [window_over(selection.grid, shape) for shape in shapes]

    def row(scene: Scene, place: int, pixels: Pixels) -> dict[str, Any]:
        made = make(place, pixels, windows[place])
        return {"feature": areas[place].name, "scene": str(scene.key), "time": scene.time, **made, "at": place}

    frame = pd.DataFrame(read_windows(selection, windows, row, progress))
    if frame.empty:
        frame = pd.DataFrame({"feature": [], "scene": [], "time": [], "at": []})
    geometry = [areas[int(place)].geometry for place in frame.pop("at")]
    return GeoDataFrame(frame, geometry=geometry, crs="EPSG:4326")


def _masked(selection: ReadSelection, layer: Layer, pixels: np.ndarray, within: np.ndarray) -> np.ndarray:
    return selection.decode(layer, np.where(within, pixels, layer.fill_scalar))


def _values(selection: ReadSelection, layer: Layer, pixels: np.ndarray) -> np.ndarray:
    """Valid values of a zone, ``(n,)``; classes as stored values."""
    if layer.flags or layer.bits:
        known: np.ndarray = pixels[pixels != layer.fill_scalar]
        return known
    values = selection.decode(layer, pixels).astype("float64")
    finite: np.ndarray = values[np.isfinite(values)]
    return finite


def _reducer(name: str) -> Callable[[np.ndarray], float]:
    if name == "count":
        return len
    if name == "mode":
        return lambda values: float(_mode(values)) if values.size else np.nan
    if name in STATISTICS:
        return lambda values: float(STATISTICS[name](values)) if values.size else np.nan
    if name[:1] == "p" and name[1:].isdigit() and int(name[1:]) <= 100:
        return lambda values: float(np.percentile(values, int(name[1:]))) if values.size else np.nan
    raise BadInputError(f"unknown statistic {name!r}: known are count, mode, {', '.join(STATISTICS)}, and p0 to p100")


def _mode(values: np.ndarray) -> float:
    numbers, counts = np.unique(values, return_counts=True)
    return float(numbers[counts.argmax()])


# A GeoTIFF for each geometry and scene.


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

    The files are cloud-optimised GeoTIFFs of stored values: a band per layer with name, scale, offset and unit, no data
    outside the geometry. A scene without data over a geometry gives no file.

    Args:
        source: An index or a catalog by name, path or URL; or STAC items.
        geometries: Polygons: anything that can be an area of interest.
        folder: Target folder.
        bands: Names or common names; the mission's default if None.
        time: Period; all times of an index or of given items if None.
        mission: Name of the mission; that of the index or the items if None.
        resolution: Pixel edge in units of the CRS; the finest band's if None.
        crs: CRS of the pixels; if None, that in which most of the area was delivered.
        resampling: As for :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent; scenes with more are left out.

    Returns:
        The files, in order of time.

    Raises:
        BadInputError: An argument is invalid, nothing was found, bands that do not fit into one GeoTIFF.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    return save_files(
        source,
        geometries,
        folder,
        *query_of_pixels(bands, time, mission, resolution, crs, resampling, max_cloud_cover),
    )


def save_files(
    source: Source,
    geometries: Any,
    folder: str | Path,
    query: Query,
    options: GridOptions,
    progress: Progress | None = None,
) -> list[Path]:
    """See :func:`save_per_geometry`."""
    selection, areas = _selected(source, geometries, query, options)
    fills = {float(layer.fill) for layer in selection.layers}
    if len(fills) > 1:
        raise BadInputError(f"bands with different fill values {sorted(fills)} do not fit into one GeoTIFF")
    shapes = [selection.shape_in_grid(one.native, one.native_crs) for one in areas]
    windows = [window_over(selection.grid, shape) for shape in shapes]
    target, names = Path(folder), names_for(one.name for one in areas)
    for one in areas:
        path_below(target, names[one.name]).mkdir(parents=True, exist_ok=True)

    def write(scene: Scene, place: int, pixels: Pixels) -> Path | None:
        geobox = window_geobox(selection, windows[place])
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
    """Check by its tags that an existing file was written by stac2cube, so that it may be replaced.

    Raises:
        BadInputError: The file has no tags of scene and feature.
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


# Geometries as one Dataset: all scenes and bands on one lattice, no data outside the geometries.

MOST_BYTES = 8 << 30
"""Largest Dataset that is read into memory, bytes; build a cube for larger ones."""


def read(
    source: Source,
    geometries: Any,
    bands: Sequence[str] | None = None,
    *,
    time: Any = None,
    mission: str | None = None,
    resolution: float | None = None,
    crs: str | None = None,
    resampling: str | Mapping[str, str] | None = None,
    max_cloud_cover: float | None = None,
) -> xr.Dataset:
    """Read the pixels of geometries into memory, without building a cube.

    Bands of all pixel sizes and scenes of all UTM zones are resampled to one lattice, that of a cube over the same
    area; nodata and offset are handled as in a cube. Only the windows around the geometries are read.

    Args:
        source: An index or a catalog by name, path or URL; or STAC items.
        geometries: Anything that can be an area of interest, for example a GeoDataFrame of many geometries.
        bands: Names or common names; the mission's default if None.
        time: Period; all times of an index or of given items if None.
        mission: Name of the mission; that of the index or the items if None.
        resolution: Pixel edge in units of the CRS; the finest band's if None.
        crs: CRS of the pixels; if None, that in which most of the area was delivered.
        resampling: As for :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent; scenes with more are left out.

    Returns:
        Layers ``(time, y, x)`` in physical units (float64, NaN without data and where the centre of a pixel is in no
        geometry; classes stay integers).

    Raises:
        BadInputError: An argument is invalid, nothing was found, or the Dataset is too large for memory.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    import odc.geo.xr  # noqa: F401 - gives Datasets the accessor that writes a CRS
    import xarray as xr

    query, options = query_of_pixels(bands, time, mission, resolution, crs, resampling, max_cloud_cover)
    selection, areas = _selected(source, geometries, query, options)
    stored = _stored(selection, [selection.shape_in_grid(a.native, a.native_crs) for a in areas])
    rows, columns = selection.grid.geobox.dimensions
    coordinates = {
        "time": np.array([scene.time.replace(tzinfo=None) for scene in selection.scenes], dtype="datetime64[us]"),
        "scene": ("time", np.array([str(scene.key) for scene in selection.scenes], dtype="U")),
        "y": selection.grid.geobox.coordinates[rows].values,
        "x": selection.grid.geobox.coordinates[columns].values,
    }
    data = {name: (("time", "y", "x"), pixels) for name, pixels in stored.items()}
    dataset = xr.Dataset(data, coordinates).odc.assign_crs(selection.grid.crs)
    for layer in selection.layers:
        dataset[layer.name].attrs.update(layer.attributes())
    decoded: xr.Dataset = xr.decode_cf(dataset).load()
    prepare_for_writing(decoded)
    return decoded


def _stored(selection: ReadSelection, shapes: Sequence[Any]) -> dict[str, np.ndarray]:
    """Read stored values per layer, ``(time, y, x)``, with the fill value outside all geometries."""
    shape = (len(selection.scenes), *selection.grid.shape)
    needed = sum(int(np.prod(shape)) * max(np.dtype(layer.dtype).itemsize, 8) for layer in selection.layers)
    if needed > MOST_BYTES:
        raise BadInputError(
            f"{shape[0]} scenes of {shape[1]} x {shape[2]} pixels would take {needed / 2**30:.0f} GiB: build a cube "
            "(get_stac_layers), or read geometry by geometry (read_arrays, zonal_statistics)"
        )
    out = {layer.name: np.full(shape, layer.fill_scalar, layer.dtype) for layer in selection.layers}
    windows = [window_over(selection.grid, geometry) for geometry in shapes]
    places = {scene.key: place for place, scene in enumerate(selection.scenes)}

    def put(scene: Scene, place: int, pixels: Pixels) -> None:
        within = inside(window_geobox(selection, windows[place]), shapes[place])
        for name, layer in pixels.items():
            # Where geometries overlap, threads may write a pixel twice, with the same value.
            np.copyto(out[name][places[scene.key]][windows[place]], layer, where=within)

    read_windows(selection, windows, put)
    return out
