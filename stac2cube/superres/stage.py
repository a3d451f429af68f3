"""Stage 4: bands of 10 m and 20 m on one grid of 10 m or 2.5 m, and training on the user's cubes."""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from stac2cube.algorithms.raster import halved
from stac2cube.build.clear_pixels import HIDING
from stac2cube.build.derived import Derivation, Derived, DerivedPlan, Parent, Parents, derived_cube, fractions
from stac2cube.build.plan import Block, Measured, Step
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Place
from stac2cube.executors.local import gpu_turn
from stac2cube.model.classes import is_nodata, pixels_of_class
from stac2cube.model.cube_spec import Layer
from stac2cube.model.grid import Grid
from stac2cube.store.staging import StoredStep, Window
from stac2cube.superres.backends import (
    BRIGHT,
    Agreement,
    Gated,
    device_for,
    open_upscaler,
    saturated,
    upscale,
    without,
    without_all,
)
from stac2cube.superres.networks import COARSE, FINE, read_weights, require_torch, sha256_of
from stac2cube.superres.rules import LEARNED, STAGE, SuperresRules, own_weights, ways_back
from stac2cube.superres.train import TrainingArea, judged, train
from stac2cube.superres.weights import all_shipped, shipped

if TYPE_CHECKING:
    import xarray as xr


# Training of our networks on the user's cubes.

EDGE = 128
"""Edge of the parts of scenes for training and scoring, pixels of 10 m."""

MOST = 48
"""Most parts that are used, spread over positions and dates."""

HELD_OUT = 5
"""Every fifth position is for scoring and never for training, whatever the date."""

QUICK = {"sharpen": 500, "fuse": 400}
"""Training steps when starting from the shipped weights: minutes on one core."""


def train_on(
    cubes: Sequence[Path],
    out: Path,
    *,
    steps: Mapping[str, int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    told: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train on cubes, starting from the shipped weights, and score on parts of them that were held out.

    Args:
        cubes: Layers of Sentinel-2 with all ten bands, pixels of 10 m.
        out: The safetensors file; beside it a card, ``.json``: data, seed, figures.
        steps: Steps per network; :data:`QUICK` if None.
        seed: Decides the order of the samples.
        device: ``"cpu"`` or ``"cuda"``.
        told: Called with messages about progress.

    Returns:
        The file.

    Raises:
        BadInputError: A band is missing, or there are too few clear pixels.
    """
    require_torch()
    from safetensors.torch import save_file

    begun = time.monotonic()
    learn: list[TrainingArea] = []
    unseen: dict[str, TrainingArea] = {}
    for cube in cubes:
        mine, others = training_areas(Parent.read(cube))
        learn += mine
        unseen |= {f"{cube.name} {name}": part for name, part in others.items()}
    if not learn or not unseen:
        raise BadInputError(
            f"{', '.join(map(str, cubes))}: too little is clear to train on: {EDGE} x {EDGE} pixels without cloud or "
            f"gap at {HELD_OUT} places or more are needed"
        )
    told(f"{len(learn)} parts of {EDGE} x {EDGE} pixels teach, {len(unseen)} judge")
    networks = train(
        learn,
        steps=QUICK if steps is None else steps,
        seed=seed,
        start=read_weights(shipped()),
        device=device,
        told=lambda name, step, loss: told(f"{name}: step {step}, loss {loss:.4f}"),
    )
    tensors = {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    save_file(tensors, part, metadata={"generation": "2"})
    part.rename(out)
    card = {
        "made_from": [str(cube) for cube in cubes],
        "seed": seed,
        "steps": dict(QUICK if steps is None else steps),
        "parts": {"taught": len(learn), "judged": len(unseen)},
        "seconds": round(time.monotonic() - begun, 1),
        "sha256": sha256_of(out),
        "figures": mean_figures(judged(unseen, Gated(networks, "cpu"))),
        "words": "a grid of 2.5 m, not details of 2.5 m",
    }
    out.with_suffix(".json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    return out


def mean_figures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over scenes, per step and method."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["method"]), []).append(row)
    names = ("psnr", "rmse", "sam", "ergas")
    return [
        {"step": step, "method": method, **{name: round(float(np.mean([r[name] for r in some])), 5) for name in names}}
        for (step, method), some in groups.items()
    ]


def training_areas(parent: Parent) -> tuple[list[TrainingArea], dict[str, TrainingArea]]:
    """Clear parts of a cube for training, and others, at other positions, for scoring.

    Raises:
        BadInputError: A band is missing.
    """
    layers = {layer.name: layer for layer in parent.spec.layers}
    lacking = [band for band in (*FINE, *COARSE) if band not in layers]
    if lacking or abs(parent.spec.grid.resolution - 10) > 1e-6:
        raise BadInputError(f"{parent.path} lacks {', '.join(lacking) or 'pixels of 10 m'}: nothing to train on")
    bands = [layers[band] for band in (*FINE, *COARSE)]
    learn: list[TrainingArea] = []
    unseen: dict[str, TrainingArea] = {}
    looked = list(_places(parent.spec.grid))
    keys = list(parent.rows)
    for turn in range(len(keys)):
        for number, (top, left) in enumerate(looked):
            key = keys[(turn + number) % len(keys)]
            judges = number % HELD_OUT == HELD_OUT - 1
            if len(unseen) >= MOST // HELD_OUT if judges else len(learn) >= MOST:
                continue
            window = slice(top, top + EDGE), slice(left, left + EDGE)
            stored = parent.stored(parent.rows[key]).read((*bands, *_classes(parent)), window)
            if any(is_nodata(stored[layer.name], layer.fill).any() for layer in bands) or _cloudy(parent, stored):
                continue
            ways = ways_back(parent.spec, bands, parent.rows[key])
            values = [stored[b.name] * np.float32(b.scale) + np.float32(b.offset) for b in bands]
            if max(float(picture.max()) for picture in values) > BRIGHT:
                continue
            coarse = [halved(picture, way) for picture, way in zip(values[len(FINE) :], ways, strict=True)]
            truth = TrainingArea(np.stack(values[: len(FINE)]), np.stack(coarse))
            if judges:
                unseen[f"{key} {top},{left}"] = truth
            else:
                learn.append(truth)
    return learn, unseen


def _places(grid: Grid) -> list[tuple[int, int]]:
    rows, columns = grid.shape
    places = [(t, le) for t in range(0, rows - EDGE + 1, EDGE) for le in range(0, columns - EDGE + 1, EDGE)]
    order = np.random.default_rng(0).permutation(len(places))
    return [places[place] for place in order]


def _classes(parent: Parent) -> tuple[Layer, ...]:
    return tuple(layer for layer in parent.spec.layers if layer.name == "SCL")


def _cloudy(parent: Parent, stored: Mapping[str, np.ndarray]) -> bool:
    return any(bool(pixels_of_class("scl", stored[layer.name], HIDING).any()) for layer in _classes(parent))


# Stage 4: bands of 10 and 20 m on one grid of 10 or 2.5 m. The pixels are of that size, the details are not.

log = logging.getLogger(__name__)

UNSURE = 2
"""Pixels of 10 m around missing data that become missing, too: the optics mix them."""


FILLED = 8
"""Pixels of 10 m by which a gap is filled from its surroundings, so that its edge does not ring."""


@dataclass(frozen=True)
class SuperresStep:
    """One step to be super-resolved.

    Attributes:
        step: Its stored pixels.
        halving: Method per band of 20 m to recover its own pixels from the cube's, see
            :func:`stac2cube.algorithms.raster.halved`.
    """

    step: StoredStep
    halving: tuple[str, ...]


@dataclass(frozen=True)
class Upscale:
    """The task of a block.

    Attributes:
        layers: Layers of the new cube.
        rules: Options.
        weights: File or folder of the weights.
    """

    layers: tuple[Layer, ...]
    rules: SuperresRules
    weights: str

    def __call__(self, source: SuperresStep, block: Block) -> Measured:
        """Make the layers of one block, tile after tile.

        Raises:
            ReadError: The cube cannot be read.
            BadInputError: There is no GPU although one was requested, or weights are missing.
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
        self, source: SuperresStep, window: Window, shape: tuple[int, int]
    ) -> tuple[dict[str, np.ndarray], dict[str, tuple[float, float]]]:
        """Layers of a window of the cube of 10 m, whose shape is given, and sums and weights of the residuals."""
        rules = self.rules
        device = device_for(rules.device) if rules.backend in LEARNED else "cpu"
        upscaler = open_upscaler(rules.backend, self.weights, device)
        margin = self.rules.margin
        # Even sizes, so that they match the sensor's own 20 m pixels.
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
            made, left = upscale(upscaler, Agreement.by(rules), fine, coarse, names, rules.target, bright)
        left["bright_fraction"] = bright.astype("float32")
        # Pixels outside the cube are not missing data: they were never requested.
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
            if scale == 1 and layer.name in FINE:  # as measured, values of saturation included
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
        """Layers of classes, which are never interpolated."""
        return [layer for layer in self.layers if layer.name not in (*FINE, *COARSE)]


def super_resolution(
    layers: str | Path, out: str | Path, *, rules: SuperresRules | None = None, place: Place | None = None
) -> xr.Dataset:
    """Bring the bands of a Sentinel-2 cube to one grid of 2.5 m, or of 10 m.

    20 m to 10 m, guided by the bands of 10 m, can be trusted; docs/superres.md has the figures. 10 m to 2.5 m makes
    pictures on a grid of 2.5 m that agree with the measured pixels; details between these are likely, not measured.

    Args:
        layers: A cube of 10 m pixels, as layers, masked or co-registered, with the bands of 20 m in them.
        out: Path of the new cube, created or extended.
        rules: Target, backend and options. Default: the shipped networks, to 2.5 m, consistent with the
            sensor's optics.
        place: Place where blocks are made; threads of this process if None.

    Returns:
        The cube: bands in the stored form of the layers; classes repeated, never interpolated; along time
        ``residual_mtf`` and ``residual_mean``, reflectance, and ``bright_fraction``, the part of the pixels that are
        saturated or brighter than a reflectance of 1.2 in some band: no network was used for these and their
        surroundings. A saturated band has no data there.

    Raises:
        BadInputError: An argument is invalid, bands are missing, the cube does not have pixels of 10 m, weights or
            torch are missing, or the result would be very large.
        CubeMismatchError: The cube was made with other options.
        IncompleteError: Some steps failed; the others are sealed.
    """
    return derived_cube(SUPERRES, Parents(Path(layers)), out, rules or SuperresRules(), place)


def _plan(parents: Parents, rules: SuperresRules, making: Derivation) -> DerivedPlan:
    parent, out = Parent.read(parents.layers), making.out
    if rules.backend == "selftrain" and not rules.weights and not own_weights(out).exists():
        train_on([parent.path], own_weights(out))
    weights = rules.weights_of(out)
    _warn_of(rules, parents.layers, out, weights)
    seen = open_upscaler(rules.backend, weights, "cpu").radius  # before anything is written
    if seen > rules.margin:
        raise BadInputError(f"{rules.backend} looks at {seen} pixels around a tile: use a margin of that, or more")
    if rules.backend in LEARNED and not making.place.on_cluster:
        device_for(rules.device)
    spec = rules.spec(parent.spec, parent.path, weights)
    making.require_same(spec)
    scale, tiles = rules.scale, list(spec.grid.tiles())
    steps = []
    for row in parent.rows.values():
        near = {
            tile
            for tile in tiles
            if any(_overlap(spec.grid.window(tile), parent.spec.grid.window(old), scale) for old in parent.tiles(row))
        }
        entry = parent.entry(row, **fractions(row))
        source = SuperresStep(parent.stored(row), ways_back(parent.spec, spec.layers, row))
        steps.append(Step(entry, source, tuple(tile for tile in tiles if tile in near)))
    return DerivedPlan(spec, steps, Upscale(spec.layers, rules, weights))


SUPERRES = Derived(STAGE, SuperresRules.of, _plan)
"""The stage of super-resolution."""


def _warn_of(rules: SuperresRules, layers: Path, out: Path, weights: str) -> None:
    """Log what is wrong with the weights with which an older cube was made, and how to rebuild the cube."""
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


def _reflectance(stored: np.ndarray, layer: Layer) -> np.ndarray:
    return (stored * np.float32(layer.scale) + np.float32(layer.offset)).astype("float32")


def _trusted(
    pictures: Sequence[np.ndarray], halving: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Measured reflectance without saturated pixels.

    Args:
        pictures: Bands of 10 m, then of 20 m, on pixels of 10 m; reflectance, without gaps.
        halving: Methods for the bands of 20 m, see :class:`SuperresStep`.

    Returns:
        Bands of 10 m ``(4, rows, columns)`` and of 20 m ``(n, rows / 2, columns / 2)``, whose saturated pixels have the
        values of the nearest others; a mask of pixels where some band is too bright for a network, ``(rows, columns)``;
        and such a mask per band of pixels without a measurement.
    """
    fine, coarse, lost = [], [], []
    for picture in pictures[: len(FINE)]:
        gone = saturated(picture, UNSURE)
        fine.append(without(picture, gone, FILLED))
        lost.append(gone)
    for picture, way in zip(pictures[len(FINE) :], halving, strict=True):
        half = halved(picture, way)
        # A method that is not exact has mixed saturated pixels into others as far as two pixels away.
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
