#!/bin/bash
# stackstac reads a file with `proj:code` on another grid than the same file with `proj:epsg`.
#
# Seen with stackstac 0.5.1, xarray 2026.9.0, dask 2026.8.0, rasterio 1.4.4, numpy 2.4.6 on Python 3.11.
# Expected: an Item of STAC 1.1 with `proj:code`, `proj:shape` and `proj:transform` (projection extension 2.0, which has no
#           `proj:epsg`) is stacked on the file's own pixels, as the same Item with `proj:epsg` is (extension 1.x).
# Seen: without `epsg=` an error says that the asset has no CRS. With `epsg=` shape and transform are ignored: the grid comes
#       from the longitudes and latitudes of the Item's box, and has rows and columns more than the file, without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check stackstac==0.5.1 xarray==2026.9.0 dask==2026.8.0 \
    rasterio==1.4.4 numpy==2.4.6 || exit 2
"$python" -W ignore - <<'PYTHON'
import numpy as np
import rasterio
import stackstac
from rasterio.warp import transform_bounds

grid = rasterio.Affine(10, 0, 269_700, 0, -10, 5_266_860)
with rasterio.open("red.tif", "w", driver="GTiff", width=96, height=96, count=1, dtype="uint16", crs="EPSG:32633",
                   transform=grid, nodata=0) as file:
    file.write(np.arange(1, 96 * 96 + 1, dtype="uint16").reshape(1, 96, 96))
    box = transform_bounds(file.crs, "EPSG:4326", *file.bounds)

def item(**crs):
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": "one", "collection": "one", "bbox": list(box), "links": [],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": "2024-06-01T10:00:00Z", "proj:shape": [96, 96], "proj:transform": list(grid)[:6], **crs},
        "assets": {"red": {"href": "red.tif", "type": "image/tiff"}},
    }

old = stackstac.stack([item(**{"proj:epsg": 32633})])
try:
    stackstac.stack([item(**{"proj:code": "EPSG:32633"})])
    said = "nothing"
except ValueError as error:
    said = str(error).splitlines()[0]
new = stackstac.stack([item(**{"proj:code": "EPSG:32633"})], epsg=32633, resolution=10)
print("proj:epsg, nothing said:      ", old.shape)
print("proj:code, nothing said:      ", said)
print("proj:code, epsg=, resolution=:", new.shape)
assert old.shape == (1, 1, 96, 96)
assert "does not have one" in said and new.shape[2] > 96 and new.shape[3] > 96, "the behaviour has changed"
PYTHON
