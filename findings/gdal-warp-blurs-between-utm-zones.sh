#!/bin/bash
# GDAL blurs an image that is warped to the neighbouring UTM zone, even if both have the same pixel size.
#
# Seen with rasterio 1.4.4 (GDAL 3.10.3), pyproj 3.7.2, numpy 2.4.6 on Python 3.11.
# Expected: `Resampling.bilinear` to a lattice of the same pixel size takes each pixel from the four around it.
# Seen: the lattices are turned against each other by some degrees, so the box around the source pixels is larger than the
#       target. GDAL takes that for a smaller scale and widens the kernel: noise loses 7 % of its standard deviation, and
#       single pixels are wrong by 70 % of it. With the warp options XSCALE=1 and YSCALE=1 the result is bilinear.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 pyproj==3.7.2 numpy==2.4.6 || exit 2
"$python" - <<'PYTHON'
import numpy as np
import rasterio
from pyproj import Transformer
from rasterio import Affine
from rasterio.warp import Resampling, reproject

# A place on the border of two zones, 10 m pixels in both.
to_source = Transformer.from_crs("EPSG:32632", "EPSG:32633", always_xy=True)
east, north = 800_000, 5_300_000
x, y = map(round, to_source.transform(east, north))
source_grid = Affine(10, 0, x - 2000, 0, -10, y + 2000)
target_grid = Affine(10, 0, east - 1000, 0, -10, north + 1000)
image = np.random.default_rng(1).normal(1000, 100, (400, 400)).astype("float32")

# The truth: where the centres of the target's pixels lie, and the four source pixels around.
columns, rows = np.meshgrid(np.arange(200) + 0.5, np.arange(200) + 0.5)
column, row = ~source_grid * to_source.transform(*(target_grid * (columns, rows)))
left, top = np.floor(column - 0.5).astype(int), np.floor(row - 0.5).astype(int)
right, low = column - 0.5 - left, row - 0.5 - top
truth = (image[top, left] * (1 - low) * (1 - right) + image[top, left + 1] * (1 - low) * right
         + image[top + 1, left] * low * (1 - right) + image[top + 1, left + 1] * low * right)

print(f"GDAL {rasterio.__gdal_version__}")
print(f"bilinear by hand:      standard deviation {truth.std():.1f}")
worst = {}
for name, options in (("as it is", {}), ("XSCALE=1, YSCALE=1", {"XSCALE": 1, "YSCALE": 1})):
    made = np.full(truth.shape, np.nan, "float32")
    reproject(image, made, src_transform=source_grid, src_crs="EPSG:32633", dst_transform=target_grid, dst_crs="EPSG:32632",
              resampling=Resampling.bilinear, src_nodata=np.nan, dst_nodata=np.nan, **options)
    worst[name] = float(abs(made - truth).max())
    print(f"{name + ':':22} standard deviation {made.std():.1f}, largest difference {worst[name]:.1f}")
assert worst["as it is"] > 50 and worst["XSCALE=1, YSCALE=1"] < 1, "the behaviour has changed"
PYTHON
