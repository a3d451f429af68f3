"""Read arrays of a Zarr store (versions 2 and 3, sharded or not) as images: metadata, lattice, windows, shared chunks."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import numpy as np
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox

from stac2cube.access.sign import Opening, unsigned
from stac2cube.errors import BadInputError, ReadError
from stac2cube.fastcog.ranges import ChangedFileError, HeaderLookup, KnownHeaders, State
from stac2cube.model.geometry import crs_name, parse_crs
from stac2cube.model.image import Image, Roi
from stac2cube.model.scene import AssetRef
from stac2cube.pixels.zarr_store import ArrayFacts, ArrayStore, DamagedChunkError, StoreAccess
from stac2cube.store.staging import slow_pipeline
from stac2cube.trust.deadline import left
from stac2cube.trust.text import printable

log = logging.getLogger(__name__)

T = TypeVar("T")
Json = Mapping[str, Any]

# What an array is: its metadata, checked before anything is made of them.

MOST_DOCUMENT = 64 << 20
"""Bytes of a metadata document; consolidated ones of EOPF have half a million."""

MOST_CHUNK = 1 << 30
"""Bytes that a chunk may unpack to: the largest seen have 10,980 x 10,980 pixels of 2 bytes."""

_CODECS = {"bytes", "blosc", "zstd", "gzip", "crc32c", "transpose", "sharding_indexed"}
"""Codecs of Zarr 3 that are read."""

_COMPRESSORS = {"blosc", "zstd", "gzip", "zlib", "lz4"}
"""Compressors of Zarr 2 that are read."""

_KNOWN_KEYS = {
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
    *("attributes", "dimension_names", "storage_transformers", "consolidated_metadata"),
}
"""Keys of the metadata of an array in Zarr 3; others may ask readers to refuse the array (specification, 3.1)."""

_TYPES = re.compile(r"u?int(8|16|32|64)|float(32|64)")


@dataclass(frozen=True)
class ZarrLayout:
    """How the pixels of an array are kept.

    Attributes:
        shape: Pixels along each axis.
        unit: Pixels along each axis of what is decoded together: a chunk, or within shards an inner chunk.
        outer: The same of what is one object of the store: a chunk or a shard.
        dtype: NumPy name, ``"uint16"``.
        may_lack: Whether a chunk that is not there means pixels of the fill value.
        compressor: See :class:`stac2cube.pixels.zarr_store.ArrayFacts`.
        separator: Between the numbers in the name of a chunk.
        prefix: Before them: ``"c/"`` in Zarr 3.
    """

    shape: tuple[int, ...]
    unit: tuple[int, ...]
    outer: tuple[int, ...]
    dtype: str
    may_lack: bool
    compressor: str
    separator: str
    prefix: str

    @classmethod
    def of(cls, metadata: Json, dimensions: int) -> ZarrLayout:
        """From the metadata of an array, ``.zarray`` with its attributes as ``attributes``, or ``zarr.json``.

        Args:
            metadata: As parsed JSON.
            dimensions: How many the array should have.

        Raises:
            ReadError: It is no such array, or one with what is not read here, which it names.
        """
        try:
            made = cls._of_2(metadata) if metadata.get("zarr_format") == 2 else cls._of_3(metadata)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReadError(f"its Zarr metadata cannot be understood: {type(error).__name__} {error}") from None
        if len(made.shape) != dimensions or not len(made.shape) == len(made.unit) == len(made.outer):
            raise ReadError(f"it is an array of {len(made.shape)} dimensions, and not of {dimensions}")
        if min(made.shape) < 1 or min(made.unit) < 1 or max(made.shape) > 1 << 24:
            raise ReadError(f"its Zarr metadata cannot be understood: shape {made.shape}, chunks {made.unit}")
        if made.unpacked > MOST_CHUNK:
            raise ReadError(f"its chunks have {made.unpacked} bytes, and {MOST_CHUNK} are the most that are read")
        if any(whole % part for whole, part in zip(made.outer, made.unit, strict=True)):
            raise ReadError(f"its shards of {made.outer} pixels hold no whole chunks of {made.unit}")
        names = metadata.get("dimension_names") or metadata.get("attributes", {}).get("_ARRAY_DIMENSIONS")
        if dimensions == 2 and names and list(names) not in (["y", "x"], ["lat", "lon"], ["latitude", "longitude"]):
            raise ReadError(f"its dimensions are {printable(str(names))}, and not y and x")
        return made

    @classmethod
    def _of_2(cls, metadata: Json) -> ZarrLayout:
        shape, chunks = (tuple(map(int, metadata[key])) for key in ("shape", "chunks"))
        compressor = metadata.get("compressor")
        kind = str(compressor["id"]) if compressor else ""
        if kind and kind not in _COMPRESSORS:
            raise ReadError(f"its chunks are compressed by {printable(kind)!r}, which is not read")
        if metadata.get("filters"):
            raise ReadError("its chunks went through filters, which are not read")
        code = str(metadata["dtype"])
        if not re.fullmatch(r"[<>|=][uif][1248]", code):
            raise ReadError(f"it holds {printable(code)!r}, and no numbers that are read")
        separator = str(metadata.get("dimension_separator") or ".")
        size = kind if kind in ("blosc", "zstd") else ""
        dtype = np.dtype(code).newbyteorder("=").name
        return cls(shape, chunks, chunks, dtype, metadata.get("fill_value") is not None, size, separator, "")

    @classmethod
    def _of_3(cls, metadata: Json) -> ZarrLayout:
        if metadata.get("zarr_format") != 3 or metadata.get("node_type") != "array":
            raise ReadError("it is no array of Zarr 2 or 3")
        for key in metadata.keys() - _KNOWN_KEYS:
            part = metadata[key]
            if not (isinstance(part, Mapping) and part.get("must_understand") is False):
                raise ReadError(f"its Zarr metadata have an extension {printable(key)!r}, which is not known")
        if metadata.get("storage_transformers"):
            raise ReadError("its Zarr metadata name storage transformers, which are not read")
        kind = metadata["data_type"]
        if not isinstance(kind, str) or not _TYPES.fullmatch(kind):
            raise ReadError(f"it holds {printable(str(kind))!r}, and no numbers that are read")
        grid, naming = metadata["chunk_grid"], metadata["chunk_key_encoding"]
        if grid["name"] != "regular" or naming["name"] not in ("default", "v2"):
            raise ReadError(
                f"its chunks are laid out by {printable(str((grid['name'], naming['name'])))}, unknown here"
            )
        _require_codecs(metadata["codecs"])
        outer = tuple(map(int, grid["configuration"]["chunk_shape"]))
        codecs = list(metadata["codecs"])
        sharded = len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed"
        unit = tuple(map(int, codecs[0]["configuration"]["chunk_shape"])) if sharded else outer
        last = codecs[-1]["name"]
        old = naming["name"] == "v2"
        separator = str(naming.get("configuration", {}).get("separator") or ((old and ".") or "/"))
        size = last if last in ("blosc", "zstd") else ""
        shape = tuple(map(int, metadata["shape"]))
        # Zarr 3 demands a fill value of every array.
        return cls(shape, unit, outer, str(kind), True, size, separator, "" if old else f"c{separator}")

    @property
    def unpacked(self) -> int:
        """Bytes of a unit."""
        return math.prod(self.unit) * np.dtype(self.dtype).itemsize

    def keys(self) -> Iterator[str]:
        """Names of all objects of its pixels."""
        counts = [-(-whole // part) for whole, part in zip(self.shape, self.outer, strict=True)]
        for place in np.ndindex(*counts):
            yield self.key(place)

    def key(self, place: Sequence[int]) -> str:
        """The name of an object of its pixels, by its numbers along the axes."""
        return self.prefix + self.separator.join(map(str, place))


def _require_codecs(codecs: Sequence[Json]) -> None:
    for codec in codecs:
        if codec["name"] not in _CODECS:
            raise ReadError(f"its chunks went through the codec {printable(str(codec['name']))!r}, which is not read")
        inner = codec.get("configuration") or {}
        for key in ("codecs", "index_codecs"):
            _require_codecs(inner.get(key, ()))


@dataclass(frozen=True, eq=False)
class ZarrHeader:
    """An array without its pixels.

    Attributes:
        metadata: ``.zarray`` with its attributes as ``attributes``, or ``zarr.json``.
        layout: What they say.
        transform: Of its lattice, in the order of :class:`affine.Affine`.
        crs: ``"EPSG:32632"`` or WKT.
        document: Path within the store of the document that the metadata are from.
        state: What that was.
    """

    metadata: Json = field(repr=False)
    layout: ZarrLayout
    transform: tuple[float, ...]
    crs: str
    document: str
    state: State

    @property
    def geobox(self) -> GeoBox:
        """Its lattice."""
        return GeoBox(self.layout.shape, Affine(*self.transform), self.crs)

    def to_record(self) -> dict[str, Any]:
        """Plain values for a table, as those of :class:`stac2cube.fastcog.header.CogHeader`."""
        kept = {"metadata": self.metadata, "document": self.document}
        return {
            "size": self.state.size,
            "etag": self.state.etag,
            "modified": self.state.modified,
            "dtype": self.layout.dtype,
            "bands": 1,
            "levels": [[*self.layout.shape, *self.layout.unit]],
            "tiles": zlib.compress(json.dumps(kept).encode(), 6),
            "compression": f"zarr{self.metadata['zarr_format']}",
            "transform": list(self.transform),
            "crs": self.crs,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ZarrHeader:
        """The header of which :meth:`to_record` made a record.

        Raises:
            ValueError: It is no such record.
        """
        try:
            kept = json.loads(zlib.decompress(record["tiles"]))
            state = State(record["size"] or 0, record["etag"] or "", record["modified"] or 0)
            layout = ZarrLayout.of(kept["metadata"], 2)
            return cls(kept["metadata"], layout, tuple(record["transform"]), record["crs"], kept["document"], state)
        except (KeyError, TypeError, zlib.error, ReadError) as error:
            raise ValueError(f"no header of a Zarr array: {error}") from error


# Documents of a store: consolidated metadata, which one request gives for all arrays, or those of each array.


@dataclass(frozen=True)
class _Document:
    """Metadata of a store.

    Attributes:
        nodes: By path: ``.zarray`` or ``zarr.json`` with attributes as ``attributes``; of the store itself by "".
        name: Path of the document; "" where there is none, or each node has its own.
        state: What the document was.
        version: Of Zarr; 0 where it is not known.
    """

    nodes: Mapping[str, Json]
    name: str
    state: State
    version: int

    def attributes(self, path: str) -> Json:
        """Of a node; none where it is not there."""
        found = self.nodes.get(path, {}).get("attributes")
        return found if isinstance(found, Mapping) else {}


def _read_json(access: StoreAccess, key: str) -> tuple[dict[str, Any], State]:
    """A document of a store.

    Raises:
        FileNotFoundError: It is not there.
        OSError: It cannot be read.
        ReadError: It is no JSON object.
    """
    data, state = access.whole(key, MOST_DOCUMENT)
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{key} of {access.name} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ReadError(f"{key} of {access.name} is no JSON object")
    return value, state


_V2_AT = {".zarray", ".zgroup", ".zattrs"}


def _consolidated(access: StoreAccess) -> _Document:
    """What a store says of all its nodes at once; without nodes where it does not."""
    host = access.way.location.rpartition("/")[0]
    names = [".zmetadata", "zarr.json"] if _VERSIONS.get(host, 2) == 2 else ["zarr.json", ".zmetadata"]
    for name in names:
        try:
            value, state = _read_json(access, name)
        except FileNotFoundError:
            continue
        _VERSIONS[host] = 2 if name == ".zmetadata" else 3
        nodes: dict[str, dict[str, Any]] = {}
        if name == "zarr.json":
            inner = value.get("consolidated_metadata")
            found = inner.get("metadata") if isinstance(inner, Mapping) else None
            nodes = dict(found) if isinstance(found, Mapping) else {}
            nodes[""] = {"attributes": _useful(value.get("attributes"))}
            return _Document(nodes, name, state, 3)
        entries = value.get("metadata")
        for key, part in entries.items() if isinstance(entries, Mapping) else ():
            path, _, last = key.rpartition("/")
            if last in _V2_AT and isinstance(part, Mapping):
                node = nodes.setdefault(path, {"attributes": {}})
                node.update({"attributes": part} if last == ".zattrs" else part)
        nodes[""] = {"attributes": _useful(nodes.get("", {}).get("attributes"))}
        return _Document(nodes, name, state, 2)
    return _Document({}, "", State(0, "", 0), 0)


_VERSIONS: dict[str, int] = {}
"""Version of Zarr last met, by where stores lie: of the two documents that may be there, that one is asked for first."""


def _useful(attributes: Any) -> dict[str, Any]:
    """Of the attributes of a store, whose history takes half of a document, what says where it lies."""
    said = attributes if isinstance(attributes, Mapping) else {}
    found: dict[str, Any] = {}
    for part, keys in (("stac_discovery", _PLACES), ("other_metadata", _CODES)):
        inner = said.get(part)
        inner = inner.get("properties") if part == "stac_discovery" and isinstance(inner, Mapping) else inner
        if isinstance(inner, Mapping):
            found |= {key: inner[key] for key in keys if key in inner}
    return found


_CODES = ("horizontal_crs_code", "horizontal_CRS_code")
_PLACES = ("proj:code", "proj:epsg", "proj:bbox", "proj:wkt2")

_STORES: KnownHeaders[_Document] = KnownHeaders(lambda _, access: _consolidated(access), most=64)  # type: ignore[arg-type, return-value]
"""Consolidated metadata of the stores read last: several arrays of one are read together."""


def _own_document(access: StoreAccess, path: str, version: int) -> tuple[Json, str, State]:
    """The metadata of an array from its own document, its path, and what it was.

    Raises:
        FileNotFoundError: There is none.
    """
    if version != 2:
        try:
            value, state = _read_json(access, f"{path}/zarr.json")
            return value, f"{path}/zarr.json", state
        except FileNotFoundError:
            if version == 3:
                raise
    value, state = _read_json(access, f"{path}/.zarray")
    try:
        attributes, _ = _read_json(access, f"{path}/.zattrs")
    except FileNotFoundError:
        attributes = {}
    return {**value, "attributes": attributes}, f"{path}/.zarray", state


def _fetched(href: str, access: StoreAccess, path: str, *, own: bool = False) -> ZarrHeader:
    """The header of an array.

    Args:
        href: Of the array, unsigned.
        access: Its store.
        path: Where it lies there.
        own: Whether its own document is to be read, since the consolidated ones of a store may lag behind.

    Raises:
        OSError: It cannot be read.
        ReadError: It is no array that is read here, or does not say where it lies.
    """
    document = _STORES.get(access.way.location, access)  # type: ignore[arg-type]
    metadata, name, state = document.nodes.get(path), document.name, document.state
    if own or metadata is None or "shape" not in metadata:
        try:
            metadata, name, state = _own_document(access, path, document.version)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no array {path} in {access.name}: {error.strerror or error}") from None
    layout = ZarrLayout.of(metadata, 2)
    group = path.rpartition("/")[0]
    said = [metadata.get("attributes") or {}, document.attributes(group), document.attributes(f"{group}/spatial_ref")]
    crs = _crs_of([*said, document.attributes("")])
    lattice = _said_lattice(said[0], said[1], layout.shape)
    try:
        if lattice is None or _problem_of(lattice, path):
            lattice = _GROUPS.get(f"{access.way.location}/{group}", (access, group, document))  # type: ignore[arg-type]
            lattice = _fitting(lattice, layout.shape)
    except FileNotFoundError:
        lattice = _lattice_of_bbox(document.attributes(""), layout.shape)
        if lattice is None:
            raise ReadError(f"array {path} of {access.name} does not say where it lies") from None
    if problem := _problem_of(lattice, path):
        raise ReadError(f"array {path} of {access.name}: {problem}")
    log.debug("%s: %s", unsigned(href), layout)
    return ZarrHeader(metadata, layout, tuple(lattice)[:6], crs, name, state)


# Where the pixels of an array lie.


def _crs_of(places: Sequence[Json]) -> str:
    """The CRS that attributes declare, the first first: of the array, its group, its grid mapping, the store.

    What the store itself calls ``proj:code`` besides is that of its outline, degrees.
    """
    for said in places:
        for key in ("proj:code", "proj:epsg", *_CODES, "crs_wkt", "spatial_ref", "proj:wkt2"):
            value = said.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                value = f"EPSG:{value}"
            if not isinstance(value, str) or not value.strip():
                continue
            try:
                return crs_name(parse_crs(value.strip()))
            except BadInputError:
                continue
    raise ReadError("neither its attributes nor those of its store say its CRS")


def _said_lattice(array: Json, group: Json, shape: tuple[int, ...]) -> Affine | None:
    """What attributes say, if they say it for an array of that shape; None where x and y are to be read."""
    for said, key in ((group, "spatial"), (array, "proj")):
        numbers, whole = said.get(f"{key}:transform"), said.get(f"{key}:shape")
        if isinstance(numbers, Sequence) and len(numbers) >= 6 and whole is not None and tuple(whole) == shape:
            try:
                return Affine(*(float(number) for number in numbers[:6]))
            except (TypeError, ValueError):
                continue
    return None


def _problem_of(lattice: Affine, path: str) -> str:
    """Why a lattice cannot be that of an array, "" if it can.

    Groups are called by their resolution (``r10m``). The corners of Sentinel-2's tiles are whole multiples of it, so
    that positions which are not those of the middles of pixels show.
    """
    if lattice.b or lattice.d or lattice.a <= 0 or lattice.e >= 0 or not all(map(math.isfinite, lattice[:6])):
        return f"its pixels do not run east and south: {tuple(lattice)[:6]}"
    named = re.search(r"/r(\d+)m(?:/|$)", f"/{path}")
    if named is None:
        return ""
    step = float(named[1])
    if abs(lattice.a - step) > 1e-6 * step or abs(lattice.e + step) > 1e-6 * step:
        return f"its pixels are {lattice.a:g} by {-lattice.e:g}, and its group is called {named[0].strip('/')}"
    if any(abs(edge / step - round(edge / step)) > 1e-6 for edge in (lattice.c, lattice.f)):
        return f"its corner {lattice.c:.9g}, {lattice.f:.9g} is no multiple of its {step:g} m: x and y are no middles"
    return ""


def _axes(place: tuple[StoreAccess, str, _Document]) -> tuple[Affine, tuple[int, int]]:
    """The lattice of a group by its arrays ``x`` and ``y``, middles of pixels, and their lengths.

    Raises:
        FileNotFoundError: It has none.
        ReadError: They are no lattice.
    """
    access, group, document = place
    found = []
    for name in ("x", "y"):
        path = f"{group}/{name}"
        metadata = document.nodes.get(path)
        if metadata is None or "shape" not in metadata:
            metadata, _, _ = _own_document(access, path, document.version)
        layout = ZarrLayout.of(metadata, 1)
        if layout.shape[0] > 1 << 20:
            raise ReadError(f"array {path} of {access.name} has {layout.shape[0]} positions")
        values = _decoded(ArrayStore(access, _facts(path, layout, State(0, "", 0)), _documents(metadata)), layout, ...)
        values = values.astype("float64")
        steps = np.diff(values)
        if len(values) < 2 or not np.isfinite(values).all() or np.ptp(steps) > 1e-3 * abs(steps[0]):
            raise ReadError(f"array {path} of {access.name} holds no positions at even steps")
        step = (values[-1] - values[0]) / (len(values) - 1)
        found.append((float(step), float(values[0] - step / 2), len(values)))
    (across, west, columns), (down, north, rows) = found
    return Affine(across, 0.0, west, 0.0, down, north), (rows, columns)


_GROUPS: KnownHeaders[tuple[Affine, tuple[int, int]]] = KnownHeaders(lambda _, place: _axes(place))  # type: ignore[arg-type]
"""Lattices of groups, by their address."""


def _fitting(axes: tuple[Affine, tuple[int, int]], shape: tuple[int, ...]) -> Affine:
    lattice, lengths = axes
    if lengths != shape:
        raise ReadError(f"it has {shape[0]} x {shape[1]} pixels, and its group {lengths[0]} x {lengths[1]} positions")
    return lattice


def _lattice_of_bbox(said: Json, shape: tuple[int, ...]) -> Affine | None:
    """From an outline in metres; None where it is none, as where it is in degrees."""
    box = said.get("proj:bbox")
    if not isinstance(box, Sequence) or len(box) != 4 or not all(isinstance(n, (int, float)) for n in box):
        return None
    west, south, east, north = map(float, box)
    if max(map(abs, box)) <= 360 or not (west < east and south < north):
        return None
    return Affine((east - west) / shape[1], 0.0, west, 0.0, (south - north) / shape[0], north)


# Pixels: zarr decodes chunks; those decoded lately are shared by all blocks of a process.

BYTES = "STAC2CUBE_CHUNK_BYTES"
"""Environment variable: bytes of decoded chunks that a process holds at most."""

MOST = 1 << 30
"""The same where it is not set: chunks of 5,490 x 5,490 pixels of 16 bands have as much."""


class ChunkCache:
    """Chunks decoded lately, and being decoded; threads share it.

    A chunk that a thread is decoding is waited for by others that want the same one. What is held and what is being
    decoded stays within the bound together, but for a single chunk that is larger.

    Args:
        most: Bytes; None for what the environment says.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._held: OrderedDict[Any, np.ndarray] = OrderedDict()
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
            while name not in self._held and (name in self._busy or (self._busy and self._busy_bytes + size > most)):
                if left() <= 0:
                    raise OSError("it took too long")
                self._turn.wait(min(1.0, max(left(), 0.01)))
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name]
            self._busy.add(name)
            self._busy_bytes += size
            while self._held and self._bytes + self._busy_bytes > most:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
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
                    self._held[name] = made
                    self._bytes += made.nbytes
                self._turn.notify_all()


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
    global CHUNKS  # noqa: PLW0603 - the process has one
    CHUNKS = ChunkCache()
    _readers.cache_clear()


@cache
def _readers() -> ThreadPoolExecutor:
    """Threads that wait for chunks of one window beyond its first."""
    return ThreadPoolExecutor(16, thread_name_prefix="zarr-window")


os.register_at_fork(after_in_child=_renew)


def _facts(path: str, layout: ZarrLayout, state: State) -> ArrayFacts:
    slack = 65_536 + layout.unpacked // 16
    outer = math.prod(layout.outer) // math.prod(layout.unit)
    sharded = layout.outer != layout.unit
    most = (layout.unpacked + slack) * outer
    compressor = "" if sharded else layout.compressor
    return ArrayFacts(path, state, layout.keys, layout.may_lack, most, layout.unpacked, compressor)


def _documents(metadata: Json) -> dict[str, bytes]:
    """The metadata of an array as its own documents."""
    if metadata["zarr_format"] == 3:
        kept = {key: part for key, part in metadata.items() if key != "consolidated_metadata"}
        return {"zarr.json": json.dumps({**kept, "attributes": {}}).encode()}
    kept = {key: part for key, part in metadata.items() if key != "attributes"}
    return {".zarray": json.dumps(kept).encode(), ".zattrs": b"{}"}


def _decoded(store: ArrayStore, layout: ZarrLayout, part: Any) -> np.ndarray:
    """Pixels of an array.

    Args:
        store: It.
        layout: Of it.
        part: Slices along its axes, ``...`` for all.

    Raises:
        OSError: A chunk cannot be read.
        ReadError: A chunk, or the array, is not what it should be.
    """
    try:
        with slow_pipeline():
            array = zarr.open_array(store, mode="r", zarr_format=2 if ".zarray" in store.documents else 3)
        pixels = np.asarray(array[part])
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError, MemoryError) as error:
        place = "all" if part is ... else layout.key([p.start // o for p, o in zip(part, layout.outer, strict=True)])
        reason = printable(f"{type(error).__name__}: {error}")
        raise DamagedChunkError(f"{store.name_of(place)} cannot be decoded: {reason:.300}") from None
    return np.ascontiguousarray(pixels, dtype=layout.dtype)


class ZarrImage:
    """See :class:`stac2cube.model.image.Image`: one array of two dimensions, without overviews.

    Pixels are as they are stored: no scale and no offset is applied. Values without data are those of the mission,
    whatever the array calls its fill value. Reflectance that was written as numbers with a point is brought back to
    the counts that it was made from, see :func:`counts_of`.

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
        self._packs = _must_pack(header, path)
        self._store: ArrayStore | None = None

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
        store = ArrayStore(self.access, _facts(self.path, layout, self.header.state), _documents(self.header.metadata))

        def one(place: tuple[int, int]) -> None:
            self._paste(store, place, roi, out)

        others = [_readers().submit(one, place) for place in places[1:]]
        for place in places[:1]:
            one(place)
        for other in others:
            other.result()
        return counts_of(out) if self._packs else out

    def _paste(self, store: ArrayStore, place: tuple[int, int], roi: Roi, out: np.ndarray) -> None:
        layout = self.header.layout
        part = tuple(
            slice(number * edge, min((number + 1) * edge, whole))
            for number, edge, whole in zip(place, layout.unit, layout.shape, strict=True)
        )
        size = math.prod(one.stop - one.start for one in part) * np.dtype(layout.dtype).itemsize
        name = (self.access.way.location, self.path, self.header.state, place)
        chunk = CHUNKS.get(name, size, lambda: _decoded(store, layout, part))
        taken, given = [], []
        for wanted, here in zip(roi, part, strict=True):
            first, last = max(wanted.start, here.start), min(wanted.stop, here.stop)
            taken.append(slice(first - here.start, last - here.start))
            given.append(slice(first - wanted.start, last - wanted.start))
        out[tuple(given)] = chunk[tuple(taken)]


# Counts of Sentinel-2, in stores of EOPF.

SCALE, OFFSET = 1e-4, -0.1
"""By which EOPF's converters declare every product, and GeoZarr's apply: reflectance = count * 1e-4 - 0.1, also of
products whose counts have no offset (mappings of CPM 2.5.6 to 3.1.0)."""

_EXACT = 0.02
"""How far from a whole number a count may come back, in counts: numbers of 32 bits miss it by 0.01 at most."""


def _must_pack(header: ZarrHeader, path: str) -> bool:
    """Whether an array holds reflectance that is to become counts again.

    Raises:
        ReadError: It holds what cannot be the counts of a product.
    """
    kind, attributes = np.dtype(header.layout.dtype).kind, header.metadata.get("attributes") or {}
    reflectance = path.startswith("measurements/reflectance/")
    if kind == "f":
        if not reflectance and path.startswith(("quality/", "conditions/")):
            raise ReadError(f"array {path} holds numbers with a point, where counts or classes are expected")
        return reflectance
    scale = attributes.get("scale_factor")
    if reflectance and isinstance(scale, (int, float)) and abs(scale - SCALE) > 1e-9:
        raise ReadError(f"array {path} declares a scale of {scale}, where counts of Sentinel-2 have {SCALE}")
    return False


def counts_of(reflectance: np.ndarray) -> np.ndarray:
    """The counts from which reflectance was made: ``count * 1e-4 - 0.1``, by EOPF's converters to GeoZarr.

    Args:
        reflectance: ``(rows, columns)``, float32 or float64, no unit; NaN without data. What the converter made of the
            count 0, which means no data, too, comes back as 0.

    Returns:
        ``(rows, columns)`` uint16, 0 without data.

    Raises:
        ReadError: A value is none that a count gives, as where it was resampled.
    """
    nothing = np.isnan(reflectance)
    exact = (np.where(nothing, OFFSET, reflectance).astype("float64") - OFFSET) / SCALE
    counts = np.rint(exact)
    wrong = (np.abs(exact - counts) > _EXACT) | (counts < 0) | (counts > 65535)
    if wrong.any():
        value = float(reflectance[wrong][0])
        raise ReadError(f"its reflectance {value:.9g} is that of no count of Sentinel-2: it was made anew or resampled")
    return counts.astype("uint16")


# Opening an array.

_ARRAYS: KnownHeaders[ZarrHeader] = KnownHeaders(lambda href, place: _fetched(href, *place))  # type: ignore[arg-type, misc]
"""Headers of arrays that this process has seen."""


def zarr_header(asset: AssetRef, way: Opening) -> ZarrHeader:
    """Read the header of an array anew.

    Args:
        asset: The array.
        way: To it.

    Raises:
        OSError: It cannot be read.
        ReadError: It is no array that is read here.
    """
    access, path = StoreAccess.of(way)
    return _fetched(asset.href, access, path)


def state_of_document(header: ZarrHeader, way: Opening) -> State:
    """What the document is now that a header is from.

    Raises:
        OSError: It cannot be read.
        ReadError: It may not be.
    """
    access, _ = StoreAccess.of(way)
    return access.whole(header.document, MOST_DOCUMENT)[1]


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
    if not isinstance(known, ZarrHeader) or not known.state.is_certain:
        known = _ARRAYS.get(asset.href, (access, path))  # type: ignore[arg-type]
    try:
        return read(ZarrImage(known, access, path), asset)
    except (ChangedFileError, DamagedChunkError) as error:
        log.info("%s: %s: its metadata are read anew", unsigned(asset.href), error)
        for remembered, name in (
            (_ARRAYS, asset.href),
            (_STORES, access.way.location),
            (_GROUPS, f"{access.way.location}/{path.rpartition('/')[0]}"),
        ):
            remembered.forget(name)  # type: ignore[attr-defined]
        lagging = isinstance(error, DamagedChunkError)
    try:
        fresh = _fetched(asset.href, access, path, own=lagging)
        return read(ZarrImage(fresh, access, path), asset)
    except ChangedFileError as error:
        raise OSError("it is being changed while it is read") from error
