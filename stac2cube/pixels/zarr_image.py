"""Read windows of arrays in a Zarr store as images, with a cache of chunks shared by all blocks of a process."""

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

# Pixels: zarr decodes chunks; the latest are shared by all blocks of a process.

BYTES = "STAC2CUBE_CHUNK_BYTES"
"""Environment variable: most bytes of decoded chunks that a process holds."""

MOST = 1 << 30
"""Its default: the size of one chunk of 5,490 x 5,490 pixels for each of 16 bands."""

HELD_FOR = 300.0
"""Seconds for which a decoded chunk is used without checking for changes: blocks of one row follow each other soon, and
a process may live for days."""


class ChunkCache:
    """Cache of decoded chunks; shared by threads.

    If a thread is decoding a chunk, other threads that need it wait. Held chunks and chunks being decoded stay within
    the limit together, except for a single chunk larger than the limit.

    Args:
        most: Limit in bytes; None for the value of the environment variable.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._held: OrderedDict[Any, tuple[np.ndarray, float]] = OrderedDict()
        self._bytes, self._busy_bytes, self._busy = 0, 0, set[Any]()
        self._turn = threading.Condition()
        self.peak = 0
        """Most bytes that were held or being decoded at one time."""

    def get(self, name: Any, size: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """A chunk, not to be modified.

        Args:
            name: Unique key.
            size: Its size in bytes.
            make: Decodes it.

        Raises:
            OSError: The deadline passed while waiting.
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
"""The cache of this process."""


def _renew() -> None:
    """Renew the caches in a forked child: threads of its parent may have held the lock, or were decoding."""
    global CHUNKS, PACKED
    CHUNKS, PACKED = ChunkCache(), PackedChunks()
    _readers.cache_clear()
    _spare.cache_clear()


@cache
def _readers() -> ThreadPoolExecutor:
    """Threads for the chunks of a window after its first."""
    return ThreadPoolExecutor(16, thread_name_prefix="zarr-window")


os.register_at_fork(after_in_child=_renew)


class ZarrImage:
    """See :class:`stac2cube.model.image.Image`: one array of two dimensions, without overviews.

    Pixels are returned as stored: no scale or offset is applied. The no-data value is the mission's, whatever the
    array's fill value. Floating-point numbers are converted back to the counts that they were made from, see
    :class:`Packing`.

    Args:
        header: The header of the array.
        access: The store of the array.
        path: Path of the array in the store.
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
        """The array's grid."""
        return self.geobox

    def is_averaged(self, level: int) -> bool:  # noqa: ARG002 - there is none
        """False: the array has no overviews."""
        return False

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:  # noqa: ARG002 - it has one band and level
        """See :meth:`stac2cube.model.image.Image.read`.

        Raises:
            ChangedFileError: The array changed since its header was read.
            OSError: A chunk cannot be read.
            ReadError: A chunk is invalid.
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
        """Copy a chunk's part of a window."""
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


# If a small part of a chunk is needed, the chunk is unpacked into reused memory, and kept in its stored form. New
# memory for the unpacked chunk would cost more than unpacking it; so a chunk is cached unpacked only when a second part
# is needed.

_THIN = 0.25
"""Fraction of a chunk below which a part is small."""

_SMALLEST, _LARGEST = 2 << 20, 16 << 20
"""Range of chunk sizes in bytes to which this applies. Others cost too little, or too much to be unpacked twice."""


class PackedChunks:
    """Chunks in stored form, of which a small part was needed once; shared by threads.

    Args:
        most: Most bytes held; the oldest chunks are dropped.
    """

    def __init__(self, most: int = 128 << 20) -> None:
        self._most, self._bytes = most, 0
        self._held: OrderedDict[Any, tuple[memoryview, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(64)]

    def first(self, name: Any, fetch: Callable[[], memoryview | None]) -> memoryview | None:
        """A chunk for the first caller; None for later callers, and if the chunk is missing.

        Args:
            name: Unique key.
            fetch: Returns the chunk.
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
        """Remove and return a chunk that will be cached unpacked; None if it is not held, or was held too long."""
        with self._lock:
            data, since = self._held.pop(name, (None, 0.0))
            if data is not None:
                self._bytes -= data.nbytes
        return data if time.monotonic() - since <= HELD_FOR else None


PACKED = PackedChunks()
"""The stored chunks of this process."""


@contextmanager
def _memory(size: int) -> Iterator[np.ndarray]:
    """Reused memory of the given size; there is one buffer per core, so that threads may have to wait."""
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


# Counts of Sentinel-2, in EOPF stores.


@dataclass(frozen=True)
class Packing:
    """How a converter computes floating-point numbers from the counts of a product: ``count * scale + offset``.

    Attributes:
        scale: See above.
        offset: See above.
        dtype: Type of the counts.
    """

    scale: float
    offset: float
    dtype: str

    def counts(self, numbers: np.ndarray) -> np.ndarray:
        """Convert numbers back to counts.

        Args:
            numbers: ``(rows, columns)``, float32 or float64; NaN without data. The number for the count 0, which also
                means no data, becomes 0.

        Returns:
            ``(rows, columns)`` of the dtype, 0 without data.

        Raises:
            ReadError: A number matches no count, for example because it was resampled.
        """
        nothing = np.isnan(numbers)
        exact = (np.where(nothing, self.offset, numbers).astype("float64") - self.offset) / self.scale
        found = np.rint(exact)
        with np.errstate(invalid="ignore"):  # infinity matches no count either
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
"""By group: scale and offset that EOPF's converters declare for every product, also for those whose counts have no
offset (mappings of CPM 2.5.6 to 3.1.0), and that converters to GeoZarr apply."""

_EXACT = 0.02
"""Tolerance in counts between a converted number and a whole count: numbers of 32 bits deviate by 0.01 at most."""


def _packing_of(header: ZarrHeader, path: str) -> Packing | None:
    """The conversion of an array's numbers to counts; None if it holds counts, or its group is unknown.

    Raises:
        ReadError: Its values cannot be the counts of a product.
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
"""Cache of headers in this process."""


def read_array(lookup: HeaderLookup | None, asset: AssetRef, way: Opening, read: Callable[[Image, AssetRef], T]) -> T:
    """Apply a function to an array; if its metadata do not fit its chunks, read them anew and try again.

    Args:
        lookup: Lookup of already known headers.
        asset: The array.
        way: How it is opened.
        read: Takes the opened image and the asset; may be called a second time.

    Raises:
        OSError: It cannot be read.
        ReadError: It is not a supported array, or is damaged; the message names store, array and chunk.
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
    # From the array's own document: the consolidated metadata of the store may be older than the array.
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
"""Outdated headers of indexes: address and state."""
