"""Headers of arrays in Zarr stores, versions 2 and 3: the layout of their pixels, and their grid."""

from __future__ import annotations

import json
import logging
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numcodecs
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from stac2cube.access.sign import Opening, opening, unsigned
from stac2cube.errors import BadInputError, ReadError
from stac2cube.fastcog.ranges import KnownHeaders, State
from stac2cube.model.geometry import crs_name, parse_crs, sides_in_metres
from stac2cube.model.scene import AssetRef
from stac2cube.pixels.zarr_store import ArrayFacts, ArrayStore, DamagedChunkError, StoreAccess, both
from stac2cube.trust.text import printable

log = logging.getLogger(__name__)

Json = Mapping[str, Any]

# Metadata of an array, checked before they are used.

MOST_DOCUMENT = 64 << 20
"""Most bytes of a metadata document; consolidated ones of EOPF have half a million."""

MOST_CHUNK = 1 << 30
"""Most bytes of an unpacked chunk: the largest seen have 10,980 x 10,980 pixels of 2 bytes."""

_CODECS = {"bytes", "blosc", "zstd", "gzip", "crc32c", "transpose", "sharding_indexed"}
"""Supported codecs of Zarr 3."""

_COMPRESSORS = {"blosc", "zstd", "gzip", "zlib", "lz4"}
"""Supported compressors."""

_KNOWN_KEYS = {
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
    *("attributes", "dimension_names", "storage_transformers", "consolidated_metadata"),
}
"""Known keys of array metadata in Zarr 3; others may require readers to refuse the array (specification, 3.1)."""

_TYPES = re.compile(r"u?int(8|16|32|64)|float(32|64)")


@dataclass(frozen=True)
class ZarrLayout:
    """Storage layout of an array's pixels.

    Attributes:
        shape: Pixels along each axis.
        unit: Pixels along each axis of the unit of decoding: a chunk, or within shards an inner chunk.
        outer: Pixels along each axis of one object of the store: a chunk or a shard.
        dtype: NumPy name, ``"uint16"``.
        may_lack: Whether a missing chunk means pixels of the fill value.
        compressor: Compressor of chunks, also within shards: a name of :data:`_COMPRESSORS`, "" for none.
        plain: Whether a chunk holds only its pixels in C order, compressed or not, and needs no codec of zarr.
        code: NumPy's type code of the numbers in a chunk, with byte order: ``"<u2"``.
        separator: Separator of the numbers in the name of a chunk.
        prefix: Prefix of the name: ``"c/"`` in Zarr 3.
        sharded: Whether chunks are in shards.
        index_first: Whether the index of a shard is at its beginning.
    """

    shape: tuple[int, ...]
    unit: tuple[int, ...]
    outer: tuple[int, ...]
    dtype: str
    may_lack: bool
    compressor: str
    plain: bool
    code: str
    separator: str
    prefix: str
    sharded: bool = False
    index_first: bool = False

    @classmethod
    def of(cls, metadata: Json, dimensions: int) -> ZarrLayout:
        """Parse the metadata of an array, ``.zarray`` with its attributes as ``attributes``, or ``zarr.json``.

        Args:
            metadata: Parsed JSON.
            dimensions: Expected number of dimensions.

        Raises:
            ReadError: It is not such an array, or uses an unsupported feature, which the message names.
        """
        try:
            made = cls._of_2(metadata) if metadata.get("zarr_format") == 2 else cls._of_3(metadata)
            names = metadata.get("dimension_names") or attributes_in(metadata).get("_ARRAY_DIMENSIONS")
            names = list(names) if names else []
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise ReadError(f"its Zarr metadata cannot be understood: {type(error).__name__} {error}") from None
        if len(made.shape) != dimensions or not len(made.shape) == len(made.unit) == len(made.outer):
            raise ReadError(f"it is an array of {len(made.shape)} dimensions, and not of {dimensions}")
        if min(made.shape) < 1 or min(made.unit) < 1 or max(made.shape) > 1 << 24:
            raise ReadError(f"its Zarr metadata cannot be understood: shape {made.shape}, chunks {made.unit}")
        if made.unpacked > MOST_CHUNK:
            raise ReadError(f"its chunks have {made.unpacked} bytes, and {MOST_CHUNK} are the most that are read")
        if any(whole % part for whole, part in zip(made.outer, made.unit, strict=True)):
            raise ReadError(f"its shards of {made.outer} pixels hold no whole chunks of {made.unit}")
        if dimensions == 2 and names and names not in (["y", "x"], ["lat", "lon"], ["latitude", "longitude"]):
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
        dtype = np.dtype(code).newbyteorder("=").name
        plain, may_lack = metadata.get("order", "C") == "C", metadata.get("fill_value") is not None
        return cls(shape, chunks, chunks, dtype, may_lack, kind, plain, code, separator, "")

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
            raise ReadError(f"the layout of its chunks is not read: {grid['name']!r:.80}, {naming['name']!r:.80}")
        _require_codecs(metadata["codecs"])
        outer = tuple(map(int, grid["configuration"]["chunk_shape"]))
        codecs = list(metadata["codecs"])
        sharded = len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed"
        unit = tuple(map(int, codecs[0]["configuration"]["chunk_shape"])) if sharded else outer
        inner = list(codecs[0]["configuration"]["codecs"]) if sharded else codecs
        names = [codec["name"] for codec in inner if codec["name"] != "crc32c"]
        compressor = names[-1] if names and names[-1] in _COMPRESSORS else ""
        plain = [codec["name"] for codec in codecs] == ["bytes", *([compressor] if compressor else [])]
        big = (inner[0].get("configuration") or {}).get("endian") == "big"
        old = naming["name"] == "v2"
        separator = str(naming.get("configuration", {}).get("separator") or ((old and ".") or "/"))
        shape = tuple(map(int, metadata["shape"]))
        code, prefix = np.dtype(kind).newbyteorder(">" if big else "<").str, "" if old else f"c{separator}"
        # Zarr 3 requires a fill value for every array.
        first = sharded and codecs[0]["configuration"].get("index_location") == "start"
        return cls(shape, unit, outer, str(kind), True, compressor, plain, code, separator, prefix, sharded, first)

    @property
    def unpacked(self) -> int:
        """Bytes of an unpacked unit."""
        return math.prod(self.unit) * np.dtype(self.dtype).itemsize

    def keys(self) -> Iterator[str]:
        """Names of all chunk or shard objects."""
        counts = [-(-whole // part) for whole, part in zip(self.shape, self.outer, strict=True)]
        for place in np.ndindex(*counts):
            yield self.key(place)

    def key(self, place: Sequence[int]) -> str:
        """The name of a chunk or shard object, by its indices along the axes."""
        return self.prefix + self.separator.join(map(str, place))


def attributes_in(metadata: Json) -> Json:
    """The attributes of an array; empty if they are not an object."""
    said = metadata.get("attributes")
    return said if isinstance(said, Mapping) else {}


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
        layout: The layout parsed from the metadata.
        transform: Transform of its grid, in the order of :class:`affine.Affine`.
        crs: ``"EPSG:32632"`` or WKT.
        document: Path within the store of the document with the metadata.
        state: State of that document when it was read.
    """

    metadata: Json = field(repr=False)
    layout: ZarrLayout
    transform: tuple[float, ...]
    crs: str
    document: str
    state: State

    @property
    def geobox(self) -> GeoBox:
        """The array's grid."""
        rows, columns = self.layout.shape
        return GeoBox((rows, columns), Affine(*self.transform), self.crs)

    def to_record(self) -> dict[str, Any]:
        """Plain values for a table, like those of :class:`stac2cube.fastcog.header.CogHeader`."""
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
        """Restore a header from a record of :meth:`to_record`.

        Raises:
            ValueError: It is not such a record.
        """
        try:
            kept = json.loads(zlib.decompress(record["tiles"]))
            state = State(record["size"] or 0, record["etag"] or "", record["modified"] or 0)
            layout = ZarrLayout.of(kept["metadata"], 2)
            return cls(kept["metadata"], layout, tuple(record["transform"]), record["crs"], kept["document"], state)
        except (KeyError, TypeError, zlib.error, ReadError) as error:
            raise ValueError(f"no header of a Zarr array: {error}") from error


# Documents of a store: consolidated metadata, which one request returns for all arrays, or those of each array.


@dataclass(frozen=True)
class _Document:
    """Metadata of a store.

    Attributes:
        nodes: ``.zarray`` or ``zarr.json`` by path, with attributes as ``attributes``; "" is the path of the store
            itself.
        name: Path of the document; "" if there is none, or each node has its own.
        state: State of the document when it was read.
        version: Version of Zarr; 0 if unknown.
    """

    nodes: Mapping[str, Json]
    name: str
    state: State
    version: int

    def attributes(self, path: str) -> Json:
        """Attributes of a node; empty if the node is missing."""
        found = self.nodes.get(path, {}).get("attributes")
        return found if isinstance(found, Mapping) else {}


def _read_json(access: StoreAccess, key: str) -> tuple[dict[str, Any], State]:
    """Read a document of a store.

    Raises:
        FileNotFoundError: It does not exist.
        OSError: It cannot be read.
        ReadError: It is not a JSON object.
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
    """The consolidated metadata of a store; without nodes if it has none."""
    host = access.way.location.rpartition("/")[0]
    # On a host that seems to have only stores in Zarr 2, their document is requested first.
    names = [".zmetadata", "zarr.json"] if _OF_2.get(host, 0) >= _ENOUGH_OF_2 else ["zarr.json", ".zmetadata"]
    for name in names:
        try:
            value, state = _read_json(access, name)
        except FileNotFoundError:
            continue
        _OF_2[host] = _OF_2.get(host, 0) + 1 if name == ".zmetadata" else 0
        nodes: dict[str, dict[str, Any]] = {}
        if name == "zarr.json":
            inner = value.get("consolidated_metadata")
            found = inner.get("metadata") if isinstance(inner, Mapping) else None
            if isinstance(found, Mapping):
                nodes = {place: dict(node) for place, node in found.items() if isinstance(node, Mapping)}
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


_OF_2: dict[str, int] = {}
"""Number of consecutive stores in Zarr 2, by host and folder."""

_ENOUGH_OF_2 = 3


def _useful(attributes: Any) -> dict[str, Any]:
    """The georeference in the attributes of a store, whose history takes half of a document."""
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

STORES: KnownHeaders[_Document, StoreAccess] = KnownHeaders(lambda _, access: _consolidated(access), most=64)
"""Consolidated metadata of the latest stores: several arrays of one store are read together."""


def _own_document(access: StoreAccess, path: str, version: int) -> tuple[Json, str, State]:
    """The metadata of an array from its own document, the path of the document, and its state.

    Raises:
        FileNotFoundError: There is no such document.
    """
    if version != 2:
        try:
            value, state = _read_json(access, f"{path}/zarr.json")
            return value, f"{path}/zarr.json", state
        except FileNotFoundError:
            if version == 3:
                raise
    (value, state), attributes = both(
        lambda: _read_json(access, f"{path}/.zarray"), lambda: _attributes(access, f"{path}/.zattrs")
    )
    return {**value, "attributes": attributes}, f"{path}/.zarray", state


def _attributes(access: StoreAccess, key: str) -> Json:
    """A document of attributes, which is optional."""
    try:
        return _read_json(access, key)[0]
    except FileNotFoundError:
        return {}


def _metadata_of(access: StoreAccess, document: _Document, path: str) -> tuple[Json, str, State]:
    """As :func:`_own_document`, but from the consolidated metadata if they include the array."""
    metadata = document.nodes.get(path)
    if metadata is None or "shape" not in metadata:
        return _own_document(access, path, document.version)
    return metadata, document.name, document.state


def fetch_header(href: str, access: StoreAccess, path: str, *, own: bool = False) -> ZarrHeader:
    """Read the header of an array.

    Args:
        href: Unsigned address of the array.
        access: Its store.
        path: Path of the array in the store.
        own: Whether to read the array's own document, since the consolidated metadata of a store may be outdated.

    Raises:
        OSError: It cannot be read.
        ReadError: It is not a supported array, or declares no georeference.
    """
    document = STORES.get(access.way.location, access)
    try:
        metadata, name, state = (
            _own_document(access, path, document.version) if own else _metadata_of(access, document, path)
        )
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no array {path} in {access.name}: {error.strerror or error}") from None
    layout = ZarrLayout.of(metadata, 2)
    group = path.rpartition("/")[0]
    said = [attributes_in(metadata), document.attributes(group), document.attributes(f"{group}/spatial_ref")]
    crs = _crs_of([*said, document.attributes("")])
    lattice = _said_lattice(said[0], said[1], layout.shape)
    try:
        if lattice is None or _problem_of(lattice, path):
            axes = GROUPS.get(f"{access.way.location}/{group}", (access, group, document))
            lattice = _fitting(axes, layout.shape)
    except FileNotFoundError:
        lattice = _lattice_of_bbox(document.attributes(""), layout.shape)
        if lattice is None:
            raise ReadError(f"array {path} of {access.name} does not say where it lies") from None
    if problem := _problem_of(lattice, path):
        raise ReadError(f"array {path} of {access.name}: {problem}")
    log.debug("%s: %s", unsigned(href), layout)
    return ZarrHeader(metadata, layout, tuple(lattice)[:6], crs, name, state)


# Georeference of an array.


def _crs_of(places: Sequence[Json]) -> str:
    """The CRS that attributes declare, in this order: of the array, its group, its grid mapping, the store.

    A further ``proj:code`` of the store itself is that of its footprint, in degrees.
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
    """The grid that attributes declare for an array of that shape; None if x and y must be read."""
    for said, key in ((group, "spatial"), (array, "proj")):
        numbers, whole = said.get(f"{key}:transform"), said.get(f"{key}:shape")
        try:
            if isinstance(numbers, list) and len(numbers) >= 6 and whole is not None and tuple(whole) == shape:
                return Affine(*(float(number) for number in numbers[:6]))
        except (TypeError, ValueError, OverflowError):
            continue
    return None


def _problem_of(lattice: Affine, path: str) -> str:
    """Why a grid cannot be that of an array, "" if it can.

    Groups are named by their resolution (``r10m``). The corners of Sentinel-2's tiles are whole multiples of it, which
    reveals positions that are not the centres of pixels.
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
    """The grid of a group by its arrays ``x`` and ``y``, centres of pixels, and their lengths.

    Raises:
        FileNotFoundError: The group lacks them.
        ReadError: They are not evenly spaced.
    """
    access, group, document = place
    (across, west, columns), (down, north, rows) = both(
        lambda: _positions(access, f"{group}/x", document), lambda: _positions(access, f"{group}/y", document)
    )
    return Affine(across, 0.0, west, 0.0, down, north), (rows, columns)


def _positions(access: StoreAccess, path: str, document: _Document) -> tuple[float, float, int]:
    """Step, outer edge of the first pixel and number of pixels along an axis."""
    metadata, _, _ = _metadata_of(access, document, path)
    layout = ZarrLayout.of(metadata, 1)
    if layout.shape[0] > 1 << 20:
        raise ReadError(f"array {path} of {access.name} has {layout.shape[0]} positions")
    store = ArrayStore(access, facts_of(path, layout, State(0, "", 0)), documents_of(metadata))
    parts = [unit_of(store, layout, (number,)) for number in range(-(-layout.shape[0] // layout.unit[0]))]
    values = np.concatenate(parts).astype("float64")
    steps = np.diff(values)
    if len(values) < 2 or not np.isfinite(values).all() or np.ptp(steps) > 1e-3 * abs(steps[0]):
        raise ReadError(f"array {path} of {access.name} holds no positions at even steps")
    step = (values[-1] - values[0]) / (len(values) - 1)
    return float(step), float(values[0] - step / 2), len(values)


GROUPS: KnownHeaders[tuple[Affine, tuple[int, int]], tuple[StoreAccess, str, _Document]] = KnownHeaders(
    lambda _, place: _axes(place)
)
"""Grids of groups, by their address."""


def _fitting(axes: tuple[Affine, tuple[int, int]], shape: tuple[int, ...]) -> Affine:
    lattice, lengths = axes
    if lengths != shape:
        raise ReadError(f"it has {shape[0]} x {shape[1]} pixels, and its group {lengths[0]} x {lengths[1]} positions")
    return lattice


def _lattice_of_bbox(said: Json, shape: tuple[int, ...]) -> Affine | None:
    """The grid from a bounding box in metres; None if it is invalid or in degrees."""
    sides = sides_in_metres(said.get("proj:bbox"))
    if sides is None or max(map(abs, sides)) > 1e9:  # not metres
        return None
    west, south, east, north = sides
    return Affine((east - west) / shape[1], 0.0, west, 0.0, (south - north) / shape[0], north)


# Decoding by zarr; chunks without codecs of zarr directly by numcodecs, into their final memory.


def facts_of(path: str, layout: ZarrLayout, state: State) -> ArrayFacts:
    """The facts needed to fetch chunks of an array; without a known state, changes are not detected."""
    slack = 65_536 + layout.unpacked // 16
    outer = math.prod(layout.outer) // math.prod(layout.unit)
    most = (layout.unpacked + slack) * outer
    compressed = layout.compressor, layout.sharded, layout.index_first
    return ArrayFacts(path, state, layout.keys, layout.may_lack, most, layout.unpacked, *compressed)


def documents_of(metadata: Json) -> dict[str, bytes]:
    """The metadata of an array as separate documents."""
    if metadata["zarr_format"] == 3:
        kept = {key: part for key, part in metadata.items() if key != "consolidated_metadata"}
        return {"zarr.json": json.dumps({**kept, "attributes": {}}).encode()}
    kept = {key: part for key, part in metadata.items() if key != "attributes"}
    return {".zarray": json.dumps(kept).encode(), ".zattrs": b"{}"}


def unit_of(
    store: ArrayStore,
    layout: ZarrLayout,
    place: tuple[int, ...],
    data: memoryview | None = None,
    memory: np.ndarray | None = None,
) -> np.ndarray:
    """A chunk of an array, or of its shards.

    Args:
        store: The array.
        layout: Its layout.
        place: Indices of the chunk along the axes.
        data: The chunk as stored, None if it must still be fetched.
        memory: uint8 buffer of the chunk's size to decode into; None for new memory.

    Returns:
        Its pixels, fewer than a full chunk at the end of an axis; possibly in the given memory.

    Raises:
        OSError: It cannot be read.
        ReadError: The chunk or the array is invalid.
    """
    part = tuple(
        slice(number * edge, min((number + 1) * edge, whole))
        for number, edge, whole in zip(place, layout.unit, layout.shape, strict=True)
    )
    if data is None and layout.plain:
        data = store.chunk(layout.key(place))
    if data is None:  # not plain, or not there: zarr makes pixels of the fill value
        return decoded(store, layout, part)
    try:
        pixels = _unpacked(data, layout, memory)
    except (ValueError, RuntimeError, TypeError, MemoryError, zlib.error) as error:
        reason = printable(f"{type(error).__name__}: {error}")
        raise DamagedChunkError(f"{store.name_of(layout.key(place))} cannot be decoded: {reason:.300}") from None
    return pixels[tuple(slice(one.stop - one.start) for one in part)]


def _unpacked(data: memoryview, layout: ZarrLayout, memory: np.ndarray | None) -> np.ndarray:
    """Unpack a chunk that is :attr:`ZarrLayout.plain`; at the end of an axis it may hold pixels beyond the array."""
    made: Any
    if layout.compressor in ("gzip", "zlib"):  # either header; one byte more, to detect excess
        made = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(data, layout.unpacked + 1)
    elif layout.compressor:
        made = np.empty(layout.unpacked, "uint8") if memory is None else memory
        numcodecs.get_codec({"id": layout.compressor}).decode(data, out=made)
    else:
        made = data
    if len(made) != layout.unpacked:
        raise ValueError(f"it holds {len(made)} bytes, and not {layout.unpacked}")
    return np.frombuffer(made, layout.code).reshape(layout.unit).astype(layout.dtype, copy=False)


def decoded(store: ArrayStore, layout: ZarrLayout, part: Any) -> np.ndarray:
    """Read pixels of an array with zarr.

    Args:
        store: The array.
        layout: Its layout.
        part: Slices along its axes, ``...`` for all.

    Raises:
        OSError: A chunk cannot be read.
        ReadError: A chunk, or the array, is invalid.
    """
    try:
        pixels = np.asarray(store.array[part])
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError, MemoryError) as error:
        place = "all" if part is ... else layout.key([p.start // o for p, o in zip(part, layout.outer, strict=True)])
        reason = printable(f"{type(error).__name__}: {error}")
        raise DamagedChunkError(f"{store.name_of(place)} cannot be decoded: {reason:.300}") from None
    return np.ascontiguousarray(pixels, dtype=layout.dtype)


def zarr_header(asset: AssetRef, way: Opening) -> ZarrHeader:
    """Read the header of an array, without the cache.

    Args:
        asset: The array.
        way: How it is opened.

    Raises:
        OSError: It cannot be read.
        ReadError: It is not a supported array.
    """
    access, path = StoreAccess.of(way)
    return fetch_header(asset.href, access, path)


def small_array(store: str, path: str, dimensions: int, signer: str = "none") -> np.ndarray:
    """Read a whole array that needs no georeference: angles, positions.

    Args:
        store: Address of the store.
        path: Path of the array in the store.
        dimensions: Expected number of dimensions.
        signer: See :mod:`stac2cube.access.sign`.

    Returns:
        Its numbers, as stored.

    Raises:
        OSError: It cannot be read.
        ReadError: It is not such an array, or has more than some million numbers.
    """
    access, _ = StoreAccess.of(opening(AssetRef(f"{store}/{path}"), signer))
    metadata, _, _ = _metadata_of(access, STORES.get(access.way.location, access), path)
    layout = ZarrLayout.of(metadata, dimensions)
    if math.prod(layout.shape) > _MOST_SMALL:
        raise ReadError(f"array {path} of {access.name} has {math.prod(layout.shape)} numbers")
    return decoded(ArrayStore(access, facts_of(path, layout, State(0, "", 0)), documents_of(metadata)), layout, ...)


_MOST_SMALL = 1 << 22


def crs_of_store(store: str, signer: str = "none") -> str:
    """The CRS that a store declares for all its arrays; raises as :func:`small_array`."""
    access, _ = StoreAccess.of(opening(AssetRef(f"{store}/measurements"), signer))
    return _crs_of([STORES.get(access.way.location, access).attributes("")])


def state_of_document(header: ZarrHeader, way: Opening) -> State:
    """The current state of the document that a header was read from.

    Raises:
        OSError: It cannot be read.
        ReadError: Access to it is refused.
    """
    access, _ = StoreAccess.of(way)
    return access.whole(header.document, MOST_DOCUMENT)[1]
