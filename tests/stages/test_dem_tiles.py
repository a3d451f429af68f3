"""Tiles of a height model: what is missing, what is sea, and whose lattice a cube in degrees has."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import stac2cube
from stac2cube.errors import BadInputError
from stac2cube.pixels.read import Sea, name_of
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.items import Json, catalog, item
from tests.pixels.granules import write

STEP = 1 / 240
"""Degrees: coarser than the product's, whose tiles are laid out alike."""


def tile(folder: Path, south: int, west: int, height: float = 500) -> Json:
    """A tile whose pixels are points, half a pixel beyond its north and west edge."""
    box = GeoBox((240, 240), Affine(STEP, 0, west - STEP / 2, 0, -STEP, south + 1 + STEP / 2), "EPSG:4326")
    pixels = height + np.add.outer(np.arange(240), np.arange(240)).astype("float32") / 100
    path = write(folder / f"{name_of((south, west))}.tif", pixels.astype("float32"), box, nodata=None, predictor=3)
    about = {"datetime": "2021-04-22T00:00:00Z", "platform": "TanDEM-X"}
    return item(name_of((south, west)), "cop-dem-glo-30", {"data": path}, **about)


def heights(folder: Path, tiles: list[Json], area: tuple[float, ...], **words: object) -> Path:
    source = catalog(folder / "items.json", tiles)
    out = folder / "dem.zarr"
    stac2cube.get_stac_layers(out, mission="cop-dem-glo-30", aoi=area, catalog=source, **words)
    return out


def row_of(path: Path) -> dict[str, object]:
    (row,) = Ledger(path, read_root(path).ledger).entries().values()
    return row.properties


@pytest.mark.parametrize("words", [{"crs": "EPSG:4326", "resolution": 2 * STEP}, {"resolution": 600}])
def test_a_tile_missing_inland_is_no_data(
    words: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiles = [tile(tmp_path, 49, 10), tile(tmp_path, 49, 12)]
    with caplog.at_level(logging.WARNING):
        out = heights(tmp_path, tiles, (10.9, 49.4, 12.1, 49.6), **words)
    values = stac2cube.open_cube(out).height.values[0]
    assert not (values == 0).any(), "no column of sea beside the missing tile"
    assert 0.7 < np.isnan(values).mean() < 0.9
    assert row_of(out)["missing_tiles"] == ["N49E011"]
    assert "sea_tiles" not in row_of(out)
    assert "N49E011" in caplog.text


def test_the_sea_is_0_where_there_is_no_tile_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stac2cube.model.grid.SHARD", 256)
    out = heights(tmp_path, [tile(tmp_path, 39, -10)], (-12.5, 39.4, -9.5, 39.6), crs="EPSG:4326", resolution=STEP)
    made = stac2cube.open_cube(out)
    assert read_root(out).spec.grid.tiles_shape[1] > 2, "some blocks touch no tile"
    assert (made.height.values[0][:, made.x.values < -10 - STEP] == 0).all()
    assert (made.height.values[0][:, made.x.values > -10] > 400).all()
    assert row_of(out)["sea_tiles"] == ["N39W011", "N39W012", "N39W013"]


def test_no_column_of_sea_beside_tiles_that_were_withheld(tmp_path: Path) -> None:
    """East of 44 degrees, at 40 north, lies Armenia."""
    out = heights(tmp_path, [tile(tmp_path, 40, 43)], (43.9, 40.4, 44.1, 40.5), crs="EPSG:4326", resolution=STEP / 2)
    values, x = stac2cube.open_cube(out).height.values[0], stac2cube.open_cube(out).x.values
    assert not (values == 0).any()
    assert np.isnan(values[:, x > 44]).all()
    assert not np.isnan(values[:, x < 44 - STEP]).any()


def test_cubes_in_degrees_lie_on_the_pixels_of_the_product(tmp_path: Path) -> None:
    one = tile(tmp_path, 49, 10)
    out = heights(tmp_path, [one], (10.2, 49.4, 10.4, 49.6), crs="EPSG:4326", resolution=STEP)
    made = stac2cube.open_cube(out)
    column = (made.x.values - 10) / STEP
    np.testing.assert_allclose(column, np.round(column), atol=1e-6, err_msg="pixels are points of the degree")
    right = 500 + np.add.outer(240 - (made.y.values - 49) / STEP, column) / 100
    np.testing.assert_allclose(made.height.values[0], right, atol=1e-3)


def test_a_cube_in_degrees_does_not_go_around_the_globe(tmp_path: Path) -> None:
    tiles = [tile(tmp_path, 66, 179), tile(tmp_path, 66, -180)]
    with pytest.raises(BadInputError, match=r"crosses the antimeridian.*crs='EPSG:32601'"):
        heights(tmp_path, tiles, (179.6, 66.3, 180.6, 66.6), crs="EPSG:4326", resolution=STEP)


def test_what_is_sea() -> None:
    sea = Sea(0.0)
    land = ((49, 11), (40, 44), (41, 50), (-86, 21), (-90, 0))
    for where, wet in (((0, 7), True), ((39, -12), True), *((where, False) for where in land)):
        south, west = where
        box = GeoBox((8, 8), Affine(0.1, 0, west + 0.1, 0, -0.1, south + 0.9), "EPSG:4326")
        filled = sea.fill(np.full(box.shape, np.nan, "float32"), box)
        assert (filled == 0).all() if wet else np.isnan(filled).all(), where
        assert sea.missing(box, ()) == (([], [name_of(where)]) if wet else ([name_of(where)], []))
        assert np.isnan(sea.fill(np.full(box.shape, np.nan, "float32"), box, {where})).all(), "its own gaps stay"
