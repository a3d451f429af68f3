"""``python -m tests.bench.superres``: what a finer grid costs, by backend and area, and beside torch alone.

Everything on one thread. Memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

import stac2cube
from stac2cube.demo.raster import write_cog
from stac2cube.kernels.networks import COARSE, FINE, read_weights
from stac2cube.stages.superres_rules import SuperresRules
from stac2cube.weights import shipped
from tests.items import catalog, item

CORNER = (600_000, 5_300_040)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-superres"))
    parser.add_argument("--only", nargs=2, metavar=("BACKEND", "EDGE"))
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    if chosen.only:
        one(folder, chosen.only[0], int(chosen.only[1]))
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for edge in (512, 1024, 2048):
        make(folder, edge)
    print("| backend | pixels of 10 m | Mpx a minute | peak GiB |\n| --- | --- | --- | --- |", flush=True)
    for backend, edge in (
        ("bicubic", 512),
        ("backproject", 512),
        ("native", 512),
        ("native", 1024),
        ("native", 2048),
        ("torch, the network alone on the whole picture", 512),
        ("torch, the network alone on the whole picture", 1024),
    ):
        words = [sys.executable, "-m", "tests.bench.superres", "--folder", str(folder), "--only", backend, str(edge)]
        subprocess.run(words, check=True)


def make(folder: Path, edge: int) -> None:
    """A layers cube of one date."""
    rng = np.random.default_rng(0)
    assets = {}
    for place, band in enumerate((*FINE, *COARSE)):
        size, gsd = (edge, 10) if band in FINE else (edge // 2, 20)
        smooth = ndimage.gaussian_filter(rng.standard_normal((size, size)).astype("float32"), 2)
        assets[band] = folder / f"{edge}-{band}.tif"
        pixels = (2000 + 200 * place + 4000 * smooth).clip(1).astype("uint16")
        write_cog(assets[band], pixels, 32632, Affine(gsd, 0, CORNER[0], 0, -gsd, CORNER[1]))
    about = {"platform": "sentinel-2a", "sat:relative_orbit": 65, "s2:processing_baseline": "03.01"}
    one = item(f"s{edge}", "sentinel-2-l2a", assets, datetime="2022-06-01T10:20:00Z", **about)
    grid = GeoBox((edge, edge), Affine(10, 0, CORNER[0], 0, -10, CORNER[1]), "EPSG:32632")
    words = {"mission": "sentinel-2-l2a", "aoi": grid, "time": "2022", "bands": [*FINE, *COARSE]}
    items = catalog(folder / f"{edge}.json", [one])
    stac2cube.get_stac_layers(folder / f"{edge}.zarr", catalog=items, **words)


def one(folder: Path, backend: str, edge: int) -> None:
    begun = time.perf_counter()
    if backend.startswith("torch"):
        import torch

        torch.set_num_threads(1)
        network = read_weights(shipped())["sharpen"]
        picture = torch.rand(1, 5, edge, edge)
        begun = time.perf_counter()
        with torch.inference_mode():
            for _ in range(len((*FINE, *COARSE))):
                network(picture)
    else:
        if backend == "native":
            import torch

            torch.set_num_threads(1)
        rules = SuperresRules(backend=backend)
        out = folder / f"{edge}-{backend}.zarr"
        stac2cube.super_resolution(folder / f"{edge}.zarr", out, rules=rules, place=stac2cube.Threads(1))
    spent = time.perf_counter() - begun
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(lines["VmHWM"].split()[0]) / 2**20
    print(f"| {backend} | {edge} x {edge} | {edge**2 / 1e6 / spent * 60:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
