"""``python -m tests.bench.writing``: one shard of a cube's codec written by the package, by zarrs and by zarr-python.

Told is the median of the CPU milliseconds of a shard, in turns, in one process; the first also makes its file durable.
The pixels are those of the seeded archive.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import zarr
from zarr.storage import LocalStore

from stac2cube.cube.shard import create_array, fast_pipeline
from stac2cube.cube.spec import Layer
from stac2cube.cube.staging import write_file
from stac2cube.grid import Grid
from tests.bench.data import texture

ROUNDS = 40


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
        "stac2cube, durable and with a checksum": lambda: write_file(folder / "layer", (0, 0), block),
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
