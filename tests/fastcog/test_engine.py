"""Who reads what, how often it asks, and what happens when a file is not what it was thought to be."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from stac2cube.errors import BadInputError, ReadError
from stac2cube.fastcog.header import CogHeader
from stac2cube.fastcog.ranges import header_of
from stac2cube.model.scene import AssetRef
from stac2cube.pixels import open as engines
from stac2cube.pixels.open import Engine, RetryPolicy
from stac2cube.pixels.read import read_block
from tests.pixels.granules import RED, box32, granule, texture, write
from tests.servers.range_server import RangeServer, serving

WHOLE = box32(600, 600)
PIXELS, OTHER = texture(WHOLE), texture(WHOLE, seed=1)
SOON = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    write(tmp_path / "a.tif", PIXELS, WHOLE)
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return write(tmp_path / "local.tif", PIXELS, WHOLE)


def read(href: object, headers: dict[str, CogHeader] | None = None, block: object = WHOLE) -> np.ndarray:
    engine = Engine("auto", headers.get if headers else None)
    return read_block([granule(WHOLE, "S2A_X", B04=href)], [RED], block, SOON, engine=engine)["B04"]


def header(href: object) -> CogHeader:
    return header_of(AssetRef(str(href)), "none")


def change(path: Path, pixels: np.ndarray) -> None:
    """Another file in its place, later."""
    before = path.stat().st_mtime_ns
    write(path, pixels, WHOLE)
    os.utime(path, ns=(before + 3_000_000_000, before + 3_000_000_000))


def test_an_engine_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="no engine 'gdal': choose auto or rasterio"):
        Engine("gdal")
    monkeypatch.setenv("STAC2CUBE_ENGINE", "rasterio")
    assert Engine.of_environment().name == "rasterio"
    monkeypatch.setenv("STAC2CUBE_ENGINE", "")
    assert Engine.of_environment().name == "auto"
    monkeypatch.setenv("STAC2CUBE_ENGINE", "quick")
    with pytest.raises(BadInputError, match="quick"):
        Engine.of_environment()


def test_who_reads_is_said_to_those_who_look(
    local: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []
    plain = engines.gdal_image
    monkeypatch.setattr(engines, "gdal_image", lambda *words, **more: asked.append(words[0]) or plain(*words, **more))
    with caplog.at_level(logging.DEBUG, "stac2cube.pixels.open"):
        np.testing.assert_array_equal(read(local), PIXELS)
        assert not asked
        lerc = write(local.with_name("lerc.tif"), PIXELS, WHOLE, compress="lerc", predictor=None)
        np.testing.assert_array_equal(read(lerc), PIXELS)
        assert asked == [str(lerc)]
    assert "lerc.tif: its compression has the code 34887" in caplog.text
    monkeypatch.setattr(engines, "is_fast_installed", lambda: False)
    np.testing.assert_array_equal(read(local), PIXELS)
    assert asked == [str(lerc), str(local)]


def test_two_requests_without_a_header_and_one_with_it(server: RangeServer) -> None:
    href = f"{server.url}/a.tif"
    for wanted in (2, 1):  # this process remembers headers
        server.requests.clear()
        np.testing.assert_array_equal(read(href), PIXELS)
        assert len(server.requests) == wanted
    known = {f"{href}?new": header(href)}
    server.requests.clear()
    np.testing.assert_array_equal(read(f"{href}?new", known), PIXELS)
    assert server.requests == ["GET /a.tif"]


@pytest.mark.parametrize("way", ["/./a.tif", "//a.tif"])
def test_unusual_addresses_are_left_to_gdal(server: RangeServer, way: str) -> None:
    np.testing.assert_array_equal(read(f"{server.url}{way}"), PIXELS)


def test_threads_read_a_header_once(server: RangeServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(lambda _: read(f"{server.url}/a.tif"), range(8)):
            np.testing.assert_array_equal(pixels, PIXELS)
    assert len(server.requests) == 1 + 8


def test_parts_that_lie_apart_are_asked_for_apart(tmp_path: Path) -> None:
    """A block of one column of tiles; the rows between them hold more than a request is worth."""
    wide = box32(256, 4000)
    pixels = texture(wide)
    path = write(tmp_path / "wide.tif", pixels, wide)
    block = wide[:, 1500:1510]
    with serving(tmp_path) as server:
        got = read_block([granule(wide, B04=f"{server.url}/wide.tif")], [RED], block)["B04"]
        np.testing.assert_array_equal(got, pixels[:, 1500:1510])
        assert len(server.requests) == 1 + 2
        assert server.sent < path.stat().st_size / 10


@pytest.mark.parametrize("fault", ["drop", "short", 429, 503, 500, 403, "html"], ids=str)
@pytest.mark.parametrize("before", [0, 1], ids=["header", "pixels"])
def test_faults_pass(server: RangeServer, fault: int | str, before: int) -> None:
    server.faults["a.tif"] = ["pass"] * before + [fault]
    np.testing.assert_array_equal(read(f"{server.url}/a.tif"), PIXELS)
    assert server.faults["a.tif"] == []


@pytest.mark.parametrize("fault", ["drop", "short", 503], ids=str)
def test_faults_without_end_are_errors(server: RangeServer, fault: int | str) -> None:
    known = {f"{server.url}/a.tif": header(f"{server.url}/a.tif")}
    server.faults["a.tif"] = [fault] * 100
    with pytest.raises(ReadError, match=r"item S2A_X, band B04: http://.*a\.tif cannot be read"):
        read(f"{server.url}/a.tif", known)


def test_a_file_that_changes_is_read_anew(server: RangeServer, local: Path) -> None:
    for href, path in ((str(local), local), (f"{server.url}/a.tif", server.folder / "a.tif")):
        stale = {href: header(href)}
        np.testing.assert_array_equal(read(href), PIXELS)
        change(path, OTHER)
        np.testing.assert_array_equal(read(href), OTHER)  # what this process remembers is stale
        np.testing.assert_array_equal(read(href, stale), OTHER)  # and what a catalog keeps is, too


def test_a_file_that_does_not_hold_still_is_an_error(server: RangeServer) -> None:
    href = f"{server.url}/a.tif"
    known = {href: header(href)}
    server.faults["a.tif"] = ["pass", 412] * 20
    with pytest.raises(ReadError, match="it was changed after its header was read"):
        read(href, {href: replace(known[href], etag='"another"')})


def test_a_header_that_could_be_stale_unnoticed_is_not_believed(server: RangeServer) -> None:
    href = f"{server.url}/a.tif"
    wrong = replace(header(href), etag="", modified=0, nodata=PIXELS[0, 0].item())
    np.testing.assert_array_equal(read(href, {href: wrong}), PIXELS)
    assert len(server.requests) == 1 + 2


def test_a_wrong_header_gives_no_wrong_pixels(server: RangeServer, local: Path) -> None:
    """One whose tiles lie elsewhere, though it bears the marks of this file: GDAL has the last word."""
    for href in (str(local), f"{server.url}/a.tif"):
        true = header(href)
        level = true.levels[0]
        moved = replace(level, offsets=level.offsets + np.uint64(100))
        np.testing.assert_array_equal(read(href, {href: replace(true, levels=(moved, *true.levels[1:]))}), PIXELS)
        short = replace(level, counts=level.counts // np.uint64(2))
        np.testing.assert_array_equal(read(href, {href: replace(true, levels=(short, *true.levels[1:]))}), PIXELS)


def test_a_damaged_tile_is_an_error(server: RangeServer, local: Path) -> None:
    for href, path in ((str(local), local), (f"{server.url}/a.tif", server.folder / "a.tif")):
        level = header(href).levels[0]
        first, count = int(level.offsets[0, 2, 2]), int(level.counts[0, 2, 2])
        content = bytearray(path.read_bytes())
        content[first + count // 2] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(ReadError, match=r"band B04: .* cannot be read"):
            read(href)
        np.testing.assert_array_equal(read(href, block=WHOLE[:100, :100]), PIXELS[:100, :100])


def test_no_damage_to_a_tile_gives_wrong_pixels(local: Path) -> None:
    """GDAL does not look at the checksum of a tile, and calls a third of all damages pixels."""
    whole = local.read_bytes()
    level = header(local).levels[0]
    first, count = int(level.offsets[0, 2, 2]), int(level.counts[0, 2, 2])
    for place in range(first + 10, first + count, count // 25):
        for damage in (bytes([whole[place] ^ 4]), bytes(16)):
            local.write_bytes(whole[:place] + damage + whole[place + len(damage) :])
            with pytest.raises(ReadError, match="cannot be read: it is damaged: a tile"):
                read(local, block=WHOLE[256:384, 256:384])


def test_no_secret_is_said(server: RangeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.faults["a.tif"] = [503] * 100
    with caplog.at_level(logging.DEBUG), pytest.raises(ReadError) as caught:
        read(f"{server.url}/a.tif?sig=SECRET")
    assert "503" in str(caught.value)
    assert "SECRET" not in str(caught.value) + caplog.text


def test_memory_stays_where_it_is(local: Path) -> None:
    """The same block again and again: after a while nothing is added."""
    process = psutil.Process()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: read(local).any(), range(50)))
        before = process.memory_info().rss
        list(pool.map(lambda _: read(local).any(), range(100)))
    assert process.memory_info().rss - before < 20 << 20  # a leak of one block per read would be 70 MiB
