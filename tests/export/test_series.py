"""Points and polygons through time, read back with pandas."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
from odc.geo.geom import Geometry
from pyproj import Transformer
from rasterio.features import geometry_mask
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box, mapping
from shapely.geometry.base import BaseGeometry

from stac2cube.cli import cli
from stac2cube.errors import BadInputError
from stac2cube.export.series import Columns, locations_on, series, series_of, write_series
from stac2cube.model.grid import Grid
from stac2cube.views.options import Hiding, TimeSelection
from tests.views.cubes import DATES, GRID, classes, key, make_cube, truth

TRIANGLE = Polygon([(500_055, 5_299_950), (500_605, 5_299_800), (500_205, 5_299_350)])
CENTRE = Point(500_000 + 10 * 33 + 5, 5_300_000 - 10 * 41 - 5)
FAR = Point(500_000 + 10 * 3 + 5, 5_300_000 - 10 * 88 - 5)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cube(tmp_path_factory.mktemp("series") / "layers.zarr")


def collection(**shapes: BaseGeometry) -> str:
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": mapping(_degrees(shape))}
        for name, shape in shapes.items()
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def _degrees(shape: BaseGeometry) -> BaseGeometry:
    return Geometry(shape, "EPSG:32632").to_crs("EPSG:4326").geom


WIDE = Grid("EPSG:32632", 100.0, (400_000.0, 5_380_000.0), (800, 2000))
ACROSS = Grid("EPSG:4326", 0.01, (179.0, -16.0), (100, 200))


def test_long_edges_in_degrees_are_curves_on_a_map() -> None:
    inside = locations_on(WIDE, "8,48,10,48.5")[0].inside
    assert inside is not None
    easting = WIDE.origin[0] + WIDE.resolution * (np.arange(WIDE.shape[1]) + 0.5)
    northing = WIDE.origin[1] - WIDE.resolution * (np.arange(WIDE.shape[0]) + 0.5)
    to_degrees = Transformer.from_crs(WIDE.crs, "EPSG:4326", always_xy=True)
    longitude, latitude = to_degrees.transform(*np.meshgrid(easting, northing))
    truth = (longitude > 8) & (longitude < 10) & (latitude > 48) & (latitude < 48.5)
    assert abs(int(inside.sum()) - int(truth.sum())) < 20, "straight lines would miss some 16,000"
    assert inside.shape[0] >= np.flatnonzero(truth.any(axis=1)).size


@pytest.mark.parametrize(
    ("given", "pixels"),
    [
        ("179.5,-16.9,-179.5,-16.1", 8000),
        ("-179.9,-16.9,-179.5,-16.1", 3200),
        ("180.1,-16.9,180.5,-16.1", 3200),
        (mapping(Polygon([(179.5, -16.9), (-179.5, -16.9), (-179.5, -16.1), (179.5, -16.1)])), 8000),
        (mapping(MultiPolygon([box(179.5, -16.9, 180, -16.1), box(-180, -16.9, -179.5, -16.1)])), 8000),
    ],
)
def test_polygons_on_a_grid_in_degrees_that_crosses_the_antimeridian(given: object, pixels: int) -> None:
    (place,) = locations_on(ACROSS, given)
    assert place.inside is not None
    assert int(place.inside.sum()) == pixels
    (point,) = locations_on(ACROSS, mapping(Point(-179.805, -16.505)))
    assert (point.rows.start, point.columns.start) == (50, 119)


def test_a_layer_of_times_is_days(tmp_path: Path) -> None:
    days = np.array([[["2023-01-05", "2023-01-07"], ["NaT", "2023-01-09"]]], "datetime64[us]")
    grid = Grid("EPSG:32632", 10.0, (500_000.0, 5_300_000.0), (2, 2))
    axes = {"time": np.array(["2023-01-01"], "datetime64[us]"), "scene": ("time", ["20230101_month"])}
    axes |= {"y": [5_299_995.0, 5_299_985.0], "x": [500_005.0, 500_015.0]}
    dataset = xr.Dataset({"observed": (("time", "y", "x"), days)}, axes)
    square = mapping(_degrees(box(500_001, 5_299_981, 500_019, 5_299_999)))
    (row,) = series_of(dataset, grid, square, Columns(statistics=("min", "median", "max"))).to_dict("records")
    first = (np.datetime64("2023-01-05") - np.datetime64("1970-01-01")).astype(int)
    assert (row["pixels"], row["valid"]) == (4, 3)
    assert [row[f"observed_{what}"] for what in ("min", "median", "max")] == [first, first + 2, first + 4]


def test_points_in_csv_are_the_pixels_they_lie_in(cube: Path, tmp_path: Path) -> None:
    (tmp_path / "points.geojson").write_text(collection(middle=CENTRE, corner=FAR))
    words = [
        "series",
        str(cube),
        str(tmp_path / "points.geojson"),
        str(tmp_path / "out.csv"),
        "--indices",
        "ndvi",
        "-q",
    ]
    assert cli.main(words, standalone_mode=False) is None
    table = pd.read_csv(tmp_path / "out.csv", parse_dates=["time"])
    assert list(table["name"]) == ["middle"] * 7 + ["corner"] * 7
    assert list(table["scene"][:7]) == [key(step) for step in range(7)]
    assert [str(time)[:10] for time in table["time"][7:]] == list(DATES)
    for start, (row, column) in ((0, (41, 33)), (7, (88, 3))):
        for step in range(7):
            found = table.iloc[start + step]
            for band in ("B02", "B04", "B08"):
                np.testing.assert_allclose(found[band], truth(band, step)[row, column], atol=1e-7)
            assert found["SCL"] == classes(step)[row, column]
            red, nir = truth("B04", step)[row, column], truth("B08", step)[row, column]
            np.testing.assert_allclose(found["NDVI"], (nir - red) / (nir + red), atol=1e-5)


def test_polygons_in_parquet_are_statistics_of_what_lies_within(cube: Path, tmp_path: Path) -> None:
    columns = Columns(("B08", "SCL"), (), ("mean", "median", "std", "min", "max"))
    places = collection(field=TRIANGLE, square=box(500_100, 5_299_700, 500_120, 5_299_720))
    write_series(cube, places, tmp_path / "out.parquet", columns=columns, hiding=Hiding("clouds_snow"))
    table = pd.read_parquet(tmp_path / "out.parquet")
    inside = geometry_mask([TRIANGLE], GRID.shape, GRID.geobox.transform, invert=True)
    for step in range(7):
        row = table.iloc[step]
        hidden = np.isin(classes(step), [0, 3, 8, 9, 10, 11])
        values = truth("B08", step)[inside & ~hidden]
        values = values[np.isfinite(values)]
        assert row["pixels"] == inside.sum()
        assert row["valid"] == len(values)
        for name in ("mean", "median", "std", "min", "max"):
            np.testing.assert_allclose(row[f"B08_{name}"], getattr(np, name)(values), rtol=1e-5)
        counted = np.bincount(classes(step)[inside])
        assert counted[0] == counted.max(), "most pixels have no data, which is no class"
        assert row["SCL"] == counted[1:].argmax() + 1
    assert (table["pixels"][7:] == 4).all()
    assert table["time"].dtype.kind == "M"


def test_tables_say_their_times_units_and_places(cube: Path, tmp_path: Path) -> None:
    """Read by pandas, geopandas, pyarrow and duckdb."""
    write_series(cube, collection(middle=CENTRE), tmp_path / "a.csv", columns=Columns(("B04", "SCL"), ("NDVI",)))
    write_series(cube, collection(middle=CENTRE), tmp_path / "a.parquet", columns=Columns(("B04", "SCL"), ("NDVI",)))
    write_series(cube, collection(field=TRIANGLE), tmp_path / "b.parquet", columns=Columns(("B04",)))
    first = series(cube, collection(middle=CENTRE), columns=Columns(("B04", "SCL"), ("NDVI",))).iloc[0]
    fields = {field.name: field for field in pq.read_schema(tmp_path / "a.parquet")}
    assert str(fields["time"].type) in (
        "timestamp[us, tz=UTC]",
        "timestamp[ns, tz=UTC]",
    )  # pandas before 3 has ns alone
    assert {name: fields[name].metadata[b"units"] for name in ("B04", "NDVI")} == {"B04": b"1", "NDVI": b"1"}
    assert pq.read_schema(tmp_path / "b.parquet").field("B04_mean").metadata[b"units"] == b"1"
    for name, shape in (("a", CENTRE), ("b", TRIANGLE)):
        read = gpd.read_parquet(tmp_path / f"{name}.parquet")
        assert read.crs.to_epsg() == 32632
        assert read.geometry.geom_equals_exact(shape, 1e-6).all()
    frames = [pd.read_parquet(tmp_path / "a.parquet"), pd.read_csv(tmp_path / "a.csv", parse_dates=["time"])]
    for frame in frames:
        assert frame["time"][0] == pd.Timestamp(first["time"], tz="UTC")
        assert frame["B04"][0] == pytest.approx(first["B04"], rel=1e-6)
    words = f"select time at time zone 'UTC', scene, \"B04\" from '{tmp_path}/a.{{}}' order by time limit 1"
    for form in ("parquet", "csv"):
        time, scene, value = duckdb.sql(words.format(form)).fetchall()[0]
        assert (pd.Timestamp(time), scene) == (first["time"], first["scene"])
        assert value == pytest.approx(first["B04"], rel=1e-6)


def test_places_are_told_alike_alone_and_together(cube: Path) -> None:
    near = Point(CENTRE.x + 30, CENTRE.y - 100)
    for shapes in ({"a": CENTRE, "b": near, "c": FAR}, {"a": CENTRE.buffer(40), "b": TRIANGLE, "c": FAR.buffer(25)}):
        together = series(cube, collection(**shapes), choice=TimeSelection(time="2023"))
        assert list(dict.fromkeys(together["name"])) == ["a", "b", "c"]
        for name, shape in shapes.items():
            alone = series(cube, collection(**{name: shape}), choice=TimeSelection(time="2023"))
            mine = together[together["name"] == name].reset_index(drop=True)
            pd.testing.assert_frame_equal(mine, alone)
    with pytest.raises(BadInputError, match="pass them separately"):
        series(cube, collection(a=CENTRE, b=TRIANGLE))


def test_a_polygon_of_no_pixel_centre_says_so(cube: Path) -> None:
    table = series(cube, collection(sliver=box(500_101, 5_299_701, 500_103, 5_299_703)), columns=Columns(("B08",)))
    assert (table["pixels"] == 0).all()
    assert table["B08_mean"].isna().all()


def test_what_is_wrong_is_said(cube: Path, tmp_path: Path) -> None:
    outside = Point(400_000, 5_300_000)
    with pytest.raises(BadInputError, match="lie outside the cube: b"):
        series(cube, collection(a=CENTRE, b=outside))
    with pytest.raises(BadInputError, match="a series is of points or polygons"):
        series(cube, collection(line=LineString([(500_000, 5_299_900), (500_100, 5_299_900)])))
    with pytest.raises(BadInputError, match=r"is a \.csv or a \.parquet"):
        write_series(cube, collection(a=CENTRE), tmp_path / "out.xlsx")
    with pytest.raises(BadInputError, match="no layer B99"):
        series(cube, collection(a=CENTRE), columns=Columns(("B99",)))
    with pytest.raises(BadInputError, match="statistics should be one of mean, median, std, min, max, not 'mode'"):
        series(cube, collection(a=CENTRE), columns=Columns(statistics=("mode",)))
    with pytest.raises(BadInputError, match="no feature"):
        series(cube, collection())
    assert not list(tmp_path.iterdir())
