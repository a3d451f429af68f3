"""Old states and other orders of a cube: rolled back, in order of time, without some steps. No pixel is rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stac2cube.cube.files import remove_tree
from stac2cube.cube.folders import move
from stac2cube.cube.generation import generations_folder, link_tree
from stac2cube.cube.ledger import SEALED, Entry, Ledger
from stac2cube.cube.root import OWN, Root, read_root
from stac2cube.cube.slots import write_coordinates
from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.writer import CubeWriter
from stac2cube.errors import BadInputError

_AWAY = "away-"
"""Before the name of a slot's folder while slots change places."""


def root_of_commit(cube: Path, number: int) -> Root:
    """The root as a commit left it.

    Raises:
        BadInputError: There is no such commit.
    """
    file = cube / OWN / "history" / f"{number:06d}.json"
    if not file.exists():
        there = sorted(int(path.stem) for path in file.parent.glob("[0-9]*.json"))
        words = f"{there[0]} to {there[-1]}" if there else "none"
        raise BadInputError(f"{cube} has no commit {number}; there are {words}")
    return read_root(cube, file)


@dataclass(frozen=True)
class Difference:
    """What lies between two commits, by keys of steps.

    Attributes:
        added: Sealed later.
        removed: Sealed earlier and not any more.
        replaced: Made anew, from other items or other pixels.
        noted: Whose status is another, neither of them sealed.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    replaced: tuple[str, ...]
    noted: tuple[str, ...]


def difference(cube: Path, one: int, other: int) -> Difference:
    """Compare two commits of a cube.

    Raises:
        CubeError: Not a cube.
        BadInputError: There is no such commit.
    """
    before, after = (Ledger(cube, root_of_commit(cube, number).ledger).entries() for number in (one, other))
    sealed = [{key for key, row in rows.items() if row.status == SEALED} for rows in (before, after)]
    both = sealed[0] & sealed[1]
    others = (before.keys() | after.keys()) - sealed[0] - sealed[1]

    def changed(key: str) -> bool:
        rows = before[key], after[key]
        return rows[0].items != rows[1].items or _pixels(rows[0]) != _pixels(rows[1])

    return Difference(
        added=tuple(sorted(sealed[1] - sealed[0])),
        removed=tuple(sorted(sealed[0] - sealed[1])),
        replaced=tuple(sorted(key for key in both if changed(key))),
        noted=tuple(sorted(key for key in others if _status(before, key) != _status(after, key))),
    )


def roll_back(writer: CubeWriter, number: int) -> Root:
    """Make the state of an older commit the present one: as a new commit, after which one can go back again.

    Args:
        writer: The cube, held.
        number: Of the commit.

    Raises:
        BadInputError: There is no such commit, or its pixels were replaced so long ago that they are gone.
    """
    cube, wanted = writer.path, root_of_commit(writer.path, number)
    old = cube
    if wanted.generation != writer.root.generation:
        old = generations_folder(cube) / f"{wanted.generation:06d}"
        if not old.exists():
            raise BadInputError(
                f"commit {number} of {cube} is of generation {wanted.generation}, whose pixels are gone: old "
                "generations are kept for their readers for some days only"
            )

    def change(new: Path) -> None:
        if old != cube:
            _take_pixels_from(old, new)
        _purge(new, wanted.spec, wanted.steps)

    what = {f"steps as after commit {number}": wanted.steps}
    return writer.regenerate(wanted, (), change, what=what, parts=wanted.ledger)


def arrange(writer: CubeWriter, keys: Sequence[str], noted: Sequence[Entry] = ()) -> Root:
    """Put the sealed steps in another order, and leave some out.

    Args:
        writer: The cube, held.
        keys: Of the sealed steps that stay, in the order of their new slots.
        noted: Rows without a slot of some of those left out: why they are.
    """
    rows = writer.ledger.entries()
    kept = [replace(rows[key], slot=slot) for slot, key in enumerate(keys)]
    others = [row for row in rows.values() if row.status != SEALED]
    others += [replace(row, slot=None, commit=writer.root.commit + 1) for row in noted]
    slots = {int(rows[key].slot or 0): slot for slot, key in enumerate(keys)}
    root = writer.root.following(len(keys))

    def change(new: Path) -> None:
        for layer in writer.spec.layers:
            chunks = new / layer.name / "c"
            for slot in slots:
                if (chunks / str(slot)).exists():
                    move(new, chunks / str(slot), chunks / f"{_AWAY}{slot}")
            for folder in chunks.glob("[0-9]*") if chunks.is_dir() else ():
                remove_tree(folder, below=new)
            for slot, place in slots.items():
                if (chunks / f"{_AWAY}{slot}").exists():
                    move(new, chunks / f"{_AWAY}{slot}", chunks / str(place))
        write_coordinates(new, root, kept)

    # The whole ledger anew: rows are only ever added, and those left out must go.
    out = writer.root.steps - len(kept)
    what = {"taken out": out} if out else {"put in order of time": len(kept)}
    return writer.regenerate(root, [*kept, *others], change, what=what, parts=())


def in_order(rows: Sequence[Entry]) -> bool:
    """Whether slots follow time."""
    sealed = sorted((row for row in rows if row.status == SEALED), key=lambda row: row.slot or 0)
    times = [(row.time, row.key) for row in sealed]
    return times == sorted(times)


def _take_pixels_from(old: Path, new: Path) -> None:
    for part in new.iterdir():
        if part.name != OWN:
            remove_tree(part) if part.is_dir() else part.unlink()
    for part in old.iterdir():
        if part.name != OWN and part.is_dir():
            link_tree(part, new / part.name)
    (new / "zarr.json").write_bytes((old / "zarr.json").read_bytes())


def _purge(cube: Path, spec: CubeSpec, steps: int) -> None:
    for layer in spec.layers:
        chunks = cube / layer.name / "c"
        for folder in chunks.glob("[0-9]*") if chunks.is_dir() else ():
            if int(folder.name) >= steps:
                remove_tree(folder, below=cube)


def _pixels(row: Entry) -> set[tuple[str, tuple[int, int], str]]:
    return {(shard.layer, shard.tile, shard.checksum) for receipt in row.receipts for shard in receipt.shards}


def _status(rows: dict[str, Entry], key: str) -> str:
    return rows[key].status if key in rows else ""
