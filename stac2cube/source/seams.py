"""Granules joined before they are resampled, where a product is cut into tiles without overlap.

Resampled one by one, each tile would end in pixels that know nothing of their neighbours beyond the cut. Tiles whose
pixels lie on one lattice are therefore laid into one image, as far as a block needs it, and that is resampled once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from rasterio.windows import Window

from stac2cube.errors import ReadError
from stac2cube.scene import AssetRef
from stac2cube.source.asset import BandRequest, Cut, is_nodata, stored, warp

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
    _images: list[_Image] = field(default_factory=list)

    def add(self, location: str, asset: AssetRef) -> None:
        """Lay one file down.

        Args:
            location: What GDAL opens.
            asset: Band within it, and counts to add.

        Raises:
            RasterioError: The file cannot be opened or read (also OSError).
            ReadError: The file has no georeference, or not that band.
        """
        with rasterio.open(location, sharing=False) as dataset:
            if dataset.crs is None:
                raise ReadError("it has no CRS")
            if asset.index not in dataset.indexes:
                raise ReadError(f"it has {dataset.count} band(s), and no band {asset.index}")
            source = GeoBox(dataset.shape, dataset.transform, dataset.crs)
            image = next((image for image in self._images if image.holds(source)), None)
            if image is None:
                image = _Image.around(source, self.geobox, self.band)
                self._images.append(image)
            image.add(dataset, asset, self.band)

    def pixels(self) -> np.ndarray:
        """``(rows, columns)`` of the band's dtype in stored form; where lattices differ, the first one's come first."""
        out = np.full(self.geobox.shape, self.band.fill, dtype=self.band.dtype)
        for image in self._images:
            part = np.full(self.geobox.shape, self.band.fill, dtype=self.band.dtype)
            if image.array.size:
                relation = compute_reproject_roi(image.geobox, self.geobox)
                warp(Cut(image.array, image.geobox, relation.scale), self.band, self.geobox, part)
            np.copyto(out, part, where=is_nodata(out, self.band.fill))
        return out


@dataclass
class _Image:
    """The part of an endless lattice that a block needs.

    Attributes:
        geobox: The part.
        array: ``(rows, columns)`` in stored form.
    """

    geobox: GeoBox
    array: np.ndarray

    @classmethod
    def around(cls, source: GeoBox, target: GeoBox, band: BandRequest) -> _Image:
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

    def add(self, dataset: rasterio.DatasetReader, asset: AssetRef, band: BandRequest) -> None:
        """Paste what a file has of this part, where there is nothing yet."""
        column, row = (round(value) for value in self._place(GeoBox(dataset.shape, dataset.transform, dataset.crs)))
        rows = slice(max(row, 0), min(row + dataset.height, self.array.shape[0]))
        columns = slice(max(column, 0), min(column + dataset.width, self.array.shape[1]))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return
        window = Window(columns.start - column, rows.start - row, columns.stop - columns.start, rows.stop - rows.start)
        nodata = dataset.nodata if dataset.nodata is not None else band.fill
        pixels = stored(dataset.read(asset.index, window=window), nodata, band, asset.shift)
        here = self.array[rows, columns]
        np.copyto(here, pixels, where=is_nodata(here, band.fill))

    def _place(self, source: GeoBox) -> tuple[float, float]:
        """Column and row of a file's first pixel in this part."""
        column, row = (~self.geobox.transform) * (source.transform.c, source.transform.f)
        return float(column), float(row)
