"""Recorded answers of all four catalogs: scenes, baselines, offsets, as their providers' documents say they must be."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from shapely.geometry import box

from stac2cube.model.catalog import find_catalog
from stac2cube.model.mission import find_mission
from stac2cube.model.scene import Scene
from stac2cube.search.search import search
from tests.items import query_over
from tests.real.recorded import RASTERS, STAC, real

pytestmark = real

ALWAYS = (datetime(2015, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))


def scenes_of(path: Path, longitude: float = 9.5, cloud: float | None = None) -> list[Scene]:
    query = query_over(box(-180, -90, 180, 90), ALWAYS, longitude=longitude, max_cloud_cover=cloud)
    return search(query, find_catalog(str(path)))


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """The three recorded pages of one search as one ItemCollection."""
    features = []
    for page in ("page1", "page2", "page3_empty"):
        features += json.loads((STAC / f"earth_search/search_s2l2a_202003_{page}.json").read_text())["features"]
    assert len(features) == 16
    path = tmp_path / "pages.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_sixteen_items_are_two_scenes_of_the_newest_baseline(pages: Path) -> None:
    scenes = scenes_of(pages)
    assert [str(scene.key) for scene in scenes] == ["sentinel-2a_R065_20200302", "sentinel-2a_R108_20200305"]
    for scene in scenes:
        assert [granule.baseline for granule in scene.granules] == ["05.00"] * 4
        assert [granule.tile for granule in scene.granules] == ["32TMT", "32TNT", "32UMU", "32UNU"]
        assert all("_1_L2A" in granule.id for granule in scene.granules)
        assert all("_0_L2A" in name for name in scene.superseded)
        assert len(scene.superseded) == 4
        assert scene.problem == ""


def test_the_cloud_limit_is_per_scene(pages: Path) -> None:
    assert scenes_of(pages, cloud=99.7) == [s for s in scenes_of(pages) if (s.cloud_cover or 0) <= 99.7]
    assert scenes_of(pages, cloud=50) == []


# File below stac/, item id, counts to add to reflectance. From baseline 04.00 on pixels carry +1000 (ESA), except
# where Earth Search's flag says that it has subtracted them.
SHIFTS = [
    ("terrabyte/item_s2c1l2a_32UPU_20231207.json", "S2B_MSIL2A_20231207T102319_N0509_R065_T32UPU_20231207T132038", 0),
    ("terrabyte/item_s2c1l2a_33UVA_20240131.json", "S2A_MSIL2A_20240131T102251_N0510_R065_T33UVA_20240131T120750", 0),
    ("cdse/search_s2l2a_202007.json", "S2B_MSIL2A_20200705T101559_N0500_R065_T32TNT_20230530T175912", 0),
    (
        "planetary_computer/s2l2a_35MNM_2020_jun_jul.geojson",
        "S2A_MSIL2A_20200731T080611_R078_T35MNM_20200818T062751",
        1000,
    ),
    ("planetary_computer/s2l2a_13TDE_two_items.json", "S2B_MSIL2A_20240825T173909_R098_T13TDE_20240825T215747", 0),
    ("sentinel2_stactools/S2B_T33XWJ_20220413_N0400_L2A.json", "S2B_T33XWJ_20220413T150756_L2A", 0),
    ("earth_search/items/c1_l2a_13TDE_202404_itemcollection.json", "S2A_T13TDE_20240422T174753_L2A", 0),
    ("earth_search/items_33TWN/S2A_33TWN_20161202_0_L2A.json", "S2A_33TWN_20161202_0_L2A", 1000),
    ("earth_search/items_33TWN/S2B_33TWN_20180521_1_L2A.json", "S2B_33TWN_20180521_1_L2A", 1000),
    ("earth_search/items_33TWN/S2A_33TWN_20220122_0_L2A.json", "S2A_33TWN_20220122_0_L2A", 1000),
    ("earth_search/items_33TWN/S2B_33TWN_20220130_0_L2A.json", "S2B_33TWN_20220130_0_L2A", 1000),
    ("earth_search/search_s2l2a_landsat_20231008.json", "S2A_13TDE_20231008_0_L2A", 1000),
]


@pytest.mark.parametrize(("file", "item", "shift"), SHIFTS, ids=[row[1][:45] for row in SHIFTS])
def test_each_recorded_item(file: str, item: str, shift: int) -> None:
    granules = {g.id: g for scene in scenes_of(STAC / file) for g in scene.granules}
    granule = granules[item]
    mission = find_mission("sentinel-2-l2a")
    assert set(granule.assets) == set(mission.default_bands)
    assert {granule.assets[band].shift for band in granule.assets if band != "SCL"} == {shift}
    assert granule.assets["SCL"].shift == 0
    assert granule.crs.startswith(("EPSG:326", "EPSG:327"))
    assert len(granule.tile) == 5
    assert granule.datastrip.startswith("20")
    stored = json.loads(granule.item)
    assert stored["id"] == item
    assert "sig=" not in granule.item


def test_every_recorded_item_is_understood_or_explained() -> None:
    """Walk every file: no sentinel-2-l2a item is dropped, none contradicts itself."""
    counted = 0
    for path in sorted(STAC.rglob("*.json")) + sorted(STAC.rglob("*.geojson")):
        value = json.loads(path.read_text())
        features = value if isinstance(value, list) else value.get("features", [value])
        wanted = {
            f["id"]
            for f in features
            if f.get("type") == "Feature"
            and f.get("collection") in ("sentinel-2-l2a", "sentinel-2-c1-l2a")
            and "assets" in f
        }
        if not wanted:
            continue
        scenes = scenes_of(path)
        assert not [scene.problem for scene in scenes if scene.problem]
        assert wanted == {g.id for s in scenes for g in s.granules} | {name for s in scenes for name in s.superseded}
        counted += len(wanted)
    assert counted >= 60


def test_the_orbit_comes_from_the_product_name_where_the_item_has_none() -> None:
    path = STAC / "earth_search/items_33TWN/S2A_33TWN_20210328_0_L2A.json"
    assert "sat:relative_orbit" not in json.loads(path.read_text())["properties"]
    assert scenes_of(path)[0].key.orbit == 79


def test_one_acquisition_has_one_key_in_two_catalogs() -> None:
    """2024-04-22, S2A, R098 over 13TDE: Earth Search stamps it five minutes after the Planetary Computer would."""
    (scene,) = (
        s
        for s in scenes_of(STAC / "earth_search/items/c1_l2a_13TDE_202404_itemcollection.json", longitude=-105)
        if s.granules[0].id == "S2A_T13TDE_20240422T174753_L2A"
    )
    assert str(scene.key) == "sentinel-2a_R098_20240422"


def test_antimeridian_copies_are_found(tmp_path: Path) -> None:
    folder = RASTERS / "s2_l2a/mapchete_raw_offset_antimeridian"
    (scene,) = scenes_of(next(folder.glob("*/S2A_*.json")), longitude=180)
    assert scene.granules[0].assets["B04"].shift == 0, "raw pixels carry the +1000 already"


@pytest.mark.parametrize("path", sorted((STAC / "antimeridian").glob("*.json")), ids=lambda path: path.stem[-40:])
def test_recorded_footprints_over_180_degrees_stay_small(path: Path) -> None:
    """A tile is 110 km wide: some square degrees, never a belt around the globe."""
    from shapely.geometry import shape

    from stac2cube.search.parsing import footprint_of

    footprint = footprint_of(json.loads(path.read_text()))
    assert footprint.is_valid
    assert 0 < footprint.area < 8
    west, _, east, _ = footprint.bounds
    assert (west, east) == (-180, 180) or east - west < 10
    assert not footprint.intersects(box(-170, -90, 170, 90))
    assert shape(footprint.__geo_interface__).equals(footprint)
