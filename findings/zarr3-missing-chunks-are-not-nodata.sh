#!/bin/bash
# Chunks that were never written read as 0, not as no data, although the array has a `_FillValue`.
#
# Seen with xarray 2026.9.0, zarr 3.1.6, numpy 2.4.6 on Python 3.11.
# Expected: in a Zarr store made by `to_zarr(compute=False)` with `_FillValue` 65535, a region that no worker has written yet
#           reads as NaN, as it does in Zarr format 2, where `_FillValue` is the array's fill value.
# Seen: in Zarr format 3 the array's own `fill_value` stays 0 and `_FillValue` is an attribute only. What nobody has written
#       reads as the valid number 0. In format 2 the same program reads NaN. Passing `fill_value` in the encoding
#       beside `_FillValue` mends it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check xarray==2026.9.0 zarr==3.1.6 numpy==2.4.6 dask==2026.8.0 || exit 2
"$python" -W ignore - <<'PYTHON'
import dask.array as da
import numpy as np
import xarray as xr

def read_unwritten(zarr_format, **more):
    cube = xr.Dataset({"red": (("y", "x"), da.ones((4, 4), chunks=2, dtype="uint16"))})
    path = f"v{zarr_format}{len(more)}.zarr"
    encoding = {"red": {"_FillValue": np.uint16(65535), "chunks": (2, 2), **more}}
    cube.to_zarr(path, compute=False, zarr_format=zarr_format, encoding=encoding)
    one = xr.Dataset({"red": (("y", "x"), np.ones((2, 2), "uint16"))})
    one.to_zarr(path, region={"y": slice(0, 2), "x": slice(0, 2)})
    return float(xr.open_zarr(path).red.values[3, 3])

second, third, mended = read_unwritten(2), read_unwritten(3), read_unwritten(3, fill_value=65535)
print("never written, Zarr format 2:", second)
print("never written, Zarr format 3:", third)
print("never written, Zarr format 3 with fill_value in the encoding:", mended)
assert np.isnan(second) and third == 0.0 and np.isnan(mended), "the behaviour has changed"
PYTHON
