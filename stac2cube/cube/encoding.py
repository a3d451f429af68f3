"""Pixels of a whole shard to the bytes of its file: chunk after chunk, then where each lies.

That is all that the codec ``sharding_indexed`` asks for (Zarr 3, zarr-specs.readthedocs.io), so no store, no event loop
and no folder come in between. zarrs makes the same bytes where it encodes with one thread, but only into an array on
disk, which a block that is written durably needs for itself alone: that takes three times the CPU of a small shard, and
4/3 of that of a large one (docs/benchmarks.md). Tests hold the bytes to those of zarrs, and the pixels to every reader.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc

from stac2cube.errors import CubeError

# Its own threads would put each block of a chunk where it is ready, and equal pixels would make files of other bytes
# every time; it has them in the main thread only. Blocks of the cube, not of a codec, are what is made in parallel.
blosc.use_threads = False

_ABSENT = 2**64 - 1
"""Place and length, in the index, of a chunk that is all fill."""

_SHUFFLES = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
"""Names of the codec ``blosc`` in Zarr 3 -> numbers of c-blosc."""


@dataclass(frozen=True)
class Blosc:
    """The codec ``blosc`` of an array, as its ``configuration`` in ``zarr.json`` says it.

    Attributes:
        typesize: Bytes of a number.
        cname: Name of the compressor, ``"zstd"``.
        clevel: Its level, 0 to 9.
        shuffle: ``"noshuffle"``, ``"shuffle"`` or ``"bitshuffle"``.
        blocksize: Bytes of a block, 0 for blosc's choice.
    """

    typesize: int
    cname: str
    clevel: int
    shuffle: str
    blocksize: int

    def pack(self, chunk: np.ndarray) -> bytes:
        """The bytes of a chunk, whose numbers have :attr:`typesize` bytes."""
        made: bytes = blosc.compress(chunk, self.cname.encode(), self.clevel, _SHUFFLES[self.shuffle], self.blocksize)
        return made


@dataclass(frozen=True)
class ShardFormat:
    """How the shards of an array are packed.

    Attributes:
        shard: Steps, rows and columns of a shard.
        chunk: Of a chunk in it.
        fill: Of pixels without data, as a scalar of the array's type.
        codec: Of its chunks.
    """

    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    fill: Any
    codec: Blosc

    def encode(self, block: np.ndarray) -> Iterator[bytes]:
        """The file of a shard, in parts that follow each other; each to be used up before the next is made.

        Args:
            block: Pixels of the array's type, as large as the shard or, at the array's end, smaller. Beyond them lies
                fill. All-fill chunks take no room.
        """
        counts = [whole // part for whole, part in zip(self.shard, self.chunk, strict=True)]
        index = np.full((*counts, 2), _ABSENT, "<u8")
        bits = np.dtype(f"u{block.dtype.itemsize}")
        nothing = np.asarray(self.fill, block.dtype).view(bits)
        end = 0
        chunk = np.empty(self.chunk, block.dtype.newbyteorder("<"))
        for place in product(*(range(count) for count in counts)):
            firsts = [number * part for number, part in zip(place, self.chunk, strict=True)]
            there = block[tuple(slice(first, first + part) for first, part in zip(firsts, self.chunk, strict=True))]
            if there.size == 0 or (there[0, 0, 0].view(bits) == nothing and bool((there.view(bits) == nothing).all())):
                continue
            if there.shape != self.chunk:
                chunk[...] = self.fill
            chunk[tuple(slice(length) for length in there.shape)] = there
            packed = self.codec.pack(chunk)
            index[place] = end, len(packed)
            end += len(packed)
            yield packed
            del packed  # so that the next one takes its place in memory
        places = index.tobytes()
        yield places + struct.pack("<I", google_crc32c.value(places))


@lru_cache(maxsize=256)
def format_of(metadata: bytes) -> ShardFormat:
    """How an array wants its shards.

    Args:
        metadata: Its ``zarr.json``, as :func:`stac2cube.cube.shard.create_array` writes it.

    Raises:
        CubeError: Nobody here makes arrays like that.
    """
    match json.loads(metadata):
        case {
            "data_type": str(dtype),
            "fill_value": fill,
            "chunk_grid": {"configuration": {"chunk_shape": shard}},
            "codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": chunk, **how}}],
        } if codec := _codec(dtype, how):
            return ShardFormat(tuple(shard), tuple(chunk), _scalar(fill, dtype), codec)
    raise CubeError("an array of the cube is packed in a way that this version does not write")


def _codec(dtype: str, sharding: Mapping[str, Any]) -> Blosc | None:
    """Of the chunks of a shard; None for any other way than ours."""
    match sharding:
        case {
            "codecs": [{"name": "bytes", **order}, {"name": "blosc", "configuration": words}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        }:
            if words.keys() != {part.name for part in fields(Blosc)}:
                return None
            codec = Blosc(**words)
            # Single bytes have no order, and say none.
            little = order.get("configuration", {}).get("endian", "little") == "little"
            sized = codec.typesize == np.dtype(dtype).itemsize
            if little and sized and codec.shuffle in _SHUFFLES and sharding.get("index_location", "end") == "end":
                return codec
    return None


def _scalar(fill: Any, dtype: str) -> Any:
    """The fill value of ``zarr.json`` as a number; that of floats may be "NaN", "Infinity", or bits as "0x7fc00000"."""
    kind = np.dtype(dtype)
    if isinstance(fill, str) and fill.startswith("0x"):
        return np.array(int(fill, 16), f"u{kind.itemsize}").view(kind)[()]
    return kind.type(fill)
