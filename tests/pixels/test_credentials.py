"""Who may read: keys are found in the usual places, handed to the reader alone, and asked for where they lack."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import rasterio
import urllib3
from planetary_computer import sas
from rasterio.env import getenv

from stac2cube.access.sign import access, asked_wait, opening
from stac2cube.errors import ReadError
from stac2cube.model.image import BandRequest
from stac2cube.model.scene import AssetRef
from stac2cube.pixels.gdal import gdal_settings
from stac2cube.pixels.open import RetryPolicy
from stac2cube.pixels.read import read_block
from tests.pixels.granules import granule
from tests.pixels.test_seams import target


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No credentials anywhere."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "CDSE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_an_open_bucket_is_read_as_nobody() -> None:
    assert access("s3://copernicus-dem-30m/a.tif") == {"AWS_NO_SIGN_REQUEST": "YES"}
    assert access("https://example.com/a.tif", "cdse") == {}


def test_where_readers_pay_credentials_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReadError, match="set AWS_ACCESS_KEY_ID"):
        access("s3://sentinel-s2-l1c/a.jp2", "requester-pays")
    monkeypatch.setenv("AWS_PROFILE", "me")
    assert access("s3://sentinel-s2-l1c/a.jp2", "requester-pays") == {"AWS_REQUEST_PAYER": "requester"}


def test_keys_of_the_data_space_from_variables_or_a_file(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReadError, match=r"CDSE_S3_ACCESS_KEY.*\[cdse\]"):
        access("s3://eodata/a.jp2", "cdse")
    (nobody / ".aws").mkdir()
    (nobody / ".aws" / "credentials").write_text(
        "[cdse]\naws_access_key_id = filekey\naws_secret_access_key = filesecret\n"
    )
    assert access("s3://eodata/a.jp2", "cdse")["AWS_ACCESS_KEY_ID"] == "filekey"
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", "variablekey")
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", "variablesecret")
    found = access("s3://eodata/a.jp2", "cdse")
    assert found["AWS_ACCESS_KEY_ID"] == "variablekey"
    assert found["AWS_S3_ENDPOINT"] == "eodata.dataspace.copernicus.eu"


def test_keys_live_in_the_readers_session_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", "variablekey")
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", "variablesecret")
    before = dict(os.environ)
    with gdal_settings(remote=True, store=access("s3://eodata/a.jp2", "cdse")):
        assert getenv()["AWS_SECRET_ACCESS_KEY"] == "variablesecret"
        assert dict(os.environ) == before
    with rasterio.Env():
        assert "AWS_SECRET_ACCESS_KEY" not in getenv()


def test_no_key_in_an_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", "variablekey")
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", "variablesecret")
    monkeypatch.setattr("stac2cube.access.sign._ENDPOINT", "127.0.0.1:9")  # nobody listens there
    band = BandRequest("VV", "uint16", 0, "continuous")
    one = replace(granule(target(), "scene", VV="s3://eodata/a.jp2"), signer="cdse")
    with caplog.at_level("DEBUG"), pytest.raises(ReadError, match=r"s3://eodata/a\.jp2 cannot be read") as caught:
        read_block([one], [band], target(), RetryPolicy(attempts=1))
    assert "variable" not in str(caught.value) + caplog.text


def test_without_keys_a_token_opens_the_data_space_by_https(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = AssetRef("s3://eodata/a.jp2", alternate="https://zipper.example/a.jp2")
    with pytest.raises(ReadError, match="CDSE_ACCESS_TOKEN"):
        opening(asset, "cdse")
    token = nobody / "token.json"
    token.write_text('{"access_token": "first", "expires_in": 600}')
    monkeypatch.setenv("CDSE_TOKEN_FILE", str(token))
    way = opening(asset, "cdse")
    assert way.location == "/vsicurl/https://zipper.example/a.jp2"
    assert way.settings == {"GDAL_HTTP_AUTH": "BEARER", "GDAL_HTTP_BEARER": "first"}
    assert "first" not in repr(way)
    token.write_text("second\n")
    assert opening(asset, "cdse").settings["GDAL_HTTP_BEARER"] == "second"
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", "variablekey")
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", "variablesecret")
    assert opening(asset, "cdse").location == "/vsis3/eodata/a.jp2"
    token.unlink()
    monkeypatch.delenv("CDSE_S3_ACCESS_KEY")
    with pytest.raises(ReadError, match="holds no token"):
        opening(asset, "cdse")


class Bouncer(BaseHTTPRequestHandler):
    """Serves one file to those who bring the token of the day."""

    good = "fresh"
    content = b""
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        said = self.headers.get("Authorization", "").removeprefix("Bearer ") or self.path.partition("?sig=")[2]
        Bouncer.asked.append(said)
        self.send_response(200 if said == self.good else 403)
        body = self.content if said == self.good else b"no"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def bouncer(tmp_path: Path) -> Iterator[str]:
    lattice = target()
    path = tmp_path / "a.tif"
    about = {"driver": "GTiff", "count": 1, "dtype": "uint16", "crs": str(lattice.crs), "transform": lattice.transform}
    with rasterio.open(path, "w", height=lattice.shape[0], width=lattice.shape[1], **about) as file:
        file.write(np.full(lattice.shape, 7, "uint16"), 1)
    Bouncer.content, Bouncer.asked = path.read_bytes(), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Bouncer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("ways", [["stale", "fresh"], ["stale", "stale"]])
def test_what_expired_is_asked_for_once_more(bouncer: str, monkeypatch: pytest.MonkeyPatch, ways: list[str]) -> None:
    """A real server refuses the first signature; the second one is good, or no better."""
    forgotten = iter(ways)
    monkeypatch.setattr("stac2cube.access.sign._BLOBS", bouncer.removeprefix("http://"))
    monkeypatch.setattr("planetary_computer.sign_url", lambda href: f"{href}?sig={sas.TOKEN_CACHE['a']}")
    sas.TOKEN_CACHE["a"] = next(forgotten)

    class Cache(dict):  # type: ignore[type-arg]
        def clear(self) -> None:
            self["a"] = next(forgotten)

    monkeypatch.setattr(sas, "TOKEN_CACHE", Cache(sas.TOKEN_CACHE))
    one = replace(granule(target(), "scene", B02=f"{bouncer}/{ways[1]}.tif"), signer="planetary-computer")
    band, policy = BandRequest("B02", "uint16", 0, "continuous"), RetryPolicy(attempts=6, first_wait=0.01)
    if "fresh" in ways:
        assert (read_block([one], [band], target(), policy)["B02"] == 7).all()
        assert {"stale", "fresh"} == set(Bouncer.asked)
    else:
        with pytest.raises(ReadError, match=r"has expired or does not cover this file; it was asked anew") as caught:
            read_block([one], [band], target(), policy)
        assert "stale?" not in str(caught.value)
        assert "sig=" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        *((None, None), ("3", 3.0), ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0), ("soon", None), ("", None)),
        *(("Fri, 31 Dec 99999 23:59:59 GMT", None), ("9" * 5000, None)),
    ],
)
def test_a_wait_that_nobody_understands_is_none_that_was_asked_for(said: str | None, seconds: float | None) -> None:
    answer = urllib3.HTTPResponse(headers={} if said is None else {"Retry-After": said}, status=429)
    assert asked_wait(answer) == seconds
