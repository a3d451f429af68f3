"""What views show, stored as cubes that follow their parent: spectral indices, and composites in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.build import build
from stac2cube.cube.ledger import SEALED, Entry, Ledger
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.places.place import Place
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress
from stac2cube.stages.follow import Parent
from stac2cube.work import Block, Orders, Step, Summary

if TYPE_CHECKING:
    import xarray as xr

INDICES, COMPOSITE = "indices", "composite"
"""Names of the stages in the cubes they make."""

EPOCH = np.datetime64("1970-01-01")
"""Days of ``observed`` are counted from here."""


@dataclass(frozen=True)
class Window:
    """Some steps of a cube, for a worker.

    Attributes:
        cube: Its path.
        commit: Of the state that was planned with.
        keys: Of the steps.
    """

    cube: str
    commit: int
    keys: tuple[str, ...]

    def open(self, block: Block) -> xr.Dataset:
        """The steps within a block, decoded, lazily."""
        dataset = _opened(self.cube, self.commit)
        known = {key: place for place, key in enumerate(dataset["scene"].values)}
        rows, columns = block.grid.window(block.tile)
        return dataset.isel(time=[known[key] for key in self.keys], y=rows, x=columns)


@lru_cache(maxsize=4)
def _opened(cube: str, commit: int) -> xr.Dataset:  # noqa: ARG001 - another commit is another cube
    from stac2cube.cube.reader import open_cube

    return open_cube(cube, chunks=None)


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

        made = indices(window.open(block), self.names)
        return {str(name): layer.values[0].astype("float32") for name, layer in made.data_vars.items()}


@dataclass(frozen=True)
class ComposePeriod:
    """The task: one picture out of the steps of a period; see :func:`stac2cube.views.composite.composite`.

    Attributes:
        method: Of composites.
        by: For the method ``"best"``.
        layers: That are composed, None for all that are not classes.
    """

    method: str
    by: str | None = None
    layers: tuple[str, ...] | None = None

    def __call__(self, window: Window, block: Block) -> dict[str, np.ndarray]:
        """Layers of one block, float32, and what is counted."""
        from stac2cube.views.composite import composite

        made = composite(window.open(block), "all", self.method, by=self.by, layers=self.layers).isel(time=0)
        made = made.load(scheduler="synchronous")  # the place decides how many work
        out = {}
        for name, layer in made.data_vars.items():
            values = layer.values
            if values.dtype.kind == "M":
                days = (values.astype("datetime64[D]") - EPOCH).astype("float64")
                values = np.where(np.isnat(layer.values), 0, days).astype("uint16")
            out[str(name)] = values
        return out


def store_indices(
    layers: str | Path, out: str | Path, names: Sequence[str], *, place: Place | None = None
) -> xr.Dataset:
    """Store spectral indices of every step of a cube.

    Running it again follows the cube.

    Args:
        layers: The cube: layers, masked, co-registered or super-resolved.
        out: Path of the new cube, created or extended.
        names: Of indices, see :func:`stac2cube.indices`.
        place: Where the work runs; threads of this process if None.

    Returns:
        The cube: a float32 layer per index, NaN without data.

    Raises:
        BadInputError: Unknown index or missing band.
        CubeMismatchError: The cube was made otherwise.
        IncompleteError: Some steps failed; the others are sealed.
    """
    return _finished(out, run_indices(Path(layers), Path(out), names, place or Threads()))


def run_indices(
    layers: Path,
    out: Path,
    names: Sequence[str],
    place: Place,
    *,
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a cube of indices; raises what :func:`store_indices` and :func:`stac2cube.build.build` do."""
    from stac2cube.cube.reader import open_cube
    from stac2cube.views.spectral import recipe_for

    parent = Parent.read(layers)
    opened = open_cube(parent.path, chunks=None)
    recipes = [recipe_for(opened, name) for name in names]
    made = tuple(Layer(recipe.name, "float32", float("nan"), long_name=recipe.long_name) for recipe in recipes)
    formulas = {recipe.name: recipe.formula for recipe in recipes}
    about = {**parent.spec.recipe, "title": "Spectral indices", "indices": formulas}
    spec = CubeSpec(INDICES, parent.spec.grid, made, about, {"layers": str(parent.path)})
    commit = read_root(parent.path).commit
    steps = [
        Step(parent.entry(row), Window(str(parent.path), commit, (key,)), parent.tiles(row))
        for key, row in parent.rows.items()
    ]
    task = ComputeIndices(tuple(recipe.name for recipe in recipes))
    orders = replace(orders or Orders(), superseded="replace")
    return build(out, spec, steps, task, place, orders=orders, progress=progress)


def follow_indices(cube: Path, place: Place, orders: Orders, progress: Progress | None) -> Summary:
    """Add to a cube of indices what its parent has by now; raises what :func:`store_indices` does."""
    spec = read_root(cube).spec
    names, layers = list(spec.recipe["indices"]), Path(spec.request["layers"])
    return run_indices(layers, cube, names, place, orders=orders, progress=progress)


@dataclass(frozen=True)
class Composition:
    """What decides a cube of composites; the words of :func:`stac2cube.composite`.

    Attributes:
        period: Stretch of time that makes a step.
        method: How observations become one.
        by: For the method ``"best"``.
        layers: That are composed, None for all that are not classes.
    """

    period: str = "month"
    method: str = "median"
    by: str | None = None
    layers: tuple[str, ...] | None = None


def store_composites(
    layers: str | Path, out: str | Path, composition: Composition | None = None, *, place: Place | None = None
) -> xr.Dataset:
    """Store a picture per period of a cube. Hide clouds first: compose a masked cube.

    Running it again follows the cube: periods to which scenes came or from which they went are made anew.

    Args:
        layers: The cube.
        out: Path of the new cube, created or extended.
        composition: What decides; monthly medians if None.
        place: Where the work runs; threads of this process if None.

    Returns:
        The cube: a step per period that has scenes, at its begin; layers float32, ``n_valid`` uint16, for ``"medoid"``
        and ``"best"`` also ``observed``, days since 1970.

    Raises:
        BadInputError: Unknown method, period, layer or index.
        CubeMismatchError: The cube was made otherwise.
        IncompleteError: Some periods failed; the others are sealed.
    """
    summary = run_composites(Path(layers), Path(out), composition or Composition(), place or Threads())
    return _finished(out, summary)


def run_composites(
    layers: Path,
    out: Path,
    composition: Composition,
    place: Place,
    *,
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a cube of composites; raises what :func:`store_composites` and build do."""
    from stac2cube.cube.reader import open_cube
    from stac2cube.views.composite import composite
    from stac2cube.views.periods import periods_of

    parent = Parent.read(layers)
    opened = open_cube(parent.path, chunks=None)
    how = {"method": composition.method, "by": composition.by, "layers": composition.layers}
    # One pixel of one step says which layers there will be, and whether the words make sense.
    sample = composite(opened.isel(time=[0], y=[0], x=[0]), "all", **how)  # type: ignore[arg-type]
    made = tuple(_composite_layer(str(name), layer) for name, layer in sample.data_vars.items())
    about = {**parent.spec.recipe, "title": f"{composition.method} per {composition.period}"}
    about["composite"] = {"period": composition.period, **how, "layers": _listed(composition.layers)}
    spec = CubeSpec(COMPOSITE, parent.spec.grid, made, about, {"layers": str(parent.path)})
    commit, keys = read_root(parent.path).commit, [str(key) for key in opened["scene"].values]
    steps = []
    for period in periods_of(opened["time"].values, composition.period):
        rows = [parent.rows[keys[at]] for at in period.places if keys[at] in parent.rows]
        if rows:
            entry = _entry(rows, period.begin, composition)
            tiles = {tile for row in rows for tile in parent.tiles(row)}
            window = Window(str(parent.path), commit, tuple(row.key for row in rows))
            steps.append(Step(entry, window, tuple(tile for tile in spec.grid.tiles() if tile in tiles)))
    orders = orders or Orders()
    again = orders.again | _changed(out, steps)
    orders = replace(orders, superseded="replace", again=again)
    task = ComposePeriod(composition.method, composition.by, composition.layers)
    return build(out, spec, steps, task, place, orders=orders, progress=progress)


def follow_composites(cube: Path, place: Place, orders: Orders, progress: Progress | None) -> Summary:
    """Bring a cube of composites up to what its parent has by now; raises what :func:`store_composites` does."""
    spec = read_root(cube).spec
    about = spec.recipe["composite"]
    layers = None if about["layers"] is None else tuple(about["layers"])
    composition = Composition(about["period"], about["method"], about["by"], layers)
    return run_composites(Path(spec.request["layers"]), cube, composition, place, orders=orders, progress=progress)


def _entry(rows: Sequence[Entry], begin: np.datetime64, composition: Composition) -> Entry:
    moment: datetime = begin.astype("datetime64[us]").astype(datetime)
    return Entry(
        key=f"{moment:%Y%m%d}_{composition.period}",
        time=moment.replace(tzinfo=UTC),
        status=SEALED,
        items=tuple(sorted(row.key for row in rows)),
        parts={f"{row.key} {part}": version for row in rows for part, version in row.parts.items()},
        properties={
            "scenes": len(rows),
            "platform": ",".join(sorted({str(row.properties.get("platform", "")) for row in rows} - {""})),
        },
    )


def _changed(out: Path, steps: Sequence[Step]) -> frozenset[str]:
    """Periods that were made of other scenes, or versions of them, than now; what went is no newer part."""
    if not out.exists():
        return frozenset()
    rows = Ledger(out, read_root(out).ledger).entries(whole=False)
    wanted = {step.entry.key: dict(step.entry.parts) for step in steps}
    return frozenset(key for key, row in rows.items() if key in wanted and dict(row.parts) != wanted[key])


def _composite_layer(name: str, layer: Any) -> Layer:
    units, what = str(layer.attrs.get("units", "1")), str(layer.attrs.get("long_name", name))
    if layer.dtype.kind == "M":
        return Layer(name, "uint16", 0, units="days since 1970-01-01", long_name="day of the observation taken")
    if layer.dtype.kind in "iu":
        return Layer(name, str(layer.dtype), np.iinfo(layer.dtype).max, units=units, long_name=what)
    return Layer(name, "float32", float("nan"), units=units, long_name=what)


def _listed(layers: tuple[str, ...] | None) -> list[str] | None:
    return None if layers is None else list(layers)


def _finished(out: str | Path, summary: Summary) -> xr.Dataset:
    from stac2cube.cube.reader import open_cube

    summary.require_complete(out)
    return open_cube(out)
