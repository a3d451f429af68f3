"""Writing of scene indexes: a commit writes new files for changed months, then replaces the manifest once.

A process killed before that leaves the index unchanged. The files that it left are removed by the next commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from stac2cube.errors import BadInputError
from stac2cube.executors.queue import job_is_alive
from stac2cube.model.catalog import HEADERS, ITEM, MANIFEST, is_index
from stac2cube.model.geoparquet import item_schema, table_of, to_bytes
from stac2cube.model.scene import Item, time_of
from stac2cube.search.index_files import IndexFile, IndexManifest, StoredItem, load, read_index_manifest
from stac2cube.search.index_headers import Row, header_type, rows_in
from stac2cube.search.items import item_text
from stac2cube.store.files import refuse_links, write_whole
from stac2cube.store.lock import IN_FOLDER, CubeLock

Key = tuple[str, str]
"""Collection and id of an item."""


@dataclass(frozen=True)
class Record:
    """An item with the headers of its images.

    Attributes:
        item: The item.
        headers: Rows of :func:`stac2cube.search.index_headers.header_type`.
    """

    item: StoredItem
    headers: tuple[Row, ...] = ()

    @property
    def key(self) -> Key:
        """Collection and id, which identify the item."""
        return str(self.item.get("collection") or ""), self.item["id"]

    @property
    def month(self) -> str:
        """Folder of its month: ``"year=2023/month=07"``, as Hive writes partitions."""
        time = time_of(self.item)
        return f"year={time:%Y}/month={time:%m}"


@dataclass(frozen=True)
class IndexDifference:
    """Changes made by an update.

    Attributes:
        new: Ids of items that were not there.
        changed: Ids of items that the catalog describes differently now.
        gone: Ids of items that the catalog no longer has.
        same: Number of unchanged items.
        headers: Addresses of files whose headers were read.
    """

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    same: int = 0
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Index:
    """The content of an index.

    Attributes:
        manifest: Its manifest.
        records: Records by key.
        places: File of each record.
    """

    manifest: IndexManifest
    records: Mapping[Key, Record]
    places: Mapping[Key, str] = field(default_factory=dict)


def records_of(items: Iterable[Item]) -> dict[Key, Record]:
    """Items of any origin as records: unsigned, without links. Of items with the same key the last one is kept."""
    made = (Record(item if isinstance(item, StoredItem) else StoredItem(item_text(item))) for item in items)
    return {record.key: record for record in made}


def read_index(folder: Path) -> Index:
    """Read a whole index.

    Raises:
        CatalogError: The folder is not an index, or is damaged.
    """
    manifest = read_index_manifest(folder)
    records, places = {}, {}
    for part in manifest.parts:
        for record in _records_of_table(load(folder / part.file, [ITEM, HEADERS])):
            records[record.key] = record
            places[record.key] = part.file
    return Index(manifest, records, places)


def _records_of_table(table: pa.Table) -> list[Record]:
    texts = table[ITEM].to_pylist()
    return [Record(StoredItem(text), tuple(rows)) for text, rows in zip(texts, rows_in(table), strict=True)]


def compare(old: Mapping[Key, Record], now: Mapping[Key, Record]) -> tuple[dict[Key, Record], IndexDifference]:
    """The records of an index after a search, and the changes; unchanged records keep their headers."""
    merged = {
        key: old[key] if key in old and old[key].item.text == record.item.text else record
        for key, record in now.items()
    }
    return merged, IndexDifference(
        new=tuple(sorted(key[1] for key in now if key not in old)),
        changed=tuple(sorted(key[1] for key, record in merged.items() if key in old and record is not old[key])),
        gone=tuple(sorted(key[1] for key in old if key not in now)),
        same=sum(record is old.get(key) for key, record in merged.items()),
    )


def create(folder: Path, records: Mapping[Key, Record], words: IndexManifest) -> IndexManifest:
    """Write a new index.

    Args:
        folder: Folder of the index; it must not exist.
        records: Records to store.
        words: Values of the manifest besides commit, time and parts.

    Raises:
        BadInputError: The folder exists already.
        CubeLockedError: Another process is writing it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        # A killed creation leaves a folder without manifest; it is reused.
        if is_index(folder) or (folder.exists() and any(not _is_stray(path.name) for path in folder.iterdir())):
            raise BadInputError(f"{folder} is there already: choose another name, or `stac2cube index update`")
        folder.mkdir(exist_ok=True)
        return commit(folder, Index(replace(words, commit=0, parts=()), {}), records)


def _is_stray(name: str) -> bool:
    return name.startswith("year=") or name.endswith(".partial") or name.startswith(IN_FOLDER)


def lock(folder: Path) -> CubeLock:
    """The lock of an index, held while it is written.

    Raises:
        CubeLockedError: On entering, if another process is writing it.
    """
    return CubeLock(folder, verdict=job_is_alive, inside=IN_FOLDER)


def commit(folder: Path, old: Index, records: Mapping[Key, Record]) -> IndexManifest:
    """Write records to an index; the caller holds its lock.

    Args:
        folder: The index.
        old: Its content before, with the values for the new manifest.
        records: Its content afterwards. Records that are identical objects to the old ones count as unchanged.
    """
    number = old.manifest.commit + 1
    remove_strays(folder, old.manifest)
    fresh = [record for key, record in records.items() if record is not old.records.get(key)]
    before = _schema_of(folder, old.manifest)
    schema = item_schema([record.item for record in fresh], before) if fresh or before is None else before
    months: dict[str, list[tuple[Key, Record]]] = {}
    for key, record in sorted(records.items()):
        months.setdefault(record.month, []).append((key, record))
    # One schema for all files, so that other programs can read them together.
    kept = _kept_parts(old, months) if schema == before else {}
    parts = []
    for month, members in sorted(months.items()):
        if month in kept:
            parts.append(kept[month])
            continue
        content = content_of([record for _, record in members], schema)
        name = f"{month}/items-{number:06d}.parquet"
        (folder / month).mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)
        parts.append(IndexFile(name, len(members), len(content)))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = replace(old.manifest, commit=number, parts=tuple(parts), updated=now)
    write_whole(folder / MANIFEST, manifest.to_json().encode())
    _remove_others(folder, manifest)
    return manifest


def content_of(records: Sequence[Record], schema: pa.Schema | None = None) -> bytes:
    """Records as the content of a Parquet file.

    Args:
        records: The records.
        schema: Columns of the items; if None, the columns that these items need.
    """
    items = [record.item for record in records]
    schema = schema or item_schema(items)
    table = table_of(items, [item.text for item in items], schema)
    headers = pa.array([list(record.headers) for record in records], pa.list_(header_type()))
    return to_bytes(table.append_column(HEADERS, headers))


def remove_strays(folder: Path, manifest: IndexManifest) -> None:
    """Remove files that a killed commit left, and replaced files; the caller holds the lock.

    Raises:
        BadInputError: There is a link, behind which files would be removed; nothing was.
    """
    refuse_links(folder)
    _remove_others(folder, manifest)


def _remove_others(folder: Path, manifest: IndexManifest) -> None:
    """Remove files of months that a manifest does not name."""
    named = {part.file for part in manifest.parts}
    for path in folder.glob("year=*/month=*/*"):
        if str(path.relative_to(folder)) not in named:
            path.unlink(missing_ok=True)
    for month in folder.glob("year=*/month=*"):
        _remove_if_empty(month)
        _remove_if_empty(month.parent)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _schema_of(folder: Path, manifest: IndexManifest) -> pa.Schema | None:
    """Columns of the items in an index's files, None if it has none."""
    if not manifest.parts:
        return None
    schema: pa.Schema = load(folder / manifest.parts[0].file, None).schema
    return schema.remove(schema.get_field_index(HEADERS))


def _kept_parts(old: Index, months: Mapping[str, Sequence[tuple[Key, Record]]]) -> dict[str, IndexFile]:
    """Files of months whose records did not change."""
    rows = {part.file: part for part in old.manifest.parts}
    kept = {}
    for month, members in months.items():
        files = {old.places.get(key, "") for key, record in members if record is old.records.get(key)}
        same = sum(record is old.records.get(key) for key, record in members)
        part = rows.get(files.pop()) if len(files) == 1 else None
        if part is not None and same == len(members) == part.rows:
            kept[month] = part
    return kept


def write_index_file(path: Path, records: Mapping[Key, Record]) -> None:
    """Store records as one file that is a catalog itself: GeoJSON or GeoParquet, depending on the suffix."""
    ordered = [record for _, record in sorted(records.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".json", ".geojson"):
        items = [record.item for record in ordered]
        write_whole(path, json.dumps({"type": "FeatureCollection", "features": items}).encode())
    else:
        write_whole(path, content_of(ordered))


def with_headers(records: Mapping[Key, Record], rows: Mapping[str, Row]) -> dict[Key, Record]:
    """Add headers to records; records without new headers remain identical objects.

    Args:
        records: The records.
        rows: Headers by address.
    """
    made = {}
    for key, record in records.items():
        hrefs = {asset["href"] for asset in record.item["assets"].values()}
        new = tuple(rows[href] for href in sorted(hrefs & rows.keys()))
        if new:
            kept = tuple(row for row in record.headers if row["href"] not in rows)
            made[key] = replace(record, headers=(*kept, *new))
        else:
            made[key] = record
    return made
