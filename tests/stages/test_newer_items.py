"""When a step is behind its catalog; what stands in for items that cannot be read; what was withdrawn for sure."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

import stac2cube
from stac2cube.build.plan import VERSIONS, is_behind, renewed
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, IncompleteError, NothingFoundError
from stac2cube.executors.base import Threads
from stac2cube.maintain.sync import ItemStates, compare_with_catalog, sync
from stac2cube.model.catalog import Catalog, find_catalog
from stac2cube.search.choose_catalog import CatalogChoice, Found, catalog_choices
from stac2cube.search.cubes import query_of
from stac2cube.search.parsing import Notes
from stac2cube.search.search import scenes_of
from stac2cube.stages.layers import is_for_good, with_standins
from stac2cube.store.ledger import Entry, Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from tests.items import Json, catalog
from tests.stages.test_care import DATES, LATTICE, build, product

KEY = "sentinel-2a_R065_20220301"


def entry(cube: Path, key: str = KEY) -> Entry:
    return Ledger(cube, read_root(cube).ledger).entries()[key]


def told(item: Json, **properties: object) -> Json:
    return item | {"properties": item["properties"] | properties}


def made(item: Json, when: str) -> Json:
    return told(item, **{"s2:generation_time": when})


def test_a_product_replaced_at_the_same_baseline_is_made_anew(tmp_path: Path) -> None:
    """Another id, the same tile, time and baseline: it is superseded, not withdrawn; and once only."""
    assert DATES[0] == "2022-03-01"
    old = product(tmp_path, DATES[0])
    layers = build(tmp_path, [made(old, "2022-03-01T20:00:00Z")])
    (tmp_path / "new").mkdir()
    new = made(product(tmp_path / "new", DATES[0], value=7), "2022-09-01T20:00:00Z") | {"id": "other"}
    catalog(tmp_path / "items.json", [new])
    found, _ = compare_with_catalog(layers)
    assert (found.superseded, found.withdrawn, found.reduced) == ((KEY,), (), ())
    summary = sync(layers, Threads())
    assert summary.replaced == [KEY]
    assert entry(layers).items == ("other",)
    assert list(entry(layers).parts.values()) == ["03.01 (02)"], "what is made from it shall notice"
    assert compare_with_catalog(layers)[0].nothing
    assert differences(layers, build(tmp_path, [new], "scratch")) == []


@pytest.mark.parametrize(
    ("before", "after", "behind"),
    [
        ({}, {}, False),
        ({"updated": "2022-03-02T00:00:00Z"}, {"updated": "2022-05-02T00:00:00Z"}, True),
        ({"updated": "2022-05-02T00:00:00Z"}, {"updated": "2022-03-02T00:00:00Z"}, False),
        ({"created": "2022-03-02T00:00:00Z"}, {"created": "2022-03-02T00:00:01Z"}, True),
        ({"created": "2022-03-02"}, {"created": "2022-03-02", "updated": "2022-05-02"}, True),
        ({"created": "2022-03-02", "updated": "2022-05-02"}, {"created": "2022-03-02"}, False),
        ({"s2:generation_time": "2022-03-02"}, {"s2:generation_time": "2022-04-02"}, True),
        ({"s2:product_uri": "A"}, {"s2:product_uri": "B"}, True),
        ({"s2:datastrip_id": "X_S20220301T102031_1"}, {"s2:datastrip_id": "X_S20220301T102531_1"}, True),
        ({"eo:cloud_cover": 5}, {"eo:cloud_cover": 6}, False),
    ],
)
def test_the_same_id_with_other_files(tmp_path: Path, before: Json, after: Json, behind: bool) -> None:
    item = product(tmp_path, DATES[0])
    layers = build(tmp_path, [told(item, **before)])
    catalog(tmp_path / "items.json", [told(item, **after)])
    assert compare_with_catalog(layers)[0].superseded == ((KEY,) if behind else ())


def test_checksums_decide(tmp_path: Path) -> None:
    def summed(item: Json, sums: str, updated: str) -> Json:
        assets = {name: asset | {"file:checksum": f"{sums}-{name}"} for name, asset in item["assets"].items()}
        return told(item, updated=updated) | {"assets": assets}

    item = product(tmp_path, DATES[0])
    layers = build(tmp_path, [summed(item, "a", "2022-03-02T00:00:00Z")])
    catalog(tmp_path / "items.json", [summed(item, "a", "2022-08-02T00:00:00Z")])
    assert compare_with_catalog(layers)[0].nothing, "the files are the same, whatever the times say"
    catalog(tmp_path / "items.json", [summed(item, "b", "2022-03-02T00:00:00Z")])
    assert compare_with_catalog(layers)[0].superseded == (KEY,)


def test_files_that_moved_are_the_same_files(tmp_path: Path) -> None:
    """An archive that moves is no reason to build its cubes anew; what is still to do is read at the new address."""
    item, other = told(product(tmp_path, DATES[0]), updated="2022-03-02T00:00:00Z"), product(tmp_path, DATES[1])
    layers = build(tmp_path, [item])
    (tmp_path / "moved").mkdir()
    for one in (item, other):
        for asset in one["assets"].values():
            asset["href"] = str(shutil.move(asset["href"], tmp_path / "moved"))
    catalog(tmp_path / "items.json", [item, other])
    found, _ = compare_with_catalog(layers)
    assert (found.superseded, found.reduced, found.withdrawn, len(found.new)) == ((), (), (), 1)
    assert len(sync(layers, Threads()).sealed) == 1
    assert compare_with_catalog(layers)[0].nothing


def test_rows_of_older_versions_are_judged_by_the_items_they_keep(tmp_path: Path) -> None:
    item = made(product(tmp_path, DATES[0]), "2022-03-01T20:00:00Z")
    layers = build(tmp_path, [item])
    row = entry(layers)
    bare = replace(row, properties={k: v for k, v in row.properties.items() if k != VERSIONS})
    assert not is_behind(bare, row)
    assert is_behind(bare, replace(row, items=("other",)))
    newer = {name: {**version, "generated": "2023"} for name, version in row.properties[VERSIONS].items()}
    want = replace(row, properties={**row.properties, VERSIONS: newer})
    assert is_behind(row, want)
    assert renewed(replace(row, parts={part: f"{v} (09)" for part, v in row.parts.items()}), want) == {
        part: f"{version} (10)" for part, version in row.parts.items()
    }
    elsewhere = replace(want, properties={**want.properties, "catalog": "another"})
    assert not is_behind(row, elsewhere), "ids and times of different catalogs cannot be compared"


def test_the_newest_whole_item_stands_in_for_one_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    new, old = product(tmp_path, DATES[0], "03.02", 1), product(tmp_path, DATES[0])
    other = product(tmp_path, DATES[1])
    Path(new["assets"]["B04"]["href"]).write_text("<Error>BlobNotFound</Error>")
    source = catalog(tmp_path / "items.json", [new, old, other])
    words = ["--mission", "sentinel-2-l2a", "--time", "2022", "--bands", "B04,SCL", "--catalog", source, "--aoi"]
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps(old["geometry"]))
    layers = tmp_path / "layers.zarr"
    capsys.readouterr()
    assert cli.main(["layers", str(layers), *words, str(area), "-q"], standalone_mode=False) == 0
    said = capsys.readouterr().out
    assert f"older items stand in: {KEY}: {old['id']} in the place of {new['id']}: item {new['id']}, band B04" in said
    row = entry(layers)
    assert row.items == (old["id"],)
    assert list(row.properties["unreadable"]) == [new["id"]]
    assert compare_with_catalog(layers)[0].nothing, "the next run does not try it again"
    mended = made(new, "2023-01-01T00:00:00Z")
    catalog(tmp_path / "items.json", [mended, old, other])
    assert compare_with_catalog(layers)[0].superseded == (KEY,), "as soon as the catalog says something else of it"
    strict = tmp_path / "strict.zarr"
    assert cli.main(["layers", str(strict), *words, str(area), "-q", "--strict"], standalone_mode=False) == 2
    assert f"failed: {KEY}: item {new['id']}, band B04" in capsys.readouterr().out


def test_a_file_of_the_whole_item_is_missing_and_an_item_of_that_band_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only that band is read from the other item; so does the next run, until the catalog changes the first."""
    whole, older = product(tmp_path, DATES[0]), product(tmp_path, DATES[0], "03.00", 3)
    (tmp_path / "alone").mkdir()
    alone = product(tmp_path / "alone", DATES[0]) | {"id": "alone"}
    del alone["assets"]["B04"]
    Path(whole["assets"]["SCL"]["href"]).unlink()
    layers = build(tmp_path, [whole, alone, older])
    row = entry(layers)
    assert set(row.items) == {whole["id"], "alone"}
    assert list(row.properties["unreadable"]) == [whole["id"]]
    assert row.properties["superseded_items"] == [older["id"]]
    assert compare_with_catalog(layers)[0].nothing
    one, other = stac2cube.open_cube(layers), stac2cube.open_cube(build(tmp_path, [product(tmp_path, DATES[0])], "all"))
    for band in ("B04", "SCL"):
        np.testing.assert_array_equal(one[band].values, other[band].values)


def test_what_a_server_does_in_two_runs_is_not_waited_for(tmp_path: Path) -> None:
    new, old = product(tmp_path, DATES[0], "03.02", 1), product(tmp_path, DATES[0])
    source = catalog(tmp_path / "items.json", [new, old])
    (scene,) = scenes_of([new, old], query_of(build(tmp_path, [new, old]))[1], find_catalog(str(source)))
    busy = f"item {new['id']}, band B04: x cannot be read: HTTP response code: 503"
    assert with_standins(scene, busy) is None
    again = with_standins(scene, busy, again=True)
    assert again is not None
    assert again.item_ids == (old["id"],)
    refused = with_standins(scene, busy.replace("503", "403. Its server wants a key or a signature"))
    assert refused is not None, "without a right to list a bucket, 403 is what S3 says of what is not there"
    assert with_standins(scene, busy.replace("HTTP response code: 503", "No space left on device"), again=True) is None


def test_strict_takes_no_older_item_for_one_that_lacks_a_band(tmp_path: Path) -> None:
    new, old = product(tmp_path, DATES[0], "03.02", 1), product(tmp_path, DATES[0])
    del new["assets"]["B04"]
    layers = build(tmp_path, [new, old])
    assert entry(layers).properties["passed_over"] == {new["id"]: "it lacks B04"}
    with pytest.raises(IncompleteError, match=f"item {new['id']} cannot be used, and none may stand in"):
        stac2cube.get_stac_layers(tmp_path / "strict.zarr", mission="sentinel-2-l2a", aoi=LATTICE, time="2022",
                                  bands=["B04"], catalog=str(tmp_path / "items.json"), strict=True)  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "for_good"),
    [
        ("item a, band B04: x cannot be read: HTTP response code: 404", True),
        ("item a, band B04: x cannot be read: HTTP response code: 503", False),
        ("item a, band B04: x cannot be read: HTTP response code: 429", False),
        ("item a, band B04: x cannot be read: Operation timed out", False),
        ("item a, band B04: x cannot be read: not recognized as being in a supported file format", True),
        ("item a, band B04: x cannot be read: Could not resolve host", False),
    ],
)
def test_what_may_pass_is_tried_again(reason: str, for_good: bool) -> None:
    assert is_for_good(reason) is for_good


def test_a_band_that_no_item_has_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No layer is all fill without a word: where no scene has the band it is refused, in Python as on a line."""
    items = []
    for number, date in enumerate(DATES[:2]):
        one = product(tmp_path, date) | {"collection": "sentinel-1-rtc", "id": f"radar{number}"}
        one["assets"] = {"vv": one["assets"]["B04"]}
        about = {"platform": "SENTINEL-1A", "sat:relative_orbit": 66, "proj:epsg": one["properties"]["proj:epsg"]}
        items.append(one | {"properties": about | {"datetime": f"{date}T05:26:11Z"}})
    words = {"mission": "sentinel-1-rtc", "aoi": LATTICE, "time": "2022", "resolution": 10}
    source = catalog(tmp_path / "radar.json", items)
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps(items[0]["geometry"]))
    asked = ["--mission", "sentinel-1-rtc", "--time", "2022", "--bands", "VV,VH", "--catalog", source, "--aoi"]
    with pytest.raises(BadInputError, match="no item of the 2 scenes found has band VH"):
        cli.main(["layers", str(tmp_path / "no.zarr"), *asked, str(area), "-q"], standalone_mode=False)
    assert not (tmp_path / "no.zarr").exists()
    for out in (tmp_path / "no.zarr", None):
        with pytest.raises(
            BadInputError, match=r"has band VH; of the others asked for they have VV \(2\): leave it out"
        ):
            stac2cube.get_stac_layers(out, catalog=source, bands=["VV", "VH"], **words)
    assert not (tmp_path / "no.zarr").exists()
    items[1]["assets"]["vh"] = items[1]["assets"]["vv"]
    source = catalog(tmp_path / "radar.json", items)
    with caplog.at_level(logging.WARNING, "stac2cube"):
        stac2cube.get_stac_layers(tmp_path / "half.zarr", catalog=source, bands=["VV", "VH"], **words)
    assert "1 of 2 scenes have no item with band VH" in caplog.text
    with pytest.raises(IncompleteError, match=r"item radar\d has no asset for band HH; .*radar\d has") as caught:
        stac2cube.get_stac_layers(tmp_path / "hh.zarr", catalog=source, bands=["HH"], **words)
    assert all(f"item radar{number} has no asset for band HH" in str(caught.value) for number in (0, 1))


def test_reasons_come_before_advice(tmp_path: Path) -> None:
    items = [
        product(tmp_path, date, baseline) for date, baseline in zip(DATES[:3], ("abc", "xyz", "03.01"), strict=True)
    ]
    items[2]["assets"] = {"B4_renamed": items[2]["assets"]["B04"]}
    source = catalog(tmp_path / "items.json", items)
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022", "bands": ["B04"], "catalog": source}
    with pytest.raises(BadInputError) as caught:
        stac2cube.get_stac_layers(tmp_path / "no.zarr", **words)
    said = str(caught.value)
    assert said.startswith("none of the 3 scenes found can be used: ")
    assert all(item["id"] in said for item in items)
    assert "crs" not in said
    nowhere = [one | {"geometry": None} for one in items]
    catalog(tmp_path / "items.json", nowhere)
    with pytest.raises(NothingFoundError, match=r"3 items cannot be used: 3 x item \S+ has no geometry"):
        stac2cube.get_stac_layers(tmp_path / "no.zarr", **words)


@pytest.mark.parametrize("code", ["EPSG:None", "EPSG:3857", "EPSG:32731"])
def test_the_file_tells_the_crs_where_no_item_does(code: str, tmp_path: Path) -> None:
    """Nor one that says the CRS of its preview, or another zone than that of its tile."""
    item = product(tmp_path, DATES[0])
    epsg = item["properties"].pop("proj:epsg")
    item["properties"]["proj:code"] = code
    layers = build(tmp_path, [item])
    assert read_root(layers).spec.grid.crs == f"EPSG:{epsg}"


@pytest.fixture
def answers() -> Iterator[tuple[str, dict[str, tuple[int, Json]]]]:
    """An API that has items: status and content by path; 404 for others."""
    known: dict[str, tuple[int, Json]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, value = known.get(unquote(self.path), (404, {}))
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", known
    server.shutdown()
    server.server_close()


def test_only_what_its_catalog_calls_gone_is_withdrawn(
    tmp_path: Path, answers: tuple[str, dict[str, tuple[int, Json]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stac2cube.search import clients as api

    monkeypatch.setattr(api, "RETRIES", 0)
    url, known = answers
    item = product(tmp_path, DATES[0]) | {"id": "a/b 1"}
    layers = build(tmp_path, [item])
    row = entry(layers)
    query = query_of(layers)[1]
    choices = catalog_choices(query)
    choice = CatalogChoice(Catalog(row.properties["catalog"], "", url, local_root=str(tmp_path)), "")
    path = "/collections/sentinel-2-l2a/items/a/b 1"
    there = {"type": "Feature", "id": "a/b 1", "properties": {}}

    def gone(notes: Notes | None = None) -> bool:
        return ItemStates(layers, (), choices, Found(choice, (), (), (notes or Notes(),))).all_gone(row)

    assert gone(), "404"
    for status, value, expected in (
        (410, {}, True),
        (200, there, False),
        (200, {**there, "properties": {"deprecated": True}}, True),
        (200, {"error": "later"}, False),
        (403, {}, False),
        (500, {}, False),
    ):
        known[path] = (status, value)
        assert gone() is expected, (status, value)
    del known[path]
    assert not gone(Notes(met={"a/b 1"})), "a search met it, though not as a scene for these words"
    assert not gone(Notes(left_out={"a/b 1": "odd"})), "what cannot be understood is there all the same"
    assert gone(Notes(met={"a/b 1"}, deprecated={"a/b 1"}))
    other = product(tmp_path, DATES[1])
    among = Found(choice, (other,), tuple(scenes_of([other], query, choice.catalog)), (Notes(),))
    assert not ItemStates(layers, (), choices, among).all_gone(row), "it has no place for items, as this one shows"
    known[f"/collections/sentinel-2-l2a/items/{other['id']}"] = (200, other)
    assert ItemStates(layers, (), choices, among).all_gone(row)
    nobody = replace(choice, catalog=Catalog("somebody else", "", url))
    assert not ItemStates(layers, (), choices, Found(nobody, (), (), ())).all_gone(row)
    assert ItemStates(layers, {"a/b 1"}, choices, None).all_gone(row), "an inventory knows"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda item: told(item, datetime="soon"),
        lambda item: item | {"geometry": None},
        lambda item: told(item, **{"sat:relative_orbit": "abc"}),
    ],
)
def test_an_item_that_became_odd_is_not_withdrawn(tmp_path: Path, spoil: Callable[[Json], Json]) -> None:
    items = [product(tmp_path, date) for date in DATES[:2]]
    layers = build(tmp_path, items)
    catalog(tmp_path / "items.json", [spoil(items[0]), items[1]])
    assert compare_with_catalog(layers)[0].nothing
    catalog(tmp_path / "items.json", [items[1]])
    assert compare_with_catalog(layers)[0].withdrawn == (KEY,)


def test_a_folder_with_a_file_that_cannot_be_read_withdraws_nothing(tmp_path: Path) -> None:
    items = [product(tmp_path, date) for date in DATES[:2]]
    folder = tmp_path / "items"
    folder.mkdir()
    for item in items:
        (folder / f"{item['id']}.json").write_text(json.dumps(item))
    layers = tmp_path / "layers.zarr"
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022", "bands": ["B04", "SCL"]}
    stac2cube.get_stac_layers(layers, catalog=str(folder), **words)
    (folder / f"{items[0]['id']}.json").write_text('{"type": "Feat')
    assert compare_with_catalog(layers)[0].withdrawn == ()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "b.json").write_text(json.dumps(items[1]))
    assert compare_with_catalog(layers)[0].withdrawn == (KEY,)
