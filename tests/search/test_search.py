"""From local catalogs of every kind to scenes: days, orbits, duplicates, problems."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import rustac
from shapely.geometry import box

from stac2cube.errors import CatalogError
from stac2cube.model.catalog import find_catalog
from stac2cube.model.scene import Scene, orbit_of
from stac2cube.search.search import search, solar_day
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.items import query_over

Json = dict[str, Any]
CATALOGS = ("earth-search", "planetary-computer", "terrabyte", "cdse")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    spec = ArchiveSpec(years=(2021, 2023), dates_per_year=2, tile_px=96, catalogs=CATALOGS)
    return simulate(tmp_path_factory.mktemp("archive"), spec)


def find(path: Path, *, cloud: float | None = None, year: int | None = None, longitude: float = 12.0) -> list[Scene]:
    first, last = (year, year + 1) if year else (2000, 2030)
    interval = (datetime(first, 1, 1, tzinfo=UTC), datetime(last, 1, 1, tzinfo=UTC))
    query = query_over(box(5, 40, 20, 55), interval, longitude=longitude, max_cloud_cover=cloud)
    return search(query, find_catalog(str(path)))


def collection_of(items: list[Json], path: Path) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def test_one_archive_has_the_same_scenes_in_all_four_catalogs(archive: Archive) -> None:
    found = {name: find(archive.catalog(name)) for name in CATALOGS}
    keys = {name: [scene.key for scene in scenes] for name, scenes in found.items()}
    assert len(keys["cdse"]) == 4
    assert all(keys[name] == keys["cdse"] for name in CATALOGS)
    parts = {name: [scene.parts for scene in scenes] for name, scenes in found.items()}
    assert all(parts[name] == parts["cdse"] for name in CATALOGS)
    ids = {name: {i for scene in scenes for i in scene.item_ids} for name, scenes in found.items()}
    assert not ids["earth-search"] & ids["planetary-computer"]
    stamps = {name: [scene.time for scene in scenes] for name, scenes in found.items()}
    assert stamps["earth-search"] != stamps["planetary-computer"], "catalogs stamp one scene minutes apart"


def test_the_reprocessed_product_wins_and_the_older_is_remembered(archive: Archive) -> None:
    doubled = [scene for scene in find(archive.catalog("earth-search")) if scene.superseded]
    assert len(doubled) == 1
    assert all(float(granule.baseline) >= 5 for granule in doubled[0].granules)
    assert all("_1_" in granule.id for granule in doubled[0].granules)
    assert all("_0_" in name for name in doubled[0].superseded)


def test_every_kind_of_local_catalog_gives_the_same(archive: Archive, tmp_path: Path) -> None:
    items = archive.items("terrabyte")
    wanted = [(scene.key, scene.item_ids, scene.parts) for scene in find(collection_of(items, tmp_path / "a.json"))]
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps(items))
    parquet = tmp_path / "items.parquet"
    rustac.write_sync(str(parquet), items)
    folder = tmp_path / "folder"
    for item in items:
        (folder / item["id"]).mkdir(parents=True)
        (folder / item["id"] / "item.json").write_text(json.dumps(item))
    (folder / "notes.json").write_text('{"hello": 1}')
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    rustac.write_sync(str(pieces / "one.parquet"), items[:5])
    rustac.write_sync(str(pieces / "two.parquet"), items[5:])
    for path in (listed, parquet, folder, pieces, archive.static_catalog("terrabyte")):
        found = [(scene.key, scene.item_ids, scene.parts) for scene in find(path)]
        assert found == wanted, path


def test_relative_addresses_are_meant_from_the_file(archive: Archive) -> None:
    scene = find(archive.static_catalog("earth-search"))[0]
    for asset in scene.granules[0].assets.values():
        assert Path(asset.href).is_absolute()
        assert Path(asset.href).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is not JSON"),
        ('{"type": "FeatureCollection", "features": []}', "holds no STAC item"),
        ('{"type": "Polygon"}', "neither a STAC item"),
        ('[{"type": "Feature"}]', "not a STAC item"),
    ],
)
def test_what_is_no_catalog_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(CatalogError, match=message):
        find(path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(CatalogError, match="is not STAC GeoParquet"):
        find(tmp_path / "x.parquet")


def test_times_and_clouds_are_checked_here_whatever_a_server_does(archive: Archive) -> None:
    path = archive.catalog("cdse")
    assert {scene.key.day.year for scene in find(path, year=2023)} == {2023}
    everything = find(path)
    limit = sorted(scene.cloud_cover or 0 for scene in everything)[1]
    assert len(find(path, cloud=limit)) == 2


def test_an_item_that_contradicts_itself_does_not_hide_the_others(archive: Archive, tmp_path: Path) -> None:
    items = copy.deepcopy(archive.items("terrabyte"))
    bad = next(item for item in items if "B04" in item["assets"])
    bad["assets"]["B04"]["raster:bands"][0]["offset"] = 0
    scenes = find(collection_of(items, tmp_path / "bad.json"))
    assert len(scenes) == 4
    (problem,) = [scene.problem for scene in scenes if scene.problem]
    assert bad["id"] in problem
    assert "baseline" in problem


def test_signatures_never_stay(archive: Archive, tmp_path: Path) -> None:
    items = copy.deepcopy(archive.items("planetary-computer"))
    signed = items[-1]
    for asset in signed["assets"].values():
        asset["href"] = f"https://account.blob.core.windows.net{asset['href']}?st=2023&sig=SECRET"
    scenes = find(collection_of(items, tmp_path / "signed.json"))
    granule = next(g for scene in scenes for g in scene.granules if g.id == signed["id"])
    assert "SECRET" not in granule.item
    assert not any("SECRET" in asset.href for asset in granule.assets.values())
    assert granule.signer == "planetary-computer"


def test_the_solar_day_follows_the_sun() -> None:
    evening = datetime(2023, 5, 12, 22, 30, tzinfo=UTC)
    assert solar_day(evening, 180) == date(2023, 5, 13)
    assert solar_day(evening, -179) == date(2023, 5, 12)
    assert solar_day(evening, 0) == date(2023, 5, 12)


@pytest.mark.parametrize(
    ("name", "platform", "orbit"),
    [
        ("S2A_MSIL2A_20200305T103021_N0500_R108_T32TMT_20230630T022413", "sentinel-2a", 108),
        ("S2A_OPER_MSI_L2A_TL_2APS_20240423T004950_A044964_T13TDE_N05.10", "sentinel-2a", 65),
        ("S2B_OPER_MSI_L2A_TL_2BPS_20240423T004950_A037185_T13TDE_N05.10", "sentinel-2b", 122),
    ],
)
def test_the_relative_orbit_is_found_in_names(name: str, platform: str, orbit: int) -> None:
    assert orbit_of({"id": name, "properties": {}}, platform) == orbit


def test_an_item_without_any_orbit_is_named() -> None:
    with pytest.raises(CatalogError, match="item X does not say its relative orbit"):
        orbit_of({"id": "X", "properties": {}}, "sentinel-2a")
