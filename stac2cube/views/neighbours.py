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

    blocks = layer.data
    depth = dict.fromkeys(range(blocks.ndim), 0) | {blocks.ndim - 2: radius, blocks.ndim - 1: radius}
    # Rows become images, so that every block gets, with its rim, its own part of them.
    images = [
        da.broadcast_to(
            da.from_array(values, chunks=(blocks.chunks[-2], 1)), blocks.shape[-2:], chunks=blocks.chunks[-2:]
        )
        for values in columns
    ]

    # dask trims the rim of the last array.
    def one(*parts: np.ndarray) -> np.ndarray:
        return function(parts[-1], *(part[:, radius : radius + 1] for part in parts[:-1]))

    result = da.map_overlap(
        one,
        *images,
        blocks,
        depth=[*({0: radius, 1: radius} for _ in images), depth],
        boundary=np.nan,
        dtype="float32",
        meta=np.empty((0,) * blocks.ndim, "float32"),
    )
    return layer.copy(data=result)
