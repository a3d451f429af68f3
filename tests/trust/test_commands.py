"""Every command that reads a catalog meets one that is no friend: nothing is written outside, and nothing is read."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from stac2cube.datasets.download import Fetcher, RemoteFile
from stac2cube.errors import ReadError
from stac2cube.export.stac import safe_id
from stac2cube.trust.text import is_printable
from tests.trust.conftest import Done, Run
from tests.trust.hostile import AOI, GOOD, SECRET, WORDS, Server, hrefs, ids, item, redirect, stall, trickle

TIME = "2023/2024"
WHAT = ("--mission", "sentinel-2-l2a", "--aoi", AOI, "--time", TIME, "--bands", "B04")


def clean(done: Done) -> None:
    """What was printed speaks to no terminal."""
    assert "Traceback" not in done.said, done.said
    for line in done.said.splitlines():
        assert is_printable(line.replace("\t", " ")), line
    assert WORDS not in done.said


def stored(cube: Path) -> np.ndarray:
    return np.asarray(xr.open_zarr(cube, mask_and_scale=False, chunks=None)["B04"].values)


def test_layers_build_what_is_good_and_name_the_rest(bad: Server, private: Path, place: Path, run: Run) -> None:
    done = run("layers", place / "a.zarr", *WHAT, "--catalog", bad.api)
    clean(done)
    assert done.code == 2
    counts = stored(place / "a.zarr")
    assert (counts == 1500).any()
    assert not (counts == SECRET).any()
    assert set(np.unique(counts)) <= {0, 1500}
    whole = list(hrefs(private, bad)).index("served with overviews")  # which the full resolution does not need
    assert [n for n in range(len(hrefs(private, bad))) if f"item bad_{n}" not in done.said] == [whole]
    half = run("layers", place / "half.zarr", *WHAT, "--resolution", "20", "--catalog", bad.api)
    clean(half)
    assert set(np.unique(stored(place / "half.zarr"))) <= {0, 1500}, "nor by overviews"
    for words in (("update", place / "a.zarr"), ("sync", place / "a.zarr"), ("sync", place / "a.zarr", "--apply")):
        clean(run(*words))
    for words in (("status",), ("history",), ("report",), ("verify",)):
        clean(run(*words, place / "a.zarr"))
    assert run("publish", place / "a.zarr", place / "stac").code == 0
    assert run("gaps", place / "a.zarr", "--catalogs", bad.api).code in (0, 2)
    assert not (stored(place / "a.zarr") == SECRET).any()


def test_plan_compare_and_stage(bad: Server, place: Path, run: Run) -> None:
    clean(run("plan", place / "a.zarr", *WHAT, "--catalog", bad.api))
    done = run("compare", *WHAT, "--catalogs", bad.api)
    clean(done)
    recipe = place / "recipe.yaml"
    words = {"mission": "sentinel-2-l2a", "aoi": AOI, "time": TIME, "bands": "B04", "catalog": bad.api}
    recipe.write_text(f"cubes: cubes\nlayers: {json.dumps(words)}\n")
    clean(run("stage", recipe, place / "staged"))
    # What was stored is believed no more than the catalog that it comes from.
    clean(run("run", place / "staged" / "recipe.yaml"))
    assert set(np.unique(stored(place / "cubes" / "layers.zarr"))) <= {0, 1500}


def test_an_index_is_believed_no_more_than_its_catalog(bad: Server, place: Path, run: Run) -> None:
    clean(run("index", "create", place / "bad", *WHAT, "--catalog", bad.api))
    clean(run("index", "update", place / "bad"))
    clean(run("index", "filter", place / "bad", place / "less", "--max-cloud-cover", "50"))
    for name in ("bad", "less"):
        clean(run("layers", place / f"{name}.zarr", *WHAT, "--catalog", place / name))
        assert set(np.unique(stored(place / f"{name}.zarr"))) <= {0, 1500}
    clean(run("read", place / "bad", AOI, place / "read", "--bands", "B04"))
    clean(run("sample", place / "bad", AOI, place / "table.csv", "--bands", "B04"))
    manifest = json.loads((place / "bad" / "index.json").read_text())
    manifest["parts"][0]["file"] = "../../private/items.json"
    (place / "bad" / "index.json").write_text(json.dumps(manifest))
    assert "lies outside of the index" in run("read", place / "bad", AOI, place / "read", "--bands", "B04").said


def test_read_and_sample(bad: Server, place: Path, run: Run) -> None:
    words = ("--bands", "B04", "--mission", "sentinel-2-l2a", "--time", TIME)
    clean(run("read", bad.api, AOI, place / "read", *words))
    for name in ("a.csv", "a.json"):
        clean(run("sample", bad.api, AOI, place / name, *words))


def test_a_download_stays_in_its_folder(bad: Server, place: Path, run: Run) -> None:
    words = ("--aoi", AOI, "--time", TIME, "--roles", "l2a.band.B04", "--catalog", bad.api, "--tables", "csv,xlsx")
    done = run("download", place / "products", *words)
    clean(done)
    assert done.code == 2
    manifest = json.loads((place / "products" / "index.json").read_text())
    paths = {entry["item"]: entry["path"] for entry in manifest["files"] if entry["state"] == "there"}
    assert paths[GOOD] == f"{GOOD}/good.tif"
    assert {"../../outside", "CON", "with/slash", "a" * 400, "~root", "S2A_32TPT_A", "s2a_32tpt_a"} <= paths.keys()
    folders = [Path(path).parent.name for path in paths.values()]
    assert len({name.casefold() for name in folders}) == len(folders)
    assert all(re.fullmatch(r"[\w.~\-]{1,160}", name) for name in folders)
    names = json.loads((place / "products" / "names.json").read_text())["names"]
    assert all(names.get(path.partition("/")[0], text) == text for text, path in paths.items())
    rows = (place / "products" / "files.csv").read_text().splitlines()
    assert all(is_printable(row) for row in rows)
    assert not [cell for row in rows for cell in row.split(",") if cell[:1] in ("=", "+", "@")]
    again = run("download", place / "products", *words)
    assert "0 files fetched" in again.said
    clean(run("samples", place / "products", place / "samples", "--mission", "sentinel-2-l2a", "--bands", "B04"))


def test_a_download_replaces_nothing_of_others(server: Server, private: Path, place: Path, run: Run) -> None:
    server.items = [item(GOOD, f"{server.url}/f/good.tif")]
    words = ("--aoi", AOI, "--time", TIME, "--roles", "l2a.band.B04", "--catalog", server.api)
    mine = place / "p" / GOOD / "good.tif"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert "name another folder" in run("download", place / "p", *words).said
    assert mine.read_text() == "mine"
    linked = place / "q"
    linked.mkdir()
    (linked / GOOD).symlink_to(private)
    assert "is a link" in run("download", linked, *words).said
    (linked / GOOD).unlink()
    (linked / "index.json").unlink()
    (linked / "index.json").symlink_to(private / "note.txt")
    assert run("download", linked, *words).code == 1
    (linked / "index.json").unlink()


def test_an_item_by_itself(private: Path, server: Server, place: Path, run: Run) -> None:
    bands = {"nir": {"href": f"{server.url}/f/good.tif"}}
    for number, name in enumerate(ids(private)):
        one = item(name, f"{server.url}/f/good.tif", **bands)
        server.files["/item.json"] = json.dumps(one).encode()
        done = run("item", f"{server.url}/item.json", place / f"{number}", "--index", "ndvi")
        clean(done)
        if done.code == 0:
            files = (path for path in (place / f"{number}").rglob("*.json") if path.is_file())
            described = [json.loads(path.read_text()) for path in files]
            assert safe_id(name) in {value["id"] for value in described}
    some = list(hrefs(private, server).values())
    for number, href in enumerate(some[::4] + some[-4:]):
        server.files["/item.json"] = json.dumps(item("bad", href, **bands)).encode()
        clean(run("item", f"{server.url}/item.json", place / f"h{number}", "--index", "ndvi"))
    assert len([folder for folder in place.iterdir() if folder.name.startswith("h")]) <= 1, "only what has no overviews"


@pytest.mark.parametrize("kind", ["next", "search", "redirect", "circle", "lines", "junk", "status"])
def test_servers_that_lie(kind: str, private: Path, server: Server, place: Path, run: Run) -> None:
    file = f"file://{private}/items.json"
    server.items = [item(GOOD, f"{server.url}/f/good.tif")]
    changes = {
        "next": lambda page: page | {"links": [{"rel": "next", "href": f"{private}/items.json"}]},
        "circle": lambda page: page | {"links": [{"rel": "next", "href": f"{server.api}/search", "method": "POST"}]},
        "lines": lambda page: {"type": "FeatureCollection", "features": "\x1b]0;owned\x07\n" * 10},
        "junk": lambda page: [[[]]],
    }
    server.change = changes.get(kind, server.change)
    if kind == "search":
        server.landing = lambda about: about | {"links": [*about["links"][:2], {"rel": "search", "href": file}]}
    if kind == "redirect":
        server.files["/api/search"] = redirect(file)
        server.change = lambda page: {
            "type": "FeatureCollection",
            "features": [],
            "links": [{"rel": "next", "href": file}],
        }
    if kind == "status":
        server.landing = lambda about: {"code": "\x1b[31m" * 5, "description": WORDS[::-1]}
    done = run("layers", place / "a.zarr", *WHAT, "--catalog", server.api)
    clean(done)
    assert done.code in (0, 1)
    assert "stolen" not in done.said
    if (place / "a.zarr").exists():
        assert set(np.unique(stored(place / "a.zarr"))) <= {0, 1500}


def test_files_in_odd_answers_are_whole_or_not_there(server: Server, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    checksum = "1220" + hashlib.sha256(content).hexdigest()

    def in_parts(handler: Any) -> None:
        first = int(re.sub(r"\D", "", handler.headers.get("Range", "0")) or 0)
        last = min(first + 4000, len(content)) - 1
        handler.answer(206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    def answering(status: int, body: bytes, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return lambda handler: handler.answer(status, body, named)

    server.files |= {
        "/packed": answering(200, gzip.compress(content), Content_Encoding="gzip"),
        "/deflated": answering(200, zlib.compress(content), Content_Encoding="deflate"),
        "/parts": in_parts,
        "/plain": content,
        "/empty": answering(200, b""),
        "/nowhere": answering(302, b"", Location="https://[x/"),
        "/busy": answering(429, b"", Retry_After="Fri, 31 Dec 99999 23:59:59 GMT"),
    }
    fetcher = Fetcher(attempts=4, first_wait=0.01)
    capitals = server.url.replace("http", "HTTP")
    for address, known in (("/packed", ""), ("/deflated", checksum), ("/parts", checksum), ("/plain", "")):
        path = tmp_path / f"{address[1:]}.bin"
        fetcher.fetch(RemoteFile(capitals + address, checksum=known), path)
        assert path.read_bytes() == content, address
    for address in ("/parts", "/empty", "/nowhere", "/busy"):
        with pytest.raises(ReadError):
            fetcher.fetch(RemoteFile(server.url + address), tmp_path / "none")
        assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "packed"])
def test_no_more_is_fetched_than_the_catalog_says(server: Server, tmp_path: Path, *, packed: bool) -> None:
    """A server, or a few bytes that unpack to many, could fill the disk."""
    content = bytes(64 << 20)
    head = {"Content-Encoding": "gzip"} if packed else {}
    body = gzip.compress(content, 1) if packed else content
    server.files["/long"] = lambda handler: handler.answer(200, body, head)
    written: list[int] = []

    class Watching(threading.Event):
        def is_set(self) -> bool:
            written.extend(path.stat().st_size for path in tmp_path.glob("x.bin*"))
            return super().is_set()

    fetcher = Fetcher(stop=Watching(), attempts=4, first_wait=0.01)
    with pytest.raises(ReadError, match="bytes, not 1000"):
        fetcher.fetch(RemoteFile(f"{server.url}/long", size=1000), tmp_path / "x.bin")
    assert max(written) < len(content) / 4
    assert not list(tmp_path.glob("x.bin*"))


@pytest.mark.parametrize("engine", ["auto", "rasterio"])
@pytest.mark.parametrize("way", [trickle, stall], ids=["trickles", "stalls"])
def test_files_that_do_not_come(
    engine: str, way: object, private: Path, server: Server, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAC2CUBE_READ_SECONDS", "4")
    monkeypatch.setenv("STAC2CUBE_ENGINE", engine)
    server.files["/f/never.tif"] = way  # type: ignore[assignment]
    server.items = [item(GOOD, f"{server.url}/f/good.tif"), item("late", f"{server.url}/f/never.tif", 20)]
    begun = time.monotonic()
    done = run("layers", place / "a.zarr", *WHAT, "--catalog", server.api)
    assert time.monotonic() - begun < 60
    assert done.code == 2
    assert "item late, band B04" in done.said
    # Of a file that comes a byte at a time, GDAL sometimes says at once that it is none.
    names = "took longer than 4 s" + ("|not recognized" if way is trickle else "")
    assert re.search(names, done.said)
    assert (stored(place / "a.zarr") == 1500).any()


@pytest.mark.parametrize("way", [trickle, stall], ids=["trickles", "stalls"])
def test_answers_and_downloads_that_do_not_come(
    way: object, private: Path, server: Server, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stac2cube.access.http.PAGE_SECONDS", 2.0)
    monkeypatch.setattr("stac2cube.datasets.download.STALLED", 2.0)
    server.files["/f/never.tif"] = way  # type: ignore[assignment]
    server.files["/api2"] = way  # type: ignore[assignment]
    server.items = [item("late", f"{server.url}/f/never.tif")]
    begun = time.monotonic()
    slow = run("layers", place / "a.zarr", *WHAT, "--catalog", f"{server.url}/api2")
    assert slow.code == 1
    assert "took longer than 2 s" in slow.said
    words = ("--aoi", AOI, "--time", TIME, "--roles", "l2a.band.B04", "--catalog", server.api)
    late = run("download", place / "p", *words)
    assert late.code == 2
    assert "2 s" in late.said
    assert time.monotonic() - begun < 30


def test_pipes_and_devices_of_a_catalog_of_ones_own(private: Path, server: Server, place: Path, run: Run) -> None:
    names = {"pipe": private / "pipe.tif", "device": Path("/dev/zero"), "folder": private}
    items = [item(GOOD, f"{private}/image.tif")]
    items += [item(name, str(path), 20 + n) for n, (name, path) in enumerate(names.items())]
    (place / "own.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    done = run("layers", place / "a.zarr", *WHAT, "--catalog", place / "own.json")
    assert done.code == 2
    assert (stored(place / "a.zarr") == SECRET).any(), "a catalog of one's own may name files"
    assert all(f"item {name}," in done.said for name in names)
    assert done.said.count("is no plain file") >= len(names)


def test_roots_of_a_catalogs_entry(private: Path, server: Server, place: Path, run: Run, tmp_path: Path) -> None:
    (private.parent / "private-too").symlink_to(private)
    outside = tmp_path / "config" / "x.tif"
    outside.write_bytes((private / "image.tif").read_bytes())
    (private / "leads_out.tif").symlink_to(outside)
    server.items = [
        item(GOOD, f"file://{private}/image.tif"),
        item("by_link", f"{private.parent}/private-too/image.tif", 20),
        item("outside", f"file://{outside}", 21),
        item("out_again", f"{private}/../config/x.tif", 22),
        item("linked_out", f"{private}/leads_out.tif", 23),
    ]
    (tmp_path / "config" / "catalogs.toml").write_text(
        f'[site]\ntitle = "Ours"\nurl = "{server.api}"\nlocal_root = ["/nowhere", "{private}"]\n'
    )
    done = run("layers", place / "a.zarr", *WHAT, "--catalog", "site")
    assert done.code == 2
    assert len(stored(place / "a.zarr")) == 2
    for name in ("outside", "out_again", "linked_out"):
        assert f"item {name}, asset B04" in done.said
    assert "by_link" not in done.said
    (private / "leads_out.tif").unlink()
    (private.parent / "private-too").unlink()


def test_an_answer_without_an_end(server: Server, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stac2cube.access.http.MOST_BYTES", 1 << 20)
    server.landing = lambda about: about | {"description": "x" * (3 << 20)}
    done = run("layers", place / "a.zarr", *WHAT, "--catalog", server.api)
    assert done.code == 1
    assert "the answer is longer than 1 MiB" in done.said
