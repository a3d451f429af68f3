"""Stage 4: bands of 10 and 20 m on one grid of 10 or 2.5 m. The pixels are of that size, the details are not."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from stac2cube.build import build
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import Layer
from stac2cube.cube.stored import StoredStep, Window
from stac2cube.errors import BadInputError
from stac2cube.kernels.brightness import BRIGHT, saturated, without, without_all
from stac2cube.kernels.halving import halved
from stac2cube.kernels.networks import COARSE, FINE
from stac2cube.kernels.upscaling import LEARNED, device_for, open_upscaler, upscale
from stac2cube.places.gpu import gpu_turn
from stac2cube.places.place import Place
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress
from stac2cube.source.asset import is_nodata
from stac2cube.stages.follow import Parent
from stac2cube.stages.schooling import train_on
from stac2cube.stages.superres_rules import SuperresRules, own_weights, ways_back
from stac2cube.weights import all_shipped
from stac2cube.work import Block, Measured, Orders, Step, Summary

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)

UNSURE = 2
"""Pixels of 10 m around what has no data that have none either: the optics mix them."""


FILLED = 8
"""Pixels of 10 m to which a gap is filled from around it, so that its edge does not ring."""


@dataclass(frozen=True)
class Source:
    """One step to be made finer.

    Attributes:
        step: Its pixels.
        halving: Per band of 20 m, how its own pixels are got back from the cube's, see
            :func:`stac2cube.kernels.halving.halved`.
    """

    step: StoredStep
    halving: tuple[str, ...]


@dataclass(frozen=True)
class Upscale:
    """The task.

    Attributes:
        layers: Of the cube made.
        rules: What decides.
        weights: File or folder.
    """

    layers: tuple[Layer, ...]
    rules: SuperresRules
    weights: str

    def __call__(self, source: Source, block: Block) -> Measured:
        """Layers of one block, tile after tile.

        Raises:
            ReadError: The cube cannot be read.
            BadInputError: No GPU although one was asked for, or weights are gone.
        """
        scale, size = self.rules.scale, self.rules.tile
        shape = (block.grid.shape[0] // scale, block.grid.shape[1] // scale)
        rows, columns = (slice(part.start // scale, part.stop // scale) for part in block.grid.window(block.tile))
        out = {layer.name: np.empty(block.geobox.shape, layer.dtype) for layer in self.layers}
        totals: dict[str, tuple[float, float]] = {}
        for top in range(rows.start, rows.stop, size):
            for left in range(columns.start, columns.stop, size):
                window = slice(top, min(top + size, rows.stop)), slice(left, min(left + size, columns.stop))
                made, left_over = self.tile(source, window, shape)
                place = tuple(
                    slice((part.start - whole.start) * scale, (part.stop - whole.start) * scale)
                    for part, whole in zip(window, (rows, columns), strict=True)
                )
                for name, pixels in made.items():
                    out[name][place] = pixels
                for name, (total, weight) in left_over.items():
                    before = totals.get(name, (0.0, 0.0))
                    totals[name] = (before[0] + total, before[1] + weight)
        return Measured(out, totals)

    def tile(
        self, source: Source, window: Window, shape: tuple[int, int]
    ) -> tuple[dict[str, np.ndarray], dict[str, tuple[float, float]]]:
        """Layers of a window of the cube of 10 m, which has that shape, and what is left to what was measured."""
        rules = self.rules
        device = device_for(rules.device) if rules.backend in LEARNED else "cpu"
        upscaler = open_upscaler(rules.backend, self.weights, device)
        margin = self.rules.margin
        # Even sizes, for they lie on the sensor's own 20 m pixels.
        rows, columns = (slice(p.start - margin, p.stop + margin + (p.stop - p.start) % 2) for p in window)
        stored = source.step.read(self.layers, (rows, columns))
        bands = [layer for layer in self.layers if layer.name in (*FINE, *COARSE)]
        missing = np.logical_or.reduce([is_nodata(stored[layer.name], layer.fill) for layer in bands])
        inner = tuple(slice(margin, margin + part.stop - part.start) for part in window)
        if missing[inner].all():
            return self._nothing(stored, inner), {}
        pictures = without_all([_reflectance(stored[layer.name], layer) for layer in bands], missing, FILLED)
        fine, coarse, bright, lost = _trusted(pictures, source.halving)
        names = [layer.name for layer in bands[len(FINE) :]]
        with gpu_turn() if device == "cuda" else nullcontext():
            made, left = upscale(upscaler, rules.agreement, fine, coarse, names, rules.target, bright)
        left["bright_fraction"] = bright.astype("float32")
        # Beyond the cube nothing is missing: there it was not asked for.
        within = (
            (np.arange(part.start, part.stop) >= 0) & (np.arange(part.start, part.stop) < size)
            for part, size in zip((rows, columns), shape, strict=True)
        )
        hidden = ndimage.binary_dilation(missing & np.logical_and.outer(*within), iterations=UNSURE)
        spare = upscaler.spare if rules.scale > 1 else 0
        means = {}
        for name, apart in left.items():
            off = 0 if name == "bright_fraction" else spare
            every = (missing.shape[0] - 2 * off) // apart.shape[0]
            seen = tuple(slice((part.start - off) // every, (part.stop - off) // every) for part in inner)
            means[name] = (float(apart[seen].sum()), float(apart[seen].size))
        wide = tuple(slice((part.start - spare) * rules.scale, (part.stop - spare) * rules.scale) for part in inner)
        return self._stored(made[:, *wide], bands, hidden, lost, stored, inner), means

    def _stored(
        self,
        made: np.ndarray,
        bands: Sequence[Layer],
        unseen: np.ndarray,
        losses: Sequence[np.ndarray],
        stored: dict[str, np.ndarray],
        inner: tuple[slice, ...],
    ) -> dict[str, np.ndarray]:
        scale = self.rules.scale
        out = {}
        for picture, layer, lost in zip(made, bands, losses, strict=True):
            if scale == 1 and layer.name in FINE:  # as it was measured, marks of saturation too
                out[layer.name] = np.where(unseen[inner], layer.fill_scalar, stored[layer.name][inner])
                continue
            counts = (picture - layer.offset) / layer.scale
            np.rint(counts, out=counts)
            limits = np.iinfo(layer.dtype)
            np.clip(counts, max(limits.min, 1), limits.max, out=counts)
            out[layer.name] = counts.astype(layer.dtype)
            gone = (unseen | lost)[inner]
            if gone.any():
                out[layer.name][_repeated(gone, scale)] = layer.fill_scalar
        return out | {layer.name: _repeated(stored[layer.name][inner], scale) for layer in self._classes()}

    def _nothing(self, stored: dict[str, np.ndarray], inner: tuple[slice, ...]) -> dict[str, np.ndarray]:
        out = {}
        for layer in self.layers:
            part = stored[layer.name][inner]
            whole = part if layer in self._classes() else np.full_like(part, layer.fill_scalar)
            out[layer.name] = _repeated(whole, self.rules.scale)
        return out

    def _classes(self) -> list[Layer]:
        """Never interpolated: they say where clouds are."""
        return [layer for layer in self.layers if layer.name not in (*FINE, *COARSE)]


def super_resolution(
    layers: str | Path, out: str | Path, *, rules: SuperresRules | None = None, place: Place | None = None
) -> xr.Dataset:
    """Bring the bands of a Sentinel-2 cube to one grid of 2.5 m, or of 10 m.

    20 m to 10 m, guided by the bands of 10 m, can be trusted; docs/superres.md has the figures. 10 m to 2.5 m makes
    pictures on a grid of 2.5 m that agree with what was measured; what they show between is likely, not seen.

    Args:
        layers: A cube of 10 m pixels, as layers, masked or co-registered, with the bands of 20 m in them.
        out: Path of the new cube, created or extended.
        rules: What decides; our own networks, to 2.5 m, in agreement with the sensor's optics, if None.
        place: Where the work runs; threads of this process if None.

    Returns:
        The cube: bands in the stored form of the layers; classes repeated, never interpolated; along time
        ``residual_mtf`` and ``residual_mean``, reflectance, and ``bright_fraction``, the part of the pixels that are
        saturated or brighter than a reflectance of 1.2 in some band: no network was asked about these and their
        surroundings. A saturated band has no data there.

    Raises:
        BadInputError: A word is wrong, bands are missing, the cube is not of 10 m, weights or torch are missing, or
            the result would be very large.
        CubeMismatchError: The cube was made otherwise.
        IncompleteError: Some steps failed; the others are sealed.
    """
    from stac2cube.cube.reader import open_cube

    summary = run_superres(Path(layers), Path(out), rules or SuperresRules(), place or Threads())
    summary.require_complete(out)
    return open_cube(out)


def run_superres(
    layers: Path,
    out: Path,
    rules: SuperresRules,
    place: Place,
    *,
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a cube; raises what :func:`super_resolution` and :func:`stac2cube.build.build` do."""
    parent = Parent.read(layers)
    if rules.backend == "selftrain" and not rules.weights and not own_weights(out).exists():
        train_on([parent.path], own_weights(out))
    weights = rules.weights_of(out)
    _warn_of(rules, layers, out, weights)
    seen = open_upscaler(rules.backend, weights, "cpu").radius  # before anything is written
    if seen > rules.margin:
        raise BadInputError(f"{rules.backend} looks at {seen} pixels around a tile: say a margin of that, or more")
    if rules.backend in LEARNED and not place.on_cluster:
        device_for(rules.device)
    spec = rules.spec(parent.spec, parent.path, weights)
    if out.exists():
        read_root(out).spec.require_same(spec, str(out))
    scale, tiles = rules.scale, list(spec.grid.tiles())
    steps = []
    for row in parent.rows.values():
        near = {
            tile
            for tile in tiles
            if any(_overlap(spec.grid.window(tile), parent.spec.grid.window(old), scale) for old in parent.tiles(row))
        }
        entry = parent.entry(row, **_own(row.properties))
        source = Source(parent.stored(row), ways_back(parent.spec, spec.layers, row))
        steps.append(Step(entry, source, tuple(tile for tile in tiles if tile in near)))
    task = Upscale(spec.layers, rules, weights)
    orders = replace(orders or Orders(), superseded="replace")
    return build(out, spec, steps, task, place, orders=orders, progress=progress)


def _warn_of(rules: SuperresRules, layers: Path, out: Path, weights: str) -> None:
    """Say what is wrong with the weights that an older cube was made with, and how to make it anew."""
    about = next((one.about for one in all_shipped() if str(one.path) == weights), "")
    if about:
        log.warning(
            "%s was made with weights that were %s; it is extended with the same ones. To make it anew with those of "
            "today: stac2cube superres %s %s --target %g --consistency %s",
            out,
            about,
            shlex.quote(str(layers)),
            shlex.quote(str(out.with_name(f"{out.stem}-2{out.suffix}"))),
            rules.target,
            rules.consistency,
        )


def follow_superres(cube: Path, place: Place, orders: Orders, progress: Progress | None) -> Summary:
    """Add to a cube what its layers have by now; raises what :func:`super_resolution` does."""
    spec = read_root(cube).spec
    rules = SuperresRules.of(spec)
    return run_superres(Path(spec.request["layers"]), cube, rules, place, orders=orders, progress=progress)


def _reflectance(stored: np.ndarray, layer: Layer) -> np.ndarray:
    return (stored * np.float32(layer.scale) + np.float32(layer.offset)).astype("float32")


def _trusted(
    pictures: Sequence[np.ndarray], halving: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """What was measured, without what is saturated.

    Args:
        pictures: Bands of 10 m, then of 20 m, on pixels of 10 m; reflectance, without gaps.
        halving: Of the bands of 20 m, see :class:`Source`.

    Returns:
        Bands of 10 m ``(4, rows, columns)`` and of 20 m ``(n, rows / 2, columns / 2)``, whose saturated pixels take the
        nearest others'; where some band is too bright for a network, ``(rows, columns)``; and per band where it holds
        no measurement, likewise.
    """
    fine, coarse, lost = [], [], []
    for picture in pictures[: len(FINE)]:
        gone = saturated(picture, UNSURE)
        fine.append(without(picture, gone, FILLED))
        lost.append(gone)
    for picture, way in zip(pictures[len(FINE) :], halving, strict=True):
        half = halved(picture, way)
        # What cannot be undone exactly has mixed saturated pixels into others as far as two pixels away.
        gone = saturated(half, UNSURE // 2 if way in ("nearest", "bilinear") else UNSURE)
        coarse.append(without(half, gone, FILLED // 2))
        lost.append(_repeated(gone, 2))
    high = np.logical_or.reduce([*lost, *(picture > BRIGHT for picture in pictures)])
    empty = np.empty((0, *(size // 2 for size in high.shape)), "float32")
    return np.stack(fine), np.stack(coarse) if coarse else empty, high, lost


def _repeated(pixels: np.ndarray, scale: int) -> np.ndarray:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def _overlap(fine: Window, old: Window, scale: int) -> bool:
    return all(
        part.start < other.stop * scale and other.start * scale < part.stop
        for part, other in zip(fine, old, strict=True)
    )


def _own(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What a step knows of itself and a finer grid does not change."""
    names = ("cloud_fraction", "shadow_fraction")
    return {name: properties[name] for name in names if name in properties}
