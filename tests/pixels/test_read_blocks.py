"""What a block is must not show in its pixels: whole blocks as large as real ones, their seams, where they lie."""

from __future__ import annotations

import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import box, mapping

from stac2cube.errors import ReadError
from stac2cube.model.image import BandRequest, Image
from stac2cube.model.scene import AssetRef
from stac2cube.pixels import read as reading
from stac2cube.pixels.open import RetryPolicy
from stac2cube.pixels.read import intersecting, outlines, read_block
from tests.pixels.granules import NIR, RED, bilinear, box32, granule, texture, write
from tests.servers.range_server import serving


def truth(pixels: np.ndarray, source: GeoBox, block: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """True bilinear values, and where all four neighbours are inside."""
    rows, columns = np.indices(block.shape)
    x, y = block.transform * (columns.ravel() + 0.5, rows.ravel() + 0.5)
    x, y = Transformer.from_crs(str(block.crs), str(source.crs), always_xy=True).transform(x, y)
    column, row = (np.reshape(part, block.shape) for part in ~source.transform * (x, y))
    inside = (column > 1) & (row > 1) & (column < source.shape[1] - 1) & (row < source.shape[0] - 1)
    return bilinear(pixels, row - 0.5, column - 0.5), inside


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory):
    lattice = box32(2600, 2600)
    pixels = texture(lattice)
    path = write(tmp_path_factory.mktemp("tile") / "a.tif", pixels, lattice, blocksize=512)
    return lattice, pixels, granule(lattice, B04=path)


def across(lattice: GeoBox, resolution: float) -> GeoBox:
    return GeoBox.from_bbox(lattice.extent.to_crs("EPSG:32633").boundingbox, "EPSG:32633", resolution=resolution)


def test_a_whole_block_across_zones_is_true_bilinear(source) -> None:
    lattice, pixels, made = source
    block = across(lattice, 10)[300:900, 300:2348]
    wanted, inside = truth(pixels, lattice, block)
    assert inside.mean() > 0.95
    wrong = np.abs(read_block([made], [RED], block)["B04"] - np.round(wanted))[inside]
    assert (wrong == 0).mean() > 0.98
    assert wrong.max() <= 1


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32633"])
def test_only_what_others_leave_open_is_read_and_the_pixels_are_the_same(
    crs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, north, east = box32(900, 900), box32(900, 900, y=5_303_040), box32(900, 900, x=703_000)
    second, bounds = north, (701_000, 5_293_000, 708_000, 5_301_500)
    if crs == "EPSG:32633":
        second = GeoBox.from_bbox(east.extent.to_crs(crs).boundingbox, crs, resolution=10)
        bounds = (701_000, 5_293_000, 710_000, 5_299_500)
    block = GeoBox.from_bbox(bounds, "EPSG:32632", resolution=10)
    made = []
    for name, lattice in (("first", first), ("second", second)):
        coarse = GeoBox.from_bbox(lattice.boundingbox, lattice.crs, resolution=20)
        paths = {
            band: write(tmp_path / f"{name}_{band}.tif", texture(on, seed), on)
            for seed, (band, on) in enumerate({"B04": lattice, "B08": coarse}.items())
        }
        made.append(granule(lattice, name, **paths))
    read: list[int] = []
    cut = reading.source_window

    def reading_of(image: Image, asset: AssetRef, band: BandRequest, geobox: GeoBox) -> np.ndarray:
        read.append(geobox.shape)
        return cut(image, asset, band, geobox)

    monkeypatch.setattr(reading, "source_window", reading_of)
    got = read_block(made, [RED, NIR], block)
    rows, columns = np.array(read[2]) / block.shape
    assert (rows, columns < 0.5) == (1, True) if crs == "EPSG:32633" else (rows < 0.2, columns) == (True, 1)
    monkeypatch.setattr(reading, "_lacking", lambda best, warped: np.s_[: best.shape[0], : best.shape[1]])
    whole = read_block(made, [RED, NIR], block)
    for band in ("B04", "B08"):
        assert (got[band] > 0).mean() > 0.95
        np.testing.assert_array_equal(got[band], whole[band])


@pytest.mark.parametrize("resolution", [10, 16, 40])
@pytest.mark.parametrize("method", ["bilinear", "average", "nearest"])
def test_the_size_of_blocks_does_not_show(source, resolution: int, method: str) -> None:
    lattice, _, made = source
    band = BandRequest("B04", "uint16", 0, "continuous", method)
    block = across(lattice, resolution)[:600]
    whole = read_block([made], [band], block)["B04"]
    pieces = np.zeros_like(whole)
    for top in range(0, block.shape[0], 256):
        for left in range(0, block.shape[1], 512):
            window = np.s_[top : min(top + 256, block.shape[0]), left : min(left + 512, block.shape[1])]
            pieces[window] = read_block([made], [band], block[window])["B04"]
    assert (pieces != whole).mean() < 0.002
    np.testing.assert_array_equal(pieces > 0, whole > 0)


def test_pixels_come_over_the_antimeridian(tmp_path: Path) -> None:
    lattice = GeoBox((400, 400), Affine(10, 0, 670_000, 0, -10, 6_795_000), "EPSG:32660")
    pixels = texture(lattice)
    made = granule(lattice, B04=write(tmp_path / "a.tif", pixels, lattice))
    block = GeoBox.from_bbox(lattice.extent.to_crs("EPSG:32601").boundingbox, "EPSG:32601", resolution=10)
    wanted, inside = truth(pixels, lattice, block)
    wrong = np.abs(read_block([made], [RED], block)["B04"] - np.round(wanted))[inside]
    assert (wrong == 0).mean() > 0.95
    assert wrong.max() <= 1


def test_slack_reaches_over_the_antimeridian() -> None:
    x, y = Transformer.from_crs(4326, 32601, always_xy=True).transform(-179.995, 60.5)
    block = GeoBox((10, 10), Affine(10, 0, x, 0, -10, y), "EPSG:32601")
    ends = replace(granule(box32()), footprint=mapping(box(179, 60, 180, 61)))
    away = replace(granule(box32()), footprint=mapping(box(178, 60, 179.9, 61)))
    assert intersecting([ends, away], [block]) == [(0,)]


def test_blocks_around_a_pole_and_of_the_whole_globe() -> None:
    polar = GeoBox((100, 100), Affine(20_000, 0, -1_000_000, 0, -20_000, 1_000_000), "EPSG:3413")
    globe = GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")
    ring, world = outlines([polar, globe])
    assert ring.bounds == pytest.approx((-180, 77, 180, 90), abs=1)
    assert world.bounds == (-180, -90, 180, 90)
    north = replace(granule(box32()), footprint=mapping(box(100, 85, 110, 86)))
    assert intersecting([north], [polar, globe, box32()]) == [(0,), (0,), ()]


def test_tens_of_thousands_of_blocks_are_outlined_in_seconds() -> None:
    whole = box32(1, 1)
    blocks = [whole.translate_pix(256 * (n % 300), 256 * (n // 300)) for n in range(20_000)]
    begun = time.process_time()
    found = intersecting([granule(box32(1000, 1000))], blocks)
    assert time.process_time() - begun < 4
    assert 0 < sum(map(len, found)) < 200


def test_lattices_that_only_look_alike_are_not_pasted(tmp_path: Path) -> None:
    drifting = GeoBox((900, 900), Affine(10.004, 0, 700_000, 0, -10.004, 5_300_040), "EPSG:32632")
    ramp = np.tile(np.arange(1, 901, dtype="uint16") * 20, (900, 1))
    made = granule(drifting, B04=write(tmp_path / "a.tif", ramp, drifting))
    got = read_block([made], [RED], box32(900, 900))["B04"][450]
    wanted = 20 * ((np.arange(900) + 0.5) * 10 / 10.004 + 0.5)
    assert np.abs(got - wanted)[5:-5].max() <= 1


def test_values_and_bands_that_a_file_cannot_give_are_named(tmp_path: Path) -> None:
    lattice = box32(64, 64)
    signed = (texture(lattice).astype("int32") - 2500).astype("int16")
    path = write(tmp_path / "a.tif", signed, lattice, nodata=-9999, predictor=None)
    with pytest.raises(ReadError, match="which is not uint16"):
        read_block([granule(lattice, B04=path)], [RED], lattice)
    made = replace(granule(lattice), assets={"B04": AssetRef(str(path), index=2)})
    with pytest.raises(ReadError, match=r"1 band\(s\), and no band 2"):
        read_block([made], [RED], lattice)


def test_nan_can_mean_no_data(tmp_path: Path) -> None:
    lattice = box32(64, 64)
    left, right = np.full((2, *lattice.shape), np.nan, "float32")
    left[:, :40], right[:, 30:] = 1, 2
    made = [
        granule(lattice, name, VV=write(tmp_path / f"{name}.tif", pixels, lattice, nodata=np.nan, predictor=None))
        for name, pixels in (("left", left), ("right", right))
    ]
    got = read_block(made, [BandRequest("VV", "float32", np.nan, "continuous")], lattice)["VV"]
    np.testing.assert_array_equal(got, np.where(np.isnan(left), right, left))
    counts = read_block(made[:1], [BandRequest("VV", "uint16", 0, "continuous")], lattice)["VV"]
    assert set(np.unique(counts)) == {0, 1}
    assert not counts[:, 40:].any()


def test_no_more_than_two_granules_are_held(tmp_path: Path) -> None:
    lattice = box32(1024, 1024)
    made = []
    for number in range(4):
        pixels = np.zeros(lattice.shape, "uint16")
        pixels[:, 256 * number : 256 * (number + 1)] = 1000
        path = write(tmp_path / f"{number}.tif", pixels, lattice, blocksize=512)
        made.append(granule(lattice, str(number), B04=path, B08=path))
    read_block(made, [RED, NIR], lattice)
    tracemalloc.start()
    assert read_block(made, [RED, NIR], lattice)["B08"].all()
    peak = tracemalloc.get_traced_memory()[1] / (2 * 2 * lattice.shape[0] * lattice.shape[1])
    tracemalloc.stop()
    assert peak < 3.8, "two granules, masks and a window; four would be 4 and more"


def test_public_buckets_need_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lattice = box32(64, 64)
    (tmp_path / "bucket").mkdir()
    write(tmp_path / "bucket/a.tif", texture(lattice), lattice)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(tmp_path) as server:
        monkeypatch.setenv("AWS_S3_ENDPOINT", server.url.removeprefix("http://"))
        monkeypatch.setenv("AWS_HTTPS", "NO")
        monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
        made = granule(lattice, B04="s3://bucket/a.tif")
        np.testing.assert_array_equal(
            read_block([made], [RED], lattice, RetryPolicy(2, 0.01, 0.02))["B04"], texture(lattice)
        )
