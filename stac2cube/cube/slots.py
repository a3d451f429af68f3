"""Giving a step its slot: its files under the arrays, its time and key in the coordinates."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

from stac2cube.cube.files import read_plain, remove_tree, sync_folder, write_whole
from stac2cube.cube.folders import make_folder, move
from stac2cube.cube.ledger import Entry
from stac2cube.cube.points import passing
from stac2cube.cube.root import COORDINATE_CHUNK, Root
from stac2cube.cube.shard import shard_file
from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.staging import StagedStep
from stac2cube.errors import CubeError


def filled_layers(entry: Entry) -> set[str]:
    """Layers of which a step has files, as its receipts say: a layer that is all fill has none."""
    return {shard.layer for receipt in entry.receipts for shard in receipt.shards if shard.size}


def move_in(cube: Path, staged: StagedStep, entry: Entry, spec: CubeSpec) -> None:
    """Give a staged step its slot: one rename per layer that has files; nothing is removed.

    Raises:
        CubeError: A layer of which the receipts name files has none in staging, or the slot is taken.
    """
    filled = filled_layers(entry)
    for layer in spec.layers:
        source, target = staged.layer_folder(layer.name), cube / layer.name / "c" / str(entry.slot)
        if layer.name in filled and not source.exists():
            raise CubeError(f"{cube}: {entry.key} has no files of {layer.name} in staging; it is not sealed. Run again")
        if target.exists():
            raise CubeError(f"{target} is there although no step has this slot; {entry.key} is not sealed. Run again")
        if layer.name in filled:
            make_folder(cube, target.parent)
            move(_common(source, target), source, target)
            sync_folder(target.parent)
        passing("commit.layer-moved")


def _common(source: Path, target: Path) -> Path:
    """The folder that holds both: the cube, or that of the cube and its next generation."""
    return Path(os.path.commonpath([source, target]))


def take_over(generation: Path, staged: StagedStep, entry: Entry, spec: CubeSpec) -> None:
    """Give a staged step a slot that another had, in a generation that is being filled.

    What the other had there are links: the present generation keeps its files.

    Raises:
        CubeError: A layer of which the receipts name files has none in staging.
    """
    for layer in spec.layers:
        remove_tree(generation / layer.name / "c" / str(entry.slot), below=generation)
    move_in(generation, staged, entry, spec)


def require_in_place(cube: Path, entries: Sequence[Entry]) -> None:
    """Be sure that every file that the receipts of some steps name is in its slot, in its size.

    Raises:
        CubeError: One is not; the root must not name these steps.
    """
    for entry in entries:
        for shard in (shard for receipt in entry.receipts for shard in receipt.shards if shard.size):
            path = shard_file(cube / shard.layer / "c" / str(entry.slot), shard.tile)
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                size = 0
            if size != shard.size:
                raise CubeError(
                    f"{path} has {size} bytes instead of {shard.size}; {entry.key} is not sealed. Run again"
                )


def write_coordinates(cube: Path, root: Root, entries: Sequence[Entry]) -> None:
    """Write time and scene key of some slots; each chunk file is replaced whole."""
    by_chunk: dict[int, list[Entry]] = {}
    for entry in entries:
        by_chunk.setdefault(int(entry.slot or 0) // COORDINATE_CHUNK, []).append(entry)
    for name in ("time", "scene"):
        metadata = json.loads(root.growing()[name])
        for chunk, members in by_chunk.items():
            content = _chunk_with(cube / name, metadata, chunk, {int(e.slot or 0): _value(e, name) for e in members})
            path = cube / name / "c" / str(chunk)
            make_folder(cube, path.parent)
            write_whole(path, content, below=cube)


def write_values(store: Path, entries: Sequence[Entry]) -> None:
    """Write time and scene key of all steps of a new store, in their order."""
    for name in ("time", "scene"):
        array = zarr.open_array(LocalStore(store / name), mode="r+")
        array[:] = np.array([_value(entry, name) for entry in entries], dtype=object if name == "scene" else "int64")


def _value(entry: Entry, name: str) -> Any:
    return np.datetime64(entry.time.replace(tzinfo=None), "us").astype("int64") if name == "time" else entry.key


def _chunk_with(folder: Path, metadata: dict[str, Any], chunk: int, values: Mapping[int, Any]) -> bytes:
    """The bytes of one chunk of a coordinate after some values were set; zarr itself encodes them."""
    make = default_buffer_prototype().buffer.from_bytes
    end = max(max(values) + 1, metadata["shape"][0])
    files: dict[str, Buffer] = {"zarr.json": make(json.dumps(metadata | {"shape": [end]}).encode())}
    key = f"c/{chunk}"
    if metadata["shape"][0] > chunk * COORDINATE_CHUNK:
        files[key] = make(read_plain(folder / key))
    array = zarr.open_array(MemoryStore(files), mode="r+")
    for slot, value in values.items():
        array[slot] = value
    return files[key].to_bytes()
