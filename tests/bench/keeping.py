"""What keeping a cube costs: putting 10,000 shards in order, series before and after a year is sealed, overviews.

    .venv/bin/python -m tests.bench.keeping [--folder build/keeping] [tidy | series | overviews]

Putting in order is set against copying the same files. Series are read from one cube in turns, with its sealed year and
without, so that a machine whose speed drifts is fair to both; CPU is that of the whole process, all threads. Levels of
overviews are read in turns with the cube itself coarsened by xarray to the same pixels.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.build.status import cube_status
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import tidy
from stac2cube.maintain.seal_year import seal_year
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.stages.overviews import store_overviews
from stac2cube.store.metadata import level_path, levels_of, read_root
from stac2cube.store.reader import open_cube
from tests.build.toy import step

LAYER = Layer("B04", "uint16", 0, 1e-4, -0.1)
YEAR = 2021


def texture(edge: int) -> np.ndarray:
    """Something of the ratio of reflectance: smooth fields under noise."""
    rng = np.random.default_rng(8)
    field = sum(gaussian_filter(rng.normal(size=(edge, edge)), sigma) * sigma for sigma in (2, 8, 32))
    return np.clip(2500 + 900 * field + rng.normal(scale=12, size=(edge, edge)), 1, 12000).astype("uint16")


class Rolled:
    """The task: the texture, rolled by the number of the step."""

    def __init__(self, edge: int) -> None:
        self._texture = texture(edge)

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        rows, columns = block.grid.window(block.tile)
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        shift = (37 * number + 11 * block.tile[0], 53 * number + 7 * block.tile[1])
        return {"B04": np.roll(self._texture, shift, (0, 1))[: shape[0], : shape[1]]}


def spec(edge: int, shard: int) -> CubeSpec:
    grid = Grid("EPSG:32632", 10.0, (500000.0, 5000000.0), (edge, edge), shard=(shard, shard))
    return CubeSpec("layers", grid, (LAYER,), {"mission": "toy"})


def scene(number: int, made_of: CubeSpec) -> Step:
    toy = step(number)
    time = datetime(YEAR, 1, 2, 10, tzinfo=UTC) + timedelta(days=5 * number)
    return replace(toy, entry=replace(toy.entry, time=time), tiles=tuple(made_of.grid.tiles()))


def clocks(do: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_tidy(folder: Path) -> None:
    cube, wanted = folder / "shards.zarr", spec(2560, 256)
    for numbers in (range(1, 100, 2), range(0, 100, 2)):
        build(cube, wanted, [scene(number, wanted) for number in numbers], Rolled(256), Threads(2))
    files = [path for path in (cube / "B04/c").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    copied = clocks(lambda: shutil.copytree(cube, folder / "copy.zarr"))
    os.sync()
    ordered = clocks(lambda: tidy(cube))
    assert read_root(cube).generation == 1
    print(f"tidy: {len(files)} shards, {size / 2**20:.0f} MiB")
    print(f"  put in order   {ordered[0]:6.2f} s, {ordered[1]:6.2f} s CPU")
    print(f"  bytes copied   {copied[0]:6.2f} s, {copied[1]:6.2f} s CPU")
    print(f"  ratio          {ordered[0] / copied[0]:6.2f}, of CPU {ordered[1] / copied[1]:.2f}")


def measure_series(folder: Path) -> None:
    cube, wanted = folder / "year.zarr", spec(2048, 2048)
    build(cube, wanted, [scene(number, wanted) for number in range(73)], Rolled(2048), Threads(2))
    begun = time.process_time()
    done = seal_year(cube, YEAR)
    print(f"series: {done.steps} steps of 2048 x 2048 pixels, sealed in {done.seconds:.1f} s, "
          f"{time.process_time() - begun:.1f} s CPU")  # fmt: skip
    print(f"  cube {done.files_before} files, {done.size_before / 2**20:.0f} MiB; year {done.files} files, "
          f"{done.size / 2**20:.0f} MiB")  # fmt: skip
    opened = {years: open_cube(cube, decode=False, chunks=None, years=years)["B04"] for years in (False, True)}
    reads: dict[str, Callable[[Any, Sequence[int]], Any]] = {
        "series of a pixel": lambda layer, at: layer[:, at[0], at[1]].values,
        "series of 64 x 64 pixels": lambda layer, at: layer[:, at[0] : at[0] + 64, at[1] : at[1] + 64].values,
        "series of 512 x 512 pixels": lambda layer, at: layer[:, at[0] : at[0] + 512, at[1] : at[1] + 512].values,
        "a map": lambda layer, at: layer[at[0] % 73].values,
    }
    luck = random.Random(1)
    for what, read in reads.items():
        places = [(luck.randrange(1500), luck.randrange(1500)) for _ in range(11)]
        taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for number, place in enumerate(places):
            found = {}
            for years in (False, True) if number % 2 else (True, False):
                taken[years].append(clocks(lambda: found.update({years: read(opened[years], place)})))  # noqa: B023
            assert np.array_equal(found[False], found[True])
        before, after = (
            [1000 * statistics.median(clock[kind] for clock in taken[years][1:]) for kind in (0, 1)]
            for years in (False, True)
        )
        print(f"  {what:<27} cube {before[0]:7.1f} ms, {before[1]:7.1f} CPU; with the year {after[0]:7.1f} ms, "
              f"{after[1]:7.1f} CPU; ratio of CPU {before[1] / after[1]:.1f}")  # fmt: skip


def measure_overviews(folder: Path) -> None:
    cube, wanted = folder / "tile.zarr", spec(10980, 2048)
    made = clocks(lambda: build(cube, wanted, [scene(n, wanted) for n in range(4)], Rolled(2048), Threads(2)))
    cost = clocks(lambda: store_overviews(cube))
    again = clocks(lambda: store_overviews(cube))
    levels = levels_of(cube)
    print(f"overviews: 4 steps of 10980 x 10980 pixels, levels {', '.join(map(str, levels))}")
    print(f"  cube written {made[0]:.1f} s, {made[1]:.1f} s CPU; levels made {cost[0]:.1f} s, {cost[1]:.1f} s CPU; "
          f"made again, with nothing to do, {again[0]:.1f} s")  # fmt: skip
    sizes = [cube_status(level_path(cube, level)).size for level in (1, *levels)]
    print(f"  bytes of the cube {sizes[0] / 2**20:.0f} MiB, of all levels {sum(sizes[1:]) / 2**20:.0f} MiB")

    def coarsened(level: int, at: int) -> Any:
        layer = open_cube(cube)["B04"][at]
        return layer.coarsen(y=level, x=level, boundary="pad").mean().values

    for level in levels:
        taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for number in range(4):
            for quick in (False, True) if number % 2 else (True, False):
                read = (lambda: open_cube(cube, level=level)["B04"][number].values) if quick else (  # noqa: B023
                    lambda: coarsened(level, number)  # noqa: B023
                )  # fmt: skip
                taken[quick].append(clocks(read))
        slow, fast = (
            [statistics.median(c[kind] for c in taken[quick][1:]) for kind in (0, 1)] for quick in (False, True)
        )
        print(f"  a map at level {level:<3} coarsened {slow[0]:6.2f} s, {slow[1]:6.2f} CPU; opened "
              f"{fast[0]:6.3f} s, {fast[1]:6.3f} CPU; ratio of CPU {slow[1] / fast[1]:.0f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["tidy", "series", "overviews"])
    parser.add_argument("--folder", type=Path, default=Path("build/keeping"))
    chosen = parser.parse_args()
    shutil.rmtree(chosen.folder, ignore_errors=True)
    for name, run in (("tidy", measure_tidy), ("series", measure_series), ("overviews", measure_overviews)):
        if chosen.what in (None, name):
            run(chosen.folder)
    shutil.rmtree(chosen.folder)


if __name__ == "__main__":
    main()
