"""A new generation of a cube: a sibling made of hard links, changed, and swapped in.

No pixel is copied and no sealed file is ever written in place: files are replaced by renames, so the old generation
keeps its own content. It stays beside the cube for a grace period, for current readers.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from stac2cube.errors import BadInputError, CubeError
from stac2cube.store.files import (
    exchange,
    is_mount_point,
    linked,
    make_folder,
    move,
    open_folder,
    passing,
    remove_file,
    remove_tree,
    sync_folder,
    write_whole,
)
from stac2cube.store.metadata import OWN, finish_journal, next_folder, now_text, read_root, swap_journal

GRACE_DAYS = 7.0
"""Days for which an old generation stays for its readers."""

_OFF = 86400.0
"""Tolerated difference between clocks of machines that share a file system, seconds."""

_FIRST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""No generation is older than the first version: an earlier time comes from a clock that was not set."""

_MARK = "put-away"
"""File in our folder of a generation that is no longer the cube. If the cube is a mount point, as in a container,
the mount keeps showing its original folder, which may be such a generation."""

_NO_LINK = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
"""Errors of systems that refuse a hard link."""

_NOT_LINKED = ("staging", "trash", _MARK)
"""Names in our folder that belong to a run or to one generation, not to the cube. The lock is linked: the holder of a
cube also holds its next generation."""


@dataclass(frozen=True)
class Held:
    """One generation of a cube, found wherever it has been moved.

    Attributes:
        cube: The cube.
        number: Number of the generation.
    """

    cube: Path
    number: int

    def folder(self) -> Path:
        """The folder with its files.

        Raises:
            CubeError: The cube is not there, or was rebuilt, and this generation is gone.
        """
        for _ in range(20):
            for path in (self.cube, _old_folder(self.cube, self.number), next_folder(self.cube)):
                if _number_at(path) == self.number:
                    return path
            time.sleep(0.1)  # generations may just be changing places
        raise CubeError(
            f"{self.cube} was rebuilt since it was opened, and generation {self.number} is gone: open it again"
            if self.cube.exists()
            else f"{self.cube} is not there any more"
        )


def _number_at(cube: Path) -> int | None:
    """Number of the generation in a folder, None if there is none; read again only if its root was replaced."""
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
        change: Called with the folder of the next generation, to change it.
        can_exchange: False uses the procedure for file systems without an atomic exchange.
    """
    new, filling = next_folder(cube), _filling_folder(cube)
    remove_tree(filling)
    try:
        link_tree(cube, filling)
        passing("generation.linked")
        change(filling)
        passing("generation.filled")
        write_whole(cube / OWN / _MARK, now_text().encode(), below=cube)
        passing("generation.marked")
        # Only a complete generation has this name. One that is being filled cannot be distinguished by its root from
        # one just swapped out, because its root may be an older state that was put back.
        filling.rename(new)
    except BaseException:
        remove_file(cube, cube / OWN / _MARK)
        raise
    finally:
        remove_tree(filling)  # still there if the disk is full: frees its space
    passing("generation.named")
    old = _old_folder(cube, read_root(cube).generation)
    old.parent.mkdir(exist_ok=True)
    if can_exchange and exchange(new, cube):
        passing("generation.swapped")
        _put_away(new, old)
    else:
        journal = swap_journal(cube)
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
    """Finish an interrupted swap; does nothing on a sound cube."""
    journal, new = swap_journal(cube), next_folder(cube)
    remove_tree(_filling_folder(cube))
    finish_journal(cube)
    if new.exists() and cube.exists():
        _settle(cube, new)
    journal.unlink(missing_ok=True)
    for partial in cube.parent.glob(f".{journal.name}.*.partial"):
        partial.unlink(missing_ok=True)
    require_present(cube)
    remove_file(cube, cube / OWN / _MARK)  # from a swap that was killed before it took place


def require_present(cube: Path) -> None:
    """Refuse a generation that was put away: anything written there is lost.

    Raises:
        BadInputError: The folder is no longer the cube; nothing was changed.
    """
    away = cube.parent.name.startswith(".") and cube.parent.name.endswith(".generations")
    if (cube / OWN / _MARK).exists() and (away or is_mount_point(cube)):
        raise BadInputError(
            f"{cube} shows an old generation of a cube that was rebuilt since. Nothing was changed. Mount the cube "
            "again (start the container again), or name the cube itself"
        )


def link_tree(source: Path, target: Path) -> None:
    """Copy a tree of files by hard links.

    Raises:
        CubeError: Hard links are not possible here.
        BadInputError: There is a symbolic link in the tree.
    """
    pending = [(source, target)]
    target.mkdir(parents=True)
    while pending:
        here, there = pending.pop()
        with open_folder(source, here) as old, open_folder(target, there) as new, os.scandir(old) as entries:
            for entry in entries:
                if here == source / OWN and (entry.name in _NOT_LINKED or entry.name.startswith("lock.")):
                    continue
                if entry.is_symlink():
                    raise linked(here / entry.name)
                if entry.is_dir(follow_symlinks=False):
                    os.mkdir(entry.name, dir_fd=new)
                    pending.append((here / entry.name, there / entry.name))
                else:
                    _link(here / entry.name, old, new)


def _link(file: Path, old: int, new: int) -> None:
    try:
        os.link(file.name, file.name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    except OSError as error:
        error.filename = str(file)
        if error.errno not in _NO_LINK:
            raise
        raise CubeError(
            f"{file}: no second name for it ({error.strerror}). The file system has no hard links, or the file is "
            "another user's who lets you only read it. Nothing was changed"
        ) from error


def _filling_folder(cube: Path) -> Path:
    """The folder in which the next generation is built."""
    return cube.with_name(f".{cube.name}.filling")


def generations_folder(cube: Path) -> Path:
    """The folder in which old generations stay until the end of their grace period."""
    return cube.with_name(f".{cube.name}.generations")


def _old_folder(cube: Path, number: int) -> Path:
    return generations_folder(cube) / f"{number:06d}"


def _settle(cube: Path, new: Path) -> None:
    """Classify a leftover next folder: the old generation just exchanged out, or one never swapped in."""
    swapped = (new / "zarr.json").exists() and read_root(new).generation < read_root(cube).generation
    if swapped:
        old = _old_folder(cube, read_root(new).generation)
        old.parent.mkdir(exist_ok=True)
        _put_away(new, old)
    else:
        remove_tree(new)


def grace_is_over(path: Path, since: float) -> bool:
    """Whether the grace period of a file or folder that was touched at its start is over.

    The clock of the machine that touched it, or of this one, may have been wrong. If the time is implausible (before
    that of its predecessor, or in the future), the grace period starts again.

    Args:
        path: The file or folder; touched again if its time is implausible.
        since: Creation time of its predecessor, seconds since 1970.
    """
    with tempfile.NamedTemporaryFile(prefix=".now-", dir=path.parent) as file:
        now = os.fstat(file.fileno()).st_mtime  # by the same clock as the other times
    began = path.lstat().st_mtime
    if not max(since - _OFF, _FIRST) <= began <= now + _OFF:
        os.utime(path)
        return False
    return now - began > GRACE_DAYS * 86400


def _put_away(generation: Path, old: Path) -> None:
    """Move a generation that was the cube aside for its readers; its grace period starts now."""
    os.utime(generation)  # without this, the folder has the time of the cube's last commit
    remove_tree(generation / OWN / "lock", below=generation)  # nobody holds it there
    if os.path.lexists(old):  # from an earlier cube of this name, whose folder was deleted
        move(old.parent, old, old.with_name(f"{old.name}.of-another-{uuid.uuid4().hex[:8]}"))
    move(generation.parent, generation, old)


def _purge(cube: Path) -> None:
    """Remove generations older than the grace period."""
    for old in generations_folder(cube).iterdir():
        if old.is_symlink():
            continue
        made = _clock_was_wrong(old)
        if grace_is_over(old, made):
            remove_tree(old, below=cube.parent)
        elif made:
            make_folder(cube.parent, old / OWN)
            # By the clock that now measures the grace period.
            write_whole(old / OWN / _MARK, now_text().encode(), below=cube.parent)
            os.utime(old)


def _clock_was_wrong(old: Path) -> float:
    """Creation time of an old generation if it was put away by a clock that showed an earlier time, else 0."""
    try:
        made = datetime.fromisoformat(read_root(old).own["made"]).timestamp()
        marked = datetime.fromisoformat((old / OWN / _MARK).read_text(encoding="utf-8")).timestamp()
    except FileNotFoundError:
        return made  # put away by version 0.1.0
    except (OSError, ValueError, KeyError, CubeError):
        return 0.0
    return made if marked < made - _OFF else 0.0
