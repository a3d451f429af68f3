"""The command line as people and scripts meet it: words, exit codes, logs, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import rasterio

from stac2cube.cli import as_typed
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import open_cube
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    spec = ArchiveSpec(years=(2022, 2023), dates_per_year=3, tile_px=120, faults=True)
    return simulate(tmp_path_factory.mktemp("archive"), spec)


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stac2cube", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, **options)


@pytest.fixture(scope="module")
def area(archive: Archive) -> Path:
    path = archive.root / "area.geojson"
    path.write_text(json.dumps(archive.area()))
    return path


@pytest.fixture(scope="module")
def cube(archive: Archive, area: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "layers.zarr"
    done = run(*layers(archive, area, out, "2022"))
    assert done.returncode == 0, done.stderr
    assert "3 steps sealed" in done.stdout
    assert "sealed 3 steps of layers.zarr, commit 1" in done.stderr
    assert "\r" not in done.stderr
    assert "blocks 3/3 (100 %)" in done.stderr
    return out


def layers(archive: Archive, area: Path, out: Path, when: str, *more: str) -> list[object]:
    words = ["--mission", "sentinel-2-l2a", "--aoi", area, "--catalog", archive.catalog("earth-search"), "--time", when]
    return ["layers", out, *words, *more]


def test_a_dry_run_writes_nothing(archive: Archive, area: Path, tmp_path: Path) -> None:
    done = run(*layers(archive, area, tmp_path / "a.zarr", "2022", "--dry-run"))
    assert done.returncode == 0
    assert "3 to build" in done.stdout
    assert "33 files" in done.stdout
    assert re.search(r"EPSG:32632, \d+ x \d+ pixels of 10 m, 11 layers", done.stdout)
    machine = run(*layers(archive, area, tmp_path / "a.zarr", "2022", "--dry-run", "--json"))
    assert len(json.loads(machine.stdout)["todo"]) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_failed_step_is_exit_code_2_and_named(archive: Archive, area: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    done = run(*layers(archive, area, out, "2023"))
    assert done.returncode == 2
    assert "1 failed" in done.stdout
    assert "cannot be read" in done.stdout
    status = json.loads(run("status", out, "--json").stdout)
    assert len(status["failed"]) == 1
    assert status["steps"] >= 1
    assert "1 to build" in run("plan", out, "--update").stdout


def test_update_history_and_status(cube: Path) -> None:
    done = run("update", cube, "--time", "2023-01/2023-06", "--json")
    assert done.returncode == 0, done.stderr
    steps = len(open_cube(cube)["time"])
    summary = json.loads(done.stdout)
    assert summary["cube"] == str(cube)
    assert len(summary["sealed"]) == steps - 3
    assert summary["failed"] == {}
    assert steps > 3
    assert run("update", cube).returncode in (0, 2)
    commits = json.loads(run("history", cube, "--json").stdout)
    assert [commit["number"] for commit in commits] == list(range(1, len(commits) + 1))
    assert commits[0]["changed"] == {"sealed": 3}
    assert f"steps            {steps}" in run("status", cube).stdout


def test_what_is_known_is_json_for_programs() -> None:
    def told(*words: str) -> Any:
        return json.loads(run(*words, "--json").stdout, parse_constant=pytest.fail)

    missions = {one["name"]: one for one in told("missions")}
    bands = {band["name"]: band for band in missions["sentinel-2-l2a"]["bands"]}
    assert bands["B04"] | {"common_name": "red", "gsd": 10, "dtype": "uint16", "scale": 1e-4} == bands["B04"]
    assert missions["sentinel-1-rtc"]["bands"][0]["fill"] is None
    assert told("missions", "landsat-c2-l2")[0] == missions["landsat-c2-l2"]
    assert [one["name"] for one in told("catalogs", "terrabyte")] == ["terrabyte"]
    assert told("indices", "ndvi")["formula"] == "(N-R)/(N+R)"


def test_a_step_as_geotiff(cube: Path, tmp_path: Path) -> None:
    dataset = open_cube(cube, decode=False)
    key = str(dataset["scene"].values[0])
    done = run("export", cube, tmp_path / "a.tif", "--step", key)
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.descriptions == tuple(dataset.data_vars)
        assert file.nodata == 0
        assert file.scales[0] == 1e-4
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (file.read(1) == dataset[file.descriptions[0]][0].values).all()
    assert run("export", cube, tmp_path / "b.tif", "--step", "1999-01-01").returncode == 1
    assert not (tmp_path / "b.tif").exists()


def test_pictures_and_a_report(cube: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.gif"):
        assert run("quicklook", cube, tmp_path / name).returncode == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF8")
    assert run("report", cube, tmp_path / "a.html").returncode == 0
    page = (tmp_path / "a.html").read_text()
    assert "sentinel-2a_R065" in page
    assert "data:image/jpeg;base64," in page
    assert run("report", cube).stdout.strip() == str(cube.parent / "report.html")
    figures = json.loads(run("report", cube, "--json").stdout)
    assert [one["steps"] for one in figures] == [len(open_cube(cube).time)]
    assert run("report", tmp_path / "a.html").returncode == 1
    assert run("report", cube, tmp_path / "a.html", "--json").returncode == 1
    assert run("quicklook", cube, tmp_path / "a.bmp").returncode == 1


NOBODY = ["--catalog", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["layers"], "Missing argument"),
        (["nonsense"], "No such command"),
        (["layers", "x.zarr", "--mission", "sentinel-9", "--aoi", "0,0,1,1", "--time", "2023"], "unknown mission"),
        (["layers", "x.zarr", "--time", "2023"], "say also mission, aoi"),
        (["layers", "x.zarr", "--mission", "sentinel-2-l2a", "--aoi", "no.geojson", "--time", "2023"], "no.geojson"),
        (["layers", "x.zarr", "--mission", "sentinel-2-l2a", "--aoi", "48,11", "--time", "2023"], "edge"),
        (["update", "x.zarr", "--time", "2023"], "does not exist"),
        (["status", "x.zarr"], "not a cube"),
        (["missions", "sentinel-9"], "unknown mission"),
        (["catalogs", "nowhere"], "unknown catalog"),
        (
            [*["layers", "x.zarr", "--mission", "sentinel-2-l2a", "--aoi", "11,48,12,49", "--time", "2023"], *NOBODY],
            "does not answer",
        ),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_exit_code_1(words: list[str], message: str, tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said", "typed"),
    [
        (["sample", "a", "b"], "say mission= too: only an index tells it", "say --mission too: only an index tells it"),
        (["composite", "--by", "x"], "by= goes with method='best' and", "--by goes with --method best and"),
        (["index", "create", "a"], "say mission=, too", "say --mission, too"),
        (["status", "a"], "say mission= too", "say mission= too"),
        (["layers"], "bands={'N': ...} and time=2023", "bands={'N': ...} and time=2023"),
    ],
)
def test_errors_speak_the_words_that_were_typed(words: list[str], said: str, typed: str) -> None:
    assert as_typed(said, words) == typed


def test_one_cube_per_feature(archive: Archive, tmp_path: Path) -> None:
    ring = archive.area()["coordinates"][0]
    west, south = min(x for x, _ in ring), min(y for _, y in ring)
    squares = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [
                        [west + dx + u * 0.002, south + 0.002 + v * 0.002]
                        for u, v in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
                    ]
                ],
            },
        }
        for name, dx in (("mill", 0.001), ("lake", 0.005))
    ]
    fields = tmp_path / "fields.geojson"
    fields.write_text(json.dumps({"type": "FeatureCollection", "features": squares}))
    done = run(*layers(archive, fields, tmp_path / "cubes", "2022", "--per-feature", "--bands", "red,scl"))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "cubes").glob("*.zarr")) == ["lake.zarr", "mill.zarr"]


def test_sigterm_seals_what_is_finished(archive: Archive, area: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    command = [sys.executable, "-c", _SLOW, *map(str, layers(archive, area, out, "2022", "--workers", "1"))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for((out / "B02").exists, "the first layer of the cube")
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    out_text, _ = process.communicate(timeout=900)
    assert process.returncode == 10
    assert "run the same command again to continue" in out_text
    assert read_root(out).steps < 3
    assert not (out / ".stac2cube/staging").exists()
    assert run(*layers(archive, area, out, "2022")).returncode == 0
    assert read_root(out).steps == 3


_SLOW = """
import time, sys
import stac2cube.stages.layers as reading
quick = reading.read_block
reading.read_block = lambda *a, **k: (time.sleep(1), quick(*a, **k))[1]
sys.argv[0] = "stac2cube"
from stac2cube.cli import main
main()
"""


def test_the_lock_can_be_looked_at_and_removed(cube: Path) -> None:
    from stac2cube.store.lock import CubeLock

    with CubeLock(cube):
        assert f"process {os.getpid()}" in run("status", cube).stdout
        refused = run("unlock", cube)
        assert refused.returncode == 1
        assert "--force" in refused.stderr
        assert run("unlock", cube, "--force").returncode == 0
    assert "not locked" in run("unlock", cube).stdout
