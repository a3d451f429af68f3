"""Views stored as cubes that follow their parent: composites in time, spectral indices and masked layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.build.derived import Derivation, Derived, DerivedPlan, Parent, Parents, derived_cube
from stac2cube.build.plan import Block, Step
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Place
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.store.ledger import PERIOD_END, SEALED, Entry
from stac2cube.store.metadata import read_root
from stac2cube.store.staging import StoredStep
from stac2cube.views.options import Composition, Hiding

if TYPE_CHECKING:
    import xarray as xr

    from stac2cube.views.composite import CalendarPeriod

# Steps of a cube as inputs of views, for the workers that store views.


@dataclass(frozen=True)
class Viewed:
    """A cube with hidden pixels.

    Attributes:
        parent: The cube.
        hiding: Rules of what is hidden.
        rows: Its sealed steps that are also in the clouds cube, if there is one, oldest first, by key. Their parts are
            those of both cubes, so that a step becomes outdated if its clouds are rebuilt.
        clouds: Specification of the clouds cube, None if there is none.
    """

    parent: Parent
    hiding: Hiding
    rows: Mapping[str, Entry]
    clouds: CubeSpec | None = None

    @classmethod
    def read(cls, layers: Path, hiding: Hiding) -> Viewed:
        """Read a cube and its clouds.

        Raises:
            CubeError: Not a cube.
            CubeMismatchError: The clouds are on another grid.
            BadInputError: There is no step yet, or none with clouds.
        """
        parent = Parent.read(layers)
        if not hiding.clouds:
            return cls(parent, hiding, parent.rows)
        sky = Parent.read(hiding.clouds)
        rows = {
            key: replace(row, parts={**row.parts, **parts_of_clouds(seen)})
            for key, (row, seen) in parent.shared(sky).items()
        }
        if not rows:
            raise BadInputError(f"{hiding.clouds} has none of the steps of {layers}: update it first")
        return cls(parent, replace(hiding, clouds=str(sky.path)), rows, sky.spec)

    def window(self, *keys: str) -> Window:
        """Some of its steps, as the input of a worker."""
        cubes = [str(self.parent.path), *([self.hiding.clouds] if self.hiding.clouds else [])]
        commits = tuple(read_root(Path(cube)).commit for cube in cubes)
        return Window(str(self.parent.path), commits, keys, self.hiding)

    def sample(self) -> xr.Dataset:
        """One pixel of one step, which reveals the layers of a view, and whether mask and rules are valid."""
        return self.window(next(iter(self.rows))).open(slice(0, 1), slice(0, 1))

    def spec(self, stage: str, layers: tuple[Layer, ...], about: Mapping[str, Any]) -> CubeSpec:
        """Spec of the cube that stores a view.

        Args:
            stage: Name of the stage.
            layers: Layers of the view.
            about: Entries of the recipe that describe the view; mask and clouds are added.
        """
        hiding, parent = self.hiding, self.parent
        mask = {"mask": hiding.mask} if hiding.mask else {}
        clouds = {} if self.clouds is None else {"clouds": dict(self.clouds.recipe)}
        request = {"layers": str(parent.path), **({"clouds": hiding.clouds} if hiding.clouds else {})}
        return CubeSpec(stage, parent.spec.grid, layers, {**parent.spec.recipe, **about, **mask, **clouds}, request)


@dataclass(frozen=True)
class Window:
    """Some steps of a cube, as the input of a worker.

    Attributes:
        cube: Path of the cube.
        commits: Commits of the cube and its clouds when the work was planned.
        keys: Keys of the steps.
        hiding: Rules of what is hidden.
    """

    cube: str
    commits: tuple[int, ...]
    keys: tuple[str, ...]
    hiding: Hiding = Hiding()  # noqa: RUF009 - it is frozen

    def open(self, rows: slice, columns: slice) -> xr.Dataset:
        """The steps in a window of the grid, decoded, lazily."""
        dataset = _opened(self.cube, self.commits)
        known = {key: place for place, key in enumerate(dataset["scene"].values)}
        part = dataset.isel(time=[known[key] for key in self.keys], y=rows, x=columns)
        return self.hiding.apply(part) if self.hiding else part


@lru_cache(maxsize=4)
def _opened(cube: str, commits: tuple[int, ...]) -> xr.Dataset:  # noqa: ARG001 - other commits are another cube
    from stac2cube.store.reader import open_cube

    return open_cube(cube, chunks=None)


def parts_of_clouds(row: Entry) -> dict[str, str]:
    """Parts of a step of a clouds cube, under their names in steps derived from it."""
    return {f"clouds {part}": version for part, version in row.parts.items()}


# Stored composites in time: a step per period, rebuilt when its scenes change.

EPOCH = np.datetime64("1970-01-01")
"""Days of ``observed`` are counted from here."""

MEMORY = 256 * 2**20
"""Default memory in bytes for composing a block, besides its output."""

SMALLEST_EDGE = 32
"""Smallest edge in pixels into which a block is divided."""

Piece = tuple[slice, slice]
"""Rows and columns of a grid."""


@dataclass(frozen=True)
class ComposePeriod:
    """The task that makes one picture from the steps of a period; see :func:`stac2cube.views.composite.composite`.

    Attributes:
        method: Method of the composite.
        by: Criterion of the method ``"best"``.
        layers: Layers to compose, None for all that are not classes.
        memory: Most bytes of memory besides the output: a block is processed in pieces that fit.
    """

    method: str
    by: str | None = None
    layers: tuple[str, ...] | None = None
    memory: int = MEMORY

    def __call__(self, window: Window, block: Block) -> dict[str, np.ndarray]:
        """Layers of one block, float32, and counts."""
        whole = block.grid.window(block.tile)
        shape = tuple(part.stop - part.start for part in whole)
        one = window.open(*(slice(part.start, part.start + 1) for part in whole))
        count = len(self.layers or one.data_vars) + (1 if self.by else 0)
        # Every layer is held as float32; the current one is also decoded, sorted and computed in float64.
        most = self.memory // (len(window.keys) * (4 * count + 40))
        out: dict[str, np.ndarray] = {}
        for rows, columns in pieces(whole, block.grid.chunk, most):
            here = tuple(
                slice(part.start - start.start, part.stop - start.start)
                for part, start in zip((rows, columns), whole, strict=True)
            )
            for name, values in self._compose(window.open(rows, columns)).items():
                out.setdefault(name, np.empty(shape, values.dtype))[here] = values
        return out

    def _compose(self, steps: xr.Dataset) -> dict[str, np.ndarray]:
        from stac2cube.views.composite import composite

        made = composite(steps, "all", self.method, by=self.by, layers=self.layers).isel(time=0)
        made = made.load(scheduler="synchronous")  # the place decides on the number of threads
        out = {}
        for name, layer in made.data_vars.items():
            values = layer.values
            if values.dtype.kind == "M":
                days = (values.astype("datetime64[D]") - EPOCH).astype("float64")
                values = np.where(np.isnat(layer.values), 0, days).astype("uint16")
            out[str(name)] = values
        return out


def pieces(whole: Piece, chunk: tuple[int, int], most: int) -> Iterator[Piece]:
    """Divide a block into pieces of limited size: of whole chunks if one fits, so that each is read once.

    Args:
        whole: Rows and columns of the block.
        chunk: Rows and columns of a chunk of the stored cube.
        most: Most pixels of a piece; one with the edge :data:`SMALLEST_EDGE` may have more.
    """
    height, width = chunk
    columns = whole[1].stop - whole[1].start
    if most >= height * width:
        width = min(columns, most // height // width * width)
        height = most // width // height * height
    else:
        height = width = max(SMALLEST_EDGE, 2 ** int(math.log2(max(math.isqrt(most), 1))))
    for top in range(whole[0].start, whole[0].stop, height):
        for left in range(whole[1].start, whole[1].stop, width):
            yield slice(top, min(top + height, whole[0].stop)), slice(left, min(left + width, whole[1].stop))


def store_composites(
    layers: str | Path,
    out: str | Path,
    composition: Composition | None = None,
    *,
    place: Place | None = None,
    memory: int = MEMORY,
) -> xr.Dataset:
    """Store one composite per period of a cube, for example monthly medians.

    Run it again to rebuild periods that gained or lost scenes.

    Args:
        layers: The cube.
        out: Path of the new cube, created or extended.
        composition: Rules of the composites; monthly medians if None.
        place: Where the work runs; threads of this process if None.
        memory: Bytes held at once for each block being made, besides its output.

    Returns:
        The cube: a step per period that has scenes, at its beginning; layers float32, ``n_valid`` uint16, for
        ``"medoid"`` and ``"best"`` also ``observed``, days since 1970.

    Raises:
        BadInputError: Unknown method, period, layer, index or mask.
        CubeMismatchError: The cube was made with other options, or its clouds are on another grid.
        IncompleteError: Some periods failed; the others are sealed.
    """
    return derived_cube(composites_within(memory), Parents(Path(layers)), out, composition or Composition(), place)


def composites_within(memory: int) -> Derived[Composition]:
    """The stage of composites: a stored view with one step per period, rebuilt when scenes change, arrive or leave.

    Args:
        memory: Memory for the input of each block that is being made, in bytes.
    """
    return Derived("composite", Composition.of, partial(_plan, memory))


def _plan(memory: int, parents: Parents, rules: Composition, _: Derivation) -> DerivedPlan:
    from stac2cube.views.composite import composite

    viewed = Viewed.read(parents.layers, rules.hiding)
    sample = composite(viewed.sample(), "all", rules.method, by=rules.by, layers=rules.layers)
    made = tuple(_layer(str(name), layer) for name, layer in sample.data_vars.items())
    about = {"title": f"{rules.method} per {rules.period}", "composite": rules.to_json()}
    task = ComposePeriod(rules.method, rules.by, rules.layers, memory)
    return DerivedPlan(viewed.spec(COMPOSITE.name, made, about), _steps(viewed, rules), task, exact=True)


COMPOSITE = composites_within(MEMORY)


def _steps(viewed: Viewed, composition: Composition) -> list[Step]:
    """A step per period that has scenes."""
    from stac2cube.views.composite import periods_of

    rows = list(viewed.rows.values())
    times = np.array([row.time.astimezone(UTC).replace(tzinfo=None) for row in rows], "datetime64[us]")
    grid, steps = viewed.parent.spec.grid, []
    for period in periods_of(times, composition.period, composition.window):
        here = [rows[place] for place in period.places]
        if here:
            tiles = {tile for row in here for tile in viewed.parent.tiles(row)}
            window = viewed.window(*(row.key for row in here))
            entry = _entry(here, period, composition)
            steps.append(Step(entry, window, tuple(tile for tile in grid.tiles() if tile in tiles)))
    return steps


def _entry(rows: Sequence[Entry], period: CalendarPeriod, composition: Composition) -> Entry:
    moment, end = (side.astype("datetime64[us]").astype(datetime) for side in (period.begin, period.end))
    return Entry(
        key=f"{moment:%Y%m%d}_{composition.period}",
        time=moment.replace(tzinfo=UTC),
        status=SEALED,
        items=tuple(sorted(row.key for row in rows)),
        parts={f"{row.key} {part}": version for row in rows for part, version in row.parts.items()},
        properties={
            "scenes": len(rows),
            PERIOD_END: end.replace(tzinfo=UTC).isoformat(),
            **{name: _joined(row.properties.get(name) for row in rows) for name in ("platform", "catalog")},
            **({"simulated": True} if any(row.properties.get("simulated") for row in rows) else {}),
        },
    )


def _joined(words: Iterable[Any]) -> str:
    """The distinct words of texts that may hold several, joined by commas."""
    return ",".join(sorted({word for text in words if text for word in str(text).split(",")}))


def _layer(name: str, layer: Any) -> Layer:
    from stac2cube.views.units import DAYS

    units, what = str(layer.attrs.get("units", "1")), str(layer.attrs.get("long_name", name))
    if layer.dtype.kind == "M":
        return Layer(name, "uint16", 0, units=DAYS, long_name="day of the observation taken")
    if layer.dtype.kind in "iu":
        return Layer(name, str(layer.dtype), np.iinfo(layer.dtype).max, units=units, long_name=what)
    kind = str(layer.attrs.get("standard_name", ""))
    return Layer(name, "float32", float("nan"), units=units, long_name=what, standard_name=kind)


# Stored spectral indices.


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
        """The rules recorded in a stored cube."""
        return cls(tuple(spec.recipe["indices"]), Hiding.of(spec))


@dataclass(frozen=True)
class ComputeIndices:
    """The task that computes indices of one step.

    Attributes:
        names: Names in the registry.
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
        BadInputError: An index is unknown, or the cube lacks its bands; or nothing is left after hiding.
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


# Stored layers without clouds, for users who cannot mask when they read.

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
        """The rules recorded in a stored cube."""
        return cls(tuple(spec.recipe["masked_by"]), spec.recipe["max_cloud"])


@dataclass(frozen=True)
class MaskedStep:
    """A step of the layers and the same step of the clouds cube."""

    layers: StoredStep
    clouds: StoredStep


@dataclass(frozen=True)
class HideClouds:
    """The task that hides clouds.

    Attributes:
        layers: Layers of the layers cube.
        masks: Layers of the clouds cube; a pixel is kept if all of them are 0.
    """

    layers: tuple[Layer, ...]
    masks: tuple[Layer, ...]

    def __call__(self, pair: MaskedStep, block: Block) -> dict[str, np.ndarray]:
        """Layers of one block, set to fill where hidden; classes and bits are kept, since they explain the gaps.

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
    """Write a cube of the layers in which clouds, their shadows and unknown pixels have no data.

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
        CubeMismatchError: The cubes have different grids, or the new one was made with other options.
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
