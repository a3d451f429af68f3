"""Selection of pixels to read without a cube: scenes, features, windows."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning
from shapely.geometry.base import BaseGeometry

from stac2cube.build.plan import BuildOptions
from stac2cube.build.scheduler import Scheduler
from stac2cube.errors import BadInputError, ItemError, ReadError
from stac2cube.executors.base import Threads, usable_cores
from stac2cube.model.catalog import index_path, is_index
from stac2cube.model.cube_spec import Layer
from stac2cube.model.geometry import Area, read_areas
from stac2cube.model.grid import Grid, GridOptions
from stac2cube.model.mission import find_mission, mission_names
from stac2cube.model.period import parse_period
from stac2cube.model.query import Query, names_of_bands
from stac2cube.model.scene import Scene
from stac2cube.progress import Progress
from stac2cube.search.choose_catalog import catalog_choices
from stac2cube.search.cubes import find_scenes, grid_for, spec_for
from stac2cube.search.index_commits import records_of, write_index_file
from stac2cube.search.index_files import read_index_manifest
from stac2cube.search.parsing import Notes, parse_item
from stac2cube.stages.layers import ReadScene, reader_of, touching_scenes

# Selections: scenes of a catalog, an index or given items, bands, and one lattice for all of them.

# When rasterising geometries, rasterio warns that an array is not georeferenced; the call passes the transform.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning, module="rasterio.features")

Source = str | Path | Iterable[Any]
"""An index or a catalog by name, path or URL; or STAC items, as mappings or as :class:`pystac.Item`."""


@dataclass(frozen=True)
class ReadSelection:
    """Pixels to read.

    Attributes:
        scenes: Scenes, in order of time.
        layers: Storage form of each band.
        grid: The lattice over all features.
        task: Reads a block of a scene.
    """

    scenes: tuple[Scene, ...]
    layers: tuple[Layer, ...]
    grid: Grid
    task: ReadScene

    def shape_in_grid(self, shape: BaseGeometry, crs: str) -> BaseGeometry:
        """Transform a geometry to the CRS of the grid; long edges are densified."""
        return self.grid.shape_of(shape, crs)

    def decode(self, layer: Layer, pixels: np.ndarray) -> np.ndarray:
        """Convert stored values to physical units: float32, NaN without data; classes and bits are unchanged."""
        if layer.flags or layer.bits:
            return pixels
        return layer.decoded(pixels)


def query_of_pixels(
    bands: Sequence[str] | None,
    time: Any,
    mission: str | None,
    resolution: float | None,
    crs: str | None,
    resampling: str | Mapping[str, str] | None,
    max_cloud_cover: float | None,
) -> tuple[Query, GridOptions]:
    """Convert the common arguments of this package to a query, without area and catalog, and options of the grid.

    Args:
        bands: Names or common names; the mission's default if None.
        time: Period; all times of an index or of given items if None.
        mission: Name of the mission; that of the index or the items if None.
        resolution: Pixel edge in units of the CRS; the finest band's if None.
        crs: CRS of the pixels; if None, that in which most of the area was delivered.
        resampling: As for :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent; scenes with more are left out.

    Raises:
        BadInputError: An invalid argument.
    """
    period = "" if time is None else parse_period(time).text
    names = names_of_bands(bands)
    query = Query(mission or "", None, period, names, max_cloud_cover=max_cloud_cover)
    return query, GridOptions(resolution, crs, None, resampling or "bilinear")


def features_of(geometries: Any, edge: float | None = None) -> tuple[Area, tuple[Area, ...]]:
    """The union of geometries, and the single geometries with their names.

    Args:
        geometries: Anything that :func:`stac2cube.model.geometry.read_areas` accepts, or a list of shapely geometries
            in WGS84.
        edge: Edge of the square around each point, metres.

    Raises:
        BadInputError: As :func:`stac2cube.model.geometry.read_areas`.
    """
    frame = as_frame(geometries)
    return read_areas(frame, edge=edge)[0], read_areas(frame, edge=edge, split=True)


def as_frame(geometries: Any) -> Any:
    """Convert a list of shapely geometries to a GeoSeries in WGS84; other values are returned unchanged."""
    if not (isinstance(geometries, Sequence) and geometries and all(isinstance(g, BaseGeometry) for g in geometries)):
        return geometries
    import geopandas

    return geopandas.GeoSeries(list(geometries), crs="EPSG:4326")


def select(source: Source, query: Query, options: GridOptions) -> ReadSelection:
    """Search the source, and define the lattice.

    Args:
        source: The source.
        query: The query; the source provides its catalog and, if not given, its mission and all its times.
        options: Options of the grid.

    Raises:
        BadInputError: A missing argument, or nothing was found.
        CatalogError: The source cannot be read.
        ReadError: An item found is inconsistent.
    """
    with tempfile.TemporaryDirectory(prefix="stac2cube-") as folder:
        catalog, mission, always = _understood(source, query.mission, Path(folder))
        query = replace(query, mission=mission, catalog=catalog)
        if not (query.time or always or query.page.static):
            raise BadInputError("say time= too: only an index, or given items, bring their own")
        choices = catalog_choices(query)
        scenes = sorted(find_scenes(query, choices).scenes, key=lambda scene: (scene.time, str(scene.key)))
        spec = spec_for(query, grid_for(query, options, scenes), options.resampling)
        return ReadSelection(tuple(scenes), spec.layers, spec.grid, reader_of(query, spec, choices))


def _understood(source: Source, mission: str, folder: Path) -> tuple[str, str, bool]:
    """The source as a catalog, the mission, and whether the default is all times."""
    if isinstance(source, str | Path):
        path = index_path(source)
        if not is_index(path):
            if not mission:
                raise BadInputError("say mission= too: only an index, or given items, tell it by themselves")
            return str(source), mission, False
        told = read_index_manifest(path).request.get("mission")
        if not mission and not told:
            raise BadInputError(f"say mission= too: the index {path} does not tell it")
        return str(path), mission or str(told), True
    items, notes = [], Notes()
    for given in source:
        value = _mapping(given)
        try:
            items.append(parse_item(value))
        except ItemError as error:
            notes.leave_out(value, error)
    notes.say("the items given")
    if not items:
        raise BadInputError("; ".join(["no items were given", *notes.left_out.values()]))
    file = folder / "items.parquet"
    write_index_file(file, records_of(items))
    return str(file), mission or _mission_of(items), True


def _mapping(item: Any) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    made: Mapping[str, Any] = item.to_dict(include_self_link=False)
    return made


def _mission_of(items: Sequence[Mapping[str, Any]]) -> str:
    """The only mission with the collections of these items.

    Raises:
        BadInputError: No mission or several have them.
    """
    collections = {str(item.get("collection")) for item in items}
    pages = {name: {page.collection for page in find_mission(name).pages} for name in mission_names()}
    fitting = [name for name, known in pages.items() if collections <= known]
    if len(fitting) != 1:
        may_be = " or ".join(fitting) or "no mission that is known"
        raise BadInputError(f"say mission= too: items of {', '.join(sorted(collections))} may be of {may_be}")
    return fitting[0]


def window_over(grid: Grid, shape: BaseGeometry) -> tuple[slice, slice]:
    """Rows and columns of the grid that a geometry in its CRS covers, at least one of each."""
    west, south, east, north = shape.bounds
    (first_column, first_row), (last_column, last_row) = (
        (~grid.geobox.transform) * corner for corner in ((west, north), (east, south))
    )
    edges = []
    for first, last, length in ((first_row, last_row, grid.shape[0]), (first_column, last_column, grid.shape[1])):
        # Tolerance of a millionth of a pixel for rounding errors at pixel edges.
        begin = min(max(int(np.floor(first + 1e-6)), 0), length - 1)
        edges.append(slice(begin, min(max(int(np.ceil(last - 1e-6)), begin + 1), length)))
    return edges[0], edges[1]


def inside(geobox: GeoBox, shape: BaseGeometry) -> np.ndarray:
    """True where the centre of a pixel is within a geometry in the CRS of the pixels; ``(rows, columns)``."""
    from rasterio.features import geometry_mask

    transform: Affine = geobox.transform
    within: np.ndarray = geometry_mask([shape], geobox.shape, transform, invert=True)
    return within


# Many small windows of many scenes: nearby windows are read together, once per scene, several in parallel.

Window = tuple[slice, slice]
"""Rows and columns of a grid."""

CELL = 512
"""Edge of a cell, pixels. Windows whose centres are in the same cell are read together: images have tiles of about this
size, and reading a part of a tile costs as much as the whole."""

LARGEST = 4096
"""Edge in pixels above which a window is read alone."""

T = TypeVar("T")


def group_windows(windows: Sequence[Window]) -> list[tuple[Window, list[int]]]:
    """Group nearby windows: the window that covers each group, and the indices of its members."""
    cells: dict[tuple[int, ...], list[int]] = {}
    for place, window in enumerate(windows):
        middle = tuple((part.start + part.stop) // 2 // CELL for part in window)
        alone = max(part.stop - part.start for part in window) > LARGEST
        cells.setdefault((*middle, place) if alone else middle, []).append(place)
    return [(_around([windows[place] for place in members]), members) for _, members in sorted(cells.items())]


def _around(windows: Sequence[Window]) -> Window:
    rows, columns = zip(*windows, strict=True)
    return tuple(slice(min(p.start for p in parts), max(p.stop for p in parts)) for parts in (rows, columns))  # type: ignore[return-value]


Pixels = dict[str, np.ndarray]
"""Stored values per layer, ``(rows, columns)``."""


def read_windows(
    selection: ReadSelection,
    windows: Sequence[Window],
    make: Callable[[Scene, int, Pixels], T],
    progress: Progress | None = None,
) -> list[T]:
    """Apply a function to every window of every scene that may cover it; results in order of time, then of windows.

    Args:
        selection: The selection.
        windows: Windows of its grid.
        make: Function of the scene, the index of the window, and its pixels.
        progress: Called for every block.

    Raises:
        ReadError: A scene has a problem, or an asset is missing or cannot be read.
    """
    for scene in selection.scenes:
        if scene.problem:
            raise ReadError(scene.problem)
    groups = group_windows(windows)
    geoboxes = [selection.grid.geobox[window] for window, _ in groups]
    owners, near = touching_scenes(selection.scenes, geoboxes)
    jobs = list(zip(owners.tolist(), near.tolist(), strict=True))

    def work(job: tuple[int, int]) -> list[tuple[int, int, T]]:
        scene, (around, members) = selection.scenes[job[0]], groups[job[1]]
        pixels = selection.task(scene, geoboxes[job[1]])
        return [(job[0], place, make(scene, place, _cut(pixels, around, windows[place]))) for place in members]

    scheduler = Scheduler(
        Threads(2 * usable_cores()), BuildOptions(), progress or Progress()
    )  # threads mostly wait for the network
    made: list[tuple[int, int, T]] = []
    with (
        scheduler.progress.over(len(jobs)),
        scheduler.place.open() as pool,
        closing(scheduler.handed_out(iter(jobs), lambda job: pool.submit(work, job))) as coming,
    ):
        for _, future in coming:
            made += future.result()
            scheduler.progress.advance()
    return [value for _, _, value in sorted(made, key=lambda entry: entry[:2])]


def _cut(pixels: Pixels, around: Window, window: Window) -> Pixels:
    part = tuple(
        slice(wanted.start - whole.start, wanted.stop - whole.start)
        for wanted, whole in zip(window, around, strict=True)
    )
    return {name: layer[part] for name, layer in pixels.items()}


def window_geobox(selection: ReadSelection, window: Window) -> GeoBox:
    """The lattice of a window."""
    return selection.grid.geobox[window]
