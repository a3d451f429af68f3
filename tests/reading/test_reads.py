"""Pixels read without a cube, against plain NumPy over images made here, and against the cube of the same scenes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from shapely.geometry import Point, Polygon, box

import stac2cube
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, ReadError
from stac2cube.model.grid import GridOptions
from stac2cube.model.query import Query
from stac2cube.reading import read as files
from stac2cube.reading import read as whole
from stac2cube.reading import selection as windows
from stac2cube.reading.selection import features_of, select
from stac2cube.stages.layers import ReadScene
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.pixels.granules import box32, texture, write
from tests.pixels.products import Json, collection, product

BANDS = ["B04", "B05", "SCL"]
FINE, COARSE = box32(300, 300), box32(150, 150, gsd=20)
WEST, NORTH = 700_000, 5_300_040


@dataclass
class World:
    """Two scenes of one tile.

    Attributes:
        items: As a catalog tells them: baseline 02.08 without the offset, and 05.09 with it.
        catalog: The same in a file.
        truth: Per scene and band what shall come out, ``(300, 300)`` on the lattice of 10 m, nearest neighbour.
    """

    items: list[Json]
    catalog: Path
    truth: list[dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    items, truth = [], []
    for number, (day, baseline, shift) in enumerate((("20200512", "02.08", 1000), ("20230513", "05.09", 0))):
        name = f"S2A_MSIL2A_{day}T102601_R108_T32TPT_{day}T161500"
        fine, coarse = texture(FINE, number), texture(COARSE, number + 10)
        classes = np.indices(COARSE.shape).sum(axis=0) // 7 % 11 + 1
        fine[:, :40], coarse[:, :20], classes[:, :20] = 0, 0, 0
        item = product(
            name,
            time=f"{day[:4]}-{day[4:6]}-{day[6:]}T10:26:01Z",
            tile="32TPT",
            baseline=baseline,
            strip=f"{day}T103010",
            rings=[list(FINE.extent.to_crs("EPSG:4326").exterior.coords)],
        )
        pixels = {"B04": (fine, FINE), "B05": (coarse, COARSE), "SCL": (classes.astype("uint8"), COARSE)}
        paths = {band: write(folder / f"{name}_{band}.tif", *image) for band, image in pixels.items()}
        item["assets"] = {band: {"href": str(path)} for band, path in paths.items()}
        items.append(item)
        whole = {
            band: np.kron(image, np.ones((FINE.shape[0] // image.shape[0],) * 2)) for band, (image, _) in pixels.items()
        }
        decoded = {b: np.where(whole[b] > 0, (whole[b] + shift) * 1e-4 - 0.1, np.nan) for b in ("B04", "B05")}
        truth.append(decoded | {"SCL": whole["SCL"]})
    return World(items, collection(folder / "items.json", *items), truth)


@pytest.fixture(scope="module")
def index(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    area = box(*FINE.extent.to_crs("EPSG:4326").boundingbox)
    words: dict[str, Any] = {"mission": "sentinel-2-l2a", "time": "2020/2023", "bands": BANDS, "headers": True}
    return stac2cube.create_index(folder / "index", aoi=area, catalog=str(world.catalog), **words)


def square(column: float, row: float, width: float, height: float) -> Polygon:
    """A rectangle of so many pixels of 10 m from a corner of a pixel."""
    left, top = WEST + 10 * column, NORTH - 10 * row
    return box(left, top - 10 * height, left + 10 * width, top)


def frame(**shapes: Any) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"name": list(shapes)}, geometry=list(shapes.values()), crs="EPSG:32632")


TRIANGLE = Polygon([(WEST + 1001.3, NORTH - 1002.9), (WEST + 1601.7, NORTH - 1107.1), (WEST + 1203.1, NORTH - 1709.9)])


def inside(shape: Polygon) -> np.ndarray:
    """True where the centre of a pixel of the tile lies in a shape; by shapely, one by one."""
    rows, columns = np.indices(FINE.shape)
    return shapely.contains_xy(shape, WEST + 10 * columns + 5, NORTH - 10 * rows - 5)


def test_a_dataset_is_the_truth_within_the_geometries(index: Path, world: World) -> None:
    shapes = frame(field=square(30, 10, 31, 17), tri=TRIANGLE)
    dataset = stac2cube.read(index, shapes, BANDS, resampling="nearest")
    assert dataset.odc.crs.to_epsg() == 32632
    assert list(dataset.scene.values) == ["sentinel-2a_R108_20200512", "sentinel-2a_R108_20230513"]
    left, top = round((float(dataset.x[0]) - 5 - WEST) / 10), round((NORTH - float(dataset.y[0]) - 5) / 10)
    window = np.s_[top : top + dataset.sizes["y"], left : left + dataset.sizes["x"]]
    within = (inside(square(30, 10, 31, 17)) | inside(TRIANGLE))[window]
    assert 0 < within.mean() < 0.5
    for step, truth in enumerate(world.truth):
        for band in ("B04", "B05"):
            expected = np.where(within, truth[band][window], np.nan)
            np.testing.assert_allclose(dataset[band].values[step], expected, atol=1e-12)
        np.testing.assert_array_equal(dataset["SCL"].values[step], np.where(within, truth["SCL"][window], 0))


def test_items_files_and_indexes_say_the_same(index: Path, world: World) -> None:
    shapes = frame(tri=TRIANGLE)
    reference = stac2cube.read(index, shapes, BANDS)
    stored = [pystac.Item.from_dict(item) for item in world.items]
    words = {"mission": "sentinel-2-l2a", "time": "2020/2023"}
    for source, given in ((world.items, {}), (stored, {}), (world.catalog, words), (str(world.catalog), words)):
        assert stac2cube.read(source, shapes, BANDS, **given).identical(reference)
    only = stac2cube.read(index, shapes, ["red", "rededge1"], time="2023")
    np.testing.assert_array_equal(only["B04"].values[0], reference["B04"].values[1])


def test_arrays_per_geometry_and_scene(index: Path, world: World) -> None:
    table = stac2cube.read_arrays(index, frame(a=square(50, 60, 8, 6), tri=TRIANGLE), BANDS, resampling="nearest")
    assert list(zip(table["feature"], table["scene"].str[-8:], strict=True)) == [
        ("a", "20200512"),
        ("tri", "20200512"),
        ("a", "20230513"),
        ("tri", "20230513"),
    ]
    for place, row in enumerate(table.itertuples()):
        a, _, x, _, e, y = row.transform
        assert (a, e, row.crs) == (10, -10, "EPSG:32632")
        left, top = round((x - WEST) / 10), round((NORTH - y) / 10)
        window = np.s_[top : top + row.B04.shape[0], left : left + row.B04.shape[1]]
        within = inside(square(50, 60, 8, 6) if row.feature == "a" else TRIANGLE)[window]
        expected = np.where(within, world.truth[place // 2]["B05"][window], np.nan)
        np.testing.assert_allclose(row.B05, expected, atol=1e-6)
        np.testing.assert_array_equal(row.SCL, np.where(within, world.truth[place // 2]["SCL"][window], 0))
    assert table.iloc[0].B04.shape == (6, 8), "a geometry on whole pixels takes no others"
    assert table.crs.to_epsg() == 4326
    assert table.geometry.iloc[0].centroid.x == pytest.approx(11.7, abs=0.1)


def test_statistics_are_those_of_numpy(index: Path, world: World) -> None:
    shapes = frame(edge=square(35, 100, 10, 10), tri=TRIANGLE, nothing=square(5, 5, 10, 10))
    names = ("count", "mean", "std", "min", "max", "median", "sum", "p10", "mode")
    table = stac2cube.zonal_statistics(index, shapes, BANDS, statistics=names, resampling="nearest")
    assert len(table) == 6
    assert "SCL_mean" not in table
    reduce = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max, "median": np.median, "sum": np.sum}
    for row in table.to_dict("records"):
        truth = world.truth[row["scene"].endswith("20230513")]
        shape = shapes.set_index("name").geometry[row["feature"]]
        values = truth["B04"][inside(shape)]
        values = values[np.isfinite(values)]
        assert row["B04_count"] == values.size
        assert row["SCL_count"] == (truth["SCL"][inside(shape)] > 0).sum()
        if not values.size:
            assert row["feature"] == "nothing"
            assert np.isnan(row["B04_mean"])
            continue
        for name, function in reduce.items():
            assert row[f"B04_{name}"] == pytest.approx(function(values), rel=1e-5), name
        assert row["B04_p10"] == pytest.approx(np.percentile(values, 10), rel=1e-5)
        classes, counts = np.unique(truth["SCL"][inside(shape)], return_counts=True)
        counts[classes == 0] = 0
        assert row["SCL_mode"] == classes[counts.argmax()]
    assert {n: int(table.set_index("feature")["B04_count"][n].iloc[0]) for n in ("edge", "nothing")} == {
        "edge": 50,
        "nothing": 0,
    }


def test_points_take_the_pixel_they_lie_in(index: Path, world: World) -> None:
    places = [(0.5, 0.5), (40.5, 7.5), (123.01, 45.99), (123.99, 45.01), (299.5, 299.5), (200.0001, 100.0001)]
    points = frame(**{f"p{number}": Point(WEST + 10 * c, NORTH - 10 * r) for number, (c, r) in enumerate(places)})
    table = stac2cube.sample(index, points, BANDS, resampling="nearest")
    assert len(table) == 2 * len(places)
    for row in table.itertuples():
        column, line = places[int(row.feature[1:])]
        truth = world.truth[row.scene.endswith("20230513")]
        at = int(line), int(column)
        np.testing.assert_allclose(row.B04, truth["B04"][at], atol=1e-6)
        assert truth["SCL"][at] == row.SCL
    lonlat = points.to_crs("EPSG:4326").geometry
    again = stac2cube.sample(index, list(lonlat), BANDS, resampling="nearest")
    pd.testing.assert_series_equal(again["B04"], table["B04"])
    assert all(
        shape.distance(lonlat[int(name[1:])]) < 1e-9 for name, shape in zip(table.feature, table.geometry, strict=True)
    )


def test_a_file_per_geometry_and_scene(index: Path, world: World, tmp_path: Path) -> None:
    shapes = frame(tri=TRIANGLE, nothing=square(5, 5, 10, 10))
    written = stac2cube.save_per_geometry(index, shapes, tmp_path, ["B04", "B05"], resampling="nearest")
    assert [str(file.relative_to(tmp_path)) for file in written] == [
        "tri/sentinel-2a_R108_20200512.tif",
        "tri/sentinel-2a_R108_20230513.tif",
    ]
    for step, file in enumerate(written):
        with rasterio.open(file) as dataset:
            assert (dataset.descriptions, dataset.nodata, dataset.crs) == (("B04", "B05"), 0, "EPSG:32632")
            left, top = round((dataset.transform.c - WEST) / 10), round((NORTH - dataset.transform.f) / 10)
            window = np.s_[top : top + dataset.height, left : left + dataset.width]
            numbers = dataset.read(1)
            physical = np.where(numbers > 0, numbers * dataset.scales[0] + dataset.offsets[0], np.nan)
            expected = np.where(inside(TRIANGLE)[window], world.truth[step]["B04"][window], np.nan)
            np.testing.assert_allclose(physical, expected, atol=1e-12)
            assert dataset.tags()["feature"] == "tri"
    assert not list(tmp_path.rglob(".*"))


def test_far_geometries_are_read_apart(index: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fields at opposite ends of a grid: what lies between is never read."""
    seen: list[GeoBox] = []
    read = ReadScene.__call__

    def watched(self: ReadScene, scene: Any, geobox: GeoBox) -> dict[str, np.ndarray]:
        seen.append(geobox)
        return read(self, scene, geobox)

    monkeypatch.setattr(ReadScene, "__call__", watched)
    monkeypatch.setattr(windows, "CELL", 64)
    near = {"a": square(60, 20, 5, 5), "b": square(70, 30, 5, 5), "far": square(250, 280, 4, 4)}
    stac2cube.zonal_statistics(index, frame(**near), ["B04"])
    assert sorted(tuple(geobox.shape) for geobox in seen) == [(4, 4), (4, 4), (15, 15), (15, 15)]


def test_two_zones_are_one_lattice_and_the_cube_agrees(tmp_path: Path) -> None:
    archive = simulate(tmp_path / "archive", ArchiveSpec(years=(2023,), dates_per_year=2, tile_px=96))
    words: dict[str, Any] = {"mission": "sentinel-2-l2a", "time": "2023"}
    area, source = archive.area(two_zones=True), str(archive.catalog("earth-search"))
    cube = stac2cube.get_stac_layers(tmp_path / "a.zarr", aoi=area, catalog=source, bands=BANDS, **words).load()
    dataset = stac2cube.read(source, area, BANDS, **words)
    assert dataset.odc.geobox == cube.odc.geobox
    assert cube["B04"].attrs == dataset["B04"].attrs
    there = dataset["B04"].notnull().values
    assert there.mean() > 0.8
    difference = np.abs(dataset["B04"].values - cube["B04"].values)[there]
    # Between zones, positions are interpolated within what is read at a time: a count beside it now and then.
    assert difference.max() <= 1.01e-4
    assert (difference > 1e-9).mean() < 0.001


def test_what_cannot_be_is_said(index: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = frame(tri=TRIANGLE)
    with pytest.raises(BadInputError, match="say mission= too"):
        stac2cube.read(str(world.catalog), shapes)
    with pytest.raises(BadInputError, match="say time= too"):
        stac2cube.read(str(world.catalog), shapes, mission="sentinel-2-l2a")
    with pytest.raises(BadInputError, match="no items"):
        stac2cube.read([], shapes)
    with pytest.raises(BadInputError, match=r"items of x may be of no mission"):
        stac2cube.read([{**world.items[0], "collection": "x"}], shapes)
    with pytest.raises(BadInputError, match="no band 'B77'"):
        stac2cube.read(index, shapes, ["B77"])
    with pytest.raises(BadInputError, match="unknown statistic 'average'"):
        stac2cube.zonal_statistics(index, shapes, statistics=["average"])
    with pytest.raises(BadInputError, match="polygon"):
        stac2cube.sample(index, shapes)
    monkeypatch.setattr(whole, "MOST_BYTES", 1000)
    with pytest.raises(BadInputError, match="build a cube"):
        stac2cube.read(index, shapes)


def test_bands_that_do_not_fit_into_one_file_are_refused_before_any_is_written(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = Query(area=features_of(frame(tri=TRIANGLE))[0], bands=("B04", "B05"))
    selection = select(index, query, GridOptions())
    first, second = selection.layers
    mixed = replace(selection, layers=(first, replace(second, dtype="float32", fill=np.nan)))
    monkeypatch.setattr(files, "select", lambda *_: mixed)
    with pytest.raises(BadInputError, match="do not fit into one GeoTIFF"):
        stac2cube.save_per_geometry(index, frame(tri=TRIANGLE), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_an_error_never_a_gap(world: World) -> None:
    items = json.loads(json.dumps(world.items))
    items[1]["assets"]["B05"]["href"] += ".gone"
    with pytest.raises(ReadError, match=r"20230513.*B05.*gone"):
        stac2cube.read(items, frame(tri=TRIANGLE), BANDS)
    assert stac2cube.read(items, frame(tri=TRIANGLE), BANDS, time="2020").sizes["time"] == 1


def test_commands(index: Path, tmp_path: Path) -> None:
    file = tmp_path / "fields.geojson"
    frame(tri=TRIANGLE).to_crs("EPSG:4326").to_file(file)
    points = tmp_path / "points.geojson"
    frame(p=Point(WEST + 1005, NORTH - 1005)).to_crs("EPSG:4326").to_file(points)

    def run(*words: object) -> str:
        return CliRunner().invoke(cli, list(map(str, words)), catch_exceptions=False).output

    assert len(json.loads(run("read", index, file, tmp_path / "out", "--bands", "B04", "--json"))) == 2
    run("sample", index, file, tmp_path / "a.csv", "--bands", "red,scl", "--statistics", "mean,count", "-q")
    table = pd.read_csv(tmp_path / "a.csv")
    assert list(table.columns[:3]) == ["feature", "scene", "time"]
    assert {"B04_mean", "B04_count", "SCL_count"} <= set(table.columns)
    assert "2 rows" in run("sample", index, points, tmp_path / "b.parquet", "-q", "--bands", "B04")
    assert geopandas.read_parquet(tmp_path / "b.parquet")["B04"].notna().all()
    run("sample", index, points, tmp_path / "b.json", "-q", "--bands", "B04", "--time", "2023")
    assert len(json.loads((tmp_path / "b.json").read_text())) == 1
    with pytest.raises(BadInputError, match="written as"):
        run("sample", index, points, tmp_path / "b.txt")
