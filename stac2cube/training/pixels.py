"""The pixels of a sample, a window at a time; runs on workers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from stac2cube.errors import ReadError
from stac2cube.kernels.angles import Direction, TileAngles, interpolated, merged
from stac2cube.kernels.product_xml import parse_angles
from stac2cube.mission import Band
from stac2cube.scene import AssetRef
from stac2cube.source.attempts import of_asset
from stac2cube.source.band import BandRequest
from stac2cube.source.coverage import read_covered
from stac2cube.source.image import Image
from stac2cube.source.remembered import Tiles
from stac2cube.training.labels import labels_of
from stac2cube.training.rules import AngleRules, SampleRules
from stac2cube.training.sources import CubeStep, Part, SampleSource

Window = tuple[slice, slice]
"""Rows and columns of a sample's grid."""


@dataclass(frozen=True)
class Pixels:
    """A window of a sample.

    Attributes:
        bands: ``(bands, rows, columns)`` float32, NaN where a band is not valid.
        valid: Same shape, bool: whether the band is valid.
        angles: ``(channels, rows, columns)`` float32, NaN where unknown; None if none are wanted.
        labels: ``(rows, columns)`` uint8; None if none are wanted.
    """

    bands: np.ndarray
    valid: np.ndarray
    angles: np.ndarray | None
    labels: np.ndarray | None

    @property
    def everywhere(self) -> np.ndarray:
        """``(rows, columns)`` bool: where all bands are valid."""
        every: np.ndarray = np.logical_and.reduce(self.valid, axis=0)
        return every

    def validity(self, rules: SampleRules) -> np.ndarray:
        """The channels of validity, ``(channels, rows, columns)`` bool."""
        return self.valid if rules.validity == "per_band" else self.everywhere[np.newaxis]


def make_pixels(source: SampleSource, rules: SampleRules, window: Window, tiles: Tiles | None = None) -> Pixels:
    """Make a window of a sample.

    Args:
        source: What it is made of.
        rules: How.
        window: Within its grid.
        tiles: Remembered from window to window of the sample; None where it has but one.

    Raises:
        ReadError: A file is missing, or cannot be read.
        RadiometryError: A metadata file is none.
    """
    if source.grid is None:
        raise ReadError(f"{source.id} has no grid")
    geobox, tiles = source.grid.geobox[window], tiles or Tiles(most=0)
    if source.step is not None:
        bands, owner = _of_step(source.step, rules, window), None
    else:
        bands, owner = _mosaic(source.parts, rules, geobox, tiles)
    valid = np.isfinite(bands)
    angles = None
    if rules.angles is not None:
        angles = _angles(source.parts, rules.angles, rules.chosen, geobox, owner)
    labels = None
    if rules.labels is not None:
        labels = labels_of(source, rules.labels, geobox, window, owner, tiles)
        if rules.labels.mask_invalid:
            labels[~np.logical_and.reduce(valid, axis=0)] = rules.labels.ignore_index
    return Pixels(bands, valid, angles, labels)


def _mosaic(parts: Sequence[Part], rules: SampleRules, geobox: GeoBox, tiles: Tiles) -> tuple[np.ndarray, np.ndarray]:
    """Granules one behind the other: a pixel takes all bands from the first in which most of them are valid.

    Returns:
        Bands, and which granule each pixel is of, ``(rows, columns)`` int8, -1 for none.
    """
    bands = np.full((len(rules.chosen), *geobox.shape), np.nan, "float32")
    best, owner = np.zeros(geobox.shape, "uint8"), np.full(geobox.shape, -1, "int8")
    for place, part in enumerate(parts):
        if (best == len(rules.chosen)).all():
            break
        found = np.stack([_band(part, band, rules, geobox, tiles) for band in rules.chosen])
        score = np.isfinite(found).sum(axis=0, dtype="uint8")
        better = score > best
        np.copyto(bands, found, where=better)
        best[better], owner[better] = score[better], place
    return bands, owner


def _band(part: Part, band: Band, rules: SampleRules, geobox: GeoBox, tiles: Tiles) -> np.ndarray:
    """A band of a granule, NaN where too little of the pixel is valid."""
    measure = rules.measure(band, *part.factors[band.name])

    def read(image: Image, asset: AssetRef) -> tuple[np.ndarray, np.ndarray]:
        return read_covered(tiles.of(image, asset.href), asset.index, measure, geobox)

    request = BandRequest(band.name, "float32", math.nan, "continuous")
    found = of_asset(part.granule, request, read)
    assert found is not None  # it is not optional
    values, coverage = found
    # A whole footprint may come out as a hair less than 1.
    values[coverage < rules.threshold - 1e-4] = np.nan
    return values


def _of_step(step: CubeStep, rules: SampleRules, window: Window) -> np.ndarray:
    """Bands of a step of a cube, in physical units."""
    layers = {layer.name: layer for layer in step.layers}
    wanted = [layers[name] for name in rules.names]
    stored = step.step.read(wanted, window)
    out = np.empty((len(wanted), *next(iter(stored.values())).shape), "float32")
    for place, layer in enumerate(wanted):
        out[place] = layer.decoded(stored[layer.name])
    return out


def _angles(
    parts: Sequence[Part], rules: AngleRules, bands: Sequence[Band], geobox: GeoBox, owner: np.ndarray | None
) -> np.ndarray:
    """Channels of angles: of the granule that a pixel is of; where it is of none, of the first that knows them."""
    out: np.ndarray | None = None
    for place, part in enumerate(parts):
        own = _angles_of(part.tile_metadata, rules, tuple(band.name for band in bands), geobox)
        if out is None:
            out = own
            continue
        known = np.isfinite(own).all(axis=0)
        takes = known & ~np.isfinite(out).all(axis=0)
        if owner is not None:
            takes |= known & (owner == place)
        np.copyto(out, own, where=takes)
    assert out is not None  # sources without granules never get here
    return out


def _angles_of(path: str, rules: AngleRules, bands: tuple[str, ...], geobox: GeoBox) -> np.ndarray:
    tile = _tile_angles(path, bands)
    transform, (rows, columns) = geobox.transform, geobox.shape
    x = transform.c + transform.a * (np.arange(columns)[np.newaxis] + 0.5)
    y = transform.f + transform.e * (np.arange(rows)[:, np.newaxis] + 0.5)
    found: Iterable[Direction] = (interpolated(tile.view[band], x, y, str(geobox.crs)) for band in bands)
    if rules.view == "single":
        found = (merged(found),)
    sun = interpolated(tile.sun, x, y, str(geobox.crs))
    channels = [
        channel.astype("float32")
        for direction in chain((sun,), found)
        for channel in (direction.sines if rules.form == "sin_cos" else direction.degrees)
    ]
    stacked: np.ndarray = np.stack(channels)
    return stacked


@lru_cache(maxsize=16)
def _tile_angles(path: str, bands: tuple[str, ...]) -> TileAngles:
    try:
        return parse_angles(Path(path).read_text(errors="replace"), path, bands)
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}") from error
