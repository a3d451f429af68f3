"""Application packages: cwltool validates them and runs them from end to end, without containers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pystac
import pytest
import rasterio
import yaml

from stac2cube.cli import cli
from stac2cube.errors import BadInputError
from stac2cube.maintain.care import verify
from stac2cube.recipe.cwl import CALRISSIAN, Package
from stac2cube.store.reader import open_cube
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.servers.dask_gateway import REPOSITORY

PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    spec = ArchiveSpec(years=(2024,), dates_per_year=4, tile_px=96, faults=True)
    return simulate(tmp_path_factory.mktemp("archive"), spec)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cwl")
    words = ["cwl", str(folder), "--image", "registry.example/stac2cube:1", "--workers", "3", "--memory", "4"]
    assert cli.main(words, standalone_mode=False) in (0, None)
    return folder


def cwltool(folder: Path, process: str, order: dict, **environment: str) -> tuple[int, str, dict]:
    """Run a process as people do; exit code, log, and outputs."""
    (folder / "order.yaml").write_text(yaml.safe_dump(order))
    kept = [word for name in ("PYTHONPATH", *environment) for word in ("--preserve-environment", name)]
    done = subprocess.run(
        [PROGRAMS / "cwltool", "--no-container", "--disable-color", *kept, "--outdir", "out", process, "order.yaml"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PATH": f"{PROGRAMS}:{os.environ['PATH']}"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, json.loads(done.stdout or "{}")


def write_recipe(folder: Path, archive: Archive, time: str) -> dict:
    """A recipe and what it names, each in a folder of its own; the order for them."""
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    (folder / "a" / "area.geojson").write_text(json.dumps(archive.area()))
    words = {"mission": "sentinel-2-l2a", "aoi": "area.geojson", "time": time, "bands": ["B03", "B08"]}
    words["catalog"] = str(archive.catalog("earth-search"))
    (folder / "b" / "recipe.yaml").write_text(yaml.safe_dump({"cubes": "elsewhere", "layers": words}))
    files = [{"class": "File", "path": "a/area.geojson"}]
    return {"recipe": {"class": "File", "path": "b/recipe.yaml"}, "files": files}


@pytest.mark.parametrize("name", ["run", "item"])
def test_the_documents_are_valid(documents: Path, name: str) -> None:
    from cwltool.main import main

    said = io.StringIO()
    code = main(["--validate", "--no-doc-cache", str(documents / f"{name}.cwl")], stdout=said, stderr=io.StringIO())
    assert code == 0
    assert "is valid CWL" in said.getvalue()
    workflow, tool = yaml.safe_load((documents / f"{name}.cwl").read_text())["$graph"]
    assert (workflow["class"], tool["class"]) == ("Workflow", "CommandLineTool")
    assert workflow["outputs"]["catalog"]["type"] == "Directory"
    assert set(workflow["inputs"]) == set(tool["inputs"])
    # As Calrissian's schema names them; among the hints, which others may pass over.
    assert tool["hints"]["calrissian:DaskGatewayRequirement"] == {
        "workerCores": 2,
        "workerCoresLimit": 2,
        "workerMemory": "4G",
        "clusterMaxCores": 6,
        "clusterMaxMemory": "12G",
    }
    assert tool["hints"]["DockerRequirement"] == {"dockerPull": "registry.example/stac2cube:1"}
    assert CALRISSIAN not in json.dumps(tool["requirements"])


def test_every_option_of_a_tool_is_one_of_its_command() -> None:
    for name, document in Package().documents().items():
        tool = document["$graph"][1]
        known = {word for parameter in cli.commands[name].params for word in parameter.opts}
        inputs = tool["inputs"].values()
        bindings = [given["inputBinding"] for given in inputs if "inputBinding" in given]
        bindings += [given["type"].get("inputBinding", {}) for given in inputs if isinstance(given["type"], dict)]
        said = {one["prefix"] for one in (*bindings, *tool["arguments"]) if "prefix" in one}
        assert said
        assert said <= known, name
    with pytest.raises(BadInputError, match="at least one worker"):
        Package(workers=0)


def test_a_recipe_runs_and_gives_a_catalog_of_its_cubes(documents: Path, archive: Archive, tmp_path: Path) -> None:
    order = write_recipe(tmp_path, archive, "2024-01/2024-06")
    code, log, outputs = cwltool(tmp_path, f"{documents}/run.cwl#stac2cube-run", order)
    assert code == 0, log
    assert outputs["catalog"]["basename"] == "products"
    cube = tmp_path / "out" / "products" / "layers.zarr"
    steps = open_cube(cube).sizes["time"]
    assert steps >= 1
    assert verify(cube) == []
    catalog = pystac.Catalog.from_file(tmp_path / "out" / "products" / "catalog.json")
    (collection,) = catalog.get_children()
    assert (collection.id, collection.assets["cube"].get_absolute_href()) == ("layers", str(cube))
    items = list(catalog.get_items(recursive=True))
    assert len(items) == steps
    assert {item.assets["cube"].get_absolute_href() for item in items} == {str(cube)}
    assert {link.get_absolute_href() for item in items for link in item.links if link.rel == "root"} == {
        str(tmp_path / "out" / "products" / "catalog.json")
    }


def test_an_item_runs_and_gives_a_catalog_of_its_products(documents: Path, archive: Archive, tmp_path: Path) -> None:
    item = tmp_path / "item.json"
    item.write_text(json.dumps(archive.items("earth-search")[-2]))
    order = {"item": str(item), "index": ["ndvi", "nbr"], "colour": ["false"], "clear": True}
    code, log, _ = cwltool(tmp_path, f"{documents}/item.cwl#stac2cube-item", order)
    assert code == 0, log
    catalog = pystac.Catalog.from_file(tmp_path / "out" / "products" / "catalog.json")
    (made,) = catalog.get_items(recursive=True)
    assert set(made.assets) == {"ndvi", "nbr", "false"}
    for asset in made.assets.values():
        with rasterio.open(asset.get_absolute_href()) as file:
            assert file.shape == (96, 96)


def test_a_failing_step_fails_the_workflow(documents: Path, archive: Archive, tmp_path: Path) -> None:
    order = write_recipe(tmp_path, archive, "2024")
    code, log, _ = cwltool(tmp_path, f"{documents}/run.cwl#stac2cube-run", order)
    assert code == 1
    assert "exited with status: 2" in log
    assert "Final process status is permanentFail" in log


def test_a_step_that_stopped_in_time_may_be_run_again(documents: Path, archive: Archive, tmp_path: Path) -> None:
    order = write_recipe(tmp_path, archive, "2024")
    end = str(time.time() + 15)
    code, log, _ = cwltool(tmp_path, f"{documents}/run.cwl#run-tool", order, SLURM_JOB_ID="1", SLURM_JOB_END_TIME=end)
    assert code == 1
    assert "exited with status: 10" in log
    assert "Final process status is temporaryFail" in log
