"""Tables in other people's tools: series, and the ledger of a cube."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

import stac2cube
from stac2cube.export.series import Columns, series, write_series
from tests.views.cubes import make_cube

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
