from __future__ import annotations

from pathlib import Path

import pytest

from tests.views.cubes import make_cube


@pytest.fixture(scope="session")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Sentinel-2 cube of seven dates; to be read only."""
    return make_cube(tmp_path_factory.mktemp("products") / "alps.zarr")
