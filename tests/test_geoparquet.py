"""STAC GeoParquet: nothing of an item is lost, whatever its columns hold, and other programs read it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rustac

from stac2cube.errors import CatalogError
from stac2cube.model.geoparquet import BBOX, ITEM, LINKS, TIME, item_schema, metadata, table_of, table_of_rows, to_bytes
from stac2cube.search.clients import items_of_path
from stac2cube.search.items import item_text

Json = dict[str, Any]


def stored(path: Path, items: list[Json]) -> Path:
    path.write_bytes(to_bytes(table_of(items, [item_text(item) for item in items], item_schema(items))))
    return path


def made(name: str, **properties: Any) -> Json:
    geometry = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    properties = {"datetime": "2023-07-01T10:00:00Z", **properties}
    common = {"type": "Feature", "stac_version": "1.0.0", "collection": "c", "geometry": geometry, "links": []}
    return {**common, "id": name, "properties": properties, "assets": {"B04": {"href": "/a.tif"}}}


def as_told(item: Json) -> Json:
    """What is kept of an item: all but its links and its signatures."""
    return json.loads(item_text(item))


def test_values_of_different_kinds_meet_in_one_column(tmp_path: Path) -> None:
    items = [
        made("a", zone=1, share=1, deep={"x": 1}, big=2**70, nothing=None, empty={}, many=[1, 2]),
        made("b", zone="1", share=0.5, deep={"x": {"y": 2}, "z": []}, big=1, many=["a"], only=True),
        made("c", zone=None, deep="text", created="no time"),
    ]
    path = stored(tmp_path / "items.parquet", items)
    assert [dict(item) for item in items_of_path(path)] == [as_told(item) for item in items]
    table = pq.read_table(path)
    assert table["zone"].to_pylist() == ["1", "1", None]
    assert table["share"].to_pylist() == [1.0, 0.5, None]
    assert len(rustac.read_sync(str(path))["features"]) == 3
    assert len(geopandas.read_parquet(path)) == 3


@pytest.mark.parametrize(
    "values",
    [
        (0.97, 10**30),
        (0.5, 2**60 + 1),
        (1, 2**63),
        (0.5, 10**400),
        ("1", 10**400),
        (0.5, {"a": 2**60 + 1}),
        ([0.5], [2**60 + 1, 10**30]),
        (True, {}),
        ([1], {}),
        ({"a": 1.5}, {"a": {}}),
    ],
)
def test_whole_numbers_beside_others_need_not_fit(tmp_path: Path, values: tuple[Any, Any]) -> None:
    items = [made(str(place), x=value) for place, value in enumerate(values)]
    path = stored(tmp_path / "items.parquet", items)
    assert [dict(item) for item in items_of_path(path)] == items
    for first, second in (items, items[::-1]):
        wider = item_schema([second], item_schema([first]))
        assert table_of([first, second], ["", ""], wider).num_rows == 2


@pytest.mark.parametrize("key", ["created", "updated", "start_datetime"])
def test_times_at_the_ends_of_the_calendar(tmp_path: Path, key: str) -> None:
    odd = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "soon", 5)
    items = [made(str(place), **{key: value}) for place, value in enumerate(odd)]
    path = stored(tmp_path / "items.parquet", items)
    assert [dict(item) for item in items_of_path(path)] == items
    assert pq.read_table(path)[key].to_pylist() == [None] * 4


@pytest.mark.parametrize("name", ["stac2cube:item", "stac2cube:headers", "stac2cube:sources"])
def test_a_property_may_have_the_name_of_a_column_of_ours(tmp_path: Path, name: str) -> None:
    items = [made("a", **{name: 5.5}), made("b", **{name: {"x": None}})]
    path = stored(tmp_path / "items.parquet", items)
    assert [dict(item) for item in items_of_path(path)] == items
    assert pq.read_table(path).column_names.count(ITEM) == 1


def test_a_schema_grows_only_by_what_is_new() -> None:
    first, second = [made("a", x=1)], [made("b", x=2)]
    schema = item_schema(first)
    assert item_schema(second, schema) == schema
    wider = item_schema([made("c", x="text", y=1.5)], schema)
    assert wider != schema
    assert item_schema(first + second, wider) == wider
    assert wider.names[-1] == ITEM


def test_rows_become_the_table_that_pyarrow_makes() -> None:
    """Made without pandas, which pyarrow would import: equal files to the last byte."""
    plain = [("id", pa.string()), ("shape", pa.binary()), ("time", TIME), ("count", pa.int64()), ("part", pa.float64())]
    nested = pa.struct([("file", pa.struct([("href", pa.string()), ("roles", pa.list_(pa.string()))]))])
    schema = pa.schema([*plain, ("bbox", BBOX), ("links", LINKS), ("assets", nested)], metadata=metadata())
    full = {"id": "Zürich", "shape": b"\0\xff", "time": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)}
    full |= {"count": -(2**63), "part": 0.1, "bbox": {"xmin": 1.0, "ymax": 2}, "links": [{"href": "a"}, None]}
    full |= {"assets": {"file": {"href": "b", "roles": ["data", None]}}}
    empty = {"id": "", "shape": b"", "time": datetime(2024, 2, 29), "links": [], "bbox": {}, "assets": {"file": None}}
    for rows in ([full, dict.fromkeys(schema.names), empty, {}] * 5, [full], []):
        made = table_of_rows(rows, schema)
        made.validate(full=True)
        assert to_bytes(made) == to_bytes(pa.Table.from_pylist(rows, schema=schema))
    with pytest.raises(TypeError):
        table_of_rows([{"count": 1.5}], schema)


def test_damage_is_noticed(tmp_path: Path) -> None:
    items = [made(f"item-{number}", x="some text " * 50 + str(number)) for number in range(50)]
    path = stored(tmp_path / "items.parquet", items)
    content = bytearray(path.read_bytes())
    at = pq.ParquetFile(path).metadata.row_group(0).column(pq.ParquetFile(path).metadata.num_columns - 1)
    content[at.dictionary_page_offset + 200] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=r"items\.parquet cannot be read"):
        list(items_of_path(path))
