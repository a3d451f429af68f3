"""An archive's inventory: what its operator knows of every item, also of those that are not, or no longer, there.

A Parquet file with the columns ``id``, ``datetime``, ``geometry`` (WKB, WGS84), ``status`` and ``deprecated``, as
terrabyte publishes one per collection.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from stac2cube.errors import CatalogError
from stac2cube.source.search import Query

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("id", "datetime", "geometry", "status", "deprecated")

AWAITED = ("orderable", "ordered")
"""Status of items that exist but are not in the archive yet."""

GONE = "removed"
"""Status of items that were taken out of the archive."""

THERE = "succeeded"
"""Status of items that are in the archive."""


@dataclass(frozen=True)
class Inventory:
    """What an inventory says about an area and a time.

    Attributes:
        withdrawn: Ids of items that were removed or are deprecated.
        awaited: Status by id of items that are not in the archive yet.
    """

    withdrawn: frozenset[str]
    awaited: dict[str, str]


def read_inventory(path: Path, query: Query) -> Inventory:
    """Read what an inventory says about what is looked for.

    Args:
        path: The file.
        query: Area and times; rows about others are not even read where the file's statistics tell them apart.

    Raises:
        CatalogError: It is not there, no Parquet, lacks a column, or says something that is not understood.
    """
    table = _rows(path, query)
    status = table["status"].to_pylist()
    strange = sorted({str(word) for word in status} - {*AWAITED, GONE, THERE})
    if strange:
        raise CatalogError(f"{path}: status {', '.join(strange)} is none of {', '.join((*AWAITED, GONE, THERE))}")
    names, old = table["id"].to_pylist(), table["deprecated"].to_pylist()
    within = _touching(table, path, query)
    awaited = {
        name: word
        for name, word, is_old, near in zip(names, status, old, within, strict=True)
        if word in AWAITED and not is_old and near
    }
    gone = (name for name, word, is_old in zip(names, status, old, strict=True) if is_old or word == GONE)
    return Inventory(frozenset(gone), dict(sorted(awaited.items())))


def _rows(path: Path, query: Query) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        lacking = [name for name in COLUMNS if name not in schema.names]
        if lacking:
            raise CatalogError(f"{path} is no inventory: it lacks the column {', '.join(lacking)}")
        kind = schema.field("datetime").type
        if not pa.types.is_timestamp(kind):
            raise CatalogError(f"{path}: datetime holds {kind} where times are expected")
        wanted = None
        for first, last in query.intervals:
            # Without a zone, as some writers leave them, times are UTC.
            ends = [end.astimezone(UTC).replace(tzinfo=UTC if kind.tz else None) for end in (first, last)]
            within = (pc.field("datetime") >= pa.scalar(ends[0], kind)) & (
                pc.field("datetime") <= pa.scalar(ends[1], kind)
            )
            wanted = within if wanted is None else wanted | within
        return pq.read_table(path, columns=list(COLUMNS), filters=wanted)
    except (OSError, pa.ArrowException) as error:
        raise CatalogError(f"the inventory {path} cannot be read: {error}") from error


def _touching(table: pa.Table, path: Path, query: Query) -> np.ndarray:
    """Which rows touch the area."""
    try:
        shapes: Any = shapely.from_wkb(table["geometry"].to_pylist())
    except (shapely.errors.ShapelyError, TypeError) as error:
        raise CatalogError(f"{path}: geometry is not WKB: {error}") from error
    return np.asarray(shapely.intersects(query.area, shapes), dtype=bool)
