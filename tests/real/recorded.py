"""The recorded material beside the repository, and what to do where it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"
STAC = DATA / "stac"
RASTERS = DATA / "rasters"

MAT_FINE = ("B04", "B03", "B02", "B08")
"""Order of the bands of 10 m, ``im10``, in the MATLAB files of DSen2."""

real = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="the recorded material ../shared/data is absent"),
]
