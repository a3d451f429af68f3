"""Items from scene indexes and from STAC GeoParquet that other programs wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from shapely import from_wkb
from shapely.errors import ShapelyError
from shapely.geometry import mapping

from stac2cube.errors import CatalogError
from stac2cube.model.catalog import ITEM, MANIFEST, SIDES, SOURCES, is_index
from stac2cube.trust.names import is_below
from stac2cube.trust.text import parse_json, printable

if TYPE_CHECKING:
    import pyarrow as pa

# Scene indexes, read: items kept on disk with the headers of their images.
#
# An index is a folder with a manifest, ``index.json``, which alone says what belongs to it: Parquet files by year and
# month, of the form that :mod:`stac2cube.model.geoparquet` describes. One such file by itself is a catalog too, and
# so is a part of a cube's ledger. :mod:`stac2cube.search.index_commits` writes them.

T = TypeVar("T")

VERSION = 1
"""Version of the layout; a newer one is refused."""

Interval = tuple[datetime, datetime]


class StoredItem(dict[str, Any]):
    """A STAC item that was stored as a text, and keeps it: unsigned, without links, with absolute hrefs.

    Args:
        text: The item as JSON.
    """

    def __init__(self, text: str) -> None:
        super().__init__(parse_json(text))
        self.text = text


@dataclass(frozen=True)
class IndexFile:
    """One file of an index.

    Attributes:
        file: Where it lies in the index's folder.
        rows: Items in it.
        size: Bytes.
    """

    file: str
    rows: int
    size: int


@dataclass(frozen=True)
class IndexManifest:
    """What an index holds.

    Attributes:
        commit: How often it was written.
        catalog: Name, URL or path of the catalog that it was searched in.
        request: The words of the search: mission, area, times, cloud cover, orbit, bands; empty if it was made
            otherwise.
        conditions: What else its items fulfil, see :class:`stac2cube.search.search.Conditions`.
        headers: Whether headers of images are kept.
        updated: When it was written, UTC.
        parts: Its files.
    """

    commit: int
    catalog: str
    request: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    headers: bool = False
    updated: str = ""
    parts: tuple[IndexFile, ...] = ()

    @property
    def rows(self) -> int:
        """Items."""
        return sum(part.rows for part in self.parts)

    def to_json(self) -> str:
        """The content of the manifest's file."""
        return json.dumps({"stac2cube:index": VERSION, **asdict(self)}, indent=1)


def read_index_manifest(folder: Path) -> IndexManifest:
    """What an index holds.

    Raises:
        CatalogError: The folder is no index, or one of a newer version.
    """
    if not is_index(folder):
        raise CatalogError(f"{folder} is no scene index: it has no {MANIFEST}")
    try:
        value = json.loads((folder / MANIFEST).read_bytes())
        if value.pop("stac2cube:index") != VERSION:
            raise CatalogError(f"{folder} was written by a newer version of stac2cube")
        parts = tuple(IndexFile(**part) for part in value.pop("parts"))
        if leaving := next((part.file for part in parts if not is_below(part.file)), None):
            raise CatalogError(f"{folder / MANIFEST}: the file {printable(leaving)!r} lies outside of the index")
        return IndexManifest(parts=parts, **value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(f"{folder / MANIFEST} is no manifest of a scene index: {error}") from error


def _some_rows(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The tables of an index, or of the one file that is given, some rows at a time; all of one state.

    All files are opened before the first is read: what is open stays as it is while somebody writes the index.

    Raises:
        CatalogError: It cannot be read, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with ExitStack() as opened:

        def opening(file: Path) -> tuple[Path, pa.NativeFile]:
            try:
                return file, opened.enter_context(pa.OSFile(str(file)))
            except OSError as error:
                raise CatalogError(f"{path} cannot be read as GeoParquet: {error}") from error

        for file, content in _of_each_file(path, opening):
            try:
                # Read one at a time: what Parquet says of hundreds of columns takes more memory than their rows.
                with pq.ParquetFile(content, page_checksum_verification=True) as stored:
                    known = [name for name in columns if name in stored.schema_arrow.names]
                    for batch in stored.iter_batches(_ROWS, columns=known):
                        yield pa.Table.from_batches([batch])
            except (OSError, pa.ArrowException) as error:
                raise CatalogError(f"{file} cannot be read as GeoParquet: {error}") from error


def _of_each_file(path: Path, take: Callable[[Path], T]) -> list[T]:
    """What is taken of each file of an index, or of the one file that is given; all of one state of the index.

    Raises:
        CatalogError: As ``take`` raises it, but for files that a newer state of the index has not.
    """
    if not path.is_dir():
        return [take(path)]
    manifest = read_index_manifest(path)
    while True:
        try:
            return [take(path / part.file) for part in manifest.parts]
        except CatalogError:
            now = read_index_manifest(path)
            if now.commit == manifest.commit:
                raise
            manifest = now  # it was written meanwhile, and files that it replaced are gone


def load_all(path: Path, columns: Sequence[str]) -> list[pa.Table]:
    """The tables of an index, or of the one file that is given; all of one state, also while somebody writes it.

    Raises:
        CatalogError: It cannot be read, or is damaged.
    """
    return _of_each_file(path, lambda file: load(file, columns))


def load(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A table as stored, its checksums compared.

    Raises:
        CatalogError: It cannot be read, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as stored:
            known = [name for name in columns if name in stored.schema_arrow.names] if columns is not None else None
            return stored.read(known)
    except (OSError, pa.ArrowException) as error:
        raise CatalogError(f"{file} cannot be read as GeoParquet: {error}") from error


def is_ours(file: Path) -> bool:
    """Whether a Parquet file holds items as texts.

    Raises:
        CatalogError: It is no Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = set(pq.read_schema(file).names)
    except (OSError, pa.ArrowException) as error:
        raise CatalogError(f"{file} is not STAC GeoParquet: {error}") from error
    return bool(names & {ITEM, SOURCES})


def stored_items(
    path: Path, bounds: Sequence[tuple[float, ...]] = (), intervals: Sequence[Interval] = ()
) -> Iterator[StoredItem]:
    """Items of an index or of a file of ours; those that certainly lie elsewhere or in another time are left unread.

    Args:
        path: The index, or the file.
        bounds: West, south, east, north of the parts of an area; everywhere if none is given.
        intervals: First and last instant of each; always if none is given.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for table in _some_rows(path, [ITEM, SOURCES, "bbox", "datetime"]):
        if SOURCES in table.column_names:
            texts = pc.list_flatten(table[SOURCES]).to_pylist()
        else:
            keep = _may_lie_in(table, bounds) & _may_be_of(table, intervals)
            texts = table[ITEM].filter(pa.array(keep)).to_pylist()
        yield from map(StoredItem, texts)


def _may_lie_in(table: pa.Table, bounds: Sequence[tuple[float, ...]]) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    if not bounds or "bbox" not in table.column_names:
        return np.ones(table.num_rows, dtype=bool)
    box = table["bbox"].combine_chunks()
    xmin, ymin, xmax, ymax = (pc.struct_field(box, side).to_numpy(zero_copy_only=False) for side in SIDES)
    # What crosses the antimeridian is drawn in several ways; those are sorted out where footprints are understood.
    near: NDArray[np.bool_] = ~((xmin >= -180) & (xmax <= 180) & (xmax - xmin < 180))
    for west, south, east, north in bounds:
        near |= (xmin <= east) & (xmax >= west) & (ymin <= north) & (ymax >= south)
    return near


def _may_be_of(table: pa.Table, intervals: Sequence[Interval]) -> NDArray[np.bool_]:
    import pyarrow as pa

    if not intervals or "datetime" not in table.column_names:
        return np.ones(table.num_rows, dtype=bool)
    times = table["datetime"].cast(pa.timestamp("us")).to_numpy()
    within: NDArray[np.bool_] = np.isnat(times)
    for first, last in intervals:
        low, high = (np.datetime64(time.replace(tzinfo=None), "us") for time in (first, last))
        within |= (low <= times) & (times <= high)
    return within


# STAC GeoParquet of other programs, read as the items that it was made from.
#
# rustac, stac-geoparquet and pgSTAC write the same specification (github.com/stac-utils/stac-geoparquet) in different
# ways: a member of an item that any item has is a column of all, null where an item lacks it; numbers that may be
# missing become floats; times have milli-, micro- or nanoseconds; ``bbox`` is a structure. No reader of theirs takes
# all that they write: rustac refuses ``nodata: "nan"``, which STAC allows, beside a number in another item. So the
# columns are read by pyarrow and what tables add is taken away again.

_TOP = ("type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
"""Members of an item that are no properties."""

_ROWS = 512
"""Rows held at a time: a row with all its assets takes some 20 kB."""


def foreign_items(path: Path) -> Iterator[dict[str, Any]]:
    """The items of a file of STAC GeoParquet, hrefs as they stand there.

    Args:
        path: The file.

    Raises:
        CatalogError: It is no Parquet, or has not the columns of items.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            lacking = [name for name in ("id", "assets", "geometry") if name not in names]
            if lacking == ["assets"] and "content" in names:
                raise CatalogError(
                    f"{path} holds rows of pgSTAC's table of items. They lack what their collections say of all "
                    "assets, as scale and offset. Write the items with pgstac_to_parquet of stac-geoparquet, or as "
                    "lines of JSON with the SQL function content_hydrate"
                )
            if lacking:
                raise CatalogError(f"{path} is not STAC GeoParquet: it has no column {', '.join(lacking)}")
            for batch in file.iter_batches(_ROWS):
                columns = [_values(column) for column in batch.columns]
                for values in zip(*columns, strict=True):
                    yield _item(dict(zip(batch.schema.names, values, strict=True)))
    except (OSError, pa.ArrowException) as error:
        raise CatalogError(f"{path} is not STAC GeoParquet: {error}") from error


def _values(column: pa.Array) -> list[Any]:
    import pyarrow as pa

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
