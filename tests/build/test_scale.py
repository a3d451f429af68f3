"""What grows and what does not: memory with steps, the cost of an append with the cube, planning with blocks."""

from __future__ import annotations

import cProfile
import multiprocessing
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pyarrow.parquet import ParquetFile
from shapely.geometry import box, mapping

from stac2cube.build.loop import build
from stac2cube.build.plan import plan
from stac2cube.executors.base import Threads
from stac2cube.model.grid import Grid
from stac2cube.model.scene import AssetRef, Granule, Scene, SceneKey
from stac2cube.stages.layers import steps_for
from tests.build.toy import SPEC, Make, step

SMALL = replace(SPEC, grid=replace(SPEC.grid, shape=(32, 32), chunk=(32, 32), shard=(32, 32)))


def small_step(number: int):
    made = step(number)
    return replace(made, tiles=((0, 0),))


class MakeSmall(Make):
    def __call__(self, number, block):
        from tests.build.toy import pixels

        b02 = pixels(number)[block.grid.window(block.tile)]
        return {"B02": b02, "SCL": (b02 > 0).astype("uint8")}


def append(cube: Path, number: int) -> None:
    build(cube, SMALL, [small_step(number)], MakeSmall(), Threads(2))


def seconds_to_append(cube: Path, number: int) -> float:
    """CPU seconds, of all threads: others on a busy machine do not count."""
    begun = time.process_time()
    append(cube, number)
    return time.process_time() - begun


class Counted:
    """What a block of code asks of the system and of Python: the same on every machine, however busy it is."""

    def __init__(self) -> None:
        self.work: Counter[str] = Counter()
        self._counting = False
        sys.addaudithook(self._heard)  # which nothing can take away again
        self._profile = cProfile.Profile(subcalls=False)

    def _heard(self, event: str, _: tuple[object, ...]) -> None:
        if self._counting and event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove"):
            self.work[event] += 1

    def of(self, act: Callable[[], None]) -> Counter[str]:
        """Count what a call does in this thread."""
        self.work = Counter()
        self._counting = True
        self._profile.enable()
        try:
            act()
        finally:
            self._profile.disable()
            self._counting = False
        calls = {call.code: call.callcount for call in self._profile.getstats()}
        self._profile.clear()
        self.work["calls"] = sum(calls.values())
        reading = (ParquetFile.read.__code__, ParquetFile.__init__.__code__)
        self.work["parts of the ledger"] = sum(calls.get(code, 0) for code in reading) // 2
        return self.work


def test_appending_to_a_thousand_steps_costs_what_it_costs_on_ten(tmp_path: Path) -> None:
    few, many = tmp_path / "few.zarr", tmp_path / "many.zarr"
    build(few, SMALL, [small_step(n) for n in range(10)], MakeSmall(), Threads(2))
    build(many, SMALL, [small_step(n) for n in range(1000)], MakeSmall(), Threads(2))
    counted = Counted()
    turns = [
        (counted.of(lambda n=10 + turn: append(few, n)), counted.of(lambda n=1000 + turn: append(many, n)))
        for turn in range(8)
    ]
    # The least of each: every second commit takes some younger parts of the ledger with it.
    here, there = (
        {what: min(one[what] for one in column) for what in column[0]} for column in zip(*turns, strict=True)
    )
    print(f"append one step: on 10 {here}, on 1000 {there}")  # noqa: T201
    assert there.pop("calls") <= 1.05 * here.pop("calls")
    assert there == here


@pytest.mark.soak
def test_appending_to_twenty_thousand_steps_costs_what_it_costs_on_ten(tmp_path: Path) -> None:
    few, many = tmp_path / "few.zarr", tmp_path / "many.zarr"
    build(few, SMALL, [small_step(n) for n in range(10)], MakeSmall(), Threads(2))
    build(many, SMALL, [small_step(n) for n in range(20_000)], MakeSmall(), Threads(2))
    # In turns, so that a machine whose speed drifts is fair to both; the least: what others do only ever adds.
    pairs = [(seconds_to_append(few, 10 + turn), seconds_to_append(many, 20_000 + turn)) for turn in range(21)]
    here, there = (1e3 * min(column) for column in zip(*pairs, strict=True))
    print(f"append one step: {here:.1f} ms of CPU on 10, {there:.1f} ms on 20,000, {there - here:.1f} ms more")  # noqa: T201
    # A listing of each layer is left, in which links are looked for: some 0.5 microseconds per step and layer.
    assert there - here <= 100


def peak_memory(count: int, folder: Path, answer) -> None:
    build(folder / f"{count}.zarr", SPEC, [step(n) for n in range(count)], Make(), Threads(2))
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def test_peak_memory_does_not_grow_with_the_number_of_steps(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    peaks = []
    for count in (15, 150):
        answer = context.Queue()
        process = context.Process(target=peak_memory, args=(count, tmp_path, answer))
        process.start()
        peaks.append(answer.get(timeout=900))
        process.join()
    print(f"peak memory: {peaks[0] / 1024:.0f} MiB for 15 steps, {peaks[1] / 1024:.0f} MiB for 150")  # noqa: T201
    assert peaks[1] <= 1.1 * peaks[0]


def test_planning_a_hundred_thousand_blocks_takes_seconds() -> None:
    grid = Grid("EPSG:32632", 10.0, (600000.0, 5300000.0), (20480, 20480))
    footprint = mapping(box(*grid.geobox.footprint("EPSG:4326").boundingbox))
    scenes = [scene(day, footprint) for day in range(1000)]
    begun = time.process_time()
    work = plan(steps_for(scenes, grid, "asked for"), {})
    seconds = time.process_time() - begun
    print(f"plan of {work.blocks} blocks: {seconds:.2f} s")  # noqa: T201
    assert work.blocks == 100_000
    assert seconds < 10


def scene(day: int, footprint: dict) -> Scene:
    moment = datetime(2020, 1, 1, 10, tzinfo=UTC) + timedelta(days=day)
    granule = Granule(
        id=f"granule-{day}",
        collection="c",
        catalog="x",
        signer="none",
        time=moment,
        tile="32TPT",
        datastrip="",
        baseline="05.00",
        cloud_cover=0.0,
        footprint=footprint,
        crs="EPSG:32632",
        corner=None,
        assets={"B02": AssetRef("nowhere.tif")},
        item="{}",
    )
    key = SceneKey("sentinel-2-l2a", date(2020, 1, 1) + timedelta(days=day), "sentinel-2a", 1 + day % 143)
    return Scene(key, moment, (granule,))
