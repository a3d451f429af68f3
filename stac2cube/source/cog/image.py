"""A cloud-optimised GeoTIFF as an image that blocks are cut from: the tiles of a window, fetched and put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox

from stac2cube.source.cog.codecs import DamagedTileError, unpack
from stac2cube.source.cog.header import CogHeader
from stac2cube.source.cog.ranges import Parts, State
from stac2cube.source.image import Roi


@dataclass(frozen=True)
class CogImage:
    """See :class:`stac2cube.source.image.Image`.

    Attributes:
        header: What is known of it.
        parts: The file.
    """

    header: CogHeader
    parts: Parts

    is_jpeg2000 = False
    quick = True

    @property
    def geobox(self) -> GeoBox:
        """Lattice of the full resolution."""
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
        """Of the overviews."""
        return self.header.factors

    def geobox_of(self, level: int) -> GeoBox:
        """Lattice of a level."""
        return self.header.geobox_of(level)

    def is_averaged(self, level: int) -> bool:  # noqa: ARG002 - others are no levels of a header
        """See :meth:`stac2cube.source.image.Image.is_averaged`."""
        return True

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:
        """See :meth:`stac2cube.source.image.Image.read`.

        Raises:
            ChangedFileError: It is another file than the header describes.
            DamagedTileError: A tile does not hold what it should.
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
                else:  # a sparse file leaves such tiles out
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
        """Where a window begins within a tile, and the part of the window that the tile fills."""
        begins, ends, within = [], [], []
        for wanted, first, length in zip(roi, corner, shape, strict=True):
            begins.append(max(first, wanted.start) - wanted.start)
            ends.append(min(first + length, wanted.stop) - wanted.start)
            within.append(max(wanted.start - first, 0))
        return (within[0], within[1]), out[begins[0] : ends[0], begins[1] : ends[1]]

    def _place(
        self, content: memoryview, shape: tuple[int, int], within: tuple[int, int], band: int, part: np.ndarray
    ) -> None:
        from stac2cube.kernels.tiles import place_tile

        header = self.header
        dtype = np.dtype(header.dtype).newbyteorder(">" if header.big_endian else "<")
        samples = 1 if header.planar else header.bands
        size = shape[0] * shape[1] * samples * dtype.itemsize
        numbers = np.frombuffer(unpack(header.compression, content, size), "u1", size)
        tile = numbers.reshape(*shape, samples, dtype.itemsize)
        place_tile(tile, dtype, header.predictor, band, within, part)
