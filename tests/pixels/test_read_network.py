"""Reading over HTTP: what is asked of a server, what is tried again, and what must never be said."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stac2cube.access.sign import unsigned
from stac2cube.errors import ReadError
from stac2cube.pixels.gdal import gdal_settings
from stac2cube.pixels.open import RetryPolicy
from stac2cube.pixels.read import read_block
from tests.pixels.granules import NIR, RED, SCL, box32, granule, texture, write
from tests.servers.range_server import RangeServer, serving

WHOLE = box32(1500, 1500)
PIXELS = texture(WHOLE)
SOON = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05)


@pytest.fixture(autouse=True, params=["auto", "rasterio"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STAC2CUBE_ENGINE", request.param)
    return request.param


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    write(tmp_path / "a.tif", PIXELS, WHOLE)
    with serving(tmp_path) as running:
        yield running


def read(href: object, block: object = WHOLE) -> np.ndarray:
    return read_block([granule(WHOLE, "S2A_X", B04=href)], [RED], block, SOON)["B04"]


def test_what_gdal_remembers_of_a_failure_is_not_believed(server: RangeServer) -> None:
    """One try of GDAL's asks three times. More faults than that reach our own tries, which must ask the server."""
    server.faults["a.tif"] = [503] * 4
    np.testing.assert_array_equal(read(f"{server.url}/a.tif"), PIXELS)
    assert server.faults["a.tif"] == []


def test_a_file_that_comes_late_is_found(server: RangeServer) -> None:
    with pytest.raises(ReadError, match="response code: 404"):
        read(f"{server.url}/late.tif")
    write(server.folder / "late.tif", PIXELS, WHOLE)
    np.testing.assert_array_equal(read(f"{server.url}/late.tif"), PIXELS)


@pytest.mark.parametrize("address", ["a b.tif", "a%20b.tif", "a b.tif?of=x y", "a%20b.tif?of=x%20y"])
def test_blanks_in_an_address_are_encoded(server: RangeServer, address: str) -> None:
    write(server.folder / "a b.tif", PIXELS, WHOLE)
    np.testing.assert_array_equal(read(f"{server.url}/{address}"), PIXELS)


@pytest.mark.parametrize("fault", [403, "html"], ids=str)
@pytest.mark.parametrize("before", [0, 1], ids=["in the header", "in the pixels"])
def test_one_bad_answer_in_the_middle_passes(server: RangeServer, engine: str, fault: int | str, before: int) -> None:
    before += engine == "rasterio"  # which asks for the size first
    server.faults["a.tif"] = ["pass"] * before + [fault]
    np.testing.assert_array_equal(read(f"{server.url}/a.tif"), PIXELS)
    assert server.faults["a.tif"] == []


def test_a_small_block_asks_for_few_bytes(server: RangeServer, engine: str) -> None:
    size = (server.folder / "a.tif").stat().st_size
    np.testing.assert_array_equal(read(f"{server.url}/a.tif", WHOLE[900:1000, 900:1000]), PIXELS[900:1000, 900:1000])
    assert len(server.requests) <= (2 if engine == "auto" else 5)
    assert server.sent < size / 10


def test_a_coarse_block_asks_for_overviews(server: RangeServer) -> None:
    size = (server.folder / "a.tif").stat().st_size
    got = read(f"{server.url}/a.tif", box32(375, 375, gsd=40))
    assert got.all()
    assert server.sent < size / 4


def test_granules_that_cannot_add_anything_cost_no_request(server: RangeServer) -> None:
    assets = {"B04": f"{server.url}/a.tif", "B08": f"{server.url}/a.tif"}
    first = granule(WHOLE, "first", **assets)
    hidden = granule(WHOLE, "hidden", B04=f"{server.url}/hidden.tif", B08=f"{server.url}/hidden.tif")
    far = granule(box32(x=200_000), "far", B04=f"{server.url}/far.tif", B08=f"{server.url}/far.tif")
    read_block([far, first, hidden], [RED, NIR], WHOLE, SOON)
    assert {line.split()[1] for line in server.requests} == {"/a.tif"}


def test_a_missing_band_is_known_before_anything_is_asked_twice(server: RangeServer) -> None:
    with pytest.raises(ReadError, match="item S2A_X has no asset for band SCL"):
        read_block([granule(WHOLE, "S2A_X", B04=f"{server.url}/a.tif")], [RED, SCL], WHOLE, SOON)


def test_no_secret_is_logged_or_raised(server: RangeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.faults["a.tif"] = [503] * 500
    address = f"{server.url}/a.tif?st=2023&sig=SECRET".replace("http://", "http://me:PASSWORD@")
    with caplog.at_level(logging.INFO), pytest.raises(ReadError) as caught:
        read_block([granule(WHOLE, "S2A_X", B04=address)], [RED], WHOLE, RetryPolicy(attempts=2, first_wait=0.01))
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "S2A_X" in told
    assert "a.tif" in told
    assert "503" in told
    assert "SECRET" not in told
    assert "PASSWORD" not in told


def test_unsigned_texts() -> None:
    assert unsigned("'/vsicurl/https://h/a.tif?sig=S&se=2' not there") == "'/vsicurl/https://h/a.tif' not there"
    assert unsigned("http://me:word@h/a.tif") == "http://h/a.tif"
    assert unsigned("s3://bucket/a@b.tif") == "s3://bucket/a@b.tif"


def test_settings_leave_no_trace() -> None:
    from rasterio.env import getenv, hasenv

    with gdal_settings(remote=True, fresh=True):
        assert getenv()["CPL_VSIL_CURL_NON_CACHED"] == "/vsicurl/:/vsis3/"
    assert not hasenv()
