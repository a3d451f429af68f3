from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError
from stac2cube.model.geometry import Area, read_areas

RECORDED = Path(__file__).parents[1].parent / "shared" / "data" / "stac" / "antimeridian"
SQUARE = shapely.box(11, 48, 12, 49)
BOWTIE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}


def one(aoi: object, **words: Any) -> Area:
    (area,) = read_areas(aoi, **words)
    assert area.geometry.is_valid
    west, south, east, north = area.geometry.bounds
    assert -180 <= west <= east <= 180
    assert -90 <= south <= north <= 90
    assert area.geometry.geom_type in ("Polygon", "MultiPolygon")
    return area


def frame(*shapes: BaseGeometry, crs: str | None = "EPSG:4326", **columns: list[Any]) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


def to_lonlat(shape: BaseGeometry, crs: str) -> BaseGeometry:
    transform = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
    return shapely.transform(shape, transform, interleaved=False)


@pytest.mark.parametrize(
    "aoi",
    [
        "11,48,12,49",
        " [11, 48, 12, 49] ",
        "11 48 12 49",
        (11, 48, 12, 49),
        np.array([11, 48, 12, 49]),
        SQUARE,
        shapely.to_geojson(SQUARE),
        json.loads(shapely.to_geojson(SQUARE)),
        {"type": "Feature", "properties": None, "geometry": json.loads(shapely.to_geojson(SQUARE))},
        {"type": "GeometryCollection", "geometries": [json.loads(shapely.to_geojson(SQUARE))]},
        shapely.force_3d(SQUARE, 500.0),
        frame(SQUARE),
        frame(SQUARE).geometry,
        frame(shapely.box(11, 48, 11.5, 49), shapely.box(11.5, 48, 12, 49)),
    ],
    ids=lambda aoi: type(aoi).__name__,
)
def test_one_square_in_many_words(aoi: object) -> None:
    area = one(aoi)
    assert shapely.equals(area.geometry, SQUARE)
    assert shapely.equals(area.native, SQUARE)
    assert not area.geometry.has_z
    assert (area.name, area.native_crs, area.longitude) == ("area", "EPSG:4326", 11.5)
    assert area.bounds == (11, 48, 12, 49)


@pytest.mark.parametrize("suffix", [".geojson", ".json", ".gpkg", ".shp", ".kml", ".fgb"])
def test_files_of_every_kind(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"my site{suffix}"
    if suffix == ".json":
        path.write_text("\N{BYTE ORDER MARK}" + frame(SQUARE).to_json())
    else:
        frame(SQUARE, name=["Munich"]).to_file(path)
    for given_as in (path, str(path)):
        area = one(given_as)
        assert area.name == "my-site"
        assert area.geometry.symmetric_difference(SQUARE).area < 1e-9


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp"])
def test_projected_files_keep_their_own_shape(tmp_path: Path, suffix: str) -> None:
    square = shapely.box(600000, 5300000, 640000, 5330000)
    path = tmp_path / f"utm{suffix}"
    frame(square, crs="EPSG:32632").to_file(path, **({"RFC7946": "NO"} if suffix == ".geojson" else {}))
    area = one(path)
    assert shapely.equals(area.native, square)
    assert area.native_crs == "EPSG:32632"
    corner = to_lonlat(shapely.Point(600000, 5300000), "EPSG:32632")
    assert area.geometry.distance(corner) < 1e-9
    # The parallel bulges between the corners of a square in UTM: its middle is part of the area too.
    middle = to_lonlat(shapely.Point(620000, 5330000), "EPSG:32632")
    assert area.geometry.distance(middle) < 1e-6
    assert one(path, crs="EPSG:32632").native_crs == "EPSG:32632"


def test_box_with_its_crs_and_shape_with_its_crs() -> None:
    box = one("600000,5300000,640000,5330000", crs="EPSG:32632")
    shape = one(shapely.box(600000, 5300000, 640000, 5330000), crs="EPSG:32632")
    assert shapely.equals(box.geometry, shape.geometry)
    assert box.native_crs == "EPSG:32632"


def test_another_geographic_crs_is_not_taken_for_wgs84() -> None:
    area = one("-100,40,-99,41", crs="EPSG:4267")
    assert area.native_crs == "EPSG:4267"
    assert not shapely.equals(area.geometry, area.native)
    assert area.geometry.hausdorff_distance(area.native) < 0.01, "NAD27 lies some tens of metres beside WGS84"


@pytest.mark.parametrize("aoi", ["48.2, 11.5", (48.2, 11.5), shapely.Point(11.5, 48.2)])
def test_point_with_edge_is_a_square_of_that_many_metres(aoi: object) -> None:
    area = one(aoi, edge=5000)
    west, south, east, north = area.native.bounds
    assert (east - west, north - south) == pytest.approx((5000, 5000), abs=1e-6)
    assert area.native_crs == "EPSG:32632"
    centre = to_lonlat(area.native.centroid, area.native_crs)
    assert (centre.x, centre.y) == pytest.approx((11.5, 48.2), abs=1e-9)


def test_points_of_a_file_become_squares(tmp_path: Path) -> None:
    path = tmp_path / "plots.geojson"
    frame(shapely.Point(11.5, 48.2), shapely.Point(13.5, 52.4), plot=[1, 2]).to_file(path)
    areas = read_areas(path, edge=1000, split=True)
    assert [area.name for area in areas] == ["plots-1", "plots-2"]
    assert [area.native_crs for area in areas] == ["EPSG:32632", "EPSG:32633"]
    (both,) = read_areas(path, edge=1000)
    assert len(both.geometry.geoms) == 2
    assert both.native_crs == "EPSG:4326", "squares of two zones have only the globe in common"


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"name": ["North", "South"]}, ["North", "South"]),
        ({"Name": ["Süd Ufer/1", "b"]}, ["Süd-Ufer-1", "b"]),
        ({"name": ["x", "X"], "id": [7, 8]}, ["7", "8"]),
        ({"name": ["x", None]}, ["two-1", "two-2"]),
        ({"name": ["..", "a"]}, ["two-1", "two-2"]),
        ({}, ["two-1", "two-2"]),
    ],
)
def test_features_apart_take_their_names(tmp_path: Path, columns: dict[str, list[Any]], names: list[str]) -> None:
    path = tmp_path / "two.gpkg"
    frame(SQUARE, shapely.box(0, 0, 1, 1), **columns).to_file(path)
    areas = read_areas(path, split=True)
    assert [area.name for area in areas] == names
    assert shapely.equals(areas[0].geometry, SQUARE)
    assert one(path).name == "two"


def test_layers_must_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "many.gpkg"
    frame(SQUARE).to_file(path, layer="first")
    frame(shapely.box(0, 0, 1, 1)).to_file(path, layer="second")
    with pytest.raises(BadInputError, match=r"several layers \(first, second\)"):
        read_areas(path)
    area = one(f"{path}|layername=second")
    assert area.name == "second"
    assert area.bounds == (0, 0, 1, 1)
    with pytest.raises(BadInputError, match="third"):
        read_areas(f"{path}|layername=third")


def test_all_folders_of_a_kml_count(tmp_path: Path) -> None:
    def folder(name: str, x: int) -> str:
        ring = " ".join(f"{x + dx},{dy},0" for dx, dy in [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
        polygon = f"<Polygon><outerBoundaryIs><LinearRing><coordinates>{ring}</coordinates></LinearRing>"
        place = f"<Placemark><name>{name}</name>{polygon}</outerBoundaryIs></Polygon></Placemark>"
        return f"<Folder><name>{name} folder</name>{place}</Folder>"

    path = tmp_path / "fields.kml"
    body = folder("west", 0) + folder("east", 5)
    path.write_text(
        f'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>{body}</Document></kml>'
    )
    assert [area.name for area in read_areas(path, split=True)] == ["west", "east"]
    assert one(path).bounds == (0, 0, 6, 1)


ACROSS = shapely.MultiPolygon([shapely.box(179, -17, 180, -16), shapely.box(-180, -17, -179, -16)])


@pytest.mark.parametrize(
    "aoi",
    [
        "179,-17,-179,-16",
        "179,-17,181,-16",
        (-181, -17, -179, -16),
        {"type": "Polygon", "coordinates": [[[179, -17], [-179, -17], [-179, -16], [179, -16], [179, -17]]]},
        ACROSS,
    ],
)
def test_across_the_antimeridian(aoi: object) -> None:
    area = one(aoi)
    assert shapely.equals(area.geometry, ACROSS)
    assert abs(area.longitude) == 180
    assert area.bounds == (179, -17, -179, -16)


def test_a_hole_across_the_antimeridian_stays_a_hole() -> None:
    shell = [[170, 0], [-170, 0], [-170, 10], [170, 10], [170, 0]]
    hole = [[-178, 4], [-179, 4], [-179, 5], [-178, 5], [-178, 4]]
    area = one({"type": "Polygon", "coordinates": [shell, hole]})
    assert area.geometry.area == pytest.approx(20 * 10 - 1)
    assert not area.geometry.contains(shapely.Point(-178.5, 4.5))


def test_projected_across_the_antimeridian_and_around_the_pole() -> None:
    fiji = one((-17, 179.999), edge=20000)
    assert len(fiji.geometry.geoms) == 2
    west, _, east, _ = fiji.bounds
    assert west == pytest.approx(179.904, abs=0.01)
    assert east == pytest.approx(-179.904, abs=0.01)
    pole = one((-1e5, -5e4, 1e5, 2e5), crs="EPSG:3413")
    assert pole.geometry.contains(shapely.Point(0, 89.9))
    assert pole.geometry.contains(shapely.Point(179, 89.9))
    assert not pole.geometry.contains(shapely.Point(0, 87.5))


def test_wide_boxes_are_not_turned_round() -> None:
    assert one((-100, 0, 100, 50)).geometry.area == pytest.approx(200 * 50)
    assert one((-180, -90, 180, 90)).geometry.area == pytest.approx(360 * 180)
    assert one((-180, -90, 180, 90)).bounds == (-180, -90, 180, 90)


@pytest.mark.real
@pytest.mark.skipif(not RECORDED.is_dir(), reason="../shared/data is absent")
@pytest.mark.parametrize("tile", ["T01VCC", "T01VCG"])
def test_recorded_footprints_at_180_degrees(tile: str) -> None:
    for path in RECORDED.glob(f"*{tile}.json"):
        area = one({**json.loads(path.read_text()), "type": "Feature"})
        assert abs(area.longitude) > 177
        west, south, east, north = area.bounds
        assert (east - west) % 360 < 3
        assert north - south < 1.5


@pytest.mark.parametrize(
    ("aoi", "words", "why"),
    [
        ("nowhere.geojson", {}, "no such file"),
        ("Bavaria", {}, "no such file"),
        ("POLYGON ((11 48, 12 48, 12 49, 11 48)) " * 20, {}, "cannot be a file"),
        ("~nobody-here/a.gpkg", {}, "cannot be a file"),
        ("48.2,11.5", {}, "edge length"),
        ("48.2,11.5", {"edge": -1}, "positive number of metres"),
        ("48.2,11.5", {"edge": math.nan}, "positive number of metres"),
        ("48.2,11.5", {"edge": 1000, "crs": "EPSG:32632"}, "lat,lon"),
        ("88,11.5", {"edge": 1000}, "UTM has no zone"),
        ("11,48,12", {}, "neither a point"),
        ("11,49,12,48", {}, "empty or reversed"),
        ("11,48,11,49", {}, "empty or reversed"),
        ("11,48,12,49", {"edge": 100}, "points only"),
        ("11,48,12,49", {"crs": "EPSG:999999"}, "unknown CRS"),
        ("11,48,12,49", {"crs": "utm"}, "unknown CRS"),
        ("11,48,12,49", {"crs": "EPSG:32632"}, "coordinates in degrees"),
        ("600000,5300000,640000,5330000", {}, "pass the CRS"),
        ("11,99,12,100", {}, "swapped"),
        ("nan,1,2,3", {}, "no such file"),
        ((math.inf, 1, 2, 3), {}, "not finite"),
        ("1e9,1e9,2e9,2e9", {"crs": "EPSG:32632"}, "is that its CRS"),
        (BOWTIE, {}, "Self-intersection[0.5 0.5]"),
        (BOWTIE, {"crs": "EPSG:3857"}, "Self-intersection[0.5 0.5]"),
        (shapely.LineString([(0, 0), (1, 1)]), {}, "only polygons"),
        (shapely.LineString([(0, 0), (1, 1)]), {"edge": 10}, "only polygons"),
        (shapely.Polygon(), {}, "empty"),
        (shapely.Polygon([(0, 0), (1, 1), (2, 2)]), {}, "area 'area' is not a valid polygon"),
        ({"type": "FeatureCollection", "features": []}, {}, "no feature"),
        ({"type": "FeatureCollection", "features": "x"}, {}, "not GeoJSON"),
        ({"type": "Feature", "properties": {}, "geometry": None}, {}, "no feature"),
        ({"type": "Polygon"}, {}, "not GeoJSON"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, "x"]]]}, {}, "not GeoJSON"),
        ({"hello": 1}, {}, "not GeoJSON"),
        ("{nonsense", {}, "not JSON"),
        (None, {}, "cannot read"),
        (11, {}, "cannot read"),
        (("11", "48"), {}, "cannot read"),
        (frame(SQUARE, crs=None), {}, "does not say its CRS"),
        (" ", {}, "empty text"),  # as a path it would be the present folder
        (frame(SQUARE), {"crs": "EPSG:32632"}, "leave the CRS out"),
    ],
    ids=str,
)
def test_refused_with_one_clear_line(aoi: object, words: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_areas(aoi, **words)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.geojson", b"<html>", "not JSON"),
        ("a.geojson", b"[1, 2]", "not GeoJSON"),
        ("a.geojson", b"\xff\xfe\x00", "cannot read"),
        ("a.geojson", b"", "not JSON"),
        ("a.gpkg", b"nothing of the kind", "cannot read"),
        ("a.shp", b"", "cannot read"),
        ("a.kml", b"<kml", "cannot read"),
        ("a.txt", b"11,48,12,49", "cannot read"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=why) as caught:
        read_areas(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_shapefile_without_prj(tmp_path: Path) -> None:
    with pytest.raises(BadInputError):
        read_areas(tmp_path)
    path = tmp_path / "bare.shp"
    frame(SQUARE).to_file(path)
    path.with_suffix(".prj").unlink()
    with pytest.raises(BadInputError, match="does not say its CRS"):
        read_areas(path)
    assert one(path, crs="EPSG:4326").bounds == (11, 48, 12, 49)


@settings(max_examples=60, deadline=None)
@given(st.floats(-80, 83.9), st.floats(-180, 180), st.floats(100, 20000))
def test_any_point_lies_in_the_middle_of_its_square(lat: float, lon: float, edge: float) -> None:
    area = one((lat, lon), edge=edge)
    assert area.geometry.distance(shapely.Point(lon, lat)) < 1e-9
    assert abs((area.longitude - lon + 180) % 360 - 180) < 0.5
    assert math.sqrt(area.native.area) == pytest.approx(edge, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(-180, 180), st.floats(-89, 88), st.floats(0.01, 359), st.floats(0.01, 1))
def test_boxes_keep_their_size_wherever_they_lie(west: float, south: float, width: float, height: float) -> None:
    width = min(width, 360 - west)
    area = one((west, south, west + width, south + height))
    assert area.geometry.area == pytest.approx(width * height, rel=1e-6)
    inside = (west + width / 2 + 180) % 360 - 180
    assert area.geometry.intersects(shapely.Point(inside, south + height / 2).buffer(1e-9))
    assert abs((area.longitude - inside + 180) % 360 - 180) < 1e-6 or width > 179
