"""The recorded pair of baselines of the same scenes, as sync plans it; their pixels are not at hand: none is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from shapely import union_all
from shapely.geometry import shape

from stac2cube.build.loop import build
from stac2cube.build.plan import Block
from stac2cube.executors.base import Threads
from stac2cube.maintain.sync import compare_with_catalog
from stac2cube.stages.layers import area_words, prepare, query_of_words
from tests.items import Json, catalog
from tests.real.recorded import STAC, real

pytestmark = real


def no_pixels(payload: object, block: Block) -> Mapping[str, np.ndarray]:
    """A task that reads nothing: the ledger is what this is about."""
    rows, columns = block.grid.window(block.tile)
    return {"B04": np.full((rows.stop - rows.start, columns.stop - columns.start), 1234, dtype="uint16")}


def recorded() -> list[Json]:
    found: list[Json] = []
    for page in ("page1", "page2"):
        found += json.loads((STAC / f"earth_search/search_s2l2a_202003_{page}.json").read_text())["features"]
    return found


def test_steps_of_baseline_0214_are_superseded_by_0500(tmp_path: Path) -> None:
    items = recorded()
    older = [item for item in items if "_0_L2A" in item["id"]]
    newer = [item for item in items if "_1_L2A" in item["id"]]
    assert len(older) == len(newer) == 8
    area = union_all([shape(item["geometry"]) for item in items])
    cube = tmp_path / "alps.zarr"
    words = {"mission": "sentinel-2-l2a", "time": "2020-03", "bands": ("B04",), "resolution": 2000.0}
    words |= {"catalog": catalog(tmp_path / "items.json", older), **area_words(area)}
    job = prepare(cube, *query_of_words(words))
    built = build(cube, job.spec, job.steps, no_pixels, Threads(1))
    assert built.sealed == ["sentinel-2a_R065_20200302", "sentinel-2a_R108_20200305"]
    assert compare_with_catalog(cube)[0].nothing
    catalog(tmp_path / "items.json", items)
    found, again = compare_with_catalog(cube)
    assert found.superseded == ("sentinel-2a_R065_20200302", "sentinel-2a_R108_20200305")
    assert (found.new, found.late, found.failed, found.reduced, found.withdrawn) == ((), (), (), (), ())
    assert again is not None
    for _, step in again.plan().superseded:
        assert step.entry.properties["baselines"] == ["05.00"]
        assert set(step.entry.items) <= {item["id"] for item in newer}
        assert set(step.entry.properties["superseded_items"]) <= {item["id"] for item in older}
