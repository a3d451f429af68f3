"""Repair damage and restore old states: from the root, the ledger, the history and old generations."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stac2cube.errors import BadInputError
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.store.creation import AXES, axis_files
from stac2cube.store.files import (
    make_folder,
    move,
    refuse_links_in_cube,
    remove_file,
    remove_tree,
    sync_folder,
    write_whole,
)
from stac2cube.store.generation import generations_folder, grace_is_over, link_tree, require_present
from stac2cube.store.ledger import SEALED, Entry, Ledger
from stac2cube.store.lock import CubeLock, Verdict
from stac2cube.store.metadata import OWN, Root, now_text, read_root
from stac2cube.store.records import SELF, Damage, best_root, found_in_old_generations, require_last_root
from stac2cube.store.writer import CubeWriter, write_coordinates

# Repairs from root, grid, ledger and old generations; pixels are rebuilt elsewhere.
#
# Nothing that might be the user's is deleted: files of no step and files that are not part of the cube are moved to the
# cube's trash, which is emptied after the grace period.

TRASH = f"{OWN}/trash"


def restore_root(cube: Path, verdict: Verdict | None) -> None:
    """Restore the newest intact root of the history in place of a lost or untrustworthy one.

    Raises:
        BadInputError: No root of the history is intact; nothing was changed.
        CubeLockedError: Another process writes the cube.
    """
    refuse_links_in_cube(cube)
    with CubeLock(cube, verdict=verdict) as lock:
        best = best_root(cube)
        if best is None:
            raise BadInputError(
                f"the root of {cube} is damaged, and its history has none that is whole. Nothing was changed. Restore "
                "zarr.json from a backup, or build the cube anew"
            )
        if not _plain(cube / SELF):
            _put_aside(cube, SELF)
        lock.require_held()
        write_whole(cube / SELF, best[0])


def restore_records(cube: Path, found: Sequence[Damage], verdict: Verdict | None) -> None:
    """Restore lost parts of the ledger and files of earlier commits from old generations.

    Raises:
        CubeLockedError: Another process writes the cube.
    """
    refuse_links_in_cube(cube)
    with CubeLock(cube, verdict=verdict):
        for damage in found:
            content = found_in_old_generations(cube, damage.path) if damage.kind in ("ledger", "history") else None
            if content is not None:
                _write(cube, damage.path, content)


def make_readable(cube: Path, found: Sequence[Damage]) -> None:
    """Give the owner permission to read again, from the top; needs no lock, as no content changes."""
    for damage in sorted(found, key=lambda one: one.path):
        if damage.kind == "mode":
            path = cube / damage.path
            state = path.lstat()
            if not stat.S_ISLNK(state.st_mode):
                more = stat.S_IRUSR | stat.S_IWUSR | (stat.S_IXUSR if stat.S_ISDIR(state.st_mode) else 0)
                path.chmod(stat.S_IMODE(state.st_mode) | more)


def tidy_up(cube: Path, found: Sequence[Damage], verdict: Verdict | None) -> None:
    """Repair everything that needs no pixels: strays, metadata, coordinates, and the history of the last commit.

    Args:
        cube: The cube; its root and ledger are intact.
        found: Its damage.
        verdict: See :class:`stac2cube.store.lock.CubeLock`.

    Raises:
        CubeLockedError: Another process writes the cube.
    """
    refuse_links_in_cube(cube)
    require_present(cube)
    with CubeLock(cube, verdict=verdict):
        root = read_root(cube)
        require_last_root(cube, root)
        _empty_trash(cube)
        for damage in found:
            if damage.kind in ("orphan", "stray") and os.path.lexists(cube / damage.path):
                _put_aside(cube, damage.path)
        for path, content in root.strayed(cube, root.nodes()).items():
            _write(cube, str(path.relative_to(cube)), content)
        harmed = {damage.path.split("/")[0] for damage in found if damage.kind == "coordinate"}
        for file, content in axis_files(root.spec.grid).items():
            if file.split("/")[0] in harmed & set(AXES):
                _write(cube, file, content)
        if harmed & {"time", "scene"}:
            for name in ("time", "scene"):
                _make_folder(cube, f"{name}/c")
            write_coordinates(cube, root.following(0), list(Ledger(cube, root.ledger).sealed().values()))
        history = f"{OWN}/history/{root.commit:06d}.json"
        if any(damage.path == history for damage in found):
            _write(cube, history, (cube / SELF).read_bytes())


def _make_folder(cube: Path, path: str) -> None:
    """Make a folder and its parents, moving away anything else in their place."""
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        folder = "/".join(parts[:count])
        if not (cube / folder).is_dir():
            if os.path.lexists(cube / folder):
                _put_aside(cube, folder)
            make_folder(cube, cube / folder)


def _write(cube: Path, path: str, content: bytes) -> None:
    """Write a file atomically, moving away anything else in its place or in that of its folders."""
    _make_folder(cube, path.rpartition("/")[0])
    if not _plain(cube / path):
        _put_aside(cube, path)
    write_whole(cube / path, content, below=cube)


def _plain(path: Path) -> bool:
    """Whether a file can be replaced by a rename: it is a regular file or does not exist."""
    return not os.path.lexists(path) or stat.S_ISREG(path.lstat().st_mode)


def _put_aside(cube: Path, path: str) -> None:
    """Move something to the trash, under a unique name."""
    trash = cube / TRASH
    make_folder(cube, trash)
    name, count = f"{now_text().replace(':', '')}-{path.replace('/', '-')}"[:200], 0
    while os.path.lexists(trash / f"{name}.{count}"):
        count += 1
    move(cube, cube / path, trash / f"{name}.{count}")
    os.utime(trash / f"{name}.{count}", follow_symlinks=False)
    sync_folder((cube / path).parent)


def _empty_trash(cube: Path) -> None:
    trash = cube / TRASH
    for path in trash.iterdir() if trash.is_dir() else ():
        if not path.is_symlink() and grace_is_over(path, 0.0):
            remove_tree(path, below=cube) if path.is_dir() else remove_file(cube, path)


# Old states and other orders of a cube: rolled back, sorted by time, without some steps. No pixel is rewritten.

_AWAY = "away-"
"""Prefix of a slot's folder while slots are exchanged."""


def root_of_commit(cube: Path, number: int) -> Root:
    """The root as written by a commit.

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
class CommitDifference:
    """The difference between two commits, by keys of steps.

    Attributes:
        added: Sealed in the later commit only.
        removed: Sealed in the earlier commit only.
        replaced: Rebuilt, from other items or with other pixels.
        noted: With a changed status, sealed in neither.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    replaced: tuple[str, ...]
    noted: tuple[str, ...]


def difference(cube: Path, one: int, other: int) -> CommitDifference:
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

    return CommitDifference(
        added=tuple(sorted(sealed[1] - sealed[0])),
        removed=tuple(sorted(sealed[0] - sealed[1])),
        replaced=tuple(sorted(key for key in both if changed(key))),
        noted=tuple(sorted(key for key in others if _status(before, key) != _status(after, key))),
    )


def roll_back(writer: CubeWriter, number: int) -> Root:
    """Restore the state of an older commit, as a new commit that can itself be rolled back.

    Args:
        writer: The writer of the cube.
        number: Number of the commit.

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
    """Reorder the sealed steps, and leave some out.

    Args:
        writer: The writer of the cube.
        keys: Keys of the sealed steps to keep, in the order of their new slots.
        noted: Rows without a slot for some of the steps left out, with the reason.
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

    # A completely new ledger: rows are only ever added, and those left out must be removed.
    out = writer.root.steps - len(kept)
    what = {"taken out": out} if out else {"put in order of time": len(kept)}
    return writer.regenerate(root, [*kept, *others], change, what=what, parts=())


def slots_in_order(rows: Sequence[Entry]) -> bool:
    """Whether the order of slots is that of time."""
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
