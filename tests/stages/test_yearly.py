"""A year sealed in files that are deep in time: the same pixels, and always those that are true now."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import stac2cube
from stac2cube.build.derived import drop
from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions, Step
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, CubeError
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from stac2cube.maintain.care import repair, rollback, tidy, verify
from stac2cube.maintain.seal_year import seal_year
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences, open_cube
from stac2cube.store.yearly_store import YearStore, years_folder
from tests.build.toy import SPEC, Make, pixels, step

YEAR = 2020
EVERY = 12
"""Days between the toy's steps: 31 steps are in 2020, the 32nd is in 2021."""


def scene(number: int, version: str = "05.00") -> Step:
    made = step(number, version)
    time = datetime(YEAR, 1, 1, 10, tzinfo=UTC) + timedelta(days=EVERY * number)
    return replace(made, entry=replace(made.entry, time=time))


def fill(cube: Path, numbers: list[int], version: str = "05.00", bonus: int = 0) -> None:
    options = BuildOptions(superseded="replace")
    build(cube, SPEC, [scene(number, version) for number in numbers], Make(bonus=bonus), Threads(2), options=options)


def truth(cube: Path, changed: dict[int, int] | None = None) -> xr.DataArray:
    """What B02 must hold, by the numbers in the keys of its scenes."""
    opened = open_cube(cube, decode=False, chunks=None, years=False)
    numbers = [int(key.removeprefix("toy_")) for key in opened["scene"].values]
    stack = np.stack([pixels((changed or {}).get(number, number)) for number in numbers])
    return xr.DataArray(stack, dims=("time", "y", "x"))


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps of 2020 and 2021, stored out of order."""
    cube = tmp_path_factory.mktemp("years") / "toy.zarr"
    for numbers in ([3, 5, 7, 33], [1, 2, 4, 6, 8, 32, 31], [0, 9, 10, 11, 12]):
        fill(cube, numbers)
    return cube


@pytest.fixture
def cube(twenty: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(twenty, tmp_path / "toy.zarr"))


@pytest.fixture(scope="module")
def sealed(twenty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 2020 sealed, to be read only."""
    cube = Path(shutil.copytree(twenty, tmp_path_factory.mktemp("sealed") / "toy.zarr"))
    seal_year(cube, YEAR)
    return cube


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which files are read: "deep" or "cube", and how many steps at once."""
    found: list[tuple[str, int]] = []
    from stac2cube.store import reader as opened

    honest = opened._read

    def watched(array, steps, rows, columns):
        found.append(("deep" if ".years" in str(array.store_path) else "cube", steps.stop - steps.start))
        return honest(array, steps, rows, columns)

    monkeypatch.setattr(opened, "_read", watched)
    return found


def test_a_sealed_year_holds_the_same_pixels_in_fewer_files(cube: Path, twenty: Path) -> None:
    done = seal_year(cube, YEAR)
    assert (done.steps, done.made, done.exit_code) == (13, True, 0)
    assert done.files < done.files_before / 4
    assert differences(cube, twenty) == []
    plain = xr.open_zarr(done.store, mask_and_scale=False)
    keys = [f"toy_{number:04d}" for number in range(13)]
    assert plain["scene"].values.tolist() == keys, "a plain Zarr store, in order of time"
    for place in range(13):
        np.testing.assert_array_equal(plain["B02"][place].values, pixels(place))
    again = seal_year(cube, YEAR)
    assert (again.made, again.store) == (False, done.store)
    assert read_root(cube).commit == 4


def test_series_come_from_deep_files_and_maps_from_the_cubes_own(
    sealed: Path, reads: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stac2cube.store.reader.OPENING", 1000)  # the toy's pixels are few against real ones
    opened = open_cube(sealed, decode=False, chunks=None)
    want = truth(sealed)
    reads.clear()
    np.testing.assert_array_equal(opened["B02"][:, 7, 9].values, want[:, 7, 9])
    assert ("deep", 13) in reads
    assert sum(steps for what, steps in reads if what == "cube") == 3, "those of 2021"
    reads.clear()
    np.testing.assert_array_equal(opened["B02"][4].values, want[4])
    assert reads == [("cube", 1)]
    reads.clear()
    np.testing.assert_array_equal(opened["B02"].values, want)
    assert ("deep", 13) in reads


INDEXERS = {
    "one pixel of one step": {"time": 3, "y": 5, "x": 6},
    "negative": {"time": -1, "y": -1, "x": -1},
    "every third backwards": {"time": slice(None, None, -3), "y": slice(100, 20, -7), "x": slice(0, 130, 50)},
    "lists, unsorted and twice": {"time": [5, 1, 1, 14], "y": [149, 0, 70], "x": [3, 3, 129]},
    "nothing": {"time": slice(2, 2), "y": slice(0, 5), "x": slice(0, 5)},
    "no columns": {"x": slice(7, 7)},
    "points": {"y": xr.DataArray([3, 77, 149], dims="p"), "x": xr.DataArray([4, 0, 129], dims="p")},
    "points in time": {
        "time": xr.DataArray([0, 15, 3], dims="p"),
        "y": xr.DataArray([3, 77, 149], dims="p"),
        "x": xr.DataArray([4, 0, 129], dims="p"),
    },
    "a mask of steps": {"time": np.arange(16) % 3 == 0, "y": 3},
}


@pytest.mark.parametrize("how", INDEXERS)
def test_every_way_to_ask_gives_the_same(sealed: Path, how: str) -> None:
    opened, want = open_cube(sealed, decode=False, chunks=None)["B02"], truth(sealed)
    got = opened.isel(INDEXERS[how])
    np.testing.assert_array_equal(got.values, want.isel(INDEXERS[how]).values)


def test_decoding_and_dask_see_no_difference(sealed: Path, twenty: Path) -> None:
    before = open_cube(twenty, chunks=None).load()
    for chunks in (None, "shards", "series", {"time": 4, "x": 40}):
        after = open_cube(sealed, chunks=chunks)
        xr.testing.assert_identical(after.load(), before.assign_attrs(after.attrs))
    series = open_cube(sealed, chunks="series")["B02"]
    assert series.chunks == ((13, 3), (150,), (130,))
    again = pickle.loads(pickle.dumps(open_cube(sealed, chunks=None)))
    xr.testing.assert_identical(again.load(), before.assign_attrs(again.attrs))


def test_what_changed_since_is_read_from_the_cube_and_said(cube: Path, reads: list[tuple[str, int]]) -> None:
    done = seal_year(cube, YEAR)
    fill(cube, [4], "05.10", bonus=50)  # made anew
    fill(cube, [13, 14])  # late
    drop(cube, ["toy_0002"])  # withdrawn
    want = truth(cube, {4: 54})
    opened = open_cube(cube, decode=False, chunks=None)
    reads.clear()
    np.testing.assert_array_equal(opened["B02"][:, 70:80, 3].values, want[:, 70:80, 3])
    assert {what for what, _ in reads} == {"deep", "cube"}
    np.testing.assert_array_equal(opened["B02"].values, want)
    (state,) = stac2cube.cube_status(cube).sealed_years
    assert (state.year, state.steps, state.stale) == (YEAR, 13, True)
    assert (state.changed, state.late, state.withdrawn) == (("toy_0004",), ("toy_0013", "toy_0014"), ("toy_0002",))
    again = seal_year(cube, YEAR)
    assert (again.steps, again.made) == (14, True)
    assert again.store != done.store
    assert not stac2cube.cube_status(cube).sealed_years[0].stale
    np.testing.assert_array_equal(open_cube(cube, decode=False, chunks=None)["B02"].values, want)


def test_rolling_back_and_putting_in_order_take_the_years_along(cube: Path, twenty: Path) -> None:
    first = seal_year(cube, YEAR)
    sealed = read_root(cube).commit
    tidy(cube)
    assert not stac2cube.cube_status(cube).sealed_years[0].stale, "slots moved, pixels did not"
    assert differences(cube, twenty) == []
    fill(cube, [4], "05.10", bonus=50)
    second = seal_year(cube, YEAR)
    assert second.store != first.store
    rollback(cube, sealed)
    (state,) = stac2cube.cube_status(cube).sealed_years
    assert (state.path, state.stale) == (first.store, False)
    assert differences(cube, twenty) == []
    rollback(cube, sealed - 1)
    assert stac2cube.cube_status(cube).sealed_years == ()
    assert seal_year(cube, YEAR).store == first.store, "a whole store of the same steps is taken again"


def test_a_strange_or_damaged_source_is_never_sealed(cube: Path) -> None:
    (victim,) = (cube / "B02/c/2/0").glob("1")
    content = bytearray(victim.read_bytes())
    content[9] ^= 1
    victim.write_bytes(content)
    with pytest.raises(CubeError, match="is damaged: stac2cube verify --repair first"):
        seal_year(cube, YEAR)
    victim.unlink()
    with pytest.raises(CubeError, match="cannot be read"):
        seal_year(cube, YEAR)
    assert read_root(cube).years == {}
    with pytest.raises(BadInputError, match="has no step of 2017"):
        seal_year(cube, 2017)
    with pytest.raises(BadInputError, match="is not over"):
        seal_year(cube, datetime.now(UTC).year)


def test_a_stopped_run_goes_on_where_it_was(cube: Path, twenty: Path) -> None:
    options = BuildOptions()
    options.stop.set()
    assert seal_year(cube, YEAR, options=options).exit_code == 10
    (making,) = years_folder(cube).glob(".*.making")
    done = seal_year(cube, YEAR, Threads(1))
    assert not making.exists()
    assert done.exit_code == 0
    assert differences(cube, twenty) == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def harm(store: Path, what: str) -> None:  # noqa: PLR0912 - a list of damages
    files = sorted(path for path in (store / "B02/c").rglob("*") if path.is_file())
    if what == "store gone":
        shutil.rmtree(store)
    elif what == "file gone":
        files[0].unlink()
    elif what == "bit flipped":
        flip(files[1])
    elif what == "cut short":
        files[2].write_bytes(files[2].read_bytes()[:-3])
    elif what == "swapped":
        one, other = (file.read_bytes() for file in files[:2])
        files[0].write_bytes(other)
        files[1].write_bytes(one)
    elif what == "orphan":
        (files[0].parent / "77").write_bytes(b"x")
    elif what == "root broken":
        (store / "zarr.json").write_text("{")
    elif what == "record gone":
        (store / ".stac2cube/shards.json").unlink()
    elif what == "array metadata gone":
        (store / "SCL/zarr.json").unlink()
    elif what == "time garbled":
        path = store / "time/c/0"
        path.write_bytes(path.read_bytes()[::-1])
    elif what == "scenes gone":
        (store / "scene/c/0").unlink()
    elif what == "made from others":
        path = store / "zarr.json"
        document = json.loads(path.read_text())
        document["attributes"]["stac2cube"]["versions"][3]["checksum"] = "00000000"
        path.write_text(json.dumps(document))
    else:
        raise AssertionError(what)


HARMS = (
    "store gone", "file gone", "bit flipped", "cut short", "swapped", "orphan", "root broken", "record gone",
    "array metadata gone", "time garbled", "scenes gone", "made from others",
)  # fmt: skip


def damaged(sealed: Path, folder: Path, what: str) -> Path:
    """A copy of the sealed cube whose store of the year is harmed."""
    cube = Path(shutil.copytree(sealed, folder / "toy.zarr"))
    shutil.copytree(years_folder(sealed), years_folder(cube))
    harm(years_folder(cube) / read_root(cube).years[YEAR], what)
    return cube


@pytest.mark.parametrize("what", HARMS)
def test_damage_of_a_years_store_is_found(sealed: Path, tmp_path: Path, what: str) -> None:
    assert {one.kind for one in verify(damaged(sealed, tmp_path, what))} == {"year"}


@pytest.mark.parametrize("what", ["store gone", "bit flipped", "array metadata gone"])
def test_damage_of_a_years_store_is_mended(sealed: Path, twenty: Path, tmp_path: Path, what: str) -> None:
    cube = damaged(sealed, tmp_path, what)
    assert repair(cube, Threads(2)).left == ()
    assert differences(cube, twenty) == []
    assert verify(cube) == []


@pytest.mark.parametrize("what", ["store gone", "file gone", "root broken", "record gone"])
def test_a_lost_deep_file_is_read_from_the_cube(sealed: Path, tmp_path: Path, what: str) -> None:
    cube = damaged(sealed, tmp_path, what)
    np.testing.assert_array_equal(open_cube(cube, decode=False, chunks=None)["B02"].values, truth(cube))


def test_lost_files_of_the_cube_are_brought_back_from_the_sealed_year(
    sealed: Path, twenty: Path, tmp_path: Path
) -> None:
    """The toy has neither items nor a parent: there is nowhere else to take them from."""
    cube = Path(shutil.copytree(sealed, tmp_path / "toy.zarr"))
    shutil.copytree(years_folder(sealed), years_folder(cube))
    for slot in (0, 1, 4):
        shutil.rmtree(cube / "B02/c" / str(slot))
    flip(next(path for path in (cube / "SCL/c/5").rglob("*") if path.is_file()))
    lost = {one.key for one in verify(cube)}
    assert len(lost) == 4
    done = repair(cube, Threads(2))
    assert (done.left, set(done.summary.replaced)) == ((), lost)
    assert differences(cube, twenty) == []
    (state,) = stac2cube.cube_status(cube).sealed_years
    assert not state.stale, "the pixels are those that were sealed"
    assert not seal_year(cube, YEAR).made


def test_a_year_without_steps_is_forgotten_when_its_store_is_lost(cube: Path) -> None:
    seal_year(cube, YEAR)
    assert verify(cube) == []
    drop(cube, [f"toy_{number:04d}" for number in range(13)])
    assert verify(cube) == [], "what was withdrawn is no damage"
    shutil.rmtree(years_folder(cube))
    assert repair(cube, Threads(2)).left == ()
    assert read_root(cube).years == {}


@pytest.mark.soak
def test_worker_processes_seal_too(cube: Path, twenty: Path) -> None:
    seal_year(cube, YEAR, Local(workers=2))
    assert differences(cube, twenty) == []


def test_parts_travel_to_other_nodes(cube: Path, twenty: Path) -> None:
    class Far(Threads):
        @contextmanager
        def open(self) -> Iterator[Executor]:
            with super().open() as pool:
                honest = pool.submit
                pool.submit = lambda part: honest(pickle.loads(pickle.dumps(part)))
                yield pool

    seal_year(cube, YEAR, Far(2))
    assert differences(cube, twenty) == []


def test_the_commands_say_what_was_done(cube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        capsys.readouterr()
        assert cli.main([str(word) for word in words], standalone_mode=False) in (None, 0)
        return capsys.readouterr().out

    told = json.loads(said("seal-year", cube, "2020", "--json", "-q"))
    assert (told["steps"], told["made"]) == (13, True)
    assert "; nothing had changed" in said("seal-year", cube, "2020", "-q")
    assert "13 steps of 2020 sealed deep" in said("history", cube)
    assert json.loads(said("history", cube, "--json"))[-1]["changed"] == {"steps of 2020 sealed deep": 13}
    assert "; sealed, 13 steps" in said("status", cube)
    fill(cube, [4], "05.10", bonus=50)
    fill(cube, [13])
    assert "sealed, stale: 1 changed, 1 late of 13 steps, read from the cube" in said("status", cube)
    assert json.loads(said("status", cube, "--json"))["sealed_years"][0]["late"] == ["toy_0013"]
    assert json.loads(said("tidy", cube, "--json"))["made"] is True
    assert json.loads(said("tidy", cube, "--json"))["made"] is False
    assert json.loads(said("rollback", cube, "4", "--json"))["steps"] == 16
    shutil.rmtree(years_folder(cube))
    assert "; sealed, but its store is gone: seal it again" in said("status", cube)


def test_a_years_store_is_no_cube(cube: Path) -> None:
    done = seal_year(cube, YEAR)
    with pytest.raises(CubeError, match="open the cube"):
        open_cube(done.store)
    assert len(YearStore.read(Path(done.store)).shards) == 2 * 3 * 3
    assert json.loads((Path(done.store) / "zarr.json").read_text())["attributes"]["stac2cube"]["year"] == YEAR
