"""Rows per geometry and scene: arrays, zonal statistics, values at points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from shapely.geometry.base import BaseGeometry

from stac2cube.area import Area
from stac2cube.cube.spec import Layer
from stac2cube.errors import BadInputError
from stac2cube.feature import read_features
from stac2cube.progress import Progress
from stac2cube.reads.selection import Selection, Source, Words, as_frame, features_of, inside, select, window_over
from stac2cube.reads.windows import Pixels, Window, geobox_of, read_windows
from stac2cube.scene import Scene

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

STATISTICS: Mapping[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "std": np.std,
    "min": np.min,
    "max": np.max,
    "median": np.median,
    "sum": np.sum,
}
"""What a zone's pixels may be reduced to; percentiles too, as ``p10``. ``count`` says how many hold data, ``mode`` the
most frequent number, the smallest of several."""

FOR_CLASSES = ("count", "mode")
"""What makes sense of classes."""


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
    """Pixels of geometries, a row for each geometry and scene.

    Args:
        source: An index or a catalog by name, path or URL; or STAC items.
        geometries: Polygons: anything that can be an area of interest, a GeoDataFrame for example.
        bands: Names or common names; the mission's default if None.
        time: Period; all times of an index or of given items if None.
        mission: Name of the mission; what the index or the items tell if None.
        resolution: Pixel edge in units of the CRS; the finest band's if None.
        crs: CRS of the pixels; that in which most of the area was delivered if None.
        resampling: As of :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent; scenes with more are left out.

    Returns:
        Columns ``feature``, ``scene``, ``time``; per band an array ``(rows, columns)``, physical units in float32 with
        NaN without data and outside the geometry (of classes: the stored numbers, the fill outside); ``transform``, six
        coefficients from pixels to ``crs``; and ``geometry`` in WGS84.

    Raises:
        BadInputError: A word that is not understood, nothing found.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    words = Words(bands, time, mission, resolution, crs, resampling, max_cloud_cover)
    selection, areas = _selected(source, geometries, words)
    shapes = [selection.shape_in_grid(area.native, area.native_crs) for area in areas]

    def make(place: int, pixels: Pixels, window: Window) -> dict[str, Any]:
        geobox = geobox_of(selection, window)
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
    """Statistics of the pixels whose centres lie within geometries, a row for each geometry and scene.

    Args:
        source: See :func:`read_arrays`, as for what follows.
        geometries: Polygons.
        bands: Names or common names.
        statistics: ``count`` of pixels with data, ``mean``, ``std``, ``min``, ``max``, ``median``, ``sum``, ``mode``,
            percentiles as ``p10``. Of classes only ``count`` and ``mode`` are made.
        time: Period.
        mission: Name of the mission.
        resolution: Pixel edge in units of the CRS.
        crs: CRS of the pixels.
        resampling: As of :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent.

    Returns:
        Columns ``feature``, ``scene``, ``time``, a column ``B04_mean`` for each band and statistic, and ``geometry`` in
        WGS84. Without any pixel with data all but the count is NaN.

    Raises:
        BadInputError: A word that is not understood, nothing found.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    words = Words(bands, time, mission, resolution, crs, resampling, max_cloud_cover)
    return statistics_table(source, geometries, words, statistics)


def statistics_table(
    source: Source, geometries: Any, words: Words, statistics: Sequence[str], progress: Progress | None = None
) -> GeoDataFrame:
    """See :func:`zonal_statistics`."""
    reducers = {name: _reducer(name) for name in statistics}
    selection, areas = _selected(source, geometries, words)
    shapes = [selection.shape_in_grid(area.native, area.native_crs) for area in areas]

    def make(place: int, pixels: Pixels, window: Window) -> dict[str, Any]:
        within = inside(geobox_of(selection, window), shapes[place])
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
    """Values of the pixels in which points lie, a row for each point and scene.

    Args:
        source: See :func:`read_arrays`, as for what follows.
        points: A GeoDataFrame, a file or GeoJSON of points, a list of shapely points in WGS84, or ``"lat,lon"``.
        bands: Names or common names.
        time: Period.
        mission: Name of the mission.
        resolution: Pixel edge in units of the CRS.
        crs: CRS of the pixels.
        resampling: As of :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent.

    Returns:
        Columns ``feature``, ``scene``, ``time``, one per band in physical units (NaN without data; of classes the
        number), and ``geometry`` in WGS84.

    Raises:
        BadInputError: Something else than points, a word that is not understood, nothing found.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    return sample_table(source, points, Words(bands, time, mission, resolution, crs, resampling, max_cloud_cover))


def sample_table(source: Source, points: Any, words: Words, progress: Progress | None = None) -> GeoDataFrame:
    """See :func:`sample`."""
    from geopandas import GeoSeries

    selection, areas = _selected(source, points, words, edge=_AROUND)
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
"""Edge of the square around a point that is searched for, metres."""


def _selected(
    source: Source, geometries: Any, words: Words, edge: float | None = None
) -> tuple[Selection, tuple[Area, ...]]:
    area, areas = features_of(geometries, edge)
    return select(source, area, words), areas


def _table(
    selection: Selection,
    areas: Sequence[Area],
    shapes: Sequence[BaseGeometry],
    make: Callable[[int, Pixels, Window], dict[str, Any]],
    progress: Progress | None,
) -> GeoDataFrame:
    """Rows of what is made of every window."""
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


def _masked(selection: Selection, layer: Layer, pixels: np.ndarray, within: np.ndarray) -> np.ndarray:
    return selection.decode(layer, np.where(within, pixels, layer.fill_scalar))


def _values(selection: Selection, layer: Layer, pixels: np.ndarray) -> np.ndarray:
    """Valid values of a zone, ``(n,)``; classes as stored numbers."""
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
