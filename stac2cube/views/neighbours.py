"""Kernels that look around a pixel, over arrays in blocks: each block gets a rim of its neighbours' pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr


def over_windows(
    function: Callable[..., np.ndarray], layer: xr.DataArray, radius: int, *rows: np.ndarray
) -> xr.DataArray:
    """Run a kernel on a layer whose last dims are y and x.

    Args:
        function: Takes ``(..., y, x)`` float32 and, for each of ``rows``, ``(y, 1)`` float64; gives the shape of the
            first, float32. Beyond the edge it may see NaN or nothing, which must be the same to it.
        layer: Float32, NaN without data.
        radius: How far the kernel looks, pixels.
        *rows: Further values, one per row, ``(y,)``.

    Returns:
        Like ``layer``, lazy where that is dask's.
    """
    columns = [values[:, None] for values in rows]
    if layer.chunks is None:
        return layer.copy(data=function(layer.values, *columns))
    import dask.array as da

    heights = layer.data
    depth = dict.fromkeys(range(heights.ndim), 0) | {heights.ndim - 2: radius, heights.ndim - 1: radius}
    blocks = [da.from_array(values, chunks=(heights.chunks[-2], (1,))) for values in columns]

    # dask trims the rim that it put around the last array.
    def one(*parts: np.ndarray) -> np.ndarray:
        return function(parts[-1], *parts[:-1])

    result = da.map_overlap(
        one,
        *blocks,
        heights,
        depth=[*({0: radius, 1: 0} for _ in blocks), depth],
        boundary=np.nan,
        dtype="float32",
        meta=np.empty((0,) * heights.ndim, "float32"),
    )
    return layer.copy(data=result)
