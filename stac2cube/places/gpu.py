"""Turns at a GPU, so that many worker processes do not fill its memory at once."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stac2cube.errors import PlaceError

AT_ONCE = 2
"""Processes that use the GPU of a node at the same time."""

_NAMES = 64
"""Names that are tried for the private folder."""


@contextmanager
def gpu_turn(folder: Path | None = None) -> Iterator[int]:
    """Wait for one of the node's turns, and hold it; a killed process gives it back.

    Args:
        folder: Where the turns are; a folder of this user's own below the node's temporary folder if None.

    Yields:
        Which turn.

    Raises:
        PlaceError: Other users took every name that such a folder could have.
    """
    own = f"gpu-{os.environ.get('CUDA_VISIBLE_DEVICES', '0').replace(',', '-').replace('/', '-')}"
    root = folder or private_folder(Path(tempfile.gettempdir()))
    while True:
        for turn in range(AT_ONCE):
            handle = os.open(root / f"{own}-{turn}", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            try:
                yield turn
            finally:
                os.close(handle)
            return
        time.sleep(0.05)


def private_folder(base: Path) -> Path:
    """A folder that is this user's alone, the same for all processes of the user on this node.

    Turns must have names that processes find without telling each other, so that ``tempfile.mkdtemp`` is no help. In a
    folder where everybody may write, another user may have made the folder, or a link, by that name: then the next name
    is taken.

    Args:
        base: Where; everybody may write there.

    Raises:
        PlaceError: All names are taken by others.
    """
    for number in range(_NAMES):
        path = base / f"stac2cube-{os.getuid()}-{number}"
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        state = path.lstat()
        if stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077:
            return path
    raise PlaceError(f"other users hold every name for a folder of yours in {base}: set TMPDIR to a folder of your own")
