#!/bin/bash
# A part of a cube of odc-geo (odc-stac), saved as NetCDF, lies elsewhere for GDAL than for xarray.
#
# Seen with odc-geo 0.5.3, xarray 2026.9.0, netCDF4 1.7.4, rasterio 1.4.4 (GDAL 3.10.3), rioxarray 0.19.0, exactextract 0.3.0, dask 2026.8.0,
#           numpy 2.4.6 on Python 3.11.
# Expected: `isel` cuts `x` and `y` with the pixels, so every reader finds the pixels where those say.
# Seen: odc-geo, odc-stac and rioxarray note a `GeoTransform` in `spatial_ref`. `isel` leaves it as it was. For GDAL it comes before `x` and
#       `y`, so rasterio sees the part at the corner of the whole. rioxarray takes the size of pixels and their direction from
#       it, so exactextract finds no pixel at all when the rows run from south to north. There is no error and no warning.
#       `part.rio.write_transform(part.rio.transform(recalc=True))` mends both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check odc-geo==0.5.3 xarray==2026.9.0 netCDF4==1.7.4 rasterio==1.4.4 \
    rioxarray==0.19.0 exactextract==0.3.0 dask==2026.8.0 numpy==2.4.6 || exit 2
"$python" -W ignore - <<'PYTHON'
import numpy as np
import rasterio
import rioxarray  # noqa: F401 - its accessor is what exactextract uses
from exactextract import exact_extract
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

grid = GeoBox.from_bbox((600_000, 5_299_000, 601_000, 5_300_000), "EPSG:32632", resolution=10)
whole = wrap_xr(np.arange(100 * 100, dtype="float32").reshape(100, 100), grid).rename("red")
west, south, east, north = 600_400, 5_299_400, 600_600, 5_299_600
ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
field = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}


def mended(part):
    return part.rio.write_transform(part.rio.transform(recalc=True))


def corner(part, name):
    """The upper left corner of a file of this part, for rasterio."""
    part.to_netcdf(name)
    with rasterio.open(name) as file:
        return file.transform.c, file.transform.f


def inside(part):
    """How many pixels are in the field."""
    return float(exact_extract(part, field, ["count"])[0]["properties"]["count"])


part, turned = whole.isel(x=slice(30, 70), y=slice(30, 70)), whole.isel(y=slice(None, None, -1))
true = (float(part.x[0]) - 5, float(part.y[0]) + 5)
corners = {"as saved": corner(part, "part.nc"), "mended": corner(mended(part), "mended.nc")}
print(f"upper left corner of the part: by x and y {true}, for rasterio {corners}")
counts = {"whole": inside(whole), "turned": inside(turned), "turned, mended": inside(mended(turned))}
print(f"pixels in the field: {counts}")
assert corners["mended"] == true and counts["whole"] == counts["turned, mended"] == 400
assert corners["as saved"] == (600_000, 5_300_000) and counts["turned"] == 0, "the behaviour has changed"
PYTHON
