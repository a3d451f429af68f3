"""Kill -9 of what keeps a cube: at every named point of sealing a year, and of all commands at random moments."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import stac2cube
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import rollback, verify
from stac2cube.maintain.sync import KINDS, sync
from stac2cube.store.files import POINTS
from stac2cube.store.metadata import Root, read_root
from stac2cube.store.reader import differences, open_cube
from stac2cube.store.records import with_checksums
from stac2cube.store.yearly_store import years_folder
from tests.build.builder import Death, code_of, scaled, start
from tests.items import catalog
from tests.stages.keeper import YEAR, keep
from tests.stages.test_care import DATES, build, product

KILLED = -signal.SIGKILL
COMMANDS = ("sync", "tidy", "rollback", "seal-year", "overviews")
HARM = {"missing", "corrupt", "coordinate", "ledger", "year"}
FAMILY = ("layers.zarr", "clouds.zarr", "layers.zarr.overviews/2", "layers.zarr.overviews/4")


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube of late scenes, its children behind it; in its catalog one scene is newer, one is gone and two are new."""
    folder = tmp_path_factory.mktemp("begin")
    items = [product(folder, date) for date in DATES]
    layers = build(folder, [items[3], items[4]])
    stac2cube.store_overviews(layers, levels=1)
    layers = build(folder, [items[place] for place in (0, 2, 3, 4)])
    stac2cube.get_cloud_layers(layers, folder / "clouds.zarr", method="scl", dilate_m=0)
    newer = product(folder, DATES[3], "03.02", 1)
    catalog(folder / "items.json", [items[0], items[1], newer, items[4], items[5]])
    return folder


@pytest.fixture(scope="module")
def ahead(begin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the cube itself synced: overviews lack steps, and have one of other pixels and one too many."""
    cube = copy(begin, tmp_path_factory.mktemp("ahead") / "ahead")
    sync(cube, Threads(2), kinds=[kind for kind in KINDS if kind != "children"], even_many=True)
    return cube.parent


def copy(begin: Path, folder: Path) -> Path:
    """The cube elsewhere; it remembers its catalog and its children their parent, so they are told of the new place."""
    shutil.copytree(begin, folder, symlinks=True, ignore=shutil.ignore_patterns("*.tif"))
    for cube in family(folder / "layers.zarr").values():
        for file in ((cube / "zarr.json"), *(cube / ".stac2cube/history").glob("*.json")):
            moved = json.loads(file.read_text().replace(f"{begin}/layers.zarr", f"{folder}/layers.zarr"))
            file.write_bytes(with_checksums(cube, Root(moved)).to_bytes())
    return folder / "layers.zarr"


def family(layers: Path) -> dict[str, Path]:
    """The cube and those made from it, as far as they are there."""
    return {name: layers.parent / name for name in FAMILY if (layers.parent / name).exists()}


def pictures(cube: Path) -> dict[str, bytes]:
    """Pixels of every step, by key."""
    opened = open_cube(cube, decode=False, chunks=None).load()
    names = list(opened.data_vars)
    return {
        str(key): b"".join(np.ascontiguousarray(opened[name][place].values).tobytes() for name in names)
        for place, key in enumerate(opened["scene"].values)
    }


Pictures = dict[str, dict[str, bytes]]


def all_pictures(layers: Path) -> Pictures:
    return {name: pictures(cube) for name, cube in family(layers).items()}


def check(layers: Path, before: Pictures, after: Pictures) -> None:
    """Every step is what it was or what it shall be, none is lost, and no file is what it should not be."""
    for name, cube in family(layers).items():
        now, was, becomes = pictures(cube), before.get(name, {}), after[name]
        assert was.keys() & becomes.keys() <= now.keys() <= was.keys() | becomes.keys(), name
        for key, pixels in now.items():
            assert pixels in (was.get(key), becomes.get(key)), (name, key)
        assert not [damage for damage in verify(cube) if damage.kind in HARM], name


def finished(begin: Path, folder: Path, command: str) -> tuple[Path, float]:
    """What the command makes of the cube undisturbed, and how long it takes."""
    cube = copy(begin, folder)
    assert code_of(start(int)) == 0  # so that the server, which all are forked from, is there before the clock runs
    begun = time.monotonic()
    assert code_of(start(keep, command, cube)) == 0
    return cube, time.monotonic() - begun


def campaign(begin: Path, folder: Path, command: str, kills: int, seed: int) -> tuple[int, int]:
    """Kill the command at random moments until so many died in their work; each cube ends as the undisturbed one."""
    done, seconds = finished(begin, folder / "done", command)
    before, after = all_pictures(begin / "layers.zarr"), all_pictures(done)
    luck, died, cubes = random.Random(f"{command} {seed}"), 0, 0
    while died < kills:
        cubes += 1
        cube = copy(begin, folder / f"{cubes}")
        code: int | None = None
        while code != 0:
            process = start(keep, command, cube)
            code = code_of(process, timeout=luck.uniform(0, 1.1 * seconds))
            if code is None:
                process.kill()
                code = code_of(process)
            assert code in (0, KILLED)
            died += code == KILLED
            check(cube, before, after)
        assert family(cube).keys() == family(done).keys()
        for name, made in family(cube).items():
            assert differences(made, done.parent / name) == [], name
            assert verify(made) == [], name
        assert (YEAR in read_root(cube).years) == (command == "seal-year")
        assert not list(years_folder(cube).glob(".*.making"))
        shutil.rmtree(cube.parent)
    return died, cubes


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_any_moment_a_cube_is_whole_and_the_command_goes_on(
    begin: Path, ahead: Path, tmp_path: Path, command: str
) -> None:
    campaign(ahead if command == "overviews" else begin, tmp_path, command, kills=1, seed=0)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(1, 6))
@pytest.mark.parametrize("command", COMMANDS)
def test_keeping_campaign(begin: Path, ahead: Path, tmp_path: Path, command: str, part: int) -> None:
    died, cubes = campaign(ahead if command == "overviews" else begin, tmp_path, command, kills=scaled(10), seed=part)
    print(f"{command}: {died} kills over {cubes} cubes")  # noqa: T201


def test_kill_while_an_older_generation_is_put_back(begin: Path, tmp_path: Path) -> None:
    """What is being filled then has the root of that generation, and must not be taken for it."""
    cube, death = copy(begin, tmp_path / "cube"), Death("commit.ledger-written", 1, tmp_path / "counts")
    assert code_of(start(keep, "rollback", cube)) == 0
    back, first = pictures(cube), read_root(cube).generation
    assert first == 1
    assert code_of(start(keep, "rollback", cube, death)) == KILLED
    assert (read_root(cube).generation, pictures(cube)) == (first, back)
    rollback(cube, 2)
    assert pictures(cube) == pictures(begin / "layers.zarr"), "the generation before is what it was"
    assert verify(cube) == []


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("year")])
def test_kill_at_every_point_of_sealing_a_year(point: str, begin: Path, tmp_path: Path) -> None:
    cube = copy(begin, tmp_path / "cube")
    before = all_pictures(cube)
    assert code_of(start(keep, "seal-year", cube, Death(point, 1, tmp_path / "counts"))) == KILLED
    assert (YEAR in read_root(cube).years) == (point == "year.sealed")
    check(cube, before, before)
    begun = len((tmp_path / "counts").read_text().split())
    assert code_of(start(keep, "seal-year", cube, Death("never", 1, tmp_path / "counts"))) == 0
    again = (tmp_path / "counts").read_text().split()[begun:]
    # Both layers are made only once over both runs, and a whole store is not made again.
    assert again.count("year.part-made") == {"year.begun": 2, "year.part-made": 1}.get(point, 0)
    check(cube, before, before)
    assert verify(cube) == []
