"""Signatures of Planetary Computer and keys of S3: made for hosts that may have them, and seen by no other.

A server in this process gives the signatures, others stand for S3; what came is read in their logs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from planetary_computer import sas
from planetary_computer.settings import Settings

from stac2cube.access.sign import opening
from stac2cube.errors import ReadError
from stac2cube.model.scene import AssetRef
from stac2cube.pixels.open import Engine, RetryPolicy
from stac2cube.pixels.read import read_block
from tests.pixels.granules import RED, box32, granule, texture, write
from tests.trust.conftest import Run
from tests.trust.hostile import Server, item, redirect
from tests.trust.test_commands import WHAT

PC, KEY, SECRET, SESSION = "planetary-computer", "AKIDOFTHETEST", "secret-of-the-test-89", "session-of-the-test-45"
SIGNATURE = "sig-of-the-test-6789"
SUBSCRIPTION = "subscription-of-the-test"
BLOB = "https://account.blob.core.windows.net/container/a.tif"


@pytest.fixture
def signing(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Gives signatures for every container; that of a person with a subscription."""
    token = {"msft:expiry": "2099-01-01T00:00:00Z", "token": f"st=2020&se=2099&sp=rl&sig={SIGNATURE}"}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.answer(200, json.dumps(token).encode(), {"Content-Type": "application/json"})  # type: ignore[attr-defined]

    for place in ("account/container", "account/deep"):
        server.files[f"/sas/{place}"] = answer
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.url}/sas")
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", SUBSCRIPTION)
    Settings.get.cache_clear()
    sas.TOKEN_CACHE.clear()
    yield server
    Settings.get.cache_clear()
    sas.TOKEN_CACHE.clear()


def test_a_signature_is_of_the_store_that_it_was_made_for(signing: Server) -> None:
    way = opening(AssetRef(BLOB), PC)
    assert way.location.startswith(f"/vsicurl/{BLOB}?")
    assert SIGNATURE in way.location
    assert [path for _, path, _ in signing.log] == ["/sas/account/container"]
    assert SUBSCRIPTION in json.dumps(signing.log[0][2]), "whose subscription it is, is told where signatures are given"
    assert SIGNATURE not in repr(AssetRef(BLOB))


@pytest.mark.parametrize(
    "href",
    [
        BLOB.replace("https", "http"),
        BLOB.replace(".net/", ".net.evil.example/"),
        BLOB.replace(".net/", ".net:8443/"),
        BLOB.replace("account.", "account.evil.example/x."),
        "https://evil.example/account.blob.core.windows.net/container/a.tif",
        "https://evil.example/?u=.blob.core.windows.net",
        "https://evil.example#.blob.core.windows.net/container/a.tif",
        "https://account.blob.core.windows.net@evil.example/container/a.tif",
        "https://evilblob.core.windows.net/container/a.tif",
    ],
)
def test_no_signature_for_others(href: str, signing: Server) -> None:
    assert SIGNATURE not in opening(AssetRef(href), PC).location
    assert not signing.log, "nor is one asked for"


def test_another_catalog_gets_no_signature(signing: Server, tmp_path: Path, run: Run) -> None:
    """Whatever addresses its items name: who signs, the catalog's entry says."""
    signing.items = [item("a", BLOB), item("b", BLOB.replace("/a.tif", "/b.tif"), 20)]
    assert SIGNATURE not in opening(AssetRef(BLOB), "none").location
    run("plan", tmp_path / "a.zarr", *WHAT, "--catalog", signing.api)
    assert not [path for _, path, _ in signing.log if path.startswith("/sas")]


@pytest.mark.parametrize(
    ("href", "answer"),
    [
        ("https://account.blob.core.windows.net/a.tif", b""),
        ("https://account.blob.core.windows.net", b""),
        (BLOB, b"[]"),
        (BLOB, b'{"token": 5}'),
        (BLOB, b"not json"),
    ],
)
def test_what_cannot_be_signed_is_a_file_that_cannot_be_read(href: str, answer: bytes, signing: Server) -> None:
    signing.files["/sas/account/container"] = answer
    with pytest.raises(ReadError, match=r"Planetary Computer") as told:
        opening(AssetRef(href), PC)
    assert SUBSCRIPTION not in str(told.value)


WHOLE = box32()
QUICK = RetryPolicy(attempts=2, first_wait=0.01, longest_wait=0.02)
ENGINES = [Engine("auto"), Engine("rasterio")]


@pytest.fixture
def buckets(server: Server, other: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint of S3 is one server; the other is a stranger. The bucket has a name of its own: GDAL remembers."""
    bucket = tmp_path.name.replace("_", "-")
    path = tmp_path / "a.tif"
    write(path, texture(WHOLE), WHOLE)
    for one in (server, other):
        one.files[f"/{bucket}/a.tif"] = path.read_bytes()
    told = {
        "AWS_S3_ENDPOINT": server.url.removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SESSION,
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    return bucket


def read(href: str, engine: Engine) -> None:
    read_block([granule(WHOLE, B04=href)], [RED], WHOLE[20:60, 30:70], QUICK, engine=engine)


@pytest.mark.parametrize("engine", ENGINES, ids=["auto", "rasterio"])
def test_keys_of_s3_go_to_the_endpoint_that_the_user_names(
    engine: Engine, server: Server, other: Server, buckets: str
) -> None:
    read(f"s3://{buckets}/a.tif", engine)
    assert server.saw(KEY)
    assert not server.saw(SECRET), "it is never sent"
    read(f"{other.url}/{buckets}/a.tif", engine)
    assert other.log
    for text in (KEY, SECRET, SESSION):
        assert not other.saw(text), "files over HTTP are asked for without keys"


@pytest.mark.parametrize("session", [True, False])
@pytest.mark.parametrize("engine", ENGINES, ids=["auto", "rasterio"])
def test_keys_of_s3_follow_no_redirect(
    engine: Engine, session: bool, server: Server, other: Server, buckets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not session:
        monkeypatch.delenv("AWS_SESSION_TOKEN")
    stranger = other.url.replace("127.0.0.1", "localhost")
    server.files[f"/{buckets}/moved.tif"] = redirect(f"{stranger}/{buckets}/a.tif")
    with suppress(ReadError):
        read(f"s3://{buckets}/moved.tif", engine)
    assert server.saw(KEY)
    for text in (KEY, SECRET, SESSION):
        assert not other.saw(text)


@pytest.mark.parametrize("engine", ENGINES, ids=["auto", "rasterio"])
def test_an_item_names_no_endpoint(engine: Engine, server: Server, other: Server, buckets: str) -> None:
    """A host, a port or a user in the place of a bucket stays a name of a bucket, asked for at the user's endpoint."""
    for place in (other.url.removeprefix("http://"), f"{KEY}@localhost", "localhost", f"x.{buckets}"):
        with pytest.raises(ReadError):
            read(f"s3://{place}/{buckets}/a.tif", engine)
    assert not other.log


def test_keys_of_aws_are_none_of_the_data_space(server: Server, buckets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_S3_ENDPOINT")
    with pytest.raises(ReadError, match="AWS_ACCESS_KEY_ID is used where AWS_S3_ENDPOINT names this service"):
        opening(AssetRef("s3://eodata/a.tif"), "cdse")
    assert "AWS_S3_ENDPOINT" not in opening(AssetRef("s3://eodata/a.tif"), "none").settings  # AWS itself is asked
