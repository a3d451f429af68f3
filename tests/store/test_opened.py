"""Who has opened a cube keeps what was opened, whatever is done with the cube meanwhile."""

from __future__ import annotations

import os
import pickle
import select
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stac2cube.build.derived import Parent, drop
from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions
from stac2cube.errors import CubeError, ReadError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import rollback, tidy
from stac2cube.store.generation import generations_folder
from stac2cube.store.reader import open_cube
from stac2cube.store.staging import fast_pipeline, open_array
from tests.build.toy import GRID, SPEC, Make, pixels, step, steps

WHOLE = GRID.window((0, 0))


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """Four steps, the last one the earliest."""
    path = tmp_path / "toy.zarr"
    for numbers in ([5, 3], [7], [1]):
        build(path, SPEC, [step(number) for number in numbers], Make(), Threads(2))
    return path


def renew(cube: Path) -> None:
    options = BuildOptions(superseded="replace")
    build(cube, SPEC, [step(3, "05.10")], Make(bonus=50), Threads(2), options=options)


CHANGES = {
    "put in order": tidy,
    "a step made anew": renew,
    "a step taken out": lambda cube: drop(cube, ["toy_0003"]),
    "rolled back": lambda cube: rollback(cube, 2),
    "all of it": lambda cube: [change(cube) for change in (renew, tidy, lambda c: drop(c, ["toy_0005"]))],
}


def truth(opened: xr.Dataset) -> np.ndarray:
    return np.stack([pixels(int(str(key).removeprefix("toy_"))) for key in opened["scene"].values])


@pytest.mark.parametrize("name", ["#1", "why?", "50 % & more; é", "a::b"])
def test_a_cube_is_opened_in_a_folder_of_any_name(cube: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    opened = open_cube(cube.rename(tmp_path / name / "toy.zarr"))
    stored = open_cube(tmp_path / name / "toy.zarr", decode=False)
    np.testing.assert_array_equal(stored["B02"].values, truth(stored))
    assert pickle.loads(pickle.dumps(opened)).load().equals(opened)


@pytest.mark.parametrize("what", CHANGES)
def test_an_opened_cube_stays_what_it_was(cube: Path, what: str) -> None:
    lazy, tasks = (open_cube(cube, decode=False, chunks=chunks) for chunks in (None, "shards"))
    parent = Parent.read(cube)
    steps = {key: parent.stored(row) for key, row in parent.rows.items()}
    CHANGES[what](cube)
    assert lazy["scene"].values.tolist() == ["toy_0001", "toy_0003", "toy_0005", "toy_0007"]
    for opened in (lazy, tasks, pickle.loads(pickle.dumps(lazy))):
        np.testing.assert_array_equal(opened["B02"].values, truth(opened))
    for key, stored in steps.items():
        number = int(key.removeprefix("toy_"))
        np.testing.assert_array_equal(stored.read(SPEC.layers, WHOLE)["B02"], pixels(number)[WHOLE])


def test_what_is_gone_is_said_and_never_read_as_no_data(cube: Path) -> None:
    opened, parent = open_cube(cube, decode=False, chunks=None), Parent.read(cube)
    stored = parent.stored(parent.rows["toy_0003"])
    tidy(cube)
    shutil.rmtree(generations_folder(cube))
    with pytest.raises(CubeError, match="generation 0 is gone: open it again"):
        opened["B02"].values  # noqa: B018
    with pytest.raises(ReadError, match="generation 0 is gone"):
        stored.read(SPEC.layers, WHOLE)
    again = open_cube(cube, decode=False, chunks=None)
    np.testing.assert_array_equal(again["B02"].values, truth(again))
    shutil.rmtree(cube)
    with pytest.raises(CubeError, match="is not there any more"):
        again["B02"].values  # noqa: B018


def test_a_reader_that_goes_on_while_the_cube_is_rebuilt_again_and_again(cube: Path) -> None:
    opened = open_cube(cube, decode=False, chunks=None)
    want, wrong, looks, done = truth(opened), 0, 0, threading.Event()

    def read() -> None:
        nonlocal wrong, looks
        while not done.is_set():
            wrong += not np.array_equal(opened["B02"].values, want)
            looks += 1

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    tidy(cube)
    for commit in (2, 4, 2, 4, 3):
        rollback(cube, commit)
    done.set()
    reader.join(timeout=900)
    assert (wrong, reader.is_alive()) == (0, False)
    assert looks > 3


def in_a_fork(work: Callable[[], object], seconds: float = 60.0) -> str:
    """What a forked child says of some work; it is given up after so many seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = str(work())
        except BaseException as error:  # noqa: BLE001 - a child ends here, whatever it dies of
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], seconds)
    said = os.read(reading, 4096).decode() if ready else "nothing"
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return said


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_reads_what_its_parent_has_open(tmp_path: Path) -> None:
    """Workers of torch's DataLoader are forked up to Python 3.13; the threads of zarrs stay behind."""
    path = tmp_path / "toy.zarr"
    build(path, SPEC, steps(range(3)), Make(), Threads(2))
    opened = open_cube(path, decode=False, chunks=None)
    wanted = str(int(opened["B02"].isel(time=1).sum()))
    assert in_a_fork(lambda: int(opened["B02"].isel(time=1).sum())) == wanted
    assert in_a_fork(lambda: int(open_cube(path, decode=False, chunks=None)["B02"].isel(time=1).sum())) == wanted
    assert in_a_fork(lambda: int(open_array(path / "B02")[1].sum())) == wanted
    assert str(int(opened["B02"].isel(time=1).sum())) == wanted, "and the parent goes on"

    def write() -> None:
        with fast_pipeline(writing=True):
            pass

    assert "start it by 'forkserver' or 'spawn'" in in_a_fork(write)
