"""STAC GeoParquet of other programs, read as the items that it was made from.

rustac, stac-geoparquet and pgSTAC write the same specification (github.com/stac-utils/stac-geoparquet) in different
ways: a member of an item that any item has is a column of all, null where an item lacks it; numbers that may be missing
become floats; times have milli-, micro- or nanoseconds; ``bbox`` is a structure. No reader of theirs takes all that
they write: rustac refuses ``nodata: "nan"``, which STAC allows, beside a number in another item. So the columns are
read by pyarrow and what tables add is taken away again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from shapely import from_wkb
from shapely.errors import ShapelyError
from shapely.geometry import mapping

from stac2cube.errors import CatalogError

_TOP = ("type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
"""Members of an item that are no properties."""

_ROWS = 1024
"""Rows held at a time: a row with all its assets takes some 20 kB."""


def foreign_items(path: Path) -> Iterator[dict[str, Any]]:
    """The items of a file of STAC GeoParquet, hrefs as they stand there.

    Args:
        path: The file.

    Raises:
        CatalogError: It is no Parquet, or has not the columns of items.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            lacking = [name for name in ("id", "assets", "geometry") if name not in names]
            if lacking:
                raise CatalogError(f"{path} is not STAC GeoParquet: it has no column {', '.join(lacking)}")
            for batch in file.iter_batches(_ROWS):
                columns = [_values(column) for column in batch.columns]
                for values in zip(*columns, strict=True):
                    yield _item(dict(zip(batch.schema.names, values, strict=True)))
    except (OSError, pa.ArrowException) as error:
        raise CatalogError(f"{path} is not STAC GeoParquet: {error}") from error


def _values(column: pa.Array) -> list[Any]:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    return values


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    members = {name: _plain(value) for name, value in row.items() if name != "geometry"}
    nested = _decoded(members.pop("properties", None))
    properties = {name: value for name, value in members.items() if name not in _TOP and value is not None}
    assets = _decoded(members.get("assets"))
    return {
        "type": "Feature",
        "stac_version": members.get("stac_version") or "1.0.0",
        "stac_extensions": members.get("stac_extensions") or [],
        "id": members.get("id"),
        "collection": members.get("collection"),
        "geometry": _geometry(row["geometry"]),
        "bbox": _bbox(members.get("bbox")),
        "links": members.get("links") or [],
        "properties": {**(nested if isinstance(nested, dict) else {}), **properties},
        "assets": assets,
    }


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it: without nulls that stand for absent members."""
    if isinstance(value, Mapping):
        parts = {name: _plain(part) for name, part in value.items()}
        return {name: part for name, part in parts.items() if part is not None} or None
    if isinstance(value, list):
        if value and all(isinstance(part, tuple) and len(part) == 2 for part in value):  # a map
            return _plain(dict(value))
        return [_plain(part) for part in value]
    if isinstance(value, datetime):
        time = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return time.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return _geometry(value) if isinstance(value, bytes) else value


def _decoded(value: Any) -> Any:
    """What a table holds as a text of JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _geometry(value: Any) -> Any:
    """GeoJSON of WKB, or of a text of GeoJSON; None if it is neither."""
    if not isinstance(value, bytes):
        return _decoded(value)
    try:
        return json.loads(json.dumps(mapping(from_wkb(value))))
    except (ShapelyError, ValueError):
        return None


def _bbox(value: Any) -> list[float] | None:
    """West, south, east, north of a structure or a list; None if it is neither."""
    if isinstance(value, dict):
        sides = [name for name in ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax") if name in value]
        return [value[name] for name in sides]
    return value if isinstance(value, list) else None
