"""Views stored as cubes: spectral indices and masked layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stac2cube.build.derived import Derivation, Derived, DerivedPlan, Parent, Parents, derived_cube
from stac2cube.build.plan import Block, Step
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Place
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.stages.composites import Viewed, Window, parts_of_clouds
from stac2cube.store.staging import StoredStep
from stac2cube.views.options import Hiding

if TYPE_CHECKING:
    import xarray as xr


# Spectral indices stored as a cube that follows its parent.


@dataclass(frozen=True)
class IndexRules:
    """Rules of a cube of indices.

    Attributes:
        names: Names of indices in the registry.
        hiding: Which pixels are hidden before indices are computed. Default: none.
    """

    names: tuple[str, ...]
    hiding: Hiding = Hiding()  # noqa: RUF009 - it is frozen

    @classmethod
    def of(cls, spec: CubeSpec) -> IndexRules:
        """The rules that a stored cube names."""
        return cls(tuple(spec.recipe["indices"]), Hiding.of(spec))


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
        CubeMismatchError: The cube was made with other options.
        IncompleteError: Some steps failed; the others are sealed.
    """
    return derived_cube(INDICES, Parents(Path(layers)), out, IndexRules(tuple(names), hiding or Hiding()), place)


def _plan_indices(parents: Parents, rules: IndexRules, _: Derivation) -> DerivedPlan:
    from stac2cube.views.indices import formula_for

    viewed = Viewed.read(parents.layers, rules.hiding)
    recipes = [formula_for(viewed.sample(), name) for name in rules.names]
    made = tuple(Layer(recipe.name, "float32", float("nan"), long_name=recipe.long_name) for recipe in recipes)
    formulas = {recipe.name: recipe.formula for recipe in recipes}
    spec = viewed.spec(INDICES.name, made, {"title": "Spectral indices", "indices": formulas})
    parent = viewed.parent
    steps = [Step(parent.entry(row), viewed.window(key), parent.tiles(row)) for key, row in viewed.rows.items()]
    return DerivedPlan(spec, steps, ComputeIndices(tuple(recipe.name for recipe in recipes)))


INDICES = Derived("indices", IndexRules.of, _plan_indices)
"""The stage of spectral indices: a stored view."""


# Layers without clouds as a cube of their own, for those who cannot mask when they read.

USUAL = ("cloud_mask", "shadow_mask")


@dataclass(frozen=True)
class MaskRules:
    """Rules of a masked cube.

    Attributes:
        masks: Names of masks of the clouds cube. None: those of :data:`USUAL` that it has.
        max_cloud: Steps with a larger fraction of cloud, 0 to 1, are left out. None: no step is left out.
    """

    masks: tuple[str, ...] | None = None
    max_cloud: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            BadInputError: ``max_cloud`` is not between 0 and 1.
        """
        if self.max_cloud is not None and not 0 <= self.max_cloud <= 1:
            raise BadInputError(f"max_cloud is a fraction, 0 to 1, not {self.max_cloud}")

    @classmethod
    def of(cls, spec: CubeSpec) -> MaskRules:
        """The rules that a stored cube names."""
        return cls(tuple(spec.recipe["masked_by"]), spec.recipe["max_cloud"])


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
        CubeMismatchError: The cubes lie on different grids, or the new one was made with other options.
        IncompleteError: Some steps failed; the others are sealed.
    """
    rules = MaskRules(None if masks is None else tuple(masks), max_cloud)
    return derived_cube(MASKED, Parents(Path(layers), clouds=Path(clouds)), out, rules, place)


def _plan_masked(parents: Parents, rules: MaskRules, _: Derivation) -> DerivedPlan:
    assert parents.clouds is not None
    parent, sky = Parent.read(parents.layers), Parent.read(parents.clouds)
    chosen = _masks(sky, rules.masks)
    limit = 1.0 if rules.max_cloud is None else rules.max_cloud
    steps = []
    for row, seen in parent.shared(sky).values():
        entry, tiles = parent.entry(row, cloud_fraction=seen.properties.get("cloud_fraction")), parent.tiles(row)
        entry = replace(entry, parts={**entry.parts, **parts_of_clouds(seen)})
        if float(seen.properties.get("cloud_fraction", 0.0)) > limit:
            entry, tiles = replace(entry, reason=f"more than {100 * limit:g} % cloud"), ()
        steps.append(Step(entry, MaskedStep(parent.stored(row), sky.stored(seen)), tiles))
    if not any(step.tiles for step in steps):
        raise BadInputError(f"{sky.path} has none of the steps of {parent.path} with so little cloud: update it first")
    recipe = {
        **parent.spec.recipe,
        "masked_by": [layer.name for layer in chosen],
        "clouds": dict(sky.spec.recipe),
        "max_cloud": rules.max_cloud,
    }
    request = {"layers": str(parent.path), "clouds": str(sky.path)}
    spec = CubeSpec(MASKED.name, parent.spec.grid, parent.spec.layers, recipe, request)
    return DerivedPlan(spec, steps, HideClouds(parent.spec.layers, chosen))


MASKED = Derived("masked", MaskRules.of, _plan_masked)
"""The stage of layers without clouds. Not a view: it copies stored numbers, so every layer keeps its dtype."""


def _masks(sky: Parent, names: Sequence[str] | None) -> tuple[Layer, ...]:
    there = {layer.name: layer for layer in sky.spec.layers}
    wanted = [name for name in USUAL if name in there] if names is None else list(names)
    lacking = [name for name in wanted if name not in there]
    if lacking or not wanted:
        raise BadInputError(f"{sky.path} has no {', '.join(lacking) or USUAL[0]}: there are {', '.join(there)}")
    return tuple(there[name] for name in wanted)
