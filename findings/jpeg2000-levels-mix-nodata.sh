#!/bin/bash
# Coarse reads of a JPEG 2000 file give dark pixels beside places without data, and they do not count as no data.
#
# Seen with rasterio 1.4.4 (its GDAL has JP2OpenJPEG) and numpy 2.4.6 on Python 3.11.
# Expected: a file with nodata 0 that is read at a lower resolution has 0 or data at the border of its data, as the overviews
#           of a GeoTIFF that GDAL builds have. Sentinel-2 has such borders in each tile at the edge of a swath.
# Seen: the levels of a JPEG 2000 file come from its wavelets, which know no nodata: zeros and data are mixed. In a scene of
#       3000 everywhere the pixels at the border read 2625 at half the resolution, and 53 at an eighth, with 3276 beside it. A mask
#       of nodata keeps all of them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.4.6 || exit 2
"$python" - <<'PYTHON'
import numpy as np
import rasterio
from rasterio.enums import Resampling

scene = np.full((1200, 1200), 3000, "uint16")
scene[:, :500] = 0
common = {"width": 1200, "height": 1200, "count": 1, "dtype": "uint16", "crs": "EPSG:32632", "nodata": 0,
          "transform": rasterio.Affine(10, 0, 600_000, 0, -10, 5_300_000)}
with rasterio.open("scene.jp2", "w", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", **common) as file:
    file.write(scene, 1)
with rasterio.open("scene.tif", "w", driver="GTiff", tiled=True, **common) as file:
    file.write(scene, 1)
    file.build_overviews([2, 4, 8], Resampling.average)

print(f"GDAL {rasterio.__gdal_version__}")
seen = {}
for name in ("scene.tif", "scene.jp2"):
    with rasterio.open(name) as file:
        for factor in (2, 4, 8):
            edge = 1200 // factor
            pixels = file.read(1, out_shape=(edge, edge), masked=True)
            seen[name, factor] = sorted(np.unique(pixels.compressed()).tolist())
            print(f"{name} at 1/{factor}: values that are no nodata {seen[name, factor]}")
with rasterio.open("scene.jp2") as file:
    assert (file.read(1) == scene).all()
assert all(seen["scene.tif", factor] == [3000] for factor in (2, 4, 8))
assert 2625 in seen["scene.jp2", 2] and {53, 3276} <= set(seen["scene.jp2", 8]), "the behaviour has changed"
PYTHON
