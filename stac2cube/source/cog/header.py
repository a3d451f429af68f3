"""What must be known of a GeoTIFF before its pixels can be fetched: where every tile lies, and how it is packed.

A :class:`CogHeader` is small and stays true as long as the file does, so it can be kept beside a catalog's items. It
describes only files whose pixels :mod:`stac2cube.source.cog` reads itself;
:func:`stac2cube.source.cog.tiff.read_header` refuses all others.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from stac2cube.errors import Stac2cubeError

COMPRESSIONS = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 50000: "zstd"}
"""Codes of the Compression tag (TIFF 6.0; libtiff's tiff.h for zstd) that are read here."""


class UnusualFileError(Stac2cubeError):
    """A file that is none of those read here; GDAL may well read it. The message says what is unusual."""


class NotForUsError(UnusualFileError):
    """Nothing is known of the file: where it is, or who reads it, is for GDAL to find out."""


@dataclass(frozen=True, eq=False)
class Level:
    """One image of the file: the full resolution or an overview.

    Attributes:
        height: Pixels.
        width: Pixels.
        tile_height: Pixels; strips are tiles as wide as the image.
        tile_width: Pixels.
        offsets: uint64 ``(planes, tiles down, tiles across)``: first byte of each tile; one plane unless bands are
            stored apart.
        counts: uint64, likewise: bytes of each tile, 0 where a sparse file has none.
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
        planar: Whether bands are stored apart.
        strips: Whether it is made of strips, whose last may be short.
        nodata: Value of pixels without data, None if the file does not say.
        masked: Whether it has an internal mask (which says nothing here: what holds no data is said by numbers).
        transform: From pixels to coordinates, ``(a, b, c, d, e, f)`` as of :class:`affine.Affine`.
        crs: ``"EPSG:32632"``, or WKT.
        size: Bytes of the file, 0 if unknown.
        etag: What the server calls this state of the file, "" if it does not say.
        modified: When it was last changed, nanoseconds since 1970, 0 if unknown.
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
        """Lattice of the full resolution."""
        return GeoBox(self.levels[0].shape, Affine(*self.transform), self.crs)

    @property
    def factors(self) -> list[int]:
        """How many pixels of the full resolution make one of each overview, along a line."""
        return [round(self.levels[0].width / level.width) for level in self.levels[1:]]

    def geobox_of(self, level: int) -> GeoBox:
        """Lattice of the full resolution (0) or of an overview (from 1)."""
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
        """The header of which :meth:`to_record` made a record.

        Raises:
            ValueError: It is no such record.
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
        """Everything in some hundred bytes."""
        record = self.to_record()
        tiles: bytes = record.pop("tiles")
        return json.dumps(record, separators=(",", ":")).encode() + b"\n" + tiles

    @classmethod
    def from_bytes(cls, content: bytes) -> CogHeader:
        """The header of which :meth:`to_bytes` made bytes.

        Raises:
            ValueError: They are no such bytes.
        """
        facts, _, tiles = content.partition(b"\n")
        return cls.from_record(json.loads(facts) | {"tiles": tiles})


def _packed(levels: tuple[Level, ...]) -> bytes:
    """Offsets and counts of all tiles: tiles mostly follow each other, so what is kept is by how much they do not."""
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
