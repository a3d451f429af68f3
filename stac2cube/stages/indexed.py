"""Spectral indices stored as a cube that follows its parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stac2cube.build import build
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.places.place import Place
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress
from stac2cube.stages.viewed import Viewed, Window
from stac2cube.views.mask_recipes import Hiding
from stac2cube.work import Block, Orders, Step, Summary

if TYPE_CHECKING:
    import xarray as xr

STAGE = "indices"
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
        from stac2cube.views.spectral import indices

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

    Running it again follows the cube.

    Args:
        layers: The cube: layers, masked, co-registered or super-resolved.
        out: Path of the new cube, created or extended.
        names: Indices, see :func:`stac2cube.indices`; the cube's layers, float32.
        hiding: What is hidden of the cube before; nothing if None.
        place: Where the work runs; threads of this process if None.

    Returns:
        The cube.

    Raises:
        BadInputError: An index that is unknown, or that the cube has no bands for; nothing is left after hiding.
        CubeMismatchError: The cube was made otherwise.
        IncompleteError: Some steps failed; the others are sealed.
    """
    from stac2cube.cube.reader import open_cube

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
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a cube of indices; raises what :func:`store_indices` and :func:`stac2cube.build.build` do."""
    from stac2cube.views.spectral import recipe_for

    viewed = Viewed.read(layers, hiding or Hiding())
    parent = viewed.parent
    first = next(iter(viewed.rows))
    sample = viewed.window(first).open(slice(0, 1), slice(0, 1))  # also says whether the mask makes sense
    recipes = [recipe_for(sample, name) for name in names]
    made = tuple(Layer(recipe.name, "float32", float("nan"), long_name=recipe.long_name) for recipe in recipes)
    formulas = {recipe.name: recipe.formula for recipe in recipes}
    about = {**parent.spec.recipe, "title": "Spectral indices", "indices": formulas, **viewed.about()}
    spec = CubeSpec(STAGE, parent.spec.grid, made, about, viewed.request())
    steps = [Step(parent.entry(row), viewed.window(key), parent.tiles(row)) for key, row in viewed.rows.items()]
    task = ComputeIndices(tuple(recipe.name for recipe in recipes))
    orders = replace(orders or Orders(), superseded="replace")
    return build(out, spec, steps, task, place, orders=orders, progress=progress)


def follow_indices(cube: Path, place: Place, orders: Orders, progress: Progress | None) -> Summary:
    """Add to a cube of indices what its parents have by now; raises what :func:`store_indices` does."""
    spec = read_root(cube).spec
    names, layers = list(spec.recipe["indices"]), Path(spec.request["layers"])
    return run_indices(layers, cube, names, place, hiding=Viewed.hiding_of(spec), orders=orders, progress=progress)
