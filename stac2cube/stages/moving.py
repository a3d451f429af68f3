"""Apply: a scene moved by its shift, its pixels interpolated once."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from stac2cube.catalog import find_catalog
from stac2cube.cube.ledger import Entry
from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.cube.stored import StoredStep, widened
from stac2cube.errors import BadInputError, ReadError
from stac2cube.kernels.fields import Field, margin_for, moved_by, places_in
from stac2cube.mission import find_mission
from stac2cube.scene import Scene
from stac2cube.source.asset import Cut, is_nodata, warp
from stac2cube.source.band import BandRequest
from stac2cube.source.read import read_block
from stac2cube.source.search import Query, scenes_of
from stac2cube.stages.request import request_of, understand
from stac2cube.work import Block

REACH = 6
"""Pixels beyond a block that interpolation may look at."""


@dataclass(frozen=True)
class Moved:
    """A scene to be moved.

    Attributes:
        step: Its pixels in the cube.
        shift: x and y, metres, to be added to the positions of its pixels.
        scene: Where to read its pixels anew, None to take the cube's.
        field: Shifts that change over the scene, metres to the right and down, instead of the one.
    """

    step: StoredStep
    shift: tuple[float, float] = (0.0, 0.0)
    scene: Scene | None = None
    field: Field | None = None


@dataclass(frozen=True)
class MoveScene:
    """The task.

    Attributes:
        layers: Of the cube.
        resampling: Of continuous layers; classes and bits take the nearest.
        seamless: See :func:`stac2cube.source.read.read_block`.
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
        wide = moved.step.read(self.layers, widened(window, reach))
        around = _shifted(block.geobox.pad(reach), x, y)
        made = {}
        for band in bands:
            made[band.name] = np.empty(block.geobox.shape, band.dtype)
            warp(Cut(wide[band.name], around, 1.0), band, block.geobox, made[band.name])
        return made

    def _by_field(self, step: StoredStep, field: Field, block: Block) -> dict[str, np.ndarray]:
        rows, columns = block.grid.window(block.tile)
        margin = margin_for(field, block.grid.resolution)
        right, down = field.at(*places_in(rows, columns, block.grid.shape))
        # What lies at a pixel now lay before where its shift leads back to.
        below = np.arange(rows.stop - rows.start)[:, None] + margin - down / block.grid.resolution
        beside = np.arange(columns.stop - columns.start)[None, :] + margin - right / block.grid.resolution
        wide = step.read(self.layers, widened((rows, columns), margin))
        made = {}
        for layer in self.layers:
            is_class = bool(layer.flags or layer.bits)
            pixels = wide[layer.name]
            order = 0 if is_class else 1 if self.resampling == "bilinear" else 3
            values = moved_by(pixels, is_nodata(pixels, layer.fill), below, beside, order)
            limits = np.iinfo(layer.dtype) if pixels.dtype.kind in "iu" else np.finfo(layer.dtype)
            numbers = np.rint(values) if pixels.dtype.kind in "iu" else values
            kept = np.where(np.isnan(numbers), 0, numbers).clip(float(limits.min), float(limits.max))
            made[layer.name] = np.where(np.isnan(values), layer.fill_scalar, kept.astype(layer.dtype))
        return made


def band_for(layer: Layer, resampling: str) -> BandRequest:
    """How a layer is read from scenes, or resampled."""
    is_class = bool(layer.flags or layer.bits)
    return BandRequest(
        layer.name,
        layer.dtype,
        layer.fill,
        "class" if is_class else "continuous",
        "nearest" if is_class else resampling,
        optional=True,  # what a scene never had is not missing now
    )


def whence(parent: CubeSpec, rows: Sequence[Entry], source: str) -> str:
    """Whether moved pixels come from the scenes or from the cube.

    The cube's pixels are the scenes' own where no band was resampled on the way: same CRS, and pixels of the band's own
    size on the mission's lattice.
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
    """The scenes that steps of a layers cube were read from, from the items that its ledger keeps.

    Raises:
        BadInputError: The cube is none of layers, or a step came from several catalogs.
    """
    _, request = request_of(path)
    query = replace(understand(request).query, max_cloud_cover=None)
    found = {}
    for row in rows:
        name = str(row.properties["catalog"])
        if "," in name and not Path(name).exists():
            raise BadInputError(f"{row.key} of {path} came from several catalogs: say source 'cube'")
        found[row.key] = _scene(row, query, name)
    return found


def _scene(row: Entry, query: Query, catalog: str) -> Scene:
    items = [json.loads(item) for item in row.sources]
    scenes = {str(scene.key): scene for scene in scenes_of(items, query, find_catalog(catalog))}
    if row.key not in scenes:
        raise BadInputError(f"the items of {row.key} do not make that scene any more: say source 'cube'")
    scene = scenes[row.key]
    return replace(scene, granules=tuple(replace(granule, item="") for granule in scene.granules))


def _crs(item: str) -> str:
    """CRS of an item's pixels, "" if it does not say."""
    properties = json.loads(item).get("properties", {})
    return str(properties.get("proj:code") or f"EPSG:{properties.get('proj:epsg')}")


def _shifted(geobox: GeoBox, x: float, y: float) -> GeoBox:
    return GeoBox(geobox.shape, Affine.translation(x, y) * geobox.transform, geobox.crs)


def _whole(pixels: float) -> bool:
    return abs(pixels - round(pixels)) < 1e-6
