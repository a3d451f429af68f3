"""The whole way over HTTP: a real STAC API answers the search, a real range server gives the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import stac2cube
from stac2cube.errors import IncompleteError
from stac2cube.store.reader import differences, open_cube
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.servers.range_server import serving
from tests.servers.stac_api import StacApi

WORDS = {"mission": "sentinel-2-l2a", "time": "2023", "bands": ["B04", "B05", "SCL"]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), ArchiveSpec(years=(2023,), dates_per_year=3, tile_px=120))


def test_a_cube_over_http_is_the_cube_from_disk(archive: Archive, stac_api: StacApi, tmp_path: Path) -> None:
    local, remote = tmp_path / "local.zarr", tmp_path / "remote.zarr"
    area = archive.area(two_zones=True)
    stac2cube.get_stac_layers(local, aoi=area, catalog=str(archive.catalog("earth-search")), **WORDS)
    with serving(archive.root, latency=0.005) as files:
        stac_api.load(archive.collections("earth-search"), archive.items("earth-search", base_url=files.url))
        stac2cube.get_stac_layers(remote, aoi=area, catalog=stac_api.url, **WORDS)
        assert differences(local, remote) == []
        asked = len(files.requests)
        stac2cube.get_stac_layers(remote, update=True)
        assert len(files.requests) == asked, "nothing to do, nothing read"


def test_a_storm_on_one_asset_leaves_out_its_step_only(archive: Archive, stac_api: StacApi, tmp_path: Path) -> None:
    cube = tmp_path / "a.zarr"
    with serving(archive.root) as files:
        items = archive.items("earth-search", base_url=files.url)
        stac_api.load(archive.collections("earth-search"), items)
        victim = items[-1]["assets"]["red"]["href"].removeprefix(files.url)
        files.faults[victim] = [404] * 1000
        with pytest.raises(IncompleteError, match=r"1 step.*B04.*404"):
            stac2cube.get_stac_layers(cube, aoi=archive.area(two_zones=True), catalog=stac_api.url, **WORDS)
        assert open_cube(cube).sizes["time"] == 2
        files.faults.clear()
        stac2cube.get_stac_layers(cube, update=True)
    assert open_cube(cube).sizes["time"] == 3


def test_worker_processes_make_the_same_cube(archive: Archive, tmp_path: Path) -> None:
    threads, local = tmp_path / "threads.zarr", tmp_path / "local.zarr"
    words = {"aoi": archive.area(), "catalog": str(archive.catalog("earth-search")), **WORDS}
    stac2cube.get_stac_layers(threads, **words)
    stac2cube.get_stac_layers(local, place=stac2cube.Local(workers=2), **words)
    assert differences(threads, local) == []
    assert np.isfinite(open_cube(local)["B04"].values).any()
