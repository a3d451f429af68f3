"""Tables in other people's tools: series, and the ledger of a cube."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from pyproj import CRS
from shapely.geometry import box, mapping

import stac2cube
from stac2cube.cli import cli
from stac2cube.export.series import Columns, series, write_series
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.readers import scripts
from tests.views.cubes import make_cube

ON_DEBIAN = Path(__file__).parents[1] / "on-debian"

POINT = json.dumps({"type": "Point", "coordinates": [9.00447, 47.84961]})

POLARS = """
import json, sys
from pathlib import Path
import polars as pl
cube, folder = map(Path, sys.argv[1:])
parquet = pl.read_parquet(folder / "a.parquet")
table = pl.read_csv(folder / "a.csv", try_parse_dates=True)
parts = sorted(cube.glob(".stac2cube/ledger/*.parquet"))
ledger = pl.concat([pl.read_parquet(part).select("id", "datetime") for part in parts])
print(json.dumps({
    "zones": [str(column.dtype.time_zone) for column in (parquet["time"], table["time"], ledger["datetime"])],
    "times": [int(frame["time"].dt.epoch("us")[0]) for frame in (parquet, table)],
    "values": [float(frame["B04"][0]) for frame in (parquet, table)],
    "ids": ledger["id"].to_list(),
}))
"""


PLACES = json.dumps(
    {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {"name": name}, "geometry": mapping(shape)}
            for name, shape in (("a", box(9.001, 47.848, 9.003, 47.85)), ("b", box(9.004, 47.847, 9.007, 47.852)))
        ],
    }
)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cube(tmp_path_factory.mktemp("tables") / "layers.zarr")


def test_the_ledger_opens_in_duckdb(cube: Path) -> None:
    ledger = f"read_parquet('{cube}/.stac2cube/ledger/*.parquet', union_by_name = true)"
    rows = duckdb.sql(f"select id, datetime at time zone 'UTC', bbox.xmin from {ledger} order by datetime").fetchall()
    opened = stac2cube.open_cube(cube)
    assert [row[0] for row in rows] == list(opened.scene.values)
    assert [pd.Timestamp(row[1]) for row in rows] == list(opened.time.values)
    assert all(8 < row[2] < 10 for row in rows)


@pytest.mark.soak
def test_polars_reads_series_and_ledger(cube: Path, tmp_path: Path) -> None:
    for name in ("a.parquet", "a.csv"):
        write_series(cube, POINT, tmp_path / name, columns=Columns(("B04",)))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", "polars==2.1.0"], check=True)
    words = [tmp_path / "venv/bin/python", "-c", POLARS, cube, tmp_path]
    said = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    first = series(cube, POINT, columns=Columns(("B04",))).iloc[0]
    assert said["zones"] == ["UTC"] * 3
    assert said["times"] == [pd.Timestamp(first["time"], tz="UTC").value // 1000] * 2
    assert said["values"] == pytest.approx([first["B04"]] * 2, rel=1e-6)
    assert sorted(said["ids"]) == sorted(stac2cube.open_cube(cube).scene.values)


ASKED = {"points": "B04", "polygons": "B04_mean", "sample": "B04_mean", "ledger": "", "index": ""}
"""Tables, and a column of numbers of theirs."""


def make_tables(cube: Path, folder: Path) -> list[list[str]]:
    """The tables of :data:`ASKED` in a folder; path and column of each."""
    for name, place in (("points", POINT), ("polygons", PLACES)):
        write_series(cube, place, folder / f"{name}.parquet", columns=Columns(("B04",)))
    archive = simulate(folder / "archive", ArchiveSpec(years=(2024,), dates_per_year=4, tile_px=96))
    (folder / "area.json").write_text(json.dumps(archive.area()))
    catalog, area = archive.catalog("earth-search"), folder / "area.json"
    words = ["--mission", "sentinel-2-l2a", "--aoi", area, "--time", "2024", "--catalog", catalog]
    for command in (
        ["index", "create", folder / "index", *words, "--bands", "B04", "-q"],
        ["index", "export", folder / "index", folder / "index.parquet"],
        ["sample", folder / "index", area, folder / "sample.parquet", "--bands", "B04", "-q"],
    ):
        assert not cli.main([str(word) for word in command], standalone_mode=False), command
    (ledger,) = cube.glob(".stac2cube/ledger/*.parquet")
    (folder / "ledger.parquet").write_bytes(ledger.read_bytes())
    return [[str(folder / f"{name}.parquet"), column] for name, column in ASKED.items()]


def times_of(table: gpd.GeoDataFrame) -> pd.Series:
    return table["time" if "time" in table else "datetime"]


def require_shown(folder: Path, shown: list[tuple[str, list[list[Any]]]]) -> None:
    """What a tool shows of the tables, each its CRS and rows of time, place and value, is what geopandas reads."""
    for (name, column), (crs, rows) in zip(ASKED.items(), shown, strict=True):
        truth = gpd.read_parquet(folder / f"{name}.parquet")
        assert len(truth), name
        centres = [(shape.centroid.x, shape.centroid.y) for shape in truth.geometry]
        assert CRS.from_user_input(crs).equals(truth.crs, ignore_axis_order=True), name
        assert [pd.Timestamp(row[0]) for row in rows] == [time.floor("ms") for time in times_of(truth)], name
        np.testing.assert_allclose([row[1:3] for row in rows], centres, rtol=1e-9, err_msg=name)
        if column:
            found = np.array([row[3] for row in rows], "float64")
            np.testing.assert_allclose(found, truth[column], rtol=1e-6, err_msg=name)


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_gdal_and_r_read_series_ledgers_samples_and_indexes(cube: Path, tmp_path: Path) -> None:
    """Those of Debian's next release: GDAL, which reads Parquet by duckdb there, and R's arrow."""
    (tmp_path / "jobs.json").write_text(json.dumps(make_tables(cube, tmp_path)))
    for file, script in (("ask.py", scripts.TABLES_OF_GDAL), ("ask.R", scripts.ARROW_OF_R)):
        (tmp_path / file).write_text(script)
    command = f"cd {tmp_path} && python3 ask.py jobs.json && Rscript ask.R jobs.json"
    # GDAL loads libduckdb.so by that name, which is in the development package.
    packages = "python3-gdal,libduckdb-dev,r-cran-arrow,r-cran-jsonlite"
    words = ["forky", f"--packages={packages}", f"--lend={tmp_path}", f"--run={command}"]
    done = subprocess.run([ON_DEBIAN, *words], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    of_gdal, of_r = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("[["))
    require_shown(tmp_path, of_gdal)
    for (name, column), (seconds, values) in zip(ASKED.items(), of_r, strict=True):
        truth = gpd.read_parquet(tmp_path / f"{name}.parquet")
        times = times_of(truth).astype("datetime64[ns, UTC]")
        assert seconds == [f"{time.value // 1000 / 1e6:.6f}" for time in times], name
        if column:
            np.testing.assert_allclose(np.array(values, "float64"), truth[column], rtol=1e-6, err_msg=name)
