"""Cubes to look at: built by the house, of pixels that the tests know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dask
import numpy as np
import odc.geo.xr  # noqa: F401 - gives DataArrays the accessor that writes a CRS
import xarray as xr

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.executors.base import Threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.model.mission import find_mission
from stac2cube.store.ledger import Entry

GRID = Grid("EPSG:32632", 10.0, (500000.0, 5300000.0), (90, 70), chunk=(32, 32), shard=(64, 64))

BANDS = ("B02", "B03", "B04", "B05", "B08", "B8A", "B11", "B12", "SCL")

DATES = ("2022-12-20", "2023-01-05", "2023-01-25", "2023-01-31", "2023-03-02", "2023-03-12", "2024-01-10")
"""Two winters, a month without a scene, and January twice."""


def counts(band: str, number: int) -> np.ndarray:
    """Stored counts of a band in a step, ``(rows, columns)`` uint16, with no data, saturation and darkness in them."""
    random = np.random.default_rng([number, BANDS.index(band)])
    pixels = random.integers(950, 7000, GRID.shape).astype("uint16")
    pixels[np.random.default_rng(number).random(GRID.shape) < 0.3] = 0  # the same pixels in all bands
    pixels[:5, :5] = 0
    if band == "B03":
        pixels[10:12, 10:14] = 0  # one band alone
    pixels[20, 20:24] = 65535
    return pixels


def classes(number: int) -> np.ndarray:
    """Scene classes of a step, ``(rows, columns)`` uint8."""
    drawn = np.random.default_rng([number, 99]).integers(0, 12, GRID.shape).astype("uint8")
    return np.where(counts("B02", number) == 0, 0, drawn).astype("uint8")


def truth(band: str, number: int) -> np.ndarray:
    """Reflectance by the agency's formula, float64, NaN without data."""
    stored = counts(band, number)
    return np.where(stored == 0, np.nan, (stored.astype("float64") - 1000) / 10000)


def truths(band: str) -> np.ndarray:
    return np.stack([truth(band, number) for number in range(len(DATES))])


@dataclass(frozen=True)
class Draw:
    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        window = block.grid.window(block.tile)
        layers = {band: counts(band, number)[window] for band in BANDS if band != "SCL"}
        return layers | {"SCL": classes(number)[window]}


def key(number: int) -> str:
    return f"sentinel-2a_R108_{DATES[number].replace('-', '')}"


def make_cube(path: Path) -> Path:
    """A Sentinel-2 cube of :data:`DATES`, its steps arriving out of order."""
    bands = find_mission("sentinel-2-l2a").choose_bands(BANDS)
    layers = tuple(
        Layer(
            band.name,
            band.quantity.dtype,
            band.quantity.fill,
            band.quantity.scale,
            band.quantity.offset,
            band.quantity.units,
            band.long_name,
            band.quantity.standard_name,
            band.quantity.flags,
        )
        for band in bands
    )
    spec = CubeSpec("layers", GRID, layers, {"mission": "sentinel-2-l2a"})
    tiles = tuple(GRID.tiles())
    steps = []
    for number in (3, 0, 6, 1, 2, 5, 4):
        time = datetime.fromisoformat(DATES[number]).replace(hour=10, minute=20, tzinfo=UTC)
        facts = {"platform": "sentinel-2a", "orbit": 108}
        entry = Entry(key(number), time, "sealed", (f"item-{number}",), {"tile": "05.00"}, properties=facts)
        steps.append(Step(entry, number, tiles))
    assert build(path, spec, steps, Draw(), Threads(2)).exit_code == 0
    return path


@contextmanager
def nothing_computed() -> Iterator[None]:
    """Whatever asks dask for a number in here fails."""

    def refuse(*_arguments: object, **_words: object) -> None:
        raise AssertionError("a view computed something")

    with dask.config.set(scheduler=refuse):
        yield


def image(values: np.ndarray, name: str = "band", crs: str = "EPSG:32632", step: float = 10.0, **attrs) -> xr.DataArray:
    """A DataArray over the last two dims y and x, and time before them if there are three."""
    rows, columns = values.shape[-2:]
    west, north = (500000.0, 5300000.0) if "4326" not in crs else (11.0, 48.0)
    coordinates = {
        "y": north - step * (np.arange(rows) + 0.5),
        "x": west + step * (np.arange(columns) + 0.5),
    }
    if values.ndim == 3:
        coordinates["time"] = np.datetime64("2023-01-01", "us") + np.arange(len(values)) * np.timedelta64(5, "D")
    dims = ("time", "y", "x")[-values.ndim :]
    return xr.DataArray(values, coordinates, dims, name=name, attrs=attrs).odc.assign_crs(crs)
