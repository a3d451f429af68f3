"""A time step as a cloud-optimised GeoTIFF, for programs whose GDAL does not read Zarr 3 with these codecs yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from stac2cube.cube.reader import open_cube
from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError
from stac2cube.views.steps import step_place


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
    fills = {float(layer.fill) for layer in spec.layers}
    if len(fills) > 1:
        raise BadInputError(f"layers with different fill values {sorted(fills)} do not fit into one GeoTIFF")
    target = Path(out)
    raw, ready = (target.with_name(f".{target.name}.{part}.tif") for part in ("raw", "partial"))
    rows, columns = spec.grid.shape
    dtype = np.result_type(*(np.dtype(layer.dtype) for layer in spec.layers))
    profile = {
        "driver": "GTiff",
        "height": rows,
        "width": columns,
        "count": len(spec.layers),
        "dtype": dtype.name,
        "crs": spec.grid.crs,
        "transform": spec.grid.geobox.transform,
        "nodata": fills.pop(),
        "tiled": True,
        "bigtiff": "if_safer",
    }
    try:
        with rasterio.open(raw, "w", **profile) as file:
            for band, layer in enumerate(spec.layers, start=1):
                file.set_band_description(band, layer.name)
                file.set_band_unit(band, layer.units)
                for tile in spec.grid.tiles():
                    window = spec.grid.window(tile)
                    pixels = dataset[layer.name][place][window].values
                    file.write(pixels.astype(dtype, copy=False), band, window=Window.from_slices(*window))
            file.scales = [layer.scale for layer in spec.layers]
            file.offsets = [layer.offset for layer in spec.layers]
            file.update_tags(scene=str(dataset["scene"].values[place]), time=str(dataset["time"].values[place]))
        predictor = 3 if dtype.kind == "f" else 2
        copy_raster(raw, ready, driver="COG", compress="deflate", predictor=predictor, bigtiff="if_safer")
        ready.replace(target)
    finally:
        raw.unlink(missing_ok=True)
        ready.unlink(missing_ok=True)
    return target
