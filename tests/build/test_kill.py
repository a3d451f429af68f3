"""Kill -9 of a building process: at every named point of the protocol, and at random moments, with readers watching."""

from __future__ import annotations

import random
import signal
import threading
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from stac2cube.build.array_job import build_part, lease_cube, seal_parts
from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions
from stac2cube.errors import CubeLockedError
from stac2cube.executors.base import Threads
from stac2cube.store import generation
from stac2cube.store.files import POINTS
from stac2cube.store.lock import read_owner
from stac2cube.store.reader import differences
from stac2cube.store.verify import find_damage
from tests.build.builder import (
    CLAIM,
    Death,
    code_of,
    run,
    run_dying,
    run_seal,
    run_share,
    run_swap,
    scaled,
    start,
)
from tests.build.toy import SPEC, Make, pixels, step, steps

STEPS, FEW = 20, 12
KILLED = -signal.SIGKILL
IN_WORKER = ("block.encoded", "block.written")


def await_lock(cube: Path, builder: ForkServerProcess) -> None:
    """Until the builder has begun to write (a dead one's lock may still lie there: the owner's pid tells)."""
    while builder.is_alive():
        owner = read_owner(cube)
        if owner is not None and owner.pid == builder.pid:
            return
        time.sleep(0.002)


def check_readers(cube: Path) -> int:
    """Both ways to open a cube see whole steps only; returns how many."""
    if not cube.exists():
        return 0
    plain = xr.open_zarr(cube, mask_and_scale=False, chunks=None)
    keys = plain["scene"].values
    for place, key in enumerate(keys):
        np.testing.assert_array_equal(plain["B02"][place].values, pixels(int(key.removeprefix("toy_"))))
    alone = zarr.open_array(cube / "B02", mode="r")
    for place in range(min(alone.shape[0], len(keys))):
        np.testing.assert_array_equal(alone[place], pixels(int(keys[place].removeprefix("toy_"))))
    return len(keys)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole(tmp_path_factory.mktemp("whole"), STEPS)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole(tmp_path_factory.mktemp("small"), FEW)


def whole(folder: Path, count: int) -> Path:
    build(folder / "toy.zarr", SPEC, steps(range(count)), Make(), Threads(2))
    return folder / "toy.zarr"


APPENDING = [point for point in POINTS if not point.startswith(("generation", "year", "sample", "shard"))]
# Where the process dies that commits, it makes no difference who its workers are.
ELSEWHERE = [pytest.param(point, "local", marks=[] if point in IN_WORKER else pytest.mark.soak) for point in APPENDING]


@pytest.mark.parametrize(("point", "place"), [*((point, "threads") for point in APPENDING), *ELSEWHERE])
def test_kill_at_every_named_point(point: str, place: str, tmp_path: Path, small: Path) -> None:
    cube = tmp_path / "toy.zarr"
    death = Death(point, hit=1 if point.startswith("create") else 2, counts=tmp_path / "counts")
    code = code_of(start(run, cube, place, FEW, death))
    assert death.counts.read_text().split().count(point) >= death.hit, "the point was never passed"
    survives = place == "local" and point in IN_WORKER  # then a worker died, and another took its place
    assert code == (0 if survives else KILLED)
    check_readers(cube)
    assert code_of(start(run, cube, "threads", FEW)) == 0
    assert differences(cube, small) == []
    assert check_readers(cube) == FEW
    assert not list(cube.glob(".*.partial"))
    assert not (cube / ".stac2cube/staging").exists()


class Watcher(threading.Thread):
    """A reader that opened the cube once and one that opens it again and again; both must only ever see whole steps."""

    def __init__(self, cube: Path) -> None:
        super().__init__(daemon=True)
        self.cube, self.looks, self.done = cube, 0, threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        old: xr.Dataset | None = None
        while not self.done.is_set() and self.error is None:
            time.sleep(0.02)  # leave the builder some of the machine
            try:
                self.looks += bool(check_readers(self.cube))
                if old is None and self.cube.exists():
                    old = xr.open_zarr(self.cube, mask_and_scale=False, chunks=None)
                    old = old if old.sizes["time"] else None
                if old is not None:
                    place = random.randrange(old.sizes["time"])
                    truth = pixels(int(old["scene"].values[place].removeprefix("toy_")))
                    np.testing.assert_array_equal(old["B02"][place].values, truth)
            except Exception as error:  # noqa: BLE001 - whatever a reader stumbles over fails the test
                self.error = error


def campaign(tmp_path: Path, place: str, kills: int, seed: int, reference: Path) -> None:
    """Kill builders at random moments until so many have died mid-work; every cube ends like the reference."""
    luck, died, looks, cubes, longest = random.Random(seed), 0, 0, 0, 0.0
    while died < kills:
        if cubes % 10 == 0:  # other work on the machine may have begun or ended
            begun = time.monotonic()
            assert code_of(start(run, tmp_path / f"timed-{cubes}.zarr", place, STEPS)) == 0
            # Some builders live to the end, so that every cube is finished; a cluster takes most of its time to start.
            longest = (2.0 if place == "local" else 1.2) * (time.monotonic() - begun)
        cubes += 1
        cube = tmp_path / f"toy-{cubes}.zarr"
        watcher = Watcher(cube)
        watcher.start()
        code: int | None = None
        while code != 0:
            builder = start(run, cube, place, STEPS)
            await_lock(cube, builder)
            code = code_of(builder, timeout=luck.uniform(0, longest))
            if code is None:
                builder.kill()
                code = code_of(builder)
            assert code in (0, KILLED)
            died += code == KILLED
            check_readers(cube)
        watcher.done.set()
        watcher.join()
        looks += watcher.looks
        assert watcher.error is None, watcher.error
        assert differences(cube, reference) == []
    assert looks > 0
    print(f"{place}: {died} kills over {cubes} cubes, {looks} looks of a concurrent reader")  # noqa: T201


def test_kill_at_random_moments(tmp_path: Path, undisturbed: Path) -> None:
    campaign(tmp_path, "threads", kills=3, seed=1, reference=undisturbed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("place", "kills"), [("threads", 1200), ("local", 150)])
def test_kill_campaign(place: str, kills: int, tmp_path: Path, undisturbed: Path) -> None:
    campaign(tmp_path, place, scaled(kills), seed=2, reference=undisturbed)


def array_campaign(tmp_path: Path, kills: int, seed: int, reference: Path) -> None:
    """Kill tasks of job arrays and their sealing jobs at random moments; each goes on where it was."""
    luck, died, cubes = random.Random(seed), 0, 0
    lease_cube(tmp_path / "timed.zarr", SPEC, CLAIM)
    times = []
    for target, words in ((run_share, (STEPS, 0, 1)), (run_seal, (STEPS,))):
        begun = time.monotonic()
        assert code_of(start(target, tmp_path / "timed.zarr", *words)) == 0
        times.append(1.1 * (time.monotonic() - begun))
    while died < kills:
        cubes += 1
        cube = tmp_path / f"toy-{cubes}.zarr"
        lease_cube(cube, SPEC, CLAIM)
        lives = [(run_share, (STEPS, number, 3), times[0] / 2) for number in range(3)]
        for target, words, longest in (*lives, (run_seal, (STEPS,), times[1])):
            code: int | None = None
            while code != 0:
                job = start(target, cube, *words)
                code = code_of(job, timeout=luck.uniform(0, longest))
                if code is None:
                    job.kill()
                    code = code_of(job)
                assert code in (0, KILLED)
                died += code == KILLED
                check_readers(cube)
        assert differences(cube, reference) == []
        assert find_damage(cube) == []
    print(f"arrays: {died} kills over {cubes} cubes")  # noqa: T201


def test_kill_of_a_job_array_at_random_moments(tmp_path: Path, undisturbed: Path) -> None:
    array_campaign(tmp_path, 4, seed=1, reference=undisturbed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_kill_campaign_of_job_arrays(tmp_path: Path, undisturbed: Path) -> None:
    array_campaign(tmp_path, scaled(450), seed=2, reference=undisturbed)


@pytest.mark.parametrize("point", ["commit.layer-moved", "commit.coordinates-written", "commit.root-replaced"])
def test_a_sealing_job_that_is_run_again_makes_nothing_anew(point: str, tmp_path: Path, small: Path) -> None:
    """What it had moved out of staging when it died is given back."""
    cube = tmp_path / "toy.zarr"
    lease_cube(cube, SPEC, CLAIM)
    build_part(cube, steps(range(FEW)), Make(), Threads(2), CLAIM, (0, 1))
    assert code_of(start(run_dying, cube, Death(point, 3 if "moved" in point else 1, tmp_path / "counts"))) == KILLED
    summary = seal_parts(cube, SPEC, steps(range(FEW)), CLAIM)
    assert (len(summary.sealed) + len(summary.present), summary.exit_code) == (FEW, 0)
    assert differences(cube, small) == []
    assert find_damage(cube) == []


def test_a_sealing_job_that_was_killed_after_its_work_ends_well_when_it_is_run_again(tmp_path: Path) -> None:
    """The kill campaign of job arrays has met the moment between the release of the cube and the end of the process."""
    cube = tmp_path / "toy.zarr"
    lease_cube(cube, SPEC, CLAIM)
    build_part(cube, steps(range(FEW)), Make(), Threads(2), CLAIM, (0, 1))
    assert seal_parts(cube, SPEC, steps(range(FEW)), CLAIM).exit_code == 0
    again = seal_parts(cube, SPEC, steps(range(FEW)), CLAIM)
    assert (len(again.present), again.sealed, again.exit_code) == (FEW, [], 0)
    with pytest.raises(CubeLockedError, match="by nobody: these jobs came too late"):
        seal_parts(cube, SPEC, steps(range(FEW + 1)), CLAIM)


@pytest.mark.parametrize("atomic", [True, False], ids=["exchange", "journal"])
@pytest.mark.parametrize("point", [p for p in POINTS if p.startswith("generation")])
def test_kill_during_a_generation_swap(point: str, atomic: bool, tmp_path: Path) -> None:
    if atomic and point == "generation.noted":
        return  # only a swap in two steps passes it
    cube = tmp_path / "toy.zarr"
    build(cube, SPEC, steps(range(5)), Make(), Threads(2))
    assert code_of(start(run_swap, cube, Death(point, 1, tmp_path / "counts"), atomic)) == KILLED
    if cube.exists():
        middle = xr.open_zarr(cube, mask_and_scale=False).sortby("time")["B02"][2].values
        assert np.array_equal(middle, pixels(2)) or np.array_equal(middle, pixels(52))
    else:
        assert (point, atomic) == ("generation.swapped", False), "only a swap in two steps may take the cube away"
    build(cube, SPEC, [step(2, "05.10")], Make(bonus=50), Threads(2), options=BuildOptions(superseded="replace"))
    final = xr.open_zarr(cube, mask_and_scale=False).sortby("time")  # threads seal steps in the order in which they end
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
    first = start(run, cube, "threads", STEPS)
    await_lock(cube, first)
    second = start(run, cube, "threads", STEPS)
    assert code_of(second) == 1, "an uncaught CubeLockedError"
    assert code_of(first) == 0
    assert differences(cube, undisturbed) == []
