"""Processes that keep a cube, to be killed: sync, tidy, rollback, seal-year, overviews."""

from __future__ import annotations

import os
from pathlib import Path

from stac2cube.executors.base import Threads
from stac2cube.maintain.care import rollback, tidy
from stac2cube.maintain.seal_year import seal_year
from stac2cube.maintain.sync import sync
from stac2cube.stages.overviews import run_overviews
from stac2cube.store import files as points
from tests.build.builder import Death

YEAR = 2022


def keep(command: str, cube: Path, death: Death | None = None) -> None:
    if death is not None:
        points.listeners.append(death)
    if command == "sync":
        code = sync(cube, Threads(2), even_many=True).exit_code
    elif command == "tidy":
        tidy(cube)
        code = 0
    elif command == "rollback":
        rollback(cube, 1)
        code = 0
    elif command == "overviews":
        code = run_overviews(cube, Threads(2), levels=2).exit_code
    else:
        code = seal_year(cube, YEAR, Threads(1)).exit_code
    os._exit(code)
