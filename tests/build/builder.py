"""Builders to be killed: the toy cube, built in a process of its own.

The processes are forked from a server that has imported everything, so that a campaign of hundreds of kills spends its
time in the protocol and not in imports. What dies is a whole process all the same, by SIGKILL.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from stac2cube.build.array_job import ArrayLease, build_part, seal_parts
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, BuildOptions
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from stac2cube.store import files as points
from stac2cube.store import generation
from tests.build.toy import SPEC, Make, step, steps

CLAIM = ArrayLease("4711", "toys")

SCALE = float(os.environ.get("STAC2CUBE_SOAK", "1"))
"""Part of each campaign of kills that is run, for a look at it in less time."""


def scaled(kills: int) -> int:
    """Kills of a campaign."""
    return max(1, round(SCALE * kills))


@dataclass(frozen=True)
class Death:
    """Die when a named point is passed for the how-manieth time, counted over all processes in a file."""

    point: str
    hit: int
    counts: Path

    def __call__(self, point: str) -> None:
        with self.counts.open("a") as file:
            file.write(point + "\n")
        if point == self.point and self.counts.read_text().split().count(point) == self.hit:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class MakeMortal(Make):
    """The toy task; on a dask worker it listens to the points passed there too."""

    death: Death | None = None

    def __call__(self, number: int, block: Block):
        if self.death is not None and self.death not in points.listeners:
            points.listeners.append(self.death)
        return super().__call__(number, block)


def run(cube: Path, place: str, count: int, death: Death | None = None, pause: float = 0.004) -> None:
    if death is not None:
        points.listeners.append(death)
    where = Local(workers=2) if place == "local" else Threads(2)
    summary = build(cube, SPEC, steps(range(count)), MakeMortal(pause, death=death), where)
    os._exit(summary.exit_code)


def run_swap(cube: Path, death: Death, atomic: bool) -> None:
    """Replace step 2 by a new generation."""
    if not atomic:
        generation.exchange = lambda one, other: False
    points.listeners.append(death)
    build(cube, SPEC, [step(2, "05.10")], Make(bonus=50), Threads(2), options=BuildOptions(superseded="replace"))


def run_share(cube: Path, count: int, number: int, of: int, pause: float = 0.004) -> None:
    """One task of a job array."""
    summary = build_part(cube, steps(range(count)), Make(pause), Threads(2), CLAIM, (number, of))
    os._exit(summary.exit_code)


def run_seal(cube: Path, count: int) -> None:
    """Its sealing job."""
    os._exit(seal_parts(cube, SPEC, steps(range(count)), CLAIM).exit_code)


def run_dying(cube: Path, death: Death) -> None:
    """The sealing job of twelve steps, which dies."""
    points.listeners.append(death)
    run_seal(cube, 12)


def start(target, *arguments: object) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.build.builder", "tests.stages.keeper"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def code_of(process: ForkServerProcess, timeout: float = 120) -> int | None:
    """Exit code, None if it still runs after the timeout."""
    process.join(timeout)
    return process.exitcode
