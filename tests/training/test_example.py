"""The example in the documentation, run as it stands there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("torch")

from stac2cube.build import build
from stac2cube.cube.ledger import Entry
from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.grid import Grid
from stac2cube.places.threads import Threads
from stac2cube.training.finding import frames_of_cube
from stac2cube.training.making import make_patches
from stac2cube.training.parts import Making
from stac2cube.training.patch_rules import PatchRules
from stac2cube.training.splits import Splits
from stac2cube.work import Block, Step
from tests.training.conftest import FLAGS

GRID = Grid("EPSG:32632", 10.0, (600000.0, 5300000.0), (768, 768), chunk=(256, 256), shard=(768, 768))
PAGE = Path(__file__).parents[2] / "docs" / "patches.md"


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
    build(tmp_path / "lakes.zarr", spec, [Step(entry, 0, tuple(GRID.tiles()))], Lakes(), Threads(1))
    rules = PatchRules(size=64, splits=Splits({"train": 0.7, "test": 0.3}, block=1500.0))
    source = frames_of_cube(tmp_path / "lakes.zarr", labels="SCL")
    counts = make_patches(source, tmp_path / "set", rules, Making(Threads(1))).manifest["counts"]["kept"]
    assert min(counts.values()) > 10
    example = re.search(r"<!-- example -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    monkeypatch.chdir(tmp_path)
    told: dict[str, float] = {}
    exec(example[1], told)
    assert 0.97 < told["accuracy"] <= 1.0
