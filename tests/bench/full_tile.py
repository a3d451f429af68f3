"""``python -m tests.bench.full_tile``: co-registration of a whole Sentinel-2 tile: seconds, memory, beside AROSICS.

Two simulated scenes of 10,980 x 10,980 pixels, the second two and a half pixels beside the first.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

import stac2cube
from stac2cube.testing.archive import write_simulated_cog
from tests.items import catalog, item

EDGE = 10_980
ORIGIN = (600_000, 5_300_040)
LATTICE = GeoBox((EDGE, EDGE), Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), "EPSG:32632")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-full-tile"))
    parser.add_argument("--only", default="", help="what one process of its own does")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    if chosen.only:
        begun = time.perf_counter()
        _DO[chosen.only](folder)
        # Not getrusage: its peak counts what the process was forked from.
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        peak = int(lines["VmHWM"].split()[0]) / 2**20
        print(f"| {chosen.only} | {time.perf_counter() - begun:.1f} | {peak:.2f} |")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make(folder)
    print("| a full tile, two scenes | s | peak GiB |\n| --- | --- | --- |", flush=True)
    for what in _DO:
        subprocess.run([sys.executable, "-m", __spec__.name, "--folder", str(folder), "--only", what], check=True)


def make(folder: Path) -> None:
    """Files, items and a layers cube."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((EDGE // 4 + 1, EDGE // 4 + 1)).astype("float32")
    smooth = ndimage.zoom(ndimage.gaussian_filter(block, 1.5), 4, order=1)[:EDGE, :EDGE]
    picture = 1500 + 800 * smooth + 60 * rng.standard_normal((EDGE, EDGE), dtype="float32")
    items = []
    for number, pixels in enumerate((picture, ndimage.shift(picture, (1.5, -2.5), order=1, mode="nearest"))):
        path = folder / f"{number}-B04.tif"
        write_simulated_cog(path, pixels.clip(1).astype("uint16"), 32632, LATTICE.transform)
        about = {"datetime": f"2022-06-0{number + 1}T10:20:00Z", "platform": "sentinel-2a"}
        facts = {"sat:relative_orbit": 65, "s2:processing_baseline": "03.01"}
        items.append(item(f"s{number}", "sentinel-2-l2a", {"B04": path}, **about, **facts))
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022", "bands": ["B04"]}
    stac2cube.get_stac_layers(folder / "layers.zarr", catalog=catalog(folder / "items.json", items), **words)


def co_register(folder: Path, engine: str, *, apply: bool) -> None:
    """One thread, so that memory is that of one block."""
    rules = stac2cube.ShiftRules(engine=engine)
    out = folder / f"{engine}.zarr"
    stac2cube.coregister_scenes(folder / "layers.zarr", out, rules=rules, apply=apply, place=stac2cube.Threads(1))


def arosics(folder: Path) -> None:
    """AROSICS with its defaults: one window in the middle, the corrected scene resampled and written."""
    from arosics import COREG

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = [str(folder / f"{number}-B04.tif") for number in (0, 1)]
        out = str(folder / "arosics.tif")
        found = COREG(*paths, path_out=out, fmt_out="GTIFF", align_grids=True, CPUs=1, q=True, progress=False)
        found.calculate_spatial_shifts()
        found.correct_shifts()


_DO = {
    "AROSICS, defaults, measured and corrected": arosics,
    "measured by phase correlation": lambda folder: co_register(folder, "phase", apply=False),
    "and corrected": lambda folder: co_register(folder, "phase", apply=True),
    "measured by AROSICS": lambda folder: co_register(folder, "arosics", apply=False),
    "and corrected, too": lambda folder: co_register(folder, "arosics", apply=True),
}


if __name__ == "__main__":
    main()
