"""Tables in other people's tools: series, and the ledger of a cube."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_gdal_qgis_and_r_read_series_ledgers_samples_and_indexes(cube: Path, tmp_path: Path) -> None:
    """Those of Debian's next release: GDAL, which reads Parquet by duckdb there, QGIS with it, and R's arrow."""
    for name, place in (("points", POINT), ("polygons", PLACES)):
        write_series(cube, place, tmp_path / f"{name}.parquet", columns=Columns(("B04",)))
    archive = simulate(tmp_path / "archive", ArchiveSpec(years=(2024,), dates_per_year=4, tile_px=96))
    (tmp_path / "area.json").write_text(json.dumps(archive.area()))
    catalog, area = archive.catalog("earth-search"), tmp_path / "area.json"
    words = ["--mission", "sentinel-2-l2a", "--aoi", area, "--time", "2024", "--catalog", catalog]
    for command in (
        ["index", "create", tmp_path / "index", *words, "--bands", "B04", "-q"],
        ["index", "export", tmp_path / "index", tmp_path / "index.parquet"],
        ["sample", tmp_path / "index", area, tmp_path / "sample.parquet", "--bands", "B04", "-q"],
    ):
        assert not cli.main([str(word) for word in command], standalone_mode=False), command
    (ledger,) = cube.glob(".stac2cube/ledger/*.parquet")
    (tmp_path / "ledger.parquet").write_bytes(ledger.read_bytes())
    asked = {"points": "B04", "polygons": "B04_mean", "sample": "B04_mean", "ledger": "", "index": ""}
    jobs = [[str(tmp_path / f"{name}.parquet"), column] for name, column in asked.items()]
    tools = {"gdal.py": scripts.TABLES_OF_GDAL, "qgis.py": scripts.TABLES_OF_QGIS, "arrow.R": scripts.ARROW_OF_R}
    for file, script in tools.items():
        (tmp_path / f"ask_{file}").write_text(script)
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    asking = "python3 ask_gdal.py jobs.json && python3 ask_qgis.py jobs.json && Rscript ask_arrow.R jobs.json"
    command = f"export QT_QPA_PLATFORM=offscreen; cd {tmp_path} && {asking}"
    # GDAL loads libduckdb.so by that name, which is in the development package.
    packages = "python3-gdal,python3-qgis,qgis-providers,libduckdb-dev,r-cran-arrow,r-cran-jsonlite"
    words = ["forky", f"--packages={packages}", f"--lend={tmp_path}", f"--run={command}"]
    done = subprocess.run([ON_DEBIAN, *words], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    of_gdal, of_qgis, of_r = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("[["))
    for (name, column), *shown, (seconds, values) in zip(asked.items(), of_gdal, of_qgis, of_r, strict=True):
        truth = gpd.read_parquet(tmp_path / f"{name}.parquet")
        assert len(truth), name
        times = truth["time" if "time" in truth else "datetime"]
        centres = [(shape.centroid.x, shape.centroid.y) for shape in truth.geometry]
        for crs, rows in shown:
            assert CRS.from_user_input(crs).equals(truth.crs, ignore_axis_order=True), name
            assert [pd.Timestamp(row[0]) for row in rows] == [time.floor("ms") for time in times]
            np.testing.assert_allclose([row[1:3] for row in rows], centres, rtol=1e-9, err_msg=name)
        assert seconds == [f"{time.value // 1000 / 1e6:.6f}" for time in times.astype("datetime64[ns, UTC]")], name
        for found in (*([row[3] for row in rows] for _, rows in shown), values) if column else ():
            np.testing.assert_allclose(np.array(found, "float64"), truth[column], rtol=1e-6, err_msg=name)
