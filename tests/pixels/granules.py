"""Tiny granules on disk for tests of the reader."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping

from stac2cube.model.image import BandRequest
from stac2cube.model.scene import AssetRef, Granule

RED = BandRequest("B04", "uint16", 0, "continuous")
NIR = BandRequest("B08", "uint16", 0, "continuous")
SCL = BandRequest("SCL", "uint8", 0, "class", "nearest")


def box32(rows: int = 300, columns: int = 300, x: float = 700_000, y: float = 5_300_040, gsd: float = 10) -> GeoBox:
    return GeoBox((rows, columns), Affine(gsd, 0, x, 0, -gsd, y), "EPSG:32632")


def texture(geobox: GeoBox, seed: int = 0) -> np.ndarray:
    """Smooth, like land at 10 m: neighbours differ by a few per cent."""
    rows, columns = np.indices(geobox.shape)
    field = 2500 + 700 * np.sin(columns / 31) * np.cos(rows / 23) + 200 * np.sin(rows / 7 + columns / 11)
    return (field + np.random.default_rng(seed).normal(0, 8, geobox.shape)).astype("uint16")


def write(path: Path, pixels: np.ndarray, geobox: GeoBox, **options: Any) -> Path:
    profile = {"driver": "COG", "compress": "deflate", "predictor": 2, "blocksize": 128, "nodata": 0} | options
    with rasterio.open(
        path,
        "w",
        dtype=pixels.dtype,
        count=1,
        height=pixels.shape[0],
        width=pixels.shape[1],
        crs=str(geobox.crs),
        transform=geobox.transform,
        **{name: value for name, value in profile.items() if value is not None},
    ) as file:
        file.write(pixels, 1)
    return path


def granule(geobox: GeoBox, name: str = "granule", shift: int = 0, **assets: object) -> Granule:
    return Granule(
        id=name,
        collection="sentinel-2-l2a",
        catalog="test",
        signer="none",
        time=datetime(2023, 7, 1, 10, tzinfo=UTC),
        tile="32TPT",
        datastrip="",
        baseline="05.00",
        cloud_cover=0.0,
        footprint=mapping(geobox.extent.to_crs("EPSG:4326", wrapdateline=True).geom),
        crs=str(geobox.crs),
        corner=(geobox.transform.c, geobox.transform.f),
        assets={band: AssetRef(str(href), shift=shift if band != "SCL" else 0) for band, href in assets.items()},
        item="{}",
    )


def bilinear(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Independent evaluation at fractional positions counted from the centre of the first pixel."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    last = np.array(pixels.shape) - 1
    values = pixels.astype(float)

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return values[np.clip(row, 0, last[0]), np.clip(column, 0, last[1])]

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return upper * (1 - down) + lower * down
