"""STAC GeoParquet, as written for stored searches, scene indexes and the ledgers of cubes.

Columns are those of the STAC GeoParquet specification (github.com/stac-utils/stac-geoparquet), so that rustac,
GeoPandas, DuckDB and GDAL read them: properties are columns beside id, geometry is WKB, times are timestamps.
Such columns cannot restore every item exactly: a property may be a number in one item and a text in another, and absent
and null look the same. So an additional column holds the item as JSON, and stac2cube reads that one.
"""

from __future__ import annotations

import io
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from stac2cube.model.catalog import HEADERS, ITEM, SIDES, SOURCES

if TYPE_CHECKING:
    import pandas as pd
    from shapely.geometry.base import BaseGeometry


_OWN = (ITEM, SOURCES, HEADERS)
"""Columns that hold no property, even if an item has a property of that name."""

BBOX = pa.struct([(side, pa.float64()) for side in SIDES])
TIME = pa.timestamp("us", tz="UTC")
LINKS = pa.list_(pa.struct([("href", pa.string()), ("rel", pa.string()), ("type", pa.string())]))

_TIMES = ("datetime", "start_datetime", "end_datetime", "created", "updated")
"""Properties that are timestamps in the specification."""

_FIRST = {
    "type": pa.string(),
    "stac_version": pa.string(),
    "stac_extensions": pa.list_(pa.string()),
    "id": pa.string(),
    "geometry": pa.binary(),
    "bbox": BBOX,
    "links": LINKS,
    "assets": pa.null(),
    "collection": pa.string(),
    "datetime": TIME,
}
"""Columns of every table of items, in this order."""


def metadata() -> dict[str, str]:
    """Schema metadata required by the specifications of GeoParquet and STAC GeoParquet."""
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": []}},
    }
    return {"geo": json.dumps(geo), "stac-geoparquet": json.dumps({"version": "1.0.0"})}


def to_bytes(table: pa.Table) -> bytes:
    """A table as the content of a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, write_statistics=_WITH_STATISTICS)
    return sink.getvalue()


def frame_to_bytes(frame: pd.DataFrame, shapes: Sequence[BaseGeometry], crs: str, units: Mapping[str, str]) -> bytes:
    """A data frame with a geometry per row as GeoParquet, for other tools; times are marked as UTC.

    Args:
        frame: Its column ``time``, if present, is UTC.
        shapes: One geometry per row.
        crs: CRS of the geometries.
        units: Column -> units, written as ``units`` into the metadata of the column.
    """
    from geopandas import GeoDataFrame

    if "time" in frame and frame["time"].dt.tz is None:
        frame = frame.assign(time=frame["time"].dt.tz_localize("UTC"))
    whole = io.BytesIO()
    GeoDataFrame(frame, geometry=list(shapes), crs=crs).to_parquet(whole, index=False)
    table = pq.read_table(whole)
    fields = [
        field.with_metadata({"units": units[field.name]}) if field.name in units else field for field in table.schema
    ]
    sink = io.BytesIO()
    # The schema of Arrow carries the metadata of columns; "geo" and that of pandas belong to the whole table.
    pq.write_table(table.cast(pa.schema(fields, table.schema.metadata)), sink, compression="zstd")
    return sink.getvalue()


_WITH_STATISTICS = ["id", "collection", "datetime", *(f"bbox.{side}" for side in SIDES)]
"""Columns by which readers skip row groups. Statistics of long texts would contain whole items."""


def item_schema(items: Sequence[Mapping[str, Any]], known: pa.Schema | None = None) -> pa.Schema:
    """The narrowest schema for some items and everything in another schema.

    Where values of different types meet, such as numbers and texts, the column is text; the exact values are in
    :data:`ITEM`.

    Args:
        items: STAC items.
        known: The schema to widen. The result equals it if no column changes.
    """
    types = dict(_FIRST) if known is None else {field.name: field.type for field in known}
    types = {name: kind for name, kind in types.items() if not name.startswith("stac2cube:")}
    rows = [_row(item) for item in items]
    for name in dict.fromkeys(name for row in rows for name in row):
        found = TIME if name in _TIMES else _type_of([row.get(name) for row in rows])
        types[name] = _wider(types[name], found) if name in types else found
    return pa.schema([*types.items(), (ITEM, pa.string())], metadata=metadata())


def table_of(items: Sequence[Mapping[str, Any]], texts: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Items as a table.

    Args:
        items: STAC items.
        texts: The same items as JSON, for :data:`ITEM`.
        schema: From :func:`item_schema`.
    """
    rows = [_row(item) for item in items]
    for row, text in zip(rows, texts, strict=True):
        row[ITEM] = text
    arrays = [_array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def table_of_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Python objects as a table, like ``pa.Table.from_pylist``, but without importing pandas.

    Every conversion of Python lists by pyarrow imports pandas to check for Series: 300 modules, loaded in each process
    that commits.

    Args:
        rows: Column -> value; a missing column is null.
        schema: Structures, lists, texts, bytes, int64, float64 and :data:`TIME`.

    Raises:
        TypeError: A number has another type than its column.
        NotImplementedError: The schema has another type.
    """
    try:
        columns = [_built([row.get(field.name) for row in rows], field.type) for field in schema]
    except OverflowError:  # more than 2 GiB of texts in one column, which pyarrow splits
        return pa.Table.from_pylist(list(rows), schema=schema)
    return pa.Table.from_arrays(columns, schema=schema)


def rows_of_table(table: pa.Table) -> list[dict[str, Any]]:
    """A table as Python objects, like ``to_pylist``, but without importing pandas, which would convert the times.

    Args:
        table: Its timestamps, if any, are columns of type :data:`TIME`.
    """
    timed = [field.name for field in table.schema if field.type == TIME]
    times = {
        name: [number for part in table.column(name).chunks for number in part.view(pa.int64()).to_pylist()]
        for name in timed
    }
    rows: list[dict[str, Any]] = table.drop_columns(timed).to_pylist()
    for name, numbers in times.items():
        for row, number in zip(rows, numbers, strict=True):
            row[name] = None if number is None else _EPOCH + timedelta(microseconds=number)
    return rows


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds_of(time: datetime) -> int:
    """Microseconds since 1970, as stored in :data:`TIME`; a time without a zone is UTC."""
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def _built(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values as an array, built from the buffers of Arrow's columnar format."""
    nulls = sum(value is None for value in values)
    valid = None
    if nulls:
        bits = "".join("0" if value is None else "1" for value in values)
        valid = pa.py_buffer(int(bits[::-1], 2).to_bytes(-(-len(values) // 8), "little"))
    made, children = [valid], None
    if pa.types.is_struct(kind):
        children = [_built([(value or {}).get(part.name) for value in values], part.type) for part in kind]
    elif pa.types.is_list(kind):
        made.append(_offsets(len(value or ()) for value in values))
        children = [_built([member for value in values for member in value or ()], kind.value_type)]
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        texts = [value.encode() if isinstance(value, str) else value or b"" for value in values]
        made += [_offsets(map(len, texts)), pa.py_buffer(b"".join(texts))]
    elif kind == TIME:
        made.append(pa.py_buffer(array("q", [0 if value is None else microseconds_of(value) for value in values])))
    elif kind in (pa.int64(), pa.float64()):
        code = "q" if kind == pa.int64() else "d"
        made.append(pa.py_buffer(array(code, [0 if value is None else value for value in values])))
    else:
        raise NotImplementedError(f"a column of {kind}")
    return pa.Array.from_buffers(kind, len(values), made, nulls, children=children)


def _offsets(lengths: Iterable[int]) -> pa.Buffer:
    return pa.py_buffer(array("i", accumulate(lengths, initial=0)))


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    from shapely.geometry import shape

    geometry = shape(item["geometry"]) if item.get("geometry") else None
    properties = {name: value for name, value in item["properties"].items() if name not in _OWN}
    return {
        **{name: _time(value) if name in _TIMES else value for name, value in properties.items()},
        "type": "Feature",
        "stac_version": item.get("stac_version"),
        "stac_extensions": item.get("stac_extensions") or [],
        "id": item["id"],
        "geometry": geometry.wkb if geometry else None,
        "bbox": dict(zip(SIDES, geometry.bounds, strict=True)) if geometry else None,
        "links": [],
        "assets": item["assets"],
        "collection": item.get("collection"),
    }


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):  # the last, in the hours around the years 1 and 9999
        return None


def _type_of(values: Sequence[Any]) -> pa.DataType:
    """The type of JSON values."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if not kinds:
        return pa.null()
    if kinds == {dict}:
        if not any(present):
            return pa.null()  # Parquet has no structure without members
        names = dict.fromkeys(name for value in present for name in value)
        return pa.struct([(name, _type_of([value.get(name) for value in present])) for name in names])
    if kinds == {list}:
        return pa.list_(_type_of([member for value in present for member in value]))
    if int in kinds and not all(-(2**63) <= value < 2**63 for value in present if type(value) is int):
        return pa.string()
    return reduce(_wider, [_SCALARS.get(kind, pa.string()) for kind in kinds])


_SCALARS = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string(), bytes: pa.binary()}


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The narrowest type that holds the values of both."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        members = {field.name: field.type for field in one}
        for field in other:
            members[field.name] = _wider(members.get(field.name, pa.null()), field.type)
        return pa.struct(list(members.items()))
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_wider(one.value_type, other.value_type))
    numbers = {pa.int64(), pa.float64()}
    return pa.float64() if {one, other} == numbers else pa.string()


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """JSON values as an array of a sufficiently wide type."""
    if pa.types.is_struct(kind):
        missing = pa.array([value is None for value in values], pa.bool_())
        members = [_array([None if v is None else v.get(field.name) for v in values], field.type) for field in kind]
        return pa.StructArray.from_arrays(members, fields=list(kind), mask=missing)
    if pa.types.is_list(kind):
        ends = [0]
        for value in values:
            ends.append(ends[-1] + len(value or ()))
        offsets = pa.array(ends, pa.int32())
        missing = pa.array([value is None for value in values], pa.bool_())
        members = _array([member for value in values for member in value or ()], kind.value_type)
        return pa.ListArray.from_arrays(offsets, members, type=kind, mask=missing)
    if pa.types.is_string(kind):
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], kind)
    values = [None if value == {} else value for value in values]  # for which there is no type, see _type_of
    if pa.types.is_floating(kind):
        # Arrow refuses to round integers of more than 53 bits; the exact values are in the item's text.
        return pa.array([None if value is None else float(value) for value in values], kind)
    return pa.nulls(len(values), kind) if pa.types.is_null(kind) else pa.array(values, kind)
