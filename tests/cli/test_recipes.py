"""One recipe for an archive: run, said otherwise, looked at; its cubes are those of the commands it stands for."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stac2cube.cli import cli
from stac2cube.errors import BadInputError
from stac2cube.store.reader import differences, open_cube
from stac2cube.testing.archive import ArchiveSpec, simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    archive = simulate(folder / "archive", ArchiveSpec(years=(2022, 2023), dates_per_year=2, tile_px=120))
    (folder / "area.geojson").write_text(json.dumps(archive.area()))
    archive.catalog("earth-search")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


RECIPE = """
cubes: ${CUBES:-made}
layers:
  mission: sentinel-2-l2a
  aoi: area.geojson
  time: 2022
  bands: [red, green, blue, nir, scl]
  catalog: archive/earth-search.json
clouds: {method: scl}
mask:
indices: {names: [ndvi]}
composite:
  yearly: {period: year, method: mean}
  whole: {of: indices, period: all}
quicklook:
export: {of: yearly}
timelapse: {show: [nir, red, green]}
report: {of: [layers, yearly]}
publish: {of: mask}
"""


def run(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, words)
    if isinstance(done.exception, BadInputError):
        assert code == 1
        return done
    found = done.return_value if done.exception is None else done.exit_code
    assert (found or 0) == code, (done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    run("run", str(folder / "recipe.yaml"), "-q")
    return folder / "made"


def test_everything_is_there(made: Path) -> None:
    cubes = ("layers", "clouds", "mask", "indices", "yearly", "whole")
    assert sorted(path.name for path in made.glob("*.zarr")) == sorted(f"{name}.zarr" for name in cubes)
    steps = {name: open_cube(made / f"{name}.zarr").sizes["time"] for name in cubes}
    # One of the two dates of a year is all cloud: it has no index.
    assert steps == {"layers": 2, "clouds": 2, "mask": 2, "indices": 1, "yearly": 1, "whole": 1}
    assert "NDVI" in open_cube(made / "whole.zarr")
    assert (made / "quicklook.png").read_bytes().startswith(b"\x89PNG")
    assert [file.suffix for file in (made / "export").iterdir()] == [".tif"]
    assert (made / "timelapse.gif").read_bytes().startswith(b"GIF8")
    assert "yearly.zarr" in (made / "report-yearly.html").read_text()
    assert json.loads((made / "publish" / "collection.json").read_text())["type"] == "Collection"


def test_the_commands_it_shows_make_the_same(made: Path, folder: Path) -> None:
    shown = run(
        "config", "show", str(folder / "recipe.yaml"), "--commands", "--set", f"cubes={folder / 'typed'}"
    ).output
    lines = [shlex.split(line)[1:] for line in shown.splitlines()]
    for line in lines[:6]:
        run(*line, "-q")
    for cube in made.glob("*.zarr"):
        assert differences(cube, folder / "typed" / cube.name) == []


def test_a_word_said_otherwise_extends_all(made: Path, folder: Path) -> None:
    run(
        "run",
        str(folder / "recipe.yaml"),
        "-q",
        "--set",
        "layers.time=2022/2023",
        "--stage",
        "layers",
        "--stage",
        "mask",
    )
    assert open_cube(made / "layers.zarr").sizes["time"] == 4
    assert open_cube(made / "mask.zarr").sizes["time"] == 2, "its clouds were not asked for"
    run("run", str(folder / "recipe.yaml"), "-q", "--set", "layers.time=2022/2023")
    assert [open_cube(made / f"{name}.zarr").sizes["time"] for name in ("mask", "indices")] == [4, 2]
    assert open_cube(made / "yearly.zarr").sizes["time"] == 2


def test_nothing_is_made_of_a_recipe_that_is_wrong_at_its_end(folder: Path) -> None:
    recipe = folder / "wrong.yaml"
    recipe.write_text((folder / "recipe.yaml").read_text() + "superres: {target: 3}\n")
    done = run("run", str(recipe), "-q", "--set", "cubes=never", code=1)
    assert "superres: " in str(done.exception)
    assert not (folder / "never").exists()


def test_a_recipe_staged_is_a_recipe(made: Path, folder: Path) -> None:
    staged = run("stage", str(folder / "recipe.yaml"), str(folder / "staged"), "-q").output.strip()
    assert staged == str(folder / "staged" / "recipe.yaml")
    run("run", staged, "-q", "--set", f"cubes={folder / 'again'}", "--stage", "layers")
    assert open_cube(folder / "again" / "layers.zarr").sizes["time"] == 2
