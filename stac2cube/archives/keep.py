"""Working data of a command on an archive: the items of its search, and the cubes that are done."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import shapely

from stac2cube.archives.archive import OWN_FOLDER, TileArchive
from stac2cube.model.catalog import ITEM, SIDES
from stac2cube.model.geoparquet import BBOX, TIME, metadata, microseconds_of, to_bytes
from stac2cube.model.scene import Item, time_of
from stac2cube.search.index_files import StoredItem
from stac2cube.search.items import item_text
from stac2cube.search.parsing import Notes
from stac2cube.search.search import MatchedItem, newest_of
from stac2cube.store.files import read_plain, write_whole
from stac2cube.trust.text import parse_json

# Items of a search.


class FoundItems:
    """The items of a search over an archive, kept in a temporary file, so that memory does not grow with their JSON.

    Some 300 bytes per item stay in memory: its key, its time of change in the catalog, and its offset in the file.
    An item is identified by its number, in the order in which items were added.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="stac2cube-items-")  # noqa: SIM115 - it lives as long as this object
        self._at_end = True
        self._numbers: dict[str, int] = {}
        self._keys: list[str] = []
        self._changes: list[str] = []
        self._times, self._offsets = array("q"), array("Q", [0])
        self._sizes, self._shapes = array("L"), array("L")

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, matched: MatchedItem, notes: Notes) -> int | None:
        """Add an item; it replaces one of the same collection and id if it is newer.

        Args:
            matched: The item, with its footprint.
            notes: Records items that occur twice with different times.

        Returns:
            Number of the item; None if the earlier one is kept.

        Raises:
            OSError: The disk for temporary files is full.
        """
        item = matched.item
        key = f"{item.get('collection') or ''}{_BREAK}{item['id']}"
        if key in self._numbers and (first := self.item(self._numbers[key])) is newest_of(first, item, notes):
            return None
        number = self._numbers[key] = len(self._keys)
        self._keys.append(key)
        properties = item["properties"]
        self._changes.append(" ".join(str(properties.get(name, "")) for name in ("updated", "created")))
        self._times.append(microseconds_of(time_of(item)))
        text = item_text(item).encode()
        packed, shape = pa.compress(text, codec=_CODEC, asbytes=True), shapely.to_wkb(matched.footprint)
        try:
            if not self._at_end:  # seeking flushes the buffer, which costs a system call per item
                self._file.seek(self._offsets[-1])
                self._at_end = True
            self._file.write(packed + shape)
        except OSError as error:
            place = f"{tempfile.gettempdir()}, where the items of a search are kept: set TMPDIR to another folder"
            raise OSError(error.errno, f"{error.strerror} in {place}") from error
        self._sizes.append(len(text))
        self._shapes.append(len(shape))
        self._offsets.append(self._offsets[-1] + len(packed) + len(shape))
        return number

    def kept(self, numbers: Iterable[int]) -> array[int]:
        """The given items without those that a later one replaced."""
        return array("L", (number for number in numbers if self._numbers[self._keys[number]] == number))

    def ids(self, numbers: Iterable[int]) -> list[str]:
        """Ids of some items."""
        return [self._keys[number].partition(_BREAK)[2] for number in numbers]

    def marks(self, numbers: Sequence[int]) -> list[str]:
        """Texts, one per item, that change when the catalog changes an item."""
        return [f"{name} {self._changes[number]}" for name, number in zip(self.ids(numbers), numbers, strict=True)]

    def item(self, number: int) -> Item:
        """An item as stored: unsigned, without links."""
        return StoredItem(self._read(number)[0])

    def write(self, path: Path, numbers: Iterable[int]) -> None:
        """Write some items as one GeoParquet file, which is a catalog by itself.

        It has only the columns that reading it again needs, and none per property: those would take several times as
        long for thousands of items as the search itself.

        Args:
            path: The file; replaced atomically if it exists.
            numbers: Numbers of the items.

        Raises:
            OSError: The disk is full.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_bytes(self._table(sorted(numbers, key=self._keys.__getitem__))))

    def _read(self, number: int) -> tuple[str, bytes]:
        """The JSON of an item, and its footprint as WKB."""
        begin, end = self._offsets[number], self._offsets[number + 1]
        self._at_end = False
        self._file.seek(begin)
        stored = self._file.read(end - begin)
        middle = len(stored) - self._shapes[number]
        text = pa.decompress(stored[:middle], self._sizes[number], codec=_CODEC, asbytes=True)
        return text.decode(), stored[middle:]

    def _table(self, numbers: Sequence[int]) -> pa.Table:
        read = [self._read(number) for number in numbers]
        shapes = [shape for _, shape in read]
        bounds = shapely.bounds(shapely.from_wkb(shapes)).reshape(-1, len(SIDES))
        collections = [self._keys[number].partition(_BREAK)[0] or None for number in numbers]
        columns = {
            "id": pa.array(self.ids(numbers), pa.string()),
            "geometry": pa.array(shapes, pa.binary()),
            "bbox": pa.StructArray.from_arrays([pa.array(side) for side in bounds.T], fields=list(BBOX)),
            "collection": pa.array(collections, pa.string()),
            "datetime": pa.array([self._times[number] for number in numbers], pa.int64()).cast(TIME),
            ITEM: pa.array([text for text, _ in read], pa.string()),
        }
        return pa.table(columns).replace_schema_metadata({"geo": metadata()["geo"]})


_BREAK = "\0"
"""Separator of collection and id in a key."""

_CODEC = "lz4"
"""Compresses an item's JSON to a third; costs a tenth of the time to parse it."""


# Cubes that are done.

LONGEST_PAUSE = 3 * 86400.0
"""Seconds after which a stopped command starts again from the first cube: the archive may have changed since."""


@dataclass(frozen=True)
class Journal:
    """Exit codes of a command by cube, written after each.

    Attributes:
        path: The file; it is removed when the last cube is done.
        codes: Exit codes by tile and product.
    """

    path: Path
    codes: dict[str, int]

    @classmethod
    def of(cls, archive: TileArchive, command: str, options: Mapping[str, str]) -> Journal:
        """Open the journal of a command with some options, with the cubes it has done if it was stopped.

        Args:
            archive: The archive.
            command: Name of the command.
            options: Its options; each set of options has a separate journal.
        """
        digits = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
        path = archive.folder / OWN_FOLDER / f"{command}-{digits}.json"
        try:
            if time.time() - path.stat().st_mtime > LONGEST_PAUSE:
                path.unlink()
            codes = {str(name): int(code) for name, code in parse_json(read_plain(path)).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            codes = {}
        return cls(path, codes)

    def has(self, name: str) -> bool:
        """Whether a cube is done."""
        return name in self.codes

    def add(self, name: str, code: int) -> None:
        """Record that a cube is done."""
        self.codes[name] = code
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps(self.codes).encode())

    def close(self) -> int:
        """Remove the journal, so that the next run begins with the first cube; returns the worst exit code."""
        self.path.unlink(missing_ok=True)
        return max(self.codes.values(), default=0)
