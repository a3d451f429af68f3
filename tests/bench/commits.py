"""``python -m tests.bench.commits``: calls to the file system per commit of one step, and CPU of it and of opening.

What Python calls is counted: those of libraries in other languages are not.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from stac2cube.build.plan import Block
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.store.reader import open_cube
from stac2cube.store.staging import Receipt, write_block
from stac2cube.store.writer import CubeWriter, FinishedStep, open_writer
from tests.build import toy

CALLS = (
    "open",
    "fsync",
    "rename",
    "replace",
    "mkdir",
    "rmdir",
    "unlink",
    "stat",
    "lstat",
    "scandir",
    "listdir",
    "link",
)
COMMITS, STEPS = 20, 1000
SPEC = replace(toy.SPEC, grid=replace(toy.GRID, shape=(64, 64), chunk=(64, 64)))


def staged(writer: CubeWriter, spec: CubeSpec, number: int) -> FinishedStep:
    step = toy.step(number)
    folder = writer.stager.step(step.entry.key)
    blocks = [(tile, toy.Make()(number, Block(spec.grid, tile))) for tile in spec.grid.tiles()]
    receipts = tuple(Receipt(tile, write_block(folder, spec, tile, pixels)) for tile, pixels in blocks)
    return FinishedStep(folder, replace(step.entry, receipts=receipts))


def counted(name: str, function: Callable[..., Any], counts: Counter[str], *words: Any, **more: Any) -> Any:
    counts[name] += 1
    return function(*words, **more)


def commits(folder: Path) -> None:
    counts, real = Counter[str](), {name: getattr(os, name) for name in CALLS}
    with open_writer(folder / "toy.zarr", toy.SPEC) as writer:
        for number in range(3):
            writer.commit([staged(writer, toy.SPEC, number)])
        waiting = [staged(writer, toy.SPEC, number) for number in range(3, 3 + COMMITS)]
        for name, function in real.items():
            setattr(os, name, partial(counted, name, function, counts))
        begun = time.process_time()
        for step in waiting:
            writer.commit([step])
        seconds = time.process_time() - begun
        for name, function in real.items():
            setattr(os, name, function)
    each = ", ".join(f"{name} {count / COMMITS:.0f}" for name, count in sorted(counts.items()))
    print(f"a commit of one step, two layers: {each}; {1000 * seconds / COMMITS:.0f} ms of CPU")


def opening(folder: Path) -> None:
    with open_writer(folder / "long.zarr", SPEC) as writer:
        for first in range(0, STEPS, 50):
            writer.commit([staged(writer, SPEC, number) for number in range(first, first + 50)])
    took = []
    for _ in range(6):
        begun = time.process_time()
        open_cube(folder / "long.zarr")
        took.append(time.process_time() - begun)
    print(f"open_cube of {STEPS} steps: {1000 * sorted(took[1:])[2]:.0f} ms of CPU, the median of five")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        commits(Path(made))
        opening(Path(made))
