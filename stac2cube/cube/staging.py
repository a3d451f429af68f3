"""Staging: where workers write whole shards that nobody sees until the committer moves them in.

Workers know this room only. They never touch the metadata of the cube, so a worker that outlives its run writes into
a dead folder, harmless.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import google_crc32c
import numpy as np
from zarr.abc.buffer import Buffer
from zarr.storage import MemoryStore

from stac2cube.cube.encoding import format_of
from stac2cube.cube.files import sync_descriptor
from stac2cube.cube.folders import open_folder
from stac2cube.cube.points import passing
from stac2cube.cube.shard import create_array, shard_file
from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.errors import CubeError
from stac2cube.grid import Grid, Tile


@dataclass(frozen=True, slots=True)
class Shard:
    """What is known of one shard written.

    Attributes:
        layer: Name of its layer.
        tile: Its place in the grid.
        size: Bytes of its file; 0 if every pixel is fill, then there is no file.
        checksum: CRC-32C of the file, "" without file.
        valid: Pixels that are not fill.
    """

    layer: str
    tile: Tile
    size: int
    checksum: str
    valid: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What comes back from a worker for one block: a few hundred bytes, never pixels.

    Attributes:
        tile: The block's place.
        shards: What was written.
        seconds: It took.
        host: Where.
        job: SLURM job, "" outside.
        means: Name -> sum and weight of what the task measured, see :class:`stac2cube.work.Measured`.
        facts: Properties of the step that the task found.
    """

    tile: Tile
    shards: tuple[Shard, ...]
    seconds: float = 0.0
    host: str = ""
    job: str = ""
    means: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StagedStep:
    """The folder in which the shards of one time step gather: per layer an array of one step.

    Attributes:
        folder: ``.stac2cube/staging/<run>/<step>`` of the cube.
    """

    folder: Path

    def layer_folder(self, layer: str) -> Path:
        """The one time step of a layer: a folder of rows of shards, to be moved into the cube by one rename."""
        return self.folder / layer / "c" / "0"


class Stager:
    """Prepares the folders of staged steps; the driver's side of staging.

    Args:
        folder: The run's folder below the cube's staging folder.
        spec: The cube's.
    """

    def __init__(self, folder: Path, spec: CubeSpec) -> None:
        self.folder = folder.absolute()  # workers may have another working directory
        self._cube = self.folder.parents[2]
        self._metadata = {layer.name: _metadata_of(layer, spec.grid) for layer in spec.layers}

    def step(self, key: str) -> StagedStep:
        """An empty staged step, ready for workers on any node that sees the cube."""
        staged = StagedStep(self.folder / key)
        for name, metadata in self._metadata.items():
            folder = staged.folder / name
            with open_folder(self._cube, folder, make=True) as descriptor:
                # By rename: jobs of one array may prepare the same step at the same moment.
                partial = f".zarr.json.{os.getpid()}.{threading.get_ident()}"
                with _created(partial, descriptor) as file:
                    file.write(metadata)
                os.replace(partial, "zarr.json", src_dir_fd=descriptor, dst_dir_fd=descriptor)
        return staged


def write_block(staged: StagedStep, spec: CubeSpec, tile: Tile, pixels: Mapping[str, np.ndarray]) -> tuple[Shard, ...]:
    """Write one block of every layer; durable when this returns.

    Args:
        staged: The step the block belongs to.
        spec: The cube's.
        tile: The block's place.
        pixels: Per layer ``(rows, columns)`` of the layer's dtype in stored form, of the block's size.

    Raises:
        CubeError: A layer is missing, or has another dtype or shape than the cube: a defect of the stage.
    """
    window = spec.grid.window(tile)
    shards = []
    for layer in spec.layers:
        block = pixels.get(layer.name)
        shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        if block is None or block.dtype != layer.dtype or block.shape != shape:
            got = "nothing" if block is None else f"{block.dtype} {block.shape}"
            raise CubeError(f"layer {layer.name} of block {tile}: {layer.dtype} {shape} expected, got {got}")
        shards.append(_write_shard(staged, layer, tile, block))
    passing("block.written")
    return tuple(shards)


def _write_shard(staged: StagedStep, layer: Layer, tile: Tile, block: np.ndarray) -> Shard:
    valid = count_valid(block, layer)
    if valid == 0:
        return Shard(layer.name, tile, 0, "", 0)
    size, code = write_file(staged.folder / layer.name, tile, block[np.newaxis], below=staged.folder.parents[3])
    return Shard(layer.name, tile, size, code, valid)


def write_file(array: Path, tile: Tile, block: np.ndarray, *, below: Path | None = None) -> tuple[int, str]:
    """Write one shard file of an array whose shards hold all its time steps; whole and durable when this returns.

    Args:
        array: Its folder, with its metadata.
        tile: Place of the shard.
        block: ``(steps, rows, columns)`` pixels in stored form, not all fill; smaller than a shard at the array's end.
        below: Between this folder and the file no link is followed; the folder that holds the array if None.

    Returns:
        Bytes and checksum of the file.
    """
    parts = format_of((array / "zarr.json").read_bytes()).encode(block)
    # Made under a name of this attempt's own and renamed: what a worker that died left half written is never read. One
    # that was given up but still lives puts the same bytes in the same place, because equal pixels make equal files;
    # once the step is sealed, that place is gone.
    attempt, path = f".{array.name}.{uuid4().hex}", shard_file(array / "c" / "0", tile)
    root = below or array.parent
    with open_folder(root, array.parent) as step, open_folder(root, path.parent, make=True) as row:
        try:
            with _created(attempt, step) as file:
                size, code = 0, 0
                for part in parts:
                    file.write(part)
                    size, code = size + len(part), google_crc32c.extend(code, part)
                passing("block.encoded")
                file.flush()
                os.fsync(file.fileno())
            os.replace(attempt, path.name, src_dir_fd=step, dst_dir_fd=row)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(attempt, dir_fd=step)
            raise
        sync_descriptor(row)
    return size, f"{code:08x}"


def _created(name: str, folder: int) -> BinaryIO:
    """A new file in a folder that is given by its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return open(os.open(name, flags, 0o666, dir_fd=folder), "wb")  # noqa: PTH123 - of a descriptor


def count_valid(block: np.ndarray, layer: Layer) -> int:
    """Pixels that are not fill."""
    if np.isnan(layer.fill):
        return int(np.count_nonzero(~np.isnan(block)))
    return int(np.count_nonzero(block != layer.fill_scalar))


def _metadata_of(layer: Layer, grid: Grid) -> bytes:
    """The zarr.json of an array of one time step, made by zarr itself."""
    files: dict[str, Buffer] = {}
    create_array(MemoryStore(files), layer, grid, steps=1)
    return files[f"{layer.name}/zarr.json"].to_bytes()
