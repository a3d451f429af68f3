"""Pixels that no granule covers, of products in tiles of one degree that leave out tiles of open sea.

A tile that is not there is sea only where there is no land: elsewhere it is missing, from this catalog or from the
product, and its pixels hold no data.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import shape

from stac2cube.equality import equal_nan
from stac2cube.scene import Granule

Cell = tuple[int, int]
"""South and west edge of a cell of one degree, degrees."""

_BESIDE = 0.01
"""Degrees at the south and east edge of a tile that may belong to the next one: tiles of the Copernicus DEM end half a
pixel north of their south edge and half a pixel west of their east edge, because their pixels are points (Product
Handbook, issue 5.0). Half of the widest pixel, of GLO-90 near the poles, is 0.0042 degrees."""

_SAMPLES = 256
"""Points along each edge of a lattice by which the cells under it are found."""


@equal_nan
@dataclass(frozen=True)
class Sea:
    """What is known of missing tiles.

    Attributes:
        value: The sea's.
        withheld: West, south, east, north of where tiles are missing that are not sea, although there is no land.
    """

    value: float
    withheld: Sequence[Sequence[float]] = field(default=())

    def fill(self, pixels: np.ndarray, geobox: GeoBox, found: Collection[Cell] = ()) -> np.ndarray:
        """Pixels with the sea filled in.

        Args:
            pixels: ``(rows, columns)`` float, NaN without data.
            geobox: Their lattice.
            found: Cells of the tiles that are there: what has no data within them stays so, but for their south and
                east edge, see :data:`_BESIDE`.
        """
        missing = np.isnan(pixels)
        if not missing.any():
            return pixels
        rows, columns = np.nonzero(missing)
        longitude, latitude = _places(geobox, rows + 0.5, columns + 0.5)
        cells = np.stack([np.floor(latitude), np.floor(longitude)], axis=1).astype("int64")
        there = self._there(cells, found)
        for axis, step, at in ((0, -1, latitude), (1, 1, longitude)):
            within = at - np.floor(at)
            edge = within < _BESIDE if step < 0 else within > 1 - _BESIDE
            cells[there & edge, axis] += step
        known = ~self._there(cells, found) & self._is_sea(cells, longitude, latitude)
        filled = pixels.copy()
        filled[rows[known], columns[known]] = self.value
        return filled

    def missing(self, geobox: GeoBox, found: Collection[Cell]) -> tuple[list[str], list[str]]:
        """Names of the tiles under a lattice that are not there: those that hold land, and those of open sea."""
        height, width = geobox.shape
        rows, columns = np.meshgrid(np.linspace(0, height, _SAMPLES), np.linspace(0, width, _SAMPLES))
        longitude, latitude = _places(geobox, rows.ravel(), columns.ravel())
        cells = np.stack([np.floor(latitude), np.floor(longitude)], axis=1).astype("int64")
        sea = self._is_sea(cells, longitude, latitude)
        absent = ~self._there(cells, found)
        land = {name_of(cell) for cell in cells[absent & ~sea].tolist()}
        return sorted(land), sorted({name_of(cell) for cell in cells[absent & sea].tolist()} - land)

    def _is_sea(self, cells: NDArray[np.int64], longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
        sea: np.ndarray = ~_land()[(cells[:, 0] + 90).clip(0, 179), (cells[:, 1] + 180) % 360]
        for west, south, east, north in self.withheld:
            sea &= ~((west <= longitude) & (longitude <= east) & (south <= latitude) & (latitude <= north))
        return sea

    @staticmethod
    def _there(cells: NDArray[np.int64], found: Collection[Cell]) -> np.ndarray:
        known = np.zeros((182, 360), dtype=bool)
        for south, west in found:
            known[south + 90, (west + 180) % 360] = True
        there: np.ndarray = known[(cells[:, 0] + 90).clip(0, 181), (cells[:, 1] + 180) % 360]
        return there


def cells_of(granules: Collection[Granule]) -> frozenset[Cell]:
    """The cells whose tiles some granules are, by the middle of their footprints."""
    middles = [shape(granule.footprint).centroid for granule in granules]
    return frozenset((int(np.floor(middle.y)), int(np.floor(middle.x))) for middle in middles)


def name_of(cell: Sequence[int]) -> str:
    """``"N49E011"``: a cell by its south-west corner, as tiles are called."""
    south, west = cell[0], (cell[1] + 180) % 360 - 180
    return f"{'N' if south >= 0 else 'S'}{abs(south):02d}{'E' if west >= 0 else 'W'}{abs(west):03d}"


def _places(geobox: GeoBox, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of places of a lattice, counted in pixels from its corner."""
    a, b, c, d, e, f = tuple(geobox.transform)[:6]
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    longitude, latitude = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(x, y)
    return np.asarray(longitude), np.asarray(latitude)


@cache
def _land() -> NDArray[np.bool_]:
    """``(180, 360)``, from 90 degrees south and 180 degrees west: whether a cell holds land."""
    rows = json.loads(files("stac2cube.tables").joinpath("land_cells.json").read_text())["rows"]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex("".join(rows)), "uint8")).reshape(180, 360)
    return bits[::-1].astype(bool)
