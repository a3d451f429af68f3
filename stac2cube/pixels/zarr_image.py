"""Read arrays of a Zarr store as images: windows of them, from chunks that all blocks of a process share."""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from stac2cube.access.sign import Opening, unsigned
from stac2cube.errors import BadInputError, ReadError
from stac2cube.fastcog.ranges import ChangedFileError, HeaderLookup, KnownHeaders
from stac2cube.model.image import Image, Roi
from stac2cube.model.scene import AssetRef
from stac2cube.pixels.zarr_header import (
    GROUPS,
    STORES,
    ZarrHeader,
    attributes_in,
    documents_of,
    facts_of,
    fetch_header,
    unit_of,
)
from stac2cube.pixels.zarr_store import ArrayStore, DamagedChunkError, RememberedNames, StoreAccess, settle
from stac2cube.trust.deadline import left
from stac2cube.trust.text import printable

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

log = logging.getLogger(__name__)

T = TypeVar("T")

# Pixels: zarr decodes chunks; those decoded lately are shared by all blocks of a process.

BYTES = "STAC2CUBE_CHUNK_BYTES"
"""Environment variable: bytes of decoded chunks that a process holds at most."""

MOST = 1 << 30
"""The same where it is not set: chunks of 5,490 x 5,490 pixels of 16 bands have as much."""

HELD_FOR = 300.0
"""Seconds that a decoded chunk is taken for what it was when it was fetched: blocks of one row come soon after another,
and a process may live for days."""


class ChunkCache:
    """Chunks decoded lately, and being decoded; threads share it.

    A chunk that a thread is decoding is waited for by others that want the same one. What is held and what is being
    decoded stays within the bound together, but for a single chunk that is larger.

    Args:
        most: Bytes; None for what the environment says.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._held: OrderedDict[Any, tuple[np.ndarray, float]] = OrderedDict()
        self._bytes, self._busy_bytes, self._busy = 0, 0, set[Any]()
        self._turn = threading.Condition()
        self.peak = 0
        """Most bytes that were held and being decoded at a time."""

    def get(self, name: Any, size: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """A chunk, not to be written to.

        Args:
            name: Unique.
            size: Bytes that it has.
            make: Decodes it.

        Raises:
            OSError: It was not there in time.
        """
        most = self._most if self._most is not None else _most_bytes()
        with self._turn:
            if name in self._held and time.monotonic() - self._held[name][1] > HELD_FOR:
                self._bytes -= self._held.pop(name)[0].nbytes
            while name not in self._held and (name in self._busy or (self._busy and self._busy_bytes + size > most)):
                if left() <= 0:
                    raise OSError("it took too long")
                self._turn.wait(min(1.0, max(left(), 0.01)))
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name][0]
            self._busy.add(name)
            self._busy_bytes += size
            while self._held and self._bytes + self._busy_bytes > most:
                self._bytes -= self._held.popitem(last=False)[1][0].nbytes
            self.peak = max(self.peak, self._bytes + self._busy_bytes)
        made = None
        try:
            made = make()
            made.flags.writeable = False
            return made
        finally:
            with self._turn:
                self._busy.discard(name)
                self._busy_bytes -= size
                if made is not None and self._bytes + self._busy_bytes + made.nbytes <= most:
                    self._held[name] = made, time.monotonic()
                    self._bytes += made.nbytes
                self._turn.notify_all()

    def has(self, name: Any) -> bool:
        """Whether a chunk is held, or being decoded."""
        with self._turn:
            return name in self._held or name in self._busy


def _most_bytes() -> int:
    text = os.environ.get(BYTES)
    if not text:
        return MOST
    if not text.isascii() or not text.isdigit():
        raise BadInputError(f"{BYTES} should be a number of bytes, not {printable(text)!r}")
    return int(text)


CHUNKS = ChunkCache()
"""Those of this process."""


def _renew() -> None:
    """In a new child, whose parent's threads may have held the lock, or were decoding."""
    global CHUNKS, PACKED
    CHUNKS, PACKED = ChunkCache(), PackedChunks()
    _readers.cache_clear()
    _spare.cache_clear()


@cache
def _readers() -> ThreadPoolExecutor:
    """Threads that wait for chunks of one window beyond its first."""
    return ThreadPoolExecutor(16, thread_name_prefix="zarr-window")


os.register_at_fork(after_in_child=_renew)


class ZarrImage:
    """See :class:`stac2cube.model.image.Image`: one array of two dimensions, without overviews.

    Pixels are as they are stored: no scale and no offset is applied. Values without data are those of the mission,
    whatever the array calls its fill value. What was written as numbers with a point is brought back to the counts
    that it was made from, see :class:`Packing`.

    Args:
        header: What is known of it.
        access: The store that it lies in.
        path: Where it lies there.
    """

    bands = 1
    is_jpeg2000 = False
    quick = True
    nodata: float | None = None

    def __init__(self, header: ZarrHeader, access: StoreAccess, path: str) -> None:
        self.header, self.access, self.path = header, access, path
        self.geobox = header.geobox
        self.factors: list[int] = []
        self._packing = _packing_of(header, path)

    def geobox_of(self, level: int) -> GeoBox:  # noqa: ARG002 - there is one
        """Its lattice."""
        return self.geobox

    def is_averaged(self, level: int) -> bool:  # noqa: ARG002 - there is none
        """It has no overviews."""
        return False

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:  # noqa: ARG002 - it has one band and level
        """See :meth:`stac2cube.model.image.Image.read`.

        Raises:
            ChangedFileError: It is another array than the header describes.
            OSError: A chunk cannot be read.
            ReadError: A chunk is not what it should be.
        """
        layout = self.header.layout
        out = np.empty([part.stop - part.start for part in roi], layout.dtype)
        spans = [range(part.start // edge, -(-part.stop // edge)) for part, edge in zip(roi, layout.unit, strict=True)]
        places = [(down, across) for down in spans[0] for across in spans[1]]
        store = ArrayStore(
            self.access, facts_of(self.path, layout, self.header.state), documents_of(self.header.metadata)
        )

        def one(place: tuple[int, int]) -> None:
            self._paste(store, place, roi, out)

        others = [_readers().submit(one, place) for place in places[1:]]
        for place in places[:1]:
            one(place)
        for other in others:
            other.result()
        return self._packing.counts(out) if self._packing else out

    def _paste(self, store: ArrayStore, place: tuple[int, int], roi: Roi, out: np.ndarray) -> None:
        """Copy what a chunk has of a window."""
        layout = self.header.layout
        name = (self.access.way.location, self.path, self.header.state, place)
        taken, given = [], []
        for wanted, number, edge, whole in zip(roi, place, layout.unit, layout.shape, strict=True):
            corner, end = number * edge, min((number + 1) * edge, whole)
            first, last = max(wanted.start, corner), min(wanted.stop, end)
            taken.append(slice(first - corner, last - corner))
            given.append(slice(first - wanted.start, last - wanted.start))
        part, share = out[tuple(given)], math.prod(one.stop - one.start for one in taken) / math.prod(layout.unit)
        if layout.plain and share < _THIN and _SMALLEST <= layout.unpacked <= _LARGEST and not CHUNKS.has(name):
            data = PACKED.first(name, lambda: store.chunk(layout.key(place)))
            if data is not None:
                with _memory(layout.unpacked) as memory:
                    part[...] = unit_of(store, layout, place, data, memory)[tuple(taken)]
                return
        chunk = CHUNKS.get(name, layout.unpacked, lambda: unit_of(store, layout, place, PACKED.take(name)))
        part[...] = chunk[tuple(taken)]


# A small part of a chunk that nobody else may want: the chunk is unpacked into memory that is used again and again, and
# kept as it is stored. New memory for all that it holds would cost more than unpacking it; so only who wants another
# part of it has it unpacked to stay.

_THIN = 0.25
"""Less of a chunk than this is a small part."""

_SMALLEST, _LARGEST = 2 << 20, 16 << 20
"""Bytes of chunks of which that holds. Others cost too little, or too much to be unpacked twice."""


class PackedChunks:
    """Chunks as they are stored, of which a small part was wanted once; threads share it.

    Args:
        most: Bytes held; the oldest are forgotten.
    """

    def __init__(self, most: int = 128 << 20) -> None:
        self._most, self._bytes = most, 0
        self._held: OrderedDict[Any, tuple[memoryview, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(64)]

    def first(self, name: Any, fetch: Callable[[], memoryview | None]) -> memoryview | None:
        """A chunk for who is the first to want it; None for others, and where it is not there.

        Args:
            name: Unique.
            fetch: Gives the chunk.
        """
        with self._fetching[hash(name) % len(self._fetching)]:
            with self._lock:
                if name in self._held:
                    return None
            data = fetch()
            if data is not None:
                with self._lock:
                    self._held[name] = data, time.monotonic()
                    self._bytes += data.nbytes
                    while self._bytes > self._most and len(self._held) > 1:
                        self._bytes -= self._held.popitem(last=False)[1][0].nbytes
            return data

    def take(self, name: Any) -> memoryview | None:
        """A chunk for who unpacks it to stay; None if it is not held, or for too long."""
        with self._lock:
            data, since = self._held.pop(name, (None, 0.0))
            if data is not None:
                self._bytes -= data.nbytes
        return data if time.monotonic() - since <= HELD_FOR else None


PACKED = PackedChunks()
"""Those of this process."""


@contextmanager
def _memory(size: int) -> Iterator[np.ndarray]:
    """Memory of so many bytes, for a while; there is as much of it as there are cores, so that some wait for others."""
    spare = _spare()
    memory = spare.get()
    try:
        if len(memory) < size:
            memory = np.empty(size, "uint8")
        yield memory[:size]
    finally:
        spare.put(memory)


@cache
def _spare() -> queue.LifoQueue[np.ndarray]:
    spare: queue.LifoQueue[np.ndarray] = queue.LifoQueue()
    for _ in range(os.cpu_count() or 1):
        spare.put(np.empty(0, "uint8"))
    return spare


# Counts of Sentinel-2, in stores of EOPF.


@dataclass(frozen=True)
class Packing:
    """How a converter makes numbers with a point of the counts of a product: ``count * scale + offset``.

    Attributes:
        scale: See above.
        offset: See above.
        dtype: Of the counts.
    """

    scale: float
    offset: float
    dtype: str

    def counts(self, numbers: np.ndarray) -> np.ndarray:
        """The counts from which numbers were made.

        Args:
            numbers: ``(rows, columns)``, float32 or float64; NaN without data. What the converter made of the count 0,
                which means no data, too, comes back as 0.

        Returns:
            ``(rows, columns)`` of the dtype, 0 without data.

        Raises:
            ReadError: A number is none that a count gives, as where it was resampled.
        """
        nothing = np.isnan(numbers)
        exact = (np.where(nothing, self.offset, numbers).astype("float64") - self.offset) / self.scale
        found = np.rint(exact)
        with np.errstate(invalid="ignore"):  # infinity is none either
            wrong = ~(np.abs(exact - found) <= _EXACT) | (found < 0) | (found > np.iinfo(self.dtype).max)
        if wrong.any():
            value = float(numbers[wrong][0])
            raise ReadError(f"its number {value:.9g} is that of no count of Sentinel-2: it was made anew or resampled")
        return found.astype(self.dtype)


PACKINGS = {
    "measurements/reflectance/": Packing(1e-4, -0.1, "uint16"),
    "quality/atmosphere/": Packing(1e-3, 0.0, "uint16"),
    "conditions/mask/l2a_classification/": Packing(1.0, 0.0, "uint8"),
}
"""By group: scale and offset that EOPF's converters declare of every product, also of those whose counts have no offset
(mappings of CPM 2.5.6 to 3.1.0), and that converters to GeoZarr apply."""

_EXACT = 0.02
"""How far from a whole number a count may come back, in counts: numbers of 32 bits miss it by 0.01 at most."""


def _packing_of(header: ZarrHeader, path: str) -> Packing | None:
    """How numbers of an array become counts again; None where it holds counts, or what is not known here.

    Raises:
        ReadError: It holds what cannot be the counts of a product.
    """
    packing = next((one for group, one in PACKINGS.items() if path.startswith(group)), None)
    if np.dtype(header.layout.dtype).kind == "f":
        return packing
    scale = attributes_in(header.metadata).get("scale_factor")
    if packing is not None and isinstance(scale, (int, float)) and abs(scale - packing.scale) > 1e-9:
        raise ReadError(f"array {path} declares a scale of {scale}, where Sentinel-2 has {packing.scale:g}")
    return None


# Opening an array.

_ARRAYS: KnownHeaders[ZarrHeader, tuple[StoreAccess, str]] = KnownHeaders(
    lambda href, place: fetch_header(href, *place)
)
"""Headers of arrays that this process has seen."""


def read_array(lookup: HeaderLookup | None, asset: AssetRef, way: Opening, read: Callable[[Image, AssetRef], T]) -> T:
    """What a function makes of an array; again with its metadata read anew if these do not fit its chunks.

    Args:
        lookup: Where its header may be known already.
        asset: The array.
        way: To it.
        read: Takes the array, opened; may be called a second time.

    Raises:
        OSError: It cannot be read.
        ReadError: It is none that is read here, or is damaged; the message names store, array and chunk.
    """
    access, path = StoreAccess.of(way)
    known = lookup(asset.href) if lookup else None
    if not isinstance(known, ZarrHeader) or not known.state.is_certain or STALE.has((asset.href, known.state)):
        known = _ARRAYS.get(asset.href, (access, path))
    try:
        return read(ZarrImage(known, access, path), asset)
    except (ChangedFileError, DamagedChunkError) as error:
        log.info("%s: %s: its metadata are read anew", unsigned(asset.href), error)
    STORES.forget(access.way.location)
    GROUPS.forget(f"{access.way.location}/{path.rpartition('/')[0]}")
    # From the array's own document: what the store says of all its arrays may be older than they are.
    fresh = fetch_header(asset.href, access, path, own=True)
    store = ZarrImage(fresh, access, path)
    if fresh.metadata == known.metadata and fresh.transform == known.transform:
        settle(access, path, known.state)
    else:
        STALE.add((asset.href, known.state))
    settle(access, path, fresh.state)
    _ARRAYS.keep(asset.href, fresh)
    return read(store, asset)


STALE = RememberedNames()
"""Headers that an index keeps and that are no longer true: address and state."""
