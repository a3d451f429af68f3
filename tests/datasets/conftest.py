from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.executors.base import Threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.ledger import Entry
from tests.datasets.products import Pair
from tests.items import catalog
from tests.servers.cdse import DataSpace, data_space_as_catalog

GRID = Grid("EPSG:32632", 10.0, (600000.0, 5300000.0), (640, 512), chunk=(64, 64), shard=(256, 256))

DAYS = tuple(datetime(2022, 5, 1, 10, tzinfo=UTC) + timedelta(days=100 * number) for number in range(6))

FLAGS = ((0, "no_data"), (3, "shadow"), (4, "vegetation"), (5, "bare"), (6, "water"), (9, "cloud"))


@cache
def counts(band: int, number: int) -> np.ndarray:
    """Stored counts ``(rows, columns)`` uint16: smooth ground with noise, no data in a corner that moves."""
    y, x = np.indices(GRID.shape)
    ground = 2000 + 800 * np.sin(x / (20 + 5 * band)) + 600 * np.cos(y / 31) + 50 * number
    drawn = ground + np.random.default_rng([band, number]).normal(0, 60, GRID.shape)
    drawn[: 40 * number, :60] = 0
    return np.round(drawn).astype("uint16")


@cache
def classes(number: int) -> np.ndarray:
    """Scene classes: stripes of three kinds, a cloud, and no data where the bands have none."""
    y, x = np.indices(GRID.shape)
    drawn = np.choose((x // 70) % 3, [4, 5, 6])
    drawn[(y - 300) ** 2 + (x - 80 * number) ** 2 < 70**2] = 9
    return np.where(counts(0, number) == 0, 0, drawn).astype("uint8")


@cache
def reflectance(band: int, number: int) -> np.ndarray:
    """By the agency's formula, float64, NaN without data."""
    stored = counts(band, number).astype("float64")
    return np.where(stored == 0, np.nan, stored * 1e-4 - 0.1)


@dataclass(frozen=True)
class Draw:
    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        window = block.grid.window(block.tile)
        return {
            "B03": counts(0, number)[window],
            "B08": counts(1, number)[window],
            "SCL": classes(number)[window],
        }


@pytest.fixture(scope="session")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of two bands and classes, 640 x 512 pixels."""
    return make_cube(tmp_path_factory.mktemp("training") / "ground.zarr")


def make_cube(path: Path) -> Path:
    bands = tuple(Layer(name, "uint16", 0, 1e-4, -0.1, "1", name, "toa") for name in ("B03", "B08"))
    spec = CubeSpec("layers", GRID, (*bands, Layer("SCL", "uint8", 0, flags=FLAGS)), {"mission": "sentinel-2-l2a"})
    steps = [
        Step(Entry(f"s_{number}", day, "sealed", (f"i{number}",), {"t": "1"}), number, tuple(GRID.tiles()))
        for number, day in enumerate(DAYS)
    ]
    assert build(path, spec, steps, Draw(), Threads(2)).exit_code == 0
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Products of two days, Level-1C and Level-2A."""
    folder = tmp_path_factory.mktemp("products")
    return [Pair(folder, day).write() for day in (12, 17)]


@pytest.fixture(scope="module")
def source(pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A catalog of them."""
    items = [item for pair in pairs for item in pair.items()]
    return catalog(tmp_path_factory.mktemp("catalog") / "index.json", items)


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DataSpace]:
    """A server like the Copernicus Data Space, which is the catalog of that name."""
    with data_space_as_catalog(monkeypatch, tmp_path) as server:
        yield server
