"""Pixels that no granule covers, of products that leave out tiles of open sea."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from stac2cube.equality import equal_nan


@equal_nan
@dataclass(frozen=True)
class Sea:
    """What is known of missing tiles.

    Attributes:
        value: The sea's.
        withheld: West, south, east, north of where tiles are missing that are not sea.
    """

    value: float
    withheld: Sequence[Sequence[float]] = ()

    def fill(self, pixels: np.ndarray, geobox: GeoBox) -> np.ndarray:
        """Pixels with the sea filled in.

        Args:
            pixels: ``(rows, columns)`` float, NaN without data.
            geobox: Their lattice.
        """
        missing = np.isnan(pixels)
        if not missing.any():
            return pixels
        rows, columns = np.nonzero(missing)
        a, b, c, d, e, f = tuple(geobox.transform)[:6]
        x, y = a * (columns + 0.5) + b * (rows + 0.5) + c, d * (columns + 0.5) + e * (rows + 0.5) + f
        longitude, latitude = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(x, y)
        known = np.ones(len(rows), dtype=bool)
        for west, south, east, north in self.withheld:
            known &= ~((west <= longitude) & (longitude <= east) & (south <= latitude) & (latitude <= north))
        filled = pixels.copy()
        filled[rows[known], columns[known]] = self.value
        return filled
