"""Keys of all kinds, and servers that would like to have them: what came is read in the servers' logs."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stac2cube.access.sign import opening
from stac2cube.errors import BadInputError, CatalogError
from stac2cube.export.publish import post_stac
from stac2cube.model.scene import AssetRef
from stac2cube.pixels.gdal import gdal_settings, open_image
from stac2cube.pixels.open import Engine, inspect
from tests.trust.conftest import Run
from tests.trust.hostile import AOI, GOOD, Server, item, redirect, tif
from tests.trust.test_commands import WHAT

KEY, PASSWORD = "key-of-the-test-0123", "pass-of-the-test-4567"


def stranger(server: Server) -> str:
    """The same server by another name: another host."""
    return server.url.replace("127.0.0.1", "localhost")


@pytest.fixture
def files(server: Server, other: Server, tmp_path: Path) -> bytes:
    content = tif(tmp_path / "x.tif", 1500).read_bytes()
    for one in (server, other):
        one.files["/f/good.tif"] = content
    return content


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
def test_a_token_goes_to_the_hosts_of_its_entry_only(
    engine: str, server: Server, files: bytes, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDSE_ACCESS_TOKEN", KEY)
    monkeypatch.setenv("STAC2CUBE_ENGINE", engine)
    one = item(GOOD, "s3://eodata/good.tif")
    one["assets"] = {"B04_10m": {**one["assets"]["red"], "alternate": {"https": {"href": f"{server.url}/f/good.tif"}}}}
    server.items = [one]
    done = run("layers", tmp_path / "a.zarr", *WHAT, "--catalog", server.api)
    words = ("--aoi", AOI, "--time", "2023", "--roles", "l2a.band.B04", "--catalog", server.api)
    run("download", tmp_path / "p", *words)
    assert done.code == 2
    assert not server.saw(KEY)


def test_an_entry_may_name_hosts(
    server: Server, files: bytes, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDSE_ACCESS_TOKEN", KEY)
    one = item(GOOD, "s3://eodata/good.tif")
    one["assets"] = {"B04_10m": {**one["assets"]["red"], "alternate": {"https": {"href": f"{server.url}/f/good.tif"}}}}
    server.items = [one]
    (tmp_path / "config" / "catalogs.toml").write_text(
        f'[mirror]\ntitle = "Ours"\nurl = "{server.api}"\nsigner = "cdse"\nhosts = ["127.0.0.1"]\n'
    )
    assert run("layers", tmp_path / "a.zarr", *WHAT, "--catalog", "mirror").code == 0
    assert server.saw(KEY)


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
def test_a_token_does_not_follow_to_another_host(
    engine: str, server: Server, other: Server, files: bytes, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDSE_ACCESS_TOKEN", KEY)
    monkeypatch.setenv("STAC2CUBE_ENGINE", engine)
    server.files["/f/moved.tif"] = redirect(f"{stranger(other)}/f/good.tif")
    one = item(GOOD, "s3://eodata/good.tif")
    way = {"https": {"href": f"{server.url}/f/moved.tif"}}
    one["assets"] = {"B04_10m": {**one["assets"]["red"], "alternate": way}}
    server.items = [one]
    (tmp_path / "config" / "catalogs.toml").write_text(
        f'[mirror]\ntitle = "Ours"\nurl = "{server.api}"\nsigner = "cdse"\nhosts = ["127.0.0.1"]\n'
    )
    run("layers", tmp_path / "a.zarr", *WHAT, "--catalog", "mirror")
    assert server.saw(KEY)
    assert other.log
    assert not other.saw(KEY)


@pytest.mark.parametrize("keys", [False, True])
def test_what_the_environment_tells_gdal_stays_here(
    keys: bool, server: Server, other: Server, files: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "headers").write_text(f"X-File: {KEY}\n")
    (tmp_path / "cookies").write_text(f"127.0.0.1\tFALSE\t/\tFALSE\t1999999999\tc\t{KEY}\n")
    (tmp_path / "home" / ".netrc").write_text(f"default login me password {PASSWORD}\n")
    told = {
        "GDAL_HTTP_HEADERS": f"X-Key: {KEY}",
        "GDAL_HTTP_HEADER_FILE": str(tmp_path / "headers"),
        "GDAL_HTTP_USERPWD": f"me:{PASSWORD}",
        "GDAL_HTTP_COOKIE": f"c={KEY}",
        "GDAL_HTTP_COOKIEFILE": str(tmp_path / "cookies"),
        "GDAL_HTTP_NETRC_FILE": str(tmp_path / "home" / ".netrc"),
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    server.files["/f/moved.tif"] = redirect(f"{stranger(other)}/f/good.tif")
    for path in ("good", "moved"):
        way = opening(AssetRef(f"{server.url}/f/{path}.tif", keys=keys), "none")
        with gdal_settings(remote=True, store=way.settings), open_image(way.location) as image:
            assert image.shape == (60, 60)
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert bool(server.saw(basic)) == keys
    for key in (KEY, PASSWORD, basic):
        assert not other.saw(key)
    assert not server.saw(KEY), "headers and cookies would go along redirects"


def test_a_server_that_gets_no_password_gets_no_empty_one(
    server: Server, files: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers of signed addresses refuse a request that brings an Authorization header as well."""
    monkeypatch.setenv("GDAL_HTTP_USERPWD", f"me:{PASSWORD}")
    way = opening(AssetRef(f"{server.url}/f/good.tif", keys=False), "none")
    with gdal_settings(remote=True, store=way.settings), open_image(way.location) as image:
        assert image.read(1).shape == (60, 60)
    assert server.log
    assert not server.saw("Authorization")


def test_netrc_by_name_over_a_private_way_only(
    server: Server, other: Server, files: bytes, tmp_path: Path, run: Run
) -> None:
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    server.needs = basic
    server.items = [item(GOOD, f"{other.url}/f/good.tif")]
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text(f"default login me password {PASSWORD}\n")
    refused = run("layers", tmp_path / "a.zarr", *WHAT, "--catalog", server.api)
    assert refused.code == 1
    assert ".netrc" in refused.said
    assert "catalogs.toml" in refused.said
    assert not server.saw(basic)
    netrc.write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
    netrc.chmod(0o600)
    assert run("layers", tmp_path / "a.zarr", *WHAT, "--catalog", server.api).code == 0
    assert server.saw(basic)
    assert not other.saw(basic)


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
def test_netrc_opens_files_and_follows_no_redirect(
    engine: str, server: Server, other: Server, files: bytes, tmp_path: Path
) -> None:
    def locked(handler: BaseHTTPRequestHandler) -> None:
        known = "Authorization" in handler.headers
        handler.part(files) if known else handler.answer(401, b"", {"WWW-Authenticate": "Basic"})  # type: ignore[attr-defined]

    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {PASSWORD}\ndefault login you password {KEY}\n")
    netrc.chmod(0o600)
    server.files["/f/locked.tif"] = locked
    server.files["/f/moved.tif"] = redirect(f"{stranger(other)}/f/good.tif")
    for path in ("locked", "moved"):
        asset = AssetRef(f"{server.url}/f/{path}.tif", keys=True)
        assert inspect(Engine(engine), asset, opening(asset, "none"), lambda image, _: image.geobox.shape) == (60, 60)
    mine, defaults = (base64.b64encode(text.encode()).decode() for text in (f"me:{PASSWORD}", f"you:{KEY}"))
    assert server.saw(mine)
    assert other.log
    assert not other.saw(mine)
    assert not server.saw(defaults) + other.saw(defaults)


def test_files_that_differ_only_in_what_looks_like_a_key(server: Server, tmp_path: Path, run: Run) -> None:
    """Their addresses are the same where keys are taken out: ``?key=`` may name the file."""
    counts = {"B04": 2000, "B02": 3000}
    made = {band: tif(tmp_path / f"{band}.tif", value).read_bytes() for band, value in counts.items()}
    server.files["/get.tif"] = lambda handler: handler.part(made[handler.path.rpartition("=")[2]])  # type: ignore[attr-defined]
    one = item(GOOD, f"{server.url}/get.tif?key=B04")
    one["assets"]["blue"] = {**one["assets"]["red"], "href": f"{server.url}/get.tif?key=B02"}
    server.items = [one]
    where = ("--aoi", AOI, "--time", "2023-01", "--catalog", server.api)
    folder = tmp_path / "files"
    assert run("download", folder, "--roles", "l2a.band.B04,l2a.band.B02", *where).code == 0
    for name, band in (("red", "B04"), ("blue", "B02")):
        (path,) = folder.rglob(f"{name}_get.tif")
        assert path.read_bytes() == made[band]
    assets = {band: AssetRef(f"{server.url}/get.tif", signed=f"{server.url}/get.tif?key={band}") for band in counts}
    for band in (*counts, *counts):
        asset = assets[band]
        pixel = inspect(Engine("auto"), asset, opening(asset, "none"), lambda image, _: image.read(1, np.s_[0:1, 0:1]))
        assert pixel[0, 0] == counts[band]


def test_a_password_of_a_catalog_goes_to_its_host_only(
    server: Server, other: Server, files: bytes, tmp_path: Path, run: Run
) -> None:
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    server.items = [item(GOOD, f"{other.url}/f/good.tif")]
    url = server.api.replace("http://", f"http://me:{PASSWORD}@") + f"?apikey={KEY}"
    # The landing page sends the search elsewhere, and the search its next page.
    server.landing = lambda about: (
        about
        | {"links": [*about["links"][:2], {"rel": "search", "href": f"{stranger(other)}/api/search", "method": "POST"}]}
    )
    other.items = server.items
    other.change = lambda page: page | {"links": [{"rel": "next", "href": f"{other.url}/next"}]}
    other.files["/next"] = redirect(f"{other.url}/end")
    run("layers", tmp_path / "a.zarr", *WHAT, "--catalog", url)
    assert server.saw(basic)
    assert server.saw(KEY)
    assert other.log
    assert not other.saw(basic)
    assert not other.saw(KEY)


def test_publishing_takes_headers_to_one_host(
    server: Server, other: Server, files: bytes, tmp_path: Path, run: Run
) -> None:
    server.items = [item(GOOD, f"{server.url}/f/good.tif")]
    assert run("layers", tmp_path / "a.zarr", *WHAT, "--catalog", server.api).code == 0
    with pytest.raises(BadInputError, match="plain HTTP"):
        post_stac(tmp_path / "a.zarr", "http://example.org/api", headers={"X-Key": KEY})
    other.files["/api/collections"] = redirect(f"{stranger(server)}/api/collections")
    headers = {"X-Key": KEY, "Authorization": f"Bearer {PASSWORD}"}
    server.log.clear()
    with pytest.raises(CatalogError, match="leads on to"):
        post_stac(tmp_path / "a.zarr", other.api, headers=headers)
    assert other.saw(KEY)
    assert not server.saw(KEY)
    assert not server.saw(PASSWORD)

    def echo(handler: BaseHTTPRequestHandler) -> None:
        handler.answer(403, f"no: {handler.headers['X-Key']} \x1b[31m".encode())  # type: ignore[attr-defined]

    other.files["/api/collections"] = echo
    done = run("publish", tmp_path / "a.zarr", "--api", other.api, "--header", f"X-Key: {KEY}")
    assert done.code == 1
    assert KEY not in done.said
    assert "\x1b" not in done.said


def test_signed_addresses_are_used_and_not_written(server: Server, files: bytes, tmp_path: Path, run: Run) -> None:
    query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60&X-Amz-Signature={KEY}&v=2"

    def careful(handler: BaseHTTPRequestHandler) -> None:
        good = KEY in handler.path and "v=2" in handler.path
        handler.part(files) if good else handler.answer(403, b"no")  # type: ignore[attr-defined]

    server.files["/f/signed.tif"] = careful
    server.items = [item(GOOD, f"{server.url}/f/signed.tif?{query}")]
    words = ("--aoi", AOI, "--time", "2023", "--roles", "l2a.band.B04", "--catalog", server.api)
    assert run("layers", tmp_path / "place" / "a.zarr", *WHAT, "--catalog", server.api).code == 0
    assert run("download", tmp_path / "place" / "p", *words).code == 0
    assert run("index", "create", tmp_path / "place" / "index", *WHAT, "--catalog", server.api).code == 0
    assert np.asarray(xr.open_zarr(tmp_path / "place" / "a.zarr", mask_and_scale=False)["B04"].values).max() == 1500
    kept = run("layers", tmp_path / "b.zarr", *WHAT, "--catalog", tmp_path / "place" / "index")
    assert "search the catalog itself" in kept.said
    server.files["/f/signed.tif"] = lambda handler: handler.answer(403, b"no")  # type: ignore[attr-defined]
    late = run("layers", tmp_path / "c.zarr", *WHAT, "--catalog", server.api)
    assert late.code == 2
    assert "ended at 2020-01-01 00:01 UTC: search anew" in late.said
    assert KEY not in kept.said + late.said
    for path in (tmp_path / "place").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_nothing_that_is_written_holds_a_key(
    server: Server, files: bytes, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that commands write and print, tables taken apart."""
    monkeypatch.chdir(tmp_path)
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    server.needs = basic
    server.items = [item(GOOD, f"{server.url}/f/good.tif"), item("gone", f"{server.url}/f/none.tif?token={KEY}", 30)]
    server.items.append(item("odd", f"/vsicurl/{server.url}/f/good.tif?token={KEY}", 31))
    url = server.api.replace("http://", f"http://me:{PASSWORD}@") + f"?key={KEY}"
    place = tmp_path / "place"
    recipe = place / "cubes" / "recipe.yaml"
    said = ""
    words = {"mission": "sentinel-2-l2a", "aoi": AOI, "time": "2023", "bands": "B04", "catalog": "${CATALOG}"}
    recipe.parent.mkdir(parents=True)
    recipe.write_text(f"cubes: out\nlayers: {json.dumps(words)}\n")
    monkeypatch.setenv("CATALOG", url)
    loads = ("--aoi", AOI, "--time", "2023", "--roles", "l2a.band.B04", "--catalog", url)
    commands = [
        ("layers", place / "a.zarr", *WHAT, "--catalog", url),
        ("plan", place / "b.zarr", *WHAT, "--catalog", url),
        ("compare", *WHAT, "--catalogs", url),
        ("gaps", place / "a.zarr", "--catalogs", url),
        ("index", "create", place / "index", *WHAT, "--catalog", url),
        ("index", "show", place / "index"),
        ("download", place / "p", *loads),
        ("samples", place / "p", place / "s", "--mission", "sentinel-2-l2a", "--bands", "B04"),
        ("read", url, AOI, place / "r", "--bands", "B04", "--mission", "sentinel-2-l2a", "--time", "2023-01"),
        ("sample", url, AOI, place / "t.csv", "--bands", "B04", "--mission", "sentinel-2-l2a", "--time", "2023-01"),
        ("stage", recipe, place / "staged"),
        ("config", "show", recipe),
        ("status", place / "a.zarr"),
        ("history", place / "a.zarr"),
        ("report", place / "a.zarr"),
        ("publish", place / "a.zarr", place / "stac", "--href", url),
        ("update", place / "a.zarr"),
        ("sync", place / "a.zarr"),
        ("layers", place / "c.zarr", *WHAT, "--catalog", url.replace("/api", "/nothing")),
        ("layers", place / "d.zarr", *WHAT, "--catalog", url.replace("http:", "HTTP:").replace("127", "128")),
        ("layers", place / "e.zarr", *WHAT, "--catalog", url.replace("http://", "nothing://")),
    ]
    for command in commands:
        done = run(*command)
        said += f"\n{command[0]} {done.code}: {done.said}"
    assert "update 1" in said, "it needs the password again"
    assert "wants a user and password" in said
    written = "".join(text_of(path) for path in place.rglob("*") if path.is_file())
    assert GOOD in written
    for key in (PASSWORD, KEY, basic):
        assert key not in said, said[max(0, said.index(key) - 200) :][:400]
        assert key not in written, written[max(0, written.index(key) - 200) :][:400]
    (tmp_path / "config" / "catalogs.toml").write_text(f'[ours]\ntitle = "Ours"\nurl = "{url}"\n')
    again = run("update", place / "a.zarr")
    assert again.code == 2, again.said
    assert PASSWORD not in run("catalogs", "ours").said + run("catalogs", "--json").said


def text_of(path: Path) -> str:
    """What a file says, tables taken apart."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        content += repr(pq.read_table(path).to_pylist()).encode() + repr(pq.read_schema(path).metadata).encode()
    return content.decode(errors="replace")
