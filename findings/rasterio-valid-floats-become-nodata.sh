#!/bin/bash
# Versions: rasterio 1.4.4 (GDAL 3.10.3) and numpy 2.4.6, as wheels, on CPython 3.11.
#
# Pixels of -1 and +1 are resampled bilinearly to half a pixel beside, with 0 as value for no data in source and target.
# Every source pixel is valid, so every target pixel is the mean of two valid ones: 0.
#
# Expected: one rule for all types. A computed value that happens to be the value for no data must stay data, as GDAL's
# warper has it for whole numbers: it moves them to the number beside (int16 gives -1).
# Seen: floats are left at 0 and read as no data: a whole picture of valid pixels becomes empty, without a word. (From
# GDAL 3.12 on the warper moves floats too, to 1.4e-45: the same call gives other pixels after an upgrade.)
#
# Exit status: 0 while it behaves like this, 1 if it changes, 2 if it cannot be tried.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || python=python3
"$python" -m venv "$folder/venv" || exit 2
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'CODE'
import sys

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject

print(f"rasterio {rasterio.__version__}, GDAL {rasterio.__gdal_version__}, numpy {np.__version__}")
seen = {}
for dtype in ("int16", "float32", "float64"):
    source = np.tile(np.array([-1, 1], dtype), (16, 8))
    target = np.full((8, 8), 99, dtype)
    reproject(
        source,
        target,
        src_transform=Affine(10, 0, 0, 0, -10, 160),
        dst_transform=Affine(10, 0, 25, 0, -10, 120),
        src_crs="EPSG:32632",
        dst_crs="EPSG:32632",
        src_nodata=0,
        dst_nodata=0,
        resampling=Resampling.bilinear,
    )
    seen[dtype] = int(np.count_nonzero(target == 0))
    print(f"{dtype}: {np.unique(target)}, of 64 target pixels {seen[dtype]} are no data")
sys.exit(0 if seen == {"int16": 0, "float32": 64, "float64": 64} else 1)
CODE
