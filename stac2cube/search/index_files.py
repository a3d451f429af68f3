"""Read items from scene indexes, and from STAC GeoParquet written by other programs."""

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

# Reading of scene indexes: items kept on disk with the headers of their images.
#
# An index is a folder with a manifest, ``index.json``, which lists its files: Parquet files by year and month in the
# form that :mod:`stac2cube.model.geoparquet` describes. A single such file is a catalog too, and so is a part of a
# cube's ledger. :mod:`stac2cube.search.index_commits` writes them.

T = TypeVar("T")

VERSION = 1
"""Version of the layout; a newer one is refused."""

Interval = tuple[datetime, datetime]


class StoredItem(dict[str, Any]):
    """A STAC item parsed from a stored text, which it keeps: unsigned, without links, with absolute hrefs.

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
        file: Path relative to the index's folder.
        rows: Items in it.
        size: Size in bytes.
    """

    file: str
    rows: int
    size: int


@dataclass(frozen=True)
class IndexManifest:
    """The manifest of an index.

    Attributes:
        commit: Number of commits made so far.
        catalog: Name, URL or path of the catalog that was searched.
        request: The search parameters: mission, area, times, cloud cover, orbit, bands; empty if the index was not made
            by a search.
        conditions: Further conditions on its items, see :class:`stac2cube.search.search.Conditions`.
        headers: Whether it holds headers of images.
        updated: Time of the commit, UTC.
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
        """The number of items."""
        return sum(part.rows for part in self.parts)

    def to_json(self) -> str:
        """The content of the manifest file."""
        return json.dumps({"stac2cube:index": VERSION, **asdict(self)}, indent=1)


def read_index_manifest(folder: Path) -> IndexManifest:
    """Read the manifest of an index.

    Raises:
        CatalogError: The folder is not an index, or was written by a newer version.
    """
    if not is_index(folder):
        raise CatalogError(f"{folder} is no scene index: it has no {MANIFEST}")
    try:
        value = parse_json((folder / MANIFEST).read_bytes())
        if value.pop("stac2cube:index") != VERSION:
            raise CatalogError(f"{folder} was written by a newer version of stac2cube")
        parts = tuple(IndexFile(**part) for part in value.pop("parts"))
        if leaving := next((part.file for part in parts if not is_below(part.file)), None):
            raise CatalogError(f"{folder / MANIFEST}: the file {printable(leaving)!r} lies outside of the index")
        return IndexManifest(parts=parts, **value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(f"{folder / MANIFEST} is no manifest of a scene index: {error}") from error


def _some_rows(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The tables of an index, or of a single file, in batches of rows; all belong to one commit.

    All files are opened before the first is read: an open file does not change while the index is written.

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
                # Files are read one at a time: Parquet metadata of hundreds of columns take more memory than the rows.
                with pq.ParquetFile(content, page_checksum_verification=True) as stored:
                    known = [name for name in columns if name in stored.schema_arrow.names]
                    for batch in stored.iter_batches(_ROWS, columns=known):
                        yield pa.Table.from_batches([batch])
            except (OSError, pa.ArrowException) as error:
                raise CatalogError(f"{file} cannot be read as GeoParquet: {error}") from error


def _of_each_file(path: Path, take: Callable[[Path], T]) -> list[T]:
    """Apply a function to each file of one commit of an index, or to a single file.

    Raises:
        CatalogError: As raised by ``take``, unless a newer commit no longer has the file.
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
            manifest = now  # a commit was made in the meantime, and replaced files are gone


def load_all(path: Path, columns: Sequence[str]) -> list[pa.Table]:
    """The tables of an index, or of a single file; all belong to one commit, also while the index is written.

    Raises:
        CatalogError: It cannot be read, or is damaged.
    """
    return _of_each_file(path, lambda file: load(file, columns))


def load(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table and verify its checksums.

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
        CatalogError: It is not Parquet.
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
    """Items of an index or of a Parquet file of stac2cube; items that certainly do not match are not parsed.

    Args:
        path: The index, or the file.
        bounds: West, south, east, north of each part of an area; empty for everywhere.
        intervals: Pairs of first and last instant; empty for any time.
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
    # Boxes across the antimeridian are written in several ways; they are kept here, and footprints decide later.
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


# STAC GeoParquet of other programs, converted back to items.
#
# rustac, stac-geoparquet and pgSTAC write the same specification (github.com/stac-utils/stac-geoparquet) in different
# ways: a member of any item is a column for all, null where an item lacks it; numbers that may be missing become
# floats; times have milli-, micro- or nanoseconds; ``bbox`` is a structure. None of their readers accepts all that they
# write: rustac refuses ``nodata: "nan"``, which STAC allows, beside a number in another item. So the columns are read
# by pyarrow, and the artefacts of the table form are removed.

_TOP = ("type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "links", "assets", "collection")
"""Members of an item that are not properties."""

_ROWS = 512
"""Rows held at a time: a row with all its assets takes about 20 kB."""


def foreign_items(path: Path) -> Iterator[dict[str, Any]]:
    """The items of a file of STAC GeoParquet, with hrefs as stored.

    Args:
        path: The file.

    Raises:
        CatalogError: It is not Parquet, or lacks the columns of items.
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
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        values = [_of_calendar(value) for value in column]
    return values


def _of_calendar(value: pa.Scalar) -> Any:
    """The value; None for a time beyond Python's calendar, as an infinite one of PostgreSQL."""
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return None


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
    """A table value as in JSON: without nulls for absent members."""
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
    """The value of a JSON text; any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def _geometry(value: Any) -> Any:
    """GeoJSON from WKB, or from a text of GeoJSON; None for invalid WKB."""
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
