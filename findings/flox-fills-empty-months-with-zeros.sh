#!/bin/bash
# Where flox is installed, the first or last scene of a month without scenes is 0, not missing.
#
# Seen with flox 0.11.2, xarray 2026.9.0, dask 2026.8.0, numpy 2.4.6 on Python 3.11.
# Expected: xarray uses flox, if it is there, to be faster; results do not change. `resample(time="MS").first()` of integers is NaN for a
#           month without scenes, as it is for floats, and as `max()` is.
# Seen: with flox an integer layer in memory stays an integer, and an empty month is 0: NaN is cast to an integer, and numpy warns of a
#       cast. Without flox, and with flox if the layer is one Dask chunk, it is NaN. The sum of a month without scenes depends on the
#       chunks of floats: with flox it is 0 in chunks of two scenes and NaN in memory. Without flox it is NaN in both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check flox==0.11.2 xarray==2026.9.0 dask==2026.8.0 numpy==2.4.6 || exit 2
"$python" -W ignore - <<'PYTHON'
import numpy as np
import xarray as xr

days = ["2024-01-05", "2024-01-20", "2024-01-25", "2024-03-05", "2024-03-09", "2024-03-20"]
counts = np.uint16([200, 100, 300, 250, 3, 7])[:, None, None] * np.ones((2, 2), "uint16")
layer = xr.DataArray(counts, {"time": np.array(days, "datetime64[ns]")}, ("time", "y", "x"), name="red")
floats = layer.astype("float64")
floats[:, 0, 0] = np.nan  # a pixel without data, as every scene has


def february(pixels, how):
    """With flox and without: the values of a month without scenes."""
    found = []
    for use in (True, False):
        with xr.set_options(use_flox=use):
            month = getattr(pixels.resample(time="MS"), how)().sel(time="2024-02-01").values
        assert len(set(month[1])) == 1 or np.isnan(month).all()
        found.append((month.dtype.name, float(month[1, 1])))
    return found


seen = {
    "uint16, first": february(layer, "first"),
    "uint16, last": february(layer, "last"),
    "uint16, max": february(layer, "max"),
    "uint16 in one chunk, first": february(layer.chunk(time=-1), "first"),
    "float64, first": february(floats, "first"),
    "float64, sum": february(floats, "sum"),
    "float64 in chunks of 2, sum": february(floats.chunk(time=2), "sum"),
}
for name, (with_flox, without) in seen.items():
    print(f"{name + ':':28s} with flox {with_flox}, without {without}")
assert all(np.isnan(value) for _, (_, value) in seen.values())
zero = {name for name, ((_, value), _) in seen.items() if value == 0}
assert zero == {"uint16, first", "uint16, last", "float64 in chunks of 2, sum"}, "the behaviour has changed"
PYTHON
