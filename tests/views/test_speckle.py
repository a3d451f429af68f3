from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from stac2cube.algorithms.raster import lee
from stac2cube.errors import BadInputError
from stac2cube.views.units import despeckle, to_db
from tests.views.cubes import image, nothing_computed

POWER = np.random.default_rng(6).gamma(4.4, 0.05, (3, 50, 41)).astype("float32")
POWER[:, 10:14, 3:30] = np.nan
POWER[1, 30, 30] = 0


def series() -> xr.Dataset:
    return image(POWER, "vv").to_dataset().assign(mask=image((POWER > 0.2).astype("uint8"), "mask", flag_values=[0, 1]))


@pytest.mark.parametrize("chunks", [(1, 50, 41), (2, 7, 11), (3, 2, 41), (1, 50, 40)])
@pytest.mark.parametrize("window", [3, 7])
def test_blocks_do_not_show(chunks: tuple[int, int, int], window: int) -> None:
    expected = np.stack([lee(step, window, 4.4) for step in POWER])
    with nothing_computed():
        lazy = despeckle(series().chunk(dict(zip(("time", "y", "x"), chunks, strict=True))), window=window)
    np.testing.assert_array_equal(lazy["vv"].values, expected)
    assert np.array_equal(lazy["mask"], series()["mask"])


def test_without_dask() -> None:
    found = despeckle(series(), looks=10)["vv"]
    np.testing.assert_array_equal(found.values, lee(POWER, 7, 10))
    assert np.array_equal(np.isnan(found.values), ~(POWER > 0))


def test_what_is_refused() -> None:
    with pytest.raises(BadInputError, match="filter first, then to_db"):
        despeckle(to_db(series()))
    with pytest.raises(BadInputError, match="odd number"):
        despeckle(series(), window=4)
    with pytest.raises(BadInputError, match="looks must be"):
        despeckle(series(), looks=0)
    with pytest.raises(BadInputError, match="no layer is radar backscatter: name some of mask"):
        despeckle(series()[["mask"]])
