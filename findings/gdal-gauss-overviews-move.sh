#!/bin/bash
# Versions: rasterio 1.4.4 (GDAL 3.10.3 in its wheel), any Python from 3.10 on, Linux.
# Expected: an overview shows the same place as the picture that it is made of, whatever the resampling method: a pixel of an
#   overview of factor 4 is about the mean of the 4 x 4 pixels under it.
# Seen: `-r gauss` moves the picture to the upper left by half a pixel of the level before, at each level: by 0.5 pixels of the
#   source at factor 2, by 1.5 at factor 4, by 3.5 at factor 8. The 3 x 3 kernel lies about the lower right of the 2 x 2 pixels
#   under a pixel, not about their middle. average, bilinear, cubic and lanczos stay in place. The size is a multiple of 8, so
#   that no stretching takes part, and the pyramid is what `gdaladdo -r gauss x.tif 2 4 8` makes.
# Exits 0 while it is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.2.6 || exit 2
cd "$folder"
cat >try.py <<'PYTHON'
import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin

SIZE, FACTORS = 1024, (2, 4, 8)
rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
hills = (3000 + 500 * (np.sin(columns / 40 + rows / 97) + np.sin(rows / 37 - columns / 131))).astype("float32")


def moved(method, level, factor):
    """Pixels of the source by which the overview lies to the right and below, negative for left and above: least squares over the gradients."""
    with rasterio.open(f"{method.name}.tif", overview_level=level) as file:
        got = file.read(1).astype("float64")
    right = hills.reshape(SIZE // factor, factor, SIZE // factor, factor).mean(axis=(1, 3))
    down, across = np.gradient(right)
    inner = np.s_[4:-4, 4:-4]
    gradients = np.stack([across[inner].ravel(), down[inner].ravel()], axis=1)
    found, *_ = np.linalg.lstsq(gradients, (right - got)[inner].ravel(), rcond=None)
    return found * factor


seen = {}
for method in (Resampling.average, Resampling.bilinear, Resampling.cubic, Resampling.gauss):
    about = {"driver": "GTiff", "width": SIZE, "height": SIZE, "count": 1, "dtype": "float32", "crs": "EPSG:32632"}
    with rasterio.open(f"{method.name}.tif", "w", tiled=True, transform=from_origin(6e5, 5.3e6, 10, 10), **about) as file:
        file.write(hills, 1)
    with rasterio.open(f"{method.name}.tif", "r+") as file:
        file.build_overviews(FACTORS, method)
    for level, factor in enumerate(FACTORS):
        seen[method.name, factor] = moved(method, level, factor)
        print(f"{method.name:9} factor {factor}: {seen[method.name, factor].round(2)} pixels of the source to the right and down")
still = all(np.abs(shift).max() < 0.1 for (name, _), shift in seen.items() if name != "gauss")
raise SystemExit(0 if still and all(np.abs(np.abs(seen["gauss", f]) - (f - 1) / 2).max() < 0.15 for f in FACTORS) else 1)
PYTHON
"$folder/venv/bin/python" try.py
