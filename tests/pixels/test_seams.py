"""Granules without overlap, joined before they are resampled: as from one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from stac2cube.coregister.stage import _is_seamless
from stac2cube.errors import ReadError
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import grid_from_geobox
from stac2cube.model.image import BandRequest
from stac2cube.model.mission import find_mission
from stac2cube.pixels.read import read_block
from tests.pixels.granules import granule

BAND = BandRequest("VV", "float32", float("nan"), "continuous", above=0.0)
SIZE = 120


@pytest.fixture
def scene() -> np.ndarray:
    return np.random.default_rng(7).gamma(2.0, 0.05, (SIZE, SIZE)).astype("float32")


def write(path: Path, pixels: np.ndarray, row: int, column: int) -> Path:
    transform = rasterio.Affine(10, 0, 600000 + 10 * column, 0, -10, 5200000 - 10 * row)
    profile = {"driver": "GTiff", "height": pixels.shape[0], "width": pixels.shape[1], "count": 1, "dtype": "float32"}
    with rasterio.open(path, "w", crs="EPSG:32632", transform=transform, nodata=-32768, **profile) as file:
        file.write(pixels, 1)
    return path


def granules(folder: Path, parts: dict[str, tuple[np.ndarray, int, int]]):
    made = []
    for name, (pixels, row, column) in parts.items():
        path = write(folder / f"{name}.tif", pixels, row, column)
        with rasterio.open(path) as file:
            made.append(granule(GeoBox(file.shape, file.transform, file.crs), name, VV=path))
    return made


def target() -> GeoBox:
    """Half a pixel beside the source's lattice, so that everything is interpolated."""
    return GeoBox((100, 100), rasterio.Affine(10, 0, 600105, 0, -10, 5199895), "EPSG:32632")


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32633", "EPSG:4326"])
def test_cut_in_four_or_whole_is_the_same(tmp_path: Path, scene: np.ndarray, crs: str) -> None:
    half = 63
    cuts = {
        "nw": (scene[:half, :half], 0, 0),
        "ne": (scene[:half, half:], 0, half),
        "sw": (scene[half:, :half], half, 0),
        "se": (scene[half:, half:], half, half),
    }
    block = target() if crs == "EPSG:32632" else target().to_crs(crs)
    four = read_block(granules(tmp_path, cuts), [BAND], block, seamless=True)["VV"]
    whole = read_block(granules(tmp_path, {"all": (scene, 0, 0)}), [BAND], block, seamless=True)["VV"]
    np.testing.assert_array_equal(four, whole)
    assert np.isfinite(four).mean() > 0.6
    apart = read_block(granules(tmp_path, cuts), [BAND], block)["VV"]
    assert not np.array_equal(apart, whole, equal_nan=True), "one by one the seam shows"


def test_what_is_not_above_zero_has_no_data(tmp_path: Path, scene: np.ndarray) -> None:
    scene[10:20, 10:20] = 0
    scene[30, 30] = -1
    scene[40, 40] = np.nan
    scene[50, 50] = -32768
    lattice = GeoBox((SIZE, SIZE), rasterio.Affine(10, 0, 600000, 0, -10, 5200000), "EPSG:32632")
    for seamless in (True, False):
        found = read_block(granules(tmp_path, {"all": (scene, 0, 0)}), [BAND], lattice, seamless=seamless)["VV"]
        np.testing.assert_array_equal(np.isnan(found), ~(scene > 0))
        np.testing.assert_array_equal(found[scene > 0], scene[scene > 0])


def test_the_first_valid_pixel_wins_in_an_overlap(tmp_path: Path, scene: np.ndarray) -> None:
    first, second = scene[:80].copy(), np.full((60, SIZE), 5, "float32")
    first[70:75] = np.nan
    lattice = GeoBox((SIZE, SIZE), rasterio.Affine(10, 0, 600000, 0, -10, 5200000), "EPSG:32632")
    cuts = {"first": (first, 0, 0), "second": (second, 60, 0)}
    found = read_block(granules(tmp_path, cuts), [BAND], lattice, seamless=True)["VV"]
    np.testing.assert_array_equal(found[:70], scene[:70])
    assert (found[70:75] == 5).all()
    np.testing.assert_array_equal(found[75:80], scene[75:80])
    assert (found[80:] == 5).all()


def test_a_block_beside_every_granule_is_empty_and_a_missing_file_an_error(tmp_path: Path, scene: np.ndarray) -> None:
    far = GeoBox((10, 10), rasterio.Affine(10, 0, 700000, 0, -10, 5100000), "EPSG:32632")
    made = granules(tmp_path, {"all": (scene, 0, 0)})
    assert np.isnan(read_block(made, [BAND], far, seamless=True)["VV"]).all()
    (tmp_path / "all.tif").unlink()
    with pytest.raises(ReadError, match=r"all\.tif cannot be read"):
        read_block(made, [BAND], target(), seamless=True)


def test_an_optional_band_may_be_absent_others_not(tmp_path: Path, scene: np.ndarray) -> None:
    made = granules(tmp_path, {"all": (scene, 0, 0)})
    optional = BandRequest("VH", "float32", float("nan"), "continuous", optional=True)
    for seamless in (True, False):
        found = read_block(made, [BAND, optional], target(), seamless=seamless)
        assert np.isnan(found["VH"]).all()
        assert np.isfinite(found["VV"]).all()
        with pytest.raises(ReadError, match="has no asset for band HH"):
            read_block(made, [BandRequest("HH", "float32", float("nan"), "continuous")], target(), seamless=seamless)


@pytest.mark.parametrize(("resolution", "joined"), [(10.0, True), (40.0, True), (50.0, False)])
def test_layers_and_their_coregistration_join_granules_alike(resolution: float, joined: bool) -> None:
    radar = find_mission("sentinel-1-rtc")
    band = radar.choose_bands(["vv"])[0]
    layers = (Layer(band.name, "float32", float("nan")),)
    grid = replace(grid_from_geobox(target()), resolution=resolution)
    assert radar.joins_granules([band], resolution) is joined
    assert _is_seamless(CubeSpec("layers", grid, layers, {"mission": radar.name})) is joined
    assert not _is_seamless(CubeSpec("layers", grid, layers, {})), "a cube of no mission"
