"""An image that blocks are cut from, whoever reads it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from odc.geo.geobox import GeoBox

Roi = tuple[slice, slice]
"""Rows and columns."""


class Image(Protocol):
    """One file with georeferenced bands of one lattice, opened.

    Attributes:
        geobox: Lattice of the full resolution.
        nodata: Value of pixels without data, None if the file does not say.
        bands: Number of bands.
        factors: How many of its pixels make one of each overview, ascending.
        is_jpeg2000: Whether overviews are the low-pass half of a wavelet transform.
        quick: Whether it may be resampled without GDAL where that makes the same pixels.
    """

    @property
    def geobox(self) -> GeoBox: ...  # noqa: D102 - see above
    @property
    def nodata(self) -> float | None: ...  # noqa: D102
    @property
    def bands(self) -> int: ...  # noqa: D102
    @property
    def factors(self) -> list[int]: ...  # noqa: D102
    @property
    def is_jpeg2000(self) -> bool: ...  # noqa: D102
    @property
    def quick(self) -> bool: ...  # noqa: D102

    def geobox_of(self, level: int) -> GeoBox:
        """Lattice of the full resolution (0) or of an overview (from 1)."""
        ...

    def is_averaged(self, level: int) -> bool:
        """Whether the pixels of an overview stand for what they cover: False where it says that they were chosen.

        Where it says nothing, they are taken for means.
        """
        ...

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:
        """Pixels as in the file.

        Args:
            index: Band, from 1.
            roi: What of that level, within it.
            level: Full resolution (0) or overview (from 1).

        Returns:
            ``(rows, columns)``, writable.
        """
        ...
