"""Answers and addresses that the standards allow: what GDAL reads, the fast reader reads, or leaves to GDAL."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from stac2cube.access.sign import opening
from stac2cube.model.image import BandRequest
from stac2cube.model.scene import AssetRef
from stac2cube.pixels.open import Engine, inspect
from stac2cube.pixels.warp import source_window

PIXELS = np.random.default_rng(0).integers(1, 5000, (1024, 1024)).astype("uint16")
LATTICE = GeoBox((1024, 1024), Affine(10, 0, 600_000, 0, -10, 5_300_040), "EPSG:32632")
BAND = BandRequest("B04", "uint16", 0, "continuous")
Headers = dict[str, str | None]


@dataclass
class Odd:
    """A server of one file at every address, whose headers a test changes.

    Attributes:
        url: Its address.
        change: Changes the headers of an answer.
        paths: Addresses that it was asked for.
    """

    url: str = ""
    change: Callable[[Headers], object] = lambda headers: None
    paths: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("file") / "x.tif"
    profile = {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    with rasterio.open(
        path, "w", width=1024, height=1024, count=1, dtype="uint16", nodata=0, crs="EPSG:32632",
        transform=LATTICE.transform, **profile,
    ) as file:  # fmt: skip
        file.write(PIXELS, 1)
    return Path(path).read_bytes()


@pytest.fixture
def odd(content: bytes) -> Iterator[Odd]:
    state = Odd()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            state.paths.append(self.path)
            headers: Headers = {
                "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT",
                "ETag": '"e"',
                "Accept-Ranges": "bytes",
            }
            status, part = 200, content
            if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
                first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
                status, part = 206, content[first : last + 1]
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            state.change(headers)
            if self.headers.get("If-Match", headers.get("ETag")) != headers.get("ETag"):
                status, part = 412, b""
            self.send_response(status)
            for name, value in headers.items():
                if value is not None and (name != "Content-Range" or status == 206):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


def read(href: str, engine: str) -> np.ndarray:
    asset = AssetRef(href)
    return inspect(
        Engine(engine), asset, opening(asset, "none"), lambda image, ref: source_window(image, ref, BAND, LATTICE)
    )


def said(**changes: str | None) -> Callable[[Headers], object]:
    return lambda headers: headers.update({name.replace("_", "-"): value for name, value in changes.items()})


def ranges(old: str, new: str) -> Callable[[Headers], object]:
    def change(headers: Headers) -> None:
        if text := headers.get("Content-Range"):
            headers["Content-Range"] = re.sub(old, new, text)

    return change


def counting(name: str, form: str) -> Callable[[Headers], object]:
    numbers = count()
    return lambda headers: headers.update({"ETag": None, name: form.format(next(numbers) % 60)})


ANSWERS = {
    "a date of RFC 850": said(Last_Modified="Sunday, 06-Nov-94 08:49:37 GMT"),
    "a date of asctime": said(Last_Modified="Sun Nov  6 08:49:37 1994"),
    "a date that is none": said(Last_Modified="yesterday"),
    "no date": said(Last_Modified=None),
    "no tag": said(ETag=None),
    "neither": said(ETag=None, Last_Modified=None),
    "a weak tag": said(ETag='W/"e"'),
    "a tag without quotes": said(ETag="e"),
    "a range of a length not told": ranges(r"/\d+", "/*"),
    "a unit in capitals": ranges("bytes", "Bytes"),
    "another tag at each request": counting("ETag", '"e{}"'),
    "another weak tag at each request": counting("ETag", 'W/"e{}"'),
    "another date at each request": counting("Last-Modified", "Sun, 06 Nov 1994 08:{:02d}:37 GMT"),
}


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_that_http_allows(odd: Odd, answer: str, engine: str) -> None:
    odd.change = ANSWERS[answer]
    np.testing.assert_array_equal(read(f"{odd.url}/{engine}.tif", engine), PIXELS)


@pytest.mark.parametrize(
    "name", ["a+b", "a%2Bb", "a%20b", "a%2Fb", "a%25b", "%C3%A4", "a;b=c&d", "a:b@c", "a(b)!*'$,", "a%3Fb", "a%23b%5B"]
)
def test_both_readers_ask_for_the_same_address(odd: Odd, name: str) -> None:
    """As it stands in the item: an encoded reserved character is not the same as the character (RFC 3986, 2.2)."""
    for engine in ("auto", "rasterio"):
        np.testing.assert_array_equal(read(f"{odd.url}/{name}/{engine}.tif", engine), PIXELS)
        assert {path for path in odd.paths if path.endswith(f"{engine}.tif")} == {f"/{name}/{engine}.tif"}
