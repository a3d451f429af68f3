"""Optics: what a coarser sensor sees, and agreement with it."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject
from scipy import ndimage

from stac2cube.algorithms.raster import halved
from stac2cube.superres.optics import MTF, agreeing, bicubic, degraded, linear, means, residual, spread


def ground(rows: int, columns: int, bands: int = 2) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal((bands, rows, columns))
    return (0.2 + 0.02 * sum(2**k * ndimage.gaussian_filter(noise, (0, 2**k, 2**k)) for k in range(3))).astype(
        "float32"
    )


@pytest.mark.parametrize(("scale", "gain"), [(2, 0.22), (4, 0.26), (4, 0.38)])
def test_the_point_spread_has_the_gain_it_should(scale: int, gain: float) -> None:
    weights = spread(scale, gain)
    places = np.arange(len(weights)) - (len(weights) - 1) / 2
    passed = abs(np.sum(weights * np.exp(-2j * np.pi * places * 0.5 / scale)))
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert passed == pytest.approx(gain, abs=0.02)


@pytest.mark.parametrize("scale", [2, 4])
def test_what_is_flat_stays_flat(scale: int) -> None:
    flat = np.full((1, 16, 24), 0.3, dtype="float32")
    for made in (bicubic(flat, scale), linear(flat, scale), degraded(flat, scale, [0.26]), means(flat, scale)):
        np.testing.assert_allclose(made, 0.3, atol=1e-6)
    ramp = np.broadcast_to(np.arange(24, dtype="float32"), (1, 16, 24))
    fine = bicubic(ramp, scale)[0, 8, 4 * scale : -4 * scale]
    np.testing.assert_allclose(np.diff(fine), 1 / scale, atol=1e-4)
    np.testing.assert_allclose(means(bicubic(ramp, scale), scale)[0, 8, 4:-4], ramp[0, 8, 4:-4], atol=1e-4)


@pytest.mark.parametrize("scale", [2, 4])
def test_agreement_is_reached(scale: int) -> None:
    truth = ground(96, 128)
    gains = [0.26, 0.3]
    coarse = degraded(truth, scale, gains)
    raised = bicubic(coarse, scale)
    seen = agreeing(raised, coarse, scale, gains)
    assert residual(seen, coarse, scale, gains).mean() < 0.2 * residual(raised, coarse, scale, gains).mean()
    assert np.square(seen - truth).mean() < 0.9 * np.square(raised - truth).mean()
    exact = agreeing(raised, coarse, scale, None)
    assert residual(exact, coarse, scale, None).max() < 1e-6


def test_pixels_of_20_m_come_back_from_those_of_10() -> None:
    sensor = (1000 + 4000 * np.random.default_rng(0).random((40, 60))).astype("uint16")
    for method, limit in (("nearest", 0), ("bilinear", 2.5)):
        inside = np.zeros((80, 120), dtype="uint16")
        reproject(
            sensor, inside, src_transform=Affine(20, 0, 0, 0, -20, 0), dst_transform=Affine(10, 0, 0, 0, -10, 0),
            src_crs=CRS.from_epsg(32632), dst_crs=CRS.from_epsg(32632), resampling=Resampling[method],
        )  # fmt: skip
        back = halved(inside.astype("float32"), method)
        assert np.abs(back[1:-1, 1:-1] - sensor[1:-1, 1:-1]).max() <= limit
    assert set(MTF) == {"B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"}
