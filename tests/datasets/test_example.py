"""The examples in the documentation, run as they stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from shapely.geometry import mapping

pytest.importorskip("torch")

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.datasets.files import Making
from stac2cube.datasets.frames import frames_of_cube
from stac2cube.datasets.patch_rules import PatchRules, Splits
from stac2cube.datasets.shards import make_patches
from stac2cube.executors.base import Threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.ledger import Entry
from tests.datasets.conftest import FLAGS
from tests.datasets.products import Pair
from tests.datasets.test_download import AREA, put
from tests.servers.cdse import DataSpace

GRID = Grid("EPSG:32632", 10.0, (600000.0, 5300000.0), (768, 768), chunk=(256, 256), shard=(768, 768))
DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Lakes:
    """Water is dark in the near infrared, with noise that a single pixel cannot be told by."""

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        random = np.random.default_rng(number)
        water = ndimage.gaussian_filter(random.normal(size=GRID.shape), 25) > 0
        noise = random.normal(0, 700, (2, *GRID.shape))
        red = 1800 + noise[0]
        nir = np.where(water, 1500, 3000) + noise[1]
        scl = np.where(water, 6, 4).astype("uint8")
        return {"B04": red.clip(1).astype("uint16"), "B08": nir.clip(1).astype("uint16"), "SCL": scl}


def test_the_example_learns_what_is_water(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bands = tuple(Layer(name, "uint16", 0, 1e-4, -0.1) for name in ("B04", "B08"))
    spec = CubeSpec("layers", GRID, (*bands, Layer("SCL", "uint8", 0, flags=FLAGS)), {"mission": "sentinel-2-l2a"})
    entry = Entry("s_0", datetime(2022, 5, 1, 10, tzinfo=UTC), "sealed", ("i0",), {"t": "1"})
    build(tmp_path / "moved.zarr", spec, [Step(entry, 0, tuple(GRID.tiles()))], Lakes(), Threads(1))
    rules = PatchRules(size=64, splits=Splits({"train": 0.7, "test": 0.3}, block=1500.0))
    source = frames_of_cube(tmp_path / "moved.zarr", labels="SCL")
    counts = make_patches(source, tmp_path / "set", rules, Making(Threads(1))).manifest["counts"]["kept"]
    assert min(counts.values()) > 10
    monkeypatch.chdir(tmp_path)
    told = executed("patches.md")
    assert 0.97 < told["accuracy"] <= 1.0
    assert told["sample"]["image"].shape == (2, 128, 128)
    window = Lakes()(0, None)["SCL"][472:600, :128]  # from 5,295,280 m down
    np.testing.assert_array_equal(told["sample"]["mask"], window)


def test_products_become_samples_as_the_page_says(
    space: DataSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (12, 17):
        put(space, Pair(tmp_path / "origin", day).write())
    (tmp_path / "lech.geojson").write_text(json.dumps(mapping(AREA.geometry)))
    monkeypatch.chdir(tmp_path)
    told = executed("training.md")
    assert not told["manifest"].absent
    assert [sample.tile for sample in told["index"].done] == ["32TNT", "32TNT"]
    assert set(told["sample"].counts) == {0, 1, 255}
    assert (tmp_path / "samples" / told["sample"].x_path).is_file()


def executed(page: str) -> dict[str, Any]:
    """What the names of a page's Python mean when all its blocks were run, one after another."""
    told: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(block, told)
    return told
