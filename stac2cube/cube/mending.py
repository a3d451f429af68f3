"""Putting right what root, grid, ledger and old generations say of a damaged cube; pixels are made anew elsewhere.

Nothing that may be somebody's is removed: what belongs to no step and what is no part of the cube is put into the
cube's trash, which is emptied after the grace period.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from stac2cube.cube.axes import AXES, axis_files
from stac2cube.cube.census import Damage
from stac2cube.cube.files import remove_tree, sync_folder, write_whole
from stac2cube.cube.folders import make_folder, move, refuse_links_in_cube, remove_file
from stac2cube.cube.generation import grace_is_over, require_present
from stac2cube.cube.ledger import Ledger
from stac2cube.cube.lock import CubeLock
from stac2cube.cube.owner import Verdict
from stac2cube.cube.records import SELF, best_root, found_in_old_generations, require_last_root
from stac2cube.cube.root import OWN, now_text, read_root
from stac2cube.cube.slots import write_coordinates
from stac2cube.errors import BadInputError

TRASH = f"{OWN}/trash"


def restore_root(cube: Path, verdict: Verdict | None) -> None:
    """Put the newest root of the history that is whole in the place of one that is lost or not to be believed.

    Raises:
        BadInputError: No root of the history is whole; nothing was changed.
        CubeLockedError: Somebody else writes the cube.
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
    """Bring lost parts of the ledger, and what earlier commits left, back from old generations that have them.

    Raises:
        CubeLockedError: Somebody else writes the cube.
    """
    refuse_links_in_cube(cube)
    with CubeLock(cube, verdict=verdict):
        for damage in found:
            content = found_in_old_generations(cube, damage.path) if damage.kind in ("ledger", "history") else None
            if content is not None:
                _write(cube, damage.path, content)


def make_readable(cube: Path, found: Sequence[Damage]) -> None:
    """Give the owner back the right to read, from the top; needs no lock, as nobody's content changes."""
    for damage in sorted(found, key=lambda one: one.path):
        if damage.kind == "mode":
            path = cube / damage.path
            state = path.lstat()
            if not stat.S_ISLNK(state.st_mode):
                more = stat.S_IRUSR | stat.S_IWUSR | (stat.S_IXUSR if stat.S_ISDIR(state.st_mode) else 0)
                path.chmod(stat.S_IMODE(state.st_mode) | more)


def tidy_up(cube: Path, found: Sequence[Damage], verdict: Verdict | None) -> None:
    """Put right what needs no pixel: strays, metadata, coordinates, and the history of the last commit.

    Args:
        cube: The cube; its root and ledger are whole.
        found: What is wrong with it.
        verdict: See :class:`stac2cube.cube.lock.CubeLock`.

    Raises:
        CubeLockedError: Somebody else writes the cube.
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
    """Make a folder with those above it, over whatever is in their place."""
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        folder = "/".join(parts[:count])
        if not (cube / folder).is_dir():
            if os.path.lexists(cube / folder):
                _put_aside(cube, folder)
            make_folder(cube, cube / folder)


def _write(cube: Path, path: str, content: bytes) -> None:
    """Write a file whole, over whatever is in its place or in that of its folders."""
    _make_folder(cube, path.rpartition("/")[0])
    if not _plain(cube / path):
        _put_aside(cube, path)
    write_whole(cube / path, content, below=cube)


def _plain(path: Path) -> bool:
    """Whether a file can be replaced by a rename: it is plain, or there is none."""
    return not os.path.lexists(path) or stat.S_ISREG(path.lstat().st_mode)


def _put_aside(cube: Path, path: str) -> None:
    """Move something into the trash, under a name that no other has."""
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
