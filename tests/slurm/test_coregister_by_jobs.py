"""Co-registration and a finer grid by worker jobs that follow layers: the cubes that threads make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from pyproj import Transformer
from shapely.geometry import box, mapping

from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from tests.items import catalog
from tests.slurm.cluster import Cluster, jobs_of, stac2cube
from tests.stages.shifted import EPSG, ORIGIN, Take, write

SHORT = {"coregister": "{engine: phase, strategy: graph}", "superres": "{backend: backproject}"}
WHOLE = {"clouds": "{method: scl}", **SHORT, "report": ""}


def write_recipe(folder: Path, name: str, stages: Mapping[str, str]) -> Path:
    recipe = folder / f"{name}.yaml"
    words = f"aoi: {folder}/area.geojson, time: 2022, bands: [B02, B03, B04, B08, SCL], resolution: 10"
    recipe.write_text(
        f"cubes: {name}\n"
        f"layers: {{mission: sentinel-2-l2a, {words}, catalog: {folder}/l2a.json}}\n"
        + "".join(f"{stage}: {how}\n" for stage, how in stages.items())
    )
    return recipe


@pytest.mark.timeout(600)  # up to five jobs one after the other, each a Python that imports what it needs
@pytest.mark.parametrize("stages", [SHORT, pytest.param(WHOLE, marks=pytest.mark.soak)], ids=["short", "whole"])
def test_co_registration_follows_as_a_job_of_its_own(cluster: Cluster, stages: Mapping[str, str]) -> None:
    folder = cluster.work / "takes"
    folder.mkdir()
    takes = [Take("2022-06-05"), Take("2022-06-15", 12, -7), Take("2022-06-25", -8, 5, cover=0.3)]
    catalog(folder / "l2a.json", [write(folder, take, ("B02", "B03", "B04", "B08")) for take in takes])
    turn = Transformer.from_crs(EPSG, 4326, always_xy=True).transform
    west, north = turn(ORIGIN[0] + 200, ORIGIN[1] - 200)
    east, south = turn(ORIGIN[0] + 3800, ORIGIN[1] - 3800)
    (folder / "area.geojson").write_text(json.dumps(mapping(box(west, south, east, north))))
    stac2cube("run", write_recipe(folder, "threads", stages), "-q")
    jobs = jobs_of(stac2cube("submit", write_recipe(folder, "jobs", stages), "--site", "example").stdout)
    assert list(jobs) == ["layers", *stages]
    cluster.wait_idle(480)
    cube = folder / "jobs" / "coregister.zarr"
    for stage in ("coregister", "superres"):
        assert differences(folder / "jobs" / f"{stage}.zarr", folder / "threads" / f"{stage}.zarr") == []
    entries = list(Ledger(cube, read_root(cube).ledger).entries().values())
    assert [entry.properties["shift_accepted"] for entry in entries] == [True] * 3
    assert entries[1].properties["shift_x"] != 0
    made = {receipt.job for entry in entries for receipt in entry.receipts}
    assert made
    assert not made & {"", *jobs.values()}, "by worker jobs, not by the one that submits them"
    if "report" in stages:
        assert "Shifts" in (folder / "jobs" / "report-coregister.html").read_text()
