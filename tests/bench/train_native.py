"""``python -m tests.bench.train_native RASTERS``: weights, trained anew, and the tables of their card.

RASTERS holds recorded scenes: ``super_resolution/*.mat`` (T33UUB, 27 May 2017, of which the left two thirds train and
the rest judges) and ``multisensor_series/worldcereal`` (31UDS, clear dates of 2017 and 2018, 640 x 640 m). A third,
``s2_l1c/s2cloudless_optimized_31TDH_20150726``, neither trains nor chooses: it is the last judge. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import h5py
import numpy as np
import rasterio
from safetensors.torch import save_file

from stac2cube.superres.backends import open_upscaler
from stac2cube.superres.networks import COARSE, FINE, read_weights, sha256_of
from stac2cube.superres.optics import means
from stac2cube.superres.train import DSEN2, MEANS, TrainingArea, judged, train
from stac2cube.superres.weights import shipped
from tests.real.recorded import MAT_FINE

EXCHANGED = "059a323917ae2dc5c01031e2aec0da57ca33d11363ea1589d4333b68a12f66a5"
"""Weights with which training begins: those whose red and blue were exchanged back."""

STEPS = {"sharpen": 600, "fuse": 300}
"""Steps of training from there on."""

OPTICS = {"table": 0.0, "Gaussian, MTF + 0.1": 0.1, "plain averages": MEANS, "as DSen2": DSEN2}
"""Optics of the card."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rasters", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/native.safetensors"))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    learn, unseen = recorded(chosen.rasters)
    begun = time.process_time()
    networks = train(
        learn,
        steps=STEPS,
        seed=chosen.seed,
        start=read_weights(shipped(EXCHANGED)),
        told=lambda name, step, loss: print(f"{name} {step}: {loss:.4f}", flush=True) if step % 250 == 0 else None,
    )
    print(f"trained in {time.process_time() - begun:.0f} s of one core")
    tensors = {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, chosen.out, metadata={"licence": "Apache-2.0", "generation": "2", "seed": str(chosen.seed)})
    print(f"{chosen.out}: {chosen.out.stat().st_size} bytes, SHA-256 {sha256_of(chosen.out)}")
    card(unseen, chosen.out)


def card(unseen: dict[str, TrainingArea], weights: Path) -> None:
    """The table of figures."""
    print("| scene never trained on | optics | step | method | PSNR, dB | RMSE | SAM, degrees | ERGAS |")
    print("| --- " * 8 + "|")
    for title, optics in OPTICS.items():
        for row in judged(unseen, open_upscaler("native", str(weights), "cpu"), optics):
            figures = f"{row['psnr']:.2f} | {row['rmse']:.5f} | {row['sam']:.2f} | {row['ergas']:.2f}"
            print(f"| {row['scene']} | {title} | {row['step']} | {row['method']} | {figures} |", flush=True)


def recorded(rasters: Path) -> tuple[list[TrainingArea], dict[str, TrainingArea]]:
    """What trains, and what judges."""
    fine, coarse = matlab(next((rasters / "super_resolution").glob("*.mat")))
    learn = [TrainingArea(fine[:, :, :400], coarse[:, :, :200])]
    learn += worldcereal(next((rasters / "multisensor_series/worldcereal").glob("*/S2_L2A_10m*.nc")))
    unseen = {
        "T33UUB, right third": TrainingArea(fine[:, :, 416:], coarse[:, :, 208:]),
        "31TDH, 26 July 2015": hazy(rasters),
    }
    return learn, unseen


def hazy(rasters: Path) -> TrainingArea:
    """The last judge."""
    folder = rasters / "s2_l1c/s2cloudless_optimized_31TDH_20150726"
    bands = {path.stem[-3:]: rasterio.open(path).read(1).astype("float32") / 1e4 for path in folder.glob("*.jp2")}
    check_bands(bands)
    parts = np.stack([bands[band][:296, :296] for band in FINE]), np.stack([bands[band][:148, :148] for band in COARSE])
    return TrainingArea(*parts)


def matlab(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Bands of 10 and 20 m of a file of DSen2, reflectance, in the order of ``FINE`` and ``COARSE``."""
    with h5py.File(path) as file:
        bands = {
            band: picture.astype("float32") / 1e4
            for name, order in (("im10", MAT_FINE), ("im20", COARSE))
            for band, picture in zip(order, np.asarray(file[name]), strict=True)
        }
    check_bands(bands)
    return np.stack([bands[band] for band in FINE]), np.stack([bands[band] for band in COARSE])


def check_bands(bands: dict[str, np.ndarray]) -> None:
    """Be sure that pictures bear the names of their bands, by what ground looks like.

    The spectrum of anything is smooth: a band goes with one beside it more than with one farther off. So of the bands
    of 10 m the near infrared goes most with B8A, and red goes with the red edge (B05) more than blue does. Vegetation
    is greener than it is red.

    Args:
        bands: Reflectance by name; those of 10 m have twice the rows and columns of the others.

    Raises:
        ValueError: Two bands seem to be exchanged.
    """
    rows, columns = (min(bands["B05"].shape[axis], bands["B02"].shape[axis] // 2) for axis in (0, 1))
    halves = {band: means(bands[band][None, : 2 * rows, : 2 * columns], 2)[0] for band in FINE}

    def alike(band: str, other: str) -> float:
        return float(np.corrcoef(halves[band].ravel(), bands[other][:rows, :columns].ravel())[0, 1])

    wrong = []
    nearest = max(FINE, key=lambda band: alike(band, "B8A"))
    if nearest != "B08":
        wrong.append(f"{nearest} goes with B8A more than B08 does")
    if alike("B04", "B05") < alike("B02", "B05"):
        wrong.append("B02 goes with B05 more than B04 does")
    green_ground = halves["B08"] > 2.5 * np.maximum(np.maximum(halves["B04"], halves["B02"]), 1e-3)
    if green_ground.mean() > 0.05:
        green, red = (float(np.median(halves[band][green_ground])) for band in ("B03", "B04"))
        if green < red:
            wrong.append(f"vegetation is redder ({red:.3f}) than green ({green:.3f})")
    if wrong:
        raise ValueError("bands seem to be exchanged: " + "; ".join(wrong))


def worldcereal(path: Path) -> list[TrainingArea]:
    """Clear dates, each a scene of 64 x 64 pixels."""
    with h5py.File(path) as ten, h5py.File(str(path).replace("_10m_", "_20m_")) as twenty:
        classes = np.asarray(twenty["SCL"])
        clear = np.flatnonzero(np.isin(classes, (4, 5, 6, 7)).mean(axis=(1, 2)) == 1)
        fine = np.stack([np.asarray(ten[band], dtype="float32")[clear] for band in FINE], axis=1) / 1e4
        coarse = np.stack([np.asarray(twenty[band], dtype="float32")[clear] for band in COARSE], axis=1) / 1e4
    scenes = [
        TrainingArea(one, other)
        for one, other in zip(fine, coarse, strict=True)
        if 0 < one.min() < one.max() < 1 and 0 < other.min() < other.max() < 1
    ]
    for scene in scenes:
        check_bands(dict(zip((*FINE, *COARSE), (*scene.fine, *scene.coarse), strict=True)))
    return scenes


if __name__ == "__main__":
    main()
