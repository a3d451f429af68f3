"""A stage that needs no catalog: every pixel of a step follows from its number, so a reader can tell a wrong one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from stac2cube.build.plan import Block, Step
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.ledger import Entry

GRID = Grid("EPSG:32632", 10.0, (500000.0, 5000000.0), (150, 130), chunk=(32, 32), shard=(64, 64))
SPEC = CubeSpec(
    "layers",
    GRID,
    (
        Layer("B02", "uint16", 0, 1e-4, -0.1),
        Layer("SCL", "uint8", 0, flags=((0, "no_data"), (4, "vegetation"))),
    ),
    {"mission": "toy"},
)


def pixels(number: int, grid: Grid = GRID) -> np.ndarray:
    """The truth: B02 of a step, ``(rows, columns)`` uint16, with one pixel without data."""
    rows, columns = np.indices(grid.shape)
    truth = (1 + number * 100 + rows % 7 + columns % 5).astype("uint16")
    truth[3, 4] = 0
    return truth


def step(number: int, version: str = "05.00") -> Step:
    entry = Entry(
        key=f"toy_{number:04d}",
        time=datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number, microseconds=number),
        status="sealed",
        items=(f"item-{number}-{version}",),
        parts={"tile": version},
        properties={"platform": "toy-a", "orbit": 108},
    )
    return Step(entry, number, tuple(GRID.tiles()))


def steps(numbers: range) -> list[Step]:
    return [step(number) for number in numbers]


@dataclass(frozen=True)
class Make:
    """The task: the truth, after a pause; step numbers in ``failing`` raise."""

    pause: float = 0.0
    failing: tuple[int, ...] = ()
    bonus: int = 0

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        time.sleep(self.pause)
        if number in self.failing and block.tile == (1, 1):
            raise RuntimeError(f"block of {number} cannot be made")
        b02 = pixels(number + self.bonus)[block.grid.window(block.tile)]
        return {"B02": b02, "SCL": np.where(b02 > 0, 4, 0).astype("uint8")}
