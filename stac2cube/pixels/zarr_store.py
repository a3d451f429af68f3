"""Read objects of a foreign Zarr store, on a disk or over a network, by the access rules of this project.

zarr-python decodes, and requests data from an :class:`ArrayStore`: documents that are known already, and chunks, which
are fetched with the time limits, keys and access checks that apply to all files. zarr treats a missing chunk as pixels
without data; here that holds only if the array declares a fill value and has other chunks.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from stac2cube.access.sign import Opening
from stac2cube.errors import ReadError
from stac2cube.fastcog.header import UnusualFileError
from stac2cube.fastcog.ranges import ChangedFileError, RemoteParts, State, TooLargeError, remote_file
from stac2cube.model.scene import split_store
from stac2cube.store.staging import slow_pipeline
from stac2cube.trust.deadline import left

A = TypeVar("A")
B = TypeVar("B")

AT_ONCE = 32
"""Number of chunks that one process fetches at the same time."""


class DamagedChunkError(ReadError):
    """A chunk does not match the array's metadata; the message names store, array and chunk."""


@dataclass(frozen=True)
class StoreAccess:
    """Access to the objects of one store.

    Attributes:
        name: The store's own name, for messages.
        way: How the store is opened; its location ends without a slash.
        query: Query string of every address, with the question mark; "" on disks.
    """

    name: str
    way: Opening
    query: str = ""

    @classmethod
    def of(cls, way: Opening) -> tuple[StoreAccess, str]:
        """The store of an array, and the array's path in it.

        Args:
            way: How the array is opened.

        Raises:
            ReadError: Its address is not that of an array in a store, or leads out of the store.
        """
        prefix = next((kind for kind in ("/vsicurl/", "/vsis3/") if way.location.startswith(kind)), "")
        plain, mark, query = way.location.removeprefix(prefix).partition("?" if prefix == "/vsicurl/" else "\0")
        found = split_store(plain)
        path = unquote(found[1]) if found and prefix else found[1] if found else ""
        if not found or any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path:
            raise ReadError("it names no array within a Zarr store")
        store = replace(way, location=prefix + found[0])
        return cls(found[0].rpartition("/")[2], store, mark + query), path

    def whole(self, key: str, most: int) -> tuple[memoryview, State]:
        """Read an object, and its state.

        Args:
            key: Its name in the store.
            most: Largest size allowed, in bytes.

        Raises:
            FileNotFoundError: It does not exist.
            OSError: It cannot be read, or is larger.
            ReadError: Access to it is refused, or not possible from here.
        """
        if not self.way.remote:
            return self._local(key, 0, None, most)
        return self._remote(lambda parts: parts.whole(most), key)

    def part(self, key: str, first: int, last: int) -> tuple[memoryview, State]:
        """Read the bytes of an object from ``first`` to before ``last``; raises as :meth:`whole`."""
        if not self.way.remote:
            return self._local(key, first, last, last - first)
        return self._remote(lambda parts: (parts.read([(first, last)], State(0, "", 0))[0], State(0, "", 0)), key)

    def end(self, key: str, count: int) -> tuple[memoryview, State]:
        """Read the last bytes of an object; raises as :meth:`whole`."""
        if not self.way.remote:
            return self._local(key, -count, None, count)
        return self._remote(lambda parts: parts.last(count), key)

    def has(self, key: str) -> bool:
        """Whether an object exists; raises as :meth:`whole`, except for a missing object."""
        try:
            if self.way.remote:
                self._remote(lambda parts: parts.first(1), key)
            else:
                self._local(key, 0, 1, 1)
        except FileNotFoundError:
            return False
        return True

    def _remote(self, ask: Callable[[RemoteParts], tuple[memoryview, State]], key: str) -> tuple[memoryview, State]:
        try:
            parts = remote_file(replace(self.way, location=f"{self.way.location}/{key}{self.query}"))
            assert isinstance(parts, RemoteParts)
            return ask(parts)
        except UnusualFileError as error:
            # There is no other reader of stores to fall back to.
            raise ReadError(f"{key} of {self.name}: {error}") from None

    def _local(self, key: str, first: int, last: int | None, most: int) -> tuple[memoryview, State]:
        """Read from a disk: a regular file within the store, also through a link within it."""
        path = f"{self.way.location}/{key}"
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.way.location)):
            raise ReadError(f"{key} of {self.name} is a link that leads out of the store")
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError(f"{key} is no plain file")
            begin = max(status.st_size + first, 0) if first < 0 else first
            stop = status.st_size if last is None else last
            if stop - begin > max(most, 0) or begin > status.st_size:
                raise TooLargeError(f"{stop - begin} bytes are wanted of {status.st_size}, and may be {most}")
            return memoryview(os.pread(handle, stop - begin, begin)), State(status.st_size, "", status.st_mtime_ns)
        finally:
            os.close(handle)


@cache
def _fetchers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="zarr-chunk")


def both(one: Callable[[], A], other: Callable[[], B]) -> tuple[A, B]:
    """Results of two simultaneous requests; if both fail, the error of the first is raised.

    Args:
        one: Called by this thread.
        other: Called by a separate thread, which is not waited for if ``one`` fails.
    """
    # Not by the threads that fetch chunks: requests may wait for them.
    pool = ThreadPoolExecutor(1, thread_name_prefix="zarr-document")
    try:
        second = pool.submit(other)
        return one(), second.result()
    finally:
        pool.shutdown(wait=False)


@dataclass(frozen=True)
class ArrayFacts:
    """Facts needed to fetch the chunks of an array.

    Attributes:
        path: The array's path in its store.
        state: State of the document with its metadata.
        names: Returns the names of all its chunks or shards, relative to its path.
        may_lack: Whether a missing chunk means pixels of the array's fill value.
        most: Most bytes of a stored chunk.
        unpacked: Bytes of an unpacked chunk.
        compressor: Compressor of chunks; frames of ``"blosc"``, ``"zstd"`` and ``"lz4"`` declare their unpacked size.
        sharded: Whether objects are shards.
        index_first: Whether the index of a shard is at its beginning.
    """

    path: str
    state: State
    names: Callable[[], Iterable[str]]
    may_lack: bool
    most: int
    unpacked: int
    compressor: str = ""
    sharded: bool = False
    index_first: bool = False


class ArrayStore(Store):
    """One array, read-only, as a store for zarr.

    Args:
        access: The store of the array.
        facts: Facts of the array.
        documents: Its metadata documents by name, as bytes.
    """

    def __init__(self, access: StoreAccess, facts: ArrayFacts, documents: Mapping[str, bytes]) -> None:
        super().__init__(read_only=True)
        self.access, self.facts = access, facts
        self.documents = dict(documents)
        self._until = time.monotonic() + min(left(), 1e9)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """See :meth:`zarr.abc.store.Store.get`.

        Raises:
            OSError: The chunk cannot be read.
            ReadError: It is invalid.
            ChangedFileError: The array changed after its metadata were read.
        """
        data: Any = self.documents.get(key)
        if data is None:
            if key.rpartition("/")[2] in METADATA:
                return None
            data = await asyncio.get_running_loop().run_in_executor(_fetchers(), self.chunk, key, byte_range)
            if data is None:
                return None
        return (prototype or default_buffer_prototype()).buffer.from_array_like(np.frombuffer(data, "uint8"))

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """The array, opened from its documents.

        Raises:
            ValueError: Its metadata are invalid (also TypeError, KeyError).
        """
        with slow_pipeline():
            return zarr.open_array(self, mode="r", zarr_format=2 if ".zarray" in self.documents else 3)

    def name_of(self, key: str) -> str:
        """Description of a chunk for messages."""
        return f"chunk {key} of array {self.facts.path} in {self.access.name}"

    def chunk(self, key: str, wanted: ByteRequest | None = None) -> memoryview | None:
        """A chunk or shard as stored, or bytes of it; None if it is missing and means the fill value.

        Raises:
            OSError: It cannot be read.
            ReadError: It is invalid.
            ChangedFileError: The array changed after its metadata were read.
        """
        if time.monotonic() > self._until:
            raise OSError("it took too long")
        try:
            data, state = self._fetch(key, wanted)
        except FileNotFoundError as error:
            self._require_fill(key, error)
            return None
        except ReadError as error:
            raise ReadError(f"{self.name_of(key)}: {error}") from None
        except TooLargeError as error:
            raise DamagedChunkError(f"{self.name_of(key)} is damaged: {error}") from None
        except OSError as error:
            raise type(error)(f"{self.name_of(key)}: {error.strerror or error}") from None
        if 0 < self.facts.state.modified < state.modified and not _SETTLED.has(self._whole_name()):
            self._settle(key)
        _SEEN.add(self._whole_name())
        if problem := self._problem(data, wanted):
            raise DamagedChunkError(f"{self.name_of(key)} is damaged: {problem}")
        return data

    def _fetch(self, key: str, wanted: ByteRequest | None) -> tuple[memoryview, State]:
        name = f"{self.facts.path}/{key}"
        if wanted is None:
            return self.access.whole(name, self.facts.most)
        if isinstance(wanted, RangeByteRequest):
            if not 0 <= wanted.start < wanted.end <= wanted.start + self.facts.most:
                raise TooLargeError(f"bytes {wanted.start} to {wanted.end} are no chunk")
            if wanted.start or not self.facts.index_first:
                return self.access.part(name, wanted.start, wanted.end)
            return _INDEXES.of((self._whole_name(), key, wanted.end), lambda: self.access.part(name, 0, wanted.end))
        if isinstance(wanted, SuffixByteRequest):
            # The index of a shard, which is needed again for each of its chunks.
            return _INDEXES.of((self._whole_name(), key, -wanted.suffix), lambda: self.access.end(name, wanted.suffix))
        assert isinstance(wanted, OffsetByteRequest)
        whole, state = self.access.whole(name, self.facts.most)
        return whole[wanted.offset :], state

    def _settle(self, key: str) -> None:
        """Check that the metadata still apply to a chunk that is younger than they are.

        Before the first chunk of an array is used, it suffices that the array's own document is the same.

        Raises:
            ChangedFileError: They may not apply.
        """
        if not _SEEN.has(self._whole_name()):
            name = "zarr.json" if "zarr.json" in self.documents else ".zarray"
            try:
                said = json.loads(bytes(self.access.whole(f"{self.facts.path}/{name}", _MOST_DOCUMENT)[0]))
            except (ValueError, OSError):
                said = None
            if isinstance(said, dict) and _bare(said) == _bare(json.loads(self.documents[name])):
                _SETTLED.add(self._whole_name())
                return
        raise ChangedFileError(f"{self.name_of(key)} is younger than the metadata that are known of it")

    def _whole_name(self) -> tuple[str, str, State]:
        return self.access.way.location, self.facts.path, self.facts.state

    def _require_fill(self, key: str, error: OSError) -> None:
        """Check that a missing chunk means pixels of the fill value.

        Raises:
            FileNotFoundError: It does not.
        """
        reason = error.strerror or error
        if not self.facts.may_lack:
            raise FileNotFoundError(
                f"{self.name_of(key)} is missing, and the array declares no fill value for such: {reason}"
            )
        if not _SEEN.has(self._whole_name()):
            if not any(self.access.has(f"{self.facts.path}/{other}") for other in self.facts.names() if other != key):
                raise FileNotFoundError(
                    f"{self.name_of(key)} is missing, as are all chunks of this array: it is no array without data, "
                    f"but none that is there: {reason}"
                )
            _SEEN.add(self._whole_name())

    def _problem(self, data: memoryview, wanted: ByteRequest | None) -> str:
        """Why a chunk is invalid, judged by the unpacked size in its header; "" if it is not.

        In shards the inner chunks are checked; shards as a whole and their indexes have no such header.
        """
        if (wanted is None) == self.facts.sharded or isinstance(wanted, SuffixByteRequest):
            return ""
        if isinstance(wanted, RangeByteRequest) and self.facts.index_first and wanted.start == 0:
            return ""
        size = unpacked_size(self.facts.compressor, data)
        if size is None or size == self.facts.unpacked:
            return ""
        return f"it unpacks to {size} bytes, and the array's metadata say {self.facts.unpacked}"

    def __eq__(self, other: object) -> bool:
        """Whether both read the same array in the same state."""
        return isinstance(other, ArrayStore) and self._whole_name() == other._whole_name()

    __hash__ = None  # type: ignore[assignment] # as zarr's own

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """See :meth:`zarr.abc.store.Store.get_partial_values`."""
        return list(await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether a document is known; chunks are always requested."""
        return key in self.documents

    supports_writes = supports_deletes = supports_listing = False

    async def set(self, key: str, value: Buffer) -> None:
        """Not supported: the store is read-only."""
        raise NotImplementedError(key)

    async def delete(self, key: str) -> None:
        """Not supported: the store is read-only."""
        raise NotImplementedError(key)

    async def list(self) -> AsyncIterator[str]:
        """Yield nothing."""
        for key in list[str]():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # noqa: ARG002 - nothing is listed
        """Yield nothing."""
        for key in list[str]():
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # noqa: ARG002 - nothing is listed
        """Yield nothing."""
        for key in list[str]():
            yield key


_MOST_DOCUMENT = 1 << 22
"""Most bytes of an array's metadata; some thousand are usual."""


def _bare(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of an array without the parts that do not affect the storage of its chunks."""
    return {key: part for key, part in metadata.items() if key not in ("attributes", "consolidated_metadata")}


METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
"""Names of the documents of a store (Zarr 2 and 3)."""


def unpacked_size(compressor: str, data: memoryview) -> int | None:
    """Unpacked size that a frame declares, in bytes, to check it before memory is allocated; None if it declares none.

    Sources: the header of c-blosc 1 (README_CHUNK_FORMAT), bytes 4 to 8; RFC 8878, section 3.1.1.1, for zstd.

    Args:
        compressor: ``"blosc"``, ``"zstd"`` or ``"lz4"``; numcodecs prepends the size to frames of lz4.
        data: The frame.
    """
    if compressor == "blosc" and len(data) >= 16:
        return int.from_bytes(data[4:8], "little")
    if compressor == "lz4" and len(data) >= 4:
        return int.from_bytes(data[:4], "little")
    if compressor != "zstd" or len(data) < 14 or bytes(data[:4]) != b"\x28\xb5\x2f\xfd":
        return None
    flags = data[4]
    single = flags >> 5 & 1
    width = (single, 2, 4, 8)[flags >> 6]
    first = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    return int.from_bytes(data[first : first + width], "little") + (256 if width == 2 else 0) if width else None


class RememberedNames:
    """A bounded set of names that drops the oldest; may be shared by threads."""

    def __init__(self, most: int = 65_536) -> None:
        self._names: OrderedDict[Any, None] = OrderedDict()
        self._most, self._lock = most, Lock()

    def add(self, name: Any) -> None:
        """Add a name."""
        with self._lock:
            self._names[name] = None
            while len(self._names) > self._most:
                self._names.popitem(last=False)

    def has(self, name: Any) -> bool:
        """Whether a name is in the set."""
        with self._lock:
            return name in self._names


_SEEN = RememberedNames()
"""Arrays of which at least one chunk was found."""

_SETTLED = RememberedNames()
"""Arrays whose chunks are younger than their metadata, although the metadata, read again, still apply."""


def settle(access: StoreAccess, path: str, state: State) -> None:
    """Accept chunks of an array that are younger than its metadata.

    Args:
        access: The store.
        path: Path of the array in the store.
        state: State of the document with its metadata.
    """
    _SETTLED.add((access.way.location, path, state))


class _Indexes:
    """Bounded cache of the indexes of shards, which drops the oldest; may be shared by threads."""

    def __init__(self, most: int = 1024) -> None:
        self._held: OrderedDict[Any, tuple[memoryview, State]] = OrderedDict()
        self._most, self._lock = most, Lock()

    def of(self, name: Any, fetch: Callable[[], tuple[memoryview, State]]) -> tuple[memoryview, State]:
        with self._lock:
            found = self._held.get(name)
        if found is None:
            found = fetch()
            with self._lock:
                self._held[name] = found
                while len(self._held) > self._most:
                    self._held.popitem(last=False)
        return found


_INDEXES = _Indexes()


# A child process does not have the threads of its parent.
os.register_at_fork(after_in_child=_fetchers.cache_clear)
