"""Kill -9 of a building process: at every named point of the protocol, and at random moments, with readers watching."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from stac2cube.build import build
from stac2cube.cube import generation
from stac2cube.cube.lock import read_owner
from stac2cube.cube.points import POINTS
from stac2cube.cube.reader import differences
from stac2cube.places.threads import Threads
from stac2cube.work import Orders
from tests.build.toy import SPEC, Make, pixels, step, steps

STEPS = 20
HERE = Path(__file__).parent
IN_WORKER = ("block.encoded", "block.written")
APPEND_POINTS = [point for point in POINTS if not point.startswith("generation")]


def start(cube: Path, place: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.build.builder", str(cube), place, str(STEPS)],
        cwd=HERE.parents[1],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def await_lock(cube: Path, builder: subprocess.Popen[bytes]) -> None:
    """Until the builder has begun to write (a dead one's lock may still lie there: then its owner's pid tells)."""
    while builder.poll() is None:
        owner = read_owner(cube)
        if owner is not None and owner.pid == builder.pid:
            return
        time.sleep(0.002)


def check_readers(cube: Path) -> int:
    """Both ways to open a cube see whole steps only; returns how many."""
    if not cube.exists():
        return 0
    plain = xr.open_zarr(cube, mask_and_scale=False)
    for place, key in enumerate(plain["scene"].values):
        np.testing.assert_array_equal(plain["B02"][place].values, pixels(int(key.removeprefix("toy_"))))
    alone = zarr.open_array(cube / "B02", mode="r")
    assert alone.shape[0] <= plain.sizes["time"]
    for place in range(alone.shape[0]):
        np.testing.assert_array_equal(alone[place], pixels(int(plain["scene"].values[place].removeprefix("toy_"))))
    return plain.sizes["time"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cube = tmp_path_factory.mktemp("whole") / "toy.zarr"
    build(cube, SPEC, steps(range(STEPS)), Make(), Threads(2))
    return cube


@pytest.mark.parametrize("place", ["threads", "local"])
@pytest.mark.parametrize("point", APPEND_POINTS)
def test_kill_at_every_named_point(point: str, place: str, tmp_path: Path, undisturbed: Path) -> None:
    cube, counts = tmp_path / "toy.zarr", tmp_path / "counts"
    hit = "1" if point.startswith("create") else "2"
    first = start(cube, place, PYTHONPATH=str(HERE / "dying"), DIE_AT=point, DIE_ON=hit, DIE_COUNT=str(counts))
    code = first.wait(timeout=120)
    assert counts.read_text().split().count(point) >= int(hit), "the point was never passed"
    survives = place == "local" and point in IN_WORKER  # then a worker died, and its place is taken by another
    assert code == (0 if survives else -signal.SIGKILL)
    check_readers(cube)
    assert start(cube, place).wait(timeout=120) == 0
    assert differences(cube, undisturbed) == []
    assert check_readers(cube) == STEPS
    assert not list(cube.glob(".*.partial"))
    assert not (cube / ".stac2cube/staging").exists()


class Watcher(threading.Thread):
    """A reader that opened the cube once and one that opens it again and again; both must only ever see whole steps."""

    def __init__(self, cube: Path) -> None:
        super().__init__(daemon=True)
        self.cube, self.looks, self.done, self.error = cube, 0, threading.Event(), None

    def run(self) -> None:
        old: xr.Dataset | None = None
        while not self.done.is_set() and self.error is None:
            time.sleep(0.02)  # leave the builder some of the machine
            try:
                self.looks += bool(check_readers(self.cube))
                if old is None and self.cube.exists():
                    old = xr.open_zarr(self.cube, mask_and_scale=False)
                    old = old if old.sizes["time"] else None
                if old is not None:
                    place = random.randrange(old.sizes["time"])
                    truth = pixels(int(old["scene"].values[place].removeprefix("toy_")))
                    np.testing.assert_array_equal(old["B02"][place].values, truth)
            except Exception as error:  # noqa: BLE001 - whatever a reader stumbles over fails the test
                self.error = error


def campaign(tmp_path: Path, place: str, kills: int, seed: int, reference: Path) -> int:
    """Kill builders at random moments until so many have died mid-work; every cube ends like the reference."""
    luck, died, looks, cubes = random.Random(seed), 0, 0, 0
    longest = 0.8 if place == "threads" else 3.5
    while died < kills:
        cubes += 1
        cube = tmp_path / f"toy-{cubes}.zarr"
        watcher = Watcher(cube)
        watcher.start()
        while True:
            builder = start(cube, place)
            await_lock(cube, builder)
            try:
                code = builder.wait(timeout=luck.uniform(0, longest))
            except subprocess.TimeoutExpired:
                builder.kill()
                code = builder.wait()
            died += code == -signal.SIGKILL
            check_readers(cube)
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
        watcher.done.set()
        watcher.join()
        looks += watcher.looks
        assert watcher.error is None, watcher.error
        assert differences(cube, reference) == []
    assert looks > 0
    return died


@pytest.mark.parametrize(("place", "kills"), [("threads", 12), ("local", 4)])
def test_kill_at_random_moments(place: str, kills: int, tmp_path: Path, undisturbed: Path) -> None:
    assert campaign(tmp_path, place, kills, seed=1, reference=undisturbed) >= kills


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("place", "kills"), [("threads", 150), ("local", 50)])
def test_kill_campaign(place: str, kills: int, tmp_path: Path, undisturbed: Path) -> None:
    assert campaign(tmp_path, place, kills, seed=2, reference=undisturbed) >= kills


@pytest.mark.parametrize("atomic", [True, False], ids=["exchange", "journal"])
@pytest.mark.parametrize("point", [p for p in POINTS if p.startswith("generation")])
def test_kill_during_a_generation_swap(point: str, atomic: bool, tmp_path: Path) -> None:
    cube = tmp_path / "toy.zarr"
    build(cube, SPEC, steps(range(5)), Make(), Threads(2))
    script = f"""
import os, signal
from pathlib import Path
from stac2cube.build import build
from stac2cube.cube import generation, points
from stac2cube.places.threads import Threads
from stac2cube.work import Orders
from tests.build.toy import SPEC, Make, step
if not {atomic}:
    generation.exchange = lambda one, other: False
points.listeners.append(lambda p: p == {point!r} and os.kill(os.getpid(), signal.SIGKILL))
build(Path({str(cube)!r}), SPEC, [step(2, "05.10")], Make(bonus=50), Threads(2), orders=Orders(superseded="replace"))
"""
    died = subprocess.run([sys.executable, "-c", script], cwd=HERE.parents[1], check=False).returncode
    assert died == -signal.SIGKILL
    if cube.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            middle = xr.open_zarr(cube, mask_and_scale=False)["B02"][2].values
        assert np.array_equal(middle, pixels(2)) or np.array_equal(middle, pixels(52))
    build(cube, SPEC, [step(2, "05.10")], Make(bonus=50), Threads(2), orders=Orders(superseded="replace"))
    final = xr.open_zarr(cube, mask_and_scale=False)
    np.testing.assert_array_equal(final["B02"][2].values, pixels(52))
    np.testing.assert_array_equal(final["B02"][4].values, pixels(4))
    assert not generation.next_folder(cube).exists()


def test_a_looping_reader_never_fails_during_fifty_commits(tmp_path: Path) -> None:
    cube = tmp_path / "toy.zarr"
    build(cube, SPEC, steps(range(1)), Make(), Threads(2))
    watcher = Watcher(cube)
    watcher.start()
    for count in range(2, 52):
        build(cube, SPEC, [step(count)], Make(), Threads(2))
    watcher.done.set()
    watcher.join()
    assert watcher.error is None, watcher.error
    assert watcher.looks >= 3


def test_a_second_builder_is_refused_while_the_first_builds(tmp_path: Path, undisturbed: Path) -> None:
    cube = tmp_path / "toy.zarr"
    first = start(cube, "threads")
    await_lock(cube, first)
    second = start(cube, "threads")
    codes = {first.wait(timeout=60), second.wait(timeout=60)}
    assert codes == {0, 1}, "the second ends with an error, or finds everything done"
    assert differences(cube, undisturbed) == []
    build(cube, SPEC, steps(range(STEPS)), Make(), Threads(2), orders=Orders())
