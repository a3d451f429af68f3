"""Composites and indices of a real series, against xarray's own resampling and against the papers' formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import stac2cube
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.cli import cli
from stac2cube.executors.base import Threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.ledger import Entry
from tests.real.recorded import RASTERS, real

pytestmark = real

SERIES = RASTERS / "multisensor_series/worldcereal/00002806639B424A"
BANDS = {"10m": ("B02", "B03", "B04", "B08"), "20m": ("B05", "B11", "B12", "SCL")}


def recorded() -> xr.Dataset:
    """Stored counts of all dates on the 10 m lattice; those of 20 m repeated."""
    parts = []
    for gsd, names in BANDS.items():
        file = next(SERIES.glob(f"S2_L2A_{gsd}_*.nc"))
        with xr.open_dataset(file, engine="h5netcdf", mask_and_scale=False) as opened:
            part = opened[list(names)].load().sortby("y", ascending=False).rename(timestamp="time")
        if gsd == "20m":
            part = part.isel(y=np.repeat(np.arange(32), 2), x=np.repeat(np.arange(32), 2))
            part = part.assign_coords(y=parts[0]["y"], x=parts[0]["x"])
        parts.append(part)
    return xr.merge(parts, join="exact").sortby("time")


@dataclass(frozen=True)
class Recorded:
    counts: Mapping[str, np.ndarray]

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        return {name: values[number][block.grid.window(block.tile)] for name, values in self.counts.items()}


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    return recorded()


@pytest.fixture(scope="module")
def cube(truth: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The series as a cube, baselines before 04.00: no offset."""
    path = tmp_path_factory.mktemp("real") / "layers.zarr"
    grid = Grid("EPSG:32631", 10.0, (501360.0, 5629680.0), (64, 64), chunk=(32, 32), shard=(32, 64))
    layers = [Layer(name, "uint16", 0, 1e-4) for names in BANDS.values() for name in names if name != "SCL"]
    layers.append(Layer("SCL", "uint8", 0, flags=tuple((value, f"class_{value}") for value in range(12))))
    steps = []
    for number, time in enumerate(truth["time"].values.astype("datetime64[us]").tolist()):
        moment: datetime = time.replace(tzinfo=UTC)
        entry = Entry(f"sentinel-2_{moment:%Y%m%dT%H%M%S}", moment, "sealed", (str(number),), {"tile": "02.05"})
        steps.append(Step(entry, number, tuple(grid.tiles())))
    task = Recorded({str(name): values.values for name, values in truth.data_vars.items()})
    spec = CubeSpec("layers", grid, tuple(layers), {"mission": "sentinel-2-l2a"})
    assert build(path, spec, steps, task, Threads(2)).exit_code == 0
    return path


@pytest.mark.parametrize("mask", [pytest.param("", marks=pytest.mark.soak), "clouds_snow"])
def test_monthly_medians_of_the_longest_recorded_series_equal_xarrays_own(
    cube: Path, truth: xr.Dataset, tmp_path: Path, mask: str
) -> None:
    words = [
        "composite",
        str(cube),
        str(tmp_path / "c.zarr"),
        "--memory",
        "1MiB",
        "-q",
        *(["--mask", mask] if mask else []),
    ]
    assert cli.main(words, standalone_mode=False) == 0
    made = stac2cube.open_cube(tmp_path / "c.zarr")
    months = made["time"].values.astype("datetime64[M]")
    assert (str(months[0]), str(months[-1])) == ("2017-08", "2018-11")
    hidden = truth["SCL"].isin([0, 3, 8, 9, 10, 11]) if mask else truth["SCL"] < 0
    if mask:
        assert 0.2 < float(hidden.mean()) < 0.95
    for band in ("B02", "B04", "B08", "B11"):
        reflectance = (truth[band].where(truth[band] > 0) * 1e-4).where(~hidden)
        theirs = reflectance.resample(time="1MS").median(skipna=True).sel(time=made["time"])
        np.testing.assert_allclose(made[band].values, theirs.values, rtol=2e-6)
    whole = np.logical_and.reduce([truth[name].values > 0 for name in truth if name != "SCL"]) & ~hidden.values
    for number, month in enumerate(months):
        inside = truth["time"].values.astype("datetime64[M]") == month
        np.testing.assert_array_equal(made["n_valid"].values[number], whole[inside].sum(axis=0))


def test_indices_of_real_pixels_equal_their_papers(cube: Path, truth: xr.Dataset) -> None:
    some = truth.isel(time=slice(None, None, 9))
    red, green, blue, edge, nir, swir16, swir22 = (
        np.where(some[band].values == 0, np.nan, some[band].values.astype("float64") * 1e-4)
        for band in ("B04", "B03", "B02", "B05", "B08", "B11", "B12")
    )

    def ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (one - other) / (one + other)

    papers = {
        "NDVI": ratio(nir, red),
        "NDWI": ratio(green, nir),
        "NDWI2": ratio(nir, swir16),
        "NDMI": ratio(nir, swir16),
        "NDMIR": ratio(swir16, swir22),
        "MNDWI": ratio(green, swir16),
        "NBR": ratio(nir, swir22),
        "NDBI": ratio(swir16, nir),
        "NDSI": ratio(green, swir16),
        "NDRE": ratio(nir, edge),
        "EVI": 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1),
        "SAVI": 1.5 * (nir - red) / (nir + red + 0.5),
    }
    dataset = stac2cube.open_cube(cube).isel(time=slice(None, None, 9))
    for name, expected in papers.items():
        (found,) = stac2cube.indices(dataset, name).data_vars.values()
        assert np.array_equal(np.isfinite(found.values), np.isfinite(expected)), name
        tame = np.abs(np.nan_to_num(expected)) < 20
        assert tame.mean() > 0.99
        # EVI's denominator nearly vanishes over some clouds, where float32's rounding grows.
        tolerance = 2e-3 if name == "EVI" else 2e-4
        np.testing.assert_allclose(found.values[tame], expected[tame], rtol=tolerance, atol=2e-6, err_msg=name)
