"""A cube kept under bad conditions: full disks, links to it, locks that nobody owns, old commits."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest

import stac2cube
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, CubeError, CubeLockedError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import rollback, tidy, verify
from stac2cube.maintain.seal_year import seal_year
from stac2cube.store import generation
from stac2cube.store.generation import generations_folder
from stac2cube.store.lock import CubeLock, lock_folder
from stac2cube.store.metadata import OWN, read_root
from stac2cube.store.reader import differences
from tests.stages.test_care import DATES, build, product

KEEPING: dict[str, Callable[[Path], object]] = {
    "tidy": tidy,
    "rollback": lambda cube: rollback(cube, 1),
    "seal-year": lambda cube: seal_year(cube, 2022, Threads(1)),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits, out of the order of time."""
    folder = tmp_path_factory.mktemp("sound")
    items = [product(folder, date) for date in DATES[:3]]
    build(folder, items[2:])
    return build(folder, items)


@pytest.fixture
def cube(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "layers.zarr"))


def besides(cube: Path) -> list[str]:
    """What lies beside a cube and should not: of a run that ended."""
    kept = (cube.name, generations_folder(cube).name, f"{cube.name}.years")
    return sorted(path.name for path in cube.parent.iterdir() if path.name not in kept)


def outcome(command: str, cube: Path) -> str:
    """What a command says at last."""
    try:
        KEEPING[command](cube)
    except BadInputError as error:
        return str(error)
    return "done"


def partials(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.partial"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("command", KEEPING)
def test_a_disk_that_fills_up_at_any_write_leaves_the_cube_and_nothing_besides(
    command: str, code: int, cube: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    commit, rooms = read_root(cube).commit, iter(range(0, 60, 3))
    while read_root(cube).commit == commit:
        assert differences(cube, sound) == []
        left = room = next(rooms)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            said = outcome(command, cube)
        assert said == "done" or "make room and run again" in said
        assert besides(cube) == []
        assert not partials(cube.parent)
    assert room >= 9, "it failed several times"
    KEEPING[command](cube)
    assert verify(cube) == []


def test_the_grace_of_a_replaced_generation_begins_when_it_is_replaced(cube: Path, sound: Path) -> None:
    """Not at its last commit, which may be as old as the cube."""
    long_ago = time.time() - 100 * 86400
    os.utime(cube, (long_ago, long_ago))
    opened = stac2cube.open_cube(cube, decode=False, chunks=None)
    tidy(cube)
    truth = stac2cube.open_cube(sound, decode=False, chunks=None)
    np.testing.assert_array_equal(opened["B04"].values, truth["B04"].values)
    rollback(cube, read_root(sound).commit)
    assert differences(cube, sound) == []
    for old in generations_folder(cube).iterdir():
        os.utime(old, (long_ago, long_ago))
    rollback(cube, read_root(sound).commit + 1)
    assert len(list(generations_folder(cube).iterdir())) == 1, "what waited long enough went, the last is there"


@pytest.mark.parametrize("atomic", [True, False], ids=["exchange", "journal"])
def test_a_cube_is_the_same_by_whatever_path(
    atomic: bool, cube: Path, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not atomic:
        monkeypatch.setattr(generation, "exchange", lambda one, other: False)
    (tmp_path / "désk top").mkdir()
    link = tmp_path / "désk top" / "my cube.zarr"
    link.symlink_to(Path("..") / cube.name)
    with CubeLock(cube), pytest.raises(CubeLockedError):
        tidy(link)
    seal_year(link, 2022, Threads(1))
    tidy(link)
    assert link.is_symlink()
    assert (cube.parent / f"{cube.name}.years").is_dir()
    assert sorted(path.name for path in link.parent.iterdir()) == [link.name]
    assert read_root(cube).commit == read_root(sound).commit + 2
    assert differences(link, sound) == []
    monkeypatch.chdir(link.parent)
    rollback(Path(link.name), read_root(sound).commit)
    assert differences(cube, sound) == []
    assert link.is_symlink()
    assert cli.main(["unlock", link.name], standalone_mode=False) is None


def test_a_lock_that_names_nobody_is_told_of_and_can_be_taken_away(
    cube: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock_folder(cube).mkdir()
    (lock_folder(cube) / "owner-1.json").write_text("{")
    with pytest.raises(CubeLockedError, match="does not say whose"):
        tidy(cube)
    assert cli.main(["unlock", str(cube), "--force"], standalone_mode=False) is None
    assert "card cannot be read" in capsys.readouterr().out
    assert tidy(cube) is not None


def test_commits_are_named_by_their_number(cube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latest = read_root(cube).commit
    assert cli.main(["diff", str(cube), "v1", f"v{latest}"], standalone_mode=False) is None
    assert capsys.readouterr().out.count("added") == 2
    assert cli.main(["rollback", str(cube), "v1"], standalone_mode=False) is None
    assert read_root(cube).steps == 1
    with pytest.raises(click.BadParameter, match="is no commit"):
        cli.main(["rollback", str(cube), "yesterday"], standalone_mode=False)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda cube: next((cube / OWN / "ledger").glob("*")).unlink(), "ledger, cannot be read: it is not there"),
        (lambda cube: next((cube / OWN / "ledger").glob("*")).write_bytes(b"x"), "ledger, cannot be read"),
        (lambda cube: (cube / "scene/c/0").unlink(), "scene keys that its ledger does not know"),
    ],
    ids=["part gone", "part rotten", "keys gone"],
)
def test_a_half_copied_cube_is_told_of_by_whoever_opens_it(harm: Callable[[Path], None], says: str, cube: Path) -> None:
    for part in (cube / OWN / "ledger").glob("*"):
        if part.name not in read_root(cube).ledger:
            part.unlink()
    harm(cube)
    for command in (stac2cube.open_cube, lambda path: cli.main(["report", str(path)], standalone_mode=False)):
        with pytest.raises(CubeError, match=says):
            command(cube)
    assert verify(cube)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("words", [["tidy", "CUBE"], ["rollback", "CUBE", "1"]], ids=["tidy", "rollback"])
def test_a_command_that_is_asked_to_end_lets_go_of_the_cube(
    words: list[str], number: int, cube: Path, sound: Path
) -> None:
    program = (
        "import os\n"
        "from stac2cube.cli import main\n"
        "from stac2cube.store import files as points\n"
        "points.listeners.append("
        f"lambda point: point == 'generation.linked' and os.kill(os.getpid(), {int(number)}))\n"
        "main()\n"
    )
    words = [str(cube) if word == "CUBE" else word for word in words]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (10, "interrupted")
    assert besides(cube) == []
    assert differences(cube, sound) == []


@pytest.mark.parametrize("command", ["tidy", "rollback"])
def test_where_there_are_no_hard_links_that_is_said(
    command: str, cube: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path, **_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(source))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(CubeError, match="no hard links, or"):
        KEEPING[command](cube)
    assert besides(cube) == []
    assert differences(cube, sound) == []


def test_a_cube_that_can_only_be_read_is_no_full_disk(cube: Path, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(folder: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", mkdir)
        assert verify(cube) == []
        with pytest.raises(BadInputError, match=r"Read-only file system. What was sealed is safe\.$"):
            tidy(cube)
    assert differences(cube, sound) == []


def test_verify_tells_of_steps_out_of_order_and_that_is_no_damage(
    cube: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", str(cube), "-q"], standalone_mode=False) == 0
    assert "remark     steps are not in the order of time: stac2cube tidy" in capsys.readouterr().out
    tidy(cube)
    assert cli.main(["verify", str(cube), "-q"], standalone_mode=False) == 0
    assert "remark" not in capsys.readouterr().out
