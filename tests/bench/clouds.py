"""``python -m tests.bench.clouds``: what finding clouds costs, against the library, at full resolution, and by workers.

Everything is measured in one run, tools in turn. Prints the tables of docs/clouds.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

import stac2cube
from stac2cube.clouds.model import cloud_probability, model_file, read_forest
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from stac2cube.model.image import BandRequest
from stac2cube.pixels.open import read_file
from stac2cube.store.reader import differences
from stac2cube.testing.archive import write_jp2, write_simulated_cog
from tests.items import catalog
from tests.servers.range_server import serving
from tests.stages import skies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-clouds"))
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    shutil.rmtree(chosen.folder, ignore_errors=True)
    chosen.folder.mkdir(parents=True)
    print(f"{os.cpu_count()} cores, {chosen.runs} runs, medians")
    engines(chosen.runs)
    folder = chosen.folder.resolve()
    bytes_read(folder)
    workers(folder)


def engines(runs: int, pixels: int = 250_000) -> None:
    """Megapixels a second of one core, first without and then with what is made at first use."""
    rng = np.random.default_rng(0)
    spectra = np.clip(rng.uniform(0.01, 1.1, (pixels, 1)) ** 2 * rng.uniform(0.5, 1.4, (pixels, 10)), 0, 1.6)
    begun = time.perf_counter()
    read_forest(model_file())
    tables = time.perf_counter() - begun
    begun = time.perf_counter()
    cloud_probability(spectra[:8])
    compiled = time.perf_counter() - begun
    speeds: dict[str, list[float]] = {"library": [], "forest": []}
    answers = {}
    for _ in range(runs):
        for engine, speed in speeds.items():
            begun = time.perf_counter()
            answers[engine] = cloud_probability(spectra, engine)  # type: ignore[arg-type]
            speed.append(pixels / (time.perf_counter() - begun) / 1e6)
    same = np.array_equal(answers["library"], answers["forest"])
    library, forest = (statistics.median(speed) for speed in speeds.values())
    print("| engine | Mpx/s per core | ratio | first use |\n| --- | --- | --- | --- |")
    print(f"| LightGBM, one thread | {library:.3f} | 1 | |")
    print(f"| forest | {forest:.3f} | {forest / library:.1f} | tables {tables:.1f} s, compiling {compiled:.1f} s |")
    print(f"the same to the last bit: {same}")


def bytes_read(folder: Path, edge: int = 3072) -> None:
    """What one 10 m band of 3072 x 3072 pixels costs over HTTP at 60 m, by format and by what is read of it."""
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(300, 6000, (edge // 64, edge // 64)), np.ones((64, 64)))
    pixels = (smooth + rng.integers(0, 200, (edge, edge))).astype("uint16")
    write_simulated_cog(folder / "band.tif", pixels, skies.EPSG, skies.transform(10))
    write_jp2(folder / "band.jp2", pixels, skies.EPSG, skies.transform(10))
    print("| read over HTTP | MiB | requests | s |\n| --- | --- | --- | --- |")
    request = BandRequest("B02", "uint16", 0, "continuous", "average", exact=True)
    for file, what, gsd, band in (
        ("band.tif", "COG, every pixel", 10, request),
        ("band.tif", "COG, what 60 m need", 60, request),
        ("band.jp2", "JPEG 2000, every pixel", 60, request),
        ("band.jp2", "JPEG 2000, reduced", 60, replace(request, exact=False)),
    ):
        box = GeoBox((edge * 10 // gsd,) * 2, skies.transform(gsd), f"EPSG:{skies.EPSG}")
        with serving(folder) as server:
            begun = time.perf_counter()
            read_file(f"{server.url}/{file}", band, box)
            spent = time.perf_counter() - begun
            print(f"| {what} | {server.sent / 2**20:.1f} | {len(server.requests)} | {spent:.2f} |")


def workers(folder: Path, count: int = 8) -> None:
    """Eight overpasses, at 10 m, where the model is most of the work, by one and by two workers."""
    scenes = [skies.overpass(folder, number, "05.09", cover=0.3) for number in range(count)]
    l2a = catalog(folder / "l2a.json", [scene.l2a for scene in scenes])
    l1c = catalog(folder / "l1c.json", [scene.l1c for scene in scenes])
    words = {"mission": "sentinel-2-l2a", "aoi": skies.LATTICE, "time": "2022/2024", "bands": ["B08"]}
    stac2cube.get_stac_layers(folder / "layers.zarr", catalog=l2a, **words)
    alone: dict[str, Any] = {"resolution": 10, "shadows": False, "average_m": 10, "dilate_m": 0}
    places: dict[str, Callable[[], Threads | Local]] = {
        "1 thread": lambda: Threads(1),
        "2 threads": lambda: Threads(2),
        "2 processes": lambda: Local(workers=2),
    }
    print("| workers | s |\n| --- | --- |")
    first = None
    for name, place in places.items():
        out = folder / f"{name}.zarr"
        begun = time.perf_counter()
        stac2cube.get_cloud_layers(folder / "layers.zarr", out, catalog=l1c, place=place(), **alone)
        print(f"| {name} | {time.perf_counter() - begun:.1f} |")
        first = first or out
        assert differences(first, out) == []


if __name__ == "__main__":
    main()
