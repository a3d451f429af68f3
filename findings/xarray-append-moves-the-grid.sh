#!/bin/bash
# Appending a step to a Zarr store with xarray replaces the x and y of the whole store.
#
# Seen with xarray 2026.9.0, zarr 3.1.6, numpy 2.4.6 on Python 3.11.
# Expected: `to_zarr(append_dim="time")` with coordinates that differ from those in the store is refused, as a size that differs
#           is: a step of another grid does not belong there.
# Seen: no error and no warning. The coordinates of the appended step replace those in the store, so that every older
#       step is now said to lie elsewhere. Its pixels are unchanged.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check xarray==2026.9.0 zarr==3.1.6 numpy==2.4.6 || exit 2
"$python" -W error::UserWarning -W ignore:Consolidated - <<'PYTHON'
import numpy as np
import xarray as xr

def step(day, x0):
    x, y = x0 + 10.0 * np.arange(4), 5000.0 - 10.0 * np.arange(3)
    time = np.array([day], "datetime64[ns]")
    return xr.Dataset({"red": (("time", "y", "x"), np.full((1, 3, 4), 7, "uint16"))}, {"time": time, "y": y, "x": x})

step("2024-06-01", 1000.0).to_zarr("cube.zarr", consolidated=False)
before = xr.open_zarr("cube.zarr", consolidated=False).x.values
step("2024-06-11", 8000.0).to_zarr("cube.zarr", append_dim="time", consolidated=False)
after = xr.open_zarr("cube.zarr", consolidated=False)
print("x of 1 June before the append:", before)
print("x of 1 June after the append: ", after.sel(time="2024-06-01").x.values)
assert after.sizes["time"] == 2
assert before[0] == 1000.0 and after.x.values[0] == 8000.0, "the behaviour has changed"
PYTHON
