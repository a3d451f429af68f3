from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib import colormaps

from stac2cube.errors import BadInputError
from stac2cube.store.reader import open_cube
from stac2cube.views.indices import indices
from stac2cube.views.options import Style
from stac2cube.views.render import picture, rgb, settled
from tests.views.cubes import classes, image


def test_an_index_is_a_ramp_from_its_percentiles(cube: Path) -> None:
    shown, legend = picture(open_cube(cube), Style("ndvi"), nodata="alpha")
    ndvi = indices(open_cube(cube), "ndvi")["NDVI"].values
    low, high = np.nanpercentile(ndvi, (2, 98))
    assert legend.limits == pytest.approx((low, high), rel=1e-4)
    assert legend.title == "NDVI, Normalized Difference Vegetation Index"
    table = (colormaps["YlGn"](np.linspace(0, 1, 256))[:, :3] * 255).round().astype("uint8")
    assert legend.ramp is not None
    assert np.array_equal(legend.ramp, table)
    place = np.rint(np.clip((np.nan_to_num(ndvi) - low) / (high - low), 0, 1) * 255).astype(int)
    off = np.abs(shown.values[..., :3].astype(int) - table[place])[np.isfinite(ndvi)]
    assert off.max() <= 8, "one step of the ramp at most"
    assert np.array_equal(shown.values[..., 3], np.where(np.isfinite(ndvi), 255, 0))


def test_classes_have_their_own_colours_and_legend(cube: Path) -> None:
    shown, legend = picture(open_cube(cube), Style("scl"))
    wanted = {4: (0, 160, 0), 6: (0, 0, 255), 9: (255, 255, 255), 11: (255, 150, 255)}
    for value, colour in wanted.items():
        assert (shown.values[2][classes(2) == value] == colour).all()
    assert (shown.values[2][classes(2) == 0] == 255).all(), "no data is white"
    assert ((0, 160, 0), "vegetation") in legend.swatches
    assert len(legend.swatches) == 11


def test_a_settled_look_shows_a_part_as_the_whole(cube: Path) -> None:
    dataset = open_cube(cube)
    for show in ("cir", "B12,nir,B02", "ndvi", "B08", "SCL"):
        for stretch in ("series", "p5-p95", (0.05, 0.4)):
            look = settled(dataset, Style(show, stretch))
            whole, _ = picture(dataset, Style(show, stretch))
            part, _ = picture(dataset.isel(time=[3], x=slice(10, 30)), look)
            off = np.abs(whole.values[[3], :, 10:30].astype(int) - part.values)
            assert off.max() <= 1 or show == "ndvi"
            assert off.mean() < 0.05
    usual, legend = picture(dataset)
    assert np.array_equal(usual.values, rgb(dataset).values)
    assert [text for _, text in legend.swatches] == ["red", "green", "blue"]


def test_layers_without_a_mission_are_shown_too() -> None:
    heights = image(np.linspace(100, 900, 12).reshape(3, 4), "height", units="m", long_name="height")
    shown, legend = picture(xr.Dataset({"height": heights}), Style(stretch=(100, 900), ramp="viridis"))
    assert shown.dims == ("y", "x", "rgb")
    assert (legend.title, legend.limits, legend.units) == ("height", (100, 900), "m")


def test_what_is_refused(cube: Path) -> None:
    dataset = open_cube(cube)
    for look, problem in (
        (Style("NDXI"), "nothing called 'NDXI' to show: .*unknown index"),
        (Style("rvi"), "means several indices"),
        (Style("ndvi", ramp="pink-ish"), "unknown colour map"),
        (Style("ndvi", (0.1, 0.2, 0.3)), "a stretch is"),
        (Style("ndvi", (0.0, 1.0, 0.0, 1.0, 0.0, 1.0)), "a stretch is"),
        (Style("red,green"), "three bands, not 2"),
    ):
        with pytest.raises(BadInputError, match=problem):
            picture(dataset, look)
    bits = xr.Dataset({"qa": image(np.ones((2, 2), "uint8"), "qa", flag_masks=[1], flag_values=[1])})
    with pytest.raises(BadInputError, match="it holds bits"):
        picture(bits)
    with pytest.raises(BadInputError, match="are shown grey or white"):
        picture(dataset, Style("ndvi"), nodata="pink")  # type: ignore[arg-type]
