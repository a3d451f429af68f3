"""Which items make a scene: days, overpasses, datastrips, reprocessed products, odd footprints."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from stac2cube.model.catalog import find_catalog
from stac2cube.model.scene import Scene
from stac2cube.search.search import search
from tests.items import query_over
from tests.pixels.products import Json, collection, product

AREA = box(9.2, 47.2, 9.8, 47.8)
MAY = (datetime(2023, 5, 1, tzinfo=UTC), datetime(2023, 6, 1, tzinfo=UTC) - timedelta(microseconds=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "items.json"


def find(
    path: Path,
    *items: Json,
    area: BaseGeometry = AREA,
    longitude: float = 9.5,
    times: tuple[datetime, datetime] = MAY,
    cloud: float | None = None,
) -> list[Scene]:
    query = query_over(area, times, longitude=longitude, max_cloud_cover=cloud)
    return search(query, find_catalog(str(collection(path, *items))))


def test_two_datastrips_of_one_overpass_are_both_used(path: Path) -> None:
    items = [product("b", strip="20230512T103200"), product("a", strip="20230512T103010")]
    for order in (items, items[::-1]):
        (scene,) = find(path, *order)
        assert [granule.id for granule in scene.granules] == ["a", "b"], "by sensing start, not as they were found"
        assert scene.superseded == ()
        assert scene.parts == {"32TNT/20230512T103010": "05.09", "32TNT/20230512T103200": "05.09"}


def test_of_one_datastrip_the_newest_baseline_is_used(path: Path) -> None:
    made = [
        product("a", baseline="10.00", strip="20230512T103010"),
        product("b", baseline="09.00", **{"s2:generation_time": "2025-01-01T00:00:00Z"}),
        product("c", baseline="05.09"),
    ]
    for order in (made, made[::-1]):
        (scene,) = find(path, *order)
        assert scene.item_ids == ("a",), "10.00 is newer than 09.00: numbers, not texts, and not the time of making"
        assert scene.superseded == ("b", "c")


def test_of_one_baseline_the_product_made_last_is_used(path: Path) -> None:
    made = [
        product("z", **{"s2:generation_time": "2023-05-12T16:15:00.000000Z"}),
        product("a", **{"s2:generation_time": "2023-05-13T02:00:00+02:00"}),
    ]
    for order in (made, made[::-1]):
        assert find(path, *order)[0].item_ids == ("a",)


def test_baselines_of_a_superseded_product_do_not_matter(path: Path) -> None:
    """Only what is used is judged: the older product's missing offset is no problem of the newer one's."""
    old = product("old", baseline="05.00")
    old["assets"]["B04"]["raster:bands"] = [{"offset": 0}]
    assert find(path, old, product("new"))[0].problem == ""
    assert "old" in find(path, old)[0].problem


def test_orbits_platforms_and_days_are_scenes_of_their_own(path: Path) -> None:
    scenes = find(
        path,
        product("1"),
        product("2", **{"sat:relative_orbit": 65}),
        product("3", platform="sentinel-2b"),
        product("4", time="2023-05-13T10:26:01Z"),
        product("5", time="2023-05-12T10:31:00Z", tile="32TMT"),
    )
    assert [str(scene.key) for scene in scenes] == [
        "sentinel-2a_R065_20230512",
        "sentinel-2a_R108_20230512",
        "sentinel-2b_R108_20230512",
        "sentinel-2a_R108_20230513",
    ]
    assert [granule.id for granule in scenes[1].granules] == ["5", "1"]
    assert scenes[1].time == datetime(2023, 5, 12, 10, 26, 1, 24000, tzinfo=UTC)


def test_an_overpass_over_utc_midnight_is_one_scene(path: Path) -> None:
    """Near 180 degrees east the morning overpass falls on midnight UTC; the sun knows no such line."""
    ring = [[[176.0, -40.0], [177.0, -40.0], [177.0, -39.0], [176.0, -39.0], [176.0, -40.0]]]
    before = product("before", time="2023-05-12T23:59:58Z", tile="60HVD", rings=ring)
    after = product("after", time="2023-05-13T00:00:09Z", tile="60HVC", rings=ring)
    area = box(176.2, -39.8, 176.8, -39.2)
    (scene,) = find(path, before, after, area=area, longitude=176.5)
    assert scene.key.day.isoformat() == "2023-05-13"
    assert scene.item_ids == ("after", "before")
    day = (datetime(2023, 5, 13, tzinfo=UTC), datetime(2023, 5, 14, tzinfo=UTC))
    (cut,) = find(path, before, after, area=area, longitude=176.5, times=day)
    assert cut.item_ids == ("after", "before"), "the times asked for do not cut a scene in two"
    assert find(path, before, area=area, longitude=176.5, times=day) == []


@pytest.mark.parametrize(
    "west",
    [
        [[[179.0, -17.0], [-179.0, -17.0], [-179.0, -16.0], [179.0, -16.0], [179.0, -17.0]]],
        [[[179.0, -17.0], [181.0, -17.0], [181.0, -16.0], [179.0, -16.0], [179.0, -17.0]]],
        [[[-181.0, -17.0], [-179.0, -17.0], [-179.0, -16.0], [-181.0, -16.0], [-181.0, -17.0]]],
    ],
    ids=["jumps", "beyond 180", "beyond -180"],
)
def test_footprints_across_the_antimeridian(path: Path, west: list) -> None:
    item = product("fiji", tile="01KAB", rings=west)
    for area, longitude in ((box(-179.9, -16.9, -179.5, -16.1), -179.7), (box(179.5, -16.9, 179.9, -16.1), 179.7)):
        (scene,) = find(path, item, area=area, longitude=longitude)
        footprint = shape(scene.granules[0].footprint)
        assert footprint.geom_type == "MultiPolygon"
        assert footprint.area == pytest.approx(2.0)
    assert find(path, item, area=box(0, -17, 10, -16), longitude=5) == [], "it does not span the globe"


def test_what_touches_only_the_box_is_no_scene(path: Path) -> None:
    triangle = [[[9.0, 47.0], [10.0, 47.0], [9.0, 48.0], [9.0, 47.0]]]
    assert find(path, product(rings=triangle), area=box(9.7, 47.7, 9.9, 47.9)) == []


def test_clouds_are_weighed_by_what_each_granule_covers(path: Path) -> None:
    half = [[[9.0, 47.0], [9.5, 47.0], [9.5, 48.0], [9.0, 48.0], [9.0, 47.0]]]
    made = [product("a", rings=half, tile="32TMT", **{"eo:cloud_cover": 90.0}), product("b", **{"eo:cloud_cover": 0.0})]
    (scene,) = find(path, *made)
    assert scene.cloud_cover == pytest.approx(30.0)
    assert find(path, *made, cloud=30.0) != []
    assert find(path, *made, cloud=29.9) == []
    unknown = product("c", **{"eo:cloud_cover": None})
    assert find(path, unknown, cloud=0)[0].cloud_cover is None


def test_the_same_item_twice_is_one(path: Path) -> None:
    (scene,) = find(path, product("a"), product("a"))
    assert (scene.item_ids, scene.superseded) == (("a",), ())


def test_items_of_other_satellites_are_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(find(path, product("S2A_X"), product("odd", platform="sentinel-9"))) == 1
    assert len(caplog.records) == 1
    assert "odd" in caplog.text


def test_platforms_are_found_in_product_names_too(path: Path) -> None:
    name = "S2B_MSIL2A_20230512T102601_N0509_R108_T32TNT_20230512T161500"
    for given in ("", "sentinel-2", "Sentinel 2B", "SENTINEL_2B"):
        assert find(path, product(name, platform=given))[0].key.platform == "sentinel-2b"


def test_an_item_that_lacks_a_band_keeps_the_others(path: Path) -> None:
    item = product("S2A_X")
    del item["assets"]["B8A"]
    (scene,) = find(path, item)
    assert "B8A" not in scene.granules[0].assets
    assert len(scene.granules[0].assets) == 10
