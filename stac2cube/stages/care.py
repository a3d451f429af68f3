"""Keeping a cube for years: verified and repaired, put in order, rolled back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from stac2cube.build import build
from stac2cube.cube.damage import Damage, find_damage
from stac2cube.cube.folders import linked, require_renamable
from stac2cube.cube.ledger import Ledger
from stac2cube.cube.mending import make_readable, restore_records, restore_root, tidy_up
from stac2cube.cube.rearrange import arrange, in_order, roll_back
from stac2cube.cube.records import last_whole_commit
from stac2cube.cube.root import Root, read_root
from stac2cube.cube.writer import open_writer
from stac2cube.errors import BadInputError
from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.stages.following import follow, follows
from stac2cube.stages.kin import STAGES, Kin, children_behind
from stac2cube.stages.layers import LayersJob
from stac2cube.stages.moving import scenes_again
from stac2cube.stages.request import request_of, understand
from stac2cube.stages.restoring import restore
from stac2cube.stages.scenes import steps_for
from stac2cube.stages.yearly import mend_years
from stac2cube.work import Orders, Summary


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    Attributes:
        found: What was wrong before.
        left: What is wrong still.
        summary: Of the steps that were made anew.
    """

    found: tuple[Damage, ...]
    left: tuple[Damage, ...]
    summary: Summary = field(default_factory=Summary)


def verify(cube: str | Path, *, deep: bool = True) -> list[Damage]:
    """Look for damage; see :func:`stac2cube.cube.damage.find_damage`."""
    return find_damage(Path(cube), deep=deep)


def remarks(cube: Path, kin: Sequence[Kin] = STAGES) -> list[str]:
    """What is no damage and may be mended all the same: slots out of the order of time, children out of step.

    Args:
        cube: A cube whose ledger is whole.
        kin: Kinds of cubes that are made from others.
    """
    rows = list(Ledger(cube, read_root(cube).ledger).entries(whole=False).values())
    found = [] if in_order(rows) else [f"steps are not in the order of time: stac2cube tidy {cube}"]
    for child, state in children_behind(cube, kin).items():
        counts = ", ".join(f"{count} {what}" for what, count in state.items() if count)
        found.append(f"{child}: {counts}; stac2cube sync, or update, lets it follow")
    return found


def repair(
    cube: Path,
    place: Place,
    *,
    orders: Orders | None = None,
    progress: Progress | None = None,
    deep: bool = True,
    again: Callable[..., Summary] | None = None,
) -> Repair:
    """Make anew what is damaged, and only that.

    Steps come from the store of their year where it was sealed and is sound, else from the items or the cube that they
    were made from.

    Args:
        cube: The cube.
        place: Where the work runs.
        orders: How.
        progress: Told of every block.
        deep: Compare checksums of files too, not their sizes alone.
        again: Makes steps of it again, as :func:`stac2cube.stages.following.follow` does; by its stage if None.

    Raises:
        CubeError: Not a cube.
        BadInputError: The ledger itself is lost: roll back to a commit that has one, or build the cube anew.
    """
    orders = orders or Orders()
    first, found = _whole_records(cube, orders, deep=deep)
    keys = frozenset(damage.key for damage in found if damage.kind in ("missing", "corrupt"))
    if keys:
        require_renamable(cube, "making steps anew")
    summary = Summary()
    if found:
        tidy_up(cube, found, orders.verdict)
        with open_writer(cube, read_root(cube).spec, orders.verdict):
            pass  # it cleans up after runs that died
    years = {int(damage.key) for damage in found if damage.kind == "year"}
    if keys:
        kept = restore(cube, keys, years, place, orders, progress)
        summary, left = kept, keys - set(kept.replaced)
        if left and not kept.stopped:
            replacing = replace(orders, superseded="replace", again=left)
            make = again or (follow if follows(cube) else partial(_layers_again, keys=left))
            summary = make(cube, place=place, orders=replacing, progress=progress)
            summary.replaced = [*kept.replaced, *summary.replaced]
    if not summary.failed and not summary.stopped:
        mend_years(cube, years, place, orders, progress)
    return Repair(tuple(first), tuple(find_damage(cube, deep=deep)) if first else (), summary)


def tidy(cube: Path, *, orders: Orders | None = None) -> Root | None:
    """Put the steps of a cube in the order of time, in a new generation of hard links; None where they are.

    Raises:
        CubeError: Not a cube.
        CubeLockedError: Somebody else writes it.
    """
    require_renamable(cube, "tidy")
    with open_writer(cube, read_root(cube).spec, (orders or Orders()).verdict) as writer:
        rows = writer.ledger.entries()
        if in_order(list(rows.values())):
            return None
        return arrange(writer, list(writer.ledger.sealed(whole=False)))


def rollback(cube: Path, number: int, *, orders: Orders | None = None) -> Root:
    """Make the state of an older commit the present one; see :func:`stac2cube.cube.rearrange.roll_back`."""
    require_renamable(cube, "rollback")
    with open_writer(cube, read_root(cube).spec, (orders or Orders()).verdict) as writer:
        return roll_back(writer, number)


def _whole_records(cube: Path, orders: Orders, *, deep: bool) -> tuple[list[Damage], list[Damage]]:
    """Put root, ledger and rights of a cube right, without which nobody knows what else is wrong.

    Returns:
        What was wrong before, and what is then.

    Raises:
        BadInputError: They cannot be put right, or there are symbolic links in the cube; nothing else was changed.
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
        restore_root(cube, orders.verdict)
        found = again()
    for kind in ("ledger", "history"):  # what is lost of the history shows once the ledger is whole
        if any(damage.kind == kind for damage in found):
            restore_records(cube, found, orders.verdict)
            found = again()
    if any(damage.kind == "ledger" for damage in found):
        raise BadInputError(f"the ledger of {cube} is damaged, which nothing else can say: {_advice(cube)}")
    return first, found


def _advice(cube: Path) -> str:
    """What to do where the ledger is lost."""
    number = last_whole_commit(cube)
    if number is None:
        return "roll back or build it anew; no commit of its history has its whole ledger"
    return (
        f"roll back or build it anew. Commit {number} is the last whose ledger is whole: `stac2cube rollback {cube} "
        f"{number}`, then `stac2cube update`, which makes later steps again"
    )


def _layers_again(
    cube: Path, *, keys: Collection[str], place: Place, orders: Orders, progress: Progress | None
) -> Summary:
    spec, request = request_of(cube)
    rows = Ledger(cube, read_root(cube).ledger).entries(keys=keys)
    scenes = scenes_again(cube, list(rows.values()))
    layers = [layer.name for layer in spec.layers]
    steps = []
    for key, scene in scenes.items():
        steps += steps_for([scene], spec.grid, str(rows[key].properties.get("catalog_choice", "")), layers)
    # The light scenes of the ledger have no items of their own: the row keeps those it had.
    steps = [replace(step, entry=replace(step.entry, sources=rows[step.entry.key].sources)) for step in steps]
    job = LayersJob(cube, understand(request), tuple(scenes.values()), spec, tuple(steps))
    return build(cube, spec, job.steps, job.task(), place, orders=orders, progress=progress)
