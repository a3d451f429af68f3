"""Parse the header of a cloud-optimised GeoTIFF."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stac2cube.errors import Stac2cubeError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

# Header of a GeoTIFF: the location of every tile in the file, and its encoding, which are needed to fetch pixels.
#
# A :class:`CogHeader` is small and remains valid until the file changes, so it can be stored with a catalog's items. It
# describes only files whose pixels :mod:`stac2cube.fastcog.image` can read;
# :func:`stac2cube.fastcog.header.read_header` refuses all others.

COMPRESSIONS = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 50000: "zstd"}
"""Supported codes of the Compression tag (TIFF 6.0; libtiff's tiff.h for zstd)."""


class UnusualFileError(Stac2cubeError):
    """A file that is not supported here; GDAL may be able to read it. The message names the reason."""


class NotForUsError(UnusualFileError):
    """Nothing is known about the file: only GDAL can find its location or the credentials for it."""


@dataclass(frozen=True, eq=False)
class Level:
    """One image of the file: the full resolution or an overview.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        tile_height: Height of a tile in pixels; strips are tiles as wide as the image.
        tile_width: Width of a tile in pixels.
        offsets: uint64 ``(planes, tiles down, tiles across)``: first byte of each tile; one plane unless bands are
            stored separately.
        counts: uint64, same shape: bytes of each tile, 0 for missing tiles of a sparse file.
    """

    height: int
    width: int
    tile_height: int
    tile_width: int
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width


@dataclass(frozen=True, eq=False)
class CogHeader:
    """A GeoTIFF without its pixels.

    Attributes:
        levels: The full resolution first, then overviews, each coarser than the one before.
        dtype: NumPy name of the pixels' type, ``"uint16"``.
        big_endian: Byte order of the file.
        compression: ``"none"``, ``"lzw"``, ``"deflate"`` or ``"zstd"``.
        predictor: 1 none, 2 horizontal differencing, 3 floating point (TIFF 6.0, section 14; TIFF technical note 3).
        bands: Samples per pixel.
        planar: Whether bands are stored separately.
        strips: Whether it consists of strips, of which the last may be shorter.
        nodata: Value of pixels without data, None if the file declares none.
        masked: Whether it has an internal mask, which is ignored: missing data is marked by ``nodata``.
        transform: Transform from pixels to coordinates, ``(a, b, c, d, e, f)`` as in :class:`affine.Affine`.
        crs: ``"EPSG:32632"``, or WKT.
        size: Bytes of the file, 0 if unknown.
        etag: The server's ETag of this state of the file, "" if there is none.
        modified: Time of the last change, nanoseconds since 1970, 0 if unknown.
    """

    levels: tuple[Level, ...]
    dtype: str
    big_endian: bool
    compression: str
    predictor: int
    bands: int
    planar: bool
    strips: bool
    nodata: float | None
    masked: bool
    transform: tuple[float, float, float, float, float, float]
    crs: str
    size: int = 0
    etag: str = ""
    modified: int = 0

    @cached_property
    def geobox(self) -> GeoBox:
        """Grid of the full resolution."""
        from affine import Affine
        from odc.geo.geobox import GeoBox

        return GeoBox(self.levels[0].shape, Affine(*self.transform), self.crs)

    @property
    def factors(self) -> list[int]:
        """Pixels of the full resolution per pixel of each overview, along a line."""
        return [round(self.levels[0].width / level.width) for level in self.levels[1:]]

    def geobox_of(self, level: int) -> GeoBox:
        """Grid of the full resolution (0) or of an overview (from 1)."""
        from affine import Affine
        from odc.geo.geobox import GeoBox

        if level == 0:
            return self.geobox
        whole, part = self.levels[0], self.levels[level]
        scale = Affine.scale(whole.width / part.width, whole.height / part.height)
        return GeoBox(part.shape, self.geobox.transform * scale, self.geobox.crs)

    def to_record(self) -> dict[str, Any]:
        """Plain values, for a table: numbers and texts, and bytes for ``tiles`` (see :func:`_packed`)."""
        record = asdict(self)
        record["levels"] = [[level.height, level.width, level.tile_height, level.tile_width] for level in self.levels]
        record["tiles"] = _packed(self.levels)
        return record | {"transform": list(self.transform)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> CogHeader:
        """Restore a header from a record of :meth:`to_record`.

        Raises:
            ValueError: It is not such a record.
        """
        try:
            values = dict(record)
            planes = values["bands"] if values["planar"] else 1
            values["levels"] = _unpacked(
                values.pop("tiles"), [tuple(map(int, sizes)) for sizes in values["levels"]], planes
            )
            return cls(**values | {"transform": tuple(values["transform"])})
        except (KeyError, TypeError, zlib.error) as error:
            raise ValueError(f"no header of a GeoTIFF: {error}") from error

    def to_bytes(self) -> bytes:
        """The header in some hundred bytes."""
        record = self.to_record()
        tiles: bytes = record.pop("tiles")
        return json.dumps(record, separators=(",", ":")).encode() + b"\n" + tiles

    @classmethod
    def from_bytes(cls, content: bytes) -> CogHeader:
        """Restore a header from the bytes of :meth:`to_bytes`.

        Raises:
            ValueError: They are not such bytes.
        """
        facts, _, tiles = content.partition(b"\n")
        return cls.from_record(json.loads(facts) | {"tiles": tiles})


def _packed(levels: tuple[Level, ...]) -> bytes:
    """Offsets and counts of all tiles: most tiles are adjacent, so the gaps between tiles are stored."""
    offsets = np.concatenate([level.offsets.ravel() for level in levels]).astype("<i8")
    counts = np.concatenate([level.counts.ravel() for level in levels]).astype("<i8")
    gaps = np.diff(offsets, prepend=0) - np.concatenate([[0], counts[:-1]])
    content: bytes = gaps.astype("<i8").tobytes() + counts.tobytes()
    return zlib.compress(content, 6)


def _unpacked(tiles: bytes, sizes: list[tuple[int, ...]], planes: int) -> tuple[Level, ...]:
    gaps, counts = np.frombuffer(zlib.decompress(tiles), "<i8").reshape(2, -1)
    offsets = np.cumsum(gaps + np.concatenate([[0], counts[:-1]]))
    levels, first = [], 0
    for height, width, tile_height, tile_width in sizes:
        shape = (planes, -(-height // tile_height), -(-width // tile_width))
        last = first + math.prod(shape)
        parts = [part[first:last].astype("uint64").reshape(shape) for part in (offsets, counts)]
        levels.append(Level(height, width, tile_height, tile_width, *parts))
        first = last
    if first != counts.size:
        raise ValueError("no header of a GeoTIFF: it has another number of tiles than its levels need")
    return tuple(levels)


# Georeference of a GeoTIFF, from its tags.
#
# Source: OGC GeoTIFF 1.1 (19-008r4). GDAL interprets the GeoTIFF keys of the CRS: once for each set of keys in a
# process.

_POINT = 2
_RASTER_TYPE = 1025


def transform_of(tags: dict[str, Any]) -> tuple[float, float, float, float, float, float]:
    """Transform from pixel corners to coordinates, as in GDAL: pixels that are points are treated as pixel centres.

    Raises:
        UnusualFileError: There is no transform, or an unsupported one.
    """
    if "matrix" in tags and tags["matrix"].size == 16:
        matrix = tags["matrix"]
        made = [float(matrix[place]) for place in (0, 1, 3, 4, 5, 7)]
    elif "pixel_scale" in tags and tags.get("tie_points", np.empty(0)).size == 6:
        (right, down), (column, row, _, x, y, _) = tags["pixel_scale"][:2].tolist(), tags["tie_points"].tolist()
        made = [right, 0.0, x - column * right, 0.0, -abs(down), y + row * abs(down)]
    else:
        raise UnusualFileError("it has no georeference, or an unusual one")
    if _key(tags, _RASTER_TYPE) == _POINT:
        made[2] -= made[0] * 0.5 + made[1] * 0.5
        made[5] -= made[3] * 0.5 + made[4] * 0.5
    if not np.isfinite(made).all() or made[0] * made[4] == made[1] * made[3]:
        raise UnusualFileError("its georeference is degenerate")
    return made[0], made[1], made[2], made[3], made[4], made[5]


def _key(tags: dict[str, Any], wanted: int) -> int | None:
    """The value of a short GeoTIFF key."""
    for key, place, count, value in tags.get("keys", np.zeros(4, "u2"))[4:].reshape(-1, 4).tolist():
        if key == wanted and place == 0 and count == 1:
            return int(value)
    return None


_KNOWN_CRS: dict[tuple[bytes, bytes, bytes], str] = {}


def crs_of(tags: dict[str, Any], head: bytes) -> str:
    """The CRS that the GeoTIFF keys define, as a text.

    Args:
        tags: Tags of the first directory.
        head: The file's first bytes, with that directory.

    Raises:
        UnusualFileError: There is no CRS, or GDAL cannot interpret it.
    """
    if "keys" not in tags:
        raise UnusualFileError("it has no CRS")
    numbers = tags.get("key_numbers", np.empty(0, "f8"))
    said = (tags["keys"].astype("<u2").tobytes(), numbers.astype("<f8").tobytes(), tags.get("key_texts", b""))
    if said not in _KNOWN_CRS:
        _KNOWN_CRS[said] = _plain_utm(tags) or _crs_by_gdal(head)
    return _KNOWN_CRS[said]


UTM_CODES = {*range(32601, 32661), *range(32701, 32761)}
"""EPSG codes of UTM zones on WGS 84."""

_UTM_KEYS = {1024: {1}, 1025: {1, 2}, 1026: None, 2049: None, 2054: {9102}, 3072: None, 3076: {9001}}
"""GeoTIFF keys of a file in UTM, and their allowed values: model projected, pixels areas or points, names, degrees, the
code of the CRS, metres (OGC GeoTIFF 1.1, annex B)."""


def _plain_utm(tags: dict[str, Any]) -> str:
    """The CRS of a file that declares only the code of a UTM zone on WGS 84, "" of any other.

    Most files do. Interpreting them with GDAL would import rasterio (140 modules, boto3 among them).
    """
    keys = tags["keys"][4:].reshape(-1, 4).tolist()
    code = _key(tags, 3072) or 0
    if code not in UTM_CODES or _key(tags, 1024) != 1:
        return ""
    for key, place, _, value in keys:
        allowed = _UTM_KEYS.get(key, set())
        if allowed is not None and (place or value not in allowed):
            return ""
    zone = f"WGS 84 / UTM zone {code % 100}{'N' if code < 32700 else 'S'}"
    texts = {text.strip("\0 ") for text in tags.get("key_texts", b"").decode("latin-1").split("|")}
    return f"EPSG:{code}" if texts <= {zone, "WGS 84", ""} else ""


def _crs_by_gdal(head: bytes) -> str:
    from odc.geo.crs import CRS
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    try:
        with MemoryFile(head) as memory, memory.open() as dataset:
            found = dataset.crs
    except RasterioError as error:
        raise UnusualFileError("its CRS cannot be read from its first bytes") from error
    if found is None:
        raise UnusualFileError("it has no CRS")
    written = CRS(found)
    authority = found.to_authority()
    name = ":".join(authority) if authority else ""
    return name if name and CRS(name) == written else str(written)


# The directories of a TIFF, read from its first bytes: classic and BigTIFF, little and big endian.
#
# Sources: TIFF revision 6.0 (Adobe, 1992); the BigTIFF design of libtiff; GDAL's documentation of the GTiff driver for
# tags 42112 and 42113.

HEAD_BYTES = 32_768
"""Bytes of the first request: directories and tile lists of a cloud-optimised tile of Sentinel-2 or Landsat fit
well."""

MORE_BYTES = 262_144
"""Bytes requested beyond those needed, if the first request does not suffice; there is no third request."""

FARTHEST = 4 << 20
"""A directory farther than this from the file's first bytes is read separately."""

_TYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "", 6: "i1", 8: "i2", 9: "i4", 11: "f4", 12: "f8", 13: "u4"} | {
    16: "u8",
    17: "i8",
    18: "u8",
}
"""NumPy codes of the types of a tag's values (TIFF 6.0, section 2, and BigTIFF)."""

_NEEDED = {
    "subfile": 254,
    "width": 256,
    "height": 257,
    "bits": 258,
    "compression": 259,
    "photometric": 262,
    "fill_order": 266,
    "strip_offsets": 273,
    "bands": 277,
    "rows_per_strip": 278,
    "strip_counts": 279,
    "planar": 284,
    "predictor": 317,
    "tile_width": 322,
    "tile_height": 323,
    "tile_offsets": 324,
    "tile_counts": 325,
    "sample_format": 339,
    "pixel_scale": 33550,
    "tie_points": 33922,
    "matrix": 34264,
    "keys": 34735,
    "key_numbers": 34736,
    "key_texts": 34737,
    "metadata": 42112,
    "nodata": 42113,
}
_NAMES = {code: name for name, code in _NEEDED.items()}

_SAMPLES = {1: "uint", 2: "int", 3: "float", 4: "uint"}
_YCBCR, _CIELAB, _CMYK = 6, 8, 5


def read_header(read: Callable[[int, int], bytes], size: int = 0, etag: str = "", modified: int = 0) -> CogHeader:
    """Read the header of a GeoTIFF with at most two requests.

    Args:
        read: Returns the bytes from a first to before a last, fewer at the end of the file.
        size: Bytes of the file, 0 if unknown.
        etag: See :class:`CogHeader`.
        modified: See :class:`CogHeader`.

    Raises:
        UnusualFileError: It is not a TIFF, or not a supported one.
    """
    file = _Bytes(read)
    directories = _directories(file)
    first = directories[0]
    if first.get("subfile", 0) & 5:
        raise UnusualFileError("its first image is an overview or a mask")
    images = [first]
    for directory in directories[1:]:
        kind = directory.get("subfile", 0)
        if kind & 4:
            continue
        if not kind & 1:
            raise UnusualFileError("it holds several images")
        # A pixel selected from each square does not represent the square.
        if not any(word in directory.get("metadata", b"") for word in _CHOSEN):
            images.append(directory)
    packing = _packing(first)
    for directory in images[1:]:
        if _packing(directory) != packing:
            raise UnusualFileError("its overviews are packed otherwise than its image")
    levels = tuple(_level(directory) for directory in images)
    if any(finer.width <= coarser.width for finer, coarser in pairwise(levels)):
        raise UnusualFileError("its overviews do not grow coarser in order")
    return CogHeader(
        levels=levels,
        big_endian=file.order == ">",
        nodata=_nodata(first, packing["dtype"]),
        masked=any(directory.get("subfile", 0) & 4 for directory in directories),
        transform=transform_of(first),
        crs=crs_of(first, file.pieces[0][1]),
        size=size,
        etag=etag,
        modified=modified,
        **packing,
    )


@dataclass
class _Bytes:
    """Bytes of a file that have been read so far."""

    read: Callable[[int, int], bytes]
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    order: str = "<"

    def __post_init__(self) -> None:
        self.pieces.append((0, self.read(0, HEAD_BYTES)))

    def get(self, first: int, count: int) -> bytes:
        """Return bytes of the file, read if needed.

        Raises:
            UnusualFileError: Two requests do not cover them.
        """
        for start, piece in self.pieces:
            if start <= first and first + count <= start + len(piece):
                return piece[first - start : first - start + count]
        if len(self.pieces) > 1:
            raise UnusualFileError("its header is scattered over the file")
        head = len(self.pieces[0][1])
        start = head if first < FARTHEST else first
        more = self.read(start, first + count + MORE_BYTES)
        self.pieces = [(0, self.pieces[0][1] + more)] if start == head else [*self.pieces, (start, more)]
        if start + len(more) < first + count:
            raise UnusualFileError("it ends within its header")
        return self.get(first, count) if start == head else more[:count]

    def number(self, content: bytes) -> int:
        """An unsigned integer."""
        return int.from_bytes(content, "little" if self.order == "<" else "big")

    def unpack(self, format_: str, first: int) -> tuple[Any, ...]:
        return struct.unpack(self.order + format_, self.get(first, struct.calcsize("<" + format_)))


def _directories(file: _Bytes) -> list[dict[str, Any]]:
    """Needed tags of all directories, in order; lists with one number as that number."""
    magic = file.get(0, 4) if len(file.pieces[0][1]) >= 16 else b""
    if magic[:2] not in (b"II", b"MM"):
        raise UnusualFileError("it is no TIFF")
    file.order = "<" if magic[:2] == b"II" else ">"
    version = file.unpack("H", 2)[0]
    if version not in (42, 43):
        raise UnusualFileError("it is no TIFF")
    big = version == 43
    following = file.unpack("Q", 8)[0] if big else file.unpack("I", 4)[0]
    found: list[dict[str, Any]] = []
    seen: set[int] = set()
    while following:
        if following in seen:
            raise UnusualFileError("its directories go in circles")
        seen.add(following)
        tags, following = _directory(file, following, big=big)
        found.append(tags)
    if not found:
        raise UnusualFileError("it holds no image")
    return found


def _directory(file: _Bytes, start: int, *, big: bool) -> tuple[dict[str, Any], int]:
    count = file.unpack("Q" if big else "H", start)[0]
    if count > 1000:
        raise UnusualFileError("it has a directory of more than a thousand tags")
    # An entry: tag, type, number of values, and the values or their offset. The offset of the next directory follows.
    entry, room = struct.Struct(file.order + ("HHQ8s" if big else "HHI4s")), 8 if big else 4
    table = file.get(start + (8 if big else 2), count * entry.size + room)
    tags: dict[str, Any] = {}
    for code, kind, number, held in entry.iter_unpack(table[:-room]):
        name = _NAMES.get(code)
        if name is None or (name == "metadata" and not tags.get("subfile", 0) & 1):
            continue
        if not _TYPES.get(kind):
            raise UnusualFileError(f"its tag {code} is of an unusual type")
        dtype = np.dtype(file.order + _TYPES[kind])
        length = number * dtype.itemsize
        content = held[:length] if length <= room else file.get(file.number(held), length)
        tags[name] = _value(name, np.frombuffer(content, dtype))
    return tags, file.number(table[-room:])


def _value(name: str, values: np.ndarray) -> Any:
    """The value of a tag: bytes for texts, an array for lists, and an integer for all others.

    Raises:
        UnusualFileError: The tag has an unexpected type.
    """
    wanted = "S" if name in _TEXTS else "f" if name in _REALS else "u"
    if values.dtype.kind != wanted or (not values.size and name not in _TEXTS):
        raise UnusualFileError(f"its tag {_NEEDED[name]} is of an unusual type")
    if name in _TEXTS:
        return values.tobytes()
    if name in _LISTS or name in _REALS:
        return values
    if values.size > 1:
        raise UnusualFileError(f"its tag {_NEEDED[name]} holds several numbers")
    return values[0].item()


NO_MEANS = ("NEAREST", "MODE", "GAUSS")
"""GDAL's overview methods whose pixels are not averages of those they cover: Gaussian ones are half a pixel off."""

_CHOSEN = tuple(f'name="RESAMPLING" sample="0">{method}<'.encode() for method in NO_MEANS)
"""GDAL's metadata of an overview whose pixels are not averages."""

_TEXTS = {"key_texts", "metadata", "nodata"}
_REALS = {"pixel_scale", "tie_points", "matrix", "key_numbers"}
_LISTS = {"strip_offsets", "strip_counts", "tile_offsets", "tile_counts", "bits", "sample_format", "keys"}


def _packing(tags: dict[str, Any]) -> dict[str, Any]:
    """Encoding of pixels, which all images of one file must share."""
    bits, formats = (
        {*np.atleast_1d(tags.get("bits", 1)).tolist()},
        {*np.atleast_1d(tags.get("sample_format", 1)).tolist()},
    )
    compression = COMPRESSIONS.get(tags.get("compression", 1))
    if compression is None:
        raise UnusualFileError(f"its compression has the code {tags['compression']}")
    if len(bits) > 1 or len(formats) > 1:
        raise UnusualFileError("its bands are of several types")
    kind, size = _SAMPLES.get(formats.pop()), bits.pop()
    if kind is None or size not in ((32, 64) if kind == "float" else (8, 16, 32, 64)):
        raise UnusualFileError(f"its numbers have {size} bits of an unusual kind")
    if tags.get("photometric", 1) in (_YCBCR, _CIELAB, _CMYK):
        raise UnusualFileError("its colours are not numbers as they are")
    if tags.get("fill_order", 1) != 1:
        raise UnusualFileError("its bits run backwards")
    predictor = tags.get("predictor", 1)
    if predictor not in ((1, 2, 3) if kind == "float" else (1, 2)):
        raise UnusualFileError(f"its predictor is {predictor}")
    return {
        "dtype": f"{kind}{size}",
        "compression": compression,
        "predictor": predictor if compression != "none" else 1,
        "bands": tags.get("bands", 1),
        "planar": tags.get("planar", 1) == 2 and tags.get("bands", 1) > 1,
        "strips": "tile_offsets" not in tags,
    }


def _level(tags: dict[str, Any]) -> Level:
    try:
        height, width = tags["height"], tags["width"]
        if "tile_offsets" in tags:
            tile_height, tile_width = tags["tile_height"], tags["tile_width"]
            offsets, counts = tags["tile_offsets"], tags["tile_counts"]
        else:
            tile_height, tile_width = min(tags.get("rows_per_strip", height), height), width
            offsets, counts = tags["strip_offsets"], tags["strip_counts"]
    except KeyError as error:
        raise UnusualFileError(f"it lacks the tag {_NEEDED[error.args[0]]}") from error
    if min(height, width, tile_height, tile_width) < 1:
        raise UnusualFileError("its image or its tiles have no extent")
    planes = tags.get("bands", 1) if tags.get("planar", 1) == 2 else 1
    shape = (planes, -(-height // tile_height), -(-width // tile_width))
    if not offsets.size == counts.size == math.prod(shape):
        raise UnusualFileError("it lists another number of tiles than it needs")
    return Level(
        height,
        width,
        tile_height,
        tile_width,
        offsets.astype("uint64").reshape(shape),
        counts.astype("uint64").reshape(shape),
    )


def _nodata(tags: dict[str, Any], dtype: str) -> float | None:
    if "nodata" not in tags:
        return None
    try:
        value = float(tags["nodata"].rstrip(b"\0 ").decode("ascii"))
    except ValueError as error:
        raise UnusualFileError("its value for no data is no number") from error
    kind = np.dtype(dtype)
    if kind.kind in "iu" and not (
        value.is_integer() and np.iinfo(kind).min <= value <= np.iinfo(kind).max and abs(value) <= 2**53
    ):
        raise UnusualFileError(f"its value for no data is {value:g}, which is not {dtype}")
    return value
