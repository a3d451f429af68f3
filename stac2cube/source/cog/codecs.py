"""Bytes of a tile, compressed and not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

from stac2cube.source.cog.header import UnusualFileError

Unpack = Callable[[memoryview, int], Any]
"""From compressed bytes and how many they become to something with a buffer."""


class DamagedTileError(UnusualFileError):
    """A tile does not hold what it should. Whether the file or what is known of it is wrong, GDAL may judge."""


def unpack(compression: str, content: memoryview, size: int) -> Any:
    """Decompress a tile; the interpreter lock is released meanwhile.

    Args:
        compression: See :class:`stac2cube.source.cog.header.CogHeader`.
        content: The tile as in the file.
        size: Bytes that it must become.

    Returns:
        At least that many bytes.

    Raises:
        DamagedTileError: It cannot be decompressed, or is too short.
        UnusualFileError: A library for that is not installed.
    """
    unpacker, errors = _unpacker(compression)
    try:
        made = unpacker(content, size)
    except errors as error:
        raise DamagedTileError(f"a tile cannot be decompressed: {error}") from error
    if len(made) < size:
        raise DamagedTileError(f"a tile holds {len(made)} bytes instead of {size}")
    return made


@cache
def _unpacker(compression: str) -> tuple[Unpack, tuple[type[Exception], ...]]:
    """A function, and the exceptions by which it says that a tile is damaged."""
    if compression == "none":
        return _as_it_is, ()
    if compression == "deflate":
        # More than twice as fast as zlib (docs/benchmarks.md), and it checks the same sum.
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
    # One byte more than is made: a buffer that is full to its end is taken to be too small, made larger and copied.
    return lambda content, size: decompress(content, bufsize=size + 1)


def _unzstd(content: memoryview, _size: int) -> Any:
    from numcodecs.zstd import decompress

    return decompress(content)
