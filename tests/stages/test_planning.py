"""Planning is array arithmetic: a decade of a full tile is planned before anybody waits for it."""

from __future__ import annotations

import copy
import cProfile
import json
import pstats
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from odc.geo import geom

from stac2cube.build.plan import Plan, plan
from stac2cube.build.scheduler import IN_FLIGHT
from stac2cube.model.catalog import Catalog
from stac2cube.model.grid import Grid, grid_over
from stac2cube.model.image import BandRequest
from stac2cube.model.mission import find_mission
from stac2cube.model.scene import Scene
from stac2cube.pixels.lazy import lazy_scenes
from stac2cube.search.index_files import StoredItem
from stac2cube.search.items import item_text
from stac2cube.search.search import scenes_of
from stac2cube.stages.layers import steps_for
from tests.items import query_over
from tests.pixels.products import product

ITEMS = 2400
EDGE = 10_980
BEGIN = datetime(2016, 1, 1, 10, tzinfo=UTC)
WITHIN = 0.5
"""CPU seconds that planning may take."""

CALLS = 1000
"""Calls of our own functions that planning one item of eleven bands may take (757 when this was written). Seconds say
little: planning 2,400 items takes 0.3 to 0.5 on a quiet machine, and 1 on a crowded one."""


@pytest.fixture(scope="module")
def grid() -> Grid:
    tile = geom.box(600_000, 4_890_240, 709_800, 5_000_040, "EPSG:32632")
    return grid_over(tile.geom, "EPSG:32632", "EPSG:32632", 10)


@pytest.fixture(scope="module")
def items(grid: Grid) -> list[StoredItem]:
    """As an index gives them, as long as those of real catalogs."""
    ring = [list(corner) for corner in grid.geobox.extent.to_crs("EPSG:4326").exterior.coords]
    template = product(rings=[ring], filler="x" * 4000)
    for asset in template["assets"].values():
        asset |= {"type": "image/tiff", "raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": -0.1}] * 3}
    made = []
    for number in range(ITEMS):
        day = BEGIN + timedelta(days=number)
        item = copy.deepcopy(template)
        item["id"] = f"S2A_MSIL2A_{day:%Y%m%dT%H%M%S}_R108_T32TPQ"
        item["properties"]["datetime"] = day.isoformat()
        item["properties"]["s2:datastrip_id"] = (
            f"S2A_OPER_MSI_L2A_DS_2APS_{day:%Y%m%dT%H%M%S}_S{day:%Y%m%dT%H%M%S}_N05.09"
        )
        made.append(StoredItem(item_text(item)))
    return made


def planned(items: list[StoredItem], grid: Grid) -> tuple[list[Scene], Plan]:
    mission = find_mission("sentinel-2-l2a")
    area = grid.geobox.extent.to_crs("EPSG:4326").geom
    bands = mission.choose_bands(None)
    assert len(bands) == 11
    query = query_over(area, (BEGIN, BEGIN + timedelta(days=ITEMS)))
    scenes = scenes_of(items, query, Catalog("planetary-computer", "", "", like="planetary-computer"))
    return scenes, plan(steps_for(scenes, grid, "asked for", [band.name for band in bands]), {})


def cpu(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def test_a_decade_of_a_tile_is_planned_at_once(items: list[StoredItem], grid: Grid) -> None:
    profile = cProfile.Profile()
    scenes, made = profile.runcall(planned, items, grid)
    assert len(scenes) == len(made.todo) == ITEMS
    assert made.blocks == ITEMS * 36
    ours = sum(entry[1] for (file, _, _), entry in pstats.Stats(profile).stats.items() if "/stac2cube/" in file)
    assert ours < CALLS * ITEMS, f"{ours / ITEMS:.0f} calls for each item"
    assert IN_FLIGHT < 1000, "of these blocks no more than that are ever tasks at a time"


def test_a_lazy_look_is_as_many_layers_as_bands(items: list[StoredItem], grid: Grid) -> None:
    scenes, _ = planned(items, grid)
    bands = [BandRequest(f"B{number:02d}", "uint16", 0, "continuous") for number in range(11)]
    asked: list[tuple[str, tuple[int, int]]] = []

    def read(scene: Scene, geobox: object) -> dict[str, np.ndarray]:
        asked.append((str(scene.key), geobox.shape))  # type: ignore[attr-defined]
        return {band.name: np.full(geobox.shape, 7, "uint16") for band in bands}  # type: ignore[attr-defined]

    lazy_scenes(scenes[:2], bands, grid, read)  # imports
    assert cpu(lambda: lazy_scenes(scenes, bands, grid, read)) < WITHIN
    dataset = lazy_scenes(scenes, bands, grid, read)
    assert dataset["B03"].shape == (ITEMS, EDGE, EDGE)
    assert len(dataset.__dask_graph__().layers) < 50
    # Computed of fewer: dask looks at every task once before it leaves out those that are not needed.
    dataset = lazy_scenes(scenes[:20], bands, grid, read)
    part = dataset.isel(time=[5, 19], y=slice(2000, 2100), x=slice(0, 50)).compute(scheduler="sync")
    assert sorted(asked) == sorted((str(scenes[step].key), (2048, 2048)) for step in (5, 5, 19, 19))
    assert (part["B10"].values == 7).all()
    assert json.dumps(list(part["scene"].values)) == json.dumps([str(scenes[5].key), str(scenes[19].key)])
