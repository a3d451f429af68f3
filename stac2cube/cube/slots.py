"""Giving a step its slot: its files under the arrays, its time and key in the coordinates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

from stac2cube.cube.files import remove_tree, sync_folder, write_whole
from stac2cube.cube.ledger import Entry
from stac2cube.cube.points import passing
from stac2cube.cube.root import COORDINATE_CHUNK, Root
from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.staging import StagedStep


def move_in(cube: Path, staged: StagedStep, entry: Entry, spec: CubeSpec) -> None:
    """Give a staged step its slot: one rename per layer, over whatever a dead run left there."""
    for layer in spec.layers:
        target = cube / layer.name / "c" / str(entry.slot)
        remove_tree(target)
        source = staged.layer_folder(layer.name)
        if source.exists():  # a layer all fill has no file and no folder
            target.parent.mkdir(exist_ok=True)
            source.rename(target)
            sync_folder(target.parent)
        passing("commit.layer-moved")


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
            path.parent.mkdir(exist_ok=True)
            write_whole(path, content)


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
        files[key] = make((folder / key).read_bytes())
    array = zarr.open_array(MemoryStore(files), mode="r+")
    for slot, value in values.items():
        array[slot] = value
    return files[key].to_bytes()
