"""Masks made anew from the probabilities that a clouds cube holds, without reading any L1C."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stac2cube.build import build
from stac2cube.cube.files import remove_tree
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import Layer
from stac2cube.cube.stored import StoredStep
from stac2cube.cube.writer import open_writer
from stac2cube.errors import BadInputError
from stac2cube.kernels.cloud import NODATA
from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.stages.cloud_rules import DARK, STAGE, CloudRules
from stac2cube.stages.cloud_spectra import cloud_layers, halo_m
from stac2cube.stages.coarse import CoarseWindow
from stac2cube.stages.follow import Parent
from stac2cube.work import Block, Measured, Orders, Step, Summary

_NEEDED = ("cloud_probability", "flags")


@dataclass(frozen=True)
class Remembered:
    """What a worker needs to know of one step: where its probabilities are, and where the sun stood."""

    step: StoredStep
    sun: tuple[float, float]


@dataclass(frozen=True)
class MaskAgain:
    """The task: stored probabilities into the layers of one block."""

    layers: tuple[Layer, ...]
    rules: CloudRules

    def __call__(self, what: Remembered, block: Block) -> Measured:
        """Layers of one block.

        Raises:
            ReadError: The clouds cube cannot be read.
        """
        window = CoarseWindow.around(block, self.rules.resolution, halo_m(self.rules, what.sun))
        fine = what.step.read(self.layers, block.grid.window(block.tile))["cloud_probability"]
        # A cell's own probability is that of the pixel in its middle.
        rows, columns = window.middles
        around = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        cells = np.ix_(rows - rows[0], columns - columns[0])
        wide = {name: pixels[cells] for name, pixels in what.step.read(self.layers, around).items()}
        flags = wide["flags"]
        dark = (flags != NODATA) & (flags & DARK != 0)
        return cloud_layers(fine, wide["cloud_probability"], dark, what.sun, window, self.rules)


def mask_again(
    out: Path, rules: CloudRules, place: Place, *, orders: Orders | None = None, progress: Progress | None = None
) -> Summary:
    """Make the masks of a clouds cube anew, by other rules, as its next generation.

    What lies outside the cube is not known any more: near its edge, shadows of clouds beyond it go.

    Args:
        out: The clouds cube.
        rules: The new rules; method and resolution must be the cube's.
        place: Where.
        orders: How to behave.
        progress: Told of every block.

    Raises:
        BadInputError: No cube of probabilities, or rules that need the L1C.
    """
    parent = Parent.read(out)
    if parent.spec.stage != STAGE or "cloud_probability" not in {layer.name for layer in parent.spec.layers}:
        raise BadInputError(f"{out} holds no cloud probabilities to make masks from")
    old = CloudRules.of(parent.spec)
    if (rules.method, rules.resolution) != (old.method, old.resolution):
        raise BadInputError(f"{out} was made by {old.method} at {old.resolution:g} m: other clouds need the L1C again")
    request = parent.spec.request
    spec = rules.spec(parent.spec, Path(request["layers"]), request["catalog"])
    making = parent.path.with_name(f".{parent.path.name}.remade")  # beside the cube, not beside a link to it
    orders = orders or Orders()
    with open_writer(out, parent.spec, orders.verdict) as writer:
        parent = Parent.read(out)  # nobody else writes from here on
        if making.exists() and read_root(making).spec != spec:
            remove_tree(making)
        needed = tuple(layer for layer in parent.spec.layers if layer.name in _NEEDED)
        steps = [
            Step(replace(row, receipts=()), _remembered(parent, row.key), parent.tiles(row))
            for row in parent.rows.values()
        ]
        summary = build(making, spec, steps, MaskAgain(needed, rules), place, orders=orders, progress=progress)
        if not summary.exit_code:
            writer.succeed(making)
            summary.replaced, summary.sealed, summary.present = [*parent.rows], [], []
    return summary


def _remembered(parent: Parent, key: str) -> Remembered:
    row = parent.rows[key]
    sun = (float(row.properties["sun_azimuth"]), float(row.properties["sun_elevation"]))
    return Remembered(parent.stored(row), sun)
