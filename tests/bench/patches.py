"""``python -m tests.bench.patches``: patches into shards and out of them again, beside the same patches from GeoTIFFs.

Writing: ``stac2cube patches`` over a cube, on one thread. Reading: a DataLoader without workers over the shards, over
the cube itself, and over cloud-optimised GeoTIFFs of the same scenes by rasterio, one file per band and date, opened
once and kept open; patches in one and the same shuffled order. Files are in the system's cache; ways take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from scipy import ndimage
from torch.utils.data import DataLoader, IterableDataset

import stac2cube
from stac2cube.datasets.files import Making
from stac2cube.datasets.frames import frames_of_cube
from stac2cube.datasets.patch_rules import PatchRules, Splits
from stac2cube.datasets.shards import make_patches
from stac2cube.datasets.torch import PatchStream
from stac2cube.executors.base import Threads
from stac2cube.testing.archive import write_simulated_cog
from tests.items import catalog, item

CORNER, EDGE, SIZE = (600_000, 5_300_040), 2048, 128
BANDS, DAYS = ("B02", "B03", "B04", "B08"), range(1, 7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-patches"))
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = make(folder)
    source = frames_of_cube(folder / "cube.zarr")
    rules = PatchRules(size=SIZE, splits=Splits({"train": 1.0}, block=1e6))
    begun = time.process_time()
    made = make_patches(source, folder / "set", rules, Making(Threads(1)))
    count = made.manifest["counts"]["kept"]["train"]
    print(f"{count} patches of {len(BANDS)} x {SIZE} x {SIZE}, float32, {len(DAYS)} dates of {EDGE} x {EDGE} pixels\n")
    print(f"written: {count / (time.process_time() - begun):.0f} patches per CPU second\n")
    facts = [sample["facts"] for sample in PatchStream(folder / "set", "train")]
    ways: dict[str, Callable[[], Iterator[np.ndarray]]] = {
        "shards": lambda: (sample["image"].numpy() for sample in PatchStream(folder / "set", "train")),
        "the cube": lambda: from_cube(source, facts),
        "GeoTIFFs by rasterio": lambda: from_files(files, facts),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    sums = {name: float(sum(np.nansum(x, dtype="float64") for x in way())) for name, way in ways.items()}
    assert len({round(total, 3) for total in sums.values()}) == 1, sums
    for _ in range(chosen.runs):
        for name, way in ways.items():
            begun = time.process_time()
            assert sum(len(batch) for batch in DataLoader(Stream(way), batch_size=32)) == count
            spent[name].append(time.process_time() - begun)
    print("| read from | patches per CPU second | shards are faster by |\n| --- | --- | --- |")
    best = statistics.median(spent["shards"])
    for name, seconds in spent.items():
        print(f"| {name} | {count / statistics.median(seconds):.0f} | {statistics.median(seconds) / best:.1f} |")
    print(f"\n{json.dumps({name: [round(s, 3) for s in seconds] for name, seconds in spent.items()})}")


class Stream(IterableDataset):  # type: ignore[type-arg]
    """Whatever a way gives."""

    def __init__(self, way: Callable[[], Iterator[np.ndarray]]) -> None:
        self.way = way

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.way()


def make(folder: Path) -> dict[str, list[Path]]:
    """Scenes as files and as a cube; the files of each step by its key."""
    rng = np.random.default_rng(0)
    items, files = [], []
    for day in DAYS:
        assets = {}
        for place, band in enumerate(BANDS):
            smooth = ndimage.gaussian_filter(rng.standard_normal((EDGE, EDGE)).astype("float32"), 2)
            assets[band] = folder / f"{day}-{band}.tif"
            pixels = (3000 + 200 * place + 4000 * smooth).clip(1).astype("uint16")
            write_simulated_cog(assets[band], pixels, 32632, Affine(10, 0, CORNER[0], 0, -10, CORNER[1]))
        about = {"platform": "sentinel-2a", "sat:relative_orbit": 65, "s2:processing_baseline": "05.00"}
        items.append(item(f"s{day}", "sentinel-2-l2a", assets, datetime=f"2022-06-{day:02d}T10:20:00Z", **about))
        files.append([assets[band] for band in BANDS])
    grid = GeoBox((EDGE, EDGE), Affine(10, 0, CORNER[0], 0, -10, CORNER[1]), "EPSG:32632")
    words = {"mission": "sentinel-2-l2a", "aoi": grid, "time": "2022", "bands": BANDS}
    cube = stac2cube.get_stac_layers(folder / "cube.zarr", catalog=catalog(folder / "c.json", items), **words)
    return dict(zip(map(str, cube["scene"].values), files, strict=True))


def from_cube(source: object, facts: list[dict[str, object]]) -> Iterator[np.ndarray]:
    frames = {frame.key: frame for frame in source.frames}  # type: ignore[attr-defined]
    for fact in facts:
        row, column = int(fact["row"]), int(fact["column"])  # type: ignore[call-overload]
        key = fact["frames"][0]  # type: ignore[index]
        yield frames[key].pixels.read(slice(row, row + SIZE), slice(column, column + SIZE)).values


def from_files(files: dict[str, list[Path]], facts: list[dict[str, object]]) -> Iterator[np.ndarray]:
    opened = {key: [rasterio.open(path) for path in paths] for key, paths in files.items()}
    for fact in facts:
        window = Window(fact["column"], fact["row"], SIZE, SIZE)
        read = np.stack([file.read(1, window=window) for file in opened[fact["frames"][0]]])  # type: ignore[index]
        yield np.where(read == 0, np.nan, read * 1e-4 - 0.1).astype("float32")


if __name__ == "__main__":
    main()
