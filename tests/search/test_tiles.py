"""Several items of one tile: parts by band, halves, versions of which the newest whole one is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from shapely.geometry import box

from stac2cube.model.catalog import find_catalog
from stac2cube.model.scene import Scene, standing
from stac2cube.search.search import search
from stac2cube.stages.layers import with_standins
from tests.items import query_over
from tests.pixels.products import Json, collection, product

YEAR = (datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC) - timedelta(microseconds=1))


def find(path: Path, *items: Json, mission: str = "sentinel-2-l2a", bands: str = "B04,B8A") -> list[Scene]:
    query = query_over(box(9.2, 47.2, 9.8, 47.8), YEAR, bands, mission=mission)
    return search(query, find_catalog(str(collection(path / "items.json", *items))))


def without(item: Json, *assets: str) -> Json:
    return item | {"assets": {name: asset for name, asset in item["assets"].items() if name not in assets}}


def landsat(name: str, assets: tuple[str, ...], collection_id: str = "landsat-c2l2-sr") -> Json:
    """As the USGS has it: an item per kind of product."""
    properties = {
        "datetime": "2023-05-12T10:05:46Z",
        "platform": "LANDSAT_8",
        "landsat:wrs_path": "193",
        "landsat:wrs_row": "027",
        "landsat:collection_category": "T1",
        "proj:epsg": 32632,
        "eo:cloud_cover": 8.2,
    }
    base = product(name)
    files = {key: {"href": f"/data/{name}/{key}.TIF"} for key in assets}
    return base | {"collection": collection_id, "properties": properties, "assets": files}


def test_parts_of_one_scene_complete_each_other_by_band(tmp_path: Path) -> None:
    stem = "LC08_L2SP_193027_20230512_20230522_02_T1"
    parts = [landsat(f"{stem}_SR", ("red", "qa_pixel")), landsat(f"{stem}_ST", ("lwir11",), "landsat-c2l2-st")]
    for order in (parts, parts[::-1]):
        (scene,) = find(tmp_path, *order, mission="landsat-c2-l2", bands="red,st")
        (granule,) = scene.granules
        assert scene.item_ids == (f"{stem}_SR", f"{stem}_ST")
        assert scene.superseded == ()
        assert {band: asset.href for band, asset in granule.assets.items()} == {
            "red": f"/data/{stem}_SR/red.TIF",
            "st": f"/data/{stem}_ST/lwir11.TIF",
        }
    (scene,) = find(tmp_path, *parts, mission="landsat-c2-l2", bands="st")
    assert scene.item_ids == (f"{stem}_ST",), "the one that has nothing of what is asked for is not read"


def test_a_newer_product_in_parts_is_preferred_to_an_older_whole_one(tmp_path: Path) -> None:
    old = landsat("LC08_L2SP_193027_20230512_20230522_02_T1", ("red", "lwir11"), "landsat-c2-l2")
    new = "LC08_L2SP_193027_20230512_20230912_02_T1"
    parts = [landsat(f"{new}_SR", ("red",)), landsat(f"{new}_ST", ("lwir11",), "landsat-c2l2-st")]
    (scene,) = find(tmp_path, old, *parts, mission="landsat-c2-l2", bands="red,st")
    assert scene.item_ids == (f"{new}_SR", f"{new}_ST")
    (spare,) = scene.spares["027/"]
    assert spare.id == old["id"]


def missing(item: str, band: str) -> str:
    return f"item {item}, band {band}: /data/x.TIF cannot be read: No such file or directory"


def test_an_item_of_one_band_stands_in_for_that_band_of_the_whole_one(tmp_path: Path) -> None:
    """The USGS serves the temperature of a scene in the item of all bands, and in one of its own."""
    stem = "LC08_L2SP_193027_20230512_20230522_02_T1"
    whole = landsat(stem, ("red", "qa_pixel", "lwir11"))
    alone = landsat(f"{stem}_ST", ("lwir11",), "landsat-c2l2-st")
    older = landsat("LC08_L2SP_193027_20230512_20230515_02_T1", ("red", "lwir11"))
    for order in ([whole, alone, older], [older, alone, whole]):
        (scene,) = find(tmp_path, *order, mission="landsat-c2-l2", bands="red,st")
        assert scene.item_ids == (stem,)
        assert [spare.item_ids for spare in scene.spares["027/"]] == [(f"{stem}_ST", stem), (older["id"],)]
        assert scene.spares["027/"][0].assets["red"] == scene.granules[0].assets["red"]
        mixed = with_standins(scene, missing(stem, "st"))
        assert mixed is not None
        assert mixed.item_ids == (stem, f"{stem}_ST")
        assert mixed.granules[0].assets["st"].href == f"/data/{stem}_ST/lwir11.TIF"
        assert mixed.superseded == (older["id"],)
        again = with_standins(mixed, missing(f"{stem}_ST", "st"))
        assert again is not None
        assert again.item_ids == (older["id"],)
        assert again.unreadable == {stem: missing(stem, "st"), f"{stem}_ST": missing(f"{stem}_ST", "st")}
        red = with_standins(scene, missing(stem, "red"))
        assert red is not None
        assert red.item_ids == (older["id"],), "that of one band would read the same file"


def test_parts_that_lie_in_different_systems_are_no_scene(tmp_path: Path) -> None:
    stem = "LC08_L2SP_193027_20230512_20230522_02_T1"
    other = landsat(f"{stem}_ST", ("lwir11",), "landsat-c2l2-st")
    other["properties"]["proj:epsg"] = 32633
    (scene,) = find(tmp_path, landsat(f"{stem}_SR", ("red",)), other, mission="landsat-c2-l2", bands="red,st")
    assert f"{stem}_SR lies in EPSG:32632" in scene.problem


def test_the_whole_item_beats_the_newer_one(tmp_path: Path) -> None:
    new, old = without(product("new", baseline="05.10"), "B04"), product("old", baseline="05.09")
    for order in ([new, old], [old, new]):
        (scene,) = find(tmp_path, *order)
        assert scene.item_ids == ("old",)
        assert scene.passed_over == {"new": "it lacks B04"}
        assert (scene.superseded, scene.problem) == (("new",), "")
    assert find(tmp_path, new, old, bands="B8A")[0].item_ids == ("new",), "of what is asked for it lacks nothing"


def test_where_none_is_whole_the_newest_is_completed(tmp_path: Path) -> None:
    new = without(product("new", baseline="05.10"), "B04")
    old = without(product("old", baseline="05.09"), "B8A")
    (scene,) = find(tmp_path, new, old)
    (granule,) = scene.granules
    assert scene.item_ids == ("new", "old")
    assert granule.id == "new"
    assert granule.assets["B04"].href == "/data/old/B04.tif"


def test_of_two_copies_made_at_once_one_stands_in_for_the_other(tmp_path: Path) -> None:
    one, other = product("one"), product("other")
    (scene,) = find(tmp_path, one, other)
    assert scene.item_ids == ("other",)
    assert [spare.id for spare in next(iter(scene.spares.values()))] == ["one"]
    one["properties"]["created"], other["properties"]["created"] = "2023-06-02T00:00:00Z", "2023-06-01T00:00:00Z"
    assert find(tmp_path, one, other)[0].item_ids == ("one",), "what the catalog wrote last is preferred"


def test_of_one_id_twice_the_newer_is_read_and_another_one_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = product("one"), product("one")
    old["properties"]["updated"], new["properties"]["updated"] = "2023-06-01T00:00:00Z", "2023-06-02T00:00:00Z"
    new["assets"]["B04"]["href"] = "/data/new.tif"
    for order in ([old, new], [new, old]):
        assert find(tmp_path, *order)[0].granules[0].assets["B04"].href == "/data/new.tif"
    assert "left out" not in caplog.text
    new["properties"]["datetime"] = "2023-05-22T10:30:00Z"
    assert len(find(tmp_path, old, new)) == 1
    assert "item one is there twice, with other times" in caplog.text


def test_what_is_left_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, old, swapped = product("good"), product("old"), product("swapped")
    old["properties"]["deprecated"] = True
    ring = swapped["geometry"]["coordinates"][0]
    swapped["geometry"] = {"type": "Polygon", "coordinates": [[[y, x] for x, y in ring]]}
    swapped["bbox"] = [9, 47, 10, 48]
    with caplog.at_level("INFO", "stac2cube"):
        assert find(tmp_path, good, old, swapped)[0].item_ids == ("good",)
    assert "left out 1 deprecated items: old" in caplog.text
    assert "item swapped has a geometry far from its bbox" in caplog.text


def test_an_item_that_contradicts_itself_gives_way_to_an_older_one(tmp_path: Path) -> None:
    new, old = product("new", baseline="05.10"), product("old", baseline="05.09")
    new["assets"]["B04"]["raster:bands"] = [{"offset": 0.0}]
    (scene,) = find(tmp_path, new, old)
    assert (scene.item_ids, scene.problem) == (("old",), "")
    assert "disagree" in scene.passed_over["new"]
    assert "disagree" in find(tmp_path, new)[0].problem


def test_halves_of_a_tile_that_name_no_datastrip_are_both_used(tmp_path: Path) -> None:
    west = product("west", strip="", rings=[[[9.0, 47.0], [9.5, 47.0], [9.5, 48.0], [9.0, 48.0], [9.0, 47.0]]])
    east = product("east", strip="", rings=[[[9.45, 47.0], [10, 47.0], [10, 48.0], [9.45, 48.0], [9.45, 47.0]]])
    (scene,) = find(tmp_path, west, east)
    assert scene.item_ids == ("east", "west")
    assert set(scene.parts) == {"32TNT/", "32TNT/#east"}
    (scene,) = find(tmp_path, product("a", strip=""), product("b", strip=""))
    assert (scene.item_ids, scene.superseded) == (("b",), ("a",)), "those that lie on each other are versions"


def test_who_names_no_datastrip_is_a_version_of_the_one_it_lies_on(tmp_path: Path) -> None:
    bare, named = product("bare", strip="", baseline="05.10"), product("named", baseline="05.09")
    (scene,) = find(tmp_path, without(bare, "B04"), named)
    assert (scene.item_ids, scene.superseded) == (("named",), ("bare",))
    east = product("east", strip="20230512T103200", baseline="05.09")
    (scene,) = find(tmp_path, bare, named, east)
    assert scene.item_ids == ("bare", "east", "named"), "of two datastrips, nobody knows which it is"


def test_bands_that_lie_in_different_systems_contradict_each_other(tmp_path: Path) -> None:
    odd, shifted, fine = product("odd"), product("shifted"), product("fine")
    odd["assets"]["B04"]["proj:code"], odd["assets"]["B8A"]["proj:code"] = "EPSG:32632", "EPSG:32633"
    odd["assets"]["B02"]["proj:code"] = "EPSG:3857"
    assert "B04 in EPSG:32632, B8A in EPSG:32633" in find(tmp_path, odd)[0].problem
    assert find(tmp_path, odd, bands="B04")[0].problem == "", "only bands that are asked for count"
    for name, east in (("B04", 600_000), ("B8A", 609_000)):
        shifted["assets"][name]["proj:transform"] = [10, 0, east, 0, -10, 5_300_040, 0, 0, 1]
    assert "begin at" in find(tmp_path, shifted)[0].problem
    for name, pixel in (("B04", 10), ("B8A", 20)):
        fine["assets"][name]["proj:transform"] = [pixel, 0, 600_000, 0, -pixel, 5_300_040]
    (scene,) = find(tmp_path, fine)
    assert (scene.problem, scene.granules[0].corner) == ("", (600_000, 5_300_040))


@pytest.mark.parametrize("picture", ["thumbnail", "overview", "preview", "visual", "B02"])
def test_what_pictures_and_other_bands_say_does_not_count(tmp_path: Path, picture: str) -> None:
    item = product()
    del item["properties"]["proj:epsg"]
    first = {"href": "/data/x.tif", "proj:code": "EPSG:3857", "proj:transform": [100, 0, 1, 0, -100, 2]}
    item["assets"] = {picture: first, **{k: v for k, v in item["assets"].items() if k != picture}}
    item["assets"]["B8A"] |= {"proj:epsg": 32632.0, "proj:transform": [20, 0, 600_000, 0, -20, 5_300_040]}
    (granule,) = find(tmp_path, item)[0].granules
    assert (granule.crs, granule.corner) == ("EPSG:32632", (600_000, 5_300_040))


@pytest.mark.parametrize(
    ("said", "crs"),
    [
        ({"proj:code": "EPSG:32633"}, "EPSG:32633"),
        ({"proj:code": "epsg:32633"}, "EPSG:32633"),
        ({"proj:epsg": "32633"}, "EPSG:32633"),
        ({"proj:epsg": 32633.0}, "EPSG:32633"),
        ({"proj:code": "EPSG:None", "proj:epsg": 32633}, "EPSG:32633"),
        ({"proj:code": None, "proj:epsg": None}, "EPSG:32632"),
        ({"proj:code": "EPSG:None"}, "EPSG:32632"),
        ({"proj:code": 5, "proj:epsg": {}}, "EPSG:32632"),
        ({"proj:code": "EPSG:999999"}, "EPSG:32632"),
        ({"proj:epsg": True}, "EPSG:32632"),
        ({"proj:wkt2": "PROJCRS["}, "EPSG:32632"),
    ],
)
def test_ways_to_say_a_crs_and_to_say_none(tmp_path: Path, said: Json, crs: str) -> None:
    """Who says none lies in the UTM zone of the tile's code."""
    item = product()
    del item["properties"]["proj:epsg"]
    item["properties"] |= said
    assert find(tmp_path, item)[0].granules[0].crs == crs


@pytest.mark.parametrize(
    ("had", "now", "how"),
    [
        ({}, {}, "same"),
        ({"generated": "2023-01-01"}, {"generated": "2023-02-01"}, "newer"),
        ({"generated": "2023-02-01"}, {"generated": "2023-01-01"}, "older"),
        ({"updated": "2023-01-01"}, {"updated": "2023-02-01"}, "newer"),
        ({"updated": "2023-02-01"}, {"updated": "2023-01-01"}, "same"),
        ({"created": "2023-01-01"}, {"created": "2023-02-01"}, "newer"),
        ({"checksum": "a"}, {"checksum": "b"}, "newer"),
        ({"checksum": "a", "updated": "2023-01-01"}, {"checksum": "a", "updated": "2023-02-01"}, "same"),
        ({"product": "a"}, {"product": "b"}, "newer"),
        ({"size": "5"}, {"size": "6"}, "newer"),
        ({"size": "5"}, {}, "same"),
        ({}, {"generated": "2023-02-01", "checksum": "b"}, "same"),
        ({"created": "2023-01-01T10:20:30.240000+00:00"}, {"created": "2023-01-01T10:20:30.240406+00:00"}, "same"),
        ({"created": "2023-01-01T10:20:30.240000+00:00"}, {"created": "2023-01-01T10:20:30.241406+00:00"}, "newer"),
        ({"generated": "2023-01-01T10:20:30.240406+00:00"}, {"generated": "2023-01-01T10:20:30.240000+00:00"}, "same"),
    ],
)
def test_how_an_item_stands_to_what_it_was(had: dict[str, str], now: dict[str, str], how: str) -> None:
    assert standing(had, now) == how
