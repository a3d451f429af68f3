"""``python -m tests.bench.writing``: one shard of a cube's codec written by the package, by zarrs and by zarr-python.

Told is the median of the CPU milliseconds of a shard, in turns, in one process; the first two also make the file
durable and sum it up, under a name of their own. The pixels are those of the seeded archive.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from uuid import uuid4

import google_crc32c
import numpy as np
import zarr
from zarr.storage import LocalStore

from stac2cube.model.cube_spec import Layer
from stac2cube.model.grid import Grid
from stac2cube.store.files import sync_folder
from stac2cube.store.staging import create_array, fast_pipeline, shard_file, write_shard_file
from tests.bench.data import texture

ROUNDS = 40


def by_zarrs(array: Path, block: np.ndarray) -> None:
    """As ``write_shard_file``, with zarrs in place of the package's encoder: into an array for this shard alone."""
    metadata = json.loads((array / "zarr.json").read_bytes()) | {"shape": list(block.shape)}
    attempt = array.with_name(f".{array.name}.{uuid4().hex}")
    attempt.mkdir()
    (attempt / "zarr.json").write_text(json.dumps(metadata))
    with fast_pipeline(writing=True):
        into = zarr.open_array(LocalStore(attempt), mode="r+")
    into[...] = block
    made = shard_file(attempt / "c" / "0", (0, 0))
    with made.open("rb") as file:
        code = 0
        while part := file.read(2**20):
            code = google_crc32c.extend(code, part)
        os.fsync(file.fileno())
    path = shard_file(array / "c" / "0", (0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    made.replace(path)
    shutil.rmtree(attempt)
    sync_folder(path.parent)


def writers(folder: Path, block: np.ndarray) -> dict[str, Callable[[], object]]:
    """By name; each writes the shard anew."""
    edge = block.shape[1]
    grid = Grid("EPSG:32632", 10.0, (500000.0, 5000000.0), (edge, edge), shard=(edge, edge))
    create_array(LocalStore(folder), Layer("layer", "uint16", 0), grid, 1)
    plain = zarr.open_array(LocalStore(folder / "layer"), mode="r+")
    with fast_pipeline(writing=True):
        fast = zarr.open_array(LocalStore(folder / "layer"), mode="r+")

    def through(array: zarr.Array) -> Callable[[], None]:
        return lambda: array.__setitem__(slice(None), block)

    return {
        "stac2cube, durable and with a checksum": lambda: write_shard_file(folder / "layer", (0, 0), block),
        "zarrs, durable and with a checksum": lambda: by_zarrs(folder / "layer", block),
        "zarrs, an array held open": through(fast),
        "zarr-python, an array held open": through(plain),
    }


def main() -> None:
    print("| shard, uint16 | writer | CPU ms |\n| --- | --- | --- |")
    for edge in (512, 2048):
        block = texture(np.random.default_rng(20), edge)[np.newaxis]
        with tempfile.TemporaryDirectory() as folder:
            ways = writers(Path(folder), block)
            spent: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(ROUNDS):
                for name, write in ways.items():
                    begun = time.process_time()
                    write()
                    spent[name].append(1000 * (time.process_time() - begun))
        for name, figures in spent.items():
            print(f"| {edge} x {edge} | {name} | {median(figures):.1f} |")


if __name__ == "__main__":
    main()
