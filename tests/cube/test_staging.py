"""Blocks staged by workers that die, or that are given up and live on."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from stac2cube.cube.shard import shard_file
from stac2cube.cube.staging import StagedStep, Stager, write_block
from stac2cube.work import Block
from tests.build.toy import SPEC, Make

TILE = (2, 2)
"""At the grid's corner: the shard is larger than what the grid has of it, so that writing it may read it first."""


@pytest.fixture
def staged(tmp_path: Path) -> StagedStep:
    return Stager(tmp_path / "staging", SPEC).step("step")


def make(staged: StagedStep):
    return write_block(staged, SPEC, TILE, Make()(0, Block(SPEC.grid, TILE)))


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_what_a_dead_worker_left_half_written_is_replaced(staged: StagedStep, left: float) -> None:
    first = make(staged)
    file = shard_file(staged.layer_folder("B02"), TILE)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * left)])
    assert make(staged) == first
    assert file.read_bytes() == content
    assert not list(staged.folder.glob(".B02*")), "no attempt is left behind"


def test_several_workers_at_the_same_block_leave_one_whole_file(staged: StagedStep) -> None:
    expected, wrong = make(staged), []
    file = shard_file(staged.layer_folder("B02"), TILE)
    content = file.read_bytes()

    def worker() -> None:
        wrong.extend(n for n in range(20) if make(staged) != expected or file.read_bytes() != content)

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_worker_that_was_given_up_cannot_touch_what_was_sealed(staged: StagedStep, tmp_path: Path) -> None:
    make(staged)
    sealed = tmp_path / "sealed"
    staged.layer_folder("B02").rename(sealed)
    before = shard_file(sealed, TILE).read_bytes()
    make(staged)
    assert shard_file(sealed, TILE).read_bytes() == before
    shutil.rmtree(staged.folder)
    with pytest.raises(FileNotFoundError):
        make(staged)
