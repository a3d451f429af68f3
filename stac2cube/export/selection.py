"""Selections to export: pixels of one cube, or of several on one lattice, cut to an area and read by windows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid, grid_over
from stac2cube.store.ledger import Entry, Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import open_cube
from stac2cube.views.composite import periods_of
from stac2cube.views.masks import mask_recipes
from stac2cube.views.options import Hiding, TimeSelection

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


EDGE = 1024
"""Largest number of rows and of columns read at once: a few times 2 MB per layer."""

SMALL = 64
"""Largest edge of a clip, pixels, up to which it is checked that the polygon contains the centre of a pixel."""

Window = tuple[slice, slice]
"""Rows and columns of the grid of a :class:`Selection`."""


def period_ends(spec: CubeSpec, rows: Mapping[str, Entry]) -> dict[str, datetime]:
    """End of the period (exclusive) of each step of a composite.

    Args:
        spec: Spec of the cube.
        rows: Ledger rows of its sealed steps by key.

    Returns:
        By key, UTC; empty for a cube that is not a composite. Earlier releases did not record it: for their steps it is
        computed from the calendar; those of the period ``"all"`` are left out.
    """
    composite = spec.recipe.get("composite")
    if not composite or not rows:
        return {}
    known = {key: end for key, row in rows.items() if (end := row.period_end) is not None}
    if len(known) < len(rows) and (period := str(composite["period"])) != "all":
        begins = np.array([row.time.astimezone(UTC).replace(tzinfo=None) for row in rows.values()], "datetime64[us]")
        ends = {part.begin: part.end.astype(datetime).replace(tzinfo=UTC) for part in periods_of(begins, period)}
        said = {key: ends[begin] for key, begin in zip(rows, begins, strict=True) if begin in ends}
        known = said | known
    return known


@dataclass(frozen=True)
class SelectedCube:
    """One cube of a selection.

    Attributes:
        path: Path of the cube.
        spec: Spec of the cube.
        rows: Ledger rows of its sealed steps by key.
        steps: The selected steps, with stored values.
        corner: Row and column of its upper left pixel in the grid of the selection; may be negative.
    """

    path: Path
    spec: CubeSpec
    rows: Mapping[str, Entry]
    steps: xr.Dataset
    corner: tuple[int, int] = (0, 0)

    @cached_property
    def place_of(self) -> dict[str, int]:
        """Index of each selected step by key."""
        return {str(key): place for place, key in enumerate(self.steps["scene"].values)}


@dataclass(frozen=True)
class Selection:
    """Pixels to export.

    Attributes:
        sources: The cubes; where several have data, the first is used.
        grid: Grid of the exported pixels.
        layers: Exported layers.
        hiding: Masks that are applied first.
        outline: Polygons in the CRS of the grid, outside which there is no data; None for all pixels.
    """

    sources: tuple[SelectedCube, ...]
    grid: Grid
    layers: tuple[Layer, ...]
    hiding: Hiding
    outline: BaseGeometry | None = None

    @property
    def spec(self) -> CubeSpec:
        """Spec of the first cube."""
        return self.sources[0].spec

    @cached_property
    def steps(self) -> dict[str, datetime]:
        """Time of each step by key, in order of time."""
        times = {key: source.rows[key].time for source in reversed(self.sources) for key in source.place_of}
        return dict(sorted(times.items(), key=lambda pair: (pair[1], pair[0])))

    def windows(self, edge: int = EDGE) -> Iterator[Window]:
        """Windows of the grid with at most ``edge`` rows and columns."""
        rows, columns = self.grid.shape
        for top in range(0, rows, edge):
            for left in range(0, columns, edge):
                yield slice(top, min(top + edge, rows)), slice(left, min(left + edge, columns))

    def read(self, step: str, window: Window) -> dict[str, np.ndarray]:
        """Read stored pixels of all layers, ``(rows, columns)`` each, their fill value where there is no data."""
        shape = tuple(part.stop - part.start for part in window)
        out = {layer.name: np.full(shape, layer.fill_scalar, layer.dtype) for layer in self.layers}
        for source in self.sources:
            self._add(out, source, step, window)
        if self.outline is not None:
            inside = self._inside(window)
            for layer in self.layers:
                out[layer.name][~inside] = layer.fill_scalar
        return out

    def opened(self, step: str, window: Window) -> xr.Dataset:
        """Read as a Dataset for views: stored values with attributes, dims ``(y, x)``, coordinates of pixel centres."""
        west, north = self.grid.origin
        step_of = self.grid.resolution
        rows, columns = (np.arange(part.start, part.stop) + 0.5 for part in window)
        coordinates = {"y": north - step_of * rows, "x": west + step_of * columns}
        # Fill values that xarray would not decode (NaN, and classes) need no _FillValue attribute.
        layers = {
            name: (("y", "x"), values, {**layer.attributes(), **self._flags(name)})
            for (name, values), layer in zip(self.read(step, window).items(), self.layers, strict=True)
        }
        return xr.Dataset(layers, coordinates, {"mission": self.spec.recipe.get("mission", "")})

    def series(self) -> xr.Dataset:
        """All steps of the first cube after masking, lazily: to compute one stretch for all."""
        source = self.sources[0]
        dataset = open_cube(source.path)
        dataset = dataset.isel(time=[key in source.place_of for key in dataset["scene"].values])
        return self.hiding.apply(dataset) if self.hiding else dataset

    def fingerprint(self, step: str, **how: Any) -> str:
        """Digest of everything that determines the pixels of a step."""
        parts: dict[str, Any] = {name: str(value) for name, value in how.items()}
        parts |= {"grid": self.grid.to_json(), "layers": [layer.name for layer in self.layers]}
        parts |= {"outline": None if self.outline is None else self.outline.wkt, "mask": self.hiding.mask}
        if self.hiding.mask in (recipes := mask_recipes()):
            parts["mask recipe"] = str(recipes[self.hiding.mask])  # a person's own may change
        cubes = [(source.rows.get(step) if step in source.place_of else None) for source in self.sources]
        parts["pixels"] = [_checksums(row) for row in cubes]
        if self.hiding.clouds:
            parts["clouds"] = _checksums(_rows(Path(self.hiding.clouds)).get(step))
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

    def _flags(self, name: str) -> dict[str, Any]:
        attributes = self.sources[0].steps[name].attrs
        return {key: attributes[key] for key in ("flag_values", "flag_masks", "flag_meanings") if key in attributes}

    def _add(self, out: dict[str, np.ndarray], source: SelectedCube, step: str, window: Window) -> None:
        place = source.place_of.get(step)
        if place is None:
            return
        theirs = [
            slice(max(part.start - corner, 0), min(part.stop - corner, size))
            for part, corner, size in zip(window, source.corner, source.spec.grid.shape, strict=True)
        ]
        if any(part.stop <= part.start for part in theirs):
            return
        here = tuple(
            slice(part.start + corner - whole.start, part.stop + corner - whole.start)
            for part, corner, whole in zip(theirs, source.corner, window, strict=True)
        )
        pixels = source.steps.isel(time=[place], y=theirs[0], x=theirs[1])
        pixels = self.hiding.apply(pixels) if self.hiding else pixels
        if pixels.sizes["time"] == 0:
            return  # the clouds cube does not have the step
        for layer in self.layers:
            new, old = pixels[layer.name].values[0], out[layer.name][here]
            empty = np.isnan(old) if np.isnan(layer.fill) else old == layer.fill_scalar
            out[layer.name][here] = np.where(empty, new.astype(layer.dtype), old)

    def _inside(self, window: Window) -> np.ndarray:
        """Mask of the pixels whose centre is within the outline."""
        from rasterio.features import geometry_mask

        geobox = self.grid.geobox[window]
        inside: np.ndarray = geometry_mask([self.outline], geobox.shape, geobox.transform, invert=True)
        return inside


def selection_of(
    cubes: Sequence[str | Path],
    *,
    clip: object = None,
    layers: Sequence[str] | None = None,
    hiding: Hiding | None = None,
    choice: TimeSelection | None = None,
) -> Selection:
    """Select the pixels to export.

    Args:
        cubes: One cube, or several with the same layers and resolution on one lattice.
        clip: Polygons, in any form that :func:`stac2cube.model.geometry.read_areas` accepts; None for all pixels.
        layers: Names of layers; all if None.
        hiding: Masks that are applied first; a clouds cube only with a single cube.
        choice: Steps to export; all if None.

    Raises:
        CubeError: Not a cube.
        CubeMismatchError: The cubes differ in lattice or layers.
        BadInputError: No such layer or step, a polygon outside the cubes, a clouds cube with several cubes.
    """
    hiding, choice = hiding or Hiding(), choice or TimeSelection()
    sources = [_source(Path(cube)) for cube in cubes]
    if hiding.clouds and len(sources) > 1:
        raise BadInputError("the masks of a clouds cube go with one cube: mask the others before, or use --mask")
    first = sources[0].spec
    for other in sources[1:]:
        _require_alike(sources[0], other)
    wanted = _layers(first, layers)
    whole = _union([source.spec.grid for source in sources])
    outline = None
    if clip is not None:
        whole, outline = _clipped(whole, clip)
    placed = tuple(
        replace(source, steps=choice.of(source.steps), corner=_corner(source.spec.grid, whole)) for source in sources
    )
    return Selection(placed, whole, wanted, hiding, outline)


def _source(path: Path) -> SelectedCube:
    steps = open_cube(path, decode=False, chunks=None)
    if steps.sizes["time"] == 0:
        raise BadInputError(f"{path} has no step to export yet")
    return SelectedCube(path, read_root(path).spec, _rows(path), steps)


def _rows(path: Path) -> dict[str, Entry]:
    return dict(Ledger(path, read_root(path).ledger).sealed())


def _checksums(row: Entry | None) -> Any:
    if row is None:
        return None
    shards = sorted((shard.layer, shard.tile, shard.checksum) for receipt in row.receipts for shard in receipt.shards)
    return [row.items, dict(row.parts), shards]


def _layers(spec: CubeSpec, names: Sequence[str] | None) -> tuple[Layer, ...]:
    known = {layer.name: layer for layer in spec.layers}
    lacking = [name for name in names or () if name not in known]
    if lacking:
        raise BadInputError(f"there is no layer {', '.join(lacking)}: there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else spec.layers


def _require_alike(one: SelectedCube, other: SelectedCube) -> None:
    """Check that two cubes can form a mosaic.

    Raises:
        CubeMismatchError: The cubes differ in lattice or layers.
    """
    mine, theirs = one.spec, other.spec
    grids = (mine.grid, theirs.grid)
    if grids[0].crs != grids[1].crs or grids[0].resolution != grids[1].resolution:
        raise CubeMismatchError(
            f"{one.path} ({grids[0].crs}, {grids[0].resolution:g}) and {other.path} ({grids[1].crs}, "
            f"{grids[1].resolution:g}) are not on one lattice: build them with the same crs and resolution"
        )
    for a, b in zip(*(grid.origin for grid in grids), strict=True):
        if abs((a - b) / grids[0].resolution - round((a - b) / grids[0].resolution)) > 1e-6:
            raise CubeMismatchError(f"the pixels of {one.path} and {other.path} lie beside each other by a fraction")
    if [_stored(layer) for layer in mine.layers] != [_stored(layer) for layer in theirs.layers]:
        raise CubeMismatchError(f"{one.path} and {other.path} have different layers, or store them differently")


def _stored(layer: Layer) -> tuple[Any, ...]:
    return (layer.name, layer.dtype, str(layer.fill), layer.scale, layer.offset)


def _union(grids: Sequence[Grid]) -> Grid:
    """The smallest grid on the lattice of the first that contains all grids."""
    first = grids[0]
    if len(grids) == 1:
        return first
    west, north = min(grid.origin[0] for grid in grids), max(grid.origin[1] for grid in grids)
    east = max(grid.origin[0] + grid.resolution * grid.shape[1] for grid in grids)
    south = min(grid.origin[1] - grid.resolution * grid.shape[0] for grid in grids)
    shape = (round((north - south) / first.resolution), round((east - west) / first.resolution))
    return replace(first, origin=(west, north), shape=shape)


def _clipped(grid: Grid, clip: object) -> tuple[Grid, BaseGeometry]:
    """The part of a grid around polygons, and the polygons in its CRS."""
    from rasterio.features import geometry_mask

    from stac2cube.model.geometry import read_areas

    (area,) = read_areas(clip)
    outline = grid.shape_of(area.native, area.native_crs)
    around = grid_over(outline, grid.crs, grid.crs, grid.resolution, lattice=grid.origin)
    corner = _corner(around, grid)
    top, left = (max(part, 0) for part in corner)
    bottom, right = (min(part + size, most) for part, size, most in zip(corner, around.shape, grid.shape, strict=True))
    if bottom <= top or right <= left:
        raise BadInputError("the clip polygon lies outside the cube")
    origin = (grid.origin[0] + left * grid.resolution, grid.origin[1] - top * grid.resolution)
    cut = replace(grid, origin=origin, shape=(bottom - top, right - left))
    if max(cut.shape) <= SMALL and not geometry_mask([outline], cut.shape, cut.geobox.transform, invert=True).any():
        raise BadInputError("the clip polygon holds the centre of no pixel: make it larger")
    return cut, outline


def _corner(grid: Grid, within: Grid) -> tuple[int, int]:
    """Row and column of a grid's upper left pixel in another grid."""
    return (
        round((within.origin[1] - grid.origin[1]) / within.resolution),
        round((grid.origin[0] - within.origin[0]) / within.resolution),
    )
