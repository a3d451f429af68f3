"""Parse JPEG 2000 headers and decode windows of JPEG 2000 files."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from stac2cube.access.sign import Opening, unsigned
from stac2cube.errors import Stac2cubeError
from stac2cube.fastcog.header import UnusualFileError
from stac2cube.fastcog.ranges import KnownHeaders, LocalParts, Parts, header_reader, remote_file
from stac2cube.model.image import Roi

# Header of a JPEG 2000 file: the positions of the bytes of every tile, which are needed to fetch parts of it.
#
# Sources: ISO/IEC 15444-1 (ITU-T T.800): annex A for the markers of the codestream, annex I for the boxes of a JP2
# file. If the main header lists the lengths of all tile-parts (marker TLM), its first bytes suffice; otherwise the
# tile-parts are followed from one to the next, which is cheap on disk and expensive over a network.

HEAD_BYTES = 32_768
"""Bytes of the first request: the boxes before the codestream and its main header, with lengths of 121 tiles, fit
well."""

MORE_BYTES = 1 << 20
"""Bytes of the second request, if they do not fit; there is no third request for the main header."""

_SIZ, _COD, _COC, _TLM, _PLT, _SOT, _SOD = 0xFF51, 0xFF52, 0xFF53, 0xFF55, 0xFF58, 0xFF90, 0xFF93


class NotJpeg2000Error(Stac2cubeError):
    """A file that is not a JPEG 2000, or has a truncated or invalid header."""


@dataclass(frozen=True, eq=False)
class Jp2Header:
    """A JPEG 2000 file without its pixels.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        tile_height: Height of a tile in pixels.
        tile_width: Width of a tile in pixels.
        dtype: NumPy name of the type that holds the samples, ``"uint16"``.
        bands: Number of components.
        decompositions: Levels of the wavelet transform: every tile contains overviews by factors of 2, 4 ...
        tiles: int64 ``(parts,)``: row-major index of the tile that each tile-part belongs to; empty if the file does
            not list its parts and they were not followed.
        offsets: int64 ``(parts,)``: first byte of each tile-part.
        counts: int64 ``(parts,)``: bytes of each tile-part.
        packets: Whether tile-parts list the lengths of their packets (marker PLT).
        size: Bytes of the file, 0 if unknown.
        etag: The server's ETag of this state of the file, "" if there is none.
        modified: Time of the last change, nanoseconds since 1970, 0 if unknown.
        reversible: Whether the main header names the 5-3 integer wavelet transform, with which any part of a tile
            decodes to the pixels of the whole; False for the 9-7 transform, or if unknown. The header of a tile may
            name another transform. Tables do not store it.
    """

    height: int
    width: int
    tile_height: int
    tile_width: int
    dtype: str
    bands: int
    decompositions: int
    tiles: NDArray[np.int64]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    packets: bool
    size: int = 0
    etag: str = ""
    modified: int = 0
    reversible: bool = False

    def ranges(self, tile: int) -> list[tuple[int, int]]:
        """First and last byte (not included) of each part of a tile; empty if unknown."""
        places = np.flatnonzero(self.tiles == tile)
        return [(int(self.offsets[p]), int(self.offsets[p] + self.counts[p])) for p in places]

    def to_record(self) -> dict[str, Any]:
        """Plain values for a table, like those of :class:`stac2cube.fastcog.header.CogHeader`."""
        record = asdict(self)
        for name in ("height", "width", "tile_height", "tile_width", "offsets", "counts", "reversible"):
            del record[name]
        record["levels"] = [[self.height, self.width, self.tile_height, self.tile_width]]
        parts = np.stack([self.tiles, self.offsets, self.counts]).astype("<i8")
        return record | {"tiles": zlib.compress(parts.tobytes(), 6)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Jp2Header:
        """Restore a header from a record of :meth:`to_record`.

        Raises:
            ValueError: It is not such a record.
        """
        try:
            values = dict(record)
            ((height, width, tile_height, tile_width),) = values.pop("levels")
            parts = np.frombuffer(zlib.decompress(values.pop("tiles")), "<i8").reshape(3, -1)
            tiles, offsets, counts = (part.astype("int64") for part in parts)
            return cls(height, width, tile_height, tile_width, tiles=tiles, offsets=offsets, counts=counts, **values)
        except (KeyError, TypeError, zlib.error) as error:
            raise ValueError(f"no header of a JPEG 2000: {error}") from error


class CutOffError(NotJpeg2000Error):
    """A truncated file."""


def is_jpeg2000(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a JP2 file or a bare codestream."""
    return head[4:12] == b"jP  \r\n\x87\n" or head[:4] == b"\xff\x4f\xff\x51"


def read_jp2_header(
    read: Callable[[int, int], bytes], size: int = 0, etag: str = "", modified: int = 0, *, follow: bool = False
) -> Jp2Header:
    """Read the header of a JPEG 2000 file with at most two requests, unless tile-parts are followed.

    Args:
        read: Returns the bytes from a first to before a last, fewer at the end of the file.
        size: Bytes of the file, 0 if unknown.
        etag: See :class:`Jp2Header`.
        modified: See :class:`Jp2Header`.
        follow: Follow the tile-parts if their lengths are not listed: a small read for each.

    Raises:
        NotJpeg2000Error: It is not a JPEG 2000, or is truncated within its header.
    """
    head = read(0, HEAD_BYTES)
    if not is_jpeg2000(head):
        raise NotJpeg2000Error("it is no JPEG 2000")
    try:
        return _parse(head, read, (size, etag, modified), follow=follow)
    except (struct.error, IndexError):
        if len(head) < HEAD_BYTES:
            raise NotJpeg2000Error("it ends within its header") from None
    head += read(len(head), len(head) + MORE_BYTES)
    try:
        return _parse(head, read, (size, etag, modified), follow=follow)
    except (struct.error, IndexError):
        raise NotJpeg2000Error("its header is longer than any known, or cut off") from None


def _parse(head: bytes, read: Callable[[int, int], bytes], state: tuple[int, str, int], *, follow: bool) -> Jp2Header:
    begin, end = _codestream(head, state[0])
    if end > (state[0] or end):
        raise CutOffError(f"it is cut off: {state[0]} bytes are there of {end}")
    main: dict[int, bytes] = {}
    lengths: list[tuple[int, bytes]] = []
    place = begin + 2
    for marker, first, last in _segments(head, place):
        if marker == _SOT:
            place = first - 4
            break
        body = head[first:last]
        if marker == _TLM:
            lengths.append((body[0], body[1:]))
        main.setdefault(marker, body)
    if _SIZ not in main or _COD not in main:
        raise NotJpeg2000Error("its codestream does not say its size")
    facts = _size_facts(main[_SIZ])
    tiles: list[int] = []
    counts: list[int] = []
    if lengths:
        tiles, counts = _listed_parts(sorted(lengths))
    elif follow:
        tiles, counts = _followed_parts(read, place, end)
    ends = place + np.cumsum(np.asarray(counts, "int64"))
    if counts and ends[-1] > (state[0] or ends[-1]):
        raise CutOffError("it is cut off: its tiles are longer than the file")
    return Jp2Header(
        **facts,
        decompositions=main[_COD][5],
        tiles=np.asarray(tiles, "int64"),
        offsets=ends - np.asarray(counts, "int64"),
        counts=np.asarray(counts, "int64"),
        packets=_lists_packets(head, place),
        size=state[0],
        etag=state[1],
        modified=state[2],
        reversible=_is_reversible(main),
    )


def _codestream(head: bytes, size: int) -> tuple[int, int]:
    """Begin and end of the codestream (0 if the file does not declare it): in a JP2 file, that of its box ``jp2c``."""
    if head[:2] == b"\xff\x4f":
        return 0, size
    place = 0
    while True:
        length, kind = struct.unpack_from(">I4s", head, place)
        first = place + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", head, first)
            first += 8
        if kind == b"jp2c":
            if head[first : first + 2] != b"\xff\x4f":
                raise IndexError  # it is beyond the bytes read
            return first, place + length if length else size
        if length < 8:
            raise NotJpeg2000Error("it has a box without a length before its codestream")
        place += length


def _segments(head: bytes, place: int) -> Iterator[tuple[int, int, int]]:
    """Marker, first byte and end of the body of each segment."""
    while True:
        marker, length = struct.unpack_from(">HH", head, place)
        if marker >> 8 != 0xFF:
            raise NotJpeg2000Error("its codestream holds no marker where one should be")
        if place + 2 + length > len(head) and marker != _SOT:
            raise IndexError
        yield marker, place + 4, place + 2 + length
        place += 2 + length


def _size_facts(body: bytes) -> dict[str, Any]:
    """Marker SIZ (A.5.1): sizes of image and tiles, and the type of the samples."""
    _, right, down, left, top, tile_width, tile_height, *_ = struct.unpack_from(">HIIIIIIII", body)
    (bands,) = struct.unpack_from(">H", body, 34)
    depth = body[36]
    bits, signed = (depth & 0x7F) + 1, bool(depth & 0x80)
    width, height = right - left, down - top
    return {
        "height": height,
        "width": width,
        "tile_height": min(tile_height, height),
        "tile_width": min(tile_width, width),
        "dtype": f"{'' if signed else 'u'}int{8 if bits <= 8 else 16 if bits <= 16 else 32}",
        "bands": bands,
    }


def _is_reversible(main: dict[int, bytes]) -> bool:
    """Whether marker COD (A.6.1, table A.20) names the 5-3 transform, and no component has its own (COC)."""
    body = main[_COD]
    return _COC not in main and len(body) > 9 and body[9] == 1


def _listed_parts(lists: list[tuple[int, bytes]]) -> tuple[list[int], list[int]]:
    """Markers TLM (A.7.1) in their order: tile and length of every tile-part."""
    tiles: list[int] = []
    counts: list[int] = []
    for _, body in lists:
        index_bytes, long = body[0] >> 4 & 3, bool(body[0] & 0x40)
        step = index_bytes + (4 if long else 2)
        for place in range(1, len(body) - step + 1, step):
            index = int.from_bytes(body[place : place + index_bytes], "big") if index_bytes else len(tiles)
            tiles.append(index)
            counts.append(int.from_bytes(body[place + index_bytes : place + step], "big"))
    return tiles, counts


def _followed_parts(read: Callable[[int, int], bytes], place: int, end: int) -> tuple[list[int], list[int]]:
    """Tiles and lengths by following markers SOT (A.4.2), each of which gives the position of the next one."""
    tiles: list[int] = []
    counts: list[int] = []
    while not end or place < end:
        head = read(place, place + 12)
        if len(head) < 12 or struct.unpack_from(">H", head)[0] != _SOT:
            break
        index, length = struct.unpack_from(">HI", head, 4)
        tiles.append(index)
        counts.append(length or end - 2 - place)  # the last length may be 0: up to the end marker
        if not length:
            break
        place += length
    return tiles, counts


def _lists_packets(head: bytes, place: int) -> bool:
    """Whether the header of the first tile-part has a marker PLT, within the bytes read."""
    try:
        for marker, _, _ in _segments(head, place):
            if marker in (_PLT, _SOD):
                return marker == _PLT
    except (IndexError, struct.error, NotJpeg2000Error):
        pass
    return False


def packet_lengths(body: bytes) -> list[int]:
    """Lengths of packets in the body of a marker PLT (A.7.3): seven bits a byte, the eighth means "more"."""
    lengths, value = [], 0
    for byte in body[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            lengths.append(value)
            value = 0
    return lengths


# Decoding of areas of JPEG 2000 files on a disk: only the needed area is decoded; GDAL decodes whole tiles.
#
# The decoder is OpenJPEG, as in GDAL, called through glymur. The pixels are equal if the wavelet transform is the 5-3
# integer one; with the 9-7 one a pixel of an area may differ by a count from that of the whole tile, so those files are
# left to GDAL. It is used only for areas that are small compared with the tiles they intersect, where it is faster.
# Also here: the check that a file is complete. For a truncated file GDAL returns zeros for missing tiles if its main
# header lists the positions of tiles, which those of Sentinel-2 do by now.

log = logging.getLogger(__name__)

ENDINGS = (".jp2", ".j2k", ".jpx")

_LEAST_TILE = 512
"""Smallest edge of a tile in pixels: OpenJPEG takes longer than GDAL to search many small tiles."""

_SMALL = 0.5
"""Areas that cover less than this fraction of the tiles they intersect are decoded separately."""


def is_jpeg2000_name(href: str) -> bool:
    """Whether a file's name has a suffix of JPEG 2000."""
    return urlsplit(href).path.lower().endswith(ENDINGS)


def fetch_jp2_header(parts: Parts, *, follow: bool) -> Jp2Header:
    """Read the header of a JPEG 2000 file.

    Args:
        parts: The file.
        follow: See :func:`stac2cube.fastcog.jp2.read_jp2_header`.

    Raises:
        UnusualFileError: It is not a JPEG 2000.
        OSError: The file is truncated, or cannot be read.
    """
    read, state = header_reader(parts, HEAD_BYTES)
    try:
        return read_jp2_header(read, state.size, state.etag, state.modified, follow=follow)
    except CutOffError as error:
        raise OSError(str(error)) from None
    except NotJpeg2000Error as error:
        raise UnusualFileError(str(error)) from error


_KNOWN: KnownHeaders[Jp2Header, Parts] = KnownHeaders(lambda _href, parts: fetch_jp2_header(parts, follow=False))
"""Cache of headers of remote files, for the life of the process."""


def whole_header(href: str, way: Opening) -> Jp2Header | None:
    """Read the header of a JPEG 2000 file and check that the file is complete; None if that cannot be determined.

    Args:
        href: Address as given by the catalog.
        way: How the file is opened.

    Raises:
        OSError: The file is truncated, or cannot be read.
    """
    try:
        parts = remote_file(way)
        return _KNOWN.get(href, parts) if way.remote else fetch_jp2_header(parts, follow=False)
    except UnusualFileError as reason:
        log.debug("whether %s is whole is for GDAL to find out: %s", unsigned(href), reason)
        return None


def read_area(path: str, header: Jp2Header, roi: Roi) -> np.ndarray | None:
    """Decode the pixels of an area at the full resolution.

    Args:
        path: Path of a file with one band.
        header: Header of the file.
        roi: Rows and columns, within the image.

    Returns:
        ``(rows, columns)``; None if GDAL is faster, or must be used.
    """
    if not _pays(header, roi) or not _is_installed() or _tiles_differ(path, header, roi):
        return None
    import glymur

    try:
        pixels: np.ndarray = glymur.Jp2k(path)[roi[0].start : roi[0].stop, roi[1].start : roi[1].stop]
    except (OSError, RuntimeError, ValueError) as error:
        log.debug("GDAL reads %s: %s", path, error)
        return None
    wanted = (roi[0].stop - roi[0].start, roi[1].stop - roi[1].start)
    return pixels if pixels.shape == wanted and str(pixels.dtype) == header.dtype else None


def _pays(header: Jp2Header, roi: Roi) -> bool:
    if not header.reversible or header.bands != 1 or min(header.tile_height, header.tile_width) < _LEAST_TILE:
        return False
    wanted, touched = 1, 1
    for part, edge, length in zip(
        roi, (header.tile_height, header.tile_width), (header.height, header.width), strict=True
    ):
        wanted *= part.stop - part.start
        touched *= min(-(-part.stop // edge) * edge, length) - part.start // edge * edge
    return wanted < _SMALL * touched


def _tiles_differ(path: str, header: Jp2Header, roi: Roi) -> bool:
    """Whether a tile in an area names its own transform: markers COD and COC, A.6.1 and A.6.2."""
    if not header.tiles.size:
        header = fetch_jp2_header(LocalParts(path), follow=True)
    across = -(-header.width // header.tile_width)
    rows, columns = (
        range(part.start // edge, -(-part.stop // edge))
        for part, edge in zip(roi, (header.tile_height, header.tile_width), strict=True)
    )
    with Path(path).open("rb") as file:
        parts = [header.ranges(row * across + column)[:1] for row in rows for column in columns]
        return any(not part or _names_transform(file, *part[0]) for part in parts)


def _names_transform(file: BinaryIO, first: int, last: int) -> bool:
    """Whether the header of a tile's first tile-part, the only one allowed to, has a marker COD or COC."""
    place = first
    while place + 4 <= last:
        file.seek(place)
        marker, length = struct.unpack(">HH", file.read(4).ljust(4, b"\0"))
        if marker in (_COD, _COC):
            return True
        if marker == _SOD:
            return False
        place += 2 + length
    return True  # a header without an end is left to GDAL


@cache
def _is_installed() -> bool:
    """Whether glymur is installed with an OpenJPEG that decodes areas (2.3 or newer)."""
    if find_spec("glymur") is None:
        return False
    # glymur warns about boxes that are unknown or look odd to it; their pixels can still be read.
    warnings.filterwarnings("ignore", category=UserWarning, module="glymur")
    import glymur

    return tuple(map(int, glymur.version.openjpeg_version.split(".")[:2])) >= (2, 3)
