"""Items as providers really write them, and as they should not: each is understood, or named with what is wrong."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rustac
from shapely.geometry import box, mapping, shape
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError
from stac2cube.model.catalog import find_catalog
from stac2cube.model.geometry import parse_crs
from stac2cube.model.mission import find_mission
from stac2cube.model.scene import Scene, datastrip_of, generated, platform_of
from stac2cube.search.parsing import declared_crs, declared_lattice, footprint_of
from stac2cube.search.search import search
from tests.items import query_over

Json = dict[str, Any]
NAMES = {"B02": "blue", "B04": "red", "SCL": "scl", "AOT": "aot"}
HERE = box(9.2, 47.2, 9.7, 47.7)


def item(name: str = "S2A_32TMT_20200305_1_L2A", **changes: Any) -> Json:
    """One item as Earth Search has it, with only what matters here; changes go into its properties."""
    properties = {
        "datetime": "2020-03-05T10:36:04.000Z",
        "platform": "sentinel-2a",
        "grid:code": "MGRS-32TMT",
        "proj:code": "EPSG:32632",
        "eo:cloud_cover": 40.0,
        "s2:processing_baseline": "05.00",
        "s2:product_uri": "S2A_MSIL2A_20200305T103021_N0500_R108_T32TMT_20230630T022413.SAFE",
        "s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_S2RP_20230630T022413_S20200305T103210_N05.00",
        "s2:generation_time": "2023-06-30T02:24:13.000Z",
        "earthsearch:boa_offset_applied": True,
        **changes,
    }
    offsets = {"B02": -0.1, "B04": -0.1, "SCL": 0, "AOT": -0.1}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": dict(mapping(box(9, 47, 10, 48))),
        "bbox": [9, 47, 10, 48],
        "properties": {key: value for key, value in properties.items() if value != "absent"},
        "links": [],
        "assets": {
            common: {"href": f"https://host/{name}/{band}.tif", "raster:bands": [{"offset": offsets[band]}]}
            for band, common in NAMES.items()
        },
    }


def find(
    items: list[Json], folder: Path, area: BaseGeometry = HERE, first: str = "2015-01-01", last: str = "2030-01-01"
) -> list[Scene]:
    path = folder / "items.json"
    path.write_text(json.dumps(items))
    interval = (datetime.fromisoformat(first).replace(tzinfo=UTC), datetime.fromisoformat(last).replace(tzinfo=UTC))
    return search(query_over(area, interval, ",".join(NAMES), longitude=area.centroid.x), find_catalog(str(path)))


def test_a_plain_item(tmp_path: Path) -> None:
    (scene,) = find([item()], tmp_path)
    (granule,) = scene.granules
    assert str(scene.key) == "sentinel-2a_R108_20200305"
    assert (granule.tile, granule.datastrip, granule.baseline) == ("32TMT", "20200305T103210", "05.00")
    assert granule.crs == "EPSG:32632"
    shifts = {band: asset.shift for band, asset in granule.assets.items()}
    assert shifts == {"B02": 1000, "B04": 1000, "SCL": 0, "AOT": 0}, "AOT never carries the offset, even if declared"


def test_a_band_that_the_item_lacks_is_left_to_the_reader(tmp_path: Path) -> None:
    lacking = item()
    del lacking["assets"]["red"]
    (scene,) = find([lacking], tmp_path)
    assert scene.problem == ""
    assert set(scene.granules[0].assets) == {"B02", "SCL", "AOT"}


@pytest.mark.parametrize("place", [{"proj:code": "EPSG:32632"}, {"proj:code": None, "proj:epsg": 32632}])
def test_both_ways_to_name_the_crs(tmp_path: Path, place: Json) -> None:
    assert find([item(**place)], tmp_path)[0].granules[0].crs == "EPSG:32632"


@pytest.mark.parametrize(
    "said",
    [
        {"proj:epsg": 5773},  # heights
        {"proj:epsg": 4978},  # geocentric
        {"proj:code": "IAU_2015:30100"},  # the Moon
        {"proj:wkt2": 'ENGCRS["site",EDATUM[""],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["m",1]]'},
    ],
)
def test_a_crs_without_places_on_a_map_is_none(said: Json) -> None:
    """Of all items of a search it would have been the one on which laying out the grid fails."""
    assert declared_crs(said) == ""
    assert declared_crs({"proj:code": "EPSG:7415"}) == "EPSG:7415"
    with pytest.raises(BadInputError, match="no places on a map"):
        parse_crs(next(iter(said.values())))


@pytest.mark.parametrize("numbers", [[0] * 6, [10, 0, 10**400, 0, -10, 5], [10, 0, 1e300, 0, -10, 5], ["10"] * 6, [10]])
def test_a_transform_without_pixels_or_places_is_none(numbers: list[Any]) -> None:
    assert declared_lattice({"proj:transform": numbers}) is None
    assert declared_lattice({"proj:transform": [10, 0, 600_000, 0, -10, 5_300_040, 0, 0, 1]}) == (
        600_000,
        5_300_040,
        10,
    )


@pytest.mark.parametrize("platform", ["Sentinel-2A", "sentinel_2a", "SENTINEL 2A", None, "absent", "sentinel-2"])
def test_one_platform_by_many_names(tmp_path: Path, platform: str | None) -> None:
    assert find([item(platform=platform)], tmp_path)[0].key.platform == "sentinel-2a"


@pytest.mark.parametrize(
    ("mission", "name", "said", "platform"),
    [
        ("sentinel-2-l2a", "x", "Sentinel2A", "sentinel-2a"),
        ("sentinel-2-l2a", "x", "S2B_MSI", "sentinel-2b"),
        ("sentinel-2-l2a", "S2C_32TMT_x", "sentinel-2", "sentinel-2c"),
        ("sentinel-1-rtc", "x", "SENTINEL1A", "sentinel-1a"),
        ("sentinel-1-rtc", "S1C_IW_GRDH_x_rtc", "sentinel-1", "sentinel-1c"),
        ("sentinel-1-rtc", "S1A_IW_GRDH_x_rtc", None, "sentinel-1a"),
        ("landsat-c2-l2", "x", "LANDSAT_08", "landsat-8"),
        ("landsat-c2-l2", "x", "Landsat9", "landsat-9"),
        ("landsat-c2-l2", "x", "LE07", "landsat-7"),
        ("landsat-c2-l2", "LT05_L2SP_x", "landsat", "landsat-5"),
        ("landsat-c2-l2", "LC08_L2SP_x", None, "landsat-8"),
        ("landsat-c2-l2", "x", "landsat-3", ""),
        ("landsat-c2-l2", "S2A_x", None, ""),
        ("sentinel-2-l2a", "LC08_L2SP_x", None, ""),
        ("cop-dem-glo-30", "x", None, ""),
    ],
)
def test_spellings_of_platforms(mission: str, name: str, said: str | None, platform: str) -> None:
    one = {"id": name, "properties": {"platform": said}, "assets": {}}
    assert platform_of(one, find_mission(mission)) == platform


def test_an_unknown_platform_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strange = item("X", platform="sentinel-3a")
    assert platform_of(strange, find_mission("sentinel-2-l2a")) == ""
    with caplog.at_level(logging.WARNING, "stac2cube"):
        assert len(find([item(), strange], tmp_path)) == 1
    assert "left out 1 items of unknown platforms: X" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datetime": "soon"}, "item S2A_.* has a time that is none: 'soon'"),
        ({"datetime": None}, "item S2A_.* has no time"),
        ({"s2:product_uri": "absent"}, "item S2A_.* does not say its relative orbit"),
        ({"product:type": "S2MSI1C"}, "item S2A_.* is a product of level S2MSI1C"),
    ],
)
def test_what_no_scene_can_do_without_is_named(
    tmp_path: Path, change: Json, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The item is left out and named; the others are found all the same."""
    good = item("S2A_32TMT_20200306_1_L2A", datetime="2020-03-06T10:36:04.000Z")
    with caplog.at_level(logging.WARNING, "stac2cube"):
        (scene,) = find([item(**change), good], tmp_path)
    assert scene.item_ids == ("S2A_32TMT_20200306_1_L2A",)
    assert re.search(f"left out 1 items: {message}", caplog.text)


def test_levels_beyond_count_are_left_out_of_what_is_kept(tmp_path: Path) -> None:
    """They must not end a search, as they would where walking through the item is needed."""
    one = item(deep=json.loads("[" * 800 + "NaN" + "]" * 800))
    one["assets"]["red"]["href"] += "?sig=abc"
    (scene,) = find([one], tmp_path)
    assert not scene.problem
    assert "sig=" not in scene.granules[0].item
    assert "NaN" not in scene.granules[0].item


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"s2:processing_baseline": "nan"}, "no number: 'nan'"),
        ({"s2:processing_baseline": "02.14"}, "lost an offset that its baseline never had"),
        ({"earthsearch:boa_offset_applied": "false"}, "neither true nor false: 'false'"),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "02.14"}, "declared offset and the base"),
    ],
)
def test_contradictions_are_the_scenes_problem(tmp_path: Path, change: Json, message: str) -> None:
    (scene,) = find([item(**change)], tmp_path)
    assert message in scene.problem
    assert "S2A_32TMT_20200305_1_L2A" in scene.problem


@pytest.mark.parametrize(("offset", "message"), [(0.1, "never had"), ("much", "no number: 'much'"), (-1000, "never")])
def test_an_offset_that_sentinel_2_never_had(tmp_path: Path, offset: Any, message: str) -> None:
    odd = item()
    odd["assets"]["red"]["raster:bands"][0]["offset"] = offset
    assert message in find([odd], tmp_path)[0].problem
    # In items that were migrated to STAC 1.1 the one list may have what the other lacks.
    del odd["assets"]["red"]["raster:bands"][0]["offset"]
    odd["assets"]["red"]["bands"] = [{"name": "red", "raster:offset": offset}]
    assert message in find([odd], tmp_path)[0].problem


def test_an_item_without_any_known_asset_does_not_end_the_search(tmp_path: Path) -> None:
    empty = item("empty", datetime="2020-03-15T10:36:04Z")
    empty["assets"] = {"thumbnail": {"href": "https://host/t.jpg"}}
    scenes = find([item(), empty], tmp_path)
    assert [scene.problem[:40] for scene in scenes] == ["", "item empty has none of the assets that s"]


def test_a_superseded_item_may_contradict_itself(tmp_path: Path) -> None:
    """It is not used, so what it says of its pixels does not matter."""
    older = item("S2A_32TMT_20200305_0_L2A", **{"s2:processing_baseline": "02.14"})
    (scene,) = find([older, item()], tmp_path)
    assert scene.problem == ""
    assert scene.item_ids == ("S2A_32TMT_20200305_1_L2A",)
    assert scene.superseded == ("S2A_32TMT_20200305_0_L2A",)


def test_of_equal_baselines_the_one_made_last_wins(tmp_path: Path) -> None:
    """Whatever their ids and the order in which they come."""
    early, late = item("Z"), item("A", **{"s2:generation_time": "2024-01-01T00:00:00+00:00"})
    assert generated(early) < generated(late)
    for order in ([early, late], [late, early]):
        assert find(order, tmp_path)[0].item_ids == ("A",)


def test_baselines_compare_as_numbers_not_as_texts(tmp_path: Path) -> None:
    older, newer = item("Z", **{"s2:processing_baseline": "9.99"}), item("A", **{"s2:processing_baseline": "10.00"})
    assert find([older, newer], tmp_path)[0].item_ids == ("A",)


def test_of_two_collections_with_one_product_the_first_page_wins(tmp_path: Path) -> None:
    twin = item("A") | {"collection": "sentinel-2-c1-l2a"}
    (scene,) = find([item("Z"), twin], tmp_path)
    assert scene.granules[0].collection == "sentinel-2-c1-l2a"


def test_different_datastrips_of_one_overpass_are_both_used(tmp_path: Path) -> None:
    other = item("B", **{"s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_S2RP_20230630T022413_S20200305T103522_N05.00"})
    (scene,) = find([other, item("C")], tmp_path)
    assert [granule.datastrip for granule in scene.granules] == ["20200305T103210", "20200305T103522"]
    assert scene.superseded == ()


def test_the_datastrip_is_found_in_the_granules_folder() -> None:
    bare = item(**{"s2:datastrip_id": "absent"})
    assert datastrip_of(bare) == ""
    bare["assets"]["red"]["href"] = (
        "file:///x/S2A.SAFE/GRANULE/L2A_T32TMT_A024558_20200305T103210/IMG_DATA/R10m/B04.jp2"
    )
    assert datastrip_of(bare) == "20200305T103210"


def test_the_same_item_twice_is_one(tmp_path: Path) -> None:
    (scene,) = find([item(), item()], tmp_path)
    assert (len(scene.granules), scene.superseded) == (1, ())


def test_assets_that_are_null_are_absent(tmp_path: Path) -> None:
    """As read from GeoParquet, where all items of a file have all columns."""
    holed = item()
    holed["assets"]["red"] = None
    assert "B04" not in find([holed], tmp_path)[0].granules[0].assets


def test_items_of_several_providers_in_one_parquet(tmp_path: Path) -> None:
    other = item("PC", datetime="2020-03-15T10:36:04Z", **{"earthsearch:boa_offset_applied": "absent"})
    other["assets"] = {band: {"href": f"https://host/{band}.tif"} for band in NAMES}
    path = tmp_path / "mixed.parquet"
    rustac.write_sync(str(path), [item(), other])
    query = query_over(HERE, (datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)), "red")
    scenes = search(query, find_catalog(str(path)))
    assert [scene.granules[0].assets["B04"].shift for scene in scenes] == [1000, 0]


@pytest.mark.parametrize(
    "ring",
    [
        [[179.5, 47], [-179.5, 47], [-179.5, 48], [179.5, 48], [179.5, 47]],
        [[179.5, 47], [180.5, 47], [180.5, 48], [179.5, 48], [179.5, 47]],
        [[-180.5, 47], [-179.5, 47], [-179.5, 48], [-180.5, 48], [-180.5, 47]],
    ],
    ids=["jumping", "beyond 180", "beyond -180"],
)
def test_footprints_across_the_antimeridian(tmp_path: Path, ring: list[list[float]]) -> None:
    crossing = item() | {"geometry": {"type": "Polygon", "coordinates": [ring]}}
    assert footprint_of(crossing).area == pytest.approx(1)
    assert len(find([crossing], tmp_path, box(179.6, 47.2, 179.8, 47.8))) == 1
    assert len(find([crossing], tmp_path, box(-179.8, 47.2, -179.6, 47.8))) == 1
    assert find([crossing], tmp_path) == [], "an item at the antimeridian is not everywhere"
    (scene,) = find([crossing], tmp_path, box(179.6, 47.2, 179.8, 47.8))
    assert shape(scene.granules[0].footprint).area == pytest.approx(1)


_JUMPING = [[[179.5, 47], [-179.5, 47], [-179.5, 48], [179.5, 48], [179.5, 47]]]
_BESIDE = [[[179, 46], [179.5, 46], [179.5, 47], [179, 47], [179, 46]]]


@pytest.mark.parametrize(
    ("geometry", "area"),
    [
        ({"type": "MultiPolygon", "coordinates": [_JUMPING]}, 1),
        ({"type": "MultiPolygon", "coordinates": [_JUMPING, _BESIDE]}, 1.5),
        ({"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": _JUMPING}]}, 1),
    ],
    ids=["one part", "two parts", "a collection"],
)
def test_a_part_of_a_footprint_may_jump_across_the_antimeridian(tmp_path: Path, geometry: Json, area: float) -> None:
    """Tables of one geometry type, as pgSTAC and GeoPandas write, hold polygons as multipolygons of one part."""
    crossing = item() | {"geometry": geometry}
    assert footprint_of(crossing).area == pytest.approx(area)
    assert len(find([crossing], tmp_path, box(-179.8, 47.2, -179.6, 47.8))) == 1
    assert find([crossing], tmp_path) == [], "an item at the antimeridian is not everywhere"


@pytest.mark.parametrize(
    ("ring", "area"),
    [
        ([[-135, -85], [-45, -85], [45, -85], [135, -85]], 360 * 5),
        ([[135, 85], [45, 85], [-45, 85], [-135, 85]], 360 * 5),
        ([[-180, -80], [180, -80], [180, -90], [-180, -90]], 360 * 10),
        ([[-180, -80], [0, -80], [180, -80], [180, -90], [0, -90], [-180, -90]], 360 * 10),
        ([[0, -90], [180, -85], [-135, -85], [-90, -85]], 90 * 5),
        ([[-180, -90], [180, -90], [180, 90], [-180, 90]], 360 * 180),
        ([[-100, 75], [0, 75], [100, 75], [100, 80], [0, 80], [-100, 80]], 200 * 5),
    ],
    ids=["south pole", "north pole", "closed", "closed, dense", "corner at the pole", "world", "beyond half the globe"],
)
def test_footprints_about_a_pole(ring: list[list[float]], area: float) -> None:
    found = footprint_of(item() | {"geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}})
    assert found.is_valid
    assert found.area == pytest.approx(area)


def test_a_footprint_that_crosses_itself_is_repaired(tmp_path: Path) -> None:
    bowtie = item() | {
        "geometry": {"type": "Polygon", "coordinates": [[[9, 47], [10, 48], [10, 47], [9, 48], [9, 47]]]}
    }
    (scene,) = find([bowtie], tmp_path)
    assert shape(scene.granules[0].footprint).is_valid
    assert scene.cloud_cover == 40


def _within_lists(levels: int) -> Any:
    value: Any = 1.0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        {"type": "Polygon"},
        {"type": "Blob", "coordinates": []},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[[10**400, 47], [10, 47], [10, 48], [10**400, 47]]]},
        {"type": "MultiPolygon", "coordinates": _within_lists(800)},
    ],
    ids=["null", "no coordinates", "unknown", "empty", "beyond floats", "many levels"],
)
def test_a_footprint_that_is_none_is_named(
    tmp_path: Path, geometry: Json | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stac2cube"):
        (scene,) = find([item() | {"geometry": geometry}, item("GOOD")], tmp_path)
    assert scene.item_ids == ("GOOD",)
    assert re.search(r"item S2A_.* (no geometry|a geometry that is none)", caplog.text)


def test_a_scene_is_found_whole_where_midnight_cuts_it(tmp_path: Path) -> None:
    """Over eastern Australia Sentinel-2 passes at midnight UTC: neither year may get half a scene."""
    before = item("A", datetime="2019-12-31T23:59:50Z", **{"grid:code": "MGRS-56HKH"})
    after = item("B", datetime="2020-01-01T00:00:05Z", **{"grid:code": "MGRS-56HKG"})
    next_pass = item("C", datetime="2020-01-01T00:14:00Z", **{"sat:relative_orbit": 9})
    area = box(151, -34, 152, -33)
    for one in (before, after, next_pass):
        one["geometry"] = mapping(area)
    end_of_2019 = str(datetime(2020, 1, 1) - timedelta(microseconds=1))
    (scene,) = find([before, after, next_pass], tmp_path, area, "2019-01-01", end_of_2019)
    assert scene.item_ids == ("A", "B")
    both = find([before, after, next_pass], tmp_path, area, "2020-01-01", "2020-12-31")
    assert [found.item_ids for found in both] == [("C",), ("A", "B")]
    assert both[1] == scene


@pytest.mark.parametrize(
    "query",
    ["?st=2023&sig=SECRET", "?AWSAccessKeyId=a&Signature=SECRET", "?X-Amz-Signature=SECRET", "?access_token=SECRET"],
)
def test_no_signature_stays_anywhere(tmp_path: Path, query: str) -> None:
    signed = item()
    href = signed["assets"]["red"]["href"]
    signed["assets"]["red"]["href"] = href + query
    signed["assets"]["red"]["alternate"] = {"s3": {"href": "https://other/x.tif" + query}}
    (granule,) = find([signed], tmp_path)[0].granules
    assert granule.assets["B04"].href == href
    assert "SECRET" not in granule.item


def test_a_query_that_is_no_signature_stays(tmp_path: Path) -> None:
    versioned = item()
    versioned["assets"]["red"]["href"] += "?version=2"
    assert find([versioned], tmp_path)[0].granules[0].assets["B04"].href.endswith("?version=2")


def test_relative_addresses_in_a_folder_of_odd_name(tmp_path: Path) -> None:
    folder = tmp_path / "a#b ?c;d"
    folder.mkdir()
    relative = item()
    relative["assets"]["red"]["href"] = "../red.tif"
    assert find([relative], folder)[0].granules[0].assets["B04"].href == str(tmp_path / "red.tif")


def test_a_static_catalog_whose_links_go_in_circles_or_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    links = [{"rel": "child", "href": "./catalog.json"}, {"rel": "item", "href": "items.json"}]
    links += [{"rel": "item", "href": "items.json"}, {"rel": "item", "href": "gone.json"}]
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog", "id": "c", "links": links}))
    (tmp_path / "items.json").write_text(json.dumps(item()))
    query = query_over(HERE, (datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)), "red")
    with caplog.at_level(logging.WARNING, "stac2cube"):
        assert len(search(query, find_catalog(str(tmp_path)))) == 1
    assert "1 of 2 links lead nowhere" in caplog.text


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"platform": "S2A"}, {"key": "sentinel-2a"}),
        ({"platform": "s2a_msi"}, {"key": "sentinel-2a"}),
        ({"grid:code": "mgrs-32tmt"}, {"tile": "32TMT"}),
        ({"grid:code": "T32TMT"}, {"tile": "32TMT"}),
        ({"s2:processing_baseline": "N0500"}, {"baseline": "05.00"}),
        ({"s2:processing_baseline": "N05.00"}, {"baseline": "05.00"}),
        ({"eo:cloud_cover": "12.5 %"}, {"cloud": 12.5}),
        ({"proj:transform": [600000, 10, 0, 5300040, 0, -10]}, {"corner": (600000.0, 5300040.0)}),
        ({"proj:transform": [10, 0, 600000, 0, -10, 5300040, 0, 0, 1]}, {"corner": (600000.0, 5300040.0)}),
    ],
)
def test_what_programs_write_otherwise(tmp_path: Path, changes: Json, wanted: Json) -> None:
    """Names of products for platforms and baselines, tiles in their letters, texts of tables, GDAL's geotransform."""
    (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": [item(**changes)]}))
    query = query_over(HERE, (datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)), "B04")
    (scene,) = search(query, find_catalog(str(tmp_path / "items.json")))
    assert not scene.problem
    (granule,) = scene.granules
    told = {"key": scene.key.platform, "tile": granule.tile, "baseline": granule.baseline, "corner": granule.corner}
    told |= {"cloud": granule.cloud_cover}
    assert {name: told[name] for name in wanted} == wanted
