from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stac2cube.errors import BadInputError, TableError
from stac2cube.export.animation import frames_of
from stac2cube.store.reader import open_cube
from stac2cube.views import render as stretching
from stac2cube.views.composite import composite
from stac2cube.views.render import combinations, rgb, rgb_layers_of
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
    assert np.abs(picture.values - theirs.astype(float)).max() <= 0.51


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
    assert rgb_layers_of(dataset, "agriculture") == ["B11", "B08", "B02"]
    assert rgb_layers_of(dataset, ("B12", "nir", "B02")) == ["B12", "B08", "B02"]
    for name, combination in combinations().items():
        assert len(set(rgb_layers_of(dataset, name))) == 3
        for alias in combination.aliases:
            assert rgb_layers_of(dataset, alias) == rgb_layers_of(dataset, name)
    one = rgb(dataset, ("B12", "nir", "B02"), stretch=(0, 0.5)).values
    other = rgb(dataset, ("blue", "nir", "swir22"), stretch=(0, 0.5)).values
    assert np.array_equal(one, other[..., ::-1])


ESRI = {
    **{"rgb": "432", "cir": "543", "civ": "543", "swir": "754", "sir": "754", "vea": "654", "law": "564"},
    **{"fcu": "764", "atp": "765", "agriculture": "652", "healthy": "562", "natural_haze": "753"},
}
"""Bands of Landsat 8 in the list by K. Butler (Esri, 2013)."""

S2_OF_L8 = dict(zip("234567", ("B02", "B03", "B04", "B08", "B11", "B12"), strict=True))


@pytest.mark.parametrize("name", ESRI)
def test_each_combination_is_that_of_its_source(cube: Path, name: str) -> None:
    bands = [S2_OF_L8[number] for number in ESRI[name]]
    found = rgb(open_cube(cube), name, stretch=(0, 0.4), gamma=1, nodata="black").values
    wanted = colours(*bands)
    valid = np.isfinite(wanted).all(axis=-1, keepdims=True)
    exact = np.where(valid, np.clip(np.nan_to_num(wanted) / 0.4, 0, 1) * 255, 0)
    assert np.abs(found - exact).max() <= 0.51


@pytest.mark.parametrize("opening", OPENINGS, ids=str)
def test_percentiles_are_of_each_band_over_all_dates(cube: Path, opening: dict) -> None:
    with nothing_computed():
        picture = rgb(open_cube(cube, **opening), "cir", stretch="p5-p90", gamma=1, nodata="black")
    wanted = colours("B08", "B04", "B03")
    low, high = np.nanpercentile(wanted, (5, 90), axis=(0, 1, 2))
    valid = np.isfinite(wanted).all(axis=-1, keepdims=True)
    exact = np.where(valid, np.clip((np.nan_to_num(wanted) - low) / (high - low), 0, 1) * 255, 0)
    assert np.abs(picture.values - exact).max() <= 0.51
    alone = rgb(open_cube(cube, **opening).isel(time=[0]), "cir", stretch="p5-p90", gamma=1, nodata="black")
    assert not np.array_equal(alone.values[0], picture.values[0]), "a date by itself would be shown otherwise"


def test_balance_by_the_formulas_of_rio_color(cube: Path) -> None:
    dataset = open_cube(cube)
    words = "gamma G 1.3, sigmoidal RGB 6 0.4"
    with nothing_computed():
        found = rgb(dataset, stretch=(0, 0.4), balance=words, nodata="black")
    wanted = colours("B04", "B03", "B02")
    valid = np.isfinite(wanted).all(axis=-1, keepdims=True)
    x = np.clip(np.nan_to_num(wanted) / 0.4, 0, 1)
    x[..., 1] **= 1 / 1.3
    # ImageMagick's sigmoidal contrast: contrast 6 about 0.4, scaled so that 0 and 1 stay.
    at = [1 / (1 + np.exp(6 * (0.4 - value))) for value in (x, 0.0, 1.0)]
    exact = np.where(valid, (at[0] - at[1]) / (at[2] - at[1]) * 255, 0)
    assert np.abs(found.values - exact).max() <= 0.6
    grey = rgb(dataset, stretch=(0, 0.4), balance="saturation 0", nodata="black").values
    assert (np.ptp(grey.astype(int), axis=-1) <= 1).all(), "without saturation all is grey"
    plain = rgb(dataset, stretch=(0, 0.4), gamma=1, nodata="black").values
    vivid = rgb(dataset, stretch=(0, 0.4), balance="saturation 1.4", nodata="black").values
    assert np.ptp(vivid.astype(int), axis=-1).mean() > np.ptp(plain.astype(int), axis=-1).mean()
    for nonsense in ("shine 3", "gamma X 2", "sigmoidal RGB 3", "gamma R -1"):
        with pytest.raises(BadInputError, match="is not understood"):
            rgb(dataset, balance=nonsense)


def test_colours_of_ones_own(cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    table = tmp_path / "colours.toml"
    table.write_text('[mine]\nbands = ["B12", "rededge1", "blue"]\naliases = ["m"]')
    assert rgb_layers_of(open_cube(cube), "m") == ["B12", "B05", "B02"]
    table.write_text('[mine]\nbands = ["red"]')
    with pytest.raises(TableError, match="a list of 3"):
        rgb_layers_of(open_cube(cube), "mine")
    table.write_text('[mine]\nband = "red"')
    with pytest.raises(TableError, match="no key 'band'"):
        rgb_layers_of(open_cube(cube), "true")


def test_composites_have_colours_too(cube: Path) -> None:
    monthly = composite(open_cube(cube), "month", layers=["B02", "B03", "B04"])
    picture = rgb(monthly)
    assert picture.sizes["time"] == 14
    assert (picture.sel(time="2023-07-01").values == 255).all()
    still = rgb(monthly.isel(time=1), stretch=(0, 0.4))
    assert still.dims == ("y", "x", "rgb")


def test_what_is_refused(cube: Path) -> None:
    dataset = open_cube(cube)
    with pytest.raises(BadInputError, match="unknown colours 'nice': known are true, rgb, false"):
        rgb(dataset, "nice")
    with pytest.raises(BadInputError, match="three bands, not 2"):
        rgb(dataset, ("red", "green"))
    with pytest.raises(BadInputError, match="no swir22 band to show: there are"):
        rgb(dataset.drop_vars("B12"), "urban")
    with pytest.raises(BadInputError, match="'series', percentiles as p2-p98, or two values"):
        rgb(dataset, stretch=(0.4, 0.1))
    with pytest.raises(BadInputError, match="'series', percentiles as p2-p98, or two values"):
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
    monkeypatch.setattr(stretching, "SAMPLE", 2000)
    some = rgb(dataset).values
    assert np.abs(some.astype(int) - whole).max() <= 2
