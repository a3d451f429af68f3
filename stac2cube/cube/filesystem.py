"""What the file system of a new cube cannot do: said once, when the cube is created, and not when it is missed."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stac2cube.cube.files import exchange

log = logging.getLogger(__name__)

_REFUSES = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV)
"""What a file system answers to a call that it does not have."""


def tell_shortcomings(folder: Path) -> None:
    """Warn, a line each, of what the file system of a folder cannot do; see :func:`shortcomings`."""
    for shortcoming in shortcomings(folder):
        log.warning("the file system of %s is not made for cubes: %s", folder.parent, shortcoming)


def shortcomings(folder: Path) -> Iterator[str]:
    """What the file system of a folder cannot do and a cube wants; tried with files in a folder that is removed again.

    Args:
        folder: Where; must be writable.

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
