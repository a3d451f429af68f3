#!/bin/bash
# Versions: rasterio 1.4.4 (GDAL 3.10.3 in its wheel), any Python from 3.10 on, Linux.
# Expected: after `with rasterio.Env(X=...)` ends, X is again what the environment says: GDAL reads the variable X anew each
#   time that it asks for the option, so that a program may change it (as a session token that was renewed).
# Seen: on leaving, rasterio stores the value that the variable had on entering as a configuration option of GDAL. From then
#   on changes of the variable, and its removal, have no effect in that thread, though no Env is open.
# Shown with GDAL_TIFF_INTERNAL_MASK, which says where the mask of a GeoTIFF goes: into the file, or beside it as .msk.
# Exits 0 while it is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.4.6 || exit 2
cd "$folder"
cat >try.py <<'PYTHON'
import os
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin


def beside(name):
    """Whether the mask of a new file lies beside it."""
    about = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open(name, "w", transform=from_origin(0, 0, 10, 10), **about) as file:
        file.write(np.ones((1, 8, 8), "uint8"))
        file.write_mask(np.eye(8, dtype=bool))
    return Path(name + ".msk").exists()


variable = "GDAL_TIFF_INTERNAL_MASK"
os.environ[variable] = "NO"
print("variable NO: beside the file:", first := beside("a.tif"))
os.environ[variable] = "YES"
print("variable YES: beside the file:", second := beside("b.tif"))
os.environ[variable] = "NO"
with rasterio.Env(**{variable: "NO"}):
    pass
os.environ[variable] = "YES"
print("variable YES after an Env that is closed: beside the file:", third := beside("c.tif"))
del os.environ[variable]
os.environ[variable] = "TRUE"
print("variable TRUE: beside the file:", fourth := beside("d.tif"))
raise SystemExit(0 if (first, second, third, fourth) == (True, False, True, True) else 1)
PYTHON
"$folder/venv/bin/python" try.py
