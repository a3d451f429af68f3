"""Pixels to bytes and back: one shard of one layer at one time step, as the cube's codec wants it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
import zarrs  # noqa: F401 - registers its pipeline with zarr
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore, MemoryStore

from stac2cube.cube.spec import Layer
from stac2cube.errors import CubeError
from stac2cube.grid import Grid

log = logging.getLogger(__name__)

_PIPELINE_LOCK = threading.RLock()


class _Threads:
    """Whether the threads of zarrs, which a process that is forked does not have, were started by its parent."""

    started = False
    lost = False

    @classmethod
    def forked(cls) -> None:
        """In a new child: an array that is opened with zarrs would be waited for without end."""
        cls.lost = cls.lost or cls.started
        _PIPELINE_LOCK.release()
        _renew_pool_of_dask()


def _renew_pool_of_dask() -> None:
    """Give a new child threads for dask, if its parent had some: it would wait for those without end.

    A pool in dask's configuration goes before the one that dask keeps. It starts no thread until there is work. The
    configuration is set without its lock, which a thread of the parent may have held.
    """
    if "dask.threaded" in sys.modules:
        system = sys.modules["dask.system"]
        sys.modules["dask.config"].config["pool"] = ThreadPoolExecutor(system.CPU_COUNT)


os.register_at_fork(
    before=_PIPELINE_LOCK.acquire, after_in_parent=_PIPELINE_LOCK.release, after_in_child=_Threads.forked
)


@contextmanager
def fast_pipeline(*, writing: bool = False) -> Iterator[None]:
    """Open arrays in here to encode and decode them with the Rust pipeline of zarrs; the setting does not leak out.

    An array keeps the pipeline it was opened with. zarr's configuration is process-wide, so one thread at a time may
    change it. A process that was forked from one that had opened arrays so has no threads of zarrs: there zarr's own
    pipeline reads, which gives the same pixels at a third of the speed.

    Args:
        writing: Encode the chunks of a shard one after the other. Several threads would put each where it is ready, and
            equal pixels would make files of other bytes every time. Blocks, not chunks, are what is made in parallel.

    Raises:
        CubeError: Writing in a forked process that cannot do it.
    """
    settings: dict[str, Any] = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
    with _PIPELINE_LOCK:
        if _Threads.lost:
            if writing:
                raise CubeError(f"this process was forked from one that uses zarrs, and cannot write: {_INSTEAD}")
            _tell_once(os.getpid())
            settings = {}
        _Threads.started = True
        if writing:
            settings["threading.max_workers"] = 1
            _start_pool(os.getpid())
        with zarr.config.set(settings):
            yield


_INSTEAD = "start it by 'forkserver' or 'spawn' (multiprocessing_context of torch's DataLoader)"


@cache
def _tell_once(process: int) -> None:
    log.warning("process %d was forked from one that reads cubes, and reads them slowly: %s", process, _INSTEAD)


@cache
def _start_pool(process: int) -> None:  # noqa: ARG001 - what a process forked from another has is not its own
    """Let zarr start the threads of its own input and output, as many as ever.

    It does so once, with the setting that it finds at that moment: it must not be ours.
    """
    usual = zarr.config.get("threading.max_workers") or min(32, (os.cpu_count() or 1) + 4)
    with zarr.config.set({"threading.max_workers": usual}):
        zarr.create_group(MemoryStore())


def open_array(folder: Path) -> zarr.Array[Any]:
    """One array of a cube or of a staged step, by its own metadata, for reading."""
    with fast_pipeline():
        return zarr.open_array(LocalStore(folder, read_only=True), mode="r")


BLOCK = 2**17
"""Bytes of a blosc block, about: a chunk of 256 x 256 uint16, which fits the nearest caches."""

Shape = tuple[int, int, int]
"""Time steps, rows, columns."""


def create_array(
    store: Any, layer: Layer, grid: Grid, steps: int, *, chunk: Shape | None = None, shard: Shape | None = None
) -> None:
    """Write the metadata of an array that holds a layer; staged steps, cubes and years are made by this one function.

    Blosc zstd-1 with bit shuffle, one blosc block per chunk, or per some steps of it: measured on uint16 of real ratio
    0.8 of the size of zarr's default at a multiple of its speed (docs/benchmarks.md). All-fill chunks are not written.

    Args:
        store: Where.
        layer: What it holds.
        grid: Its lattice.
        steps: Its length in time.
        chunk: Unit of reading, one step of the grid's chunk if None.
        shard: Unit of writing, one step of the grid's shard if None.
    """
    size = np.dtype(layer.dtype).itemsize
    chunk, shard = chunk or (1, *grid.chunk), shard or (1, *grid.shard)
    step = size * chunk[1] * chunk[2]
    block = step * min(chunk[0], max(1, BLOCK // step))
    codec = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=size, blocksize=block)
    zarr.create_array(
        store,
        name=layer.name,
        shape=(steps, *grid.shape),
        dtype=layer.dtype,
        chunks=chunk,
        shards=shard,
        fill_value=layer.fill_scalar,
        compressors=codec,
        dimension_names=("time", "y", "x"),
        attributes=layer.attributes(),
    )


def shard_file(step_folder: Path, tile: tuple[int, int]) -> Path:
    """Where a shard lies below the folder of its time step (zarr v3's default chunk keys)."""
    return step_folder / str(tile[0]) / str(tile[1])


def checksum(content: bytes) -> str:
    """CRC-32C of a shard file, as eight hexadecimal digits."""
    return f"{google_crc32c.value(content):08x}"
