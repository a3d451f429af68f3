"""Symbolic links inside a cube, and where its keeping writes: nothing behind them is written, moved or removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions
from stac2cube.build.status import cube_status
from stac2cube.datasets.files import made_folder
from stac2cube.errors import BadInputError, CubeError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import repair, rollback, tidy
from stac2cube.maintain.seal_year import seal_year
from stac2cube.store import generation
from stac2cube.store.files import read_plain, refuse_links, remove_tree
from stac2cube.store.lock import CubeLock, force_unlock
from stac2cube.store.metadata import OWN
from stac2cube.store.verify import find_damage
from tests.build.faults import listening
from tests.build.toy import SPEC, Make, step, steps

INSIDE = (
    OWN,
    f"{OWN}/staging",
    f"{OWN}/staging/run",
    f"{OWN}/staging/run/toy_0003/B02",
    f"{OWN}/ledger",
    f"{OWN}/history",
    f"{OWN}/lock",
    f"{OWN}/trash",
    f"{OWN}/history/000001.json",
    f"{OWN}/ledger/000001.parquet",
    "B02",
    "B02/c",
    "B02/c/0",
    "B02/c/88",
    "B02/zarr.json",
    "time",
    "time/c",
    "time/c/0",
    "scene/c",
    "x",
    "x/c",
    "zarr.json",
)
BESIDE = (
    ".toy.zarr.lock",
    ".toy.zarr.next",
    ".toy.zarr.filling",
    ".toy.zarr.generations",
    ".toy.zarr.generations/000000",
    ".toy.zarr.swap",
    ".toy.zarr.remade",
    "toy.zarr.years",
    "toy.zarr.years/2020-000001.zarr",
    "toy.zarr.years/.2020.making",
)
WRITING: dict[str, Callable[[Path], object]] = {
    "append": lambda cube: build(cube, SPEC, steps(range(4)), Make(), Threads(1)),
    "replace": lambda cube: build(
        cube, SPEC, [step(1, "05.10")], Make(bonus=50), Threads(1), options=BuildOptions(superseded="replace")
    ),
    "tidy": tidy,
    "rollback": lambda cube: rollback(cube, 1),
    "seal-year": lambda cube: seal_year(cube, 2020, Threads(1)),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    build(folder / "toy.zarr", SPEC, steps(range(3)), Make(), Threads(1))
    return folder


def state(folder: Path) -> list[tuple[str, int, bytes]]:
    """All that lies in a folder and behind the links in it."""
    paths = sorted(path for path in folder.rglob("*"))
    content = (path.read_bytes() if path.is_file() else b"" for path in paths)
    return [(str(path), path.lstat().st_mtime_ns, what) for path, what in zip(paths, content, strict=True)]


def put_link(path: Path, mine: Path) -> None:
    """Let a link take the place of a file or folder, which moves to where the link points; with somebody's own work."""
    outside = mine / path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rename(outside)
    else:
        (outside / "888").mkdir(parents=True)
    if outside.is_dir():
        (outside / "thesis.txt").write_text("years of work")
    path.symlink_to(outside)


@pytest.mark.parametrize("place", [*(f"toy.zarr/{name}" for name in INSIDE), *BESIDE])
def test_every_command_that_writes_refuses_a_link_before_any_byte(place: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "here")
    cube, mine = tmp_path / "here/toy.zarr", tmp_path / "mine"
    mine.mkdir()
    put_link(tmp_path / "here" / place, mine)
    before = state(tmp_path)
    for act in WRITING.values():
        with pytest.raises(BadInputError, match="is a symbolic link"):
            act(cube)
    assert state(tmp_path) == before


@pytest.mark.parametrize("place", [f"{OWN}/staging", f"{OWN}/history", "B02/c", "B02/c/0", "B02/c/0/0/0", "x/c/0"])
def test_a_repair_refuses_a_link_too(place: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "here")
    cube, mine = tmp_path / "here/toy.zarr", tmp_path / "mine"
    mine.mkdir()
    put_link(cube / place, mine)
    (cube / "x/zarr.json").unlink()
    before = state(tmp_path)
    with pytest.raises(BadInputError, match="is a symbolic link"):
        repair(cube, Threads(1))
    assert state(tmp_path) == before


def test_a_link_deep_in_a_slot_is_not_taken_along(whole: Path, tmp_path: Path) -> None:
    """So deep a writer does not look before; the next generation, which would lose the link, is refused."""
    shutil.copytree(whole, tmp_path / "here")
    cube, mine = tmp_path / "here/toy.zarr", tmp_path / "mine"
    mine.mkdir()
    put_link(cube / "B02/c/0/0", mine)
    with pytest.raises(BadInputError, match="B02/c/0/0 is a symbolic link"):
        WRITING["replace"](cube)
    assert (mine / "0/thesis.txt").exists()
    assert not generation.next_folder(cube).exists()


def test_the_path_of_a_cube_may_be_a_link(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "real")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "real/toy.zarr")
    for act in WRITING.values():
        act(tmp_path / "link.zarr")
    assert (tmp_path / "link.zarr").is_symlink()


def test_other_folders_of_ours(tmp_path: Path) -> None:
    mine, folder = tmp_path / "mine", tmp_path / "set"
    (mine / "month=01").mkdir(parents=True)
    (mine / "thesis.txt").touch()
    (folder / "train.zarr/x").mkdir(parents=True)
    (folder / "train.zarr/x/c").symlink_to(mine)
    with pytest.raises(BadInputError, match=r"train\.zarr/x/c is a symbolic link"):
        made_folder(folder)
    (folder / "year=2020").symlink_to(mine)
    (folder / ".seen").symlink_to(mine)
    for check in (refuse_links, made_folder, lambda path: remove_tree(path / "year=2020")):
        with pytest.raises(BadInputError, match="is a symbolic link"):
            check(folder)
    with pytest.raises(OSError, match="symbolic link"):
        read_plain(folder / "year=2020")
    cube = tmp_path / "cube.zarr"
    (cube / OWN).mkdir(parents=True)
    (cube / OWN / "lock").symlink_to(mine)
    with pytest.raises(BadInputError, match="lock is a symbolic link"):
        CubeLock(cube).acquire()
    with pytest.raises(BadInputError, match="lock is a symbolic link"):
        force_unlock(cube)
    assert sorted(path.name for path in mine.iterdir()) == ["month=01", "thesis.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cube.zarr", "mine", "set"]


SWAPPED = [
    # What is looked at when the cube is opened, and where it becomes a link: at a point that comes after that.
    ("append", f"{OWN}/staging", "file.named", 1),
    ("append", f"{OWN}/staging", "block.written", 1),
    ("append", f"{OWN}/staging", "commit.begin", 1),
    ("append", "B02", "commit.begin", 1),
    ("append", "B02/c", "commit.begin", 1),
    ("append", "time/c", "commit.step-moved", 1),
    ("append", f"{OWN}/ledger", "commit.step-moved", 1),
    ("append", f"{OWN}/history", "commit.ledger-written", 1),
    ("append", OWN, "commit.root-replaced", 1),
    ("replace", f"{OWN}/staging", "generation.linked", 1),
    ("replace", "../.toy.zarr.filling/B02/c", "generation.linked", 1),
    ("replace", "../.toy.zarr.filling/.stac2cube/ledger", "generation.linked", 1),
    ("replace", "../.toy.zarr.generations", "generation.named", 1),
    ("rollback", f"{OWN}/history", "file.named", 1),
    ("rollback", "../.toy.zarr.filling/B02/c", "generation.linked", 1),
    ("seal-year", "../toy.zarr.years/.2020.making", "year.begun", 1),
]


@pytest.mark.parametrize(("command", "place", "point", "hit"), SWAPPED)
def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(
    command: str, place: str, point: str, hit: int, whole: Path, tmp_path: Path
) -> None:
    """Others who may write in a cube could put a link there after its folders were looked at."""
    shutil.copytree(whole, tmp_path / "here")
    cube, mine, aside = tmp_path / "here/toy.zarr", tmp_path / "mine", tmp_path / "aside"
    leftover = cube / OWN / "staging" / "of-a-dead-run"
    leftover.mkdir(parents=True)
    swapped = (cube / place).resolve()
    before: list[tuple[str, int, bytes]] = []

    def swap(passed: str) -> None:
        nonlocal hit
        hit -= passed == point
        if passed == point and hit == 0:
            # Behind the link lies all that is in the folder, so that whoever follows it would find what it looks for.
            shutil.copytree(swapped, mine) if swapped.is_dir() else mine.mkdir()
            (mine / "888").mkdir()
            (mine / "888" / "thesis.txt").write_text("years of work")
            before.extend(state(mine))
            swapped.rename(aside) if swapped.is_dir() else None
            swapped.symlink_to(mine)

    with listening(swap), pytest.raises((BadInputError, CubeError)):
        WRITING[command](cube)
    assert before, "the point was never passed"
    assert state(mine) == before
    if swapped.is_symlink():
        swapped.unlink()
        aside.rename(swapped) if aside.exists() else None
    if place == OWN:
        force_unlock(cube)  # the lock in it could not be given back
    WRITING[command](cube)
    assert find_damage(cube) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "place",
    ["zarr.json", "time/c/0", f"{OWN}/ledger/000001.parquet", f"{OWN}/history/000001.json", f"{OWN}/lock/owner-x.json"],
)
def test_nobody_waits_at_a_pipe_in_a_cube(place: str, whole: Path, tmp_path: Path) -> None:
    """Whoever made the cube may have put one there; reading it would never end."""
    shutil.copytree(whole, tmp_path / "here")
    cube = tmp_path / "here/toy.zarr"
    found = sorted((cube / OWN / "ledger").glob("*.parquet"))[0] if "ledger" in place else cube / place
    found.unlink(missing_ok=True)
    found.parent.mkdir(exist_ok=True)
    os.mkfifo(found)
    for act in (cube_status, WRITING["append"], force_unlock):
        with suppress(CubeError, BadInputError, OSError, ValueError):
            act(cube)
    if "history" not in place and "lock" not in place:
        with pytest.raises((CubeError, BadInputError, OSError, ValueError)):
            WRITING["append"](cube)
