"""One band of a scene, its clear pixels, and clear windows, for stages that compare scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stac2cube.build.derived import Parent
from stac2cube.errors import BadInputError
from stac2cube.model.classes import CLASS_VALUES, is_nodata, pixels_of_class
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.model.mission import find_mission
from stac2cube.store.staging import StoredStep, Window

# Windows for comparing two images: clear, textured, and spread over the area.

EDGES = (256, 128, 64)
"""Edges of windows, pixels; the largest that fits four times side by side is used."""

LEAST_CLEAR = 0.5
"""Fraction of a window that must be clear in both images."""

FLATTEST = 0.25
"""A window with less texture than this fraction of the median is left out: water, snow."""

INFILL_SIGMA = 8.0
"""Sigma of the Gaussian by which gaps are filled, pixels."""

INFILL_AROUND = 3
"""Margin around a gap that is filled with it, pixels: edges of clouds are bright, too."""


@dataclass(frozen=True)
class Patch:
    """One window of both images, with a margin.

    Attributes:
        reference: ``(rows, columns)`` float32.
        target: Same shape.
        good: Pixels that are clear in both.
    """

    reference: np.ndarray
    target: np.ndarray
    good: np.ndarray


def edge_for(shape: tuple[int, int]) -> int | None:
    """Edge of the windows for an area, pixels; None if the area is too small."""
    return next((edge for edge in EDGES if min(shape) >= 4 * edge), EDGES[-1] if min(shape) >= 2 * EDGES[-1] else None)


def per_cell(values: np.ndarray, edge: int) -> np.ndarray:
    """Means over cells of ``edge`` pixels; the remainder at the lower and right edge is left out."""
    rows, columns = (size // edge for size in values.shape)
    whole = values[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge)
    means: np.ndarray = whole.mean(axis=(1, 3), dtype="float64")
    return means


def texture(picture: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Sum of absolute differences to the left and upper pixel, 0 where one is not clear; same shape as the image."""
    steps = np.zeros(picture.shape, dtype="float32")
    values = picture.astype("float32")
    steps[:, 1:] += np.where(good[:, 1:] & good[:, :-1], np.abs(np.diff(values, axis=1)), 0)
    steps[1:] += np.where(good[1:] & good[:-1], np.abs(np.diff(values, axis=0)), 0)
    return steps


def choose_windows(clear: np.ndarray, rough: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Choose the windows to compare: the clearest with texture, as far apart as possible.

    Args:
        clear: ``(rows, columns)`` of windows: fraction that is clear in both.
        rough: The same for texture.
        count: Maximum number.

    Returns:
        Rows and columns; deterministic.
    """
    able = clear >= LEAST_CLEAR
    if not able.any():
        return []
    able &= rough >= FLATTEST * np.median(rough[able])
    able &= rough > 0
    places = np.argwhere(able)
    chosen: list[int] = []
    rank = np.floor(clear[able] * 5)  # 20 % more clear pixels outweigh any distance
    apart = np.full(len(places), np.inf)
    while len(chosen) < min(count, len(places)):
        score = rank * 1e6 + np.minimum(apart, 1e5) + 1e-6 * rough[able] / rough.max()
        score[chosen] = -1
        chosen.append(int(np.argmax(score)))
        apart = np.minimum(apart, np.hypot(*(places - places[chosen[-1]]).T))
    return [(int(row), int(column)) for row, column in places[chosen]]


def infilled(pictures: Sequence[np.ndarray], good: np.ndarray) -> list[np.ndarray]:
    """The images with pixels that are not clear in either filled smoothly from their surroundings.

    Without this, a cloud's edge, which is in one image only, dominates the match.
    """
    from scipy import ndimage

    gaps = ~good
    if not gaps.any():
        return [picture.astype("float32") for picture in pictures]
    gaps = ndimage.binary_dilation(gaps, iterations=INFILL_AROUND)
    seen = (~gaps).astype("float32")
    weight = ndimage.gaussian_filter(seen, INFILL_SIGMA, truncate=3.0)
    filled = []
    for picture in pictures:
        values = np.where(gaps, 0, picture).astype("float32")
        mean = values.sum() / max(seen.sum(), 1)
        smooth = ndimage.gaussian_filter(values, INFILL_SIGMA, truncate=3.0)
        around = np.where(weight > 1e-3, smooth / np.maximum(weight, 1e-3), mean)
        filled.append(np.where(gaps, around, values).astype("float32"))
    return filled


# The data compared: one band of a scene, and its clear pixels.

HIDING = ("nodata", "saturated", "cloud", "near_cloud", "cirrus", "shadow")
"""Classes of :mod:`stac2cube.model.classes` that are not the ground, or displaced."""

USUAL = ("red", "nir", "vv")
"""Common names of the bands to compare; the first that a cube has is used."""


@dataclass(frozen=True)
class Picture:
    """The location of a scene's pixels for a comparison.

    Attributes:
        band: Step with its pixels.
        sky: Step with its masks or classes; None if there are none.
    """

    band: StoredStep
    sky: StoredStep | None


@dataclass(frozen=True)
class MatchBand:
    """How scenes are read for a comparison.

    Attributes:
        band: The layer compared.
        masks: Layers that mask pixels.
        classes: Common name of the classification, if the masks are one; "" for masks of a clouds cube.
    """

    band: Layer
    masks: tuple[Layer, ...]
    classes: str = ""

    def read(self, picture: Picture, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels, float32, and a mask of the clear ones: ``(rows, columns)`` each.

        Raises:
            ReadError: The cube is not there, or damaged.
        """
        values = picture.band.read((self.band,), window)[self.band.name]
        good = ~is_nodata(values, self.band.fill) & self.clear(picture, window)
        if values.dtype.kind == "f":
            good &= np.isfinite(values)
        return np.where(good, values, 0).astype("float32"), good

    def clear(self, picture: Picture, window: Window) -> np.ndarray:
        """Mask of pixels that are neither cloud nor shadow; all of them if there are no masks."""
        if picture.sky is None:
            return np.ones([part.stop - part.start for part in window], dtype=bool)
        masks = picture.sky.read(self.masks, window)
        if self.classes:
            return ~pixels_of_class(self.classes, masks[self.masks[0].name], HIDING)
        every: np.ndarray = np.logical_and.reduce([mask == 0 for mask in masks.values()])
        return every

    def clear_cells(self, picture: Picture, grid: Grid, edge: int) -> np.ndarray:
        """The clear fraction of every cell of ``edge`` pixels; without masks, the fraction with data."""
        strips = []
        for top in range(0, grid.shape[0] - edge + 1, edge):
            window = (slice(top, top + edge), slice(0, grid.shape[1]))
            good = self.clear(picture, window) if picture.sky else self.read(picture, window)[1]
            strips.append(per_cell(good, edge))
        return np.concatenate(strips)


def band_of(spec: CubeSpec, name: str) -> Layer:
    """Find the layer to compare.

    Raises:
        BadInputError: There is none of that name, or none with continuous values.
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


def match_band(parent: Parent, clouds: Parent | None, band: Layer) -> MatchBand:
    """How to read the scenes of a cube: with the masks of a clouds cube, its own classes, or neither.

    Raises:
        BadInputError: The clouds cube is on another grid, or has no mask.
    """
    if clouds is not None:
        if clouds.spec.grid != parent.spec.grid:
            raise BadInputError(
                f"{clouds.path} and {parent.path} lie on different grids: make the clouds from this cube"
            )
        masks = _named(clouds.spec.layers, ("cloud_mask", "shadow_mask"))
        if not masks:
            raise BadInputError(f"{clouds.path} has no cloud_mask")
        return MatchBand(band, masks)
    mission = find_mission(parent.mission) if parent.mission else None
    for word in CLASS_VALUES:
        names = [other.name for other in mission.bands.values() if other.common_name == word] if mission else []
        if found := _named(parent.spec.layers, names):
            return MatchBand(band, found, word)
    return MatchBand(band, ())


def pictures_of(parent: Parent, clouds: Parent | None, look: MatchBand) -> dict[str, Picture]:
    """The scenes of a cube as pictures; scenes that the clouds cube lacks are left out."""
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
