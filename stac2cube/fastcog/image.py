"""Decode tiles of a cloud-optimised GeoTIFF."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from stac2cube.fastcog.header import CogHeader, UnusualFileError
from stac2cube.fastcog.ranges import Parts, State
from stac2cube.model.image import Roi

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

# Decompression of tiles.

Unpack = Callable[[memoryview, int], Any]
"""Takes compressed bytes and the size of the result in bytes; returns an object with a buffer."""


class DamagedTileError(UnusualFileError):
    """A tile is invalid. GDAL may find out whether the file or its known header is wrong."""


class BrokenDeflateError(DamagedTileError):
    """A deflated tile is damaged. GDAL ignores its checksum, and would return wrong pixels for many such tiles."""


def unpack(compression: str, content: memoryview, size: int) -> Any:
    """Decompress a tile; the interpreter lock is released meanwhile.

    Args:
        compression: See :class:`stac2cube.fastcog.header.CogHeader`.
        content: The tile as in the file.
        size: Expected size of the result in bytes.

    Returns:
        At least that many bytes.

    Raises:
        DamagedTileError: It cannot be decompressed, or is too short.
        BrokenDeflateError: The same for a deflated tile, also if its checksum does not match.
        UnusualFileError: A required library is not installed.
    """
    unpacker, errors = _unpacker(compression)
    try:
        made = unpacker(content, size)
    except errors as error:
        kind = BrokenDeflateError if compression == "deflate" else DamagedTileError
        raise kind(f"a tile cannot be decompressed: {error}") from error
    if len(made) < size:
        raise DamagedTileError(f"a tile holds {len(made)} bytes instead of {size}")
    return made


@cache
def _unpacker(compression: str) -> tuple[Unpack, tuple[type[Exception], ...]]:
    """The function for a compression, and the exceptions that it raises for a damaged tile."""
    if compression == "none":
        return _as_it_is, ()
    if compression == "deflate":
        # More than twice as fast as zlib (docs/benchmarks.md), and it verifies the same checksum.
        from isal import isal_zlib

        return _inflating(isal_zlib.decompress), (cast("type[Exception]", isal_zlib.error),)
    if compression == "zstd":
        return _unzstd, (RuntimeError,)
    try:
        from imagecodecs import LzwError, lzw_decode
    except ImportError as error:
        raise UnusualFileError("its tiles are compressed by LZW, which needs imagecodecs") from error
    return lambda content, size: lzw_decode(bytes(content), out=size), (LzwError,)


def _as_it_is(content: memoryview, _size: int) -> memoryview:
    return content


def _inflating(decompress: Callable[..., bytes]) -> Unpack:
    # One byte more than needed: a buffer that is filled completely is treated as too small, enlarged and copied.
    return lambda content, size: decompress(content, bufsize=size + 1)


def _unzstd(content: memoryview, _size: int) -> Any:
    from numcodecs.zstd import decompress

    return decompress(content)


# A cloud-optimised GeoTIFF as an image: the tiles of a window are fetched and assembled.


@dataclass(frozen=True)
class CogImage:
    """See :class:`stac2cube.model.image.Image`.

    Attributes:
        header: Its header.
        parts: The file.
    """

    header: CogHeader
    parts: Parts

    is_jpeg2000 = False
    quick = True

    @property
    def geobox(self) -> GeoBox:
        """Grid of the full resolution."""
        return self.header.geobox

    @property
    def nodata(self) -> float | None:
        """Value of pixels without data."""
        return self.header.nodata

    @property
    def bands(self) -> int:
        """Number of bands."""
        return self.header.bands

    @property
    def factors(self) -> list[int]:
        """Factors of the overviews."""
        return self.header.factors

    def geobox_of(self, level: int) -> GeoBox:
        """Grid of a level."""
        return self.header.geobox_of(level)

    def is_averaged(self, level: int) -> bool:  # noqa: ARG002 - others are no levels of a header
        """See :meth:`stac2cube.model.image.Image.is_averaged`."""
        return True

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:
        """See :meth:`stac2cube.model.image.Image.read`.

        Raises:
            ChangedFileError: The file differs from the one that the header describes.
            DamagedTileError: A tile is invalid.
            OSError: It cannot be read.
        """
        header, rows, columns = self.header, *roi
        here = header.levels[level]
        height, width = here.tile_height, here.tile_width
        plane = index - 1 if header.planar else 0
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), header.dtype)
        there, spans = [], []
        for down in range(rows.start // height, -(-rows.stop // height)):
            for across in range(columns.start // width, -(-columns.stop // width)):
                first, count = int(here.offsets[plane, down, across]), int(here.counts[plane, down, across])
                if count:
                    if header.size and first + count > header.size:
                        raise DamagedTileError("a tile lies beyond the end of the file")
                    there.append((down, across))
                    spans.append((first, first + count))
                else:  # missing tile of a sparse file
                    self._cut(out, roi, (down * height, across * width), (height, width))[1][...] = header.nodata or 0
        contents = self.parts.read(spans, State(header.size, header.etag, header.modified)) if spans else []
        for (down, across), content in zip(there, contents, strict=True):
            corner = down * height, across * width
            tall = min(height, here.height - corner[0]) if header.strips else height
            within, part = self._cut(out, roi, corner, (tall, width))
            self._place(content, (tall, width), within, 0 if header.planar else index - 1, part)
        return out

    @staticmethod
    def _cut(
        out: np.ndarray, roi: Roi, corner: tuple[int, int], shape: tuple[int, int]
    ) -> tuple[tuple[int, int], np.ndarray]:
        """The position within a tile at which a window begins, and the part of the window that the tile fills."""
        begins, ends, within = [], [], []
        for wanted, first, length in zip(roi, corner, shape, strict=True):
            begins.append(max(first, wanted.start) - wanted.start)
            ends.append(min(first + length, wanted.stop) - wanted.start)
            within.append(max(wanted.start - first, 0))
        return (within[0], within[1]), out[begins[0] : ends[0], begins[1] : ends[1]]

    def _place(
        self, content: memoryview, shape: tuple[int, int], within: tuple[int, int], band: int, part: np.ndarray
    ) -> None:
        header = self.header
        dtype = np.dtype(header.dtype).newbyteorder(">" if header.big_endian else "<")
        samples = 1 if header.planar else header.bands
        size = shape[0] * shape[1] * samples * dtype.itemsize
        numbers = np.frombuffer(unpack(header.compression, content, size), "u1", size)
        tile = numbers.reshape(*shape, samples, dtype.itemsize)
        if header.predictor == 2 and _is_little_work(part.shape[0] * (within[1] + part.shape[1])):
            place_by_numpy(tile, dtype, band, within, part)
            return
        from stac2cube.fastcog.kernels import place_tile

        place_tile(tile, dtype, header.predictor, band, within, part)


_LITTLE = 1 << 27
"""Most numbers whose differences a process sums with NumPy. That takes 1.7 ns a number more than the compiled loops,
but numba takes 0.65 s of CPU to import, and 350 modules (docs/benchmarks.md): a small build is faster without it."""

_summed = [0]


def _is_little_work(count: int) -> bool:
    if "stac2cube.fastcog.kernels" in sys.modules:
        return False
    _summed[0] += count  # threads may lose updates: it is an estimate
    return _summed[0] <= _LITTLE


def place_by_numpy(tile: np.ndarray, dtype: np.dtype[Any], band: int, corner: tuple[int, int], out: np.ndarray) -> None:
    """Equivalent of :func:`stac2cube.fastcog.kernels.place_tile` for horizontal differencing, without numba.

    Args:
        tile: uint8 ``(rows, columns, samples, bytes per number)`` as decompressed.
        dtype: Type of the numbers, in the byte order of the file.
        band: Index of the sample, from 0.
        corner: First row and column wanted.
        out: ``(rows, columns)`` of the numbers' type in native byte order; a view, overwritten.
    """
    bits = np.dtype(f"u{dtype.itemsize}")
    numbers = tile.view(bits.newbyteorder(dtype.byteorder))[..., 0]
    rows, columns = (slice(first, first + length) for first, length in zip(corner, out.shape, strict=True))
    out.view(bits)[...] = np.cumsum(numbers[rows, : columns.stop, band], axis=1, dtype=bits)[:, columns]
