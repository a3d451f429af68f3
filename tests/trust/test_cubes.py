"""A cube from somebody else is input: its keys, layers and words name no path, and speak to no terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stac2cube.errors import CubeError
from stac2cube.export.publish import write_stac
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import open_cube
from stac2cube.trust.text import is_printable
from tests.search.mutations import put
from tests.trust.conftest import Run
from tests.trust.hostile import GOOD, Server, item
from tests.trust.test_commands import WHAT, clean


@pytest.fixture
def cube(server: Server, private: Path, tmp_path: Path, run: Run) -> Path:
    server.items = [item(GOOD, f"{server.url}/f/good.tif")]
    assert run("layers", tmp_path / "a.zarr", *WHAT, "--catalog", server.api).code == 0
    return tmp_path / "a.zarr"


def changed(cube: Path, column: str, value: str) -> None:
    """The cube with another value in its ledger."""
    ledger = Ledger(cube, read_root(cube).ledger)
    path = ledger.folder / ledger.parts[0]
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    pq.write_table(
        table.set_column(place, table.schema.field(column), pa.array([value], table.schema.field(column).type)), path
    )


@pytest.mark.parametrize("key", ["../../outside", "/tmp/x", "..", "a\x1b[31m", "a\nb", ""])
def test_keys_of_steps_are_names(cube: Path, key: str, tmp_path: Path, run: Run) -> None:
    changed(cube, "id", key)
    with pytest.raises(CubeError, match="which is no key"):
        write_stac(cube, tmp_path / "stac")
    done = run("publish", cube, tmp_path / "stac")
    clean(done)
    assert done.code == 1
    assert not (tmp_path / "stac").exists()


def test_names_of_layers_are_names(cube: Path, run: Run) -> None:
    text = (cube / "zarr.json").read_text()
    (cube / "zarr.json").write_text(text.replace('"name": "B04"', '"name": "../../B04"'))
    assert "../../B04" in (cube / "zarr.json").read_text()
    done = run("status", cube)
    clean(done)
    assert "which is no name" in done.said


def test_a_root_of_any_content_is_read_or_refused(cube: Path, run: Run) -> None:
    """By a line that names the cube, and not by a traceback."""
    whole = json.loads((cube / "zarr.json").read_text())
    own, arrays = ("attributes", "stac2cube"), ("consolidated_metadata", "metadata")
    roots = [
        *((*own, name) for name in ("spec", "commit", "generation", "ledger")),
        *((*own, "spec", name) for name in ("stage", "grid", "layers", "request")),
        *((*own, "spec", "grid", name) for name in ("origin", "shape", "shard", "resolution")),
        *(
            (*own, "ledger", 0),
            (*own, "spec", "grid", "shape", 1),
            (*arrays, "time", "shape"),
            (*arrays, "time"),
            arrays,
        ),
    ]
    for place, changed in [(place, put(whole, place, [None])) for place in roots] + [
        ((), [5]),
        ((), {"attributes": 5}),
    ]:
        (cube / "zarr.json").write_text(json.dumps(changed))
        with pytest.raises(CubeError, match=re.escape(str(cube))):
            read_root(cube)
        assert place or run("status", cube).code == 1
    odd: list[tuple[tuple[Any, ...], Any]] = [
        *(
            ((*arrays, "scene", "codecs"), []),
            ((*arrays, "x", "data_type"), "../../x"),
            ((*arrays, "y", "shape"), [-1]),
        ),
        *(((*arrays, "B04", "attributes"), 0), ((*arrays, "B04", "shape"), [1, 10**29, 1])),
    ]
    for place, value in odd:
        (cube / "zarr.json").write_text(json.dumps(put(whole, place, value)))
        with pytest.raises(CubeError, match=re.escape(str(cube))):
            open_cube(cube)


def test_words_of_a_ledger_are_escaped(cube: Path, tmp_path: Path, run: Run) -> None:
    changed(cube, "stac2cube:reason", "\x1b]0;owned\x07 <script>alert(1)</script>\u202e")
    facts = json.dumps({"platform": "\x1b[31m<b>", "catalog": "\x1b[2J", "orbit": 1, "software": {}})
    changed(cube, "stac2cube:properties", facts)
    for words in (("status", cube), ("history", cube), ("diff", cube, cube), ("report", cube, tmp_path / "page.html")):
        clean(run(*words))
    page = (tmp_path / "page.html").read_text()
    assert is_printable(page.replace("\n", "").replace("\t", ""))
    assert "<script>alert" not in page


@pytest.mark.parametrize("column", ["properties", "parts", "receipts", "geometry"])
@pytest.mark.parametrize(
    "text", ["{", "[1]", "null", "7", '{"a":' * 5000, '[{"shards": [{}]}]'], ids=lambda text: text[:20]
)
def test_a_row_of_a_ledger_that_is_none_is_refused_in_words(cube: Path, column: str, text: str, run: Run) -> None:
    changed(cube, column if column == "geometry" else f"stac2cube:{column}", text)
    with pytest.raises(CubeError, match=r"has a row of the step sentinel-2a.* that stac2cube did not write"):
        Ledger(cube, read_root(cube).ledger).entries()
    done = run("status", cube)
    clean(done)
    assert "Traceback" not in done.said


def test_what_is_published_replaces_nothing_of_others(cube: Path, private: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "stac"
    (out / "items").mkdir(parents=True)
    (out / "items" / "mine.json").write_text("{}")
    assert run("publish", cube, out).code == 0
    assert run("publish", cube, out).code == 0, "again"
    assert (out / "items" / "mine.json").exists()
    (out / "collection.json").write_text('{"type": "Collection", "providers": [], "links": []}')
    assert "was not written by stac2cube" in run("publish", cube, out).said
    (out / "collection.json").unlink()
    (out / "collection.json").symlink_to(private / "note.txt")
    assert run("publish", cube, out).code == 1
    (out / "collection.json").unlink()
    step = next((out / "items").glob("sentinel*.json"))
    step.write_text("{}")
    assert "not one of this catalog's files" in run("publish", cube, out).said
    step.unlink()
    step.symlink_to(private / "note.txt")
    assert "is a link" in run("publish", cube, out).said
