"""Searching a STAC API over HTTP: a real server, a server that fails, recorded answers of a real catalog."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import shapely

from stac2cube.errors import CatalogError
from stac2cube.model.catalog import Catalog, find_catalog
from stac2cube.model.query import Query
from stac2cube.model.scene import Scene
from stac2cube.search.search import search
from tests.items import query_over
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.ports import free_port
from tests.servers.replay import replayed
from tests.servers.stac_api import StacApi

RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "stac" / "earth_search"
FIRST_PAGE = "search_s2l2a_202003_page1.json"
Json = dict[str, Any]

needs_recordings = pytest.mark.skipif(not RECORDED.is_dir(), reason="../shared/data is absent")


def recorded() -> tuple[list[Json], list[Json]]:
    """Collections and items: 4 tiles x 2 overpasses, each at two baselines."""
    pages = [json.loads((RECORDED / name).read_text()) for name in (FIRST_PAGE, FIRST_PAGE.replace("1.json", "2.json"))]
    items = [item for page in pages for item in page["features"]]
    held = {item["collection"] for item in items}
    listed = json.loads((RECORDED / "collections.json").read_text())["collections"]
    return [entry for entry in listed if entry["id"] in held], items


def simulated(folder: Path) -> tuple[list[Json], list[Json]]:
    """The same from the simulator, for a checkout without the recordings."""
    from stac2cube.testing.archive import ArchiveSpec, simulate

    spec = ArchiveSpec(years=(2023,), dates_per_year=4, tile_px=96, catalogs=("earth-search",))
    archive = simulate(folder, spec)
    return archive.collections("earth-search"), archive.items("earth-search", base_url="https://data.example")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Json], list[Json]]:
    return recorded() if RECORDED.is_dir() else simulated(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def loaded(stac_api: StacApi, stock: tuple[list[Json], list[Json]]) -> StacApi:
    stac_api.load(*stock)
    return stac_api


@pytest.fixture
def local(tmp_path: Path, stock: tuple[list[Json], list[Json]]) -> Catalog:
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": stock[1]}))
    return find_catalog(str(path))


def query_for(items: list[Json], max_cloud_cover: float | None = None) -> Query:
    times = [datetime.fromisoformat(item["properties"]["datetime"]) for item in items]
    geometry = shapely.box(*shapely.union_all([shapely.geometry.shape(item["geometry"]) for item in items]).bounds)
    whole = (min(times).astimezone(UTC), max(times).astimezone(UTC))
    return query_over(geometry, whole, "B02,SCL", max_cloud_cover=max_cloud_cover)


def essence(scenes: list[Scene]) -> list[tuple[Any, ...]]:
    """What a scene is, whichever way it was found."""
    return [(scene.key, scene.time, scene.superseded, [(g.id, g.assets) for g in scene.granules]) for scene in scenes]


@pytest.mark.postgres
def test_the_api_gives_what_the_local_file_gives(
    loaded: StacApi, local: Catalog, stock: tuple[list[Json], list[Json]]
) -> None:
    query = query_for(stock[1])
    scenes = search(query, find_catalog(loaded.url))
    assert len(scenes) >= 2
    assert essence(scenes) == essence(search(query, local))
    assert scenes == sorted(scenes, key=lambda scene: scene.key)


@pytest.mark.postgres
def test_the_cloud_filter_holds(loaded: StacApi, local: Catalog, stock: tuple[list[Json], list[Json]]) -> None:
    catalog = find_catalog(loaded.url)
    covers = [scene.cloud_cover for scene in search(query_for(stock[1]), catalog)]
    known = sorted(cover for cover in covers if cover is not None)
    assert known
    limit = (known[0] + known[-1]) / 2
    query = query_for(stock[1], max_cloud_cover=limit)
    scenes = search(query, catalog)
    assert [scene.cloud_cover for scene in scenes] == [cover for cover in covers if cover is None or cover <= limit]
    assert 0 < len(scenes) < len(covers)
    assert essence(scenes) == essence(search(query, local))


@pytest.mark.postgres
def test_long_answers_come_in_pages(
    loaded: StacApi, fault_proxy: FaultProxy, stock: tuple[list[Json], list[Json]], monkeypatch: pytest.MonkeyPatch
) -> None:
    query = query_for(stock[1])
    whole = essence(search(query, find_catalog(loaded.url)))
    monkeypatch.setattr("stac2cube.search.clients.PAGE", 3)
    assert essence(search(query, find_catalog(fault_proxy.url))) == whole
    pages = [seen for seen in fault_proxy.seen if "/search" in seen.path]
    assert len(pages) >= len(stock[1]) / 3


@pytest.mark.postgres
def test_nothing_found_is_an_empty_list(loaded: StacApi, stock: tuple[list[Json], list[Json]]) -> None:
    query = query_for(stock[1])
    elsewhere = query_over(shapely.box(-70, -30, -69, -29), query.intervals[0], "B02,SCL")
    assert search(elsewhere, find_catalog(loaded.url)) == []


@pytest.mark.postgres
@pytest.mark.parametrize(
    "faults",
    [
        [Fault(status=503)] * 3,
        [Fault(status=429, retry_after=1)],
        [Fault(drop=True)],
        [Fault(status=502), Fault(drop=True)],
        [Fault(delay=1.0)],
    ],
    ids=["503 storm", "429 with Retry-After", "dropped connections", "a mixture", "slow"],
)
def test_a_search_survives(
    loaded: StacApi, fault_proxy: FaultProxy, stock: tuple[list[Json], list[Json]], faults: list[Fault]
) -> None:
    query = query_for(stock[1])
    expected = essence(search(query, find_catalog(loaded.url)))
    fault_proxy.inject(*faults, path="/search")
    assert essence(search(query, find_catalog(fault_proxy.url))) == expected
    statuses = [seen.status for seen in fault_proxy.seen if "/search" in seen.path]
    assert len(statuses) > sum(1 for fault in faults if fault.status or fault.drop), "every fault was met"
    if faults[0].retry_after:
        refused, again = [seen.at for seen in fault_proxy.seen if "/search" in seen.path][:2]
        assert again - refused >= faults[0].retry_after


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("fault", "path"),
    [
        (Fault(status=403), ""),
        (Fault(status=404), ""),
        (Fault(status=200), ""),
        (Fault(status=400), "/search"),
        (Fault(status=200), "/search"),
        (Fault(cut=True), "/search"),
    ],
    ids=["refused", "not there", "a web page", "search refused", "a web page for a search", "half an answer"],
)
def test_an_answer_that_is_none_is_named(
    fault_proxy: FaultProxy, stock: tuple[list[Json], list[Json]], fault: Fault, path: str
) -> None:
    fault_proxy.inject(*[fault] * 20, path=path)
    with pytest.raises(CatalogError) as caught:
        search(query_for(stock[1]), find_catalog(fault_proxy.url))
    assert fault_proxy.url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreachable_server_is_named(stock: tuple[list[Json], list[Json]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stac2cube.search.clients.RETRIES", 1)
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(CatalogError) as caught:
        search(query_for(stock[1]), find_catalog(url))
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.real
@needs_recordings
def test_recorded_pages_of_earth_search_over_http() -> None:
    items = recorded()[1]
    with replayed(RECORDED, FIRST_PAGE) as url:
        scenes = search(query_for(items), find_catalog(url))
    assert [str(scene.key) for scene in scenes] == ["sentinel-2a_R065_20200302", "sentinel-2a_R108_20200305"]
    found = [granule for scene in scenes for granule in scene.granules]
    assert len(found) == 8
    assert {granule.baseline for granule in found} == {"05.00"}
    assert sum(len(scene.superseded) for scene in scenes) == 8
