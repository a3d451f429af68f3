"""Atomic file writes; named points of the commit protocol; no symbolic links inside a cube."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from stac2cube.errors import BadInputError

# Named points in the commit protocol.
#
# A build can die anywhere. So that tests can kill it at an exact point, the protocol announces each named point. In
# production there are no listeners, and the call costs a loop over an empty list.

POINTS = (
    "create.filled",
    "create.renamed",
    "block.encoded",
    "block.written",
    "commit.begin",
    "commit.layer-moved",
    "commit.step-moved",
    "commit.coordinates-written",
    "commit.ledger-written",
    "commit.history-written",
    "commit.root-written",
    "commit.root-replaced",
    "commit.arrays-replaced",
    "commit.done",
    "generation.linked",
    "generation.filled",
    "generation.marked",
    "generation.named",
    "generation.noted",
    "generation.swapped",
    "generation.done",
    "file.written",
    "file.named",
    "sample.made",
    "sample.away",
    "sample.named",
    "shard.made",
    "shard.named",
    "year.begun",
    "year.part-made",
    "year.finished",
    "year.renamed",
    "year.sealed",
)
"""All points, in the order in which a build passes them; those of files and of training sets
occur in between."""

listeners: list[Callable[[str], None]] = []
"""Called with the name of each point; tests append to it."""


def passing(point: str) -> None:
    """Announce that the protocol passes ``point``."""
    for listener in listeners:
        listener(point)


# Checks of folders before a writer changes them: no symbolic links inside, and whether one is a mount point.
#
# A cube may come from elsewhere. A link inside it would lead a writer, which renames and removes, out of the cube. The
# path of the cube itself may be a link: it is resolved first.
#
# Where others may write in the cube as well, something that was checked may be replaced before it is used. So whatever
# is made, moved or removed below a cube is reached folder by folder, by descriptors, without following links.

_MOUNTS = Path("/proc/self/mountinfo")

_DEPTH = 3
"""Levels below a cube in which a writer makes, renames or removes names: arrays, their ``c``, its slots. Below a
slot it removes whole trees only, which follows no link."""

_STAGED = 4
"""Levels below staging: runs, steps, layers, their ``c``."""


class Listings:
    """The names in folders, each listed again only if the folder changed.

    A writer lists folders with a name for every step or commit several times: to find leftovers of a dead run, and
    steps without files. Only for the holder of the lock: if file times are coarse, changes by others within the same
    tick are not seen.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], list[str]]] = {}

    def names(self, folder: Path) -> list[str]:
        """Names in a folder, unordered; empty if there is no folder."""
        try:
            state = _state(folder.stat())
            if (known := self._known.get(folder)) and known[0] == state:
                return known[1]
            found = os.listdir(folder)  # noqa: PTH208 - thousands of names
        except (FileNotFoundError, NotADirectoryError):
            return []
        self._known[folder] = state, found
        return found

    def forget(self) -> None:
        """Drop all cached names."""
        self._known.clear()


def _state(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_ino, state.st_mtime_ns, state.st_ctime_ns


def refuse_links_in_cube(cube: Path) -> None:
    """Refuse a cube with a link or a mount point where a writer works, in it or beside it; about 50 listings at most.

    Raises:
        BadInputError: There is one; the message names it, and nothing was changed.
    """
    refuse_links(cube)
    staging = cube / ".stac2cube" / "staging"
    if staging.is_dir():  # from jobs, or a run that died
        refuse_links(staging, _STAGED)
    refuse_links_beside(cube)
    below = sorted(point for point in _mount_points() if point.startswith(os.fsencode(cube.resolve()) + b"/"))
    if below:
        raise BadInputError(
            f"{os.fsdecode(below[0])} is a mount point inside the cube {cube}: what lies there is not the cube's own, "
            "and nothing can be moved into it in one step. Nothing was changed. Unmount it"
        )


def refuse_links(folder: Path, depth: int = _DEPTH) -> None:
    """Refuse a cube, or another folder of stac2cube, with a symbolic link inside; one listing per folder, no file read.

    Args:
        folder: The folder; its own path may be a link.
        depth: Levels below it that are checked.

    Raises:
        BadInputError: There is a link; the message names it, and nothing was changed.
    """
    with os.scandir(folder) as found:
        entries = list(found)
    # Without a Python loop: there is a name for every step and commit.
    for link in filter(os.DirEntry.is_symlink, entries):
        raise linked(Path(link.path))
    for entry in entries if depth > 1 else ():
        if entry.is_dir(follow_symlinks=False):
            with suppress(FileNotFoundError):  # a job moved its staged files
                refuse_links(Path(entry.path), depth - 1)


def refuse_links_beside(cube: Path) -> None:
    """Refuse a cube if one of the names that its writer uses beside it is a symbolic link.

    Raises:
        BadInputError: There is such a link; the message names it, and nothing was changed.
    """
    for word in ("lock", "next", "filling", "generations", "swap", "making", "remade"):
        real_folder(cube.with_name(f".{cube.name}.{word}"))
    for folder in (cube.with_name(f".{cube.name}.generations"), cube.with_name(f"{cube.name}.years")):
        if real_folder(folder).is_dir():
            refuse_links(folder, 1)


def real_folder(path: Path) -> Path:
    """The path, unless it is a symbolic link.

    Raises:
        BadInputError: It is a symbolic link.
    """
    if path.is_symlink():
        raise linked(path)
    return path


@contextmanager
def open_folder(root: Path, folder: Path, *, make: bool = False) -> Iterator[int]:
    """Open a descriptor of a folder below another without following links, also if others change the tree meanwhile.

    Args:
        root: Start of the path; its own path may contain links.
        folder: ``root`` or a folder below it.
        make: Create missing folders on the path.

    Yields:
        The descriptor, for ``dir_fd``.

    Raises:
        BadInputError: There is a link on the path.
        OSError: A folder does not exist, is not a folder, or cannot be opened or created.
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
                with suppress(FileExistsError):  # another process was faster
                    mkdir_in(here, descriptor)
                below = _open_part(here, descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def mkdir_in(path: Path, parent: int) -> None:
    """Make a folder in one that is given by its descriptor; errors name its whole path.

    Raises:
        OSError: It cannot be made, or is there.
    """
    try:
        os.mkdir(path.name, dir_fd=parent)
    except OSError as error:
        error.filename = str(path)
        raise


def _open_part(path: Path, parent: int) -> int:
    try:
        return os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP) and is_link(path.name, parent):
            raise linked(path) from None
        error.filename = str(path)
        raise


def is_link(name: str, parent: int) -> bool:
    """Whether a name in a folder, given by the folder's descriptor, is a symbolic link."""
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=parent).st_mode)
    except FileNotFoundError:
        return False


def make_folder(root: Path, folder: Path) -> None:
    """Make a folder, and those between ``root`` and it, if missing; see :func:`open_folder`."""
    with open_folder(root, folder, make=True):
        pass


def move(root: Path, source: Path, target: Path) -> None:
    """Rename something below ``root``; an existing target may be replaced; see :func:`open_folder`."""
    with open_folder(root, source.parent) as here, open_folder(root, target.parent) as there:
        try:
            os.replace(source.name, target.name, src_dir_fd=here, dst_dir_fd=there)
        except OSError as error:
            error.filename, error.filename2 = str(source), str(target)
            raise


def remove_file(root: Path, file: Path) -> None:
    """Remove a file below ``root``, if it exists; of a link only the link. See :func:`open_folder`."""
    with suppress(FileNotFoundError), open_folder(root, file.parent) as parent:
        os.unlink(file.name, dir_fd=parent)


def linked(path: Path) -> BadInputError:
    """The error for a symbolic link."""
    return BadInputError(
        f"{path} is a symbolic link. stac2cube follows no link inside a cube or a folder that it keeps, because what "
        "lies behind it may be yours. Nothing was changed. Put the folder or file itself there, or remove the link"
    )


def is_mount_point(path: Path) -> bool:
    """Whether a folder is itself a mount point: of a file system, or of a folder (``mount --bind``, containers)."""
    path = path.resolve()
    # os.path.ismount does not detect a folder that is bound to another path of the same file system.
    return os.path.ismount(path) or os.fsencode(path) in _mount_points()


def require_renamable(cube: Path, what: str) -> None:
    """Refuse an operation that needs folders beside the cube if the cube is a mount point, as these would not be on it.

    Args:
        cube: The cube.
        what: The refused operation, for the message.

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


# Files that are either complete or absent: every write to a cube goes through this module.

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A full disk, an exhausted quota, a read-only file system: no write can succeed."""

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""Errors of file systems that cannot sync a folder (some FUSE, SMB and 9p mounts)."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_whole(path: Path, content: bytes, *, below: Path | None = None) -> None:
    """Write a file so that readers see the old or the new content, never a part; durable when this returns.

    Args:
        path: The file.
        content: Its content.
        below: No link is followed between this folder and the file; the file's own folder if None.

    Raises:
        BadInputError: There is a link on the path.
    """
    with open_folder(below or path.parent, path.parent) as folder:
        partial = _write_partial(path, content, folder)
        try:
            os.replace(partial, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):  # after an interruption it may have its final name already
                os.unlink(partial, dir_fd=folder)
            raise
        passing("file.named")
        sync_descriptor(folder)


def write_partial(path: Path, content: bytes) -> Path:
    """The first half of :func:`write_whole`: a durable file beside ``path``, to be renamed to it."""
    with open_folder(path.parent, path.parent) as folder:
        return path.with_name(_write_partial(path, content, folder))


def _write_partial(path: Path, content: bytes, folder: int) -> str:
    partial = f".{path.name}.{uuid4().hex[:8]}.partial"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            passing("file.written")
        except BaseException:
            os.unlink(partial, dir_fd=folder)  # a full disk needs its space
            raise
    except OSError as error:
        error.filename = str(path)
        raise
    return partial


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path for a library to write to: it becomes ``path``, durably, unless the block fails.

    It keeps the suffix of ``path``, by which many libraries choose the format. If the block fails, nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.partial{path.suffix}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        passing("file.written")
        partial.replace(path)
        passing("file.named")
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(partial)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error  # users know this name
    finally:
        partial.unlink(missing_ok=True)


def read_plain(path: Path, *, follow: bool = False) -> bytes:
    """The content of a regular file; does not block on a pipe.

    Args:
        path: The file.
        follow: Whether it may be a symbolic link.

    Raises:
        OSError: Not there, a symbolic link, not a regular file, or not readable.
    """
    # O_NONBLOCK: opening a pipe without a writer would block forever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        return file.read()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, if the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(folder: int) -> None:
    """The same for a folder given by its descriptor."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise  # creating a cube warns if folders cannot be synced


def sync_tree(folder: Path) -> None:
    """Make a folder and its whole content durable."""
    for here, _, files in os.walk(folder, topdown=False):
        for name in files:
            with (Path(here) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(here))


def system_error(error: Exception) -> Exception:
    """Recover the system's error from an error of a library in another language, which may hold it as text only.

    Args:
        error: Error of a library; its causes are searched too.

    Returns:
        The system's error if one is named, else the error itself.
    """
    told: BaseException | None = error
    while told is not None:
        if isinstance(told, OSError) and told.errno in DISK_ERRORS:
            return told
        code = re.search(r"\(os error (\d+)\)|\berrno = (\d+)", str(told))
        number = int(code[1] or code[2]) if code else 0
        number = number or next((known for known in DISK_ERRORS if os.strerror(known) in str(told)), 0)
        if number:
            return OSError(number, os.strerror(number))
        told = told.__cause__ or told.__context__
    return error


def cannot_be_written(path: Path, error: OSError) -> BadInputError:
    """An error of the system on writing a cube, as one line with advice.

    Args:
        path: The cube.
        error: The error of the system.
    """
    if isinstance(error, PermissionError):
        return BadInputError(f"{path} cannot be written: {error.strerror} ({error.filename})")
    where = f" ({error.filename})" if error.filename and error.errno not in DISK_ERRORS else ""
    advice = {errno.EROFS: "", errno.ENOSPC: "; make room and run again", errno.EDQUOT: "; make room and run again"}
    do = advice.get(error.errno or 0, "; run again to go on")
    return BadInputError(f"{path} cannot be written: {error.strerror or error}{where}. What was sealed is safe{do}.")


def remove_tree(folder: Path, *, below: Path | None = None) -> None:
    """Remove a folder that may not exist or that others may be removing too; links in it are not followed.

    Args:
        folder: The folder.
        below: No link is followed between this folder and ``folder``; its own parent if None.

    Raises:
        BadInputError: The folder is a symbolic link, or there is one on the path.
    """
    real_folder(folder)
    with suppress(FileNotFoundError), open_folder(below or folder.parent, folder.parent) as parent:
        shutil.rmtree(folder.name, ignore_errors=True, dir_fd=parent)  # does not follow names that become links


def remove_partials(folder: Path, *, deep: bool = False) -> None:
    """Remove leftovers of killed writers in a folder, and below it if ``deep``. Nobody else may be writing there.

    Leftovers are all files and folders with names as in :func:`write_partial`.
    """
    for left in list(folder.rglob(".*.partial*") if deep else folder.glob(".*.partial*")):
        if left.is_dir() and not left.is_symlink():
            remove_tree(left)
        else:
            left.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one atomic step, if the file system can (Linux ``renameat2``).

    Returns:
        False if the system or the file system cannot; then nothing has changed.

    Raises:
        OSError: Any other failure.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    done = libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if done == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(one))


# Missing features of the file system of a new cube: reported once, when the cube is created, not when they are needed.

log = logging.getLogger(__name__)

_REFUSES = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV)
"""Errors of file systems for unsupported calls."""


def tell_shortcomings(folder: Path) -> None:
    """Warn, a line each, about missing features of the file system of a folder; see :func:`shortcomings`."""
    for shortcoming in shortcomings(folder):
        log.warning("the file system of %s is not made for cubes: %s", folder.parent, shortcoming)


def shortcomings(folder: Path) -> Iterator[str]:
    """Features that a cube needs and the file system of a folder lacks; tested with files in a temporary folder.

    Args:
        folder: The folder; must be writable.

    Yields:
        A sentence for each.
    """
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=folder) as trial:
        one, other = Path(trial) / "one", Path(trial) / "other"
        one.mkdir()
        other.mkdir()
        file = one / "file"
        file.touch()
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _REFUSES:
                raise
            yield "it cannot sync folders: after a power failure the last commit may be gone"
        finally:
            os.close(descriptor)
        try:
            os.link(file, other / "file")
        except OSError as error:
            if error.errno not in _REFUSES:
                raise
            yield "it has no hard links: steps can be added, but tidy, rollback and replacing steps will be refused"
        if not exchange(one, other):
            yield (
                "it cannot exchange two folders in one step: while steps are replaced the cube is away for a moment, "
                "for which readers of stac2cube wait and others do not"
            )
