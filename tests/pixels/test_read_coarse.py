"""Blocks coarser than the file, in another CRS: positions exact to 1/16 of a source pixel, kernels of their size."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from stac2cube.pixels.read import read_block
from stac2cube.pixels.warp import SourceWindow, resample_block
from tests.pixels.granules import RED, granule, write

SOURCE = GeoBox((2000, 2000), Affine(10, 0, 300_000, 0, -10, 5_400_000), "EPSG:32632")


@pytest.mark.parametrize("method", ["bilinear", "average"])
@pytest.mark.parametrize(("crs", "edge"), [("EPSG:4326", 0.0015), ("EPSG:3857", 200), ("EPSG:3035", 120)])
def test_positions_of_coarse_pixels(crs: str, edge: float, method: str) -> None:
    """A ramp tells where each pixel was taken from: the mean of a ramp is its value in the middle."""
    bounds = SOURCE.extent.to_crs(crs).boundingbox
    shape = int((bounds.top - bounds.bottom) / edge), int((bounds.right - bounds.left) / edge)
    target = GeoBox(shape, Affine(edge, 0, bounds.left, 0, -edge, bounds.top), crs)
    rows, columns = np.indices(shape) + 0.5
    x, y = Transformer.from_crs(crs, "EPSG:32632", always_xy=True).transform(*(target.transform * (columns, rows)))
    column, row = ~SOURCE.transform * (x, y)
    inside = (column > 30) & (row > 30) & (column < 1970) & (row < 1970)
    assert inside.mean() > 0.5
    for axis, truth in ((0, row), (1, column)):
        ramp = (np.indices(SOURCE.shape)[axis] + 10.5).astype("float32")
        out = np.zeros(shape, "float32")
        resample_block(SourceWindow(ramp, SOURCE, (12.0, 12.0)), method, math.nan, target, out)
        assert np.abs(out - 10 - truth)[inside].max() < 1 / 16


@pytest.mark.parametrize("edge", [0.0002, 0.0006])
@pytest.mark.parametrize(("method", "share"), [("bilinear", 2 / 3), ("cubic", 0.815)])
def test_a_pixel_in_degrees_is_as_high_as_it_is(method: str, share: float, edge: float, tmp_path: Path) -> None:
    """At 65 degrees north it is 2.4 times as high as wide. A mean of n noisy pixels has 1 / sqrt(n) of their noise.

    The weights of a kernel along an axis count as ``1 / share`` equal ones, in units of its pixel: 2/3 is the
    integral of a squared triangle.
    """
    whole = GeoBox((900, 900), Affine(10, 0, 500_000, 0, -10, 7_215_000), "EPSG:32633")
    noise = np.random.default_rng(0).normal(5000, 1000, whole.shape).clip(1, 20_000).astype("uint16")
    made = granule(whole, B04=write(tmp_path / "a.tif", noise, whole, driver="GTiff", blocksize=None))
    longitude, latitude = Transformer.from_crs(32633, 4326, always_xy=True).transform(504_500, 7_210_500)
    count = round(0.05 / edge)
    corner = longitude - edge * count / 2, latitude + edge * count / 2
    block = GeoBox((count, count), Affine(edge, 0, corner[0], 0, -edge, corner[1]), "EPSG:4326")
    got = read_block([made], [replace(RED, resampling=method)], block)["B04"]
    high, wide = edge * 111_500 / 10, edge * 111_500 * math.cos(math.radians(latitude)) / 10
    wanted = 1000 * share / math.sqrt(high * max(wide, 1))
    assert got.std() == pytest.approx(wanted, rel=0.1)
