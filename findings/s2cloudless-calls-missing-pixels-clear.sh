#!/bin/bash
# s2cloudless calls pixels without data clear, and takes counts for reflectance without a word.
#
# Seen with s2cloudless 1.7.3, lightgbm 4.7.0, numpy 2.4.6 on Python 3.11.
# Expected: NaN in the bands gives NaN, or an error; unsigned counts (reflectance x 10000) give an error, since the bands must be
#           reflectance from 0 to 1.
# Seen: ten bands of NaN give a probability near 0: certainly clear. A mask made from it keeps the pixels without
#       data and shows them as clear ground. The same cloud that is found in reflectance gets another
#       probability when it is given as counts, without a warning.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check s2cloudless==1.7.3 lightgbm==4.7.0 numpy==2.4.6 "opencv-python-headless<5" || exit 2
"$python" -W ignore - <<'PYTHON'
import numpy as np
from s2cloudless import S2PixelCloudDetector

find = S2PixelCloudDetector(average_over=0, dilation_size=0).get_cloud_probability_maps
missing = np.full((1, 8, 8, 10), np.nan, "float32")
# Bright and flat in all bands that see the ground, some light in the cirrus band: a thick cloud. Order of the model's bands.
cloud = np.tile(np.float32([0.6, 0.6, 0.6, 0.62, 0.62, 0.62, 0.3, 0.03, 0.45, 0.35]), (1, 8, 8, 1))
dark = np.tile(np.float32([0.12, 0.09, 0.05, 0.11, 0.25, 0.27, 0.08, 0.001, 0.13, 0.06]), (1, 8, 8, 1))
value = {
    "no data (NaN)": float(find(missing).mean()),
    "cloud, reflectance": float(find(cloud).mean()),
    "vegetation, reflectance": float(find(dark).mean()),
    "vegetation, the same as counts": float(find((dark * 10000).astype("uint16")).mean()),
}
for name, probability in value.items():
    print(f"{name:32s} {probability:.4f}")
assert value["cloud, reflectance"] > 0.8 and value["vegetation, reflectance"] < 0.2, "the model itself is another"
assert value["no data (NaN)"] < 0.01, "the behaviour has changed: NaN"
assert value["vegetation, the same as counts"] > 0.5, "the behaviour has changed: counts"
PYTHON
