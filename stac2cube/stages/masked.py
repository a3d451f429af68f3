"""Layers without clouds as a cube of their own, for those who cannot mask when they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stac2cube.build import build
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.cube.stored import StoredStep
from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.places.place import Place
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress
from stac2cube.stages.follow import Parent
from stac2cube.work import Block, Orders, Step, Summary

if TYPE_CHECKING:
    import xarray as xr

STAGE = "masked"
"""Name of the stage in the cubes it makes."""

USUAL = ("cloud_mask", "shadow_mask")


@dataclass(frozen=True)
class Pair:
    """A step of the layers and the same step of the clouds."""

    layers: StoredStep
    clouds: StoredStep


@dataclass(frozen=True)
class HideClouds:
    """The task.

    Attributes:
        layers: Of the layers cube.
        masks: Of the clouds cube; a pixel is kept where all of them are 0.
    """

    layers: tuple[Layer, ...]
    masks: tuple[Layer, ...]

    def __call__(self, pair: Pair, block: Block) -> dict[str, np.ndarray]:
        """Layers of one block, their fill where hidden; classes and bits stay, they say why.

        Raises:
            ReadError: One of the cubes cannot be read.
        """
        window = block.grid.window(block.tile)
        pixels = pair.layers.read(self.layers, window)
        masks = pair.clouds.read(self.masks, window)
        good = np.logical_and.reduce([mask == 0 for mask in masks.values()])
        return {
            layer.name: pixels[layer.name]
            if layer.flags or layer.bits
            else np.where(good, pixels[layer.name], layer.fill_scalar)
            for layer in self.layers
        }


def apply_masks(
    layers: str | Path,
    clouds: str | Path,
    out: str | Path,
    *,
    masks: Sequence[str] | None = None,
    max_cloud: float | None = None,
    place: Place | None = None,
) -> xr.Dataset:
    """Write a cube of the layers in which clouds, their shadows and what is unknown have no data.

    :func:`stac2cube.mask_clouds` shows the same without writing anything. Running it again follows both cubes: steps
    that have clouds by now are added.

    Args:
        layers: The cube.
        clouds: Its clouds cube.
        out: Path of the new cube, created or extended.
        masks: Names of the masks; ``cloud_mask``, and ``shadow_mask`` where there is one, if None.
        max_cloud: Leave out steps of which more is cloud, 0 to 1.
        place: Where the work runs; threads of this process if None.

    Returns:
        The new cube.

    Raises:
        BadInputError: No such mask, or no step has clouds yet.
        CubeMismatchError: The cubes lie on different grids, or the new one was made otherwise.
        IncompleteError: Some steps failed; the others are sealed.
    """
    from stac2cube.cube.reader import open_cube

    summary = run_masked(Path(layers), Path(clouds), Path(out), masks, max_cloud, place or Threads())
    summary.require_complete(out)
    return open_cube(out)


def run_masked(
    layers: Path,
    clouds: Path,
    out: Path,
    masks: Sequence[str] | None,
    max_cloud: float | None,
    place: Place,
    *,
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a masked cube; raises what :func:`apply_masks` and :func:`stac2cube.build.build` do."""
    parent, sky = Parent.read(layers), Parent.read(clouds)
    if parent.spec.grid != sky.spec.grid:
        raise CubeMismatchError(f"{layers} and {clouds} lie on different grids: make the clouds from this cube")
    if max_cloud is not None and not 0 <= max_cloud <= 1:
        raise BadInputError(f"max_cloud is a fraction, 0 to 1, not {max_cloud}")
    chosen = _masks(sky, masks)
    limit = 1.0 if max_cloud is None else max_cloud
    steps = []
    for key, row in parent.rows.items():
        if (seen := sky.rows.get(key)) is None:
            continue
        entry = parent.entry(row, cloud_fraction=seen.properties.get("cloud_fraction"))
        parts = {f"clouds {part}": version for part, version in seen.parts.items()}
        entry = replace(entry, parts={**entry.parts, **parts})
        tiles = parent.tiles(row)
        if float(seen.properties.get("cloud_fraction", 0.0)) > limit:
            entry, tiles = replace(entry, reason=f"more than {100 * limit:g} % cloud"), ()
        steps.append(Step(entry, Pair(parent.stored(row), sky.stored(seen)), tiles))
    if not any(step.tiles for step in steps):
        raise BadInputError(f"{clouds} has none of the steps of {layers} with that little cloud: update it first")
    spec = CubeSpec(
        stage=STAGE,
        grid=parent.spec.grid,
        layers=parent.spec.layers,
        recipe={
            **parent.spec.recipe,
            "masked_by": [layer.name for layer in chosen],
            "clouds": dict(sky.spec.recipe),
            "max_cloud": max_cloud,
        },
        request={"layers": str(parent.path), "clouds": str(sky.path)},
    )
    orders = replace(orders or Orders(), superseded="replace")
    return build(out, spec, steps, HideClouds(parent.spec.layers, chosen), place, orders=orders, progress=progress)


def follow_masked(cube: Path, place: Place, orders: Orders, progress: Progress | None) -> Summary:
    """Add to a masked cube what its two parents have by now; raises what :func:`apply_masks` does."""
    spec = read_root(cube).spec
    layers, clouds = Path(spec.request["layers"]), Path(spec.request["clouds"])
    chosen = (spec.recipe["masked_by"], spec.recipe["max_cloud"])
    return run_masked(layers, clouds, cube, *chosen, place, orders=orders, progress=progress)


def _masks(sky: Parent, names: Sequence[str] | None) -> tuple[Layer, ...]:
    there = {layer.name: layer for layer in sky.spec.layers}
    wanted = [name for name in USUAL if name in there] if names is None else list(names)
    lacking = [name for name in wanted if name not in there]
    if lacking or not wanted:
        raise BadInputError(f"{sky.path} has no {', '.join(lacking) or USUAL[0]}: there are {', '.join(there)}")
    return tuple(there[name] for name in wanted)
