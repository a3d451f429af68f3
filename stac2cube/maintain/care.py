"""Maintain a cube for years: verify, repair, tidy, roll back, restore files from sealed years."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, BuildOptions, Step, Summary
from stac2cube.build.status import cube_history
from stac2cube.coregister.apply import scenes_again
from stac2cube.errors import BadInputError, ReadError
from stac2cube.executors.base import Place
from stac2cube.maintain.seal_year import mend_years
from stac2cube.maintain.update import STAGES, DerivedKind, is_derived, outdated_children, update
from stac2cube.model.cube_spec import Layer
from stac2cube.model.scene import moment_or_none
from stac2cube.progress import Progress
from stac2cube.search.choose_catalog import catalog_choices
from stac2cube.search.cubes import query_of
from stac2cube.stages.layers import LayersJob, steps_for
from stac2cube.store.files import linked, require_renamable
from stac2cube.store.ledger import Entry, Ledger
from stac2cube.store.metadata import Root, read_root
from stac2cube.store.records import Damage, last_whole_commit
from stac2cube.store.repair import (
    arrange,
    make_readable,
    restore_records,
    restore_root,
    roll_back,
    slots_in_order,
    tidy_up,
)
from stac2cube.store.staging import open_array
from stac2cube.store.verify import find_damage
from stac2cube.store.writer import open_writer
from stac2cube.store.yearly_store import PIXELS_OF, pixel_commit, year_stores

# Recovery of lost files from the store of a sealed year: the same pixels, without another source.


@dataclass(frozen=True)
class StepInYear:
    """A step in the store of a year.

    Attributes:
        store: Path of the store.
        place: Index of the step in it.
    """

    store: str
    place: int


@dataclass(frozen=True)
class ReadYearStep:
    """The task of a block.

    Attributes:
        layers: Layers of the cube.
    """

    layers: tuple[Layer, ...]

    def __call__(self, kept: StepInYear, block: Block) -> dict[str, np.ndarray]:
        """Read the pixels of one block.

        Raises:
            ReadError: The store cannot be read.
        """
        rows, columns = block.grid.window(block.tile)
        try:
            return {
                layer.name: np.asarray(open_array(Path(kept.store) / layer.name)[kept.place, rows, columns])
                for layer in self.layers
            }
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ReadError(f"{kept.store}: {error}") from error


def restore(
    cube: Path,
    keys: Collection[str],
    damaged: Collection[int],
    place: Place,
    options: BuildOptions,
    progress: Progress | None = None,
) -> Summary:
    """Restore steps from the stores of sealed years, as far as these hold them.

    Args:
        cube: The cube.
        keys: Keys of steps whose files are damaged.
        damaged: Years whose stores are damaged and not used.
        place: Place where blocks are made.
        options: Options of the build.
        progress: Receives every finished block.

    Returns:
        A summary that lists the restored steps as replaced.
    """
    root = read_root(cube)
    rows = Ledger(cube, root.ledger).entries(keys=keys)
    by_slot = {int(row.slot or 0): row for row in rows.values()}
    steps = [
        Step(_again(by_slot[slot]), StepInYear(str(store.path), there), _tiles(by_slot[slot]))
        for store in year_stores(cube, root)
        if store.year not in damaged
        for slot, there in store.places(rows).items()
    ]
    if not steps:
        return Summary()
    how = replace(options, superseded="replace", again=frozenset(step.entry.key for step in steps))
    return build(cube, root.spec, steps, ReadYearStep(root.spec.layers), place, options=how, progress=progress)


def _again(row: Entry) -> Entry:
    """The row of a step rebuilt from its own pixels: readers that have these need not read them again."""
    return replace(row, receipts=(), properties={**row.properties, PIXELS_OF: pixel_commit(row)})


def _tiles(row: Entry) -> tuple[tuple[int, int], ...]:
    filled: Mapping[tuple[int, int], bool] = {
        receipt.tile: any(shard.valid for shard in receipt.shards) for receipt in row.receipts
    }
    return tuple(tile for tile, valid in filled.items() if valid)


# Maintenance of a cube for years: verification and repair, order of steps, rollback.


@dataclass(frozen=True)
class Repair:
    """Outcome of a repair.

    Attributes:
        found: Damage before.
        left: Damage that remains.
        summary: Summary of the steps that were rebuilt.
    """

    found: tuple[Damage, ...]
    left: tuple[Damage, ...]
    summary: Summary = field(default_factory=Summary)


def verify(cube: str | Path, *, deep: bool = True) -> list[Damage]:
    """Look for damage; see :func:`stac2cube.store.verify.find_damage`."""
    return find_damage(Path(cube), deep=deep)


def remarks(cube: Path, derived: Sequence[DerivedKind] = STAGES) -> list[str]:
    """Conditions that are not damage but can be mended: slots not in order of time, outdated derived cubes.

    Args:
        cube: A cube with an intact ledger.
        derived: Kinds of derived cubes.
    """
    rows = list(Ledger(cube, read_root(cube).ledger).entries(whole=False).values())
    found = [] if slots_in_order(rows) else [f"steps are not in the order of time: stac2cube tidy {cube}"]
    for child, state in outdated_children(cube, derived).items():
        counts = ", ".join(f"{count} {what}" for what, count in state.items() if count)
        found.append(f"{child}: {counts}; stac2cube sync, or update, lets it follow")
    return found


def repair(
    cube: Path,
    place: Place,
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    deep: bool = True,
    again: Callable[..., Summary] | None = None,
) -> Repair:
    """Rebuild what is damaged, and only that.

    Steps come from the store of their year where it was sealed and is intact, else from the items or the cube from
    which they were made.

    Args:
        cube: The cube.
        place: Place where blocks are made.
        options: Options of the build.
        progress: Receives every finished block.
        deep: Compare checksums of files too, not their sizes alone.
        again: Rebuilds steps, as :func:`stac2cube.maintain.update.update` does; chosen by the cube's stage if None.

    Raises:
        CubeError: Not a cube.
        BadInputError: The ledger itself is lost: roll back to a commit that has one, or rebuild the cube.
    """
    options = options or BuildOptions()
    first, found = _whole_records(cube, options, deep=deep)
    keys = frozenset(damage.key for damage in found if damage.kind in ("missing", "corrupt"))
    if keys:
        require_renamable(cube, "making steps anew")
    summary = Summary()
    if found:
        tidy_up(cube, found, options.verdict)
        with open_writer(cube, read_root(cube).spec, options.verdict):
            pass  # opening it cleans up after runs that died
    years = {int(damage.key) for damage in found if damage.kind == "year"}
    if keys:
        kept = restore(cube, keys, years, place, options, progress)
        summary, left = kept, keys - set(kept.replaced)
        if left and not kept.stopped:
            replacing = replace(options, superseded="replace", again=left)
            make = again or (update if is_derived(cube) else partial(_layers_again, keys=left))
            summary = make(cube, place=place, options=replacing, progress=progress)
            summary.replaced = [*kept.replaced, *summary.replaced]
    if not summary.failed and not summary.stopped:
        mend_years(cube, years, place, options, progress)
    return Repair(tuple(first), tuple(find_damage(cube, deep=deep)) if first else (), summary)


def tidy(cube: Path, *, options: BuildOptions | None = None) -> Root | None:
    """Put the steps of a cube in order of time, in a new generation of hard links; None if they are already.

    Raises:
        CubeError: Not a cube.
        CubeLockedError: Another process is writing the cube.
    """
    require_renamable(cube, "tidy")
    with open_writer(cube, read_root(cube).spec, (options or BuildOptions()).verdict) as writer:
        rows = writer.ledger.entries()
        if slots_in_order(list(rows.values())):
            return None
        return arrange(writer, list(writer.ledger.sealed(whole=False)))


def rollback(cube: Path, number: int, *, options: BuildOptions | None = None) -> Root:
    """Restore the state of an older commit; see :func:`stac2cube.store.repair.roll_back`."""
    require_renamable(cube, "rollback")
    with open_writer(cube, read_root(cube).spec, (options or BuildOptions()).verdict) as writer:
        return roll_back(writer, number)


def last_commit_before(cube: Path, date: str) -> int:
    """Number of the last commit of a cube that was made before a date.

    Args:
        cube: The cube.
        date: ``"2025-03-01"`` or ``"2025-03-01T12:00:00Z"``, UTC.

    Raises:
        BadInputError: The date is malformed, or no commit was made before it.
        CubeError: Not a cube.
    """
    limit = moment_or_none(date)
    if limit is None:
        raise BadInputError(f"{date!r} is no date: write 2025-03-01 or 2025-03-01T12:00:00Z")
    older = [commit.number for commit in cube_history(cube) if datetime.fromisoformat(commit.made) < limit]
    if not older:
        raise BadInputError(f"{cube} has no commit before {date}: the cube did not exist then")
    return older[-1]


def _whole_records(cube: Path, options: BuildOptions, *, deep: bool) -> tuple[list[Damage], list[Damage]]:
    """Repair root, ledger and permissions of a cube, without which other damage cannot be found.

    Returns:
        Damage before, and damage after.

    Raises:
        BadInputError: They cannot be repaired, or there are symbolic links in the cube; nothing else was changed.
    """
    first = found = find_damage(cube, deep=deep)

    def again() -> list[Damage]:
        now = find_damage(cube, deep=deep)
        first.extend(damage for damage in now if damage not in first)
        return now

    if links := [damage.path for damage in found if damage.kind == "link"]:
        raise linked(cube / links[0])
    if any(damage.kind == "mode" for damage in found):
        make_readable(cube, found)
        found = again()
    if any(damage.kind == "root" for damage in found):
        restore_root(cube, options.verdict)
        found = again()
    for kind in ("ledger", "history"):  # damage of the history is found once the ledger is intact
        if any(damage.kind == kind for damage in found):
            restore_records(cube, found, options.verdict)
            found = again()
    if any(damage.kind == "ledger" for damage in found):
        raise BadInputError(f"the ledger of {cube} is damaged, which nothing else can say: {_advice(cube)}")
    return first, found


def _advice(cube: Path) -> str:
    """Advice for a lost ledger."""
    number = last_whole_commit(cube)
    if number is None:
        return "roll back or build it anew; no commit of its history has its whole ledger"
    return (
        f"roll back or build it anew. Commit {number} is the last whose ledger is whole: `stac2cube rollback {cube} "
        f"{number}`, then `stac2cube update`, which makes later steps again"
    )


def _layers_again(
    cube: Path, *, keys: Collection[str], place: Place, options: BuildOptions, progress: Progress | None
) -> Summary:
    spec, query = query_of(cube)
    rows = Ledger(cube, read_root(cube).ledger).entries(keys=keys)
    scenes = scenes_again(cube, list(rows.values()))
    layers = [layer.name for layer in spec.layers]
    steps = []
    for key, scene in scenes.items():
        steps += steps_for([scene], spec.grid, str(rows[key].properties.get("catalog_choice", "")), layers)
    # Scenes read from the ledger have no source items: the row keeps its own.
    steps = [replace(step, entry=replace(step.entry, sources=rows[step.entry.key].sources)) for step in steps]
    job = LayersJob(cube, query, tuple(scenes.values()), spec, tuple(steps), catalog_choices(query))
    return build(cube, spec, job.steps, job.task(), place, options=options, progress=progress)
