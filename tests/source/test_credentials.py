"""Who may read: keys are found in the usual places, handed to the reader alone, and asked for where they lack."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio
from rasterio.env import getenv

from stac2cube.errors import ReadError
from stac2cube.source.asset import BandRequest, gdal_settings
from stac2cube.source.read import RetryPolicy, read_block
from stac2cube.source.sign import access
from tests.source.granules import granule
from tests.source.test_seams import target


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
    monkeypatch.setattr("stac2cube.source.sign._ENDPOINT", "127.0.0.1:9")  # nobody listens there
    band = BandRequest("VV", "uint16", 0, "continuous")
    one = replace(granule(target(), "scene", VV="s3://eodata/a.jp2"), signer="cdse")
    with caplog.at_level("DEBUG"), pytest.raises(ReadError, match=r"s3://eodata/a\.jp2 cannot be read") as caught:
        read_block([one], [band], target(), RetryPolicy(attempts=1))
    assert "variable" not in str(caught.value) + caplog.text
