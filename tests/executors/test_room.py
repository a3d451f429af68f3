"""Quotas, as the commands of three file systems tell of them; the commands stand in for those of such systems."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from stac2cube.build.loop import build
from stac2cube.executors import site
from stac2cube.executors.base import Threads
from stac2cube.executors.site import Room, gpfs_rooms, lfs_room, nfs_rooms, rooms
from tests.build.toy import SPEC, Make, steps

LFS = """Disk quotas for usr anna (uid 1000):
     Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
  /lustre/a/very/long/name
                  900   1000    1200       -      95*      90      100       6d
uid 1000 is using default block quota setting
"""

NO_LIMIT = """Disk quotas for grp eo (gid 5):
     Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
        /lustre  900   0    0       -      95      0      0       -
"""

GPFS = (
    "mmlsquota::HEADER:version:reserved:reserved:filesystemName:quotaType:id:name:blockUsage:blockQuota:blockLimit:"
    "blockInDoubt:blockGrace:filesUsage:filesQuota:filesLimit:filesInDoubt:filesGrace:remarks:quota:defQuota:fid:filesetname:\n"
    "mmlsquota::0:1:::gpfs0:USR:1000:anna:2048:0:4096:0:none:10:0:30:0:none::on:off:::\n"
    "mmlsquota::0:1:::other:USR:1000:anna:1:0:2:0:none:1:0:2:0:none::on:off:::\n"
)

NFS = """Disk quotas for user anna (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
server:/home     100     200     300       0      10     0     0       0
"""


def test_what_the_commands_say() -> None:
    assert lfs_room(LFS, "x") == Room("x", 300 * 1024, 5)
    assert lfs_room(NO_LIMIT, "x") is None
    assert lfs_room("", "x") is None
    assert lfs_room("/home: not a Lustre file system", "x") is None
    assert list(gpfs_rooms(GPFS, "gpfs0")) == [Room("mmlsquota of USR anna", 2048 * 1024, 20)]
    assert list(gpfs_rooms("", "gpfs0")) == []
    assert list(nfs_rooms(NFS, "server:/home")) == [Room("quota", 200 * 1024, None)]
    assert list(nfs_rooms(NFS, "server:/work")) == []


def test_what_is_too_little_is_told_before_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    lfs = programs / "lfs"
    # Three files are left.
    said = f"{tmp_path} 10 0 0 - 97 0 100 -"
    lfs.write_text(f'#!/bin/sh\n[ "$1 $2" = "quota -u" ] && echo "{said}"\nexit 1\n')
    lfs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    own, quota = list(rooms(tmp_path / "not" / "there"))
    assert own.source == "the file system"
    assert own.size
    assert (quota.size, quota.files) == (None, 3)
    with caplog.at_level(logging.WARNING):
        summary = build(tmp_path / "toy.zarr", SPEC, steps(range(2)), Make(), Threads(2))
    assert len(summary.sealed) == 2, "it is an estimate: nothing is refused"
    (told,) = [record.getMessage() for record in caplog.records if "may not fit" in record.getMessage()]
    assert "lfs quota of user" in told
    assert "3 files are left, and up to" in told


def test_a_command_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lfs").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "lfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("stac2cube.executors.site.QUICK", 0.2)
    assert [room.source for room in rooms(tmp_path)] == ["the file system"]


def test_a_file_system_that_does_not_tell_and_odd_names_of_mounts_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_bytes(
        b"/dev/a / ext4 rw 0 0\n/dev/b /M\xfcnchen\\040s\xfcd nfs rw 0 0\n//\\134c %s ext4 rw 0 0\n" % bytes(tmp_path)
    )
    monkeypatch.setattr(site, "_MOUNTS", mounts)
    assert site._device(tmp_path / "cubes") == "//\\c"
    assert site._device(Path("/nowhere")) == "/dev/a"

    def refuse(path: Path) -> None:
        raise OSError(38, "Function not implemented", str(path))

    monkeypatch.setattr(site.os, "statvfs", refuse)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(rooms(tmp_path)) == []
    assert "does not report its free space: Function not implemented" in caplog.text
