"""Granules joined before they are resampled, where a product is cut into tiles without overlap.

Resampled one by one, each tile would end in pixels that know nothing of their neighbours beyond the cut. Tiles whose
pixels lie on one lattice are therefore laid into one image, as far as a block needs it, and that is resampled once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi

from stac2cube.errors import ReadError
from stac2cube.scene import AssetRef
from stac2cube.source.asset import Cut, is_nodata, stored, warp
from stac2cube.source.band import BandRequest
from stac2cube.source.image import Image

PADDING = 8
"""Pixels around what a block covers, enough for every kernel."""


@dataclass
class Joint:
    """One band of a block, joined from granules laid down in the order of :meth:`add`; the first valid pixel wins.

    Attributes:
        band: How it is wanted.
        geobox: Lattice of the block.
    """

    band: BandRequest
    geobox: GeoBox
    _parts: list[_Part] = field(default_factory=list)
    _quick: bool = True

    def add(self, image: Image, asset: AssetRef) -> None:
        """Lay one image down.

        Args:
            image: Whoever reads it.
            asset: Band within it, and counts to add.

        Raises:
            RasterioError: It cannot be read (also OSError).
            ReadError: It has not that band.
        """
        if not 1 <= asset.index <= image.bands:
            raise ReadError(f"it has {image.bands} band(s), and no band {asset.index}")
        part = next((part for part in self._parts if part.holds(image.geobox)), None)
        if part is None:
            part = _Part.around(image.geobox, self.geobox, self.band)
            self._parts.append(part)
        part.add(image, asset, self.band)
        self._quick = self._quick and image.quick

    def pixels(self) -> np.ndarray:
        """``(rows, columns)`` of the band's dtype in stored form; where lattices differ, the first one's come first."""
        out = np.full(self.geobox.shape, self.band.fill, dtype=self.band.dtype)
        for part in self._parts:
            pixels = np.full(self.geobox.shape, self.band.fill, dtype=self.band.dtype)
            if part.array.size:
                relation = compute_reproject_roi(part.geobox, self.geobox)
                warp(Cut(part.array, part.geobox, relation.scale, self._quick), self.band, self.geobox, pixels)
            np.copyto(out, pixels, where=is_nodata(out, self.band.fill))
        return out


@dataclass
class _Part:
    """The part of an endless lattice that a block needs.

    Attributes:
        geobox: The part.
        array: ``(rows, columns)`` in stored form.
    """

    geobox: GeoBox
    array: np.ndarray

    @classmethod
    def around(cls, source: GeoBox, target: GeoBox, band: BandRequest) -> _Part:
        """What a block needs of the lattice on which a file lies."""
        bounds = target.footprint(str(source.crs)).boundingbox
        left, top = (~source.transform) * (bounds.left, bounds.top)
        right, bottom = (~source.transform) * (bounds.right, bounds.bottom)
        first = (int(np.floor(left)) - PADDING, int(np.floor(top)) - PADDING)
        last = (int(np.ceil(right)) + PADDING, int(np.ceil(bottom)) + PADDING)
        shape = (max(last[1] - first[1], 0), max(last[0] - first[0], 0))
        geobox = GeoBox(shape, source.transform * Affine.translation(*first), source.crs)
        return cls(geobox, np.full(shape, band.fill, dtype=band.dtype))

    def holds(self, source: GeoBox) -> bool:
        """Whether a file's pixels lie on this lattice."""
        if source.crs != self.geobox.crs:
            return False
        mine, theirs = self.geobox.transform, source.transform
        same = np.allclose((mine.a, mine.e), (theirs.a, theirs.e), rtol=1e-9) and mine.b == mine.d == theirs.b == 0
        column, row = self._place(source)
        return bool(same and abs(column - round(column)) < 0.01 and abs(row - round(row)) < 0.01)

    def add(self, image: Image, asset: AssetRef, band: BandRequest) -> None:
        """Paste what an image has of this part, where there is nothing yet."""
        column, row = (round(value) for value in self._place(image.geobox))
        height, width = image.geobox.shape
        rows = slice(max(row, 0), min(row + height, self.array.shape[0]))
        columns = slice(max(column, 0), min(column + width, self.array.shape[1]))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return
        window = slice(rows.start - row, rows.stop - row), slice(columns.start - column, columns.stop - column)
        nodata = image.nodata if image.nodata is not None else band.fill
        pixels = stored(image.read(asset.index, window), nodata, band, asset)
        here = self.array[rows, columns]
        np.copyto(here, pixels, where=is_nodata(here, band.fill))

    def _place(self, source: GeoBox) -> tuple[float, float]:
        """Column and row of a file's first pixel in this part."""
        column, row = (~self.geobox.transform) * (source.transform.c, source.transform.f)
        return float(column), float(row)
