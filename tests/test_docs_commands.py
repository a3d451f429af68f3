"""The commands of the pages, run on small simulated cubes: page by page, in the order in which they stand there.

Pages name cubes, areas and recipes that a reader has; here these are small and simulated (:data:`HAVE`). Where a page
says a day or a catalog of the real world, a day or the catalog of the simulated archive stands in (:func:`adapted`).
What cannot run here is marked with the reason (:data:`MARKED`). ``python -m tests.test_docs_commands`` counts them.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import shapely

import stac2cube
from stac2cube.cli import cli
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.test_docs import DOCS, code, typed
from tests.test_docs_reference import reference  # noqa: F401 - a fixture

ROOT = DOCS.parent

PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
"""Tutorials are run as they are written by ``tests/test_tutorials.py``."""

ON_CLUSTERS = "needs SLURM; run by tests/slurm"

MARKED = {
    "submit": ON_CLUSTERS,
    "logs": ON_CLUSTERS,
    "cancel": ON_CLUSTERS,
    "stage": "needs a catalog over a network; run against a server by tests/stages/test_offline.py",
    "claim": "is said by job scripts; run by tests/slurm",
    "share": "is said by job scripts; run by tests/slurm",
    "seal": "is said by job scripts; run by tests/slurm",
    "doctor --site": ON_CLUSTERS,
    "explore": "serves until it is stopped; run by tests/explorer",
    "clouds": "finds clouds in Level-1C, from a catalog over a network; run by tests/stages/test_clouds.py",
    "overviews": "needs a cube of more than 256 pixels; run by tests/stages/test_overviews.py",
    "demo": "takes two minutes; run by `make demo`",
    "superres": "takes PyTorch and minutes; run by tests/stages/test_superres.py",
    "superres train": "takes PyTorch and minutes; run by tests/stages/test_superres.py",
    "coregister": "takes AROSICS; run by tests/stages/test_coregister.py",
    "move": "takes a cube of coregister; run by tests/stages/test_coregister.py",
    "download": "needs a network and an account; run against a server by tests/datasets",
    "compare": "asks catalogs over a network; run against servers by tests/stages/test_compare.py",
    "gaps": "asks catalogs over a network; run against servers by tests/stages/test_compare.py",
    "weights fetch": "needs a network",
}
"""Commands that cannot run here, by their first words, and why."""

WORDS_MARKED = {
    "--api": "needs an API server; run by tests/export/test_stac.py",
    "gateway": "needs a Dask Gateway; run by tests/executors",
    "eopf": "needs a network",
    "terrabyte": ON_CLUSTERS,
    "build/demo/layers.zarr": "needs the demo's cube; run by tests/test_docs_pictures.py",
    "build/demo/seasons.zarr": "needs the demo's cube; run by tests/test_docs_pictures.py",
    "build/demo/archive/earth-search.json": "needs the demo's archive; run by `make demo`",
    "products/": "needs downloaded products; run by tests/datasets",
    "samples/": "needs downloaded products; run by tests/datasets",
    "none.zarr": "needs the catalog of made-up items of that page",
}
"""Words with which a command cannot run here, and why."""

PYTHON = {
    "README.md": {'"2018/2024 06-01/08-31"': '"2023"', 'time="2025"': 'time="2024"', 'time="2023-07"': 'time="2023"'},
    "index.md": {'time="2023-07"': 'time="2023"'},
    "reports.md": {'["earth-search", "cdse"]': '["earth-search"]'},
    "views.md": {},
}
"""Pages whose Python runs here, with what stands in for texts of the real world."""

PYTHON_ELSEWHERE = {
    "archives.md": "the functions run in tests/archives",
    "clouds.md": "finds clouds in Level-1C, from a catalog over a network; run by tests/stages/test_clouds.py",
    "coregistration.md": "takes AROSICS; run by tests/stages/test_coregister.py",
    "explore.md": "serves until it is stopped; run by tests/explorer",
    "gateway-and-cwl.md": "needs a Dask Gateway; run by tests/executors",
    "on-your-cluster.md": ON_CLUSTERS,
    "patches.md": "run by tests/datasets/test_example.py",
    "publishing.md": "needs a cube of more than 256 pixels; run by tests/stages/test_overviews.py",
    "readers.md": "needs programs of others; run by tests/readers",
    "served.md": "needs servers of others; run by tests/readers/test_served.py",
    "superres.md": "takes PyTorch and minutes; run by tests/stages/test_superres.py",
    "training.md": "run by tests/datasets/test_example.py",
}
"""Pages whose Python does not run here, and why. ``tests/test_docs.py`` checks its names and parameters."""

NEEDS_MORE = ("duckdb",)
"""Packages that the tests do not install: blocks that import one are left out."""


def marked(words: list[str]) -> str:
    """Why a command is not run; "" if it is."""
    if words[0] == "clouds" and "scl" in words:  # of the cube's own classes
        return ""
    for count in (2, 1):
        if why := MARKED.get(" ".join(words[:count])):
            return why
    named = [why for word, why in WORDS_MARKED.items() if word in words]
    return named[0] if named else ""


HAVE = {
    "README.md": {"moved.zarr": "layers", "clouds.zarr": "clouds"},
    "clouds.md": {"alps/layers.zarr": "layers", "alps/clouds.zarr": "clouds"},
    "keeping-a-cube.md": {"alps/layers.zarr": "layers"},
    "patches.md": {"moved.zarr": "layers", "clouds.zarr": "clouds"},
    "products.md": {"layers.zarr": "layers", "clouds.zarr": "clouds", "west.zarr": "layers", "east.zarr": "layers"},
    "publishing.md": {"alps/layers.zarr": "layers"},
    "reports.md": {"alps/layers.zarr": "layers", "alps/clouds.zarr": "clouds"},
    "served.md": {"alps/layers.zarr": "layers"},
}
"""Cubes that the reader of a page has, by their names there."""

RECIPES = {
    "alps": """
cubes: alps
layers: {mission: sentinel-2-l2a, aoi: alps.geojson, time: 2023/2024, bands: [red, nir, scl],
  catalog: archive/earth-search.json}
composite: {monthly: {period: month, mask: clouds}}
report:
""",
    "bavaria": """
cubes: bavaria
tiles: mgrs
layers: {mission: sentinel-2-l2a, aoi: bavaria.geojson, time: 2023/2024, bands: [red, scl],
  catalog: archive/earth-search.json}
clouds: {method: scl}
""",
}

YEARS = (2023, 2024)

LONG = ("README.md", "archives.md", "gateway-and-cwl.md", "products.md", "recipes.md", "reports.md")
"""Pages that take longer than the others together."""


class World:
    """What the readers of the pages have.

    Args:
        folder: An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive: Archive = simulate(folder / "archive", ArchiveSpec(years=YEARS, dates_per_year=3, tile_px=60))
        self.catalog = self.archive.catalog("earth-search")
        self.item = folder / "item.json"
        items = json.loads(self.catalog.read_text())["features"]
        self.item.write_text(json.dumps(items[0]))
        self.days = sorted({item["properties"]["datetime"][:10] for item in items})
        area = self.archive.area(two_zones=True)
        middle = shapely.geometry.shape(area).centroid
        self.place = f"{middle.y:.5f},{middle.x:.5f}"
        for name in ("lech", "alps", "bavaria", "lake"):
            (folder / f"{name}.geojson").write_text(json.dumps(area))
        self._places(area)
        for name, text in RECIPES.items():
            (folder / f"{name}.yaml").write_text(text)
        (folder / "rules.yaml").write_text("size: 32\nstride: 32\n")
        kept, catalog = folder / "kept/layers.zarr", str(self.catalog)
        stac2cube.get_stac_layers(kept, mission="sentinel-2-l2a", aoi=area, time="2023", catalog=catalog)
        stac2cube.get_stac_layers(folder / "kept/layers.zarr", time="2024", update=True)
        stac2cube.get_cloud_layers(folder / "kept/layers.zarr", folder / "kept/clouds.zarr", method="scl")

    def _places(self, area: dict[str, object]) -> None:
        """Two fields and three points within an area."""
        import geopandas

        west, south, east, north = shapely.geometry.shape(area).bounds
        width, height = (east - west) / 4, (north - south) / 4
        fields = [
            shapely.box(west + k * width, south + height, west + (k + 0.8) * width, north - height) for k in (1, 2)
        ]
        points = [shapely.Point(west + (k + 0.5) * width, south + 2 * height) for k in range(3)]
        frame = geopandas.GeoDataFrame({"name": ["a", "b"]}, geometry=fields, crs=4326)
        frame.to_file(self.folder / "fields.gpkg")
        frame.to_file(self.folder / "fields.geojson")
        geopandas.GeoDataFrame({"name": list("abc")}, geometry=points, crs=4326).to_file(self.folder / "points.geojson")

    def copy_to(self, folder: Path, have: dict[str, str]) -> None:
        """Lay out what the reader of a page has in a folder."""
        folder.mkdir()
        for path in self.folder.iterdir():
            if path.is_file():
                shutil.copy(path, folder)
        (folder / "archive").symlink_to(self.folder / "archive")
        for name, kind in have.items():
            shutil.copytree(self.folder / "kept" / f"{kind}.zarr", folder / name)


def adapted(words: list[str], world: World) -> list[str]:
    """A command of a page, with days and catalogs of the simulated archive."""
    first, last = world.days[1], world.days[-1]
    instead = {
        "2023-07-14": next(day for day in world.days if day.startswith("2023")),
        "2022-05-14": first,
        "2023-11-04": last,
        "2023-07": "2023",
        "32UPU": "32TPT",
        "2025-03-01": "2100-01-01",
        "47.57,11.04": world.place,
        "ITEM": str(world.item),
    }
    if words[0] in ("diff", "rollback"):
        instead |= {"3": "1", "5": "2"}  # commits
    if words[0] == "seal-year":
        instead |= {"2022": "2023", "2024": "2023"}
    if words[:2] == ["index", "filter"]:
        instead |= {"2018/2024 06-01/08-31": "2018/2024 01-01/12-31", "20": "100"}
    words = [instead.get(word, word) for word in words]
    if words[0] == "patches" and not {"--size", "--rules"} & set(words):
        words += ["--size", "32", "--stride", "32"]
    command: click.Command = cli
    path = list(words)
    while isinstance(command, click.Group) and path and path[0] in command.commands:
        command = command.commands[path.pop(0)]
    takes = {name for option in command.params for name in option.opts}
    if "--catalog" in takes and "--catalog" not in words and "--mission" in words:
        words += ["--catalog", str(world.catalog)]
    return words


def steps(page: Path) -> Iterator[tuple[list[str], str]]:
    """The commands of a page, each with the reason why it is not run."""
    for words in typed(page):
        yield words, marked(words)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not why for _, why in steps(page))], ids=lambda p: p.name
)
def test_the_commands_of_a_page_run(page: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("STAC2CUBE_DATA_DIR", str(tmp_path / "data"))
    folder = tmp_path / "work"
    world.copy_to(folder, HAVE.get(page.name, {}))
    monkeypatch.chdir(folder)
    for words, why in steps(page):
        if why:
            continue
        said = adapted(words, world)
        assert not cli.main(list(said), standalone_mode=False), shlex.join(said)


def test_examples_that_no_page_shows_run(
    world: World,
    reference: ModuleType,  # noqa: F811 - a fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("STAC2CUBE_DATA_DIR", str(tmp_path / "data"))
    world.copy_to(tmp_path / "work", {"alps/layers.zarr": "layers"})
    monkeypatch.chdir(tmp_path / "work")
    create = "index create lech --mission sentinel-2-l2a --aoi lech.geojson --time 2018/2024"
    run = [words for text in reference.EXAMPLES.values() if not marked(words := shlex.split(text)[1:])]
    assert len(run) > 6
    for words in [create.split(), *run]:
        said = adapted(words, world)
        assert not cli.main(list(said), standalone_mode=False), shlex.join(said)


@pytest.mark.parametrize("name", sorted(PYTHON))
def test_the_python_of_a_page_runs(name: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("STAC2CUBE_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "config").mkdir()
    # The catalog that "auto" takes, as a file.
    (tmp_path / "config" / "catalogs.toml").write_text(f'[earth-search]\ntitle = "e"\nurl = "{world.catalog}"\n')
    cubes = {"layers.zarr": "layers", "clouds.zarr": "clouds", "alps/layers.zarr": "layers"}
    world.copy_to(tmp_path / "work", {} if name == "README.md" else cubes)
    monkeypatch.chdir(tmp_path / "work")
    told: dict[str, Any] = {"stac2cube": stac2cube}
    for block in code(PAGES[0] if name == "README.md" else DOCS / name, "python"):
        if any(f"import {package}" in block for package in NEEDS_MORE):
            continue
        said = block
        for text, instead in PYTHON[name].items():
            said = said.replace(text, instead)
        exec(compile(said, name, "exec"), told)


def test_the_python_of_every_page_is_run_or_marked() -> None:
    assert {page.name for page in PAGES if code(page, "python")} == {*PYTHON, *PYTHON_ELSEWHERE}


def test_reasons_name_what_exists() -> None:
    for reason in (*MARKED.values(), *WORDS_MARKED.values(), *PYTHON_ELSEWHERE.values()):
        for place in re.findall(r"tests/[\w/.]+", reason):
            assert (ROOT / place).exists(), reason


def count() -> None:
    """Print how many commands are run and marked, and how often each reason is given."""
    reasons: dict[str, int] = {}
    for page in PAGES:
        for words in typed(page):
            reason = marked(words)
            reasons[reason] = reasons.get(reason, 0) + 1
    for why, number in sorted(reasons.items(), key=lambda one: -one[1]):
        sys.stdout.write(f"{number:4} {why or 'run'}\n")


if __name__ == "__main__":
    count()
