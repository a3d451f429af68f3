"""Files that are either there and whole, or not there: every write of a cube goes through this room."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from stac2cube.cube.folders import open_folder, real_folder
from stac2cube.cube.points import passing
from stac2cube.errors import BadInputError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A full disk, an exhausted quota, a read-only file system: nothing that is written can succeed."""

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""What file systems say that cannot sync a folder (some FUSE, SMB and 9p mounts)."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_whole(path: Path, content: bytes, *, below: Path | None = None) -> None:
    """Write a file so that others see the old content or the new, never a part; durable when this returns.

    Args:
        path: Of the file.
        content: Its content.
        below: Between this folder and the file no link is followed; the file's own folder if None.

    Raises:
        BadInputError: There is a link on the way.
    """
    with open_folder(below or path.parent, path.parent) as folder:
        partial = _write_partial(path, content, folder)
        try:
            os.replace(partial, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(partial, dir_fd=folder)
            raise
        passing("file.named")
        sync_descriptor(folder)


def write_partial(path: Path, content: bytes) -> Path:
    """The first half of :func:`write_whole`: a durable file beside ``path``, to be renamed onto it."""
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
            os.unlink(partial, dir_fd=folder)  # a full disk needs what it took
            raise
    except OSError as error:
        error.filename = str(path)
        raise
    return partial


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside ``path`` for a library to write to: it becomes ``path``, durably, unless the block fails.

    Its suffix is that of ``path``, by which many libraries choose the format. Where the block fails nothing is left.
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
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error  # which people know by this name
    finally:
        partial.unlink(missing_ok=True)


def read_plain(path: Path, *, follow: bool = False) -> bytes:
    """The content of a plain file; does not wait at a pipe.

    Args:
        path: Of the file.
        follow: Whether it may be a symbolic link.

    Raises:
        OSError: Not there, a symbolic link, not a plain file, or not readable.
    """
    # O_NONBLOCK: a pipe without a writer would never open.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        return file.read()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(folder: int) -> None:
    """The same of a folder that is given by its descriptor."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise  # whoever creates a cube is told that folders cannot be synced here


def sync_tree(folder: Path) -> None:
    """Make a folder durable with all that is in it."""
    for here, _, files in os.walk(folder, topdown=False):
        for name in files:
            with (Path(here) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(here))


def system_error(error: Exception) -> Exception:
    """Libraries in other languages give the system's errors as text: a full disk must stay a full disk.

    Args:
        error: Of a library; those that it came from are looked at too.

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
    """What the system says when a cube cannot be written, as one line that says what to do.

    Args:
        path: The cube.
        error: What the system says.
    """
    if isinstance(error, PermissionError):
        return BadInputError(f"{path} cannot be written: {error.strerror} ({error.filename})")
    where = f" ({error.filename})" if error.filename and error.errno not in DISK_ERRORS else ""
    advice = {errno.EROFS: "", errno.ENOSPC: "; make room and run again", errno.EDQUOT: "; make room and run again"}
    do = advice.get(error.errno or 0, "; run again to go on")
    return BadInputError(f"{path} cannot be written: {error.strerror or error}{where}. What was sealed is safe{do}.")


def remove_tree(folder: Path, *, below: Path | None = None) -> None:
    """Remove a folder that may not exist or is being removed by somebody else too; links in it are not followed.

    Args:
        folder: The folder.
        below: Between this folder and that one no link is followed either; its own parent if None.

    Raises:
        BadInputError: It is a symbolic link itself, or there is one on the way.
    """
    real_folder(folder)
    with suppress(FileNotFoundError), open_folder(below or folder.parent, folder.parent) as parent:
        shutil.rmtree(folder.name, ignore_errors=True, dir_fd=parent)  # which does not follow what becomes a link


def remove_partials(folder: Path, *, deep: bool = False) -> None:
    """Remove what killed writers left in a folder, and below it if ``deep``: nobody else may be writing there.

    That is whatever is named as :func:`write_partial` names it, file or folder.
    """
    for left in list(folder.rglob(".*.partial*") if deep else folder.glob(".*.partial*")):
        if left.is_dir() and not left.is_symlink():
            remove_tree(left)
        else:
            left.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one atomic step where the file system can (Linux ``renameat2``).

    Returns:
        False where the system or the file system cannot; then nothing has changed.

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
