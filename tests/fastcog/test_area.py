"""JPEG 2000: areas decoded alone are GDAL's pixels, and files that are cut off are never zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from stac2cube.errors import ReadError
from stac2cube.fastcog import jp2 as area
from stac2cube.fastcog.jp2 import fetch_jp2_header as fetch
from stac2cube.fastcog.ranges import LocalParts
from stac2cube.pixels.open import Engine, RetryPolicy, read_file
from stac2cube.pixels.read import read_block
from tests.pixels.granules import RED, box32, granule, texture, write
from tests.servers.range_server import serving

WHOLE = box32(1500, 1700)
QUICK = RetryPolicy(attempts=2, first_wait=0.01, longest_wait=0.02)


def jp2(path: Path, tile: int = 1024, quality: int = 100, reversible: str = "YES", **more: str) -> Path:
    """With the lengths of its tiles in the main header, as Sentinel-2's."""
    options = {"compress": None, "predictor": None, "blocksize": None, "nodata": None, "BLOCKXSIZE": tile}
    options |= {"BLOCKYSIZE": tile, "QUALITY": quality, "REVERSIBLE": reversible, "TLM": "YES", "PLT": "YES"} | more
    return write(path, texture(WHOLE), WHOLE, driver="JP2OpenJPEG", **options)


@pytest.mark.parametrize(("tile", "quality"), [(512, 100), (1024, 100), (1024, 20)])
def test_areas_are_the_pixels_of_gdal(tile: int, quality: int, tmp_path: Path) -> None:
    if not area._is_installed():
        pytest.skip("glymur finds no OpenJPEG here (apt install libopenjp2-7): areas are left to GDAL")
    path = jp2(tmp_path / "a.jp2", tile, quality)
    header = fetch(LocalParts(str(path)), follow=False)
    assert (header.tile_height, header.height) == (tile, WHOLE.shape[0])
    rng = np.random.default_rng(tile + quality)
    alone = 0
    with rasterio.open(path) as file:
        for _ in range(24):
            top, left = int(rng.integers(0, 1490)), int(rng.integers(0, 1690))
            down, right = min(top + int(rng.integers(1, 400)), 1500), min(left + int(rng.integers(1, 400)), 1700)
            pixels = area.read_area(str(path), header, (slice(top, down), slice(left, right)))
            if pixels is None:
                continue
            alone += 1
            wanted = file.read(1, window=((top, down), (left, right)))
            assert pixels.dtype == wanted.dtype
            np.testing.assert_array_equal(pixels, wanted)
    assert alone >= 10


def test_blocks_are_cut_by_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = granule(WHOLE, B04=jp2(tmp_path / "a.jp2"))
    block = WHOLE[900:1130, 1000:1290]
    read: list[bool] = []
    decode = area.read_area
    monkeypatch.setattr("stac2cube.pixels.gdal.read_area", lambda *of: (read.append(True), decode(*of))[1])
    got = read_block([made], [RED], block)["B04"]
    assert read
    np.testing.assert_array_equal(got, texture(WHOLE)[900:1130, 1000:1290])
    np.testing.assert_array_equal(read_block([made], [RED], block, engine=Engine("rasterio"))["B04"], got)


def test_large_areas_and_small_tiles_are_left_to_gdal(tmp_path: Path) -> None:
    path = jp2(tmp_path / "a.jp2")
    header = fetch(LocalParts(str(path)), follow=False)
    assert area.read_area(str(path), header, np.s_[0:1024, 0:1024]) is None
    small = fetch(LocalParts(str(jp2(tmp_path / "b.jp2", 192))), follow=False)
    assert area.read_area(str(tmp_path / "b.jp2"), small, np.s_[0:10, 0:10]) is None


def test_areas_by_the_9_7_transform_are_left_to_gdal(tmp_path: Path) -> None:
    """An area of such a file may differ by a count from the whole tile."""
    path = jp2(tmp_path / "a.jp2", quality=60, reversible="NO")
    header = fetch(LocalParts(str(path)), follow=False)
    assert not header.reversible
    roi = np.s_[900:1000, 700:800]
    assert area.read_area(str(path), header, roi) is None
    block = WHOLE[roi]
    got = read_block([granule(WHOLE, B04=path)], [RED], block)["B04"]
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(got, file.read(1)[roi])
    assert fetch(LocalParts(str(jp2(tmp_path / "b.jp2"))), follow=False).reversible


def with_a_tile_by_9_7(path: Path) -> Path:
    """A file by the 5-3 transform, but for its last tile, whose header names the 9-7 one (markers COD and QCD)."""
    (exact, first), (lossy, last) = (
        (made.read_bytes(), int(fetch(LocalParts(str(made)), follow=True).offsets[-1]))
        for made in (jp2(path.with_stem(name), reversible=name, TLM="NO", PLT="NO") for name in ("YES", "NO"))
    )
    tile = bytearray(lossy[last:-2])
    named = b""
    for marker in (b"\xff\x52", b"\xff\x5c"):
        at = lossy.index(marker)
        named += lossy[at : at + 2 + int.from_bytes(lossy[at + 2 : at + 4], "big")]
    tile[12:12] = named
    tile[6:10] = len(tile).to_bytes(4, "big")
    content = bytearray(exact[:first] + tile + b"\xff\xd9")
    box = content.index(b"jp2c") - 4
    if content[box : box + 4] != bytes(4):
        content[box : box + 4] = (len(content) - box).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def test_a_tile_with_a_transform_of_its_own_is_left_to_gdal(tmp_path: Path) -> None:
    path = with_a_tile_by_9_7(tmp_path / "a.jp2")
    header = fetch(LocalParts(str(path)), follow=False)
    assert header.reversible
    assert area.read_area(str(path), header, np.s_[1100:1200, 1100:1200]) is None
    assert area.read_area(str(path), header, np.s_[900:1100, 900:1100]) is None
    with rasterio.open(path) as file:
        wanted = file.read(1)
    assert 0 < np.abs(wanted[1024:, 1024:].astype(int) - texture(WHOLE)[1024:, 1024:]).max() < 50
    for roi in (np.s_[1100:1200, 1100:1200], np.s_[900:1100, 900:1100], np.s_[100:200, 1100:1200]):
        got = read_block([granule(WHOLE, B04=path)], [RED], WHOLE[roi])["B04"]
        np.testing.assert_array_equal(got, wanted[roi])
    if area._is_installed():
        np.testing.assert_array_equal(
            area.read_area(str(path), header, np.s_[100:200, 1100:1200]), wanted[100:200, 1100:1200]
        )


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_no_place_of_a_file_that_is_cut_off_is_zeros(kept: float, engine: str, tmp_path: Path) -> None:
    """GDAL alone reads zeros where whole tiles are missing."""
    path = jp2(tmp_path / "a.jp2", 512)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    how = Engine(engine)
    for row, column in ((10, 10), (600, 600), (1300, 1500)):
        block = WHOLE[row : row + 64, column : column + 64]
        with pytest.raises(ReadError, match="cannot be read: it is cut off: "):
            read_block([granule(WHOLE, B04=path)], [RED], block, engine=how)
    with serving(tmp_path) as server, pytest.raises(ReadError, match="it is cut off"):
        read_block([granule(WHOLE, B04=f"{server.url}/a.jp2")], [RED], WHOLE[:64, :64], QUICK, engine=how)


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
def test_nor_is_one_of_another_name(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "a.data"
    content = jp2(tmp_path / "a.jp2", 512).read_bytes()
    path.write_bytes(content)
    block = WHOLE[1300:1364, 1500:1564]
    np.testing.assert_array_equal(
        read_block([granule(WHOLE, B04=path)], [RED], block, engine=Engine(engine))["B04"],
        texture(WHOLE)[1300:1364, 1500:1564],
    )
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ReadError, match="it is cut off"):
        read_block([granule(WHOLE, B04=path)], [RED], block, engine=Engine(engine))


@pytest.mark.parametrize("name", ["a.jp2", "a.data"])
def test_nor_is_a_file_that_a_person_names(name: str, tmp_path: Path) -> None:
    path = jp2(tmp_path / "whole.jp2", 512).rename(tmp_path / name)
    block = WHOLE[1300:1364, 1500:1564]
    wanted = texture(WHOLE)[1300:1364, 1500:1564]
    with serving(tmp_path) as server:
        for where in (path, path.as_uri(), f"{server.url}/{name}"):
            np.testing.assert_array_equal(read_file(str(where), RED, block), wanted)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with serving(tmp_path) as server:
        for where in (path, path.as_uri(), f"{server.url}/{name}"):
            with pytest.raises(OSError, match="it is cut off"):
                read_file(str(where), RED, block)
