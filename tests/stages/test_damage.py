"""Whatever is wrong with a cube is found by `verify`, and repaired, or named where nothing can bring it back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import stac2cube
from stac2cube.cli import cli
from stac2cube.errors import CubeError, Stac2cubeError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import repair, rollback
from stac2cube.maintain.seal_year import seal_year
from stac2cube.store.metadata import OWN, read_root
from stac2cube.store.reader import differences
from stac2cube.store.records import KINDS
from stac2cube.store.verify import find_damage
from tests.stages.damages import FIRST, HISTORY, LEDGER, NAMED, REPAIRED, older_root
from tests.stages.test_care import DATES, build, product


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    items = [product(folder, date) for date in DATES[:3]]
    build(folder, items[:2])
    cube = build(folder, items)
    seal_year(cube, 2022, Threads(1))
    assert read_root(cube).commit >= 3
    return cube


@pytest.fixture
def cube(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be harmed, with its sealed year."""
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("MINE", str(tmp_path / "mine"))
    shutil.copytree(f"{sound}.years", tmp_path / "layers.zarr.years")
    return Path(shutil.copytree(sound, tmp_path / "layers.zarr"))


def content(cube: Path) -> dict[str, bytes]:
    """Of all files, but for those of the lock and of what was put aside."""
    files = (path for path in cube.rglob("*") if path.is_file() and f"{OWN}/trash" not in str(path))
    return {str(path.relative_to(cube)): path.read_bytes() for path in files}


def test_there_are_fifty_kinds_and_more_and_none_in_a_sound_cube(sound: Path) -> None:
    assert len(REPAIRED) + len(NAMED) >= 100
    assert find_damage(sound) == []
    assert find_damage(sound, deep=False) == []


@pytest.mark.parametrize("what", REPAIRED)
def test_damage_is_found_and_repaired_to_the_pixel(what: str, cube: Path, sound: Path) -> None:
    REPAIRED[what](cube)
    done = repair(cube, Threads(1))
    assert done.found, what
    assert {one.kind for one in done.found} <= KINDS.keys()
    assert done.left == (), "so that verify finds nothing"
    assert differences(cube, sound) == []


@pytest.mark.parametrize("what", NAMED)
def test_what_nothing_brings_back_is_named_and_nothing_else_is_lost(what: str, cube: Path, tmp_path: Path) -> None:
    harm, name = NAMED[what]
    harm(cube)
    before = content(cube)
    if what == "root and history lost":
        with pytest.raises(CubeError, match=r"no zarr\.json"):
            find_damage(cube)
    else:
        assert any(name in one.path for one in find_damage(cube))
    try:
        left = repair(cube, Threads(1)).left
        assert any(name in one.path for one in left)
        assert {one.kind for one in left} == {"history"}
    except Stac2cubeError as error:
        assert any(word in str(error) for word in (name, "ledger", "zarr.json"))  # noqa: PT017 - or it is left
    after = content(cube)
    assert {path: after.get(path) for path in before} == before
    mine = tmp_path / "mine"
    assert not list(mine.rglob(".*")), "nothing is written behind a link"


def test_under_an_older_root_nobody_removes_the_later_steps(cube: Path, sound: Path) -> None:
    older_root(cube)
    before = content(cube)
    with pytest.raises(CubeError, match=r"an older zarr\.json was put back\. Nothing was changed"):
        rollback(cube, 1)
    assert content(cube) == before
    repair(cube, Threads(1))
    assert differences(cube, sound) == []
    rollback(cube, int(FIRST))
    assert read_root(cube).steps < 3
    assert find_damage(cube) == []


def test_a_lost_root_is_offered_from_the_history(cube: Path) -> None:
    commit = read_root(cube).commit
    (cube / "zarr.json").unlink()
    (one,) = find_damage(cube)
    assert f"the history has that of commit {commit}, with 3 steps: --repair puts it back" in one.what
    with pytest.raises(CubeError, match="Its root is lost: stac2cube verify"):
        stac2cube.open_cube(cube)


def test_a_lost_ledger_comes_back_from_an_old_generation(cube: Path, sound: Path) -> None:
    rollback(cube, read_root(cube).commit)
    part = read_root(cube).ledger[0]
    lost = cube / LEDGER / part
    lost.unlink()
    (cube / HISTORY / f"{FIRST}.json").unlink()
    assert {one.kind for one in find_damage(cube)} == {"ledger"}
    if not (lost_elsewhere := list(cube.parent.glob(f".{cube.name}.generations/*/{LEDGER}/{part}"))):
        pytest.fail(f"{lost_elsewhere}: the old generation has no such part")
    assert repair(cube, Threads(1)).left == ()
    assert differences(cube, sound) == []


def test_readers_are_told_of_an_axis_that_is_not_the_grids(cube: Path) -> None:
    REPAIRED["x lost"](cube)
    with pytest.raises(CubeError, match=r"verify .* --repair"):
        stac2cube.open_cube(cube)


def test_what_is_put_aside_can_be_taken_back(cube: Path) -> None:
    REPAIRED["a stray file"](cube)
    repair(cube, Threads(1))
    (aside,) = (cube / OWN / "trash").iterdir()
    assert "notes.txt" in aside.name
    assert aside.read_text() == "x"
    assert not (cube / "notes.txt").exists()
    os.utime(aside, (aside.stat().st_mtime - 8 * 86400,) * 2)
    REPAIRED["a stray hidden file"](cube)
    repair(cube, Threads(1))
    (later,) = (cube / OWN / "trash").iterdir()
    assert "DS_Store" in later.name, "the trash is emptied after the grace period"


def test_the_command_finds_and_mends_a_lost_root_and_a_lost_axis(
    cube: Path, sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what, kind in (("root lost", "root"), ("x lost", "coordinate")):
        REPAIRED[what](cube)
        capsys.readouterr()
        assert cli.main(["verify", str(cube), "-q"], standalone_mode=False) == 2
        assert capsys.readouterr().out.startswith(f"{kind} ")
        assert cli.main(["verify", str(cube), "-q", "--repair"], standalone_mode=False) == 0
        assert cli.main(["verify", str(cube), "-q"], standalone_mode=False) == 0
    assert differences(cube, sound) == []
