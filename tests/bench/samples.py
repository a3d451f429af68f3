"""``python -m tests.bench.samples``: a sample of a whole Sentinel-2 tile: CPU seconds and peak memory.

A simulated Level-1C of 10,980 x 10,980 pixels as JPEG 2000 in tiles of 1024, as the agency delivers it, with metadata
files, and the classes of its Level-2A. Four bands of 10 m and two of 20 m, with angles and labels, on the pixels of
B02, by one thread in a process of its own; beside it, in another one, the same bands decoded by rasterio and nothing
else.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from scipy import ndimage

from stac2cube.datasets.rules import AngleRules, LabelRules, SampleRules
from stac2cube.datasets.samples import make_samples
from stac2cube.executors.base import Threads
from tests.datasets.products import angle_grid
from tests.items import catalog, item

EDGE, CORNER = 10_980, (600_000, 5_300_040)
GSD = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B11": 20, "B12": 20}
RULES = SampleRules(bands=tuple(GSD), target="B02", angles=AngleRules("sin_cos"), labels=LabelRules())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-samples"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="what one process of its own does")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    if chosen.only:
        begun = time.process_time()
        {"a sample": sample, "decoding alone": decode}[chosen.only](folder)
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(f"{time.process_time() - begun:.1f} {int(lines['VmHWM'].split()[0]) / 1024:.0f}")
        return
    shutil.rmtree(folder, ignore_errors=True)
    make(folder)
    spent: dict[str, list[tuple[float, float]]] = {"a sample": [], "decoding alone": []}
    for _ in range(chosen.runs):
        for what, taken in spent.items():
            command = [sys.executable, "-m", "tests.bench.samples", "--folder", str(folder), "--only", what]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, memory = map(float, done.stdout.split()[-2:])
            taken.append((seconds, memory))
    print("| | CPU seconds | peak memory, MB |\n| --- | --- | --- |")
    for what, taken in spent.items():
        seconds, memory = np.median(taken, axis=0)
        print(f"| {what} | {seconds:.0f} | {memory:.0f} |")
    size = sum(path.stat().st_size for path in (folder / "set").rglob("*.tif"))
    print(f"\nThe sample's files: {size / 1e9:.2f} GB")


def file_of(folder: Path, band: str) -> Path:
    return folder / "products" / f"{band}.jp2"


def make(folder: Path) -> None:
    """Products of a whole tile; bands of one resolution hold the same pixels, which costs the same."""
    (folder / "products").mkdir(parents=True)
    made: dict[int, Path] = {}
    for band, metres in GSD.items():
        if metres in made:
            shutil.copy(made[metres], file_of(folder, band))
            continue
        made[metres] = file_of(folder, band)
        rows = EDGE * 10 // metres
        rough = np.random.default_rng(metres).standard_normal((rows, rows)).astype("float32")
        ground = ndimage.gaussian_filter(rough, 1.5)
        write(made[metres], (3000 + 4000 * ground).clip(1).astype("uint16"), metres)
    classes = np.random.default_rng(0).integers(1, 12, (61, 61)).astype("uint8")
    write(file_of(folder, "SCL"), classes.repeat(90, axis=0).repeat(90, axis=1), 20)
    files = {band: file_of(folder, band) for band in GSD}
    files |= {"product_metadata": folder / "products" / "MTD_MSIL1C.xml", "granule_metadata": folder / "MTD_TL.xml"}
    files["product_metadata"].write_text(product_xml())
    files["granule_metadata"].write_text(tile_xml())
    about = {"datetime": "2023-05-12T10:26:01Z", "platform": "sentinel-2a", "sat:relative_orbit": 108}
    about |= {"grid:code": "MGRS-32TNT", "processing:version": "05.09", "proj:code": "EPSG:32632"}
    items = [item("L1C", "sentinel-2-l1c", files, **about)]
    items.append(item("L2A", "sentinel-2-l2a", {"SCL_20m": file_of(folder, "SCL")}, **about))
    catalog(folder / "index.json", items)


def write(path: Path, pixels: np.ndarray, metres: int) -> None:
    rows, columns = pixels.shape
    lattice = {"crs": "EPSG:32632", "transform": Affine(metres, 0, CORNER[0], 0, -metres, CORNER[1])}
    about = {"driver": "GTiff", "height": rows, "width": columns, "count": 1, "dtype": pixels.dtype}
    options = {"QUALITY": 100, "REVERSIBLE": "YES", "BLOCKXSIZE": 1024, "BLOCKYSIZE": 1024}
    with rasterio.MemoryFile() as memory, memory.open(**about, **lattice) as raw:
        raw.write(pixels, 1)
        rasterio.shutil.copy(raw, path, driver="JP2OpenJPEG", **options)


def product_xml() -> str:
    offsets = "".join(f'<RADIO_ADD_OFFSET band_id="{n}">-1000</RADIO_ADD_OFFSET>' for n in range(13))
    return (
        "<Level-1C><PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>"
        f"<QUANTIFICATION_VALUE>10000</QUANTIFICATION_VALUE>{offsets}</Level-1C>"
    )


def tile_xml() -> str:
    """Angles at all nodes of a tile."""
    down, right = np.indices((23, 23))
    sun = angle_grid("Sun_Angles_Grid", "", (30 + 0.1 * down).tolist(), (150 + 0.1 * right).tolist())
    zenith, azimuth = (5 + 0.1 * right).tolist(), (100 + 0.1 * down).tolist()
    view = "".join(
        angle_grid("Viewing_Incidence_Angles_Grids", f'bandId="{n}" detectorId="1"', zenith, azimuth) for n in range(13)
    )
    place = f'<Geoposition resolution="10"><ULX>{CORNER[0]}</ULX><ULY>{CORNER[1]}</ULY></Geoposition>'
    return f"<Tile><HORIZONTAL_CS_CODE>EPSG:32632</HORIZONTAL_CS_CODE>{place}{sun}{view}</Tile>"


def sample(folder: Path) -> None:
    shutil.rmtree(folder / "set", ignore_errors=True)
    make_samples(folder / "index.json", folder / "set", RULES, place=Threads(1))


def decode(folder: Path) -> None:
    for band in GSD:
        with rasterio.open(file_of(folder, band)) as file:
            for _, window in file.block_windows(1):
                file.read(1, window=window)


if __name__ == "__main__":
    main()
