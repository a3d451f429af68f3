#!/bin/bash
# A Zarr store that is opened again after it was written gives the old pixels, as long as a Dask cluster holds something of before.
#
# Seen with xarray 2026.9.0, zarr 3.1.6, dask and distributed 2026.8.0, numpy 2.4.6 on Python 3.11.
# Expected: `xarray.open_zarr` and `dask.array.from_zarr` after a write see what was written; only what was persisted stays as it was.
# Seen: the name of the tasks comes from the path and the chunks; for xarray also from the time of the store's folder, which does not
#       change when chunks below it are written. The array that is opened again has the names of the one that was persisted, and the
#       scheduler gives what it holds: the old pixels, without a word. As soon as nothing is held, they are the new ones.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check xarray==2026.9.0 zarr==3.1.6 dask==2026.8.0 distributed==2026.8.0 \
    numpy==2.4.6 || exit 2
cat >try.py <<'PYTHON'
import time

import dask.array
import numpy as np
import xarray as xr
import zarr
from distributed import Client


def opened(by):
    return xr.open_zarr("cube.zarr", consolidated=False).red.data if by == "xarray" else dask.array.from_zarr("cube.zarr/red")


def reopened(by):
    """Means of a store that held 1 and then 2: opened again, read without Dask, and opened again when nothing is held."""
    cube = xr.Dataset({"red": (("y", "x"), np.ones((8, 8), "uint16"))})
    cube.to_zarr("cube.zarr", mode="w", consolidated=False, encoding={"red": {"chunks": (4, 8)}})
    held = opened(by).persist()
    held.sum().compute()
    time.sleep(1.5)
    zarr.open_array("cube.zarr/red", mode="r+")[...] = 2
    again = float(opened(by).compute().mean())
    stored = float(zarr.open_array("cube.zarr/red", mode="r")[...].mean())
    del held
    time.sleep(1.5)
    return again, stored, float(opened(by).compute().mean())


with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
    seen = {by: reopened(by) for by in ("xarray", "dask")}
for by, (again, stored, later) in seen.items():
    print(f"{by}: stored {stored}, opened again {again}, opened again when nothing is held {later}")
assert all(stored == later == 2 for _, stored, later in seen.values())
assert all(again == 1 for again, *_ in seen.values()), "the behaviour has changed"
PYTHON
"$python" -W ignore try.py
