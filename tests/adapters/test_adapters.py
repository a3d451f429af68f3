"""What the adapters assume of libraries; a release that changes it fails here, and says so."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from rasterio.shutil import copy as copy_raster

from stac2cube.adapters import rasterio as of_rasterio
from stac2cube.adapters import taken
from stac2cube.adapters import xarray as of_xarray


def test_a_name_that_is_gone_is_an_error_that_names_the_release() -> None:
    with pytest.raises(ImportError, match=rf"rasterio {rasterio.__version__} has no rasterio\._err\.CPLE_Gone"):
        taken("rasterio", "rasterio._err", "CPLE_BaseError", "CPLE_Gone")
    with pytest.raises(ImportError, match=r"xarray [\d.]+ has no xarray\.core\.moved, which stac2cube needs"):
        taken("xarray", "xarray.core.moved", "Name")
    with pytest.raises(ImportError, match="no-such-library is not installed"):
        taken("no-such-library", "no_such_library.part", "Name")


class Numbers(xr.backends.BackendArray):
    """0, 1, 2 ... as rows and columns, read by slices and lists of each axis; what was read is noted."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape, self.dtype = shape, np.dtype("int64")
        self.keys: list[tuple[Any, ...]] = []
        self.pointwise: list[bool] = []

    def __getitem__(self, key: of_xarray.ExplicitIndexer) -> Any:
        self.pointwise.append(isinstance(key, of_xarray.VectorizedIndexer))
        return of_xarray.explicit_indexing_adapter(key, self.shape, of_xarray.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        self.keys.append(key)
        whole = np.arange(self.shape[0] * self.shape[1]).reshape(self.shape)
        for axis in (1, 0):
            whole = whole[(slice(None),) * axis + (key[axis],)]
        return whole


def test_xarray_reads_a_lazy_array_late_and_by_keys_of_one_kind() -> None:
    array = Numbers((6, 5))
    variable = xr.Variable(("y", "x"), of_xarray.LazilyIndexedArray(array))
    part = variable.isel(y=slice(1, 5)).isel(y=[0, 2], x=slice(None, None, 2))
    assert not array.keys, "nothing is read before it is asked for"
    np.testing.assert_array_equal(part.values, np.arange(30).reshape(6, 5)[[1, 3]][:, ::2])
    assert len(array.keys) == 1
    assert array.pointwise == [False]
    points = variable.isel(y=xr.Variable("p", [5, 0]), x=xr.Variable("p", [1, 4]))
    np.testing.assert_array_equal(points.values, [26, 4])
    assert array.pointwise == [False, True]
    assert all(isinstance(part, (slice, int, np.integer, np.ndarray)) for key in array.keys for part in key)


def test_xarray_support_for_points_can_be_told_from_that_for_axes() -> None:
    assert of_xarray.IndexingSupport.VECTORIZED is not of_xarray.IndexingSupport.OUTER
    assert pickle.loads(pickle.dumps(of_xarray.IndexingSupport.OUTER)) is of_xarray.IndexingSupport.OUTER


def test_xarray_gives_the_zarr_group_that_it_opened(tmp_path: Path) -> None:
    xr.Dataset({"layer": (("y", "x"), np.eye(3))}).to_zarr(tmp_path / "cube", consolidated=True, zarr_format=3)
    store = xr.backends.ZarrStore.open_group(tmp_path / "cube", consolidated=True, mode="r", cache_members=True)
    assert isinstance(store.zarr_group, zarr.Group)
    assert isinstance(store.zarr_group["layer"], zarr.Array)


def test_rasterio_raises_errors_of_gdal_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "raw.tif"
    profile = {"driver": "GTiff", "height": 4, "width": 4, "count": 1, "dtype": "uint8"}
    with rasterio.open(source, "w", transform=rasterio.Affine(1, 0, 0, 0, -1, 4), crs="EPSG:32632", **profile) as file:
        file.write(np.ones((1, 4, 4), "uint8"))
    assert issubclass(of_rasterio.GdalError, Exception)
    with pytest.raises(of_rasterio.GdalError):
        copy_raster(source, tmp_path / "absent" / "out.tif", driver="COG")
