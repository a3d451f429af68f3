from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.store.reader import open_cube
from stac2cube.views import composite as room
from stac2cube.views.composite import composite
from stac2cube.views.indices import indices
from stac2cube.views.masks import mask_classes
from stac2cube.views.units import to_db, to_reflectance
from tests.views.cubes import BANDS, classes, image, nothing_computed, truth, truths

MONTHS = {"2022-12": [0], "2023-01": [1, 2, 3], "2023-02": [], "2023-03": [4, 5], "2024-01": [6]}
"""Steps of each month that has a scene, and the one without between them."""

BANDS_ONLY = [band for band in BANDS if band != "SCL"]

OPENINGS = [{}, {"decode": False}, {"chunks": None}, {"chunks": {"time": 2, "y": 33, "x": 20}}]

NUMPY = {
    "median": np.nanmedian,
    "mean": np.nanmean,
    "max": np.nanmax,
    "min": np.nanmin,
    "p25": lambda values, axis: np.nanquantile(values, 0.25, axis=axis),
}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(All-NaN|Mean of empty)", RuntimeWarning)
        yield


@pytest.mark.parametrize(
    ("method", "opening"),
    [("median", opening) for opening in OPENINGS[1:]] + [(method, {}) for method in NUMPY],
    ids=str,
)
def test_months_equal_numpys_own(cube: Path, method: str, opening: dict) -> None:
    with nothing_computed():
        found = composite(open_cube(cube, **opening), "1MS", method)
    assert found.sizes["time"] == 14  # December 2022 to January 2024
    found = found.compute()
    for month, steps in MONTHS.items():
        here = found.sel(time=f"{month}-01")
        assert int(here["steps"]) == len(steps)
        for band in ("B02", "B03"):
            assert here[band].dtype == np.float32
            values = np.stack([truth(band, step) for step in steps]) if steps else np.full((1, 90, 70), np.nan)
            np.testing.assert_allclose(here[band].values, NUMPY[method](values, axis=0), rtol=1e-5, atol=1e-7)
        whole = np.isfinite(np.stack([truths(band) for band in BANDS_ONLY])).all(axis=0)
        assert here["n_valid"].dtype == np.uint16
        assert np.array_equal(here["n_valid"].values, whole[steps].sum(axis=0))
    assert np.isnan(found["B02"].sel(time="2023-07").values).all()
    assert "SCL" not in found


def test_median_equals_xarrays_own(cube: Path) -> None:
    dataset = to_reflectance(open_cube(cube))[["B02", "B03"]]
    theirs = dataset.compute().resample(time="1MS").median(skipna=True)
    ours = composite(dataset, "1MS")
    assert np.array_equal(ours["time"].values, theirs["time"].values)
    for band in ("B02", "B03"):
        np.testing.assert_allclose(ours[band].values, theirs[band].values, rtol=1e-6)


@pytest.mark.parametrize("opening", OPENINGS, ids=str)
def test_best_takes_whole_observations(cube: Path, opening: dict) -> None:
    dataset = mask_classes(open_cube(cube, **opening), keep=["land", "water", "dark", "snow", "cloud"])
    with nothing_computed():
        found = composite(dataset, "1MS", "best", by="NDVI", layers=["B04", "B08"])
    january = found.sel(time="2023-01-01")
    good = np.stack([np.isin(classes(step), [2, 4, 5, 6, 8, 9, 11]) for step in (1, 2, 3)])
    red, nir = truths("B04")[1:4], truths("B08")[1:4]
    with np.errstate(invalid="ignore", divide="ignore"):
        ndvi = np.where(good, (nir - red) / (nir + red), np.nan)
    score = np.where(np.isfinite(ndvi), ndvi.astype("float32"), -np.inf)
    best = score.argmax(axis=0)
    some = np.isfinite(ndvi).any(axis=0)
    expected = np.where(some, np.take_along_axis(nir, best[None], 0)[0], np.nan)
    np.testing.assert_allclose(january["B08"].values, expected, rtol=1e-6)
    times = open_cube(cube)["time"].values[1:4]
    assert np.array_equal(january["observed"].values[some], times[best][some].astype("datetime64[us]"))
    assert np.isnat(january["observed"].values[~some]).all()
    assert np.isnat(found["observed"].sel(time="2023-02-01").values).all()


def test_a_stored_composite_has_times_that_other_readers_understand(cube: Path, tmp_path: Path) -> None:
    """CDO supports seconds and no finer unit; the number of 64 bits of NaT is a time to all but xarray."""
    made = composite(open_cube(cube), "month", "best", by="NDVI", layers=["B08"])
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", decode_cf=False) as raw:
        for name in ("time", "period_end", "observed"):
            assert raw[name].attrs["units"].startswith("seconds since 2022-12-01")
        assert "_FillValue" not in raw["time"].attrs
        assert np.isnan(raw["observed"].attrs["_FillValue"])
        assert np.array_equal(np.isnan(raw["observed"].values), np.isnat(made["observed"].values))
    with xr.open_dataset(tmp_path / "a.nc") as again:
        for name in ("time", "period_end", "observed"):
            np.testing.assert_array_equal(again[name].values.astype("datetime64[us]"), made[name].values)


def test_best_by_a_layer_of_the_cube(cube: Path) -> None:
    dataset = open_cube(cube)
    scored = dataset.assign(indices(dataset, "NDVI").data_vars)
    one = composite(scored, "year", "best", by="NDVI", layers=["B08"])
    other = composite(dataset, "year", "best", by="NDVI", layers=["B08"])
    assert one["B08"].equals(other["B08"])


def test_the_medoid_is_an_observation_that_was_made(cube: Path) -> None:
    with nothing_computed():
        found = composite(open_cube(cube), "season", "medoid", layers=["B04", "B08"])
    winter = found.sel(time="2022-12-01").compute()
    red, nir = (truths(band)[:4] for band in ("B04", "B08"))
    whole = np.isfinite(red) & np.isfinite(nir)
    distance = np.sqrt((red[:, None] - red[None]) ** 2 + (nir[:, None] - nir[None]) ** 2)
    sums = np.where(whole, np.nansum(distance, axis=1), np.inf)
    found_sum = np.nansum(np.sqrt((red - winter["B04"].values) ** 2 + (nir - winter["B08"].values) ** 2), axis=0)
    some = whole.any(axis=0)
    np.testing.assert_allclose(found_sum[some], sums.min(axis=0)[some], atol=1e-5)
    assert np.array_equal(np.isfinite(winter["B04"].values), some)
    assert np.array_equal(winter["n_valid"].values, whole.sum(axis=0))


def test_a_composite_of_composites_leaves_out_what_they_say_of_themselves(cube: Path) -> None:
    months = composite(open_cube(cube, chunks=None), "month", "best", by="NDVI", layers=["B04", "B08"])
    plain = months.drop_vars(["observed", "n_valid"])
    for method in ("median", "medoid"):
        made = composite(months, "season", method)
        for name in ("B04", "B08", "n_valid"):
            assert made[name].equals(composite(plain, "season", method)[name])
        assert ("observed" in made) == (method == "medoid")
    with pytest.raises(BadInputError, match="n_valid is what a composite says of itself"):
        composite(months, "season", layers=["B04", "n_valid"])


def test_masked_pixels_do_not_count(cube: Path) -> None:
    found = composite(mask_classes(open_cube(cube)), "all", "mean", layers=["B08"])
    clear = np.stack([np.isin(classes(step), [4, 5, 6, 11]) for step in range(7)])
    expected = np.nanmean(np.where(clear, truths("B08"), np.nan), axis=0)
    np.testing.assert_allclose(found["B08"].values[0], expected, rtol=1e-5)
    assert found["steps"].values.tolist() == [7]


def test_what_is_made_can_be_worked_with_further(cube: Path) -> None:
    found = composite(open_cube(cube), "season", layers=["B04", "B08"])
    assert str(found["period_end"].values[0])[:10] == "2023-03-01"
    assert found.attrs["mission"] == "sentinel-2-l2a"
    assert found.attrs["composite"] == "median per season"
    ndvi = indices(found, "NDVI")["NDVI"]
    red, nir = found["B04"].values, found["B08"].values
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (nir - red) / (nir + red)
    np.testing.assert_allclose(ndvi.values, np.where(np.isfinite(expected), expected, np.nan), rtol=1e-6)
    again = composite(found, "all", "max", layers=["B08"])
    np.testing.assert_array_equal(again["B08"].values[0], np.nanmax(nir, axis=0))


def test_blocks_hold_all_steps_of_a_period_and_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.array as da

    shape = (40, 2048, 2048)
    times = np.datetime64("2023-01-01", "us") + np.arange(40) * np.timedelta64(5, "D")
    lazy = xr.DataArray(da.zeros(shape, chunks=(1, 2048, 2048), dtype="uint16"), {"time": times}, ("time", "y", "x"))
    for steps in (1, 6, 40):
        block = room._blocks(lazy[:steps].astype("float32"))
        assert block.chunksizes["time"] == (steps,)
        edges = {*block.chunksizes["y"], *block.chunksizes["x"]}
        assert steps * max(edges) ** 2 * 4 <= room.BLOCK_BYTES
        assert 2048 % max(edges) == 0  # whole parts of the chunks on disk
    monkeypatch.setattr(room, "BLOCK_BYTES", 1)
    assert max(room._blocks(lazy).chunksizes["y"]) == room.SMALLEST_EDGE


def test_what_is_refused(cube: Path) -> None:
    dataset = open_cube(cube)
    with pytest.raises(BadInputError, match="unknown method 'mode': known are median"):
        composite(dataset, method="mode")
    with pytest.raises(BadInputError, match="unknown method 'p101'"):
        composite(dataset, method="p101")
    with pytest.raises(BadInputError, match="by= goes with method='best'"):
        composite(dataset, method="best")
    with pytest.raises(BadInputError, match="by= goes with method='best'"):
        composite(dataset, method="median", by="NDVI")
    with pytest.raises(BadInputError, match="SCL holds classes"):
        composite(dataset, layers=["SCL"])
    with pytest.raises(BadInputError, match="named by how it begins"):
        composite(dataset, "ME")
    with pytest.raises(BadInputError, match="unknown index"):
        composite(dataset, method="best", by="greenest")
    radar = image(np.ones((2, 3, 3), "float32"), "vv").to_dataset()
    with pytest.raises(BadInputError, match="vv is in dB, of which a mean means little"):
        composite(to_db(radar), method="mean")
    with pytest.raises(BadInputError, match="needs time steps, and this dataset has none"):
        composite(radar.isel(time=0, drop=True))


def test_chunks_of_coordinates_do_not_matter(cube: Path) -> None:
    dataset = open_cube(cube)
    rechunked = dataset.chunk({"time": 3, "y": 40, "x": 40})  # this gives coordinates along time chunks of their own
    found = composite(rechunked, "season", layers=["B08"])
    np.testing.assert_array_equal(found["B08"].values, composite(dataset, "season", layers=["B08"])["B08"].values)
