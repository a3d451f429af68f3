"""An archive of four tiles in two UTM zones: made, gone on with, looked at, opened; and what one tile's fault does."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from click.testing import CliRunner, Result
from pyproj import Transformer
from shapely import box
from shapely.geometry import mapping

import stac2cube
from stac2cube.archives.archive import read_archive, with_tiles
from stac2cube.archives.keep import Journal
from stac2cube.archives.run import (
    ArchivePlan,
    ArchiveSummary,
    Budget,
    RunLimits,
    TilePlan,
    refresh_door,
    run_archive,
)
from stac2cube.archives.status import archive_status, draw_archive
from stac2cube.archives.tiling import ArchiveTile
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, CubeError
from stac2cube.explorer.server import LivePage
from stac2cube.export.series import Columns
from stac2cube.stages.layers import prepare, query_of_words
from stac2cube.stages.layers import run as run_layers
from stac2cube.store.lock import CubeLock
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from tests.archives.inputs import RECIPE, write_inputs
from tests.store.test_goes_on import require_stored_as_it_is


def command(*words: str | Path, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    found = done.return_value if done.exception is None else done.exception
    assert (found or 0) == code, (done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_inputs(folder)
    command("run", folder / "recipe.yaml", "-q", "--budget", "tiles=1", code=10)
    command("run", folder / "recipe.yaml", "-q")
    return folder


def test_four_tiles_in_two_zones_are_made_whole(folder: Path) -> None:
    archive = read_archive(folder / "made")
    assert {name: tile.crs for name, tile in archive.tiles.items()} == {
        "a": "EPSG:32632",
        "b": "EPSG:32632",
        "c": "EPSG:32633",
        "d": "EPSG:32633",
    }
    for tile in archive.tiles.values():
        for product in ("layers", "clouds"):
            root = read_root(archive.cube(tile, product))
            assert root.steps == 2
            assert root.spec.grid == tile.grid
    # The first run stopped after the tile of the highest rank; the second made the others.
    runs = {name: archive.state(tile).run for name, tile in archive.tiles.items()}
    assert len({runs["a"], runs["b"], runs["c"]}) == 1
    assert runs["d"] != runs["a"]


def test_a_tile_is_the_cube_that_its_grid_alone_would_give(folder: Path, tmp_path: Path) -> None:
    archive = read_archive(folder / "made")
    tile = archive.tiles["c"]
    words = {"mission": "sentinel-2-l2a", "time": "2023", "bands": ("red", "scl")}
    words |= {"area": tile.area, "geobox": tile.geobox, "catalog": str(folder / "source" / "earth-search.json")}
    alone = tmp_path / "alone.zarr"
    run_layers(prepare(alone, *query_of_words(words)), stac2cube.Threads(2))
    assert differences(archive.cube(tile, "layers"), alone) == []


def test_a_further_run_writes_no_cube(folder: Path) -> None:
    archive = read_archive(folder / "made")
    before = {cube: read_root(cube).commit for _, _, cube in archive.cubes()}
    assert len(before) == 8
    said = command("run", folder / "recipe.yaml", "-q").output
    assert "0 tiles made, 4 were complete" in said
    assert {cube: read_root(cube).commit for cube in before} == before


def test_the_door_leads_to_a_collection_per_cube(folder: Path) -> None:
    door = json.loads((folder / "made" / "archive.json").read_text())
    children = [link["href"] for link in door["links"] if link["rel"] == "child"]
    assert len(children) == 8
    for href in children:
        collection = json.loads((folder / "made" / href).read_text())
        assert collection["type"] == "Collection"
        cube = (folder / "made" / href).parent / collection["assets"]["cube"]["href"]
        assert (cube / "zarr.json").exists()
    west, south, east, north = door["extent"]["spatial"]["bbox"][0]
    assert west <= 11.984
    assert east >= 12.016
    assert south <= 47.490
    assert north >= 47.498


def test_the_dataset_is_that_of_its_tiles(folder: Path) -> None:
    archive = read_archive(folder / "made")
    whole = stac2cube.open_archive(folder / "made", decode=False, crs="EPSG:32633")
    assert whole.sizes["time"] == 2
    assert not whole.chunks
    for name in ("c", "d"):
        cube = stac2cube.open_cube(archive.cube(archive.tiles[name], "layers"), decode=False, chunks=None)
        part = whole.sel(x=cube.x, y=cube.y)
        # Of d only what c, which comes first, does not have.
        inside = slice(None) if name == "c" else slice(4, None)
        for layer in ("B04", "SCL"):
            assert np.array_equal(part[layer].isel(x=inside).values, cube[layer].isel(x=inside).values), (name, layer)


def test_tiles_of_the_other_zone_come_by_the_nearest_pixel(folder: Path) -> None:
    archive = read_archive(folder / "made")
    whole = stac2cube.open_archive(folder / "made", decode=False, crs="EPSG:32633", time="2023")
    cube = stac2cube.open_cube(archive.cube(archive.tiles["a"], "layers"), decode=False, chunks=None)
    rows, columns = np.meshgrid(np.arange(20, 50, 7), np.arange(10, 40, 7), indexing="ij")
    x, y = cube.x.values[columns.ravel()], cube.y.values[rows.ravel()]
    there = Transformer.from_crs(32632, 32633, always_xy=True).transform(x, y)
    points = {"x": xr.DataArray(there[0], dims="p"), "y": xr.DataArray(there[1], dims="p")}
    found = whole["B04"].isel(time=0).sel(points, method="nearest").values
    block = cube["B04"].isel(time=0).values
    near = [
        block[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].ravel()
        for r, c in zip(rows.ravel(), columns.ravel(), strict=True)
    ]
    assert (found > 0).all()
    assert all(value in options for value, options in zip(found, near, strict=True))


def test_windows_pickles_and_steps_of_the_dataset_are_the_same_pixels(folder: Path) -> None:
    whole = stac2cube.open_archive(folder / "made", decode=False)
    plain = whole["SCL"].values
    assert (plain > 0).any()
    assert np.array_equal(whole["SCL"][1, 5:40:3, [2, 9, 30]].values, plain[1, 5:40:3][:, [2, 9, 30]])
    assert np.array_equal(pickle.loads(pickle.dumps(whole))["SCL"][0].values, plain[0])
    lazy = stac2cube.open_archive(folder / "made", decode=False, chunks={"time": 1, "y": 64, "x": 64})
    assert np.array_equal(lazy["SCL"].values, plain)
    decoded = stac2cube.open_archive(folder / "made", bands=["B04"], time="2023", aoi=[11.99, 47.492, 12.004, 47.495])
    assert list(decoded.data_vars) == ["B04"]
    assert 0 < float(decoded["B04"].mean()) < 1
    require_stored_as_it_is(decoded, folder)


def test_what_is_not_there_is_refused(folder: Path) -> None:
    for words in ({"product": "nonsense"}, {"tiles": ["z"]}, {"bands": ["B99"]}, {"aoi": [1, 1, 2, 2]}):
        with pytest.raises(BadInputError):
            stac2cube.open_archive(folder / "made", **words)
    with pytest.raises(BadInputError, match="no archive"):
        stac2cube.open_archive(folder / "source")


def test_a_function_is_called_for_each_tile(folder: Path) -> None:
    found = stac2cube.map_tiles(folder / "made", lambda cube: cube.sizes["time"])
    assert found == dict.fromkeys("abcd", 2)


def test_a_moved_archive_is_the_same(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder / "made", moved)
    before, after = archive_status(folder / "made"), archive_status(moved)
    assert (after.done, after.files, after.steps) == (before.done, before.files, before.steps)
    # Copied files have their times; those of a copy without them only make the table be read anew.
    for root in moved.glob("*/*.zarr/zarr.json"):
        root.touch()
    one, other = (stac2cube.open_archive(path, decode=False) for path in (folder / "made", moved))
    assert one.identical(other) or np.array_equal(one["SCL"].values, other["SCL"].values)
    shutil.copy(folder / "recipe.yaml", tmp_path)
    text = (folder / "recipe.yaml").read_text().replace("cubes: made", f"cubes: {moved}")
    (folder / "moved.yaml").write_text(text)
    assert "0 tiles made, 4 were complete" in command("run", folder / "moved.yaml", "-q").output


def test_status_is_one_screen(folder: Path) -> None:
    said = command("status", folder / "recipe.yaml").output.splitlines()
    assert len(said) < 24
    assert any(line.startswith("tiles") and "4 of 4 done, 0 behind, 0 failed" in line for line in said)
    found = json.loads(command("status", folder / "made", "--json").output)
    assert found["steps"] == {"layers": 8, "clouds": 8}
    assert found["files"] > 40
    assert found["pace"] > 0
    assert found["left"] == 0


def test_the_report_is_one_page_with_a_map(folder: Path, tmp_path: Path) -> None:
    page = Path(command("report", folder / "made", tmp_path / "page.html").output.strip()).read_text()
    assert page.count("<polygon class=") == page.count('class="done" points') == 4
    assert "Steps of layers by month" in page
    assert "<script" not in page
    assert "http" not in page.replace(str(tmp_path), "")


def test_the_live_page_is_drawn_anew_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "made"
    shutil.copytree(folder / "made", moved)
    before = {path: path.stat().st_mtime_ns for path in moved.rglob("*")}
    with LivePage(partial(draw_archive, moved)) as page:
        with urllib.request.urlopen(page.url, timeout=60) as answer:
            assert answer.headers["Refresh"]
            assert "script-src 'none'" in answer.headers["Content-Security-Policy"]
            first = answer.read().decode()
        assert first.count('class="done" points') == 4
        assert {path: path.stat().st_mtime_ns for path in moved.rglob("*")} == before
        (moved / "b" / "state.json").unlink()
        with urllib.request.urlopen(page.url, timeout=60) as answer:
            second = answer.read().decode()
        assert (second.count('class="done" points'), second.count('class="behind" points')) == (3, 1)
        for wrong in (page.url.replace(page.url.split("/")[3], "guess"), page.url + "area"):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(wrong, timeout=60)
        question = urllib.request.Request(page.url + "write", b"{}", {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(question, timeout=60)
        shutil.rmtree(moved)
        with pytest.raises(urllib.error.HTTPError, match="422"):
            urllib.request.urlopen(page.url, timeout=60)


def test_a_fault_of_one_tile_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("aoi: area", f"aoi: {folder}/area").replace("path: t", f"path: {folder}/t"))
    recipe.write_text(recipe.read_text().replace("source/", f"{folder}/source/"))
    broken = tmp_path / "made" / "b" / "layers.zarr"
    broken.parent.mkdir(parents=True)
    broken.write_text("no cube")
    lock = CubeLock(tmp_path / "made" / "c", inside=".lock")
    (tmp_path / "made" / "c").mkdir()
    with lock:
        done = command("run", recipe, "-q", code=2)
    assert "2 tiles made" in done.output
    assert "1 failed, 1 held by others" in done.output
    status = archive_status(tmp_path / "made")
    assert (status.failed, status.behind, status.done) == (("b",), ("c",), 2)
    assert [one.tiles for one in status.failures] == [("b",)]
    assert "reason" in command("status", recipe).output
    broken.unlink()
    assert "2 tiles made, 2 were complete" in command("run", recipe, "-q").output
    assert archive_status(tmp_path / "made").done == 4


@pytest.mark.parametrize(
    "content",
    [
        '{"code": 0, "steps": 5}',
        '{"code": "x"}',
        '{"code": 0, "updated": "yesterday", "run": "r"}',
        "[]",
        "{",
        '{"no": 1}',
    ],
)
def test_a_state_that_somebody_edited_is_none(folder: Path, tmp_path: Path, content: str) -> None:
    moved = tmp_path / "made"
    shutil.copytree(folder / "made", moved)
    (moved / "a" / "state.json").write_text(content)
    assert archive_status(moved).behind == ("a",)
    assert "1 behind" in command("status", moved).output


def test_other_bands_are_refused_before_a_tile_is_begun(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "made").rglob("*")}
    done = CliRunner().invoke(cli, ["run", str(folder / "recipe.yaml"), "--set", "layers.bands=[red, nir, scl]"])
    assert isinstance(done.exception, BadInputError)
    assert "have the bands B04, SCL, the recipe asks for B04, B08, SCL" in str(done.exception)
    # One shard per step and band; the steps of the tiles are those that are stored.
    steps = sum(read_root(folder / "made" / name / "layers.zarr").steps for name in "abcd")
    tiles = read_archive(folder / "made").tiles.values()
    pixels = sum(
        read_root(folder / "made" / one.folder / "layers.zarr").steps * one.shape[0] * one.shape[1] for one in tiles
    )
    assert f"For the {steps} steps of its 4 tiles you can" in str(done.exception)
    assert f"archive of B08 alone (at most {steps} files, {2 * pixels / 2**30:.3g} GiB" in str(done.exception)
    assert f"(at most {3 * steps} files, {(2 + 2 + 1) * pixels / 2**30:.3g} GiB" in str(done.exception)
    assert "--set cubes=made-2" in str(done.exception)
    assert {path: path.stat().st_mtime_ns for path in (folder / "made").rglob("*")} == before


def test_a_task_does_not_fail_for_tiles_of_other_tasks() -> None:
    assert ArchiveSummary(made=["a"], held={"b": "job 3"}).exit_code == 2
    assert ArchiveSummary(made=["a"], held={"b": "job 3"}, shared=True).exit_code == 0
    assert ArchiveSummary(failed={"a": "no file"}, held={"b": "job 3"}, shared=True).exit_code == 2


def test_a_requeued_job_takes_other_tiles_first_and_knows_when_it_comes_no_further(tmp_path: Path) -> None:
    """Tile a always fails, and a step of tile c needs more time than the job has."""
    tiles = [
        ArchiveTile(name, name, "EPSG:32632", 10.0, (6e5 + 100 * n, 5e6), (10, 10)) for n, name in enumerate("abc")
    ]
    archive = with_tiles(None, tmp_path / "made", tiles, ("layers",))
    plan = ArchivePlan(archive, "catalog", tuple(TilePlan(tile, "mark", 1, 1, "new") for tile in tiles), ())
    codes = {"a": 2, "b": 0, "c": 10}

    def life(most: int) -> tuple[list[str], ArchiveSummary]:
        tried: list[str] = []
        stop = threading.Event()

        def make(one: TilePlan) -> int:
            tried.append(one.tile.name)
            if len(tried) == most:
                stop.set()
            return codes[one.tile.name]

        return tried, run_archive(plan, make, RunLimits(stop=stop), "the run")

    tried, summary = life(1)
    assert (tried, summary.exit_code, summary.progressed) == (["a"], 10, True)
    tried, summary = life(3)
    assert (tried, summary.exit_code, summary.progressed) == (["b", "c"], 10, True)
    tried, summary = life(3)
    assert (tried, summary.exit_code, summary.progressed) == (["c"], 10, False)
    assert (summary.made, summary.left) == (["b"], ["a"])


def test_a_larger_area_adds_its_tiles_only(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.replace("path: t", f"path: {folder}/t").replace("source/", f"{folder}/source/")
    recipe.write_text(text.replace("clouds: {method: scl}\n", ""))
    for area, tiles in (
        (box(11.993, 47.491, 11.997, 47.497), ["b"]),
        (box(11.993, 47.491, 12.004, 47.497), ["b", "c"]),
    ):
        (tmp_path / "area.geojson").write_text(json.dumps(mapping(area)))
        command("run", recipe, "-q")
        assert sorted(read_archive(tmp_path / "made").tiles) == tiles
    archive = read_archive(tmp_path / "made")
    assert archive.state(archive.tiles["b"]).run != archive.state(archive.tiles["c"]).run


def test_the_tiles_of_the_mission_take_their_own_items_only(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.replace("tiles: {tiling: file, path: tiles.geojson, priority: rank}", "tiles: mgrs")
    text = text.replace("aoi: area", f"aoi: {folder}/area").replace("source/", f"{folder}/source/")
    recipe.write_text(text.replace("clouds: {method: scl}\n", ""))
    planned = command("run", recipe, "-q", "--dry-run").output
    assert not (tmp_path / "made").exists()
    assert "33TTN" in planned
    command("run", recipe, "-q", "--tile", "33TTN")
    archive = read_archive(tmp_path / "made")
    assert sorted(archive.tiles) == ["32TQT", "33TTN"]
    tile = archive.tiles["33TTN"]
    assert tile.shape == (360, 360)
    cube = archive.cube(tile, "layers")
    assert read_root(cube).spec.request["tile"] == "33TTN"
    own = json.loads(command("sync", cube, "--json", "-q").output)
    assert not any(own.values())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("tiles: {tiling: grid, crs: 'EPSG:3035'}", "grid needs edge"),
        ("tiles: {tiling: equi7}", "equi7 needs zone"),
        ("tiles: {tiling: mgrs, edge: 5}", "mgrs does not take edge"),
        ("tiles: {tiling: grid, crs: 'EPSG:3035', edge: 1234}", "no whole number of pixels"),
        ("tiles: {tiling: sinusoidal}", "should be one of mgrs"),
        ("tiles: {edge: 5}", "lacks the word 'tiling'"),
        ("tiles: nowhere.gpkg", "no such file"),
    ],
)
def test_tilings_that_cannot_be_meant_are_refused_before_a_byte(
    folder: Path, tmp_path: Path, words: str, reason: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.replace("tiles: {tiling: file, path: tiles.geojson, priority: rank}", words)
    recipe.write_text(text.replace("aoi: area", f"aoi: {folder}/area").replace("source/", f"{folder}/source/"))
    done = CliRunner().invoke(cli, ["run", str(recipe), "-q"])
    assert isinstance(done.exception, BadInputError)
    assert reason in str(done.exception)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("crs", "edge"), [("EPSG:32633", 10.0), ("EPSG:4326", 1e-4)])
def test_a_mosaic_is_written_as_it_is_opened(folder: Path, tmp_path: Path, crs: str, edge: float) -> None:
    words = {"crs": crs, "resolution": edge, "bands": ["B04"]}
    whole = stac2cube.open_archive(folder / "made", decode=False, **words)
    assert {"time", "y", "x"} <= whole.indexes.keys()
    assert (whole["B04"][0] > 0).any()
    files = stac2cube.export_mosaics(folder / "made", tmp_path, **words)
    assert [file.stem for file in files] == [str(key) for key in whole["scene"].values]
    for place, file in enumerate(files):
        with rasterio.open(file) as written:
            assert np.array_equal(written.read(1), whole["B04"][place].values)
            assert written.crs.to_string() == crs
            assert (written.transform.a, written.transform.e) == (edge, -edge)
            assert written.xy(3, 5) == pytest.approx((whole["x"].values[5], whole["y"].values[3]), abs=1e-9)
            assert (written.scales, written.nodata) == ((0.0001,), 0)


def test_series_of_places_in_one_tile_and_over_several(folder: Path) -> None:
    archive = read_archive(folder / "made")
    cube = stac2cube.open_cube(archive.cube(archive.tiles["a"], "layers"), chunks=None)
    x, y = float(cube.x[30]), float(cube.y[40])
    longitude, latitude = Transformer.from_crs(32632, 4326, always_xy=True).transform(x, y)
    found = stac2cube.archive_series(folder / "made", f"{latitude},{longitude}")
    assert list(found["tile"]) == ["a", "a"]
    assert np.array_equal(found["SCL"], cube["SCL"][:, 40, 30].values)
    assert np.allclose(found["B04"], cube["B04"][:, 40, 30].values, equal_nan=True)
    across = box(12.006, 47.492, 12.010, 47.494)
    table = stac2cube.archive_series(folder / "made", mapping(across), columns=Columns(layers=("B04",)))
    assert list(table["tile"]) == ["c,d", "c,d"]
    whole = stac2cube.open_archive(folder / "made", crs="EPSG:32633", bands=["B04"], aoi=mapping(across))
    # The polygon is nearly the window: the mean over it is nearly that of the window.
    assert table["pixels"][0] > 0.8 * whole["B04"][0].size
    assert np.allclose(table["B04_mean"], whole["B04"].mean(("y", "x")).values, rtol=0.05)
    with pytest.raises(BadInputError, match="in no tile"):
        stac2cube.archive_series(folder / "made", "47.4,11.9")


def test_commands_on_cubes_take_the_archive(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "made"
    shutil.copytree(folder / "made", moved)
    said = command("verify", moved, "-q").output
    assert said.count("no damage found") == 8
    damaged = next((moved / "b" / "layers.zarr" / "B04" / "c").rglob("0"))
    damaged = damaged if damaged.is_file() else next(path for path in damaged.rglob("*") if path.is_file())
    damaged.write_bytes(damaged.read_bytes()[:-7])
    assert command("verify", moved, "-q", code=2).output.count("no damage found") == 7
    command("verify", moved, "-q", "--repair")
    command("tidy", moved)
    command("seal-year", moved, "2023", "-q")
    assert command("rollback", moved, "--before", "2126-01-01").output.count("2 steps") == 8
    assert "the cube did not exist then" in command("rollback", moved, "--before", "1999-01-01", code=1).stderr
    assert not list((moved / ".archive").glob("*.json"))


def test_damaged_and_lost_cubes_are_told_and_stop_nothing(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "made"
    shutil.copytree(folder / "made", moved)
    cut, lost, gone = (moved / name for name in ("b/layers.zarr", "c/layers.zarr", "d/clouds.zarr"))
    (cut / "zarr.json").write_bytes((cut / "zarr.json").read_bytes()[:500])
    (lost / "zarr.json").unlink()
    shutil.rmtree(gone)
    said = command("verify", moved, "-q", "--quick", code=2)
    assert all(f"{cube}: 1 damaged" in said.stdout for cube in (cut, lost))
    assert f"{gone} is lost" in said.stderr
    assert said.stdout.count("no damage found") == 5
    # What a run begins and ends with.
    refresh_door(read_archive(moved))
    assert b"</html>" in draw_archive(moved)
    for cube in (cut, lost):  # what cannot be read is no gap in a mosaic
        with pytest.raises(CubeError, match=cube.parent.name):
            stac2cube.open_archive(moved, "layers")
        command("verify", cube, "-q", "--repair")
    assert stac2cube.open_archive(moved, "layers").sizes["time"] == 2
    (cut / "zarr.json").write_bytes(b"{")
    told = command("status", cut.parent, code=2)
    assert f"{cut.parent / 'clouds.zarr'}" in told.output
    assert f"unreadable       {cut} is not a cube" in told.output
    told = json.loads(command("status", cut.parent, "--json", code=2).output)
    assert ([one["stage"] for one in told["cubes"]], list(told["unreadable"])) == (["clouds"], [str(cut)])


def test_a_collection_follows_its_cube_whatever_the_clock_says(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "made"
    shutil.copytree(folder / "made", moved)
    refresh_door(read_archive(moved))
    kept, old = moved / "a" / "layers.json", moved / "b" / "layers.json"
    before = kept.stat().st_ino
    old.write_text("{}")  # written by a clock that was ahead of the one that the cube was changed by
    refresh_door(read_archive(moved))
    assert json.loads(old.read_text())["id"] == "b-layers"
    assert kept.stat().st_ino == before


def test_an_archive_is_published_cube_by_cube(folder: Path, tmp_path: Path) -> None:
    moved, out = tmp_path / "made", tmp_path / "stac"
    shutil.copytree(folder / "made", moved)
    damaged = moved / "b" / "clouds.zarr" / "zarr.json"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"{")
    words = ("publish", moved, out, "--href", "https://data.example/made", "--address", "https://data.example/stac")
    assert command(*words, code=1).output.count(": 2 items") == 7
    damaged.write_bytes(whole)
    assert command(*words).output.count(": 2 items") == 8
    catalog = pystac.Catalog.from_file(str(out / "catalog.json"))
    children = {child.id: child for child in catalog.get_children()}
    assert sorted(children) == [f"{tile}-{product}" for tile in "abcd" for product in ("clouds", "layers")]
    for name, child in children.items():
        tile, _, product = name.partition("-")
        assert child.assets["cube"].href == f"https://data.example/made/{tile}/{product}.zarr"
        items = list(child.get_items())
        assert len(items) == 2
        assert {item.collection_id for item in items} == {name}
        assert (out / tile / product / "collection.json").is_file()
    assert not list((moved / ".archive").glob("_publish-*.json"))


def test_what_was_rolled_back_is_made_again(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.replace("path: t", f"path: {folder}/t").replace("source/", f"{folder}/source/")
    recipe.write_text(text.replace("aoi: area", f"aoi: {folder}/area"))
    cube = tmp_path / "made" / "b" / "layers.zarr"
    command("run", recipe, "-q", "--tile", "b", "--set", "layers.time=2023-01-01/2023-06-30")
    assert read_root(cube).steps == 1
    command("run", recipe, "-q", "--tile", "b")
    assert read_root(cube).steps == 2
    command("rollback", cube, "1")
    assert "changed" in command("run", recipe, "-q", "--tile", "b", "--dry-run").output
    assert "1 tiles made, 0 were complete" in command("run", recipe, "-q", "--tile", "b").output
    assert differences(cube, folder / "made" / "b" / "layers.zarr") == []


def test_a_command_that_was_stopped_goes_on_but_not_for_ever(folder: Path) -> None:
    archive = read_archive(folder / "made")
    journal = Journal.of(archive, "verify", {"quick": "True"})
    journal.add("a/layers", 2)
    again = Journal.of(archive, "verify", {"quick": "True"})
    assert again.has("a/layers")
    assert not Journal.of(archive, "verify", {"quick": "False"}).has("a/layers")
    assert again.close() == 2
    journal.add("b/layers", 0)
    os.utime(journal.path, (0, 0))
    assert not Journal.of(archive, "verify", {"quick": "True"}).has("b/layers")
    assert not journal.path.exists()


def test_killed_in_the_midst_it_ends_as_if_nothing_had_been(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.replace("path: t", f"path: {folder}/t").replace("source/", f"{folder}/source/")
    recipe.write_text(text.replace("aoi: area", f"aoi: {folder}/area"))
    words = [sys.executable, "-m", "stac2cube", "run", str(recipe), "-q", "--tile", "b", "--tile", "c"]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waited((tmp_path / "made" / "c" / "layers.zarr").exists, 120)
    running.kill()
    running.wait()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    one, other = read_archive(folder / "made"), read_archive(tmp_path / "made")
    for tile, product, cube in other.cubes():
        assert differences(cube, one.cube(tile, product)) == [], (tile.name, product)
    assert len(list(other.cubes())) == 4


def waited(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_budget_is_read_and_reached() -> None:
    assert Budget.parse("files=10, bytes=1KiB,core-hours=0.5") == Budget(files=10, size=1024, core_hours=0.5)
    for wrong in ("files", "files=x", "files=0", "rows=3", "core-hours=nan"):
        with pytest.raises(BadInputError):
            Budget.parse(wrong)
