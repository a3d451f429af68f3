"""A coarser lattice under a block, the same whatever the block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from stac2cube.work import Block


@dataclass(frozen=True)
class CoarseWindow:
    """What a block needs of a lattice that begins at the cube's own corner.

    Attributes:
        geobox: The part, with a halo.
        rows: For each row of the block, the row of the part in which its pixels' centres lie.
        columns: The same for columns.
        middles: Rows and columns of the cube's grid in the middle of each cell of the part; some may lie outside.
    """

    geobox: GeoBox
    rows: np.ndarray
    columns: np.ndarray
    middles: tuple[np.ndarray, np.ndarray]

    @classmethod
    def around(cls, block: Block, resolution: float, halo_m: float) -> CoarseWindow:
        """The part around a block.

        Args:
            block: The block.
            resolution: Pixel edge of the lattice, in units of the grid.
            halo_m: How far beyond the block it reaches at least.
        """
        grid = block.grid
        window, halo = grid.window(block.tile), math.ceil(halo_m / resolution)
        first, last, places, middles = [], [], [], []
        for part in window:
            centres = (np.arange(part.start, part.stop) + 0.5) * grid.resolution / resolution
            cells = np.floor(centres + 1e-9).astype(int)
            first.append(int(cells[0]) - halo)
            last.append(int(cells[-1]) + halo + 1)
            places.append(cells - first[-1])
            middle = (np.arange(first[-1], last[-1]) + 0.5) * resolution / grid.resolution
            middles.append(np.floor(middle).astype(int))
        x, y = grid.origin
        transform = Affine(resolution, 0, x + first[1] * resolution, 0, -resolution, y - first[0] * resolution)
        geobox = GeoBox((last[0] - first[0], last[1] - first[1]), transform, grid.crs)
        return cls(geobox, places[0], places[1], (middles[0], middles[1]))

    def nearest(self, coarse: np.ndarray) -> np.ndarray:
        """Values of the part on the block's own pixels: ``(rows, columns)``."""
        values: np.ndarray = coarse[np.ix_(self.rows, self.columns)]
        return values
