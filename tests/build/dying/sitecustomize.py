"""Makes a Python process die at a named point of the commit protocol.

Loaded by every Python that has this folder on PYTHONPATH, so also by dask's worker processes. DIE_AT names the point,
DIE_ON the how-manieth passing (counted over all processes of the run in the file DIE_COUNT).
"""

import os
import signal
from pathlib import Path


def _die(point: str) -> None:
    counts = Path(os.environ["DIE_COUNT"])
    with counts.open("a") as file:
        file.write(point + "\n")
    if point == os.environ.get("DIE_AT") and counts.read_text().split().count(point) == int(os.environ["DIE_ON"]):
        os.kill(os.getpid(), signal.SIGKILL)


if "DIE_COUNT" in os.environ:
    from stac2cube.cube import points

    points.listeners.append(_die)
