"""Labels of a sample, from whichever source, on the sample's grid; runs on workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from rasterio.errors import RasterioError

from stac2cube.errors import BadInputError, ReadError
from stac2cube.scene import AssetRef
from stac2cube.source.asset import Cut, cut_block, resample
from stac2cube.source.attempts import of_asset
from stac2cube.source.band import BandRequest
from stac2cube.source.engine import read_file
from stac2cube.source.image import Image
from stac2cube.source.remembered import Tiles
from stac2cube.training.rules import LabelRules
from stac2cube.training.sources import CubeStep, Part, SampleSource

NOTHING = -(2**31)
"""Stands for no value in what is read from a raster."""


def labels_of(
    source: SampleSource,
    rules: LabelRules,
    geobox: GeoBox,
    window: tuple[slice, slice],
    owner: np.ndarray | None,
    tiles: Tiles,
) -> np.ndarray:
    """Classes of a window of a sample.

    Args:
        source: The sample.
        rules: Where they come from.
        geobox: Lattice of the window.
        window: Within the sample's grid.
        owner: Which granule each pixel is of, -1 for none; None for a step of a cube.
        tiles: Remembered from window to window.

    Returns:
        ``(rows, columns)`` uint8, ``ignore_index`` where there is none.

    Raises:
        ReadError: The source of the labels is missing or cannot be read.
    """
    if rules.backend == "vector":
        return _of_vector(str(source.labels_path(rules.path)), rules, geobox)
    if rules.backend == "raster":
        values = _of_raster(str(source.labels_path(rules.path)), rules, geobox)
    elif rules.backend == "clouds":
        if source.clouds is None:
            raise ReadError(f"{source.id} has no step in the clouds cube")
        values = _of_clouds(source.clouds, geobox)
    elif source.step is not None:
        values = _of_step(source.step, window)
    else:
        values = _of_granules(source.parts, rules.resampling, geobox, owner, tiles)
    return mapped(values, rules.table, rules.ignore_index)


def mapped(values: np.ndarray, table: Mapping[str, int], ignore_index: int) -> np.ndarray:
    """Classes for values: those of the table, ``ignore_index`` for all others."""
    out = np.full(values.shape, ignore_index, "uint8")
    for value, number in table.items():
        out[values == int(value)] = number
    return out


def _of_step(step: CubeStep, window: tuple[slice, slice]) -> np.ndarray:
    """Sentinel-2's scene classification, as the cube has it."""
    layer = next(layer for layer in step.layers if layer.name == "SCL")
    return step.step.read([layer], window)["SCL"]


def _of_granules(
    parts: Sequence[Part], resampling: str, geobox: GeoBox, owner: np.ndarray | None, tiles: Tiles
) -> np.ndarray:
    """Sentinel-2's scene classification, of the granule that each pixel is of; 0 without."""
    request = BandRequest("SCL", "uint8", 0, "class", resampling)
    out = np.zeros(geobox.shape, "uint8")

    def read(image: Image, asset: AssetRef) -> np.ndarray:
        return cut_block(tiles.of(image, asset.href), asset, request, geobox)

    for place, part in enumerate(parts):
        if part.classes is None:
            raise ReadError(f"SCL: there is no Level-2A of {part.granule.id}")
        classes = of_asset(part.classes, request, read)
        assert classes is not None  # it is not optional
        takes = (out == 0) if owner is None else (owner == place) | ((owner < 0) & (out == 0))
        np.copyto(out, classes, where=takes)
    return out


def _of_raster(path: str, rules: LabelRules, geobox: GeoBox) -> np.ndarray:
    request = BandRequest("labels", "int32", NOTHING, "class", rules.resampling)
    try:
        return read_file(path, request, geobox)
    except (RasterioError, OSError) as error:
        raise ReadError(f"labels: {path} cannot be read: {error}") from error


def _of_clouds(clouds: CubeStep, geobox: GeoBox) -> np.ndarray:
    """0 clear, 1 cloud, 2 shadow (cloud before shadow), 255 unknown, by the nearest pixel of the clouds cube."""
    whole = clouds.grid.geobox
    rows, columns = compute_reproject_roi(whole, geobox, padding=2).roi_src
    window = (slice(rows.start, rows.stop), slice(columns.start, columns.stop))
    out = np.full(geobox.shape, 255, "uint8")
    if any(part.stop <= part.start for part in window):
        return out
    stored = clouds.step.read(clouds.layers, window)
    cloud, shadow = stored["cloud_mask"], stored.get("shadow_mask")
    said = np.where(cloud == 1, 1, 0).astype("uint8")
    if shadow is not None:
        said[(shadow == 1) & (said == 0)] = 2
    said[cloud == 255] = 255
    resample(Cut(said, whole[window], 1.0), "nearest", 255, geobox, out)
    return out


def _of_vector(path: str, rules: LabelRules, geobox: GeoBox) -> np.ndarray:
    """Shapes drawn in the order of the file: later ones lie on top."""
    from rasterio.features import rasterize

    shapes = _shapes(path, rules.column, str(geobox.crs))
    table, outside = rules.table, rules.ignore_index if rules.outside is None else rules.outside
    drawn = [(geometry, table.get(value, rules.ignore_index)) for geometry, value in shapes if not geometry.is_empty]
    if not drawn:
        return np.full(geobox.shape, outside, "uint8")
    classes: np.ndarray = rasterize(
        drawn,
        out_shape=geobox.shape,
        transform=geobox.transform,
        fill=outside,
        all_touched=rules.all_touched,
        dtype="uint8",
    )
    return classes


@lru_cache(maxsize=8)
def _shapes(path: str, column: str, crs: str) -> tuple[tuple[Any, str], ...]:
    """Geometries in a CRS, and the value of each as text."""
    import geopandas

    try:
        frame = geopandas.read_file(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise ReadError(f"labels: {path} cannot be read: {error}") from error
    if frame.crs is None:
        raise ReadError(f"labels: {path} does not say its CRS")
    if column and column not in frame.columns:
        raise BadInputError(f"labels: {path} has no column {column!r}; there are {', '.join(map(str, frame.columns))}")
    values = [text_of(value) for value in frame[column]] if column else ["1"] * len(frame)
    return tuple(zip(frame.to_crs(crs).geometry, values, strict=True))


def text_of(value: Any) -> str:
    """A value of a column as a mapping names it: whole numbers without a decimal point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
