"""Fetching products from a server that behaves like the Copernicus Data Space, whatever befalls the way."""

from __future__ import annotations

import csv
import hashlib
import json
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import stac2cube
from stac2cube.access.sign import Tokens, product_id
from stac2cube.datasets.acquisitions import read_manifest
from stac2cube.datasets.download import Fetcher, RemoteFile, download_products, hasher, run_download
from stac2cube.datasets.rules import AngleRules, DownloadRequest, LabelRules, SampleRules
from stac2cube.datasets.samples import make_samples
from stac2cube.errors import BadInputError, CatalogError, IncompleteError, NothingFoundError, ReadError
from stac2cube.model.geometry import read_areas
from tests.datasets.products import GSD, Pair
from tests.items import catalog as write_catalog
from tests.servers.cdse import DataSpace

ROLES = (*(f"l1c.band.{band}" for band in GSD), "l1c.product_metadata", "l1c.tile_metadata", "l2a.scl_20m")
(AREA,) = read_areas((10.3375, 47.8365, 10.3595, 47.8455))


@pytest.fixture
def pair(space: DataSpace, tmp_path: Path) -> Pair:
    return put(space, Pair(tmp_path / "origin").write())


def put(space: DataSpace, pair: Pair, lonely: tuple[str, ...] = (), *levels: str) -> Pair:
    """A pair of products in the server's catalog."""
    for item in pair.items(*levels):
        inner = {"product_metadata": "MTD_MSIL1C.xml", "granule_metadata": "GRANULE/x/MTD_TL.xml"}
        files = {
            key: (inner.get(key, f"GRANULE/x/IMG_DATA/T32TNT_{key}.tif"), Path(asset["href"]).read_bytes())
            for key, asset in item["assets"].items()
        }
        space.add(item, files, lonely)
    return pair


def request(**words: object) -> DownloadRequest:
    return DownloadRequest(**{"area": AREA, "time": "2023-05", "roles": ROLES} | words)


def fetcher(**words: object) -> Fetcher:
    return Fetcher(**{"first_wait": 0.01} | words)


def test_files_by_role_become_a_catalog_and_then_samples(space: DataSpace, pair: Pair, tmp_path: Path) -> None:
    manifest = download_products(request(), tmp_path / "products", tables=("csv", "parquet"))
    assert {entry.role for entry in manifest.files} == set(ROLES)
    assert all(entry.verified == "checksum" for entry in manifest.files)
    for band in GSD:
        entry = next(entry for entry in manifest.files if entry.role == f"l1c.band.{band}")
        assert entry.path == f"{pair.name('L1C')}/T32TNT_{band}.tif"
        assert (tmp_path / "products" / entry.path).read_bytes() == pair.path("L1C", band).read_bytes()
    assert not list((tmp_path / "products").rglob("*.part"))
    assert read_manifest(tmp_path / "products") == manifest
    with (tmp_path / "products" / "files.csv").open(newline="") as file:
        assert [row["role"] for row in csv.DictReader(file)] == [entry.role for entry in manifest.files]
    assert pq.read_table(tmp_path / "products" / "files.parquet").num_rows == len(ROLES)
    assert space.seen["password"] == 1
    # The same again asks for no file.
    space.seen.clear()
    assert download_products(request(), tmp_path / "products", tables=()) == manifest
    assert not space.seen["file"]
    # The folder is a catalog for samples, and for every other command.
    rules = SampleRules(bands=tuple(GSD), target="B11", labels=LabelRules(), angles=AngleRules())
    index = make_samples(tmp_path / "products", tmp_path / "samples", rules)
    assert [sample.status for sample in index.samples] == ["done"]
    words = {"mission": "sentinel-2-l1c", "aoi": AREA.geometry, "time": "2023", "bands": ["B02"]}
    cube = stac2cube.get_stac_layers(None, catalog=str(tmp_path / "products"), **words)
    assert cube.sizes["time"] == 1
    secrets = [
        word
        for path in (tmp_path / "products").glob("index.json")
        for word in ("Bearer", "secret")
        if word in path.read_text()
    ]
    assert not secrets


def test_tokens_end_and_are_renewed(space: DataSpace, pair: Pair, tmp_path: Path) -> None:
    space.uses = 3
    manifest = run_download(request(), tmp_path / "a", fetcher=fetcher(), connections=1).manifest
    assert not manifest.absent
    assert space.seen["password"] == 1
    assert space.seen["refresh_token"] == 2
    assert space.seen["refused"] == 2
    space.refresh = False  # then name and password are given once more
    assert not run_download(request(), tmp_path / "b", fetcher=fetcher(), connections=1).absent
    assert space.seen["password"] == 4


def test_who_is_not_known_gets_nothing_and_is_told(
    space: DataSpace, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDSE_PASSWORD", "wrong")
    done = run_download(request(), tmp_path / "a", fetcher=fetcher())
    assert {entry.reason for entry in done.absent} == {
        "the Copernicus Data Space does not take CDSE_USERNAME and CDSE_PASSWORD"
    }
    assert len(done.absent) == len(ROLES)
    assert done.exit_code == 2
    monkeypatch.delenv("CDSE_PASSWORD")
    done = run_download(request(), tmp_path / "b", fetcher=fetcher())
    assert all("set CDSE_USERNAME and CDSE_PASSWORD" in entry.reason for entry in done.absent)
    monkeypatch.setenv("CDSE_ACCESS_TOKEN", "old")
    done = run_download(request(), tmp_path / "c", fetcher=fetcher())
    assert all("does not take the token" in entry.reason for entry in done.absent)


def test_tokens_are_for_one_house_only(space: DataSpace, pair: Pair, tmp_path: Path) -> None:
    space.redirect = True
    assert not run_download(request(), tmp_path / "a", fetcher=fetcher()).absent
    assert space.strangers == 0
    assert not space.service.may_see_token("https://dataspace.copernicus.eu.example.com/a")
    assert replace(space.service, trusted=("dataspace.copernicus.eu",)).may_see_token(
        "https://zipper.dataspace.copernicus.eu/a"
    )
    assert "secret" not in repr(Tokens(space.service))


def test_a_broken_connection_is_taken_up_where_it_broke(space: DataSpace, pair: Pair, tmp_path: Path) -> None:
    space.faults = {
        "B02.tif": ["cut", "cut", 503, "busy", "soon"],
        "B11.tif": ["busy", "cut", "whole"],
        "SCL": ["spoiled"],
    }
    done = run_download(request(), tmp_path / "a", fetcher=fetcher())
    assert not done.absent
    size = pair.path("L1C", "B02").stat().st_size
    assert f"bytes={size // 2}-" in space.ranges
    for band in GSD:
        path = tmp_path / "a" / pair.name("L1C") / f"T32TNT_{band}.tif"
        assert path.read_bytes() == pair.path("L1C", band).read_bytes()


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (["spoiled", "spoiled"], "is not what the catalog says: its checksum differs"),
        ([404], "status 404"),
        (["page"], "the server answers a web page"),
        ([403, 403], "the server refuses (status 403)"),
        ([503] * 3, "the server answers 503; tried 3 times"),
    ],
)
def test_what_cannot_be_had_is_listed_and_the_rest_is_there(
    space: DataSpace, pair: Pair, tmp_path: Path, faults: list, words: str
) -> None:
    space.faults = {"B09.tif": list(faults)}
    done = run_download(request(), tmp_path / "a", fetcher=fetcher(attempts=3))
    (entry,) = done.absent
    assert entry.role == "l1c.band.B09"
    assert entry.state == "failed"
    assert words in entry.reason
    assert done.exit_code == 2
    assert not (tmp_path / "a" / pair.name("L1C") / "T32TNT_B09.tif").exists()
    rules = SampleRules(bands=tuple(GSD), target="B11")
    with pytest.raises(BadInputError, match=r"B09: item .* has no such asset"):
        make_samples(tmp_path / "a", tmp_path / "samples", rules)
    space.seen.clear()
    assert not run_download(request(), tmp_path / "a", fetcher=fetcher()).absent
    assert space.seen["file"] == 1, "only what lacked was asked for"


def test_what_the_catalog_lacks_is_listed(space: DataSpace, tmp_path: Path) -> None:
    put(space, Pair(tmp_path / "origin").write())
    lonely = Pair(tmp_path / "origin", 17).write()
    put(space, lonely, (), "L1C")
    with pytest.raises(IncompleteError, match="the catalog has no L2A of this acquisition"):
        download_products(request(), tmp_path / "a")
    manifest = read_manifest(tmp_path / "a")
    (entry,) = manifest.absent
    assert (entry.scene, entry.role, entry.state) == ("S2A_20230517T102601_32TNT", "l2a.scl_20m", "missing")
    done = run_download(request(roles=("l1c.band.B12", "l1c.band.B02")), tmp_path / "b", fetcher=fetcher())
    assert {entry.reason.partition(" has ")[2] for entry in done.absent} == {"no asset B12 or swir22"}


def test_files_without_an_address_are_found_by_odata(space: DataSpace, tmp_path: Path) -> None:
    put(space, Pair(tmp_path / "origin").write(), ("B02", "product_metadata"))
    assert not run_download(request(), tmp_path / "a", fetcher=fetcher()).absent
    assert space.seen["products"] == 2
    with pytest.raises(ReadError, match="has no product"):
        product_id(space.service, "S2A_nothing.SAFE")
    space.files["S2A_offline.SAFE/a"] = b""
    with pytest.raises(ReadError, match="in its archive only"):
        product_id(space.service, "S2A_offline.SAFE")
    with pytest.raises(ReadError, match="no name of a product"):
        product_id(space.service, "x' or Name ne '")


def test_the_newest_baseline_is_fetched_and_replaces_the_older(space: DataSpace, tmp_path: Path) -> None:
    old = Pair(tmp_path / "origin", baseline="04.00").write()
    put(space, old)
    first = run_download(request(), tmp_path / "a", fetcher=fetcher()).manifest
    new = put(space, old.again("05.09").write())
    manifest = run_download(request(), tmp_path / "a", fetcher=fetcher()).manifest
    assert {entry.item for entry in first.files} == {old.name("L1C"), old.name("L2A")}
    assert {entry.item for entry in manifest.files} == {new.name("L1C"), new.name("L2A")}
    assert [item["id"] for item in manifest.items] == [new.name("L1C"), new.name("L2A")]


def test_runs_add_up(space: DataSpace, tmp_path: Path) -> None:
    pairs = [put(space, Pair(tmp_path / "origin", day).write()) for day in (12, 17)]
    run_download(request(time="2023-05-12", roles=("l1c.band.B02",)), tmp_path / "a", fetcher=fetcher())
    run_download(request(time="2023-05-12", roles=("l1c.band.B03",)), tmp_path / "a", fetcher=fetcher())
    manifest = run_download(
        request(time="2023-05-17", roles=("l1c.band.B02",)), tmp_path / "a", fetcher=fetcher()
    ).manifest
    assert manifest.roles == ("l1c.band.B02", "l1c.band.B03")
    assert [(entry.scene[4:12], entry.role) for entry in manifest.files] == [
        ("20230512", "l1c.band.B02"),
        ("20230512", "l1c.band.B03"),
        ("20230517", "l1c.band.B02"),
    ]
    assert [sorted(item["assets"]) for item in manifest.items] == [["B02", "B03"], ["B02"]]
    assert pairs[0].name("L1C") == manifest.items[0]["id"]


def test_who_stops_goes_on_later(space: DataSpace, pair: Pair, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    done = run_download(request(), tmp_path / "a", fetcher=fetcher(stop=stop))
    assert done.stopped
    assert done.exit_code == 10
    assert {entry.reason for entry in done.absent} == {"stopped before it was there"}
    assert not run_download(request(), tmp_path / "a", fetcher=fetcher()).absent


def test_no_more_files_at_a_time_than_allowed(space: DataSpace, pair: Pair, tmp_path: Path) -> None:
    run_download(request(), tmp_path / "a", fetcher=fetcher(), connections=2)
    assert 1 <= space.most <= 2
    with pytest.raises(BadInputError, match="connections"):
        run_download(request(), tmp_path / "b", fetcher=fetcher(), connections=0)
    with pytest.raises(BadInputError, match="no table 'ods'"):
        run_download(request(), tmp_path / "b", fetcher=fetcher(), tables=("ods",))
    assert not (tmp_path / "b").exists()


def test_verify_finds_what_rotted(space: DataSpace, pair: Pair, tmp_path: Path) -> None:
    run_download(request(), tmp_path / "a", fetcher=fetcher())
    path = tmp_path / "a" / pair.name("L1C") / "T32TNT_B02.tif"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not run_download(request(), tmp_path / "a", fetcher=fetcher()).new
    done = run_download(request(), tmp_path / "a", fetcher=fetcher(), verify=True)
    assert [entry.role for entry in done.new] == ["l1c.band.B02"]
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ({"tiles": ("32TNT",)}, 2),
        ({"tiles": ("33TWN",)}, 0),
        ({"cloud": (0, 25)}, 1),
        ({"cloud": (25, 100)}, 1),
        ({"max_scenes": 1}, 1),
        ({"min_coverage": 100}, 2),
        ({"area": read_areas((10.3375, 47.8365, 10.41, 47.8455))[0], "min_coverage": 60}, 0),
        ({"time": "2022"}, 0),
    ],
)
def test_which_acquisitions(space: DataSpace, tmp_path: Path, words: dict, count: int) -> None:
    """Of two with 22 and 27 percent of clouds."""
    for day in (12, 17):
        put(space, Pair(tmp_path / "origin", day).write())
    asked = request(roles=("l1c.band.B09",), **words)
    if not count:
        with pytest.raises(NothingFoundError):
            run_download(asked, tmp_path / "a", fetcher=fetcher())
        return
    assert len(run_download(asked, tmp_path / "a", fetcher=fetcher()).manifest.scenes) == count


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"roles": ("l1c.band.B99",)}, r"no role 'l1c\.band\.B99'"),
        ({"roles": ("l3.band.B02",)}, "begins with no level"),
        ({"roles": ()}, "which roles"),
        ({"cloud": (50, 20)}, "cloud cover"),
        ({"min_coverage": 120}, "percentage"),
        ({"tiles": ("T32TNT",)}, "no tile"),
        ({"catalog": "nowhere"}, "unknown catalog"),
    ],
)
def test_words_that_do_not_fit(space: DataSpace, tmp_path: Path, words: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        run_download(request(**words), tmp_path / "a", fetcher=fetcher())
    assert not (tmp_path / "a").exists()


def test_files_of_this_machine_are_copied_and_verified(tmp_path: Path) -> None:
    pair = Pair(tmp_path / "origin").write()
    source = write_catalog(tmp_path / "local.json", pair.items())
    manifest = download_products(request(catalog=source), tmp_path / "a", tables=())
    assert {entry.verified for entry in manifest.files} == {"nothing"}, "the items say neither size nor checksum"
    pair.path("L1C", "B03").unlink()
    with pytest.raises(IncompleteError, match=r"B03\.tif does not exist"):
        download_products(request(catalog=source), tmp_path / "b", tables=())


def test_a_product_that_was_replaced_under_its_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def told(sums: str = "", **properties: str) -> DownloadRequest:
        items = [item | {"properties": item["properties"] | properties} for item in pair.items()]
        for asset in (asset for item in items for asset in item["assets"].values() if sums):
            asset["file:checksum"] = "1220" + hashlib.sha256(Path(asset["href"]).read_bytes()).hexdigest()
        return request(catalog=write_catalog(tmp_path / "local.json", items), roles=("l1c.band.B02",))

    pair = Pair(tmp_path / "origin").write()
    for folder, sums in (("a", ""), ("b", "sha256")):
        origin, path = pair.path("L1C", "B02"), tmp_path / folder / pair.name("L1C") / pair.path("L1C", "B02").name
        run_download(told(sums, updated="2023-06-01"), tmp_path / folder, fetcher=fetcher())
        origin.write_bytes(origin.read_bytes()[:-1] + (b"x" if sums else b"y"))
        run = partial(run_download, told(sums, updated="2023-09-01"), tmp_path / folder, fetcher=fetcher())
        caplog.clear()
        first = run()
        assert len(first.new) == bool(sums), "another checksum tells by itself"
        assert (f"as {pair.name('L1C')}: --verify fetches them again" in caplog.text) == (not sums)
        assert len(run(verify=True).new) == (not sums)
        assert path.read_bytes() == origin.read_bytes()
        caplog.clear()
        assert not run(verify=not sums).new
        assert "changed" not in caplog.text


def test_a_service_that_is_away_is_told(space: DataSpace, tmp_path: Path) -> None:
    away = replace(space.service, identity="http://127.0.0.1:9/token", catalogue="http://127.0.0.1:9")
    with pytest.raises(ReadError, match="does not answer"):
        Tokens(away).token()
    with pytest.raises(CatalogError, match="does not answer"):
        product_id(replace(away, catalogue="http://127.0.0.1:9"), "S2A.SAFE")


def test_multihashes() -> None:
    assert hasher("d50110" + "00" * 16)[0]().name == "md5"
    assert hasher("1620" + "00" * 32)[0]().name == "sha3_256"
    assert hasher("1220" + "00" * 32)[0]().name == "sha256"
    for odd in ("", "zz", "12", "1221" + "00" * 32, "1e20" + "00" * 32, "1120" + "00" * 32, "d501"):
        assert hasher(odd) is None


def test_a_part_is_gone_on_with_only_where_a_checksum_can_tell(space: DataSpace, tmp_path: Path) -> None:
    space.files["P.SAFE/a.bin"] = content = bytes(range(256)) * 40
    from tests.servers.cdse import number_of

    url = f"{space.service.download}/Products({number_of('P.SAFE')})/Nodes(P.SAFE)/Nodes(a.bin)/$value"
    import hashlib

    checksum = "1220" + hashlib.sha256(content).hexdigest()
    for name, known, ranges in (("sure", checksum, ["bytes=100-"]), ("unsure", "", [])):
        (tmp_path / f"{name}.part").write_bytes(content[:100])
        space.ranges.clear()
        fetcher(tokens=Tokens(space.service)).fetch(RemoteFile(url, len(content), known), tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
        assert space.ranges == ranges
    (tmp_path / "long.part").write_bytes(content + b"more")
    fetcher(tokens=Tokens(space.service)).fetch(RemoteFile(url, None, checksum), tmp_path / "long")
    assert (tmp_path / "long").read_bytes() == content


def test_a_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        read_manifest(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"schema": "stac2cube-samples/1"}))
    with pytest.raises(BadInputError, match="schema 'stac2cube-samples/1'"):
        read_manifest(tmp_path)


def test_all_items_of_a_product_are_fetched(tmp_path: Path) -> None:
    """Where a catalog keeps bands and metadata of one product in several items; samples need them all, too."""
    pair = Pair(tmp_path / "origin").write()
    whole, classes = pair.items()
    parts = []
    for number, keys in enumerate((("B02", "B03", "product_metadata"), ("B09", "B11", "granule_metadata"))):
        about = {"assets": {key: whole["assets"][key] for key in keys}, "id": f"{whole['id']}_part{number}"}
        parts.append({**whole, **about})
    source = write_catalog(tmp_path / "parts.json", [*parts, classes])
    manifest = download_products(request(catalog=source), tmp_path / "products", tables=())
    assert {entry.role for entry in manifest.files} == set(ROLES)
    assert not manifest.absent
    assert {entry.item for entry in manifest.files} == {parts[0]["id"], parts[1]["id"], classes["id"]}
    for entry in manifest.files:
        key = {"tile_metadata": "granule_metadata", "scl_20m": "SCL_20m"}.get(entry.role.rpartition(".")[2])
        origin = pair.path(entry.role[:3].upper(), key or entry.role.rpartition(".")[2])
        assert (tmp_path / "products" / entry.path).read_bytes() == origin.read_bytes()
    # Fetching fewer roles anew forgets none of the other part's.
    again = download_products(request(catalog=source, roles=("l1c.band.B02",)), tmp_path / "products", tables=())
    assert len(again.files) == len(manifest.files)
    rules = SampleRules(bands=tuple(GSD), target="B11", labels=LabelRules(), angles=AngleRules())
    made = make_samples(tmp_path / "products", tmp_path / "samples", rules)
    assert [sample.status for sample in made.samples] == ["done"]
