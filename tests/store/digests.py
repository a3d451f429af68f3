"""``python -m tests.store.digests``: the digests of a small cube's files, which no Python or release may change.

Told as JSON, as tests/store/digests.json has it: ``python -m tests.store.digests > tests/store/digests.json``. Only
where the files on disk are meant to change: a cube that two installations extend then has files of two kinds.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import zstd
from zarr.storage import LocalStore

from stac2cube.build.loop import build
from stac2cube.build.plan import Block
from stac2cube.executors.base import Threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.reader import open_cube
from stac2cube.store.staging import create_array, write_shard_file
from tests.build.toy import GRID, steps

LAYERS = (
    Layer("B02", "uint16", 0, 1e-4, -0.1, long_name="blue", standard_name="toa_bidirectional_reflectance"),
    Layer("SCL", "uint8", 0, flags=((0, "no_data"), (4, "vegetation"))),
    Layer("height", "int16", -9999, units="m"),
    Layer("power", "float32", float("nan")),
    Layer("ids", "uint32", 2**32 - 1),
    Layer("exact", "float64", -1.0),
)
DEEP = (3, 64, 64)
"""Steps, rows and columns of a shard of a sealed year."""


def numbers(step: int, grid: Grid = GRID) -> np.ndarray:
    """``(rows, columns)`` uint32, rough and the same everywhere: integers only, by Knuth's multiplicative hash."""
    rows, columns = np.indices(grid.shape, dtype="uint64")
    mixed = (rows * 131 + columns // 3 + step * 7919) * np.uint64(2654435761)
    return ((mixed >> np.uint64(12)) % np.uint64(2**16)).astype("uint32")


def stored(layer: Layer, step: int) -> np.ndarray:
    """Pixels of a step in stored form; some without data, among them a whole chunk."""
    made = (numbers(step) % (5 if layer.name == "SCL" else 2**15)).astype(layer.dtype)
    if layer.dtype.startswith("float"):
        made /= np.array(8, layer.dtype)  # exact
    made[numbers(step + 100) % 11 == 0] = layer.fill_scalar
    made[32:64, 64:96] = layer.fill_scalar
    return made


@dataclass(frozen=True)
class Make:
    """The task of the cube."""

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        window = block.grid.window(block.tile)
        return {layer.name: stored(layer, number)[window] for layer in LAYERS}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def made(folder: Path) -> dict[str, Any]:
    """Build the cube and an array of a sealed year below a folder, and sum them up.

    Returns:
        ``zstd``: the version that packed; ``files``: path -> SHA-256 of shards, coordinates and arrays' metadata;
        ``pixels``: layer -> SHA-256 of what is read back, all steps.
    """
    cube = folder / "cube.zarr"
    build(cube, CubeSpec("layers", GRID, LAYERS, {"mission": "toy"}), steps(range(3)), Make(), Threads(2))
    deep = Layer("B02", "uint16", 0)
    create_array(LocalStore(folder / "year"), deep, GRID, 3, chunk=(3, 32, 32), shard=DEEP)
    whole = np.stack([stored(deep, step) for step in range(3)])
    for tile in GRID.tiles():
        write_shard_file(folder / "year" / "B02", tile, whole[:, *GRID.window(tile)])
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".stac2cube" not in path.parts]
    pixels = open_cube(cube, decode=False, chunks=None)
    return {
        "zstd": zstd.VERSION_NUMBER,
        # The root tells of times of making and of versions; all else is the same whoever makes it.
        "files": {str(p.relative_to(folder)): digest(p.read_bytes()) for p in kept if p != cube / "zarr.json"},
        "pixels": {layer.name: digest(pixels[layer.name].values.tobytes()) for layer in LAYERS},
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as into:
        print(json.dumps(made(Path(into)), indent=1))  # noqa: T201
