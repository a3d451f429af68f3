"""Scenes as a lazy Dataset: the very function that fills cubes, called by dask when pixels are wanted."""

from __future__ import annotations

from collections.abc import Sequence

import dask.array as da
import numpy as np
import odc.geo.xr  # noqa: F401 - gives Datasets the accessor that writes a CRS
import xarray as xr
from dask.delayed import delayed

from stac2cube.grid import Grid
from stac2cube.scene import Scene
from stac2cube.source.asset import BandRequest
from stac2cube.source.read import read_block


def lazy_scenes(scenes: Sequence[Scene], bands: Sequence[BandRequest], grid: Grid) -> xr.Dataset:
    """Stored numbers of scenes, read when computed.

    Args:
        scenes: In order of time.
        bands: What is wanted of each.
        grid: The lattice.

    Returns:
        One variable per band with dims ``(time, y, x)``, one dask task per scene and block for all bands together.
    """
    read = delayed(read_block, pure=True)
    rows, columns = grid.tiles_shape
    layers: dict[str, list[da.Array]] = {band.name: [] for band in bands}
    for scene in scenes:
        blocks = {tile: read(scene.granules, tuple(bands), grid.tile_geobox(tile)) for tile in grid.tiles()}
        for band in bands:
            mosaic = [
                [
                    da.from_delayed(blocks[r, c][band.name], grid.tile_geobox((r, c)).shape, dtype=band.dtype)
                    for c in range(columns)
                ]
                for r in range(rows)
            ]
            layers[band.name].append(da.block(mosaic))
    times = np.array([scene.time.replace(tzinfo=None) for scene in scenes], dtype="datetime64[us]")
    coordinates = {
        "time": times,
        "scene": ("time", np.array([str(scene.key) for scene in scenes], dtype=object)),
        "y": grid.geobox.coordinates[grid.geobox.dimensions[0]].values,
        "x": grid.geobox.coordinates[grid.geobox.dimensions[1]].values,
    }
    data = {name: (("time", "y", "x"), da.stack(steps)) for name, steps in layers.items()}
    dataset = xr.Dataset(data, coordinates)
    with_crs: xr.Dataset = dataset.odc.assign_crs(grid.crs)
    return with_crs
