"""Time series of points and polygons: a table with a row per location and step, as CSV or Parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.model.geometry import read_features
from stac2cube.model.geoparquet import frame_to_bytes
from stac2cube.model.grid import Grid
from stac2cube.progress import Progress
from stac2cube.store.files import write_whole
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import open_cube
from stac2cube.trust.text import as_cells
from stac2cube.views.indices import formula_for, indices
from stac2cube.views.options import STATISTICS, Columns, Hiding, TimeSelection
from stac2cube.views.units import DAYS, is_class, names_text, physical

if TYPE_CHECKING:
    import pandas as pd
    from shapely.geometry.base import BaseGeometry


MOST = 2048 * 2048
"""Largest number of pixels read at once; a polygon that covers more is refused."""


@dataclass(frozen=True)
class Location:
    """A point or polygon on the grid.

    Attributes:
        name: Name of the location.
        rows: Rows of the grid that it covers; empty if it is outside.
        columns: Columns of the grid, likewise.
        shape: The point or polygon, in the CRS of the grid.
        inside: ``(rows, columns)`` bool, pixels whose centre is within; None for a point.
    """

    name: str
    rows: slice
    columns: slice
    shape: BaseGeometry
    inside: np.ndarray | None = None

    @property
    def outside(self) -> bool:
        """Whether it covers no pixel of the grid."""
        return bool(self.rows.stop <= self.rows.start or self.columns.stop <= self.columns.start)


def write_series(
    cube: str | Path,
    places: object,
    out: str | Path,
    *,
    columns: Columns | None = None,
    hiding: Hiding | None = None,
    choice: TimeSelection | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the time series of a cube at points or polygons.

    Args:
        cube: The cube.
        places: Features in any form that :func:`stac2cube.model.geometry.read_areas` accepts, also points.
        out: ``.csv`` or ``.parquet``; replaced atomically.
        columns: Columns of the table; all layers if None.
        hiding: Masks that are applied first.
        choice: Steps of the series.
        progress: Called for every location.

    Returns:
        The file. A row per location and step: ``name``, ``time``, ``scene``; for points a column per layer, the value
        of their pixel; for polygons ``B04_mean`` and so on, ``pixels`` (number of pixels within) and ``valid`` (number
        of these with data in all continuous layers). A layer of classes has one column, for polygons the most frequent
        class of the pixels with data. Times are marked as UTC. A ``.parquet`` is GeoParquet: it also has ``geometry``
        in the CRS of the cube, and ``units`` in the metadata of its columns.

    Raises:
        BadInputError: Another kind of file, lines, a location without pixels of the cube, no such layer.
        CubeError: Not a cube.
    """
    target = Path(out)
    if target.suffix not in (".csv", ".parquet"):
        raise BadInputError(f"{target}: a series is a .csv or a .parquet")
    columns = columns or Columns()
    told = _told(Path(cube), places, columns, hiding or Hiding(), choice or TimeSelection(), progress or Progress())
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".csv":
        file = io.BytesIO()
        as_cells(told.table).to_csv(file, index=False, date_format="%Y-%m-%dT%H:%M:%S.%fZ")
        write_whole(target, file.getvalue())
    else:
        write_whole(target, frame_to_bytes(told.table, told.shapes, told.crs, told.units))
    return target


class _Told(NamedTuple):
    """A table; the shapes of its rows, and their CRS; units of columns."""

    table: pd.DataFrame
    shapes: list[BaseGeometry]
    crs: str
    units: dict[str, str]


def series(
    cube: str | Path,
    places: object,
    *,
    columns: Columns | None = None,
    hiding: Hiding | None = None,
    choice: TimeSelection | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return the table that :func:`write_series` writes as CSV, times in UTC; arguments and errors as there."""
    how = columns or Columns(), hiding or Hiding(), choice or TimeSelection(), progress or Progress()
    return _told(Path(cube), places, *how).table


def series_of(dataset: xr.Dataset, grid: Grid, places: object, columns: Columns) -> pd.DataFrame:
    """The table of :func:`series` for a Dataset, which may combine several cubes; no masks are applied.

    Args:
        dataset: Layers ``(time, y, x)`` with ``time`` and ``scene``, physical values.
        grid: Its lattice.
        places: As for :func:`write_series`.
        columns: Columns of the table.

    Raises:
        BadInputError: A location is outside, no such layer, or no such statistic.
    """
    return _table(dataset, grid, places, columns, Hiding(), Progress())[0]


def _told(
    cube: Path, places: object, columns: Columns, hiding: Hiding, choice: TimeSelection, progress: Progress
) -> _Told:
    """The time series of a cube, see :func:`write_series`."""
    dataset, grid = choice.of(_opened(cube)), read_root(cube).spec.grid
    table, shapes = _table(dataset, grid, places, columns, hiding, progress)
    return _Told(table, shapes, grid.crs, _units(dataset, columns, table))


def _table(
    dataset: xr.Dataset, grid: Grid, places: object, columns: Columns, hiding: Hiding, progress: Progress
) -> tuple[pd.DataFrame, list[BaseGeometry]]:
    """The table, and the shapes of its rows."""
    import pandas as pd

    found = locations_on(grid, places)
    beside = [place.name for place in found if place.outside]
    if beside:
        raise BadInputError(f"these lie outside the cube: {', '.join(beside[:5])}{' ...' if len(beside) > 5 else ''}")
    _check(dataset, columns)
    tables: list[pd.DataFrame] = [pd.DataFrame()] * len(found)
    with progress.over(len(found)):
        for group in _groups(found, grid.chunk):
            here = [found[number] for number in group]
            for number, rows in zip(group, _rows(dataset, here, columns, hiding), strict=True):
                tables[number] = pd.DataFrame(rows)
                progress.advance()
    table = pd.concat(tables, ignore_index=True)
    return table, [place.shape for place, rows in zip(found, tables, strict=True) for _ in range(len(rows))]


def _units(dataset: xr.Dataset, columns: Columns, table: pd.DataFrame) -> dict[str, str]:
    """CF units of the columns that are layers, indices or statistics of these."""
    known = {
        str(name): str(layer.attrs["units"]) for name, layer in dataset.data_vars.items() if "units" in layer.attrs
    }
    known |= {str(name): DAYS for name, layer in dataset.data_vars.items() if layer.dtype.kind == "M"}
    known |= {str(name): "1" for name in table if str(name).lower() in {index.lower() for index in columns.indices}}
    statistics = {f"{name}_{what}": unit for name, unit in known.items() for what in STATISTICS}
    return {name: unit for name, unit in (known | statistics).items() if name in table}


def locations_on(grid: Grid, places: object) -> list[Location]:
    """Points and polygons on a grid, in the order given.

    Raises:
        BadInputError: No feature, a line, points together with polygons, or a polygon of more than :data:`MOST` pixels.
    """
    stem, features = read_features(places, None)
    if not features:
        raise BadInputError(f"{stem!r} has no feature with a geometry")
    found = []
    for number, feature in enumerate(features, start=1):
        name = next((name for name in feature.names if name), f"{stem}-{number}" if len(features) > 1 else stem)
        shape = grid.shape_of(feature.shape, feature.crs)
        if shape.geom_type == "Point":
            found.append(_point(grid, name, shape))
        elif shape.geom_type in ("Polygon", "MultiPolygon"):
            found.append(_polygon(grid, name, shape))
        else:
            raise BadInputError(f"{name} is a {shape.geom_type}: a series is of points or polygons")
    if len({place.inside is None for place in found if not place.outside}) > 1:
        raise BadInputError("these are points and polygons, which give different columns: pass them separately")
    return found


def _opened(cube: Path) -> xr.Dataset:
    dataset = open_cube(cube, chunks=None)
    if dataset.sizes["time"] == 0:
        raise BadInputError(f"{cube} has no step yet")
    return dataset


def _check(dataset: xr.Dataset, columns: Columns) -> None:
    lacking = [name for name in columns.layers or () if name not in dataset.data_vars]
    if lacking:
        raise BadInputError(f"there is no layer {', '.join(lacking)}: there are {names_text(dataset.data_vars)}")
    for name in columns.indices:
        formula_for(dataset, name)


def _pixel(grid: Grid, x: float, y: float) -> tuple[float, float]:
    return (grid.origin[1] - y) / grid.resolution, (x - grid.origin[0]) / grid.resolution


def _point(grid: Grid, name: str, shape: BaseGeometry) -> Location:
    row, column = (int(np.floor(part)) for part in _pixel(grid, shape.x, shape.y))
    within = 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]
    return Location(name, slice(row, row + within), slice(column, column + within), shape)


def _polygon(grid: Grid, name: str, shape: BaseGeometry) -> Location:
    from rasterio.features import geometry_mask

    west, south, east, north = shape.bounds
    top, left = _pixel(grid, west, north)
    bottom, right = _pixel(grid, east, south)
    rows, columns = (
        slice(max(int(np.floor(first)), 0), min(int(np.ceil(last)), size))
        for first, last, size in ((top, bottom, grid.shape[0]), (left, right, grid.shape[1]))
    )
    place = Location(name, rows, columns, shape)
    if place.outside:
        return place
    if (rows.stop - rows.start) * (columns.stop - columns.start) > MOST:
        raise BadInputError(f"{name} covers too many pixels for a series: cut it into parts")
    geobox = grid.geobox[rows, columns]
    inside = geometry_mask([shape], geobox.shape, geobox.transform, invert=True)
    return Location(name, rows, columns, shape, inside)


def _groups(places: list[Location], chunk: tuple[int, int]) -> list[list[int]]:
    """Indices of locations that are read together: points of one chunk, and each polygon separately."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, place in enumerate(places):
        chunk_of = (place.rows.start // chunk[0], place.columns.start // chunk[1])
        groups.setdefault((number,) if place.inside is not None else chunk_of, []).append(number)
    return list(groups.values())


def _rows(dataset: xr.Dataset, places: list[Location], columns: Columns, hiding: Hiding) -> list[dict[str, list[Any]]]:
    """The columns of nearby locations, each with a value per step.

    Steps are read one after another, so that memory does not grow with the number of steps.
    """
    top, left = (min(getattr(place, axis).start for place in places) for axis in ("rows", "columns"))
    bottom, right = (max(getattr(place, axis).stop for place in places) for axis in ("rows", "columns"))
    window = dataset.isel(y=slice(top, bottom), x=slice(left, right))
    times = window["time"].values.astype("datetime64[us]")
    scenes = [str(key) for key in window["scene"].values]
    tables: list[dict[str, list[Any]]] = [
        {"name": [place.name] * len(times), "time": list(times), "scene": scenes} for place in places
    ]
    for number in range(len(times)):
        layers, classes = _layers(window.isel(time=[number]), columns, hiding)
        for place, table in zip(places, tables, strict=True):
            rows, columns_of = (
                slice(part.start - first, part.stop - first)
                for part, first in ((place.rows, top), (place.columns, left))
            )
            here = {name: values[rows, columns_of] for name, values in layers.items()}
            told = {name: values[0, 0] for name, values in here.items()}
            if place.inside is not None:
                told = _over(here, classes, place.inside, columns.statistics)
            for column, value in told.items():
                table.setdefault(column, []).append(value)
    return tables


def _layers(step: xr.Dataset, columns: Columns, hiding: Hiding) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Layers and indices of one step, ``(rows, columns)`` each; and of those that are classes the class of no data."""
    seen = hiding.apply(step) if hiding else step
    if seen.sizes["time"] == 0:
        seen = step.where(False)  # the clouds cube does not have the step: hide all pixels
    names = [str(name) for name in (columns.layers or step.data_vars)]
    classes = {name: step[name].attrs.get("nodata") for name in names if is_class(step[name])}
    layers = {name: (seen[name] if name in classes else physical(seen[name])).values[0] for name in names}
    if columns.indices:
        made = indices(seen, columns.indices)
        layers |= {str(name): layer.values[0] for name, layer in made.data_vars.items()}
    return layers, classes


def _over(
    layers: dict[str, np.ndarray], classes: Mapping[str, Any], inside: np.ndarray, statistics: tuple[str, ...]
) -> dict[str, Any]:
    """The row of a polygon at one step."""
    told: dict[str, Any] = {"pixels": int(inside.sum())}
    whole = [np.isfinite(values[inside]) for name, values in layers.items() if name not in classes]
    told["valid"] = int(np.logical_and.reduce(whole).sum()) if whole else told["pixels"]
    for name, values in layers.items():
        within = values[inside]
        if name in classes:
            told[name] = _most(within, classes[name])
        else:
            valid = within[np.isfinite(within)].astype("float64")
            told |= {f"{name}_{what}": _statistic(what, valid) for what in statistics}
    return told


def _statistic(what: str, values: np.ndarray) -> float:
    return float(getattr(np, what)(values)) if values.size else float("nan")


def _most(values: np.ndarray, nodata: Any) -> float:
    """The most frequent class of the pixels with data, the lowest among equals; NaN where no pixel has data."""
    known = np.isfinite(values) if nodata is None else np.isfinite(values) & (values != nodata)
    found, counts = np.unique(values[known], return_counts=True)
    return float(found[counts.argmax()]) if found.size else float("nan")
