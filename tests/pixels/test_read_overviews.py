"""Blocks coarser than the file: overviews may be used only where they tell the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.enums import Resampling
from scipy import ndimage

from stac2cube.model.image import BandRequest
from stac2cube.pixels.gdal import gdal_image
from stac2cube.pixels.open import Engine
from stac2cube.pixels.read import read_block
from stac2cube.pixels.warp import are_means
from tests.pixels.granules import RED, SCL, bilinear, box32, granule, texture, write

WHOLE = box32(512, 512)
COARSE = box32(128, 128, gsd=40)
JP2 = {"driver": "JP2OpenJPEG", "compress": None, "predictor": None, "blocksize": None, "nodata": None} | {
    "QUALITY": 100,
    "REVERSIBLE": "YES",
}
FILES: dict[str, dict] = {
    "jp2": JP2,
    "averaged": {"overview_resampling": "average"},
    "averaged, nodata unknown": {"overview_resampling": "average", "nodata": None},
}


@pytest.mark.parametrize("options", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize("method", ["nearest", "mode"])
def test_classes_stay_classes(options: dict, method: str, tmp_path: Path) -> None:
    classes = np.random.default_rng(0).choice(np.array([3, 4, 9], "uint8"), WHOLE.shape)
    path = write(tmp_path / "scl", classes, WHOLE, **(options | {"predictor": None}))
    band = BandRequest("SCL", "uint8", 0, "class", method)
    got = read_block([granule(WHOLE, SCL=path)], [band], COARSE)["SCL"]
    assert set(np.unique(got)) == {3, 4, 9}
    if method == "mode":
        counts = np.stack([(classes == value).reshape(128, 4, 128, 4).sum(axis=(1, 3)) for value in (3, 4, 9)])
        winner = np.take_along_axis(counts, np.searchsorted([3, 4, 9], got)[None], axis=0)[0]
        np.testing.assert_array_equal(winner, counts.max(axis=0))


@pytest.mark.parametrize("options", FILES.values(), ids=FILES.keys())
def test_no_data_does_not_bleed_through_overviews(options: dict, tmp_path: Path) -> None:
    rows, columns = np.indices(WHOLE.shape)
    pixels = np.where(rows + columns < 400, 0, 3000).astype("uint16")
    path = write(tmp_path / "a", pixels, WHOLE, **options)
    got = read_block([granule(WHOLE, B04=path, shift=1000)], [RED], COARSE)["B04"]
    assert set(np.unique(got)) == {0, 4000}
    share = (pixels > 0).reshape(128, 4, 128, 4).mean(axis=(1, 3))
    assert (got[share == 1] == 4000).all()
    assert not got[share == 0].any()


def test_a_full_jpeg_2000_still_uses_its_overviews(tmp_path: Path) -> None:
    pixels = texture(WHOLE)
    made = granule(WHOLE, B04=write(tmp_path / "a.jp2", pixels, WHOLE, **JP2))
    got = read_block([made], [RED], COARSE)["B04"].astype(float)
    mean = pixels.reshape(128, 4, 128, 4).mean(axis=(1, 3))
    assert np.abs(got - mean)[2:-2, 2:-2].max() < 25, (
        "an overview taken for averages would lie 15 m off: up to 120 counts"
    )
    np.testing.assert_array_equal(read_block([made], [RED], WHOLE)["B04"], pixels)


def test_pixels_cross_the_antimeridian(tmp_path: Path) -> None:
    """A tile of zone 60, west of the line, seen by a block of zone 1 that lies on both sides of it."""
    tile = GeoBox((400, 400), Affine(100, 0, 638_000, 0, -100, 6_810_000), "EPSG:32660")
    block = GeoBox((120, 160), Affine(100, 0, 330_000, 0, -100, 6_795_000), "EPSG:32601")
    pixels = texture(tile)
    got = read_block([granule(tile, B04=write(tmp_path / "a.tif", pixels, tile))], [RED], block)["B04"]
    rows, columns = np.indices(block.shape)
    x, y = block.transform * (columns.ravel() + 0.5, rows.ravel() + 0.5)
    column, row = ~tile.transform * Transformer.from_crs(32601, 32660, always_xy=True).transform(x, y)
    inside = ((column > 1) & (column < 399) & (row > 1) & (row < 399)).reshape(block.shape)
    wanted = np.round(bilinear(pixels, row - 0.5, column - 0.5).reshape(block.shape))
    assert inside.mean() > 0.2
    wrong = np.abs(got - wanted)[inside]
    assert wrong.max() <= 3
    assert (wrong == 0).mean() >= 0.9
    west, east = (block[60:61, edge : edge + 1].footprint("EPSG:4326").centroid.coords[0][0] for edge in (0, 159))
    assert west > 0 > east, "the block does lie on both sides"


def test_classes_keep_to_the_granule_of_their_pixel(tmp_path: Path) -> None:
    whole = box32(60, 90)
    red, classes = np.full(whole.shape, 2000, "uint16"), np.full(whole.shape, 4, "uint8")
    red[:, 45:] = 0
    plain = {"predictor": None}
    first = granule(
        whole,
        "a",
        B04=write(tmp_path / "a4.tif", red, whole),
        SCL=write(tmp_path / "as.tif", classes, whole, **plain),
    )
    second = granule(
        whole,
        "b",
        B04=write(tmp_path / "b4.tif", np.full(whole.shape, 3000, "uint16"), whole),
        SCL=write(tmp_path / "bs.tif", classes + 5, whole, **plain),
    )
    got = read_block([first, second], [RED, SCL], whole)
    assert (got["SCL"][:, :45] == 4).all()
    assert (got["SCL"][:, 45:] == 9).all(), "the class comes with the pixel, although the first granule has one too"
    alone = read_block([first, second], [SCL], whole)
    assert (alone["SCL"] == 4).all()


FILES["chosen, unsaid"] = {"overview_resampling": "nearest"}
CHOSEN = {"driver": "GTiff", "tiled": True, "blocksize": None, "blockxsize": 128, "blockysize": 128}


def hills(size: int) -> np.ndarray:
    """So smooth that means of pixels and the low-pass half of a wavelet transform are nearly alike."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    waves = np.sin(columns / 9.1 + rows / 23) + np.sin(rows / 8.3 - columns / 31) + np.sin((rows + columns) / 17)
    return np.round(3000 + 500 * waves).astype("uint16")


def aside(got: np.ndarray, truth: np.ndarray, factor: int) -> float:
    """Source pixels by which a picture lies beside another, at most of both axes, by least squares over gradients."""
    down, across = np.gradient(truth)
    inner = np.s_[2:-2, 2:-2]
    gradients = np.stack([across[inner].ravel(), down[inner].ravel()], axis=1)
    moved, *_ = np.linalg.lstsq(gradients, (truth - got)[inner].ravel(), rcond=None)
    return float(np.abs(moved).max() * factor)


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
@pytest.mark.parametrize(("size", "factor"), [(1830, 4), (1831, 2), (999, 4), (1001, 8), (513, 4)])
@pytest.mark.parametrize("kind", ["jp2", "averaged", "chosen", "chosen, unsaid"])
def test_overviews_of_any_size_lie_where_they_belong(
    kind: str, size: int, factor: int, engine: str, tmp_path: Path
) -> None:
    whole, pixels = box32(size, size, gsd=60), hills(size)
    path = write(tmp_path / ("a.jp2" if kind == "jp2" else "a.tif"), pixels, whole, **FILES.get(kind, CHOSEN))
    if kind == "chosen":  # by name: GDAL's driver of COGs does not write down how it made them
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4, 8], Resampling.nearest)
    count = size // factor
    coarse = box32(count, count, gsd=60 * factor)
    got = read_block([granule(whole, B04=path)], [RED], coarse, engine=Engine(engine))["B04"].astype(float)
    truth = pixels[: count * factor, : count * factor].reshape(count, factor, count, factor).mean(axis=(1, 3))
    got -= np.median(got - truth)
    quarter = count // 3
    for place in (np.s_[:quarter, :quarter], np.s_[-quarter:, -quarter:]):
        assert aside(got[place], truth[place], factor) < 0.1, place


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
def test_gaussian_overviews_which_lie_aside_are_not_read(engine: str, tmp_path: Path) -> None:
    """GDAL's lie half a pixel of the level before to the upper left, at each level."""
    whole, pixels = box32(512, 512, gsd=60), hills(512)
    path = write(tmp_path / "a.tif", pixels, whole, **CHOSEN)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.gauss)
    got = read_block([granule(whole, B04=path)], [RED], box32(128, 128, gsd=240), engine=Engine(engine))["B04"]
    assert aside(got.astype(float), pixels.reshape(128, 4, 128, 4).mean(axis=(1, 3)), 4) < 0.1


@pytest.mark.parametrize("size", [2048, 1830])
@pytest.mark.parametrize("method", ["nearest", "average", "bilinear", "cubic"])
def test_how_overviews_were_made_is_found_out(method: str, size: int, tmp_path: Path) -> None:
    """GDAL's driver of COGs does not write it down."""
    whole = box32(size, size, gsd=60)
    path = write(tmp_path / "a.tif", texture(whole), whole, overview_resampling=method.upper())
    with gdal_image(str(path)) as image:
        for level in range(1, len(image.factors) + 1):
            rows, columns = image.geobox_of(level).shape
            means = are_means(image, 1, level, (slice(0, rows), slice(0, columns)), str(path))
            assert means == (method != "nearest")


def test_where_nothing_tells_the_full_resolution_is_read(tmp_path: Path) -> None:
    pixels = np.full(WHOLE.shape, 3000, "uint16")
    pixels[256:] = 4000
    path = write(tmp_path / "a.tif", pixels, WHOLE, overview_resampling="nearest")
    plain = write(tmp_path / "b.tif", pixels, WHOLE, driver="GTiff", blocksize=None)
    got, wanted = (read_block([granule(WHOLE, B04=file)], [RED], COARSE)["B04"] for file in (path, plain))
    np.testing.assert_array_equal(got, wanted)


SIXTY = replace(RED, resampling="average", exact=True)


@pytest.mark.parametrize("reversible", ["YES", "NO"])
def test_reduced_reading_averages_the_level_whose_pixels_fill_the_target(reversible: str, tmp_path: Path) -> None:
    """10 m to 60 m: three pixels of half the resolution, never one and a half of a quarter."""
    whole, pixels = box32(600, 600), texture(box32(600, 600))
    path = write(tmp_path / "a.jp2", pixels, whole, **(JP2 | {"REVERSIBLE": reversible}))
    coarse = box32(100, 100, gsd=60)
    exact, reduced = (
        read_block([granule(whole, B04=path)], [replace(SIXTY, reduced=way)], coarse)["B04"].astype(float)
        for way in (False, True)
    )
    means = pixels.reshape(100, 6, 100, 6).mean(axis=(1, 3))
    if reversible == "YES":
        assert np.abs(exact - means).max() <= 0.5
    with rasterio.open(path, overview_level=0) as file:
        half = file.read(1).astype(float)
    # Its pixels lie at every second pixel of the full resolution: the first and last of four are covered in part.
    along = np.zeros((100, 300))
    for cell in range(99):
        along[cell, 3 * cell : 3 * cell + 4] = np.array([1.5, 2, 2, 0.5]) / 6
    wanted = (along @ half @ along.T)[:99, :99]
    assert np.abs(reduced[:99, :99] - wanted).max() <= 0.6
    assert np.abs(reduced - means)[1:-1, 1:-1].max() < 25
    # Two pixels to one are no mean of fewer: every pixel is read.
    twenty = box32(300, 300, gsd=20)
    fine = [
        read_block([granule(whole, B04=path)], [replace(SIXTY, reduced=way)], twenty)["B04"] for way in (False, True)
    ]
    np.testing.assert_array_equal(*fine)


def test_reduced_reading_takes_half_the_resolution_of_20_m_for_60_m(tmp_path: Path) -> None:
    whole, pixels = box32(600, 600, gsd=20), texture(box32(600, 600))
    made = granule(whole, B04=write(tmp_path / "a.jp2", pixels, whole, **JP2))
    exact, reduced = (
        read_block([made], [replace(SIXTY, reduced=way)], box32(200, 200, gsd=60))["B04"].astype(float)
        for way in (False, True)
    )
    assert (exact != reduced).mean() > 0.5
    assert abs(np.mean(exact - reduced)) < 1, "nothing is brighter or darker"
    assert np.abs(exact - reduced)[1:-1, 1:-1].max() < 30


def test_reduced_reading_is_exact_beside_no_data_and_the_same_in_every_block(tmp_path: Path) -> None:
    whole = box32(600, 600)
    rows, columns = np.indices(whole.shape)
    pixels = np.where(rows + columns < 400, 0, texture(whole)).astype("uint16")
    made = granule(whole, B04=write(tmp_path / "a.jp2", pixels, whole, **JP2), shift=1000)
    coarse, band = box32(100, 100, gsd=60), replace(SIXTY, reduced=True)
    reduced, exact = (read_block([made], [way], coarse)["B04"] for way in (band, SIXTY))
    share = (pixels > 0).reshape(100, 6, 100, 6).mean(axis=(1, 3))
    np.testing.assert_array_equal(reduced[share < 1], exact[share < 1])
    next_to = ndimage.binary_dilation(share < 1, np.ones((5, 5), bool)) & (share == 1)
    apart = np.abs(reduced.astype(int) - exact)
    assert apart[next_to].max() < 25, "as anywhere: nothing of 0 is mixed in"
    assert apart[~next_to].any(), "far from it the lower level is read"
    assert not reduced[share == 0].any()
    for part in (np.s_[:40, :40], np.s_[40:, :40], np.s_[:, 33:71], np.s_[60:, 60:]):
        np.testing.assert_array_equal(read_block([made], [band], coarse[part])["B04"], reduced[part])
    cog = granule(whole, B04=write(tmp_path / "a.tif", pixels, whole, overview_resampling="average"))
    np.testing.assert_array_equal(
        read_block([cog], [band], coarse)["B04"], read_block([cog], [SIXTY], coarse)["B04"], "a COG is read alike"
    )


@pytest.mark.parametrize("options", [JP2, FILES["averaged, nodata unknown"]], ids=["jp2", "averaged, nodata unknown"])
@pytest.mark.parametrize("method", ["bilinear", "cubic", "lanczos", "average", "med"])
def test_beside_no_data_pixels_are_the_same_in_every_block(method: str, options: dict, tmp_path: Path) -> None:
    """The full resolution is read only near pixels without data, in whatever block they are."""
    whole, band = box32(1200, 1200), replace(RED, resampling=method)
    rows, columns = np.indices(whole.shape)
    pixels = np.where(2 * rows + 5 * columns < 2000, 0, texture(whole)).astype("uint16")
    made = granule(whole, B04=write(tmp_path / "a", pixels, whole, **options))
    coarse = box32(200, 200, gsd=60)
    got = read_block([made], [band], coarse)["B04"]
    for part in (np.s_[:40, :40], np.s_[40:, :40], np.s_[:, 33:71], np.s_[60:, 60:]):
        np.testing.assert_array_equal(read_block([made], [band], coarse[part])["B04"], got[part])
    full = granule(whole, B04=write(tmp_path / "b.tif", pixels, whole, driver="GTiff", blocksize=None, nodata=0))
    wanted = read_block([full], [band], coarse)["B04"]
    np.testing.assert_array_equal(got == 0, wanted == 0)
    beside = ndimage.binary_dilation(wanted == 0, np.ones((3, 3), bool))
    np.testing.assert_array_equal(got[beside], wanted[beside])
    far = ~ndimage.binary_dilation(wanted == 0, np.ones((21, 21), bool))
    assert (got != wanted)[far].mean() > 0.3, "far from it a lower level is read"
    apart = np.abs(got.astype(int) - wanted)
    assert apart[~far].max() <= 1.5 * apart[far].max(), "as anywhere: nothing of 0 is mixed in"


@pytest.mark.parametrize("gsd", [60, 240])
@pytest.mark.parametrize("method", ["bilinear", "cubic", "lanczos", "average"])
def test_kernels_of_coarse_pixels_reach_beyond_their_block(method: str, gsd: int, tmp_path: Path) -> None:
    """A kernel is two to six pixels of the block wide: up to 144 pixels of this file, which has no overviews."""
    whole, band = box32(1200, 1200), replace(RED, resampling=method)
    pixels = np.random.default_rng(1).integers(1, 10_000, whole.shape).astype("uint16")
    made = granule(whole, B04=write(tmp_path / "a.tif", pixels, whole, driver="GTiff", blocksize=None))
    count = 12_000 // gsd
    coarse, half = box32(count, count, gsd=gsd), count // 2
    got = read_block([made], [band], coarse)["B04"]
    for part in (np.s_[:half, :half], np.s_[half:, :half], np.s_[:half, half:], np.s_[half:, half:]):
        np.testing.assert_array_equal(read_block([made], [band], coarse[part])["B04"], got[part])
