"""What planning an archive holds in memory, reads and stores: the JSON of an item once, and never that of all."""

from __future__ import annotations

import errno
import json
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from stac2cube.archives.archive import read_archive
from stac2cube.archives.keep import FoundItems
from stac2cube.archives.run import plan_archive, store_plan
from stac2cube.cli.archives import archive_request
from stac2cube.cli.recipes import layers_words, recipe_at
from stac2cube.model.geoparquet import ITEM
from stac2cube.search.index_commits import create, records_of
from stac2cube.search.index_files import IndexManifest, StoredItem, stored_items
from stac2cube.search.parsing import Notes, footprint_of
from stac2cube.search.search import MatchedItem
from stac2cube.stages.layers import query_of_words
from tests.archives.inputs import RECIPE, write_inputs

COPIES = 24
"""Dates of each item: with :data:`BALLAST`, some 20 MB of JSON."""

BALLAST = 100_000
"""Characters of a property that each item has, as items of large catalogs have dozens of assets."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs of an archive, with an index of many large items as its catalog."""
    folder = tmp_path_factory.mktemp("plan")
    source = write_inputs(folder)
    made = []
    for item in source.items("earth-search"):
        for number in range(COPIES):
            copy: dict[str, Any] = json.loads(json.dumps(item))
            copy["id"] = f"{item['id']}-{number}"
            day = f"2023-{number % 12 + 1:02d}-{number // 12 + 1:02d}"
            copy["properties"]["datetime"] = day + copy["properties"]["datetime"][10:]
            copy["properties"]["ballast"] = f"{number:x}" * BALLAST
            made.append(copy)
    create(folder / "index", records_of(made), IndexManifest(0, "earth-search"))
    for name, tiles in (("file", "{tiling: file, path: tiles.geojson}"), ("mgrs", "mgrs")):
        text = RECIPE.replace("{tiling: file, path: tiles.geojson, priority: rank}", tiles).replace("made", name)
        (folder / f"{name}.yaml").write_text(text.replace("source/earth-search.json", "index"))
    return folder


def planned(path: Path) -> Any:
    recipe = recipe_at(path, ())
    return plan_archive(archive_request(recipe, *query_of_words(layers_words(recipe))))


@pytest.mark.parametrize("tiling", ["file", "mgrs"])
def test_a_plan_does_not_hold_the_json_of_its_items(folder: Path, tiling: str) -> None:
    planned(folder / f"{tiling}.yaml")  # what is imported and cached once
    tracemalloc.start()
    plan = planned(folder / f"{tiling}.yaml")
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Files of a month are read one after the other; of all that is found some hundred bytes an item remain.
    assert len(plan.items) * BALLAST > 10e6
    assert peak < 0.4 * len(plan.items) * BALLAST
    assert kept < 1e6


def test_an_item_is_parsed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    plain = StoredItem.__init__

    def counted(self: StoredItem, text: str) -> None:
        parsed.append(len(text))
        plain(self, text)

    monkeypatch.setattr(StoredItem, "__init__", counted)
    plan = planned(folder / "file.yaml")
    found = len(plan.items)
    once = len(parsed)
    assert once == found
    store_plan(plan, "run")
    assert len(parsed) == once, "storing the items of tiles parses none"
    assert sum(one.found for one in plan.todo) > found, "tiles share items"


def test_a_tile_of_the_mission_stores_its_own_items_whole(folder: Path) -> None:
    plan = planned(folder / "mgrs.yaml")
    store_plan(plan, "run")
    archive = read_archive(folder / "mgrs")
    texts = {item["id"]: item.text for item in stored_items(folder / "index")}
    assert len(archive.tiles) == 2
    for tile in archive.tiles.values():
        file = archive.tile_folder(tile) / "items.parquet"
        stored = list(stored_items(file))
        assert stored
        assert all(tile.code in item["id"] for item in stored)
        assert all(texts[item["id"]] == item.text for item in stored)
        table = pq.read_table(file)
        assert table["id"].to_pylist() == sorted(item["id"] for item in stored)
        assert ITEM in table.column_names
        for row, item in zip(table.to_pylist(), stored, strict=True):
            assert row["datetime"].isoformat()[:16] == item["properties"]["datetime"][:16]
            assert (row["bbox"]["xmin"], row["bbox"]["ymax"]) == footprint_of(item).bounds[::3]


def test_of_two_items_alike_the_newer_counts_whichever_comes_first(folder: Path) -> None:
    first = dict(next(stored_items(folder / "index")))
    properties = first["properties"]
    old = {**first, "properties": {**properties, "s2:processing_baseline": "04.00", "updated": "2023-01-01T00:00:00Z"}}
    new = {**first, "properties": {**properties, "s2:processing_baseline": "05.10", "updated": "2024-01-01T00:00:00Z"}}
    for pair in ((old, new), (new, old)):
        items, notes = FoundItems(), Notes()
        numbers = [items.add(MatchedItem(item, footprint_of(item), None), notes) for item in pair]
        (kept,) = items.kept(number for number in numbers if number is not None)
        assert items.item(kept)["properties"]["s2:processing_baseline"] == "05.10"
        assert (len(items), notes.left_out) == (1, {})
    later = {**first, "properties": {**properties, "datetime": "2023-12-31T10:00:00Z"}}
    items, notes = FoundItems(), Notes()
    assert items.add(MatchedItem(first, footprint_of(first), None), notes) == 0
    assert items.add(MatchedItem(later, footprint_of(later), None), notes) is None
    assert "other times" in notes.left_out[first["id"]]


def test_a_full_disk_for_temporary_files_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(stored_items(folder / "index"))
    # A device on which every write ends as on a full disk.
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
        with pytest.raises(OSError, match="set TMPDIR to another folder") as raised:
            FoundItems().add(MatchedItem(first, footprint_of(first), None), Notes())
    assert raised.value.errno == errno.ENOSPC
