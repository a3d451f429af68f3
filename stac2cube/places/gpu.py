"""Turns at a GPU, so that many worker processes do not fill its memory at once."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AT_ONCE = 2
"""Processes that use the GPU of a node at the same time."""


@contextmanager
def gpu_turn(folder: Path | None = None) -> Iterator[int]:
    """Wait for one of the node's turns, and hold it; a killed process gives it back.

    Args:
        folder: Where the turns are; the node's temporary folder if None.

    Yields:
        Which turn.
    """
    own = f"stac2cube-gpu-{os.environ.get('CUDA_VISIBLE_DEVICES', '0').replace(',', '-')}-{os.getuid()}"
    root = folder or Path(tempfile.gettempdir())
    while True:
        for turn in range(AT_ONCE):
            handle = os.open(root / f"{own}-{turn}", os.O_CREAT | os.O_RDWR, 0o600)
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
