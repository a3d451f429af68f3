from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stac2cube.errors import BadInputError
from stac2cube.store.reader import open_cube
from stac2cube.views.units import from_db, to_celsius, to_db, to_kelvin, to_reflectance, to_stack
from tests.views.cubes import BANDS, classes, counts, image, nothing_computed, truths

OPENINGS = [
    {"decode": decode, "chunks": chunks} for decode in (True, False) for chunks in ("shards", None, {"y": 33, "x": 20})
]


@pytest.mark.parametrize("opening", OPENINGS, ids=str)
def test_reflectance_is_that_of_the_agency_however_the_cube_is_opened(cube: Path, opening: dict) -> None:
    with nothing_computed():
        view = to_reflectance(open_cube(cube, **opening))
    for band in BANDS[:-1]:
        assert view[band].dtype == np.float32
        np.testing.assert_allclose(view[band].values, truths(band), rtol=1e-6, atol=1e-8)
        assert view[band].attrs["units"] == "1"
        assert not {"scale_factor", "add_offset", "_FillValue"} & set(view[band].attrs)
    assert view["SCL"].dtype == np.uint8
    assert np.array_equal(view["SCL"][0].values, classes(0))
    assert "stac2cube" not in view.attrs
    assert view.attrs["mission"] == "sentinel-2-l2a"


@pytest.mark.parametrize("opening", OPENINGS[:2] + OPENINGS[3:5], ids=str)
def test_saturated_pixels_are_kept_or_masked_by_name(cube: Path, opening: dict) -> None:
    dataset = open_cube(cube, **opening)
    saturated = np.stack([counts("B04", number) == 65535 for number in range(7)])
    kept, masked = (to_reflectance(dataset, saturated=word)["B04"].values for word in ("keep", "mask"))
    np.testing.assert_allclose(kept[saturated], 6.4535, rtol=1e-6)
    assert np.isnan(masked[saturated]).all()
    assert np.array_equal(masked[~saturated], kept[~saturated], equal_nan=True)


def test_saturation_is_not_guessed_where_it_cannot_be_seen(cube: Path) -> None:
    once = to_reflectance(open_cube(cube))
    with pytest.raises(BadInputError, match="cannot be told any more"):
        to_reflectance(once, saturated="mask")
    with pytest.raises(BadInputError, match="'keep' or 'mask'"):
        to_reflectance(once, saturated="hide")


def test_layers_can_be_named_and_bad_names_are_refused(cube: Path) -> None:
    dataset = open_cube(cube, decode=False)
    view = to_reflectance(dataset, layers=["B02"])
    assert (view["B02"].dtype, view["B03"].dtype) == (np.float32, np.uint16)
    with pytest.raises(BadInputError, match="no layer B99"):
        to_reflectance(dataset, layers=["B99"])
    with pytest.raises(BadInputError, match="SCL holds classes"):
        to_reflectance(dataset, layers=["SCL"])
    with pytest.raises(BadInputError, match="no layer is linear backscatter"):
        to_db(dataset)
    with pytest.raises(BadInputError, match="no layer is a temperature"):
        to_kelvin(dataset)


def radar(values: np.ndarray) -> xr.Dataset:
    return image(values.astype("float32"), "vv").to_dataset()


def test_decibel_of_known_powers() -> None:
    power = np.array([[1.0, 10.0, 0.001, 2.0], [0.0, -1.0, np.nan, 1e-30]])
    decibel = to_db(radar(power))["vv"]
    np.testing.assert_allclose(decibel.values[0], [0, 10, -30, 3.0102999566], rtol=1e-6)
    assert np.isnan(decibel.values[1]).tolist() == [True, True, True, False]
    assert decibel.attrs["units"] == "dB"


@given(hnp.arrays("float32", (3, 4), elements=st.floats(-1, 1e4, width=32) | st.just(np.nan)))
@settings(max_examples=50, deadline=None)
def test_decibel_and_back(power: np.ndarray) -> None:
    dataset = radar(power)
    again = from_db(to_db(dataset))["vv"].values
    valid = power > 0
    assert np.array_equal(np.isfinite(again), valid)
    np.testing.assert_allclose(again[valid], power[valid], rtol=1e-4)


def test_decibels_are_not_converted_twice() -> None:
    decibel = to_db(radar(np.ones((2, 2))))
    with pytest.raises(BadInputError, match="in dB already"):
        to_db(decibel, layers=["vv"])
    with pytest.raises(BadInputError, match="no layer is in dB"):
        from_db(radar(np.ones((2, 2))))


@pytest.mark.parametrize("chunks", [None, {"y": 1, "x": 2}])
def test_landsat_temperature_by_the_formula_of_usgs(chunks: dict | None) -> None:
    stored = np.array([[0, 1, 44177, 65535]] * 2, "uint16")  # 44177 is 26.85 degrees Celsius
    usgs = {"units": "K", "scale_factor": 0.00341802, "add_offset": 149.0, "_FillValue": 0}
    dataset = image(stored, "ST_B10", **usgs).to_dataset()
    for opened in (dataset, xr.decode_cf(dataset)):
        lazily = opened if chunks is None else opened.chunk(chunks)
        with nothing_computed():
            kelvin, celsius = to_kelvin(lazily)["ST_B10"], to_celsius(lazily)["ST_B10"]
        expected = np.array([np.nan, 149.00341802, 44177 * 0.00341802 + 149, 65535 * 0.00341802 + 149])
        np.testing.assert_allclose(kelvin.values[0], expected, rtol=1e-7)
        np.testing.assert_allclose(celsius.values[0], expected - 273.15, rtol=1e-6)
        assert (kelvin.units, celsius.units) == ("K", "degree_Celsius")
        np.testing.assert_allclose(to_kelvin(celsius.to_dataset())["ST_B10"].values[0], expected, rtol=1e-6)
        assert to_celsius(celsius.to_dataset())["ST_B10"].equals(celsius)


def test_stack_holds_the_layers_in_order(cube: Path) -> None:
    dataset = to_reflectance(open_cube(cube))
    with nothing_computed():
        stack = to_stack(dataset)
    assert stack.dims == ("time", "band", "y", "x")
    assert stack["band"].values.tolist() == list(BANDS[:-1])
    assert stack.dtype == np.float32
    np.testing.assert_array_equal(stack.sel(band="B08").values, dataset["B08"].values)
    few = to_stack(open_cube(cube, decode=False), "layer", layers=["B04", "B02"])
    assert few["layer"].values.tolist() == ["B04", "B02"]
    assert few.dtype == np.uint16
    assert few.attrs["scale_factor"] == 1e-4
    assert np.array_equal(few[0, 0].values, counts("B04", 0))


def test_layers_of_different_kind_do_not_stack(cube: Path) -> None:
    with pytest.raises(BadInputError, match=r"differ in kind \(B04: uint16.*SCL: uint8"):
        to_stack(open_cube(cube, decode=False), layers=["B04", "SCL"])
