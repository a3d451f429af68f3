from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stac2cube import composite, open_cube, rgb
from stac2cube.errors import BadInputError
from stac2cube.products.quicklook import frames_of
from stac2cube.views import colour
from stac2cube.views.colour import ALIASES, RECIPES, bands_of
from tests.views.cubes import nothing_computed, truths

OPENINGS = [{}, {"decode": False}, {"chunks": None}, {"chunks": {"time": 2, "y": 33, "x": 20}}]


def colours(*bands: str) -> np.ndarray:
    return np.stack([truths(band) for band in bands], axis=-1)


@pytest.mark.parametrize("opening", OPENINGS, ids=str)
def test_colours_from_black_to_white(cube: Path, opening: dict) -> None:
    with nothing_computed():
        picture = rgb(open_cube(cube, **opening), "false", stretch=(0.05, 0.4), gamma=1.0)
    assert picture.dims == ("time", "y", "x", "rgb")
    assert picture.dtype == np.uint8
    assert picture["rgb"].values.tolist() == ["red", "green", "blue"]
    wanted = colours("B08", "B04", "B03")
    valid = np.isfinite(wanted).all(axis=-1)
    scaled = np.where(valid[..., None], np.clip((np.nan_to_num(wanted) - 0.05) / 0.35, 0, 1), 1) * 255
    assert np.abs(picture.values - scaled).max() <= 0.51


@pytest.mark.parametrize("opening", OPENINGS, ids=str)
def test_the_stretch_of_the_series_is_that_of_the_quicklook(cube: Path, opening: dict) -> None:
    with nothing_computed():
        picture = rgb(open_cube(cube, **opening), nodata="grey")
    theirs = frames_of(cube).pictures
    assert np.abs(picture.values - theirs * 255).max() <= 0.51


def test_pixels_without_data(cube: Path) -> None:
    dataset = open_cube(cube)
    lacking = ~np.isfinite(colours("B04", "B03", "B02")).all(axis=-1)
    for nodata, shade in {"white": 255, "black": 0, "grey": 209}.items():
        assert (rgb(dataset, nodata=nodata).values[lacking] == shade).all()
    with_alpha = rgb(dataset, nodata="alpha")
    assert with_alpha["rgb"].values.tolist() == ["red", "green", "blue", "alpha"]
    assert np.array_equal(with_alpha.values[..., 3], np.where(lacking, 0, 255))
    assert np.array_equal(with_alpha.values[..., :3][~lacking], rgb(dataset).values[~lacking])


def test_recipes_by_name_and_bands_by_hand(cube: Path) -> None:
    dataset = open_cube(cube)
    assert bands_of(dataset, "agriculture") == ["B11", "B08", "B02"]
    assert bands_of(dataset, ("B12", "nir", "B02")) == ["B12", "B08", "B02"]
    for alias, name in ALIASES.items():
        assert bands_of(dataset, alias) == bands_of(dataset, name)
    for name in RECIPES:
        assert len(set(bands_of(dataset, name))) == 3
    one = rgb(dataset, ("B12", "nir", "B02"), stretch=(0, 0.5)).values
    other = rgb(dataset, ("blue", "nir", "swir22"), stretch=(0, 0.5)).values
    assert np.array_equal(one, other[..., ::-1])


def test_composites_have_colours_too(cube: Path) -> None:
    monthly = composite(open_cube(cube), "month", layers=["B02", "B03", "B04"])
    picture = rgb(monthly)
    assert picture.sizes["time"] == 14
    assert (picture.sel(time="2023-07-01").values == 255).all()
    still = rgb(monthly.isel(time=1), stretch=(0, 0.4))
    assert still.dims == ("y", "x", "rgb")


def test_what_is_refused(cube: Path) -> None:
    dataset = open_cube(cube)
    with pytest.raises(BadInputError, match="unknown colours 'nice': known are true, false"):
        rgb(dataset, "nice")
    with pytest.raises(BadInputError, match="three bands, not 2"):
        rgb(dataset, ("red", "green"))
    with pytest.raises(BadInputError, match="no swir22 band to show: there are"):
        rgb(dataset.drop_vars("B12"), "urban")
    with pytest.raises(BadInputError, match="'series' or two values"):
        rgb(dataset, stretch=(0.4, 0.1))
    with pytest.raises(BadInputError, match="'series' or two values"):
        rgb(dataset, stretch="percentile")
    with pytest.raises(BadInputError, match="shown grey or white"):
        rgb(dataset, nodata="pink")
    with pytest.raises(BadInputError, match="holds classes"):
        rgb(dataset, ("SCL", "red", "green"))


def test_the_stretch_of_a_long_series_is_found_from_some_of_its_pixels(
    cube: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_cube(cube)
    whole = rgb(dataset).values
    monkeypatch.setattr(colour, "SAMPLE", 2000)
    some = rgb(dataset).values
    assert np.abs(some.astype(int) - whole).max() <= 2
