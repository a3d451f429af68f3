"""What is compared: one band of a scene, and which of its pixels show the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.cube.stored import StoredStep, Window
from stac2cube.errors import BadInputError
from stac2cube.grid import Grid
from stac2cube.kernels.classes import SAYS, says
from stac2cube.kernels.windows import per_cell
from stac2cube.mission import find_mission
from stac2cube.source.asset import is_nodata
from stac2cube.stages.follow import Parent

HIDING = ("nodata", "saturated", "cloud", "near_cloud", "cirrus", "shadow")
"""Words of :mod:`stac2cube.kernels.classes` for what is not the ground, or not where it stands."""

USUAL = ("red", "nir", "vv")
"""Common names of the bands compared, the first that a cube has."""


@dataclass(frozen=True)
class Picture:
    """A scene as it is compared.

    Attributes:
        band: Where its pixels are.
        sky: Where its masks or classes are; None where nothing is known of clouds.
    """

    band: StoredStep
    sky: StoredStep | None


@dataclass(frozen=True)
class Look:
    """How pictures are looked at.

    Attributes:
        band: The layer compared.
        masks: Layers that hide pixels.
        classes: Common name of the classification, if that is what the masks are; "" for masks of a clouds cube.
    """

    band: Layer
    masks: tuple[Layer, ...]
    classes: str = ""

    def read(self, picture: Picture, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels, float32, and which of them show the ground: ``(rows, columns)`` each.

        Raises:
            ReadError: The cube is not there, or damaged.
        """
        values = picture.band.read((self.band,), window)[self.band.name]
        good = ~is_nodata(values, self.band.fill) & self.clear(picture, window)
        if values.dtype.kind == "f":
            good &= np.isfinite(values)
        return np.where(good, values, 0).astype("float32"), good

    def clear(self, picture: Picture, window: Window) -> np.ndarray:
        """Which pixels are neither cloud nor shadow; all of them where nothing is known."""
        if picture.sky is None:
            return np.ones([part.stop - part.start for part in window], dtype=bool)
        masks = picture.sky.read(self.masks, window)
        if self.classes:
            return ~says(self.classes, masks[self.masks[0].name], HIDING)
        every: np.ndarray = np.logical_and.reduce([mask == 0 for mask in masks.values()])
        return every

    def clear_cells(self, picture: Picture, grid: Grid, edge: int) -> np.ndarray:
        """The clear part of every cell of ``edge`` pixels; where no masks are known, the part with data."""
        strips = []
        for top in range(0, grid.shape[0] - edge + 1, edge):
            window = (slice(top, top + edge), slice(0, grid.shape[1]))
            good = self.clear(picture, window) if picture.sky else self.read(picture, window)[1]
            strips.append(per_cell(good, edge))
        return np.concatenate(strips)


def band_of(spec: CubeSpec, name: str) -> Layer:
    """The layer to compare.

    Raises:
        BadInputError: There is none of that name, or none that is a picture.
    """
    layers = {layer.name: layer for layer in spec.layers if not (layer.flags or layer.bits)}
    mission = find_mission(spec.recipe["mission"]) if "mission" in spec.recipe else None
    common = {band.common_name: band.name for band in mission.bands.values()} if mission else {}
    if name:
        found = layers.get(name) or layers.get(common.get(name, ""))
        if found is None:
            raise BadInputError(f"the cube has no band {name!r} to compare: there are {', '.join(layers)}")
        return found
    if not layers:
        raise BadInputError("the cube has no band to compare")
    usual = [layers[common[word]] for word in USUAL if common.get(word) in layers]
    return usual[0] if usual else next(iter(layers.values()))


def look_at(parent: Parent, clouds: Parent | None, band: Layer) -> Look:
    """How to look at the scenes of a cube: by the masks of a clouds cube, or by its own classes, or as they are.

    Raises:
        BadInputError: The clouds lie on another grid, or have no mask.
    """
    if clouds is not None:
        if clouds.spec.grid != parent.spec.grid:
            raise BadInputError(
                f"{clouds.path} and {parent.path} lie on different grids: make the clouds from this cube"
            )
        masks = _named(clouds.spec.layers, ("cloud_mask", "shadow_mask"))
        if not masks:
            raise BadInputError(f"{clouds.path} has no cloud_mask")
        return Look(band, masks)
    mission = find_mission(parent.mission) if parent.mission else None
    for word in SAYS:
        names = [other.name for other in mission.bands.values() if other.common_name == word] if mission else []
        if found := _named(parent.spec.layers, names):
            return Look(band, found, word)
    return Look(band, ())


def pictures_of(parent: Parent, clouds: Parent | None, look: Look) -> dict[str, Picture]:
    """The scenes of a cube as pictures; those that the clouds cube lacks are left out."""
    made = {}
    for key, row in parent.rows.items():
        stored = parent.stored(row)
        if clouds is None:
            made[key] = Picture(stored, stored if look.classes else None)
        elif key in clouds.rows:
            made[key] = Picture(stored, clouds.stored(clouds.rows[key]))
    return made


def _named(layers: Sequence[Layer], names: Sequence[str]) -> tuple[Layer, ...]:
    return tuple(layer for layer in layers if layer.name in names)
