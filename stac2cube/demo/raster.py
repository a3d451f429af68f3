"""Writing granules as the providers store them: cloud-optimised GeoTIFF, or lossless JPEG 2000."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine


def write_cog(path: Path, pixels: np.ndarray, epsg: int, transform: Affine) -> None:
    """A COG with overviews, nodata 0."""
    overviews = "nearest" if pixels.dtype == np.uint8 else "average"
    options = {"nodata": 0, "compress": "deflate", "predictor": 2, "blocksize": 256, "overview_resampling": overviews}
    _write(path, pixels, epsg, transform, {"driver": "COG", **options})


def write_jp2(path: Path, pixels: np.ndarray, epsg: int, transform: Affine) -> None:
    """A lossless JPEG 2000 without a nodata tag, as ESA's products are."""
    options = {"driver": "JP2OpenJPEG", "reversible": "YES", "quality": 100, "ycbcr420": "NO"}
    _write(path, pixels, epsg, transform, options)


def _write(path: Path, pixels: np.ndarray, epsg: int, transform: Affine, options: Mapping[str, Any]) -> None:
    height, width = pixels.shape
    lattice = {"height": height, "width": width, "crs": f"EPSG:{epsg}", "transform": transform}
    with rasterio.open(path, "w", count=1, dtype=pixels.dtype, **lattice, **options) as file:
        file.write(pixels, 1)
