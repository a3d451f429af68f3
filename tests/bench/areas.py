"""``python -m tests.bench.areas``: windows of a JPEG 2000 on a disk, decoded by GDAL and as areas alone.

A lossless file of 4200 x 4200 pixels in tiles of 1024, as Sentinel-2's bands of 10 m; least CPU seconds of the runs, in
turns, one thread, the file opened anew each time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox

from stac2cube.fastcog.jp2 import fetch_jp2_header, read_area
from stac2cube.fastcog.ranges import LocalParts
from tests.bench.data import texture
from tests.pixels.granules import box32, write

WINDOWS = {
    "256 px within a tile": (1100, 1100, 256),
    "512 px within a tile": (1400, 1400, 512),
    "256 px across four tiles": (1920, 1920, 256),
    "512 px across four tiles": (1792, 1792, 512),
    "1024 px across four tiles": (1536, 1536, 1024),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-areas"))
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    path = make(chosen.folder / "b04.jp2", box32(4200, 4200))
    print("| window | GDAL, CPU ms | area alone, CPU ms | ratio |\n| --- | --- | --- | --- |")
    for name, (top, left, edge) in WINDOWS.items():
        roi = slice(top, top + edge), slice(left, left + edge)
        least = [9.0, 9.0]
        for _ in range(chosen.runs):
            begun = time.process_time()
            with rasterio.open(path) as file:
                wanted = file.read(1, window=roi)
            middle = time.process_time()
            got = read_area(str(path), fetch_jp2_header(LocalParts(str(path)), follow=False), roi)
            spent = middle - begun, time.process_time() - middle
            least = [min(pair) for pair in zip(least, spent, strict=True)]
            if got is None or not np.array_equal(got, wanted):
                raise SystemExit(f"{name}: not the same pixels")
        print(f"| {name} | {least[0] * 1e3:.0f} | {least[1] * 1e3:.0f} | {least[0] / least[1]:.1f} |", flush=True)


def make(path: Path, lattice: GeoBox) -> Path:
    options = {"compress": None, "predictor": None, "blocksize": None, "nodata": None, "BLOCKXSIZE": 1024}
    options |= {"BLOCKYSIZE": 1024, "QUALITY": 100, "REVERSIBLE": "YES", "TLM": "YES", "PLT": "YES"}
    pixels = texture(np.random.default_rng(20), lattice.shape[0])
    return write(path, pixels, lattice, driver="JP2OpenJPEG", **options)


if __name__ == "__main__":
    main()
