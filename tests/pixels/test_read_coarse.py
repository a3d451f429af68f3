"""Blocks much coarser than the file, in another CRS: positions exact to a sixteenth of a source pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from stac2cube.pixels.warp import SourceWindow, resample_block

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
        resample_block(SourceWindow(ramp, SOURCE, 12.0), method, math.nan, target, out)
        assert np.abs(out - 10 - truth)[inside].max() < 1 / 16
