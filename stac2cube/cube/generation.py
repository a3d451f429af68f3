"""A new generation of a cube: a sibling built from hard links, changed, and swapped in.

No pixel is copied and no sealed file is ever written in place: files are replaced by renames, so the old generation
keeps its own content. It stays beside the cube for a grace period, for those who read it.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stac2cube.cube.files import exchange, remove_tree, sync_folder, write_whole
from stac2cube.cube.points import passing
from stac2cube.cube.root import OWN, read_root
from stac2cube.errors import CubeError

GRACE_DAYS = 7.0
"""How long an old generation stays for its readers."""

_NO_LINK = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
"""What a system says to a hard link that it does not make."""

_NOT_LINKED = ("staging",)
"""Folders below our own that belong to a run, not to the cube."""


@dataclass(frozen=True)
class Held:
    """One generation of a cube, found again wherever it lies by now.

    Attributes:
        cube: The cube.
        number: Of the generation.
    """

    cube: Path
    number: int

    def folder(self) -> Path:
        """Where its files are.

        Raises:
            CubeError: The cube is not there, or was rebuilt, and this generation is gone.
        """
        for _ in range(20):
            for path in (self.cube, _old_folder(self.cube, self.number), next_folder(self.cube)):
                if _number_at(path) == self.number:
                    return path
            time.sleep(0.1)  # generations may be on their way from one place to the other
        raise CubeError(
            f"{self.cube} was rebuilt since it was opened, and generation {self.number} is gone: open it again"
            if self.cube.exists()
            else f"{self.cube} is not there any more"
        )


def _number_at(cube: Path) -> int | None:
    """The generation that a folder holds, None if none; read anew only when its root was replaced."""
    try:
        state = (cube / "zarr.json").stat()
        return _number_of(cube, state.st_ino, state.st_mtime_ns, state.st_size)
    except (OSError, CubeError):
        return None


@lru_cache(maxsize=256)
def _number_of(cube: Path, *_state: int) -> int:
    return read_root(cube).generation


def swap_in(cube: Path, change: Callable[[Path], None], *, can_exchange: bool = True) -> None:
    """Build the next generation and make it the cube. The caller holds the lock.

    Args:
        cube: The cube.
        change: Called with the folder of the next generation to do what is new in it.
        can_exchange: False takes the way of file systems without an atomic exchange.
    """
    new, filling = next_folder(cube), _filling_folder(cube)
    remove_tree(filling)
    try:
        link_tree(cube, filling)
        passing("generation.linked")
        change(filling)
        passing("generation.filled")
        # Only what is whole has this name: of one that is being filled, its root, which may be that of an older state
        # put back, does not tell it from one that was just swapped out.
        filling.rename(new)
    finally:
        remove_tree(filling)  # is still there if the disk is full, which needs what it took
    passing("generation.named")
    old = _old_folder(cube, read_root(cube).generation)
    old.parent.mkdir(exist_ok=True)
    if can_exchange and exchange(new, cube):
        passing("generation.swapped")
        _put_away(new, old)
    else:
        journal = _journal(cube)
        write_whole(journal, json.dumps({"next": new.name, "old": f"{old.parent.name}/{old.name}"}).encode())
        passing("generation.noted")
        _put_away(cube, old)
        passing("generation.swapped")
        finish_journal(cube)
        journal.unlink()
    sync_folder(cube.parent)
    passing("generation.done")
    _purge(cube)


def finish_swap(cube: Path) -> None:
    """Finish what a kill interrupted; does nothing on a sound cube."""
    journal, new = _journal(cube), next_folder(cube)
    remove_tree(_filling_folder(cube))
    finish_journal(cube)
    if new.exists() and cube.exists():
        _settle(cube, new)
    journal.unlink(missing_ok=True)
    for partial in cube.parent.glob(f".{journal.name}.*.partial"):
        partial.unlink(missing_ok=True)


def finish_journal(cube: Path) -> bool:
    """Where a swap in two steps was interrupted between them, do the second; whoever finds it so may.

    Args:
        cube: The cube, which is not there in that case.

    Returns:
        Whether there is a cube now.

    Raises:
        OSError: It cannot be done.
    """
    if not cube.exists() and _journal(cube).exists():
        try:
            next_folder(cube).rename(cube)
        except OSError:
            if not cube.exists():  # else somebody else was quicker
                raise
    return (cube / "zarr.json").exists()


def link_tree(source: Path, target: Path) -> None:
    """The same tree of files under another name, by hard links.

    Raises:
        CubeError: They cannot be had here.
    """
    for folder, names, files in os.walk(source):
        here = Path(folder)
        if here == source / OWN:
            names[:] = [name for name in names if name not in _NOT_LINKED]
        there = target / here.relative_to(source)
        there.mkdir(parents=True)
        for name in files:
            try:
                os.link(here / name, there / name)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                raise CubeError(
                    f"{here / name}: no second name for it ({error.strerror}). The file system has no hard links, or "
                    "the file is another user's who lets you only read it. Nothing was changed"
                ) from error


def next_folder(cube: Path) -> Path:
    """Where the next generation waits to be swapped in, and the old one, once it is swapped out, to be put away."""
    return cube.with_name(f".{cube.name}.next")


def _filling_folder(cube: Path) -> Path:
    """Where the next generation is built."""
    return cube.with_name(f".{cube.name}.filling")


def generations_folder(cube: Path) -> Path:
    """Where old generations wait for the end of their grace period."""
    return cube.with_name(f".{cube.name}.generations")


def _old_folder(cube: Path, number: int) -> Path:
    return generations_folder(cube) / f"{number:06d}"


def _journal(cube: Path) -> Path:
    return cube.with_name(f".{cube.name}.swap")


def _settle(cube: Path, new: Path) -> None:
    """Decide what a left-over next folder is: the old generation just exchanged out, or one never swapped in."""
    swapped = (new / "zarr.json").exists() and read_root(new).generation < read_root(cube).generation
    if swapped:
        old = _old_folder(cube, read_root(new).generation)
        old.parent.mkdir(exist_ok=True)
        _put_away(new, old)
    else:
        remove_tree(new)


def _put_away(generation: Path, old: Path) -> None:
    """Let a generation that was the cube wait for its readers; its grace period begins now."""
    os.utime(generation)  # of itself the folder is as old as the cube's last commit
    generation.rename(old)


def _purge(cube: Path) -> None:
    """Remove generations older than the grace period."""
    for old in generations_folder(cube).iterdir():
        if time.time() - old.stat().st_mtime > GRACE_DAYS * 86400:
            remove_tree(old)
