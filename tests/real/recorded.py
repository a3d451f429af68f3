"""The recorded material beside the repository, and what to do where it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"
STAC = DATA / "stac"
RASTERS = DATA / "rasters"

real = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="the recorded material ../shared/data is absent"),
]
