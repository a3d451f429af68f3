"""Turns at a GPU; the GPU itself is not needed for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from stac2cube.cli.recipes import recipe_at
from stac2cube.errors import PlaceError
from stac2cube.executors import local as gpu
from stac2cube.executors.local import AT_ONCE, gpu_turn


def hold(folder: str, seconds: float, log: str) -> None:
    with gpu_turn(Path(folder)) as turn:
        with Path(log).open("a") as file:
            file.write(f"in {turn}\n")
        time.sleep(seconds)
        with Path(log).open("a") as file:
            file.write(f"out {turn}\n")


def test_at_most_two_processes_at_a_time(tmp_path: Path) -> None:
    context, log = multiprocessing.get_context("forkserver"), tmp_path / "log"
    log.touch()
    holders = [context.Process(target=hold, args=(str(tmp_path), 0.3, str(log))) for _ in range(5)]
    for holder in holders:
        holder.start()
    for holder in holders:
        holder.join(60)
        assert holder.exitcode == 0
    inside = most = 0
    for line in log.read_text().splitlines():
        inside += 1 if line.startswith("in") else -1
        most = max(most, inside)
    assert (inside, most) == (0, AT_ONCE)


def test_a_killed_process_gives_its_turn_back(tmp_path: Path) -> None:
    context, log = multiprocessing.get_context("forkserver"), tmp_path / "log"
    log.touch()
    holders = [context.Process(target=hold, args=(str(tmp_path), 300, str(log))) for _ in range(AT_ONCE)]
    for holder in holders:
        holder.start()
    while log.read_text().count("in") < AT_ONCE:
        time.sleep(0.05)
    for holder in holders:
        holder.kill()
        holder.join()
        assert holder.exitcode == -signal.SIGKILL
    with gpu_turn(tmp_path) as turn:
        assert turn in range(AT_ONCE)


def test_a_stage_goes_to_the_gpu_partition_if_it_says_cuda(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "cubes: c\nlayers: {mission: sentinel-2-l2a, aoi: area}\nsuperres: {device: cuda}\n"
    )
    recipe = recipe_at(tmp_path / "r.yaml")
    assert [entry.wants_gpu for entry in recipe.entries] == [False, True]


def test_turns_lie_in_a_folder_that_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever others put in the place of its first names, where everybody may write."""
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    (tmp_path / f"stac2cube-{os.getuid()}-0").symlink_to(mine)
    (tmp_path / f"stac2cube-{os.getuid()}-1").mkdir(mode=0o700)
    (tmp_path / f"stac2cube-{os.getuid()}-1").chmod(0o777)
    (tmp_path / f"stac2cube-{os.getuid()}-2").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with gpu_turn():
        (taken,) = (tmp_path / f"stac2cube-{os.getuid()}-3").iterdir()
        assert taken.name.startswith("gpu-")
    assert (tmp_path / f"stac2cube-{os.getuid()}-3").stat().st_mode & 0o777 == 0o700
    assert not list(mine.iterdir())
    monkeypatch.setattr(gpu, "_NAMES", 3)
    with pytest.raises(PlaceError, match="set TMPDIR"):
        gpu.private_folder(tmp_path)
