"""JPEG 2000 read window by window: tiles that several windows touch are decoded once, and the last ones remembered.

A tile is decoded as a whole or, by :mod:`stac2cube.source.area`, at the price of most of it. Windows of one lattice cut
the tiles of another anywhere, so that each tile would be decoded for every window that touches it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from odc.geo.geobox import GeoBox

from stac2cube.source.gdal import GdalImage
from stac2cube.source.image import Image, Roi

MOST = 256 << 20
"""Bytes of tiles remembered: two rows of tiles of six bands of a whole Sentinel-2 tile at 20 m, or of four at 10 m."""


@dataclass
class Tiles:
    """Tiles decoded lately; for one thread.

    Attributes:
        most: Bytes of them at most; those that were used longest ago are forgotten. 0 where there is but one window:
            then areas are decoded alone where that pays.
    """

    most: int = MOST
    _held: OrderedDict[tuple[str, int, int, int], np.ndarray] = field(default_factory=OrderedDict, repr=False)
    _bytes: int = 0

    def of(self, image: Image, name: str) -> Image:
        """An image that remembers its tiles, if it is one that is worth it.

        Args:
            image: The image, opened.
            name: Unique among all that are remembered together: its address.
        """
        if self.most and isinstance(image, GdalImage) and image.is_jpeg2000:
            return Remembered(image, name, self)
        return image

    def tile(self, image: GdalImage, name: str, index: int, row: int, column: int) -> np.ndarray:
        """A tile of an image, not to be written to."""
        key = (name, index, row, column)
        if key not in self._held:
            height, width = image.tile
            rows, columns = image.geobox.shape
            roi = (
                slice(row * height, min((row + 1) * height, rows)),
                slice(column * width, min((column + 1) * width, columns)),
            )
            self._held[key] = image.read(index, roi)
            self._bytes += self._held[key].nbytes
        self._held.move_to_end(key)
        pixels = self._held[key]
        while self._bytes > self.most and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
        return pixels


class Remembered:
    """See :class:`stac2cube.source.image.Image`.

    Args:
        image: Whoever reads it.
        name: See :meth:`Tiles.of`.
        tiles: Where its tiles are remembered.
    """

    def __init__(self, image: GdalImage, name: str, tiles: Tiles) -> None:
        self._image, self._name, self._tiles = image, name, tiles
        self.geobox, self.nodata, self.bands = image.geobox, image.nodata, image.bands
        self.factors, self.is_jpeg2000, self.quick = image.factors, image.is_jpeg2000, image.quick

    def geobox_of(self, level: int) -> GeoBox:
        """Lattice of a level."""
        return self._image.geobox_of(level)

    def is_averaged(self, level: int) -> bool:
        """See :meth:`stac2cube.source.image.Image.is_averaged`."""
        return self._image.is_averaged(level)

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:
        """Pixels of a level; whole tiles and overviews as they come, for no other window needs them."""
        if level or self._is_whole(roi):
            return self._image.read(index, roi, level)
        height, width = self._image.tile
        rows, columns = roi
        parts = [
            [
                self._tiles.tile(self._image, self._name, index, row, column)[
                    max(rows.start - row * height, 0) : rows.stop - row * height,
                    max(columns.start - column * width, 0) : columns.stop - column * width,
                ]
                for column in range(columns.start // width, -(-columns.stop // width))
            ]
            for row in range(rows.start // height, -(-rows.stop // height))
        ]
        return np.block(parts)

    def _is_whole(self, roi: Roi) -> bool:
        edges = zip(roi, self._image.tile, self.geobox.shape, strict=True)
        return all(part.start % edge == 0 and (part.stop % edge == 0 or part.stop == end) for part, edge, end in edges)
