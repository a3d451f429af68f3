"""Pixels as a cloud-optimised GeoTIFF, for programs whose GDAL does not read Zarr 3 with these codecs yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from stac2cube.cube.reader import open_cube
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import Layer
from stac2cube.errors import BadInputError


def export_step(cube: str | Path, step: str, out: str | Path) -> Path:
    """Write one step as a COG: a band per layer with name, scale, offset, unit and nodata, stored numbers unchanged.

    Args:
        cube: The cube.
        step: Scene key, or an ISO date that is that of one step only.
        out: The file; replaced whole if it exists.

    Returns:
        The file.

    Raises:
        BadInputError: No such step, or several; layers with different nodata values.
        CubeError: Not a cube.
    """
    spec = read_root(Path(cube)).spec
    dataset = open_cube(cube, decode=False, chunks=None)
    place = step_place(dataset, step)

    def pixels() -> Iterator[tuple[str, Window, np.ndarray]]:
        for layer in spec.layers:
            for tile in spec.grid.tiles():
                window = spec.grid.window(tile)
                yield layer.name, Window.from_slices(*window), dataset[layer.name][place][window].values

    tags = {"scene": str(dataset["scene"].values[place]), "time": str(dataset["time"].values[place])}
    return write_cog(Path(out), spec.layers, spec.grid.geobox, pixels(), tags)


def write_cog(
    target: Path,
    layers: Sequence[Layer],
    geobox: GeoBox,
    pixels: Iterable[tuple[str, Window, np.ndarray]],
    tags: Mapping[str, str],
) -> Path:
    """Write stored numbers as a COG: a band per layer with name, scale, offset, unit and nodata.

    Args:
        target: The file; replaced whole if it exists.
        layers: Stored forms, in the order of the bands.
        geobox: Lattice.
        pixels: Name of a layer, where, and the numbers there, until all are said.
        tags: What else the file shall say of itself.

    Raises:
        BadInputError: Layers with different nodata values.
    """
    fills = {float(layer.fill) for layer in layers}
    if len(fills) > 1:
        raise BadInputError(f"layers with different fill values {sorted(fills)} do not fit into one GeoTIFF")
    raw, ready = (target.with_name(f".{target.name}.{part}.tif") for part in ("raw", "partial"))
    dtype = np.result_type(*(np.dtype(layer.dtype) for layer in layers))
    profile = {
        "driver": "GTiff",
        "height": geobox.shape[0],
        "width": geobox.shape[1],
        "count": len(layers),
        "dtype": dtype.name,
        "crs": str(geobox.crs),
        "transform": geobox.transform,
        "nodata": fills.pop(),
        "tiled": True,
        "bigtiff": "if_safer",
    }
    bands = {layer.name: band for band, layer in enumerate(layers, start=1)}
    try:
        with rasterio.open(raw, "w", **profile) as file:
            for layer in layers:
                file.set_band_description(bands[layer.name], layer.name)
                file.set_band_unit(bands[layer.name], layer.units)
            for name, window, part in pixels:
                file.write(part.astype(dtype, copy=False), bands[name], window=window)
            file.scales = [layer.scale for layer in layers]
            file.offsets = [layer.offset for layer in layers]
            file.update_tags(**tags)
        predictor = 3 if dtype.kind == "f" else 2
        copy_raster(raw, ready, driver="COG", compress="deflate", predictor=predictor, bigtiff="if_safer")
        ready.replace(target)
    finally:
        raw.unlink(missing_ok=True)
        ready.unlink(missing_ok=True)
    return target


def step_place(dataset: xr.Dataset, step: str) -> int:
    """Place of a step in an opened cube.

    Raises:
        BadInputError: None fits, or several do.
    """
    keys = [str(key) for key in dataset["scene"].values]
    days = [str(time)[:10] for time in dataset["time"].values]
    found = [place for place in range(len(keys)) if step in (keys[place], days[place])]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInputError(f"{step} names several steps: {', '.join(keys[place] for place in found)}")
    near = ", ".join(keys[:3]) + (" ..." if len(keys) > 3 else "")
    raise BadInputError(f"there is no step {step!r}: give a key such as {near or 'none (the cube is empty)'}")
