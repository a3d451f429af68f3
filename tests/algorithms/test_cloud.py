"""Cloud kernels against s2cloudless itself, against whole images, and against geometry."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from stac2cube.algorithms.radiometry import sun_at
from stac2cube.clouds import model as cloud
from stac2cube.clouds.model import (
    BANDS,
    NODATA,
    as_percent,
    cloud_mask,
    cloud_probability,
    dark_land,
    disk,
    implausible,
    shadow_mask,
    shadow_reach_m,
)
from stac2cube.errors import BadInputError


def test_probabilities_are_those_of_the_library_bit_for_bit() -> None:
    detector = pytest.importorskip("s2cloudless").S2PixelCloudDetector(all_bands=False)
    random = np.random.default_rng(3)
    toa = np.concatenate([random.uniform(0, 1, (20, 50, 10)), random.uniform(0, 0.3, (20, 50, 10))])
    theirs = detector.get_cloud_probability_maps(toa[np.newaxis])[0]
    np.testing.assert_array_equal(cloud_probability(toa).astype(theirs.dtype), theirs)


def test_a_pixel_without_data_is_never_clear() -> None:
    toa = np.full((2, 2, len(BANDS)), 0.1)
    toa[0, 1, 7] = np.nan
    probability = cloud_probability(toa)
    assert np.isnan(probability[0, 1])
    assert np.isfinite(probability).sum() == 3
    assert as_percent(probability)[0, 1] == NODATA
    mask = cloud_mask(as_percent(probability), 0.4, 0, 0, 60)
    assert mask[0, 1] == NODATA


def test_disks_in_metres() -> None:
    assert disk(0, 60).sum() == 1
    assert disk(60, 60).sum() == 5
    assert disk(120, 60).shape == (5, 5)
    assert disk(119, 60).sum() == disk(60 * 2**0.5, 60).sum() == 9


@pytest.mark.parametrize(("average", "dilate"), [(0, 0), (120, 0), (0, 180), (120, 180)])
def test_masks_of_tiles_with_their_halo_are_the_whole_images(average: float, dilate: float) -> None:
    random = np.random.default_rng(1)
    percent = ndimage.gaussian_filter(random.uniform(0, 100, (90, 110)), 2)
    percent = ((percent - percent.min()) / np.ptp(percent) * 100).astype("uint8")
    percent[20:26, 30:60] = NODATA
    whole = cloud_mask(percent, 0.5, average, dilate, 60)
    assert {0, 1, NODATA} == set(np.unique(whole))
    halo = round((average + dilate) / 60)
    for row in range(0, 90, 30):
        for column in range(0, 110, 37):
            top, left = max(row - halo, 0), max(column - halo, 0)
            part = cloud_mask(percent[top : row + 30 + halo, left : column + 37 + halo], 0.5, average, dilate, 60)
            got = part[row - top : row - top + 30, column - left : column - left + 37]
            np.testing.assert_array_equal(got, whole[row : row + 30, column : column + 37])


def test_a_mask_without_radii_is_the_threshold_and_dilation_is_scipys() -> None:
    percent = np.zeros((40, 40), "uint8")
    percent[20, 20] = 90
    assert cloud_mask(percent, 0.4, 0, 0, 60).sum() == 1
    np.testing.assert_array_equal(cloud_mask(percent, 0.4, 0, 120, 60)[18:23, 18:23], disk(120, 60))
    assert cloud_mask(percent, 0.9, 0, 0, 60).sum() == 0, "above, not at"


def test_a_shadow_lies_where_the_sun_casts_it() -> None:
    cloud = np.zeros((100, 100), "uint8")
    cloud[70:74, 60:64] = 1
    nir, swir = np.full(cloud.shape, 0.3), np.full(cloud.shape, 0.2)
    # The sun in the south-east at 45 degrees: a cloud 1200 m high casts its shadow 1200 m to the north-west.
    nir[70 - 14 : 74 - 14, 60 - 14 : 64 - 14] = 0.08
    nir[90:94, 90:94] = 0.08
    shadow = shadow_mask(cloud, dark_land(nir, swir), (135.0, 45.0), 60)
    expected = np.zeros(cloud.shape, bool)
    expected[70 - 14 : 74 - 14, 60 - 14 : 64 - 14] = True
    np.testing.assert_array_equal(shadow == 1, expected)
    swir[:] = 0.01
    assert shadow_mask(cloud, dark_land(nir, swir), (135.0, 45.0), 60).sum() == 0, "water"
    assert shadow_reach_m(45.0) == pytest.approx(5000)


FOREST = (0.11, 0.085, 0.045, 0.08, 0.28, 0.30, 0.10, 0.001, 0.16, 0.08)
SEA = (0.10, 0.08, 0.03, 0.025, 0.015, 0.013, 0.004, 0.001, 0.004, 0.003)
THIN = (1, 1, 1, 1, 1, 1, 0.75, 0.55, 0.6, 0.5)
"""Of cirrus: what it adds to each band beside what it adds to B02."""


def sky(ground: tuple[float, ...], cirrus: float = 0.0, offset: float = 0.0) -> np.ndarray:
    """``(2000, 10)`` reflectance with the noise of a sensor."""
    true = np.array(ground) + cirrus * np.array(THIN) * (1 - np.array(ground))
    noisy = true + np.random.default_rng(0).normal(0, 0.002, (2000, len(BANDS)))
    return noisy.clip(0.0005) + offset


@pytest.mark.parametrize("ground", [FOREST, SEA], ids=["forest", "sea"])
def test_wrong_offsets_are_named_and_cirrus_is_not_one(ground: tuple[float, ...]) -> None:
    def problem(toa: np.ndarray) -> str:
        return implausible(cloud_probability(toa), toa)

    assert problem(sky(ground)) == ""
    for cirrus in (0.05, 0.08, 0.1, 0.12, 0.15, 0.18, 0.2, 0.25, 0.4):
        assert problem(sky(ground, cirrus)) == "", cirrus
    assert "taken off twice" in problem(sky(ground, offset=-0.1))
    assert "not taken off" in problem(sky(ground, offset=0.1))
    dark = np.array(ground) * 0.2  # of a low sun, or an eclipse
    assert problem(np.broadcast_to(dark, (2000, len(BANDS)))) == ""
    assert problem(np.full((2000, len(BANDS)), 0.6)) == "", "it may be cloudy all over"


@pytest.mark.parametrize(
    ("time", "where", "azimuth", "elevation"),
    [
        # Solstice noon at the tropic: the sun in the zenith.
        (datetime(2023, 6, 21, 12, 1, 50, tzinfo=UTC), (0.0, 23.44), None, 90.0),
        (datetime(2023, 3, 20, 12, 7, 30, tzinfo=UTC), (0.0, 45.0), 180.0, 45.0),
        (datetime(2023, 3, 20, 6, 7, 30, tzinfo=UTC), (0.0, 0.0), 90.0, 0.0),
    ],
)
def test_the_sun(time: datetime, where: tuple[float, float], azimuth: float | None, elevation: float) -> None:
    found = sun_at(time, *where)
    assert found[1] == pytest.approx(elevation, abs=0.4)
    if azimuth is not None:
        assert found[0] == pytest.approx(azimuth, abs=0.6)


def test_a_system_without_openmp_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lightgbm.py").write_text('raise OSError("libgomp.so.1: cannot open shared object file")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    with pytest.raises(BadInputError, match="libgomp1"):
        cloud._booster.__wrapped__()
