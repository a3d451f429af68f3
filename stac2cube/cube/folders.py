"""What a writer asks of folders before it touches them: no symbolic links inside, and whether one is a mount point.

A cube may come from elsewhere. A link inside it would lead a writer, which renames and removes, out of the cube. The
path of the cube itself may be a link: it is resolved first.

What is looked at before may be another thing when it is used, where others may write in the cube as well. So whatever
is made, moved or removed below a cube is reached folder by folder, by descriptors, and no link is followed on the way.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stac2cube.errors import BadInputError

_MOUNTS = Path("/proc/self/mountinfo")

_DEPTH = 3
"""Levels below a cube in which a writer makes, renames or removes names: arrays, their ``c``, the slots in it. Below a
slot it removes whole trees only, which follows no link."""

_STAGED = 4
"""Levels below staging: runs, steps, layers, their ``c``."""


def refuse_links_in_cube(cube: Path) -> None:
    """Refuse a cube with a link or a mount point where a writer looks, in it or beside it; some 50 listings at most.

    Raises:
        BadInputError: There is one; it is named, and nothing was changed.
    """
    refuse_links(cube)
    staging = cube / ".stac2cube" / "staging"
    if staging.is_dir():  # what jobs staged, or a run that died
        refuse_links(staging, _STAGED)
    refuse_links_beside(cube)
    below = sorted(point for point in _mount_points() if point.startswith(os.fsencode(cube.resolve()) + b"/"))
    if below:
        raise BadInputError(
            f"{os.fsdecode(below[0])} is a mount point inside the cube {cube}: what lies there is not the cube's own, "
            "and nothing can be moved into it in one step. Nothing was changed. Unmount it"
        )


def refuse_links(folder: Path, depth: int = _DEPTH) -> None:
    """Refuse a cube, or another folder of ours, with a symbolic link inside; one listing per folder, no file is read.

    Args:
        folder: The folder; its own path may be a link.
        depth: Levels below it that are looked at.

    Raises:
        BadInputError: There is a link; it is named, and nothing was changed.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise linked(Path(entry.path))
            if depth > 1 and entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):  # a job moved what it had staged
                    refuse_links(Path(entry.path), depth - 1)


def refuse_links_beside(cube: Path) -> None:
    """Refuse a cube beside which one of the names that its writer uses is a symbolic link.

    Raises:
        BadInputError: There is such a link; it is named, and nothing was changed.
    """
    for word in ("lock", "next", "filling", "generations", "swap", "making", "remade"):
        real_folder(cube.with_name(f".{cube.name}.{word}"))
    for folder in (cube.with_name(f".{cube.name}.generations"), cube.with_name(f"{cube.name}.years")):
        if real_folder(folder).is_dir():
            refuse_links(folder, 1)


def real_folder(path: Path) -> Path:
    """The path, which is no symbolic link.

    Raises:
        BadInputError: It is one.
    """
    if path.is_symlink():
        raise linked(path)
    return path


@contextmanager
def open_folder(root: Path, folder: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder that is reached from another without following a link, whatever happens meanwhile.

    Args:
        root: Where the way begins; its own path may lead over links.
        folder: ``root`` or a folder below it.
        make: Make the folders on the way that are not there.

    Yields:
        The descriptor, for ``dir_fd``.

    Raises:
        BadInputError: There is a link on the way.
        OSError: A folder is not there, is none, or cannot be opened or made.
    """
    here, descriptor = root, os.open(root, _FOLDER)
    try:
        for part in folder.relative_to(root).parts:
            here = here / part
            try:
                below = _open_part(here, descriptor)
            except FileNotFoundError:
                if not make:
                    raise
                with suppress(FileExistsError):  # another process was quicker
                    os.mkdir(part, dir_fd=descriptor)
                below = _open_part(here, descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def _open_part(path: Path, parent: int) -> int:
    try:
        return os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP) and is_link(path.name, parent):
            raise linked(path) from None
        error.filename = str(path)
        raise


def is_link(name: str, parent: int) -> bool:
    """Whether a name in a folder, given by its descriptor, is a symbolic link."""
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=parent).st_mode)
    except FileNotFoundError:
        return False


def make_folder(root: Path, folder: Path) -> None:
    """Make a folder, with those between ``root`` and it, if it is not there; see :func:`open_folder`."""
    with open_folder(root, folder, make=True):
        pass


def move(root: Path, source: Path, target: Path) -> None:
    """Rename something below ``root``, where the target may be replaced; see :func:`open_folder`."""
    with open_folder(root, source.parent) as here, open_folder(root, target.parent) as there:
        try:
            os.replace(source.name, target.name, src_dir_fd=here, dst_dir_fd=there)
        except OSError as error:
            error.filename, error.filename2 = str(source), str(target)
            raise


def remove_file(root: Path, file: Path) -> None:
    """Remove a file below ``root``, if it is there; of a link only the link. See :func:`open_folder`."""
    with suppress(FileNotFoundError), open_folder(root, file.parent) as parent:
        os.unlink(file.name, dir_fd=parent)


def linked(path: Path) -> BadInputError:
    """The refusal of a symbolic link."""
    return BadInputError(
        f"{path} is a symbolic link. stac2cube follows no link inside a cube or a folder that it keeps, because what "
        "lies behind it may be yours. Nothing was changed. Put the folder or file itself there, or remove the link"
    )


def is_mount_point(path: Path) -> bool:
    """Whether a folder is a mount point of its own: of a file system, or of a folder (``mount --bind``, containers)."""
    path = path.resolve()
    # os.path.ismount does not see a folder that is bound to another place of the same file system.
    return os.path.ismount(path) or os.fsencode(path) in _mount_points()


def require_renamable(cube: Path, what: str) -> None:
    """Refuse what needs folders beside a cube that is a mount point: they would lie beside the mount, not the cube.

    Args:
        cube: The cube.
        what: What is refused, for the message.

    Raises:
        BadInputError: The cube is a mount point; nothing was changed.
    """
    if is_mount_point(cube):
        raise BadInputError(
            f"{cube} is a mount point, and {what} puts another folder in the place of a cube, or beside it. Nothing "
            "was changed. Run it where the cube is a plain folder: mount the folder that holds the cube, not the cube"
        )


def _mount_points() -> set[bytes]:
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:  # not Linux, or no /proc
        return set()
    # proc(5): the fifth field is the mount point; space, tab, newline, backslash and # are written in octal.
    return {re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), line.split()[4]) for line in lines}
