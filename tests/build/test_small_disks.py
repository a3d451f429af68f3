"""Cubes on disks that are too small: whatever their size, what was sealed stays, and the command goes on with room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.store.verify import find_damage
from tests.build.builder import scaled
from tests.build.faults import PROTOCOLS, Known

SIZES = 20
COMMANDS = ("append", "extend", "replace", "tidy", "seal a year", "overviews", "roll back", "seal an array")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")

PROGRAM = """
import sys
from pathlib import Path
from tests.build.faults import PROTOCOLS
try:
    PROTOCOLS[sys.argv[1]].change(Path(sys.argv[2]))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk of so many KiB; asked again, it has that size and what is on it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def of(kib: int) -> Path:
        again = "remount," if folder.is_mount() else ""
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{again}size={kib}k", "tmpfs", folder], check=True)
        return folder

    yield of
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


def kib(folder: Path) -> int:
    """What a folder takes of a tmpfs."""
    pages = sum(-(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())
    return 4 * (pages + sum(path.is_symlink() for path in folder.rglob("*")))


def begin(known: Known, disk: Callable[[int], Path]) -> Path:
    """What there was before, on a disk of its own; the folder."""
    return known.copy(disk(65536) / "work").parent


def run_on(known: Known, name: str, disk: Callable[[int], Path], size: int) -> bool:
    """Run a command on a disk of a size, then with room enough; whether the first run was through."""
    folder = begin(known, disk)
    disk(size)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, folder / "toy.zarr"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        assert "No space left on device" in last, done.stderr[-2000:]
    known.check(folder / "toy.zarr")
    disk(65536)
    known.protocol.change(folder / "toy.zarr")
    for made in known.protocol.made(known.after / "toy.zarr"):
        there = folder / made.relative_to(known.after)
        assert differences(there, made) == []
        assert find_damage(there) == []
    shutil.rmtree(folder)
    return done.returncode == 0


def sizes(known: Known, many: int) -> list[int]:
    """From one on which nothing more fits to one that is as good as large enough, KiB."""
    before, after = kib(known.before), kib(known.after)
    top = 2 * max(after - before, 64)
    return [before + 4 * round(top * place / many / 4) for place in range(1, many + 1)]


@pytest.mark.parametrize("name", ["append", "seal an array"])
def test_a_disk_that_is_too_small_destroys_nothing(
    name: str, known: Callable[[str], Known], disk: Callable[[int], Path]
) -> None:
    it = known(name)
    assert run_on(it, name, disk, sizes(it, 8)[2]) is False


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_disks_of_many_sizes(name: str, known: Callable[[str], Known], disk: Callable[[int], Path]) -> None:
    it = known(name)
    many = max(4, scaled(SIZES))
    through = [run_on(it, name, disk, size) for size in sizes(it, many)]
    print(f"{name}: {sum(through)} of {many} runs were through at once, the others the second time")  # noqa: T201
    assert not all(through)
    assert set(COMMANDS) <= set(PROTOCOLS)
    assert read_root(it.after / "toy.zarr").steps
