"""Shift a scene; its pixels are interpolated once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from stac2cube.build.derived import Parent, origin
from stac2cube.build.plan import Block
from stac2cube.errors import BadInputError, CubeError, ReadError
from stac2cube.model.catalog import find_catalog
from stac2cube.model.classes import is_nodata
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.image import BandRequest
from stac2cube.model.mission import find_mission
from stac2cube.model.query import Query
from stac2cube.model.scene import Scene
from stac2cube.pixels.open import local_bytes
from stac2cube.pixels.read import read_block
from stac2cube.pixels.warp import SourceWindow, warp
from stac2cube.search.cubes import query_of
from stac2cube.search.search import scenes_of
from stac2cube.store.ledger import Entry
from stac2cube.store.staging import StoredStep, widened_window

# Shifts that vary over a scene: fitting a smooth field to measured points, and moving pixels by it.

LEAST_POINTS = 30
"""Fewest points to which a field is fitted."""

BETTER = 0.8
"""Largest ratio of the residual of a field to that of a single shift, at held-out points."""

_PASSES = 10


@dataclass(frozen=True)
class Field:
    """Shifts as polynomials of degree 2 in the position within the grid, -1 to 1 from edge to edge.

    Attributes:
        right: Coefficients of 1, u, v, u^2, uv, v^2 of the shift to the right; u increases to the right, v down.
        down: Coefficients of the shift down.
    """

    right: tuple[float, ...]
    down: tuple[float, ...]

    def at(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shifts to the right and down, in the unit of the coefficients."""
        terms = _terms(u, v)
        return terms @ np.array(self.right), terms @ np.array(self.down)

    @property
    def largest(self) -> float:
        """Length of the largest shift in the grid."""
        u, v = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))
        return float(np.hypot(*self.at(u, v)).max())


def fit_field(points: np.ndarray, shifts: np.ndarray) -> tuple[Field, float, float] | None:
    """Fit a field to points, if it describes them clearly better than a single shift.

    Robust least squares (Huber's weights, as in :mod:`stac2cube.coregister.measure`); every third point is held out for
    validation.

    Args:
        points: ``(n, 2)`` positions u and v.
        shifts: ``(n, 2)`` to the right and down.

    Returns:
        The field, fitted to all points; the residuals of a single shift and of the field at the held-out points
        (medians of lengths). None if there are too few points or the field is not clearly better.
    """
    if len(points) < LEAST_POINTS:
        return None
    judges = np.arange(len(points)) % 3 == 2
    part = _fitted(points[~judges], shifts[~judges])
    one = np.median(shifts[~judges], axis=0)
    before = float(np.median(np.hypot(*(shifts[judges] - one).T)))
    after = float(np.median(np.hypot(*(shifts[judges] - np.stack(part.at(*points[judges].T), axis=1)).T)))
    if after > BETTER * before:
        return None
    return _fitted(points, shifts), before, after


def moved_by(pixels: np.ndarray, missing: np.ndarray, down: np.ndarray, right: np.ndarray, order: int) -> np.ndarray:
    """Move the pixels of a window by a field.

    Args:
        pixels: ``(rows, columns)`` of the window with a margin around.
        missing: Mask of the pixels without data.
        down: ``(rows, columns)`` of the window without margin: the row, within ``pixels``, from which each pixel takes
            its value.
        right: The column, likewise.
        order: Order of the spline; 0 takes the nearest pixel.

    Returns:
        float64, NaN where the source has no data.
        float64, NaN where what is taken has no data.
    """
    from scipy import ndimage

    places = np.stack([down, right])
    nearest = (
        ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True) if missing.any() else None
    )
    whole = pixels if nearest is None or missing.all() else pixels[tuple(nearest)]
    out = ndimage.map_coordinates(whole.astype("float64"), places, order=order, mode="nearest")
    gone = ndimage.map_coordinates(missing.astype("float64"), places, order=min(order, 1), mode="nearest") > 0
    return np.where(gone, np.nan, out)


def _terms(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def _fitted(points: np.ndarray, shifts: np.ndarray) -> Field:
    terms = _terms(*points.T)
    weight = np.ones(len(points))
    for _ in range(_PASSES):
        root = np.sqrt(weight)[:, None]
        found = np.linalg.lstsq(terms * root, shifts * root, rcond=None)[0]
        off = np.hypot(*(terms @ found - shifts).T)
        weight = np.minimum(1.0, 1.345 * (1.4826 * np.median(off) + 1e-9) / np.maximum(off, 1e-12))
    return Field(tuple(map(float, found[:, 0])), tuple(map(float, found[:, 1])))


def places_in(rows: slice, columns: slice, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions u and v of the pixels of a window of a grid: ``(rows, columns)`` each."""
    v = 2 * (np.arange(rows.start, rows.stop) + 0.5) / shape[0] - 1
    u = 2 * (np.arange(columns.start, columns.stop) + 0.5) / shape[1] - 1
    across, along = np.meshgrid(u, v)
    return across, along


def margin_for(field: Field, resolution: float) -> int:
    """Pixels around a window that moving it may read; in a cubic spline influence falls by a factor of four per pixel.

    Args:
        field: Field in metres.
        resolution: Pixel edge, metres.
    """
    return math.ceil(field.largest / resolution) + 20


# Application of a shift to a scene; its pixels are interpolated once.

REACH = 6
"""Pixels beyond a block that interpolation may read."""


@dataclass(frozen=True)
class Moved:
    """A scene to be moved.

    Attributes:
        step: Its pixels in the cube.
        shift: x and y in metres, added to the positions of its pixels.
        scene: The scene, to read its pixels again; None to use the cube's pixels.
        field: Shifts that vary over the scene, in metres to the right and down, used instead of ``shift``.
    """

    step: StoredStep
    shift: tuple[float, float] = (0.0, 0.0)
    scene: Scene | None = None
    field: Field | None = None


@dataclass(frozen=True)
class MoveScene:
    """The task that moves scenes.

    Attributes:
        layers: Layers of the cube.
        resampling: Method for continuous layers; classes and bits use nearest.
        seamless: See :func:`stac2cube.pixels.read.read_block`.
    """

    layers: tuple[Layer, ...]
    resampling: str
    seamless: bool = False

    def __call__(self, moved: Moved, block: Block) -> dict[str, np.ndarray]:
        """Layers of one block.

        Raises:
            ReadError: The cube or a scene cannot be read.
        """
        window = block.grid.window(block.tile)
        x, y = moved.shift
        right, down = x / block.grid.resolution, -y / block.grid.resolution
        if moved.field is not None:
            return self._by_field(moved.step, moved.field, block)
        if moved.shift == (0.0, 0.0):
            return moved.step.read(self.layers, window)
        bands = tuple(band_for(layer, self.resampling) for layer in self.layers)
        if moved.scene is not None:
            if moved.scene.problem:
                raise ReadError(moved.scene.problem)
            return read_block(moved.scene.granules, bands, _shifted(block.geobox, -x, -y), seamless=self.seamless)
        if _whole(right) and _whole(down):
            rows, columns = (
                slice(part.start - by, part.stop - by)
                for part, by in zip(window, (round(down), round(right)), strict=True)
            )
            return moved.step.read(self.layers, (rows, columns))
        reach = math.ceil(max(abs(right), abs(down))) + REACH
        wide = moved.step.read(self.layers, widened_window(window, reach))
        around = _shifted(block.geobox.pad(reach), x, y)
        made = {}
        for band in bands:
            made[band.name] = np.empty(block.geobox.shape, band.dtype)
            warp(SourceWindow(wide[band.name], around, (1.0, 1.0)), band, block.geobox, made[band.name])
        return made

    def _by_field(self, step: StoredStep, field: Field, block: Block) -> dict[str, np.ndarray]:
        rows, columns = block.grid.window(block.tile)
        margin = margin_for(field, block.grid.resolution)
        right, down = field.at(*places_in(rows, columns, block.grid.shape))
        # The new pixel takes its value from the position before the shift.
        below = np.arange(rows.stop - rows.start)[:, None] + margin - down / block.grid.resolution
        beside = np.arange(columns.stop - columns.start)[None, :] + margin - right / block.grid.resolution
        wide = step.read(self.layers, widened_window((rows, columns), margin))
        made = {}
        for layer in self.layers:
            is_class = bool(layer.flags or layer.bits)
            pixels = wide[layer.name]
            order = 0 if is_class else 1 if self.resampling == "bilinear" else 3
            values = moved_by(pixels, is_nodata(pixels, layer.fill), below, beside, order)
            made[layer.name] = as_stored(values, layer)
        return made


def as_stored(values: np.ndarray, layer: Layer) -> np.ndarray:
    """Values as a layer stores them.

    Args:
        values: float64 in stored numbers, NaN without data.
        layer: The layer.

    Returns:
        Of its dtype, its fill without data; a value that would be taken for the fill is the number beside it.
    """
    if np.dtype(layer.dtype).kind == "f":
        limits = np.finfo(layer.dtype)
        kept = np.where(np.isnan(values), 0, values).clip(float(limits.min), float(limits.max))
    else:
        least, most = np.iinfo(layer.dtype).min, np.iinfo(layer.dtype).max
        kept = np.rint(np.where(np.isnan(values), 0, values)).clip(least, most)
        kept[kept == layer.fill] += 1 if layer.fill < most else -1
    return np.where(np.isnan(values), layer.fill_scalar, kept.astype(layer.dtype))


def band_for(layer: Layer, resampling: str) -> BandRequest:
    """The request for reading a layer from scenes, or resampling it."""
    is_class = bool(layer.flags or layer.bits)
    return BandRequest(
        layer.name,
        layer.dtype,
        layer.fill,
        "class" if is_class else "continuous",
        "nearest" if is_class else resampling,
        optional=True,  # a band that the scene never had is not an error
    )


def pixel_source(parent: CubeSpec, rows: Sequence[Entry], source: str) -> str:
    """Decide whether moved pixels are read from the scenes or from the cube.

    The cube's pixels equal those of the scenes if no band was resampled: same CRS, and pixels of the band's own size on
    the mission's lattice.
    """
    if source != "auto":
        return source
    if parent.stage != "layers":
        return "cube"
    mission = find_mission(str(parent.recipe["mission"]))
    sizes = {mission.bands[layer.name].gsd for layer in parent.layers if not (layer.flags or layer.bits)}
    foreign = {_crs(item) for row in rows for item in row.sources} - {parent.grid.crs}
    on_lattice = all(
        math.isclose((at - start) % parent.grid.resolution, 0, abs_tol=1e-6)
        for at, start in zip(parent.grid.origin, mission.lattice, strict=True)
    )
    return "cube" if sizes == {int(parent.grid.resolution)} and not foreign and on_lattice else "scenes"


def scenes_again(path: Path, rows: Sequence[Entry]) -> dict[str, Scene]:
    """The scenes that steps of a layers cube were read from, rebuilt from the items in its ledger.

    Raises:
        BadInputError: It is not a cube of layers, or a step came from several catalogs.
    """
    query = query_of(path)[1].unfiltered()
    found = {}
    for row in rows:
        name = str(row.properties["catalog"])
        if "," in name and not Path(name).exists():
            raise BadInputError(f"{row.key} of {path} came from several catalogs: use source 'cube'")
        found[row.key] = _scene(row, query, name)
    return found


def _scene(row: Entry, query: Query, catalog: str) -> Scene:
    items = [json.loads(item) for item in row.sources]
    scenes = {str(scene.key): scene for scene in scenes_of(items, query, find_catalog(catalog))}
    if row.key not in scenes:
        raise BadInputError(f"the items of {row.key} do not make that scene any more: use source 'cube'")
    scene = scenes[row.key]
    return replace(scene, granules=tuple(replace(granule, item="") for granule in scene.granules))


def refined_by_agency(cube: Parent, keys: Collection[str]) -> dict[str, bool]:
    """Whether the agency itself refined the geometry of steps with its reference image.

    The datastrip's metadata, ``MTD_DS.xml``, declare it (``Image_Refining``; Sentinel-2 Products Specification
    Document, datastrip metadata). They are read if an item names them as a file on this machine, as in mounted
    archives.

    Args:
        cube: Layers, or a cube derived from them.
        keys: Keys of steps.

    Returns:
        Per step whose files exist and declare it: True if the geometry of all its datastrips was refined.
    """
    rows = cube.rows
    if keys and cube.spec.stage != "layers":
        try:
            rows = Parent.read(origin(cube.path)).rows
        except (BadInputError, CubeError):  # the layers no longer exist
            return {}
    files = {key: _datastrips(rows[key]) for key in keys if key in rows}
    every = sorted({file for some in files.values() for file in some})
    with ThreadPoolExecutor(8) as pool:
        flags = dict(zip(every, pool.map(_is_refined, every), strict=True))
    known = {key: [flags[file] for file in some] for key, some in files.items()}
    return {key: all(some) for key, some in known.items() if some and None not in some}


def _datastrips(row: Entry) -> set[str]:
    """Metadata files of a step's datastrips."""
    found = set()
    for text in row.sources:
        assets = json.loads(text).get("assets", {})
        for name in ("datastrip_metadata", "datastrip-metadata"):
            href = dict(assets.get(name) or {}).get("href")
            if isinstance(href, str):
                found.add(href)
    return found


def _is_refined(href: str) -> bool | None:
    """The flag in a file; None if the file is not on this machine or has no flag."""
    text = local_bytes(href, _MOST_OF_METADATA)
    flags = set(re.findall(rb"<Image_Refining\b[^>]*\bflag\s*=\s*[\"'](NOT_REFINED|REFINED)[\"']", text))
    return flags == {b"REFINED"} if len(flags) == 1 else None


_MOST_OF_METADATA = 64 << 20
"""Most bytes that are read of a metadata file; those of datastrips have about 10 MiB."""


def _crs(item: str) -> str:
    """CRS of an item's pixels, an invalid code if none is declared."""
    properties = json.loads(item).get("properties", {})
    return str(properties.get("proj:code") or f"EPSG:{properties.get('proj:epsg')}")


def _shifted(geobox: GeoBox, x: float, y: float) -> GeoBox:
    return GeoBox(geobox.shape, Affine.translation(x, y) * geobox.transform, geobox.crs)


def _whole(pixels: float) -> bool:
    return abs(pixels - round(pixels)) < 1e-6
