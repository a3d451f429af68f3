"""Views stored as cubes: spectral indices and masked layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stac2cube.build.derived import Parent
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, BuildOptions, Step, Summary
from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.executors.base import Place, Threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.progress import Progress
from stac2cube.stages.composites import Viewed, Window
from stac2cube.store.metadata import read_root
from stac2cube.store.staging import StoredStep
from stac2cube.views.options import Hiding

if TYPE_CHECKING:
    import xarray as xr


# Spectral indices stored as a cube that follows its parent.

INDICES = "indices"
"""Name of the stage in the cubes it makes."""


@dataclass(frozen=True)
class ComputeIndices:
    """The task: indices of one step.

    Attributes:
        names: In the registry.
    """

    names: tuple[str, ...]

    def __call__(self, window: Window, block: Block) -> dict[str, np.ndarray]:
        """Indices of one block, float32, NaN without data."""
        from stac2cube.views.indices import indices

        made = indices(window.open(*block.grid.window(block.tile)), self.names)
        return {str(name): layer.values[0].astype("float32") for name, layer in made.data_vars.items()}


def store_indices(
    layers: str | Path,
    out: str | Path,
    names: Sequence[str],
    *,
    hiding: Hiding | None = None,
    place: Place | None = None,
) -> xr.Dataset:
    """Store spectral indices of every step of a cube.

    Run it again to add new steps of the cube, and to rebuild steps that were rebuilt there.

    Args:
        layers: The cube: layers, masked, co-registered or super-resolved.
        out: Path of the new cube, created or extended.
        names: Indices, see :func:`stac2cube.indices`; the cube's layers, float32.
        hiding: Which pixels are hidden first; none if None.
        place: Where the work runs; threads of this process if None.

    Returns:
        The cube.

    Raises:
        BadInputError: An index that is unknown, or that the cube has no bands for; nothing is left after hiding.
        CubeMismatchError: The cube was made otherwise.
        IncompleteError: Some steps failed; the others are sealed.
    """
    from stac2cube.store.reader import open_cube

    summary = run_indices(Path(layers), Path(out), names, place or Threads(), hiding=hiding)
    summary.require_complete(out)
    return open_cube(out)


def run_indices(
    layers: Path,
    out: Path,
    names: Sequence[str],
    place: Place,
    *,
    hiding: Hiding | None = None,
    orders: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a cube of indices; raises as :func:`store_indices` and :func:`stac2cube.build.loop.build`."""
    from stac2cube.views.indices import formula_for

    viewed = Viewed.read(layers, hiding or Hiding())
    parent = viewed.parent
    first = next(iter(viewed.rows))
    sample = viewed.window(first).open(slice(0, 1), slice(0, 1))  # also says whether the mask makes sense
    recipes = [formula_for(sample, name) for name in names]
    made = tuple(Layer(recipe.name, "float32", float("nan"), long_name=recipe.long_name) for recipe in recipes)
    formulas = {recipe.name: recipe.formula for recipe in recipes}
    about = {**parent.spec.recipe, "title": "Spectral indices", "indices": formulas, **viewed.about()}
    spec = CubeSpec(INDICES, parent.spec.grid, made, about, viewed.request())
    steps = [Step(parent.entry(row), viewed.window(key), parent.tiles(row)) for key, row in viewed.rows.items()]
    task = ComputeIndices(tuple(recipe.name for recipe in recipes))
    orders = replace(orders or BuildOptions(), superseded="replace")
    return build(out, spec, steps, task, place, orders=orders, progress=progress)


def follow_indices(cube: Path, place: Place, orders: BuildOptions, progress: Progress | None) -> Summary:
    """Add to a cube of indices what its parents have by now; raises what :func:`store_indices` does."""
    spec = read_root(cube).spec
    names, layers = list(spec.recipe["indices"]), Path(spec.request["layers"])
    return run_indices(layers, cube, names, place, hiding=Hiding.of(spec), orders=orders, progress=progress)


# Layers without clouds as a cube of their own, for those who cannot mask when they read.

MASKED = "masked"
"""Name of the stage in the cubes it makes."""

USUAL = ("cloud_mask", "shadow_mask")


@dataclass(frozen=True)
class MaskedStep:
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

    def __call__(self, pair: MaskedStep, block: Block) -> dict[str, np.ndarray]:
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

    :func:`stac2cube.mask_clouds` gives the same as a view, without writing. Run it again to add steps that have clouds
    now.

    Args:
        layers: The cube.
        clouds: Its clouds cube.
        out: Path of the new cube, created or extended.
        masks: Names of the masks; ``cloud_mask``, and ``shadow_mask`` where there is one, if None.
        max_cloud: Leave out steps with a larger fraction of cloud, 0 to 1.
        place: Where the work runs; threads of this process if None.

    Returns:
        The new cube.

    Raises:
        BadInputError: No such mask, or no step has clouds yet.
        CubeMismatchError: The cubes lie on different grids, or the new one was made otherwise.
        IncompleteError: Some steps failed; the others are sealed.
    """
    from stac2cube.store.reader import open_cube

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
    orders: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a masked cube; raises what :func:`apply_masks` and :func:`stac2cube.build.loop.build` do."""
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
        steps.append(Step(entry, MaskedStep(parent.stored(row), sky.stored(seen)), tiles))
    if not any(step.tiles for step in steps):
        raise BadInputError(f"{clouds} has none of the steps of {layers} with that little cloud: update it first")
    spec = CubeSpec(
        stage=MASKED,
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
    orders = replace(orders or BuildOptions(), superseded="replace")
    return build(out, spec, steps, HideClouds(parent.spec.layers, chosen), place, orders=orders, progress=progress)


def follow_masked(cube: Path, place: Place, orders: BuildOptions, progress: Progress | None) -> Summary:
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
