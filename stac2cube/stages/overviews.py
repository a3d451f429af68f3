"""Overviews: cubes of the same steps with pixels 2, 4, 8 ... times as large, for maps and previews."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stac2cube.algorithms.raster import halved_mean, halved_mode
from stac2cube.build.derived import Derivation, Derived, DerivedPlan, Parent, Parents, derive, drop, sealed_keys
from stac2cube.build.plan import Block, BuildOptions, Step, Summary
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Place, place_or_threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid, shard_for
from stac2cube.progress import Progress
from stac2cube.store.files import real_folder
from stac2cube.store.ledger import STEP_FACTS, Entry
from stac2cube.store.metadata import SUFFIX, levels_of, overviews_folder, write_pyramid
from stac2cube.store.staging import StoredStep

if TYPE_CHECKING:
    import xarray as xr


SMALLEST = 256
"""Longer edge in pixels at which halving ends: such a picture needs no overview."""


@dataclass(frozen=True)
class Halve:
    """The task that makes a block of a level from four times as many pixels of the level before.

    Attributes:
        layers: Layers of both levels.
    """

    layers: tuple[Layer, ...]

    def __call__(self, step: StoredStep, block: Block) -> dict[str, np.ndarray]:
        """Layers of one block: means, and for classes and bits the most frequent value.

        Raises:
            ReadError: The level before cannot be read.
        """
        rows, columns = (slice(2 * part.start, 2 * part.stop) for part in block.grid.window(block.tile))
        made = {}
        for layer in self.layers:  # one by one: four shards of each are in memory
            values = step.read([layer], (rows, columns))[layer.name]
            halved = halved_mode if layer.flags or layer.bits else halved_mean
            made[layer.name] = halved(values, layer.fill_scalar)
        return made


def store_overviews(cube: str | Path, *, levels: int | None = None, place: Place | None = None) -> xr.Dataset:
    """Make the overviews of a cube, or update them.

    Args:
        cube: The cube: layers, or a cube derived from them.
        levels: Number of halvings; until the longer edge has at most 256 pixels if None.
        place: Where the work runs; threads of this process if None.

    Returns:
        The coarsest level; ``open_cube(cube, level=4)`` opens others.

    Raises:
        BadInputError: It is an overview itself, has no step, or is too small for an overview.
        IncompleteError: Some steps failed; the others are sealed.
    """
    from stac2cube.store.reader import open_cube

    path = Path(cube)
    run_overviews(path, place_or_threads(place), levels=levels).require_complete(overviews_folder(path))
    return open_cube(path, level=levels_of(path)[-1])


def run_overviews(
    cube: Path,
    place: Place,
    *,
    levels: int | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Make or extend all levels; raises the errors of :func:`store_overviews` and :func:`stac2cube.build.loop.build`.

    Returns:
        Summary of all levels; keys are prefixed by the level.
    """
    parent = Parent.read(cube)
    if parent.spec.stage == OVERVIEW.name:
        raise BadInputError(f"{cube} is an overview already: ask for those of the cube that it was made from")
    many = max(_halvings(parent.spec.grid) if levels is None else levels, len(levels_of(parent.path)))
    if many < 1:
        raise BadInputError(f"{cube} has {max(parent.spec.grid.shape)} pixels at most on a side: it needs no overview")
    whole, source = Summary(), parent.path
    real_folder(overviews_folder(source)).mkdir(exist_ok=True)
    for number in range(1, many + 1):
        out = real_folder(overviews_folder(parent.path) / str(2**number))
        done = derive(OVERVIEW, Parents(source), out, None, place, options=options, progress=progress)
        _add(whole, done, out.name)
        if done.stopped or not out.exists():
            break
        source = out
    write_pyramid(parent.path)
    return whole


def _plan(parents: Parents, _: None, making: Derivation) -> DerivedPlan:
    parent, out = Parent.read(parents.layers), making.out
    grid, layers = _halved(parent.spec.grid), parent.spec.layers
    recipe = {**parent.spec.recipe, "overview": {"of": parent.spec.stage, "factor": _factor(out)}}
    spec = CubeSpec(OVERVIEW.name, grid, layers, recipe, {"layers": str(parent.path)})
    steps = [Step(_entry(parent, row), parent.stored(row), _tiles(parent, row, grid)) for row in parent.rows.values()]
    if out.exists():
        making.require_same(spec)
        drop(out, sealed_keys(out) - parent.rows.keys(), options=making.options)
    return DerivedPlan(spec, steps, Halve(layers), exact=True)


OVERVIEW: Derived[None] = Derived("overview", lambda _: None, _plan)
"""The stage of one overview level, made from the level before it. Steps that the parent lost are removed."""


def _entry(parent: Parent, row: Entry) -> Entry:
    """Ledger entry of a step, whose parts include the checksum of the pixels that it was made from."""
    facts = {name: row.properties[name] for name in STEP_FACTS if row.properties.get(name) is not None}
    entry = parent.entry(row, **facts)
    shards = sorted(
        f"{shard.layer} {shard.tile} {shard.checksum}" for receipt in row.receipts for shard in receipt.shards
    )
    return replace(entry, parts={**entry.parts, "pixels": hashlib.sha256("\n".join(shards).encode()).hexdigest()[:16]})


def _tiles(parent: Parent, row: Entry, grid: Grid) -> tuple[tuple[int, int], ...]:
    """Blocks of a level in which a step has data."""
    filled = set()
    for tile in parent.tiles(row):
        corners = [(part.start // 2, (part.stop - 1) // 2) for part in parent.spec.grid.window(tile)]
        (top, bottom), (left, right) = corners
        rows = range(top // grid.shard[0], bottom // grid.shard[0] + 1)
        filled |= {(r, c) for r in rows for c in range(left // grid.shard[1], right // grid.shard[1] + 1)}
    return tuple(tile for tile in grid.tiles() if tile in filled)


def _halved(grid: Grid) -> Grid:
    """The grid with pixels of twice the edge; its last row and column may extend beyond the original by one pixel."""
    rows, columns = ((size + 1) // 2 for size in grid.shape)
    return replace(grid, resolution=2 * grid.resolution, shape=(rows, columns), shard=shard_for((rows, columns)))


def _halvings(grid: Grid) -> int:
    count, edge = 0, max(grid.shape)
    while edge > SMALLEST:
        edge, count = (edge + 1) // 2, count + 1
    return count


def _factor(out: Path) -> int:
    """The factor of the pixel size of a level, from its folder name."""
    if out.parent.suffix != SUFFIX or not out.name.isdigit():
        raise BadInputError(f"{out} is no level of overviews: they lie in NAME{SUFFIX}/2, /4, ...")
    return int(out.name)


def _add(whole: Summary, part: Summary, level: str) -> None:
    for name in ("sealed", "present", "superseded", "replaced"):
        getattr(whole, name).extend(f"{level}/{key}" for key in getattr(part, name))
    for name in ("empty", "failed"):
        getattr(whole, name).update({f"{level}/{key}": reason for key, reason in getattr(part, name).items()})
    whole.stopped |= part.stopped
    whole.seconds += part.seconds
