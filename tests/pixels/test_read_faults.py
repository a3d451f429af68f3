"""What goes wrong while reading: named, tried again where that can help, and never filled in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from stac2cube.access.sign import is_remote, readable
from stac2cube.errors import ReadError
from stac2cube.pixels.open import RetryPolicy
from stac2cube.pixels.read import read_block
from tests.pixels.granules import RED, box32, granule, texture, write
from tests.servers.range_server import RangeServer, serving

WHOLE = box32(600, 600)
PIXELS = texture(WHOLE)
SOON = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    write(tmp_path / "a.tif", PIXELS, WHOLE)
    with serving(tmp_path) as running:
        yield running


def read(href: object) -> np.ndarray:
    return read_block([granule(WHOLE, "S2A_X", B04=href)], [RED], WHOLE, SOON)["B04"]


def test_ranges_over_http_give_the_same_pixels(server: RangeServer) -> None:
    np.testing.assert_array_equal(read(f"{server.url}/a.tif"), PIXELS)
    assert any(line.startswith("GET") for line in server.requests)


@pytest.mark.parametrize("faults", [[503, 503, 429], [429], ["drop"], [500, 502]], ids=str)
def test_storms_pass(server: RangeServer, faults: list, tmp_path: Path) -> None:
    # A name of its own: a server of an earlier test may have had this port, and GDAL remembers files by address.
    name = f"{'-'.join(map(str, faults))}.tif"
    (tmp_path / "a.tif").rename(tmp_path / name)
    server.faults[name] = list(faults)
    np.testing.assert_array_equal(read(f"{server.url}/{name}"), PIXELS)
    assert server.faults[name] == []


def test_a_storm_without_end_is_an_error_that_names_the_asset(server: RangeServer) -> None:
    server.faults["a.tif"] = [503] * 500
    with pytest.raises(ReadError, match=r"item S2A_X, band B04: http://.*a\.tif cannot be read: .*503"):
        read(f"{server.url}/a.tif")


def test_missing_files_are_not_asked_for_again_and_again(server: RangeServer) -> None:
    with pytest.raises(ReadError, match="404"):
        read(f"{server.url}/none.tif")
    assert len([line for line in server.requests if "none.tif" in line]) <= 3


def test_a_web_page_instead_of_an_image(server: RangeServer) -> None:
    server.faults["a.tif"] = ["html"] * 50
    with pytest.raises(ReadError, match="not recognized as being in a supported file format"):
        read(f"{server.url}/a.tif")


@pytest.mark.parametrize("driver", ["COG", "JP2OpenJPEG"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.02])
def test_truncated_files_are_never_zeros(driver: str, kept: float, tmp_path: Path) -> None:
    options = {} if driver == "COG" else {"driver": driver, "compress": None, "predictor": None, "blocksize": None}
    path = write(tmp_path / "a.tif", PIXELS, WHOLE, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ReadError, match="cannot be read"):
        read(path)


def test_other_failures_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"S2A_X, band B04: .*none\.tif cannot be read: .*No such file"):
        read(tmp_path / "none.tif")
    (tmp_path / "page.tif").write_text("<html></html>")
    with pytest.raises(ReadError, match="not recognized"):
        read(tmp_path / "page.tif")
    with pytest.raises(ReadError, match="has no asset for band B04"):
        read_block([granule(WHOLE, "S2A_X")], [RED], WHOLE)
    no_crs = tmp_path / "nowhere.tif"
    with rasterio.open(no_crs, "w", driver="GTiff", dtype="uint16", count=1, height=10, width=10) as file:
        file.write(np.ones((10, 10), "uint16"), 1)
    with pytest.raises(ReadError, match="no CRS"):
        read(no_crs)


def test_addresses_become_what_gdal_opens(tmp_path: Path) -> None:
    assert readable("file:///data/a%20b.tif", "none") == "/data/a b.tif"
    assert readable("s3://bucket/key.tif", "none") == "/vsis3/bucket/key.tif"
    assert readable("/data/a.tif", "none") == "/data/a.tif"
    assert readable("https://host/a.tif", "planetary-computer") == "/vsicurl/https://host/a.tif", "not theirs to sign"
    assert [is_remote(href) for href in ("/a", "file:///a", "https://h/a", "s3://b/a")] == [False, False, True, True]


def test_no_secret_reaches_a_message(server: RangeServer) -> None:
    with pytest.raises(ReadError) as caught:
        read(f"{server.url}/none.tif?sig=SECRET")
    assert "SECRET" not in str(caught.value)
    assert "none.tif" in str(caught.value)


def test_the_file_of_another_place_is_named(tmp_path: Path) -> None:
    there = box32(600, 600, x=900_000)
    made = granule(WHOLE, "S2A_X", B04=write(tmp_path / "there.tif", PIXELS, there))
    with pytest.raises(ReadError, match=r"item S2A_X, band B04: .* it lies elsewhere than its item says"):
        read_block([made], [RED], WHOLE, SOON)
    beside = granule(WHOLE, "S2A_X", B04=write(tmp_path / "part.tif", PIXELS[300:], WHOLE[300:]))
    assert not read_block([beside], [RED], WHOLE[:200], SOON)["B04"].any(), "no data is no fault"
