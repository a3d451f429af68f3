"""File systems that lack what a cube wants, and clocks that are wrong: said when a cube is created, and survived."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions
from stac2cube.errors import CubeError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import remarks, rollback
from stac2cube.maintain.update import outdated_children
from stac2cube.store import files as filesystem
from stac2cube.store import generation, metadata
from stac2cube.store.generation import GRACE_DAYS, generations_folder, grace_is_over
from stac2cube.store.metadata import OWN, read_root
from stac2cube.store.verify import find_damage
from tests.build.toy import SPEC, Make, step, steps

REPLACING = BuildOptions(superseded="replace")
DAY = 86400


def refuse_folder_sync(monkeypatch: pytest.MonkeyPatch, code: int = errno.EINVAL) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


def refuse_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (filesystem, generation):
        monkeypatch.setattr(module, "exchange", lambda one, other: False)


def replaced(cube: Path) -> None:
    build(cube, SPEC, [step(1, "05.10")], Make(bonus=50), Threads(1), options=REPLACING)


def test_a_good_file_system_is_not_spoken_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        build(tmp_path / "toy.zarr", SPEC, steps(range(1)), Make(), Threads(1))
    assert not [line for line in caplog.messages if "file system" in line]


def test_what_a_file_system_lacks_is_said_at_creation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_folder_sync(monkeypatch)
    refuse_links(monkeypatch)
    refuse_exchange(monkeypatch)
    cube = tmp_path / "toy.zarr"
    with caplog.at_level(logging.WARNING):
        build(cube, SPEC, steps(range(2)), Make(), Threads(1))
    said = [line for line in caplog.messages if "file system" in line]
    assert [word for word in ("sync folders", "hard links", "exchange two folders") if word in " ".join(said)] == [
        "sync folders",
        "hard links",
        "exchange two folders",
    ]
    assert len(said) == 3, "a line each"
    caplog.clear()
    build(cube, SPEC, steps(range(3)), Make(), Threads(1))
    assert not [line for line in caplog.messages if "file system" in line], "it is said once"
    assert (read_root(cube).steps, find_damage(cube)) == (3, [])
    with pytest.raises(CubeError, match="has no hard links"):
        replaced(cube)
    assert (read_root(cube).generation, find_damage(cube)) == (0, [])
    assert not (cube / OWN / "put-away").exists()


def test_an_error_of_the_disk_is_not_taken_for_a_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_folder_sync(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        build(tmp_path / "toy.zarr", SPEC, steps(range(1)), Make(), Threads(1))


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """With one generation put away."""
    build(tmp_path / "toy.zarr", SPEC, steps(range(3)), Make(), Threads(1))
    replaced(tmp_path / "toy.zarr")
    return tmp_path / "toy.zarr"


def put_away_at(cube: Path, when: float) -> Path:
    """As if the clock had shown that when the generation was put away."""
    old = generations_folder(cube) / "000000"
    (old / OWN / "put-away").write_text(datetime.fromtimestamp(when, UTC).isoformat())
    os.utime(old, (when, when))
    return old


@pytest.mark.parametrize(
    "clock",
    [0.0, 1e9, time.time() - 30 * DAY, time.time() + 30 * DAY, 4e9],
    ids=["1970", "2001", "late", "fast", "2096"],
)
def test_a_generation_put_away_under_a_wrong_clock_waits_its_time(clock: float, cube: Path) -> None:
    old = put_away_at(cube, clock)
    rollback(cube, 1)
    assert old.exists(), "the next run does not know how long it waited"
    assert abs(old.stat().st_mtime - time.time()) < DAY, "its time begins anew"
    rollback(cube, 1)
    assert old.exists()
    os.utime(old, (time.time() - (GRACE_DAYS + 1) * DAY,) * 2)
    rollback(cube, 1)
    assert not old.exists()


def test_what_the_first_version_put_away_waits_its_time_too(cube: Path) -> None:
    old = put_away_at(cube, 1e9)
    (old / OWN / "put-away").unlink()
    rollback(cube, 1)
    assert old.exists()


def test_a_deleted_cube_leaves_the_next_one_of_its_name_alone(cube: Path) -> None:
    """Its old generations, which nobody deletes with it, are not the new cube's."""
    shutil.rmtree(cube)
    build(cube, SPEC, steps(range(3)), Make(), Threads(1))
    before = read_root(cube).to_bytes()
    replaced(cube)
    assert (read_root(cube).generation, find_damage(cube)) == (1, [])
    assert read_root(generations_folder(cube) / "000000").to_bytes() == before
    assert len(list(generations_folder(cube).iterdir())) == 2, "what its readers may still have open stays its time"
    rollback(cube, 1)
    assert find_damage(cube) == []


def test_the_grace_is_over_when_it_is(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    assert not grace_is_over(mark, 0.0)
    os.utime(mark, (time.time() - (GRACE_DAYS + 1) * DAY,) * 2)
    assert grace_is_over(mark, 0.0)
    assert not grace_is_over(mark, time.time()), "it is older than what it follows"
    assert list(tmp_path.iterdir()) == [mark]


def test_what_lies_beside_a_cube_and_cannot_be_read_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = tmp_path / "layers.zarr"
    build(cube, SPEC, steps(range(1)), Make(), Threads(1))
    theirs = tmp_path / "theirs.zarr"
    theirs.mkdir()
    (theirs / "zarr.json").write_text("{}")
    real = metadata.read_plain

    def read(path: Path, **how: bool) -> bytes:
        if path.parent == theirs:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, **how)

    monkeypatch.setattr(metadata, "read_plain", read)
    with pytest.raises(CubeError, match=r"theirs\.zarr cannot be read: Permission denied"):
        read_root(theirs)
    assert outdated_children(cube) == {}
    assert remarks(cube) == []
    assert [one.kind for one in find_damage(cube)] == []
    with pytest.raises(CubeError, match=r"000009\.json is not there"):
        read_root(cube, cube / OWN / "history" / "000009.json")
