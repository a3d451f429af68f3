#!/bin/bash
# GDAL translates a Zarr array to NetCDF, with exceptions on and none raised, and all its times are lost.
#
# Seen with GDAL 3.13.3 (wheel pyramids-core 0.72.0), zarr 3.1.6, numpy 2.4.6 on Python 3.11.
# Expected: `MultiDimTranslate` (gdalmdimtranslate) copies the axis as it copies the pixels, or raises. That a chunk is longer than
#           its dimension is valid Zarr, and usual for an axis that grows; NetCDF caps chunks of fixed dimensions.
# Seen: the copy is returned and its pixels are right. Where the chunk of `time` is longer than `time` is, the coordinate is there, of
#       the right type and length, and every value of it is NetCDF's fill value. A line "Bad chunk sizes" is all that is said.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check zarr==3.1.6 numpy==2.4.6 || exit 2
"$python" -m pip install --quiet --disable-pip-version-check --no-deps pyramids-core==0.72.0 hpc-utils==0.1.5 || exit 2
"$python" -W ignore - <<'PYTHON'
import importlib.util
import os
import sys

import numpy as np
import zarr

root = importlib.util.find_spec("pyramids").submodule_search_locations[0]
sys.path.append(os.path.join(root, "_vendor"))
from osgeo import gdal  # noqa: E402

gdal.SetConfigOption("GDAL_DATA", os.path.join(root, "_data", "gdal_data"))
gdal.UseExceptions()
times = np.array([10, 20, 30], "int64")
pixels = np.arange(3 * 4 * 4, dtype="int32").reshape(3, 4, 4)


def translated(chunk):
    """Times and pixels of a NetCDF made of a Zarr whose time has chunks of such a length."""
    group = zarr.open_group(f"{chunk}.zarr", mode="w", zarr_format=3)
    for name, values, chunks in (("time", times, (chunk,)), ("B", pixels, (1, 4, 4))):
        names = ("time", "y", "x")[: values.ndim]
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, dimension_names=names)[...] = values
    gdal.MultiDimTranslate(f"{chunk}.nc", f"{chunk}.zarr", arraySpecs=["B"])
    copy = gdal.OpenEx(f"{chunk}.nc", gdal.OF_MULTIDIM_RASTER).GetRootGroup()
    return [np.frombuffer(copy.OpenMDArray(name).Read(), values.dtype) for name, values in (("time", times), ("B", pixels))]


print("GDAL", gdal.__version__)
seen = {}
for chunk in (3, 8):
    time, image = translated(chunk)
    seen[chunk] = (np.array_equal(time, times), np.array_equal(image, pixels.ravel()))
    print(f"chunk of {chunk}, {len(times)} times: {time.tolist()}, pixels right: {seen[chunk][1]}")
sys.exit(seen != {3: (True, True), 8: (False, True)})
PYTHON
