"""Scenes as a lazy Dataset: dask calls the function that also fills cubes when pixels are computed.

The graph is built by array operations, with one layer that reads and one per band, whatever the number of scenes and
blocks; tasks are created only for what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import dask.array as da
import numpy as np
import odc.geo.xr  # noqa: F401 - gives Datasets the accessor that writes a CRS
import xarray as xr
from odc.geo.geobox import GeoBox

from stac2cube.model.grid import Grid
from stac2cube.model.image import BandRequest
from stac2cube.model.scene import Scene


def lazy_scenes(
    scenes: Sequence[Scene],
    bands: Sequence[BandRequest],
    grid: Grid,
    read_scene: Callable[[Scene, GeoBox], Mapping[str, np.ndarray]],
) -> xr.Dataset:
    """A Dataset of the stored values of scenes, which are read when computed.

    Args:
        scenes: Scenes in order of time.
        bands: Bands to read of each.
        grid: The grid.
        read_scene: Reads a block of a scene and returns pixels per band; must be picklable.

    Returns:
        One variable per band with dims ``(time, y, x)``; all bands of a scene and block are read by one dask task.
    """
    rows, columns = grid.tiles_shape
    payload = np.empty(len(scenes), dtype=object)
    payload[:] = scenes
    read = da.blockwise(
        partial(_read, grid=grid, read_scene=read_scene),
        "tyx",
        *(da.from_array(payload, chunks=1, name=False, asarray=False), "t"),
        *(da.arange(rows, chunks=1), "y", da.arange(columns, chunks=1), "x"),
        dtype=object,
        align_arrays=False,
        meta=np.empty((0, 0, 0), dtype=object),
    )
    edges = {
        "y": tuple(grid.tile_geobox((row, 0)).shape[0] for row in range(rows)),
        "x": tuple(grid.tile_geobox((0, column)).shape[1] for column in range(columns)),
    }
    layers = {
        band.name: da.blockwise(
            partial(_taken, name=band.name), "tyx", read, "tyx", adjust_chunks=edges, dtype=np.dtype(band.dtype)
        )
        for band in bands
    }
    times = np.array([scene.time.replace(tzinfo=None) for scene in scenes], dtype="datetime64[us]")
    coordinates = {
        "time": times,
        "scene": ("time", np.array([str(scene.key) for scene in scenes], dtype="U")),
        "y": grid.geobox.coordinates[grid.geobox.dimensions[0]].values,
        "x": grid.geobox.coordinates[grid.geobox.dimensions[1]].values,
    }
    data = {name: (("time", "y", "x"), layer) for name, layer in layers.items()}
    dataset = xr.Dataset(data, coordinates)
    with_crs: xr.Dataset = dataset.odc.assign_crs(grid.crs)
    return with_crs


def _read(
    scene: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    grid: Grid,
    read_scene: Callable[[Scene, GeoBox], Mapping[str, np.ndarray]],
) -> np.ndarray:
    """All bands of one scene and block, as the only element of an array ``(1, 1, 1)``."""
    block = np.empty((1, 1, 1), dtype=object)
    block[0, 0, 0] = read_scene(scene[0], grid.tile_geobox((int(row[0]), int(column[0]))))
    return block


def _taken(block: np.ndarray, name: str) -> np.ndarray:
    """One band of a block, ``(1, rows, columns)``."""
    pixels: np.ndarray = block[0, 0, 0][name][np.newaxis]
    return pixels
