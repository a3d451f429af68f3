#!/bin/bash
# The filter BitRound rounds the number for no data too: missing pixels come back as valid ones.
#
# Seen with numcodecs 0.16.6, zarr 3.1.6, netCDF4 1.7.4, xarray 2026.9.0, numpy 2.4.6 on Python 3.11.
# Expected: a float layer with `_FillValue` -9999, written with `filters=[BitRound(keepbits=7)]` to be smaller, has rounded data and
#           the missing pixels that it had. netCDF's own BitRound leaves fill values as they are.
# Seen: the filter knows no fill value. -9999 is stored as -9984, 65535 as 65536, -3.4028235e38 (GDAL's usual number) as minus infinity.
#       `_FillValue` stays -9999, so nothing is missing any more, and no warning is about it. Only numbers with few bits
#       (NaN, -32768) stay.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check xarray==2026.9.0 zarr==3.1.6 numcodecs==0.16.6 numpy==2.4.6 \
    netCDF4==1.7.4 || exit 2
"$python" -W ignore - <<'PYTHON'
import numpy as np
import xarray as xr
from zarr.codecs.numcodecs import BitRound

layer = xr.Dataset({"height": (("y", "x"), np.float32([[np.nan, 123.456], [np.nan, 2.718]]))})
seen = {}
for fill in map(np.float32, (-9999, 65535, -3.4028235e38, -32768, np.nan)):
    encoding = {"_FillValue": fill, "filters": [BitRound(keepbits=7)]}
    layer.to_zarr("layer.zarr", mode="w", consolidated=False, encoding={"height": encoding})
    zarr = xr.open_zarr("layer.zarr", consolidated=False).height.values
    encoding = {"_FillValue": fill, "significant_digits": 7, "quantize_mode": "BitRound"}
    layer.to_netcdf("layer.nc", engine="netcdf4", encoding={"height": encoding})
    netcdf = xr.open_dataset("layer.nc", engine="netcdf4").height.values
    assert zarr[0, 1] == netcdf[0, 1] == 123.5, (zarr, netcdf)
    seen[float(fill)] = (zarr[0, 0], netcdf[0, 0])
    print(f"_FillValue {fill}: a missing pixel of Zarr reads {zarr[0, 0]}, of netCDF {netcdf[0, 0]}")
read = [str(zarr) for zarr, _ in seen.values()]
assert all(np.isnan(netcdf) for _, netcdf in seen.values())
assert read == ["-9984.0", "65536.0", "-inf", "nan", "nan"], "the behaviour has changed"
PYTHON
