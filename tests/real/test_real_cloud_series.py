"""How well clouds and shadows are found in a series whose clouds look like real ones and whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

import stac2cube
from tests.real.recorded import RASTERS, real
from tests.stages import skies
from tests.stages.skies import series, stored

pytest.importorskip("lightgbm", reason="LightGBM is not installed, or the OpenMP that it needs: apt install libgomp1")
pytestmark = real


def f1(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def test_two_years_of_real_cloud_spectra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clouds drawn from what a recorded scene's clouds look like, told apart by brightness and not by the detector."""
    folder = RASTERS / "s2_l1c/riotilerpds_19UDP_20170729"
    scene = np.stack([rasterio.open(folder / f"{band}.jp2").read(1) / 1e4 for band in skies.BANDS], axis=-1)
    blue, red, swir = (scene[..., skies.BANDS.index(band)] for band in ("B02", "B04", "B11"))
    spectra = scene[(blue > 0.3) & (red > 0.3) & (swir > 0.15)]
    made = series(tmp_path, 12, spectra)
    found = stac2cube.get_cloud_layers(made.layers, tmp_path / "clouds.zarr", catalog=made.l1c)
    numbers = stored(tmp_path / "clouds.zarr")
    opacity, depth = (np.stack([getattr(one, name) for one in made.scenes]) for name in ("cloud", "shadow"))
    cloud, shadow = numbers.cloud_mask.values == 1, numbers.shadow_mask.values == 1
    water = stored(made.layers).SCL.values == 6
    scores = {
        "cloud F1": f1(cloud, opacity > 0.1),
        "shadow F1": f1(shadow, (depth > 0.5) & ~water & ~cloud),
    }
    hidden = np.isnan(stac2cube.mask_clouds(stac2cube.open_cube(made.layers), found).B08.values)
    cloudy, clear = opacity > 0.5, (opacity < 0.02) & (depth < 0.02)
    scores |= {"cloudy left": float((cloudy & ~hidden).sum() / cloudy.sum())}
    scores |= {"clear lost": float((clear & hidden).sum() / clear.sum())}
    with capsys.disabled():
        print(f"\nthreshold 0.4, average 120 m, dilate 120 m: { {k: round(v, 3) for k, v in scores.items()} }")  # noqa: T201
    assert scores["cloud F1"] > 0.90
    assert scores["shadow F1"] > 0.68
    assert scores["cloudy left"] <= 0.03
    assert scores["clear lost"] <= 0.05
    truth = (opacity > 0.1).mean(axis=(1, 2))
    assert np.corrcoef(found.cloud_fraction.values, truth)[0, 1] > 0.98
    assert set(np.unique(numbers.cloud_mask)) == {0, 1}
