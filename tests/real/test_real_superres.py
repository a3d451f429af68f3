"""Super-resolution judged on real scenes that its networks never saw."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import stac2cube
from stac2cube.testing.archive import write_simulated_cog
from tests.items import catalog, item
from tests.real.recorded import RASTERS, real

pytest.importorskip("torch")

from stac2cube.superres.backends import open_upscaler
from stac2cube.superres.networks import COARSE, FINE
from stac2cube.superres.stage import train_on
from stac2cube.superres.train import DSEN2, MEANS, Optics, TrainingArea, judged
from stac2cube.superres.weights import shipped
from tests.bench.train_native import check_bands, hazy, matlab

pytestmark = real


@pytest.fixture(scope="module")
def unseen() -> dict[str, TrainingArea]:
    fine, coarse = matlab(next((RASTERS / "super_resolution").glob("*.mat")))
    return {"T33UUB": TrainingArea(fine[:, :, 416:], coarse[:, :, 208:]), "31TDH": hazy(RASTERS)}


def test_the_shipped_networks_on_scenes_never_trained_on(unseen: dict[str, TrainingArea]) -> None:
    ours = open_upscaler("native", str(shipped()), "cpu")
    rows = {(r["scene"], r["step"], r["method"]): r for r in judged(unseen, ours)}
    for scene, beyond in zip(unseen, (1.0, 0.3), strict=True):
        finer = {method: rows[scene, "20 to 10 m", method] for method in ("bicubic", "network, mtf")}
        assert finer["network, mtf"]["psnr"] > finer["bicubic"]["psnr"] + 8
        assert finer["network, mtf"]["sam"] <= 0.7
        sharp = {m: rows[scene, "10 to 2.5 m", m]["psnr"] for m in ("bicubic", "backproject", "network, mtf")}
        assert sharp["network, mtf"] > sharp["bicubic"] + 1.5
        assert sharp["network, mtf"] > sharp["backproject"] + beyond


@pytest.mark.parametrize("optics", [0.1, MEANS, DSEN2])
def test_other_optics_than_those_of_the_table_do_little_harm(unseen: dict[str, TrainingArea], optics: Optics) -> None:
    rows = judged(unseen, open_upscaler("native", str(shipped()), "cpu"), optics)
    figures = {(r["scene"], r["step"], r["method"]): r["psnr"] for r in rows}
    for scene, step, method in figures:
        assert figures[scene, step, "network, mtf"] > figures[scene, step, "bicubic"] - 0.1, (scene, step, method)


def test_bands_of_the_recorded_files_bear_their_names() -> None:
    path = next((RASTERS / "super_resolution").glob("*.mat"))
    fine, coarse = matlab(path)
    bands = dict(zip((*FINE, *COARSE), (*fine, *coarse), strict=True))
    for one, other in (("B02", "B04"), ("B03", "B04"), ("B02", "B03"), ("B04", "B08"), ("B02", "B08")):
        with pytest.raises(ValueError, match="bands seem to be exchanged"):
            check_bands({**bands, one: bands[other], other: bands[one]})


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_real_cube_teaches_its_own_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """T33UUB as a cube: five minutes on two cores, and better than back-projection where it never looked."""
    fine, coarse = matlab(next((RASTERS / "super_resolution").glob("*.mat")))
    pixels = {band: np.rint(1e4 * picture) for band, picture in zip((*FINE, *COARSE), (*fine, *coarse), strict=True)}
    assets, corner = {}, (300_000, 5_700_000)
    for band, picture in pixels.items():
        gsd = 6000 // picture.shape[0]
        assets[band] = tmp_path / f"{band}.tif"
        write_simulated_cog(
            assets[band], picture.astype("uint16"), 32633, Affine(gsd, 0, corner[0], 0, -gsd, corner[1])
        )
    about = {"platform": "sentinel-2a", "sat:relative_orbit": 22, "s2:processing_baseline": "02.05"}
    one = item("t33uub", "sentinel-2-l2a", assets, datetime="2017-05-27T10:20:00Z", **about)
    grid = GeoBox((600, 600), Affine(10, 0, corner[0], 0, -10, corner[1]), "EPSG:32633")
    words = {"mission": "sentinel-2-l2a", "aoi": grid, "time": "2017", "bands": [*FINE, *COARSE]}
    stac2cube.get_stac_layers(tmp_path / "layers.zarr", catalog=catalog(tmp_path / "i.json", [one]), **words)
    begun = time.process_time()
    file = train_on([tmp_path / "layers.zarr"], tmp_path / "own.safetensors")
    spent = time.process_time() - begun
    figures = {
        (r["step"], r["method"]): r["psnr"] for r in json.loads(file.with_suffix(".json").read_text())["figures"]
    }
    with capsys.disabled():
        print(f"\n{spent:.0f} s of CPU, {json.dumps({' '.join(k): round(v, 2) for k, v in figures.items()}, indent=1)}")  # noqa: T201
    assert spent < 600, "five minutes of two cores"
    for step in ("20 to 10 m", "10 to 2.5 m"):
        assert figures[step, "network, mtf"] > figures[step, "backproject"]
    assert np.isfinite(list(figures.values())).all()
