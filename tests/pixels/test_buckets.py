"""Files in buckets, read by GDAL and without it: the same pixels, the same ways of saying who asks.

The range server stands for S3: it serves a bucket as a folder, as S3 does where buckets are named in the path, and
checks no signature; what was signed is looked at here.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stac2cube.errors import ReadError
from stac2cube.pixels.open import Engine, RetryPolicy
from stac2cube.pixels.read import read_block
from tests.pixels.granules import RED, box32, granule, texture, write
from tests.servers.range_server import RangeServer, serving

WHOLE = box32()
ENGINES = (Engine("auto"), Engine("rasterio"))
QUICK = RetryPolicy(attempts=2, first_wait=0.01, longest_wait=0.02)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A bucket named after the test: GDAL remembers what it saw of a file for the life of the process."""
    bucket = tmp_path / "store" / tmp_path.name.replace("_", "-")
    bucket.mkdir(parents=True)
    write(bucket / "a.tif", texture(WHOLE), WHOLE)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(bucket.parent) as running:
        for name, value in {
            "AWS_S3_ENDPOINT": running.url.removeprefix("http://"),
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_REGION": "eu-central-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield running


def read(server: RangeServer, engine: Engine, signer: str = "none") -> np.ndarray:
    server.requests.clear()
    server.signed.clear()
    bucket = next(server.folder.iterdir()).name
    made = replace(granule(WHOLE, B04=f"s3://{bucket}/a.tif"), signer=signer)
    return read_block([made], [RED], WHOLE[20:200, 30:230], QUICK, engine=engine)["B04"]


def test_public_buckets_are_asked_without_a_name(server: RangeServer) -> None:
    for engine in ENGINES:
        np.testing.assert_array_equal(read(server, engine), texture(WHOLE)[20:200, 30:230])
        assert server.requests
        # GDAL says an empty name and password where the environment ever held GDAL_HTTP_USERPWD, which is held back.
        assert {headers.get("authorization", "") for headers in server.signed} <= {"", "Basic Og=="}


def test_keys_sign_and_readers_pay(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-mine")
    for engine in ENGINES:
        np.testing.assert_array_equal(read(server, engine, "requester-pays"), texture(WHOLE)[20:200, 30:230])
        for headers in server.signed:
            assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=key-of-mine/")
            assert headers["x-amz-request-payer"] == "requester"


def test_without_gdal_there_are_fewer_requests(server: RangeServer) -> None:
    read(server, ENGINES[0])
    quick = len(server.requests)
    read(server, ENGINES[1])
    assert quick <= 2 < len(server.requests)


def test_a_file_that_is_not_there_is_named(server: RangeServer) -> None:
    bucket = next(server.folder.iterdir()).name
    for engine in ENGINES:
        made = granule(WHOLE, B04=f"s3://{bucket}/none.tif")
        with pytest.raises(ReadError, match=rf"s3://{bucket}/none.tif cannot be read: "):
            read_block([made], [RED], WHOLE[20:200, 30:230], QUICK, engine=engine)
