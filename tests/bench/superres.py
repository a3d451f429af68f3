"""``python -m tests.bench.superres [RASTERS]``: what a finer grid costs and how good it is, for docs/superres.md.

Everything on one thread; speeds by the CPU time of one process, so that a busy machine does not matter; memory is that
of a process of its own. RASTERS holds the recorded scenes, see ``tests.bench.train_native``; without it only costs are
measured. ``--before`` names the checkout of an earlier version that is measured beside.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import stac2cube
from stac2cube.superres.rules import SuperresRules

CORNER = (600_000, 5_300_040)

WORK = (
    ("bicubic", 2.5, 512),
    ("backproject", 2.5, 512),
    ("native", 2.5, 512),
    ("native", 10, 512),
)
"""Backend, target and edge of the area in pixels of 10 m."""

BEFORE = (("native", 2.5, 512), ("native", 10, 512))
"""The same by the earlier version."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rasters", type=Path, nargs="?")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-superres"))
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--only", nargs=4, metavar=("BACKEND", "TARGET", "EDGE", "LABEL"), help="used by itself")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    if chosen.only:
        backend, target, edge, label = chosen.only
        one(folder, backend, float(target), int(edge), label)
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for edge in sorted({edge for _, _, edge in WORK}):
        make(folder, edge)
    print("| version | backend | to | pixels of 10 m | us a pixel | Mpx a minute and core | peak GiB |")
    print("| --- " * 7 + "|", flush=True)
    here = Path(__file__).parents[2]
    for label, root, work in (("this", here, WORK), ("before", chosen.before, BEFORE if chosen.before else ())):
        for backend, target, edge in work:
            words = [sys.executable, "-P", __file__, "--folder", str(folder), "--only", backend]
            environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
            subprocess.run([*words, str(target), str(edge), label], check=True, env=environment)
    tiles()
    if chosen.rasters:
        quality(chosen.rasters)


def make(folder: Path, edge: int) -> None:
    """A layers cube of one date."""
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from scipy import ndimage

    from stac2cube.superres.networks import COARSE, FINE
    from stac2cube.testing.archive import write_simulated_cog
    from tests.items import catalog, item

    rng = np.random.default_rng(0)
    assets = {}
    for place, band in enumerate((*FINE, *COARSE)):
        size, gsd = (edge, 10) if band in FINE else (edge // 2, 20)
        smooth = ndimage.gaussian_filter(rng.standard_normal((size, size)).astype("float32"), 2)
        assets[band] = folder / f"{edge}-{band}.tif"
        pixels = (2000 + 200 * place + 4000 * smooth).clip(1).astype("uint16")
        write_simulated_cog(assets[band], pixels, 32632, Affine(gsd, 0, CORNER[0], 0, -gsd, CORNER[1]))
    about = {"platform": "sentinel-2a", "sat:relative_orbit": 65, "s2:processing_baseline": "03.01"}
    one = item(f"s{edge}", "sentinel-2-l2a", assets, datetime="2022-06-01T10:20:00Z", **about)
    grid = GeoBox((edge, edge), Affine(10, 0, CORNER[0], 0, -10, CORNER[1]), "EPSG:32632")
    words = {"mission": "sentinel-2-l2a", "aoi": grid, "time": "2022", "bands": [*FINE, *COARSE]}
    items = catalog(folder / f"{edge}.json", [one])
    stac2cube.get_stac_layers(folder / f"{edge}.zarr", catalog=items, **words)


def one(folder: Path, backend: str, target: float, edge: int, label: str) -> None:
    """The whole stage, reading and writing too; libraries are loaded before."""
    if backend == "native":
        import torch

        torch.set_num_threads(1)
    rules = SuperresRules(target=target, backend=backend)
    out = folder / f"{edge}-{backend}-{target:g}-{label}.zarr"
    begun = time.process_time()
    stac2cube.super_resolution(folder / f"{edge}.zarr", out, rules=rules, place=stac2cube.Threads(1))
    tell(label, backend, target, edge, time.process_time() - begun)


def tell(label: str, backend: str, target: float, edge: int, spent: float) -> None:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(lines["VmHWM"].split()[0]) / 2**20
    each, speed = spent / edge**2 * 1e6, edge**2 / 1e6 / spent * 60
    print(
        f"| {label} | {backend} | {target:g} m | {edge} x {edge} | {each:.2f} | {speed:.1f} | {peak:.2f} |", flush=True
    )


def tiles() -> None:
    """Networks that no cube can be made with here: the kernels alone, over one tile and its margin."""
    import torch

    from stac2cube.superres import networks as sen2sr
    from stac2cube.superres.backends import Agreement, Sen2sr, upscale
    from stac2cube.superres.networks import COARSE

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    fine, coarse = (rng.uniform(0.05, 0.4, size).astype("float32") for size in ((4, 320, 320), (6, 160, 160)))
    networks = {name: sen2sr.network(*shape).eval() for name, shape in sen2sr.FILES.items()}
    for target in (2.5, 10):
        begun = time.process_time()
        upscale(Sen2sr(networks, "cpu"), Agreement("sen2sr", "mtf"), fine, coarse, COARSE, target)
        tell("this", "SEN2SR-Lite's layout, random weights, a tile", target, 256, time.process_time() - begun)


def quality(rasters: Path) -> None:
    """Ours, and those that older cubes were made with, on what none of them saw."""
    from stac2cube.superres.backends import open_upscaler
    from stac2cube.superres.train import judged
    from stac2cube.superres.weights import all_shipped
    from tests.bench.train_native import OPTICS, recorded

    _, unseen = recorded(rasters)
    titles = ("this", "red and blue exchanged back", "first")
    upscalers = {
        title: open_upscaler("native", str(one.path), "cpu") for title, one in zip(titles, all_shipped(), strict=True)
    }
    print(
        "\n| scene | optics | step | method | PSNR, dB | over bicubic | over back-projection | SAM, degrees | ERGAS |"
    )
    print("| --- " * 9 + "|")
    for optics, value in OPTICS.items():
        for title, upscaler in upscalers.items():
            if title == "first" and value not in (0.0, "means"):
                continue
            rows = judged(unseen, upscaler, value)
            plain = {(r["scene"], r["step"], r["method"]): r["psnr"] for r in rows}
            for row in rows:
                method = row["method"].replace("network", f"network, {title}")
                if title != "this" and row["method"] != "network, mtf":
                    continue
                gained = (row["psnr"] - plain[row["scene"], row["step"], name] for name in ("bicubic", "backproject"))
                more = " | ".join(f"{gain:+.2f}" for gain in gained)
                figures = f"{row['psnr']:.2f} | {more} | {row['sam']:.2f} | {row['ergas']:.2f}"
                print(f"| {row['scene']} | {optics} | {row['step']} | {method} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
