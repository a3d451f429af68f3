"""Pixels of a whole shard to the bytes of its file: chunk after chunk, then where each lies.

That is all that the codec ``sharding_indexed`` asks for (Zarr 3, zarr-specs.readthedocs.io), so no store, no event loop
and no folder come in between. A small shard takes half of the time that these would take; a large one takes as long as
through zarrs (docs/benchmarks.md). Readers are those libraries, to whose pixels tests hold it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import blosc
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, ShardingCodecIndexLocation
from zarr.storage import MemoryStore, StorePath

from stac2cube.errors import CubeError

# Its own threads would put each block of a chunk where it is ready, and equal pixels would make files of other bytes
# every time; it has them in the main thread only. Blocks of the cube, not of a codec, are what is made in parallel.
blosc.use_threads = False

_ABSENT = 2**64 - 1
"""Place and length, in the index, of a chunk that is all fill."""

_SHUFFLES = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}


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
    codec: BloscCodec

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
            packed = self._pack(chunk)
            index[place] = end, len(packed)
            end += len(packed)
            yield packed
            del packed  # so that the next one takes its place in memory
        places = index.tobytes()
        yield places + struct.pack("<I", google_crc32c.value(places))

    def _pack(self, chunk: np.ndarray) -> bytes:
        codec = self.codec
        how = codec.cname.value.encode(), codec.clevel, _SHUFFLES[codec.shuffle.value], codec.blocksize
        made: bytes = blosc.compress(chunk, *how)
        return made


@lru_cache(maxsize=256)
def format_of(metadata: bytes) -> ShardFormat:
    """How an array wants its shards.

    Args:
        metadata: Its ``zarr.json``, as :func:`stac2cube.cube.shard.create_array` writes it.

    Raises:
        CubeError: Nobody here makes arrays like that.
    """
    array: Any = zarr.Array(zarr.AsyncArray(json.loads(metadata), StorePath(MemoryStore())))
    match array.metadata.codecs:
        case (
            ShardingCodec(
                codecs=(BytesCodec(), BloscCodec() as codec),
                index_codecs=(BytesCodec(), Crc32cCodec()),
                index_location=ShardingCodecIndexLocation.end,
            ),
        ):
            return ShardFormat(array.shards, array.chunks, array.fill_value, codec)
    raise CubeError("an array of the cube is packed in a way that this version does not write")
