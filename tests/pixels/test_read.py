"""Granules into blocks: pasted, warped, mosaicked; compared with evaluations of our own."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio.warp
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from stac2cube.errors import BadInputError
from stac2cube.model.image import BandRequest
from stac2cube.pixels.open import Engine
from stac2cube.pixels.read import intersecting, read_block
from tests.pixels.granules import NIR, RED, SCL, bilinear, box32, granule, texture, write


def test_the_same_lattice_is_copied(tmp_path: Path) -> None:
    whole = box32()
    pixels = texture(whole)
    made = granule(whole, B04=write(tmp_path / "a.tif", pixels, whole))
    for rows, columns in ((slice(0, 300), slice(0, 300)), (slice(37, 140), slice(101, 257))):
        np.testing.assert_array_equal(read_block([made], [RED], whole[rows, columns])["B04"], pixels[rows, columns])
    beyond = box32(100, 100, x=700_000 - 500, y=5_300_040 + 300)
    block = read_block([made], [RED], beyond)["B04"]
    np.testing.assert_array_equal(block[30:, 50:], pixels[:70, :50])
    assert not block[:30].any()
    assert not block[:, :50].any()


def test_twenty_metres_become_ten_by_true_bilinear(tmp_path: Path) -> None:
    coarse = box32(150, 150, gsd=20)
    pixels = texture(coarse)
    made = granule(coarse, B04=write(tmp_path / "a.tif", pixels, coarse))
    rows, columns = np.mgrid[20:200, 40:260]
    wanted = bilinear(pixels, (rows + 0.5) / 2 - 0.5, (columns + 0.5) / 2 - 0.5)
    got = read_block([made], [RED], box32()[20:200, 40:260])["B04"]
    assert np.abs(got - wanted).max() <= 0.51


def reference_across_zones(pixels: np.ndarray, source: GeoBox, block: GeoBox) -> np.ndarray:
    rows, columns = np.indices(block.shape)
    x, y = block.transform * (columns.ravel() + 0.5, rows.ravel() + 0.5)
    x, y = Transformer.from_crs(32633, 32632, always_xy=True).transform(x, y)
    column, row = ~source.transform * (x, y)
    return bilinear(pixels, row - 0.5, column - 0.5).reshape(block.shape)


@pytest.mark.parametrize("gsd", [10, 20])
def test_one_utm_zone_onto_another_is_not_blurred(gsd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = box32(3000 // gsd * 2, 3000 // gsd * 2, gsd=gsd)
    pixels = texture(source)
    made = granule(source, B04=write(tmp_path / "a.tif", pixels, source))
    inner = GeoBox.from_bbox(source.extent.to_crs("EPSG:32633").buffer(-1300).boundingbox, "EPSG:32633", resolution=10)
    block = inner[:200, :200]
    wanted = reference_across_zones(pixels, source, block)
    wrong = np.abs(read_block([made], [RED], block)["B04"] - np.round(wanted))
    assert (wrong <= 1).mean() > 0.99
    assert (wrong == 0).mean() >= 0.95 - 0.25 * (gsd == 20)
    assert wrong.max() <= 3
    if gsd == 10:
        plain = rasterio.warp.reproject

        def widened(*arguments: object, **options: object) -> None:
            options.pop("XSCALE"), options.pop("YSCALE")
            plain(*arguments, **options)

        monkeypatch.setattr(rasterio.warp, "reproject", widened)
        read = read_block([made], [RED], block, engine=Engine("rasterio"))
        blurred = np.abs(read["B04"] - np.round(wanted))
        assert (blurred == 0).mean() < 0.6, "GDAL widens its kernel if it is let"


def test_coarser_targets_average_and_use_overviews(tmp_path: Path) -> None:
    whole = box32(1024, 1024)
    pixels = texture(whole)
    made = granule(whole, B04=write(tmp_path / "a.tif", pixels, whole, overview_resampling="average"))
    coarse = box32(64, 64, gsd=160)
    got = read_block([made], [RED], coarse)["B04"].astype(float)
    mean = pixels.reshape(64, 16, 64, 16).mean(axis=(1, 3))
    assert np.abs(got - mean)[4:-4, 4:-4].mean() < 40
    assert np.corrcoef(got.ravel(), mean.ravel())[0, 1] > 0.98


def test_classes_are_never_interpolated(tmp_path: Path) -> None:
    coarse = box32(150, 150, gsd=20)
    classes = np.random.default_rng(1).choice(np.array([3, 4, 9], "uint8"), coarse.shape)
    made = granule(coarse, SCL=write(tmp_path / "scl.tif", classes, coarse, predictor=None))
    got = read_block([made], [SCL], box32())["SCL"]
    np.testing.assert_array_equal(got, classes.repeat(2, axis=0).repeat(2, axis=1))
    for wrong in ("bilinear", "cubic", "average"):
        with pytest.raises(BadInputError, match="nearest, mode"):
            BandRequest("SCL", "uint8", 0, "class", wrong)
    with pytest.raises(BadInputError, match="bicubic"):
        BandRequest("B04", "uint16", 0, "continuous", "bicubic")


def test_no_data_never_bleeds_into_pixels(tmp_path: Path) -> None:
    coarse = box32(150, 150, gsd=20)
    pixels = np.full(coarse.shape, 3000, "uint16")
    pixels[:, 70:] = 0
    made = granule(coarse, B04=write(tmp_path / "a.tif", pixels, coarse), shift=1000)
    got = read_block([made], [RED], box32())["B04"]
    assert set(np.unique(got)) == {0, 4000}
    assert (got[:, :138] == 4000).all()
    assert not got[:, 142:].any()


def test_shift_and_saturation_come_after_resampling(tmp_path: Path) -> None:
    whole = box32(64, 64)
    pixels = np.full(whole.shape, 65000, "uint16")
    pixels[0, 0], pixels[0, 1] = 0, 200
    made = granule(whole, B04=write(tmp_path / "a.tif", pixels, whole), shift=1000)
    got = read_block([made], [RED], whole)["B04"]
    assert (got[0, 0], got[0, 1], got[5, 5]) == (0, 1200, 65535)


def test_a_pixel_takes_all_its_bands_from_one_granule(tmp_path: Path) -> None:
    whole = box32(60, 90)
    full = {"a": (1000, 1100), "b": (2000, 2100), "c": (3000, 3100)}
    layers = {name: [np.full(whole.shape, value, "uint16") for value in pair] for name, pair in full.items()}
    layers["a"][0][:, 40:] = 0  # red of the first ends before its near infrared does
    layers["a"][1][:, 50:] = 0
    layers["b"][0][:, :20] = layers["b"][1][:, :20] = 0
    layers["b"][0][:, 80:] = layers["b"][1][:, 70:] = 0  # between 70 and 80 only red is left of the second
    layers["c"][0][:] = layers["c"][1][:] = 0
    layers["c"][1][:, 75:] = 3100
    made = [
        granule(
            whole,
            name,
            B04=write(tmp_path / f"{name}4.tif", layers[name][0], whole),
            B08=write(tmp_path / f"{name}8.tif", layers[name][1], whole),
        )
        for name in full
    ]
    got = read_block(made, [RED, NIR], whole)
    assert (got["B04"][:, :40] == 1000).all()
    assert (got["B08"][:, :40] == 1100).all()
    assert (got["B04"][:, 40:70] == 2000).all(), "where the first is partial the second, complete one is taken"
    assert (got["B08"][:, 40:70] == 2100).all(), "and never the near infrared of the first"
    assert (got["B04"][:, 70:80] == 2000).all()
    assert not got["B08"][:, 70:75].any()
    assert not got["B08"][:, 75:80].any(), "a partial pixel is not completed from a third granule"
    assert (got["B08"][:, 80:] == 3100).all()
    other = read_block(made[::-1], [RED, NIR], whole)
    assert (other["B04"][:, 20:40] == 2000).all(), "the order of the granules decides"


def test_granules_that_cannot_add_anything_are_not_opened(tmp_path: Path) -> None:
    whole = box32(64, 64)
    complete = granule(whole, B04=write(tmp_path / "a.tif", texture(whole), whole))
    hidden = granule(whole, "hidden", B04=tmp_path / "does-not-exist.tif")
    far = granule(box32(64, 64, x=400_000), "far", B04=tmp_path / "does-not-exist.tif")
    assert read_block([far, complete, hidden], [RED], whole)["B04"].all()


def test_touching_knows_the_antimeridian() -> None:
    from affine import Affine

    east = GeoBox((100, 100), Affine(10, 0, 499_980, 0, -10, 6_800_000), "EPSG:32601")  # centre of zone 1: 177 W
    over = GeoBox((100, 100), Affine(100, 0, 336_000, 0, -100, 6_800_000), "EPSG:32601")  # lies over 180 degrees
    near = granule(GeoBox((100, 100), Affine(10, 0, 660_000, 0, -10, 6_795_000), "EPSG:32660"))  # 179.9 E
    assert intersecting([near], [east, over]) == [(), (0,)]


def test_tasks_travel() -> None:
    made = granule(box32(), B04="a.tif")
    assert pickle.loads(pickle.dumps((made, RED))) == (made, RED)


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
def test_what_only_the_item_calls_no_data(engine: str, tmp_path: Path) -> None:
    """Also where pixels become larger: overviews made without it have it mixed in."""
    whole = box32(512, 512)
    pixels = texture(whole)
    pixels[::7, ::5] = 65535
    path = write(tmp_path / "a.tif", pixels, whole, nodata=None, overview_resampling="average")
    made = granule(whole, B04=path)
    made.assets["B04"] = replace(made.assets["B04"], nodata=65535)
    block = read_block([made], [RED], whole, engine=Engine(engine))["B04"]
    np.testing.assert_array_equal(block, np.where(pixels == 65535, 0, pixels))
    coarse = replace(RED, resampling="average")
    larger = read_block([made], [coarse], box32(128, 128, gsd=40), engine=Engine(engine))["B04"]
    assert larger.max() < 3600
