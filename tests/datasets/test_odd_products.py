"""Odd items among good ones: what is downloaded of the good ones, and the samples of them, are as without the odd."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stac2cube.datasets.download import Fetcher, run_download
from stac2cube.datasets.rules import DownloadRequest, SampleRequest, SampleRules
from stac2cube.datasets.samples import run_samples
from stac2cube.executors.base import Threads
from stac2cube.model.geometry import read_areas
from stac2cube.model.query import Query
from tests.datasets.products import Pair
from tests.items import Json, catalog
from tests.real.recorded import real
from tests.search.mutations import JUNK, KINDS, SENTINEL_2, cut, paths, put, recorded

ROLES = ("l1c.band.B09", "l1c.product_metadata", "l2a.scl_20m")
RULES = SampleRules(bands=("B09",), target="B09", labels=None, angles=None)
(AREA,) = read_areas((10.3375, 47.8365, 10.3595, 47.8455))

pytestmark = real


def odd_ones(pair: Pair) -> list[Json]:
    """Recorded products of all catalogs, each of another day, brought to where the files of a pair lie."""
    made = []
    for number, (_, mission, item) in enumerate(recorded()):
        if mission not in ("sentinel-2-l1c", "sentinel-2-l2a"):
            continue
        level = mission[-3:].upper()
        one, here = copy.deepcopy(item), pair.item(level)
        one |= {"geometry": here["geometry"], "bbox": here["bbox"], "id": f"{item['id']}x{number}"}
        one["properties"]["datetime"] = f"2023-05-{14 + number % 14:02d}T{number // 14 % 20:02d}:26:01Z"
        for name, asset in one["assets"].items():
            known = {"B09", "coastal", "nir09", "SCL_20m", "scl", "SCL", "product_metadata", "granule_metadata"}
            key = {"nir09": "B09", "scl": "SCL_20m", "SCL": "SCL_20m"}.get(name, name) if name in known else ""
            asset["href"] = here["assets"].get(key, {"href": f"/nowhere/{name}.tif"})["href"]
        made.append(one)
    return made


class World:
    """A good pair, and what comes of it alone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.pair = Pair(folder / "origin").write()
        self.good, self.odd = self.pair.items(), odd_ones(self.pair)
        self.alone = self.made([])
        assert len(self.alone[0]) == len(ROLES)
        assert len(self.alone[1]) == 1

    def made(self, odd: list[Any]) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Files of the good pair, and pixels of its sample, made from a catalog with odd items in it."""
        self.number += 1
        out = self.folder / str(self.number)
        source = catalog(self.folder / f"{self.number}.json", [self.good[0], *odd, self.good[1]])
        request = DownloadRequest(AREA, "2023", ROLES, source)
        done = run_download(request, out / "files", fetcher=Fetcher(attempts=1), tables=())
        assert all(entry.reason for entry in done.absent)
        ids = {item["id"] for item in self.good}
        files = {
            entry.role: (out / "files" / entry.path).read_bytes()
            for entry in done.manifest.files
            if entry.item in ids and entry.state == "there"
        }
        report = run_samples(SampleRequest(Query(catalog=source)), out / "set", RULES, Threads(2), incomplete="list")
        assert all(report.failed.values())
        samples = {}
        for sample in report.index.samples:
            if sample.x_path and sample.time.startswith("2023-05-12"):
                with rasterio.open(out / "set" / sample.x_path) as image:
                    samples[sample.id] = image.read().tobytes()
        return files, samples

    def check(self, odd: list[Any]) -> None:
        assert self.made(odd) == self.alone


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("odd"))


def test_odd_items_leave_downloads_and_samples_alone(world: World) -> None:
    kinds = (*KINDS, *SENTINEL_2)[::7]
    world.check([kind.change(copy.deepcopy(world.odd[n % len(world.odd)])) for n, kind in enumerate(kinds)])


@pytest.mark.soak
def test_every_kind_of_odd_item_leaves_downloads_and_samples_alone(world: World) -> None:
    for kind in (*KINDS, *SENTINEL_2):
        world.check([kind.change(copy.deepcopy(item)) for item in world.odd])


@pytest.mark.soak
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_value_anywhere_changes_downloads_and_samples(world: World, data: st.DataObject) -> None:
    """Two thousand mutations, fifty at a time."""
    changed = []
    for number in range(50):
        item = world.odd[data.draw(st.integers(0, len(world.odd) - 1))]
        one: Json = item | {"id": f"{item['id']}-{number}"}
        places = sorted(paths(one), key=lambda place: (len(place), str(place)))
        place = places[data.draw(st.integers(0, len(places) - 1))]
        changed.append(cut(one, place) if data.draw(st.booleans()) else put(one, place, data.draw(JUNK)))
    world.check(json.loads(json.dumps(changed)))
