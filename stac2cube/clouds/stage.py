"""Stage 2: cloud probability, masks and shadows for every sealed step of a cube."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stac2cube.build.derived import Derivation, Derived, DerivedPlan, Parent, Parents, derived_cube
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, BuildOptions, Measured, Step, Summary, Task
from stac2cube.clouds.model import NODATA, dilated
from stac2cube.clouds.rules import CLOUD, DARK, SHADOW, STAGE, CloudRules, Decode, Engine, cloud_counts
from stac2cube.clouds.s2cloudless import CoarseWindow, cloud_layers, find_l1c_scenes, halo_m
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Place, place_or_threads
from stac2cube.model.classes import pixels_of_class
from stac2cube.model.cube_spec import Layer
from stac2cube.model.mission import find_mission
from stac2cube.progress import Progress
from stac2cube.store.files import remove_tree
from stac2cube.store.metadata import read_root
from stac2cube.store.staging import StoredStep, widened_window
from stac2cube.store.writer import open_writer

if TYPE_CHECKING:
    import xarray as xr


# Clouds from the cube's own classification: Sentinel-2's SCL, Landsat's QA_PIXEL.

CLOUDY = ("cloud", "near_cloud", "cirrus")
"""Classes of :mod:`stac2cube.model.classes` that count as cloud."""


@dataclass(frozen=True)
class ReadClasses:
    """The task that converts the classification of a step to the layers of one block.

    Attributes:
        layer: The classification.
        rules: The rules.
    """

    layer: Layer
    rules: CloudRules

    def __call__(self, step: StoredStep, block: Block) -> Measured:
        """Layers of one block.

        Raises:
            ReadError: The layers cube cannot be read.
        """
        reach = math.ceil(self.rules.dilate_m / block.grid.resolution)
        window = widened_window(block.grid.window(block.tile), reach)
        classes = step.read((self.layer,), window)[self.layer.name]
        inner = tuple(slice(reach, size - reach) for size in classes.shape)
        kind = self.rules.method
        nothing = pixels_of_class(kind, classes, ("nodata",))[inner]
        cloudy = dilated(pixels_of_class(kind, classes, CLOUDY), self.rules.dilate_m, block.grid.resolution)[inner]
        layers = {"cloud_mask": np.where(nothing, np.uint8(NODATA), cloudy.astype("uint8"))}
        flags = np.where(cloudy, np.uint8(CLOUD), np.uint8(0))
        if self.rules.shadows:
            shadow = pixels_of_class(kind, classes, ("shadow",))[inner] & ~cloudy
            layers["shadow_mask"] = np.where(nothing, np.uint8(NODATA), shadow.astype("uint8"))
            flags[shadow] |= SHADOW
        layers["flags"] = np.where(nothing, np.uint8(NODATA), flags)
        return Measured(layers, cloud_counts(layers))


def find_classes(parent: Parent, rules: CloudRules) -> tuple[list[Step], ReadClasses]:
    """The steps of a cube with a classification, and their task.

    Raises:
        BadInputError: The cube has no classification.
    """
    mission = find_mission(parent.mission) if parent.mission else None
    named = {band.name for band in mission.bands.values() if band.common_name == rules.method} if mission else set()
    found = [layer for layer in parent.spec.layers if layer.name in named]
    if not found:
        wanted = "SCL of Sentinel-2 L2A" if rules.method == "scl" else "QA_PIXEL of Landsat"
        raise BadInputError(f"{parent.path} has no {wanted}, which the method {rules.method!r} reads: build it with it")
    steps = [Step(parent.entry(row), parent.stored(row), parent.tiles(row)) for row in parent.rows.values()]
    return steps, ReadClasses(found[0], rules)


# Masks recomputed from the probabilities of a clouds cube, without reading any L1C.

_NEEDED = ("cloud_probability", "flags")


@dataclass(frozen=True)
class ProbabilityStep:
    """Input of a worker for one step: its stored probabilities, and the sun angles."""

    step: StoredStep
    sun: tuple[float, float]


@dataclass(frozen=True)
class Rethreshold:
    """The task that converts stored probabilities to the layers of one block."""

    layers: tuple[Layer, ...]
    rules: CloudRules

    def __call__(self, what: ProbabilityStep, block: Block) -> Measured:
        """Layers of one block.

        Raises:
            ReadError: The clouds cube cannot be read.
        """
        window = CoarseWindow.around(block, self.rules.resolution, halo_m(self.rules, what.sun))
        fine = what.step.read(self.layers, block.grid.window(block.tile))["cloud_probability"]
        # A cell's own probability is that of the pixel at its centre.
        rows, columns = window.middles
        around = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        cells = np.ix_(rows - rows[0], columns - columns[0])
        wide = {name: pixels[cells] for name, pixels in what.step.read(self.layers, around).items()}
        flags = wide["flags"]
        dark = (flags != NODATA) & (flags & DARK != 0)
        return cloud_layers(fine, wide["cloud_probability"], dark, what.sun, window, self.rules)


def rethreshold(
    out: Path, rules: CloudRules, place: Place, *, options: BuildOptions | None = None, progress: Progress | None = None
) -> Summary:
    """Recompute the masks of a clouds cube with other rules, as its next generation.

    Data outside the cube are no longer available: near its edge, shadows of clouds outside are lost.

    Args:
        out: The clouds cube.
        rules: The new rules; method and resolution must be the cube's.
        place: Where the work runs.
        options: Options of the build.
        progress: Advanced for every block.

    Raises:
        BadInputError: It is not a cube of probabilities, or the rules need the L1C.
    """
    parent = Parent.read(out)
    if parent.spec.stage != STAGE or "cloud_probability" not in {layer.name for layer in parent.spec.layers}:
        raise BadInputError(f"{out} holds no cloud probabilities to make masks from")
    old = CloudRules.of(parent.spec)
    if (rules.method, rules.resolution) != (old.method, old.resolution):
        raise BadInputError(f"{out} was made by {old.method} at {old.resolution:g} m: other clouds need the L1C again")
    rules = replace(rules, decode=old.decode)  # the probabilities are not read again
    request = parent.spec.request
    spec = rules.spec(parent.spec, Path(request["layers"]), request["catalog"])
    making = parent.path.with_name(f".{parent.path.name}.remade")  # beside the cube, not beside a link to it
    options = options or BuildOptions()
    with open_writer(out, parent.spec, options.verdict) as writer:
        parent = Parent.read(out)  # nobody else can write from here on
        if making.exists() and read_root(making).spec != spec:
            remove_tree(making)
        needed = tuple(layer for layer in parent.spec.layers if layer.name in _NEEDED)
        steps = [
            Step(replace(row, receipts=()), _remembered(parent, row.key), parent.tiles(row))
            for row in parent.rows.values()
        ]
        summary = build(making, spec, steps, Rethreshold(needed, rules), place, options=options, progress=progress)
        if not summary.exit_code:
            writer.succeed(making)
            summary.replaced, summary.sealed, summary.present = [*parent.rows], [], []
    return summary


def _remembered(parent: Parent, key: str) -> ProbabilityStep:
    row = parent.rows[key]
    sun = (float(row.properties["sun_azimuth"]), float(row.properties["sun_elevation"]))
    return ProbabilityStep(parent.stored(row), sun)


# Stage 2: cloud probability, masks and shadows for every sealed step of a cube, on the cube's own grid.


def get_cloud_layers(
    layers: str | Path,
    out: str | Path,
    *,
    method: str = "s2cloudless",
    thresholds: Sequence[float] = (0.4,),
    average_m: float = 120.0,
    dilate_m: float = 120.0,
    shadows: bool = True,
    resolution: float = 60.0,
    engine: Engine = "forest",
    from_probability: bool = False,
    catalog: str = "auto",
    place: Place | None = None,
    decode: Decode = "exact",
) -> xr.Dataset:
    """Find clouds and shadows for every sealed step of a cube.

    Run it again to add steps that were added to the layers, and to rebuild steps that were rebuilt there.

    Args:
        layers: The cube; of Sentinel-2 for ``s2cloudless``, with SCL for ``scl``, of Landsat for ``qa_pixel``.
        out: Path of the clouds cube, created or extended.
        method: ``"s2cloudless"`` on Sentinel-2 L1C, or the cube's own layer ``"scl"`` or ``"qa_pixel"``.
        thresholds: Cloud probabilities, 0 to 1. The first one makes ``cloud_mask``, others ``cloud_mask_<percent>``.
            For s2cloudless only.
        average_m: Radius over which the probability is averaged first, metres. For s2cloudless only.
        dilate_m: Radius by which masks are widened afterwards, metres.
        shadows: Whether shadows are found.
        resolution: Pixel size at which clouds are found, metres. For s2cloudless only.
        engine: ``"forest"``, the built-in evaluation of the model, or ``"library"``, LightGBM: the same pixels.
        from_probability: Compute the masks of an existing clouds cube again with other thresholds and radii, from its
            stored probabilities, as its next generation. No L1C is read.
        catalog: Where the L1C is: name, URL, path, several with commas, or "auto".
        place: Where the work runs; threads of this process if None.
        decode: How JPEG 2000 is decoded where ``resolution`` is coarser than its pixels. ``"exact"``: all pixels,
            averaged. ``"reduced"``: a lower wavelet level, averaged; faster, and near the edges of clouds a few pixels
            differ (docs/clouds.md has figures). Files of other formats are read alike. For s2cloudless only.

    Returns:
        The clouds cube: ``cloud_probability`` (percent; of s2cloudless), ``cloud_mask`` and ``shadow_mask`` (1 yes, 0
        no), ``flags`` (1 cloud, 2 shadow, 4 dark and no water), all uint8 with dims ``(time, y, x)``, 255 without data;
        along time ``cloud_fraction`` of the pixels with data and ``valid_fraction`` of all.

    Raises:
        BadInputError: An argument is invalid, the cube is of another mission, or a package is missing.
        CatalogError: The catalog cannot be read.
        CubeMismatchError: The clouds cube was made with other options.
        IncompleteError: Some steps failed, for example because there is no L1C of them; the others are sealed.
    """
    from stac2cube.store.reader import open_cube

    rules = CloudRules(method, tuple(thresholds), average_m, dilate_m, shadows, resolution, engine, decode)
    if not from_probability:
        return derived_cube(CLOUDS, Parents(Path(layers), catalog=catalog), out, rules, place)
    rethreshold(Path(out), rules, place_or_threads(place)).require_complete(out)
    return open_cube(out)


def _plan(parents: Parents, rules: CloudRules, making: Derivation) -> DerivedPlan:
    parent, catalog = Parent.read(parents.layers), parents.catalog
    if not rules.by_class or rules.dilate_m:
        parent.spec.grid.require_metres("dilate_m" if rules.by_class else f"the method {rules.method!r}")
    spec = rules.spec(parent.spec, parent.path, catalog)
    making.require_same(spec)
    steps: list[Step]
    task: Task
    if rules.by_class:
        steps, task = find_classes(parent, rules)
    else:
        steps, task = find_l1c_scenes(parent, rules, catalog, on_cluster=making.place.on_cluster)
    return DerivedPlan(spec, steps, task)


CLOUDS = Derived(STAGE, CloudRules.of, _plan)
"""The stage of clouds; ``catalog`` of its inputs is searched for the L1C."""
