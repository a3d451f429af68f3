"""How many tiny blocks a second go through worker jobs, and what the scheduler needs for it.

    slurm/cluster up; eval "$(slurm/cluster env)"; .venv/bin/python -m tests.bench.slurm_scale [BLOCKS]

Each block is one 64 x 64 uint16 layer that is really written, by Slurm's worker jobs on the nodes of one machine.
Beside it, in the same run: the same blocks by threads of this process.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.executors.base import Place, Threads
from stac2cube.executors.slurm import Slurm
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.metadata import read_root
from tests.build.toy import step

ROWS = 10
"""Blocks per edge of a step: a step has a hundred."""

GRID = Grid("EPSG:32632", 10.0, (500000.0, 5000000.0), (64 * ROWS, 64 * ROWS), chunk=(64, 64), shard=(64, 64))
SPEC = CubeSpec("layers", GRID, (Layer("B02", "uint16", 0),), {"mission": "toy"})


def tiny(number: int, block: Block) -> Mapping[str, np.ndarray]:
    return {"B02": np.full((64, 64), 1 + number % 60000, "uint16")}


def steps(blocks: int) -> list[Step]:
    return [replace(step(number), tiles=tuple(GRID.tiles())) for number in range(blocks // ROWS**2)]


class Watcher:
    """Memory of this process, in which the scheduler runs, and the time of the first commit."""

    def __init__(self, cube: Path) -> None:
        self.cube = cube
        self.begun = time.monotonic()
        self.first_sealed = float("nan")
        self.memory: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        process = psutil.Process()
        while not self._over.wait(0.5):
            now = time.monotonic() - self.begun
            self.memory.append((now, process.memory_info().rss / 2**20))
            if np.isnan(self.first_sealed) and (self.cube / "zarr.json").exists() and read_root(self.cube).steps:
                self.first_sealed = now


def measure(name: str, place: Place, blocks: int, folder: Path) -> None:
    cube = folder / f"{name}.zarr"
    wanted = steps(blocks)
    with Watcher(cube) as watcher:
        summary = build(cube, SPEC, wanted, tiny, place)
    assert len(summary.sealed) == len(wanted), summary
    third = len(watcher.memory) // 3
    early, late = (max(m for _, m in part) for part in (watcher.memory[third : 2 * third], watcher.memory[2 * third :]))
    print(
        f"{name:<8} {blocks} blocks in {summary.seconds:.1f} s: {blocks / summary.seconds:.0f} blocks/s; "
        f"first step sealed after {watcher.first_sealed:.1f} s; "
        f"scheduler {early:.0f} MiB in the middle third, {late:.0f} MiB in the last"
    )


def main() -> None:
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    Path("build").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir=Path("build").resolve()))
    try:
        worker_jobs = Slurm(jobs=2, cores=1, memory="1GiB", walltime="00:30:00", logs=str(folder / "logs"))
        measure("slurm", worker_jobs, blocks, folder)
        measure("threads", Threads(2), blocks, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
