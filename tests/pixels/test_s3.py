"""Buckets of a server that checks signatures: every way to say who reads, both readers, index, download and stage."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox

from stac2cube.access.sign import access
from stac2cube.cli import cli
from stac2cube.datasets.download import download_products
from stac2cube.datasets.rules import DownloadRequest
from stac2cube.errors import IncompleteError, ReadError
from stac2cube.index.index import create_index
from stac2cube.model.geometry import read_areas
from stac2cube.model.scene import AssetRef
from stac2cube.pixels.open import Engine, RetryPolicy
from stac2cube.pixels.read import read_block
from stac2cube.search.index_commits import read_index
from stac2cube.store.reader import open_cube
from tests.datasets.products import Pair
from tests.items import catalog as write_catalog
from tests.pixels.granules import RED, box32, granule, texture, write
from tests.pixels.zarr_stores import CORNER, CRS, StoreForm, counts, path_of, write_store
from tests.servers.range_server import serving
from tests.servers.s3 import Keys, S3Server, running_s3

WHOLE = box32()
ENGINES = (Engine("auto"), Engine("rasterio"))
QUICK = RetryPolicy(attempts=2, first_wait=0.01, longest_wait=0.02)
(AREA,) = read_areas((10.3375, 47.8365, 10.3595, 47.8455))

_NAMES = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("s3")
    write(folder / "a.tif", texture(WHOLE), WHOLE)
    with running_s3() as running:
        for bucket in ("private", "open", "pays", "abroad", "gone"):
            running.put(bucket, folder / "a.tif")
        running.public.add("open")
        running.paying.add("pays")
        running.regions["abroad"] = "us-west-2"
        yield running


@pytest.fixture(autouse=True)
def nobody(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No keys anywhere; the endpoint in GDAL's words."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "CDSE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    say(
        monkeypatch, AWS_S3_ENDPOINT=server.host, AWS_HTTPS="NO", AWS_VIRTUAL_HOSTING="FALSE", AWS_REGION="eu-central-1"
    )
    server.asked.clear()
    (tmp_path / ".aws").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def me(server: S3Server) -> Keys:
    return server.user("me")


def say(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)


def read(server: S3Server, bucket: str, engine: Engine, signer: str = "none") -> None:
    """The right pixels, of a file that neither reader has seen: both remember."""
    name = f"{next(_NAMES)}.tif"
    server.client("s3").copy_object(Bucket=bucket, Key=name, CopySource=f"{bucket}/a.tif", RequestPayer="requester")
    server.asked.clear()
    made = replace(granule(WHOLE, B04=f"s3://{bucket}/{name}"), signer=signer)
    pixels = read_block([made], [RED], WHOLE[20:200, 30:230], QUICK, engine=engine)["B04"]
    np.testing.assert_array_equal(pixels, texture(WHOLE)[20:200, 30:230])


def refused(server: S3Server, bucket: str, signer: str = "none") -> list[str]:
    """What both readers say."""
    said = []
    for engine in ENGINES:
        with pytest.raises(ReadError) as caught:
            read(server, bucket, engine, signer)
        said.append(str(caught.value))
    return said


def tells(code: str, words: str) -> bool:
    """Whether the code of S3's error is told: after the status of HTTP, at the beginning, or after what S3 says."""
    return f"403 ({code})" in words or f"cannot be read: {code}" in words or f" ({code})." in words


def by(keys: Keys, server: S3Server) -> bool:
    """Whether all that was asked for was signed by somebody."""
    return all(f"Credential={keys.key}/" in asked.headers.get("authorization", "") for asked in server.asked)


def test_the_server_refuses_wrong_keys(server: S3Server, me: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, **Keys(me.key, "not-the-secret-of-mine").variables)
    for words in refused(server, "private"):
        assert tells("SignatureDoesNotMatch", words)
        assert "does not know these keys" in words
        assert "not-the-secret" not in words
    say(monkeypatch, **Keys("AKIANOBODYKNOWSTHIS0", "x" * 40).variables)
    for words in refused(server, "private"):
        assert tells("InvalidAccessKeyId", words)
        assert "does not know these keys" in words
    assert "x" * 40 not in "".join(refused(server, "private"))


def test_public_buckets_are_read_as_nobody_and_others_not(server: S3Server, me: Keys, nobody: Path) -> None:
    # Keys for something else, as those of the Copernicus Data Space, change nothing.
    (nobody / ".aws" / "credentials").write_text(me.section("cdse"))
    for engine in ENGINES:
        read(server, "open", engine)
        assert not any("authorization" in asked.headers for asked in server.asked)
    assert all("as nobody: set AWS_ACCESS_KEY_ID" in words for words in refused(server, "private"))


def test_keys_of_variables(server: S3Server, me: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    for keys in (me, server.user("other"), server.session(server.role("reader"))):
        # In one process, one after the other: none is remembered.
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
        say(monkeypatch, **keys.variables)
        for engine in ENGINES:
            read(server, "private", engine)
            assert by(keys, server)
    say(monkeypatch, AWS_NO_SIGN_REQUEST="NO")
    read(server, "private", ENGINES[0])
    say(monkeypatch, AWS_NO_SIGN_REQUEST="YES")
    read(server, "open", ENGINES[0])
    assert not any("authorization" in asked.headers for asked in server.asked)


@pytest.mark.parametrize("place", ["credentials", "config"])
@pytest.mark.parametrize("profile", ["default", "mine"])
def test_keys_of_files(
    server: S3Server, me: Keys, nobody: Path, monkeypatch: pytest.MonkeyPatch, place: str, profile: str
) -> None:
    monkeypatch.delenv("AWS_REGION")
    section = f"profile {profile}" if place == "config" and profile != "default" else profile
    (nobody / ".aws" / place).write_text("[cdse]\naws_access_key_id = a%b\n" + me.section(section))
    if profile != "default":
        say(monkeypatch, AWS_PROFILE=profile)
    for engine in ENGINES:
        read(server, "private", engine)
        assert by(me, server)
    (nobody / ".aws" / place).rename(nobody / "elsewhere")
    say(monkeypatch, **{f"AWS_{'CONFIG' if place == 'config' else 'SHARED_CREDENTIALS'}_FILE": f"{nobody}/elsewhere"})
    for engine in ENGINES:
        read(server, "private", engine)
        assert by(me, server)


@pytest.mark.parametrize("library", ["boto3", "GDAL"])
@pytest.mark.parametrize("way", ["web identity", "container"])
def test_keys_of_roles(server: S3Server, nobody: Path, monkeypatch: pytest.MonkeyPatch, library: str, way: str) -> None:
    """Amazon's library becomes a role where it is installed, else GDAL does, which then reads all."""
    arn = server.role(f"{library}-{way}".replace(" ", "-"))
    if library == "GDAL":
        monkeypatch.setattr("stac2cube.access.s3.find_spec", lambda _name: None)
    if way == "web identity":
        (nobody / "token").write_text("token-of-a-pod")
        say(monkeypatch, AWS_ROLE_ARN=arn, AWS_WEB_IDENTITY_TOKEN_FILE=str(nobody / "token"))
        say(monkeypatch, AWS_ENDPOINT_URL_STS=server.url, CPL_AWS_STS_ROOT_URL=server.url)
    else:
        server.handed_out = server.session(arn)
        say(monkeypatch, AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{server.url}/container")
    for engine in ENGINES:
        read(server, "private", engine)
        reading = [asked for asked in server.asked if asked.path.startswith("/private/")]
        assert {asked.status for asked in reading} == {206}
        assert all("x-amz-security-token" in asked.headers for asked in reading)


def test_expired_keys_say_so(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (server.session(server.role(name)) for name in ("old", "new"))
    say(monkeypatch, **old.variables)
    read(server, "private", ENGINES[0])
    server.ended.add(old.token)
    for words in refused(server, "private"):
        # Keys of a session are GDAL's alone; older releases tell the status and not the reason.
        assert "The keys may be wrong or have expired" in words or "The keys have expired" in words
        assert old.token not in words
    say(monkeypatch, **new.variables)
    for engine in ENGINES:
        read(server, "private", engine)


def test_where_readers_pay(server: S3Server, me: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all("set AWS_ACCESS_KEY_ID" in words for words in refused(server, "pays", "requester-pays"))
    say(monkeypatch, **me.variables)
    for engine in ENGINES:
        read(server, "pays", engine, "requester-pays")
    assert all("AWS_REQUEST_PAYER=requester" in words for words in refused(server, "pays"))
    say(monkeypatch, AWS_REQUEST_PAYER="requester")
    for engine in ENGINES:
        read(server, "pays", engine)


def test_a_bucket_of_another_region(server: S3Server, me: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, **me.variables)
    for engine in ENGINES:
        read(server, "abroad", engine)
    assert "/us-west-2/s3/" in server.asked[-1].headers["authorization"]


@pytest.mark.parametrize("variable", ["AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "endpoint_url"])
def test_endpoints_in_everybodys_words(
    server: S3Server, me: Keys, nobody: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("AWS_S3_ENDPOINT", "AWS_HTTPS", "AWS_VIRTUAL_HOSTING"):
        monkeypatch.delenv(name)
    if variable == "endpoint_url":
        (nobody / ".aws" / "config").write_text(f"[default]\nendpoint_url = {server.url}\n")
    else:
        say(monkeypatch, **{variable: server.url})
    if variable == "AWS_S3_ENDPOINT":
        say(monkeypatch, AWS_VIRTUAL_HOSTING="FALSE")
    say(monkeypatch, **me.variables)
    for engine in ENGINES:
        read(server, "private", engine)
    say(monkeypatch, AWS_S3_ENDPOINT="file:///etc/passwd")
    with pytest.raises(ReadError, match="no address of http"):
        access("s3://private/a.tif")


def test_virtual_hosts_where_the_endpoint_wants_them(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    """As GDAL: by host unless it is told otherwise, by path where the bucket's name has a dot."""
    from stac2cube.fastcog.ranges import s3_store

    say(monkeypatch, AWS_S3_ENDPOINT="store.example", AWS_VIRTUAL_HOSTING="TRUE", AWS_HTTPS="YES")
    settings = access("s3://b/a.tif")
    assert s3_store("b", settings).config["endpoint"] == "https://b.store.example"
    assert s3_store("b.c", settings).config["endpoint"] == "https://store.example"


def test_keys_go_to_no_other_host(server: S3Server, me: Keys, nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to hosts of addresses, nor those of AWS to the Data Space, nor the secret to where a store sends on."""
    session = server.session(server.role("traveller"))
    say(monkeypatch, **session.variables)
    (nobody / "other" / "gone").mkdir(parents=True)
    write(nobody / "other" / "a.tif", texture(WHOLE), WHOLE)
    with serving(nobody / "other") as other:
        for engine in ENGINES:
            made = granule(WHOLE, B04=f"{other.url}/a.tif")
            read_block([made], [RED], WHOLE[20:200, 30:230], QUICK, engine=engine)
        assert other.requests
        assert not any(other.signed)
        server.moved["gone"] = other.url.removeprefix("http://").replace("127.0.0.1", "localhost")
        for engine in ENGINES:
            with pytest.raises(ReadError):
                read_block([granule(WHOLE, B04="s3://gone/a.tif")], [RED], WHOLE, QUICK, engine=engine)
        assert session.secret not in json.dumps(other.signed)
    say(monkeypatch, CDSE_S3_ACCESS_KEY=me.key, CDSE_S3_SECRET_KEY=me.secret, AWS_NO_SIGN_REQUEST="YES")
    monkeypatch.setattr("stac2cube.access.sign._ENDPOINT", server.host)
    monkeypatch.setattr("stac2cube.access.sign._SCHEME", "NO")
    for engine in ENGINES:
        read(server, "private", engine, "cdse")
        assert by(me, server)
        assert not any("x-amz-security-token" in asked.headers for asked in server.asked)


def in_bucket(server: S3Server, folder: Path, bucket: str) -> tuple[Pair, str]:
    """A product in a bucket, and a catalog of it."""
    pair = Pair(folder / "origin").write()
    items = pair.items("L1C")
    server.put(bucket)
    for asset in items[0]["assets"].values():
        name = f"{bucket}-{Path(asset['href']).name}"
        server.client("s3").put_object(Bucket=bucket, Key=f"tiles/a b/{name}", Body=Path(asset["href"]).read_bytes())
        asset["href"] = f"s3://{bucket}/tiles/a b/{name}"
    return pair, write_catalog(folder / f"{bucket}.json", items)


def test_index_download_and_stage(server: S3Server, me: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, catalog = in_bucket(server, tmp_path, "products")
    request = DownloadRequest(AREA, "2023-05", ("l1c.band.B02", "l1c.product_metadata"), catalog)
    words = {"mission": "sentinel-2-l1c", "aoi": AREA.geometry, "time": "2023", "bands": ["B02"], "catalog": catalog}
    # As nobody: an index without headers, no file, each with the reason.
    rows = [
        record.headers for record in read_index(create_index(tmp_path / "none", headers=True, **words)).records.values()
    ]
    assert rows == [()]
    with pytest.raises(IncompleteError, match="403"):
        download_products(request, tmp_path / "none.d", tables=())
    session = server.session(server.role("maker"))
    for number, keys in enumerate((me, session)):
        say(monkeypatch, **keys.variables)
        index = create_index(tmp_path / f"index-{number}", headers=True, **words)
        (headers,) = [record.headers for record in read_index(index).records.values()]
        # Headers are read by the fast reader, which leaves keys of a session to GDAL.
        assert [row["format"] for row in headers] == ["other" if keys.token else "tiff"]
        assert keys.secret not in (tmp_path / f"index-{number}" / "index.json").read_text()
        folder = tmp_path / f"products-{number}"
        manifest = download_products(request, folder, tables=())
        for entry in manifest.files:
            key = entry.role.rpartition(".")[2]
            assert (folder / entry.path).read_bytes() == pair.path("L1C", key).read_bytes()
        account = (folder / "index.json").read_text()
        assert "Signature" not in account
        assert not keys.token or keys.token not in account
    server.ended.add(session.token)
    with pytest.raises(IncompleteError, match=r"\(ExpiredToken\)\. The keys have expired"):
        download_products(request, tmp_path / "expired", tables=())
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    say(monkeypatch, **me.variables)
    (tmp_path / "area.geojson").write_text(json.dumps(AREA.geometry.__geo_interface__))
    (tmp_path / "recipe.yaml").write_text(
        "cubes: cubes\nlayers:\n  mission: sentinel-2-l1c\n  aoi: area.geojson\n  time: 2023\n  bands: [B02]\n"
        f"  catalog: {catalog}\n"
    )
    done = CliRunner().invoke(cli, ["stage", str(tmp_path / "recipe.yaml"), "-q"])
    assert done.exit_code == 0, done.output
    (staged,) = tmp_path.rglob("staged/recipe.yaml")
    done = CliRunner().invoke(cli, ["run", str(staged), "-q"])
    assert done.exit_code == 0, done.output
    assert me.secret not in "".join(
        path.read_text() for path in staged.parent.rglob("*.*") if path.suffix != ".parquet"
    )
    cubes = list(tmp_path.rglob("layers.zarr"))
    assert open_cube(cubes[0]).sizes["time"] == 1


def test_downloads_where_readers_pay_abroad_and_as_nobody(
    server: S3Server, me: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = ("l1c.product_metadata",)
    for bucket in ("far", "free"):
        _, catalog = in_bucket(server, tmp_path, bucket)
        if bucket == "far":
            server.regions[bucket] = "ap-southeast-2"
            say(monkeypatch, **me.variables)
        else:
            server.public.add(bucket)
            for name in me.variables:
                monkeypatch.delenv(name)
        manifest = download_products(
            DownloadRequest(AREA, "2023-05", roles, catalog), tmp_path / f"d-{bucket}", tables=()
        )
        assert not manifest.absent
    _, catalog = in_bucket(server, tmp_path, "pays-too")
    server.paying.add("pays-too")
    say(monkeypatch, **me.variables)
    say(monkeypatch, AWS_REQUEST_PAYER="requester")
    assert not download_products(DownloadRequest(AREA, "2023-05", roles, catalog), tmp_path / "paid", tables=()).absent


@pytest.mark.parametrize("bucket", ["private", "open"])
def test_arrays_of_a_zarr_store_in_a_bucket(
    bucket: str, server: S3Server, me: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the keys of whoever reads, or by nobody's; without keys, what is refused is named."""
    form = StoreForm(3, bands={"b02": 10})
    store = write_store(tmp_path, form, f"store-{bucket}")
    for path in sorted(store.rglob("*")):
        if path.is_file():
            key = path.relative_to(tmp_path).as_posix()
            server.client("s3").put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    href = f"s3://{bucket}/{store.name}/{path_of('b02', 10)}"
    box = GeoBox((120, 120), Affine(10, 0, CORNER[0], 0, -10, CORNER[1]), CRS)
    one = replace(granule(box), assets={"B02": AssetRef(href)})
    if bucket == "private":
        with pytest.raises(ReadError, match="response code: 403"):
            read_block([one], [replace(RED, name="B02")], box, QUICK)
        say(monkeypatch, AWS_ACCESS_KEY_ID=me.key, AWS_SECRET_ACCESS_KEY=me.secret)
    found = read_block([one], [replace(RED, name="B02")], box, QUICK)["B02"]
    np.testing.assert_array_equal(found, counts("b02", form))
