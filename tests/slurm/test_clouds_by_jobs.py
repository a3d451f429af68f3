"""Clouds by worker jobs, as a job that follows the layers: the cube that threads make."""

from __future__ import annotations

from pathlib import Path

import pytest

from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from tests.items import catalog
from tests.slurm.cluster import Cluster, jobs_of, stac2cube
from tests.stages import skies

pytest.importorskip("lightgbm", reason="LightGBM is not installed, or the OpenMP that it needs: apt install libgomp1")


def write_recipe(folder: Path, name: str) -> Path:
    recipe = folder / f"{name}.yaml"
    words = f"aoi: {folder}/area.geojson, time: 2022, bands: [B04, B08]"
    recipe.write_text(
        f"cubes: {name}\n"
        f"layers: {{mission: sentinel-2-l2a, {words}, catalog: {folder}/l2a.json}}\n"
        f"clouds: {{thresholds: [0.4, 0.6], catalog: {folder}/l1c.json}}\n"
    )
    return recipe


def test_clouds_follow_layers_as_a_job_of_their_own(cluster: Cluster) -> None:
    folder = cluster.work / "skies"
    folder.mkdir()
    scenes = [skies.overpass(folder, number, "04.00") for number in (0, 1)]
    catalog(folder / "l2a.json", [scene.l2a for scene in scenes])
    catalog(folder / "l1c.json", [scene.l1c for scene in scenes])
    (folder / "area.geojson").write_text(skies.area())
    stac2cube("run", write_recipe(folder, "threads"), "-q")
    jobs = jobs_of(stac2cube("submit", write_recipe(folder, "jobs"), "--site", "example").stdout)
    assert list(jobs) == ["layers", "clouds"]
    cluster.wait_idle()
    cube = folder / "jobs" / "clouds.zarr"
    assert differences(cube, folder / "threads" / "clouds.zarr") == []
    entries = Ledger(cube, read_root(cube).ledger).entries().values()
    made = {receipt.job for entry in entries for receipt in entry.receipts}
    assert made
    assert not made & {"", *jobs.values()}, "by worker jobs, not by the one that submits them"
