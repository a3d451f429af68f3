"""Writing granules as the providers store them: cloud-optimised GeoTIFF, or lossless JPEG 2000."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine


def write_cog(path: Path, pixels: np.ndarray, epsg: int, transform: Affine) -> None:
    """A COG with overviews, nodata 0."""
    with rasterio.open(
        path,
        "w",
        driver="COG",
        dtype=pixels.dtype,
        count=1,
        height=pixels.shape[0],
        width=pixels.shape[1],
        crs=f"EPSG:{epsg}",
        transform=transform,
        nodata=0,
        compress="deflate",
        predictor=2,
        blocksize=256,
        overview_resampling="nearest" if pixels.dtype == np.uint8 else "average",
    ) as file:
        file.write(pixels, 1)


def write_jp2(path: Path, pixels: np.ndarray, epsg: int, transform: Affine) -> None:
    """A lossless JPEG 2000 without a nodata tag, as ESA's products are."""
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        dtype=pixels.dtype,
        count=1,
        height=pixels.shape[0],
        width=pixels.shape[1],
        crs=f"EPSG:{epsg}",
        transform=transform,
        reversible="YES",
        quality=100,
        ycbcr420="NO",
    ) as file:
        file.write(pixels, 1)
