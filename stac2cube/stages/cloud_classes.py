"""Clouds as the cube's own classification has them: Sentinel-2's SCL, Landsat's QA_PIXEL."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stac2cube.cube.spec import Layer
from stac2cube.cube.stored import StoredStep, widened
from stac2cube.errors import BadInputError
from stac2cube.kernels.classes import says
from stac2cube.kernels.cloud import NODATA
from stac2cube.kernels.mask import dilated
from stac2cube.mission import find_mission
from stac2cube.stages.cloud_rules import CLOUD, SHADOW, CloudRules, counted
from stac2cube.stages.follow import Parent
from stac2cube.work import Block, Measured, Step

CLOUDY = ("cloud", "near_cloud", "cirrus")
"""Words of :mod:`stac2cube.kernels.classes` that count as cloud."""


@dataclass(frozen=True)
class ReadClasses:
    """The task: the classification of a step into the layers of one block.

    Attributes:
        layer: The classification.
        rules: What decides.
    """

    layer: Layer
    rules: CloudRules

    def __call__(self, step: StoredStep, block: Block) -> Measured:
        """Layers of one block.

        Raises:
            ReadError: The layers cube cannot be read.
        """
        reach = math.ceil(self.rules.dilate_m / block.grid.resolution)
        window = widened(block.grid.window(block.tile), reach)
        classes = step.read((self.layer,), window)[self.layer.name]
        inner = tuple(slice(reach, size - reach) for size in classes.shape)
        kind = self.rules.method
        nothing = says(kind, classes, ("nodata",))[inner]
        cloudy = dilated(says(kind, classes, CLOUDY), self.rules.dilate_m, block.grid.resolution)[inner]
        layers = {"cloud_mask": np.where(nothing, np.uint8(NODATA), cloudy.astype("uint8"))}
        flags = np.where(cloudy, np.uint8(CLOUD), np.uint8(0))
        if self.rules.shadows:
            shadow = says(kind, classes, ("shadow",))[inner] & ~cloudy
            layers["shadow_mask"] = np.where(nothing, np.uint8(NODATA), shadow.astype("uint8"))
            flags[shadow] |= SHADOW
        layers["flags"] = np.where(nothing, np.uint8(NODATA), flags)
        return Measured(layers, counted(layers))


def find_classes(parent: Parent, rules: CloudRules) -> tuple[list[Step], ReadClasses]:
    """Every step of a cube that has the classification.

    Raises:
        BadInputError: It has none.
    """
    mission = find_mission(parent.mission) if parent.mission else None
    named = {band.name for band in mission.bands.values() if band.common_name == rules.method} if mission else set()
    found = [layer for layer in parent.spec.layers if layer.name in named]
    if not found:
        wanted = "SCL of Sentinel-2 L2A" if rules.method == "scl" else "QA_PIXEL of Landsat"
        raise BadInputError(f"{parent.path} has no {wanted}, which the method {rules.method!r} reads: build it with it")
    steps = [Step(parent.entry(row), parent.stored(row), parent.tiles(row)) for row in parent.rows.values()]
    return steps, ReadClasses(found[0], rules)
