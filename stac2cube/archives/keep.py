"""What a command on an archive keeps: the items of its search, and which cubes it has done."""

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

# Items of a search.


class FoundItems:
    """The items of a search over an archive: in a temporary file, so that memory does not grow with their JSON.

    Of each item some 300 bytes stay in memory: its key, when its catalog changed it, and where it stands in the file.
    An item is known by its number, in the order in which items came.
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
        """Take an item in; it replaces one of the same collection and id if it is newer.

        Args:
            matched: The item, and where it lies.
            notes: Told of an item that is there twice with other times.

        Returns:
            Its number; None if the one that came before is kept.

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
            if not self._at_end:  # to seek empties the buffer, which is a call of the system per item
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
        """Those of some items that no later one replaced."""
        return array("L", (number for number in numbers if self._numbers[self._keys[number]] == number))

    def ids(self, numbers: Iterable[int]) -> list[str]:
        """Ids of some items."""
        return [self._keys[number].partition(_BREAK)[2] for number in numbers]

    def marks(self, numbers: Sequence[int]) -> list[str]:
        """What changes when a catalog tells an item otherwise, of some items."""
        return [f"{name} {self._changes[number]}" for name, number in zip(self.ids(numbers), numbers, strict=True)]

    def item(self, number: int) -> Item:
        """An item as it was stored: unsigned, without links."""
        return StoredItem(self._read(number)[0])

    def write(self, path: Path, numbers: Iterable[int]) -> None:
        """Write some items as one GeoParquet file, which is a catalog by itself.

        It has what reading it again takes, and no column per property: to write those for thousands of items takes
        several times as long as to find the items.

        Args:
            path: The file; replaced whole if it exists.
            numbers: Of the items.

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
"""Between collection and id in a key."""

_CODEC = "lz4"
"""Makes a third of an item's JSON; it costs a tenth of parsing it."""


# Cubes that are done.

LONGEST_PAUSE = 3 * 86400.0
"""Seconds after which a command that was stopped begins anew: what it found may have changed since."""


@dataclass(frozen=True)
class Journal:
    """Exit codes of a command by cube, written after each.

    Attributes:
        path: The file; it is removed when the last cube is done.
        codes: By tile and product.
    """

    path: Path
    codes: dict[str, int]

    @classmethod
    def of(cls, archive: TileArchive, command: str, options: Mapping[str, str]) -> Journal:
        """The journal of a command with some options: what it has done already if it was stopped.

        Args:
            archive: The archive.
            command: Name of the command.
            options: With other options it is another command.
        """
        digits = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
        path = archive.folder / OWN_FOLDER / f"{command}-{digits}.json"
        try:
            if time.time() - path.stat().st_mtime > LONGEST_PAUSE:
                path.unlink()
            codes = {str(name): int(code) for name, code in json.loads(read_plain(path)).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            codes = {}
        return cls(path, codes)

    def has(self, name: str) -> bool:
        """Whether a cube is done."""
        return name in self.codes

    def add(self, name: str, code: int) -> None:
        """Write that a cube is done."""
        self.codes[name] = code
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps(self.codes).encode())

    def close(self) -> int:
        """The worst exit code of all cubes; the next run begins with the first."""
        self.path.unlink(missing_ok=True)
        return max(self.codes.values(), default=0)
