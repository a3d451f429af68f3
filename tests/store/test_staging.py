"""Blocks staged by workers that die, or that are given up and live on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from stac2cube.build.plan import Block
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.staging import StagedStep, Stager, checksum, shard_file, write_block
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


def test_equal_pixels_make_equal_files(tmp_path: Path) -> None:
    """So that one who was given up and is late leaves what the receipt says; the chunks are many, and not alike."""
    grid = Grid("EPSG:32632", 10.0, (500000.0, 5000000.0), (1000, 1024), chunk=(64, 64), shard=(1024, 1024))
    spec = CubeSpec("layers", grid, (Layer("B02", "uint16", 0, 1e-4, -0.1),), {"mission": "toy"})
    staged = Stager(tmp_path / "staging", spec).step("step")
    pixels = {"B02": (np.random.default_rng(7).random((1000, 1024)) ** 8 * 60000).astype("uint16")}
    receipts = [write_block(staged, spec, (0, 0), pixels) for _ in range(8)]
    assert len(set(receipts)) == 1
    content = shard_file(staged.layer_folder("B02"), (0, 0)).read_bytes()
    assert receipts[0][0].checksum == checksum(content)


def test_writing_leaves_zarrs_own_threads_as_they_are() -> None:
    """Shards are encoded by one thread; whatever else the process does with zarr is not."""
    code = """if True:
        import asyncio, os, tempfile, threading, zarr
        from pathlib import Path
        from tests.store.test_staging import SPEC, Stager, make
        from stac2cube.store.staging import fast_pipeline

        make(Stager(Path(tempfile.mkdtemp()) / "staging" / "run", SPEC).step("step"))
        with fast_pipeline(writing=True):
            zarr.create_group(zarr.storage.MemoryStore())
        assert zarr.config.get("threading.max_workers") is None
        usual = min(32, os.cpu_count() + 4)
        met = threading.Barrier(usual, timeout=60)

        class Meeting(zarr.storage.MemoryStore):
            async def get(self, key, *arguments, **options):
                if key.startswith("c/"):
                    await asyncio.to_thread(met.wait)  # all threads of zarr's pool at once, or none gets on
                return await super().get(key, *arguments, **options)

        with zarr.config.set({"async.concurrency": usual}):
            array = zarr.create_array(Meeting(), shape=(usual,), chunks=(1,), dtype="u1")
            array[:] = 1
            print(int(array[:].sum()) == usual)
    """
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.stdout.split() == ["True"], told.stderr
