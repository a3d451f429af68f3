"""The tutorial of CONTRIBUTING.md, applied to a copy of the package: it touches the files that it names, and works."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from stac2cube.store.reader import open_cube
from tests.house.rooms import CHECKOUT, PACKAGE
from tests.items import catalog, item

PAGE = CHECKOUT / "CONTRIBUTING.md"

WEST, NORTH, EDGE = 600_000, 5_300_000, 32

RUN = """
import json, sys
from stac2cube.cli import cli
for line in sys.stdin:
    code = cli.main([*line.rstrip("\\n").split("\\t"), "-q"], standalone_mode=False)
    assert not code, (line, code)
import stac2cube
print(stac2cube.__file__)
exec(sys.argv[1])
"""

FILTERED = """
words = {"mission": "sentinel-2-l2a", "aoi": "area.geojson", "time": "2023-07", "bands": ["red"], "catalog": "red.json"}
words["max_sun_zenith"] = 60
stac2cube.create_index("./other", **words)
days = {"python": [str(day)[:10] for day in stac2cube.get_stac_layers(**words)["time"].values]}
file = sys.argv[2]
open("red.json", "w").write(open(file).read())
stac2cube.get_stac_layers("high.zarr", update=True)
for name in ("high.zarr", "recipe.zarr"):
    days[name] = [str(day)[:10] for day in stac2cube.open_cube(name)["time"].values]
for name in ("./high", "./other"):
    days[name] = [stac2cube.index_info(name)["items"], len(stac2cube.update_index(name).difference.new)]
print("DAYS", json.dumps(days))
"""


def section(heading: str = "Tutorial: three additions") -> str:
    return PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE)]


def apply(text: str, checkout: Path) -> set[str]:
    """Apply the blocks of a text that follow the name of a file; the names."""
    named = re.findall(r"^`([\w/.-]+)`\n\n```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for name, form, block in named:
        file = checkout / name
        before = file.read_text() if file.exists() else ""
        if form == "diff":
            lines = block.splitlines(keepends=True)
            old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
            assert before.count(old) == 1, f"{PAGE.name} shows lines of {name} that are not there: {old}"
            file.write_text(before.replace(old, new))
        else:
            file.write_text(before + block)
    return {name for name, _, _ in named}


def differing(one: Path, other: Path) -> set[str]:
    """Files that are not the same in two folders, by their names in the second."""
    names = {path.relative_to(other) for path in other.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {
        f"stac2cube/{name}"
        for name in names
        if not (one / name).exists() or (one / name).read_bytes() != (other / name).read_bytes()
    }


def image(path: Path, pixels: np.ndarray) -> Path:
    edge = 10 * EDGE / pixels.shape[0]
    profile = {"driver": "GTiff", "height": pixels.shape[0], "width": pixels.shape[1], "count": 1, "nodata": 0}
    with rasterio.open(
        path, "w", **profile, dtype=pixels.dtype, crs="EPSG:32632", transform=from_origin(WEST, NORTH, edge, edge)
    ) as file:
        file.write(pixels, 1)
    return path


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout that holds the package alone."""
    checkout = tmp_path / "checkout"
    shutil.copytree(PACKAGE, checkout / "stac2cube", ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


def run(checkout: Path, folder: Path, commands: list[list[str]], then: str = "", *words: str) -> str:
    """Run commands of the package in a checkout, one after the other, then lines of Python; what they print."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, then, *words],
        input="".join("\t".join(words) + "\n" for words in commands),
        env={"PYTHONPATH": str(checkout), "PATH": "", "HOME": str(folder), "STAC2CUBE_CONFIG_DIR": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(checkout) in done.stdout
    return done.stdout


def overpass(day: int, assets: dict[str, Path], **properties: object) -> dict[str, object]:
    return item(
        f"S2A_MSIL2A_202307{day:02}T101601_R065_T32TPT_202307{day:02}T160000",
        "sentinel-2-l2a",
        assets,
        datetime=f"2023-07-{day:02}T10:16:01Z",
        platform="Sentinel-2A",
        **{"s2:processing_baseline": "05.09", "s2:mgrs_tile": "32TPT", "sat:relative_orbit": 65, **properties},
    )


def test_the_three_additions_work_as_written(copy: Path, tmp_path: Path) -> None:
    assert apply(section(), copy) == differing(PACKAGE, copy / "stac2cube")

    rng = np.random.default_rng(3)
    cover = rng.choice(np.array([10, 30, 80, 100], "uint8"), (EDGE, EDGE))
    said = {"datetime": "2021-01-01T00:00:00Z", "platform": "survey"}
    one = item("tile", "land-cover", {"map": image(tmp_path / "map.tif", cover)}, **said)
    catalog(tmp_path / "cover.json", [one])
    red = rng.integers(2000, 6000, (3, EDGE, EDGE), "uint16")
    classes = rng.choice(np.array([4, 5, 6, 9], "uint8"), (3, EDGE, EDGE))
    files = [
        {"B04": image(tmp_path / f"b04-{n}.tif", red[n]), "SCL": image(tmp_path / f"scl-{n}.tif", classes[n])}
        for n in range(3)
    ]
    items = [overpass(day, assets) for day, assets in zip((5, 15, 25), files, strict=True)]
    catalog(tmp_path / "red.json", items)
    (tmp_path / "area.geojson").write_text(json.dumps(one["geometry"]))

    run(copy, tmp_path, commands(section()))

    at = {"x": WEST + 10 * np.arange(EDGE) + 5, "y": NORTH - 10 * np.arange(EDGE) - 5}
    found = open_cube(tmp_path / "cover.zarr").sel(at)["map"].values[0]
    assert np.array_equal(found, cover)
    values = red * 1e-4 - 0.1
    ground = np.isin(classes, (4, 5))
    highest = np.where(ground, values, -np.inf).max(axis=0)
    found = open_cube(tmp_path / "ground.zarr").sel(at)["B04"].values[0]
    assert np.allclose(found, np.where(ground.any(axis=0), highest, np.nan), atol=1e-6, equal_nan=True)
    found = open_cube(tmp_path / "deviation.zarr").sel(at)["B04"].values[0]
    assert np.allclose(found, values.std(axis=0), atol=1e-6)


def test_a_filter_of_scenes_touches_three_files_and_reaches_everything(copy: Path, tmp_path: Path) -> None:
    text = section("Add a filter of scenes")
    touched = apply(text, copy)
    assert len(touched) == 3
    assert touched == differing(PACKAGE, copy / "stac2cube")

    file = {"B04": image(tmp_path / "b04.tif", np.full((EDGE, EDGE), 3000, "uint16"))}
    angles = {5: {"view:sun_elevation": 60}, 12: {"view:sun_elevation": 20.5}, 15: {}, 20: {"view:sun_elevation": "20"}}
    catalog(tmp_path / "red.json", items := [overpass(day, file, **said) for day, said in angles.items()])
    more = [overpass(25, file, **{"view:sun_elevation": 29.9}), overpass(28, file, **{"view:sun_elevation": 30})]
    later = catalog(tmp_path / "later.json", [*items, *more])
    (tmp_path / "area.geojson").write_text(json.dumps(items[0]["geometry"]))
    layers = {"mission": "sentinel-2-l2a", "aoi": "area.geojson", "time": "2023-07", "bands": ["red"]}
    layers |= {"catalog": "red.json", "max_sun_zenith": 60}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"cubes": ".", "layers": {"recipe": layers}}))

    printed = run(copy, tmp_path, commands(text), FILTERED, later)

    days = json.loads(printed.partition("DAYS ")[2])
    kept = [f"2023-07-{day:02}" for day in (5, 15, 20)]
    assert days == {
        "python": kept,
        "high.zarr": [*kept, "2023-07-28"],  # an update takes the filter from the cube, or from the index
        "recipe.zarr": kept,
        "./high": [3, 1],
        "./other": [3, 1],
    }
