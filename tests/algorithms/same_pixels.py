"""Pixels of every backend at several sizes, as digests: run in this process or as ``python -m`` in another."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from stac2cube.superres.backends import Agreement, open_upscaler, upscale
from stac2cube.superres.networks import COARSE

SIZES = ((64, 64), (72, 120))
"""Rows and columns of 10 m."""


def digests(backends: dict[str, str]) -> dict[str, str]:
    """Digest per backend and size; ``backends`` gives the weights of each: all bands to 2.5 m, and to 10 m."""
    made = {}
    for name, weights in backends.items():
        backend = name.partition(" ")[0]
        upscaler, agreement = open_upscaler(backend, weights, "cpu"), Agreement(backend, "mtf")
        for rows, columns in SIZES:
            rng = np.random.default_rng(rows)
            fine = rng.uniform(0.05, 0.4, (4, rows, columns)).astype("float32")
            coarse = rng.uniform(0.05, 0.4, (6, rows // 2, columns // 2)).astype("float32")
            hashed = hashlib.sha256()
            for target in (10, 2.5):
                pictures, left = upscale(upscaler, agreement, fine, coarse, COARSE, target)
                for part in (pictures, *left.values()):
                    hashed.update(np.ascontiguousarray(part).tobytes())
            made[f"{name} {rows} x {columns}"] = hashed.hexdigest()
    return made


if __name__ == "__main__":
    import torch

    torch.set_num_threads(int(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(digests(json.loads(sys.argv[1]))))
