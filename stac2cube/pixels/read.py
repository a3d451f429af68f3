"""Read the granules of a scene into one block: mosaic, sea tiles, footprints of blocks."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from stac2cube.access.sign import is_remote
from stac2cube.errors import ReadError
from stac2cube.model.classes import is_nodata
from stac2cube.model.fields import equal_nan
from stac2cube.model.image import BandRequest, Image
from stac2cube.model.scene import AssetRef, Granule
from stac2cube.pixels.open import DEFAULT_RETRIES, Engine, ReadOptions, RetryPolicy, of_asset
from stac2cube.pixels.warp import WARP_COLUMNS, SourceWindow, nodata_of, pixel_size, source_window, stored, warp

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from pyproj import Transformer

# Granules joined before they are resampled, for products that are cut into tiles without overlap.
#
# Resampled separately, each tile would end in pixels interpolated without their neighbours beyond the cut. Tiles on one
# lattice are therefore pasted into one image, as far as a block needs it, which is resampled once.

PADDING = 16
"""Pixels around a block's extent, enough for every kernel: that of lanczos reaches 12 where a cube's pixels have four
times the edge of the source's, and of coarser cubes granules are not joined."""


@dataclass
class Mosaic:
    """One band of a block, joined from granules in the order of :meth:`add`; the first valid pixel wins.

    Attributes:
        band: The request: dtype, fill and resampling.
        geobox: Grid of the block.
    """

    band: BandRequest
    geobox: GeoBox
    _parts: list[_Part] = field(default_factory=list)
    _quick: bool = True

    def add(self, image: Image, asset: AssetRef) -> None:
        """Add one image.

        Args:
            image: The opened image.
            asset: Band within it, and counts to add.

        Raises:
            RasterioError: It cannot be read (also OSError).
            ReadError: It lacks the band.
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
        """``(rows, columns)`` of the band's dtype in stored form; if lattices differ, the first takes precedence."""
        from odc.geo.overlap import compute_reproject_roi

        out = np.full(self.geobox.shape, self.band.fill, dtype=self.band.dtype)
        for part in self._parts:
            pixels = np.full(self.geobox.shape, self.band.fill, dtype=self.band.dtype)
            if part.array.size:
                relation = compute_reproject_roi(part.geobox, self.geobox)
                cut = SourceWindow(part.array, part.geobox, pixel_size(relation), self._quick)
                warp(cut, self.band, self.geobox, pixels)
            np.copyto(out, pixels, where=is_nodata(out, self.band.fill))
        return out


@dataclass
class _Part:
    """The part of an unbounded lattice that a block needs.

    Attributes:
        geobox: Grid of the part.
        array: ``(rows, columns)`` in stored form.
    """

    geobox: GeoBox
    array: np.ndarray

    @classmethod
    def around(cls, source: GeoBox, target: GeoBox, band: BandRequest) -> _Part:
        """The part of a file's lattice that a block needs, empty of data."""
        from affine import Affine
        from odc.geo.geobox import GeoBox

        bounds = target.footprint(str(source.crs)).boundingbox
        left, top = (~source.transform) * (bounds.left, bounds.top)
        right, bottom = (~source.transform) * (bounds.right, bounds.bottom)
        first = (int(np.floor(left)) - PADDING, int(np.floor(top)) - PADDING)
        last = (int(np.ceil(right)) + PADDING, int(np.ceil(bottom)) + PADDING)
        shape = (max(last[1] - first[1], 0), max(last[0] - first[0], 0))
        geobox = GeoBox(shape, source.transform * Affine.translation(*first), source.crs)
        return cls(geobox, np.full(shape, band.fill, dtype=band.dtype))

    def holds(self, source: GeoBox) -> bool:
        """Whether a file's pixels are on this lattice."""
        if source.crs != self.geobox.crs:
            return False
        mine, theirs = self.geobox.transform, source.transform
        same = np.allclose((mine.a, mine.e), (theirs.a, theirs.e), rtol=1e-9) and mine.b == mine.d == theirs.b == 0
        column, row = self._place(source)
        return bool(same and abs(column - round(column)) < 0.01 and abs(row - round(row)) < 0.01)

    def add(self, image: Image, asset: AssetRef, band: BandRequest) -> None:
        """Paste the image's pixels of this part where there is no data yet."""
        column, row = (round(value) for value in self._place(image.geobox))
        height, width = image.geobox.shape
        rows = slice(max(row, 0), min(row + height, self.array.shape[0]))
        columns = slice(max(column, 0), min(column + width, self.array.shape[1]))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return
        window = slice(rows.start - row, rows.stop - row), slice(columns.start - column, columns.stop - column)
        pixels = stored(image.read(asset.index, window), nodata_of(image, asset, band), band, asset)
        here = self.array[rows, columns]
        np.copyto(here, pixels, where=is_nodata(here, band.fill))

    def _place(self, source: GeoBox) -> tuple[float, float]:
        """Column and row of a file's first pixel in this part."""
        column, row = (~self.geobox.transform) * (source.transform.c, source.transform.f)
        return float(column), float(row)


# Footprints of many blocks at once.

_POINTS_PER_EDGE = 32
"""Enough to follow the curve of a block's edge in longitude and latitude in any projection."""


def outlines(geoboxes: Sequence[GeoBox]) -> NDArray[np.object_]:
    """Footprints of blocks in WGS84.

    Longitudes continue beyond 180 degrees for a block across the antimeridian. A block around a pole becomes everything
    from its lowest latitude to the pole; one with corners off the globe becomes the whole globe, so that nothing is
    missed.

    Args:
        geoboxes: Grids of the blocks in any CRS; those of one CRS are transformed in one call.

    Returns:
        ``(len(geoboxes),)`` polygons.
    """
    shapes = np.empty(len(geoboxes), dtype=object)
    places: dict[str, list[int]] = {}
    for place, geobox in enumerate(geoboxes):
        places.setdefault(str(geobox.crs), []).append(place)
    for crs, members in places.items():
        rings = np.stack([_ring(geoboxes[place]) for place in members])
        transformer, geographic = _to_degrees(crs)
        degrees = np.stack(transformer.transform(rings[..., 0], rings[..., 1]), axis=-1)
        shapes[members] = _polygons(degrees, jumps=not geographic)
    return shapes


@lru_cache(maxsize=64)
def _to_degrees(crs: str) -> tuple[Transformer, bool]:
    """The transformer from a CRS to longitude and latitude, and whether the CRS is geographic; takes a millisecond."""
    from pyproj import CRS, Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True), bool(CRS(crs).is_geographic)


def _ring(geobox: GeoBox) -> NDArray[np.float64]:
    """Points around a block, ``(4 x 32, 2)``, x and y in its CRS."""
    rows, columns = geobox.shape
    along = np.arange(_POINTS_PER_EDGE) / _POINTS_PER_EDGE
    zero, one = np.zeros_like(along), np.ones_like(along)
    x = np.concatenate([along, one, 1 - along, zero]) * columns
    y = np.concatenate([zero, along, one, 1 - along]) * rows
    to = geobox.transform
    return np.stack([to.a * x + to.b * y + to.c, to.d * x + to.e * y + to.f], axis=-1)


def _polygons(rings: NDArray[np.float64], *, jumps: bool) -> NDArray[np.object_]:
    """Polygons from rings ``(n, points, 2)`` in degrees, whose longitudes may jump by 360 between neighbours."""
    whole = np.array([(-180.0, -90.0), (180.0, -90.0), (180.0, 90.0), (-180.0, 90.0)])
    lost: NDArray[np.bool_] = np.logical_not(np.isfinite(rings).all(axis=(1, 2)))
    rings = np.where(lost[:, None, None], whole[np.arange(rings.shape[1]) * 4 // rings.shape[1]], rings)
    around = np.zeros(len(rings), dtype=bool)
    if jumps:
        closed = np.concatenate([rings[..., 0], rings[:, :1, 0]], axis=1)
        turns = np.round(np.diff(closed, axis=1) / 360).cumsum(axis=1)
        around = (turns[:, -1] != 0) & ~lost
        rings[:, 1:, 0] -= 360 * turns[:, :-1] * ~lost[:, None]
    shapes: NDArray[np.object_] = shapely.polygons(rings)
    for place in np.flatnonzero(around):
        latitudes = rings[place, :, 1]
        south, north = (latitudes.min(), 90) if latitudes.mean() > 0 else (-90, latitudes.max())
        shapes[place] = shapely.box(-180, south, 180, north)
    return shapes


# Which granules may have pixels in which blocks, by their footprints.

_SLACK_DEGREES = 0.02
"""About two kilometres: more than the simplification of footprints in any catalog seen."""


def intersecting(granules: Sequence[Granule], geoboxes: Sequence[GeoBox]) -> list[tuple[int, ...]]:
    """The granules that may intersect each block: per block their sorted positions in the sequence.

    Footprints in catalogs are simplified, so they are enlarged slightly.
    """
    blocks, places = intersecting_pairs(granules, geoboxes)
    ends = np.searchsorted(blocks, np.arange(1, len(geoboxes)))
    return [tuple(part.tolist()) for part in np.split(places, ends)]


def intersecting_pairs(
    granules: Sequence[Granule], geoboxes: Sequence[GeoBox]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same as pairs: positions of blocks, sorted, and of granules, sorted within each block."""
    if not granules or not geoboxes:
        return np.empty(0, "int64"), np.empty(0, "int64")
    tree = shapely.STRtree(shapely.buffer([shape(granule.footprint) for granule in granules], _SLACK_DEGREES))
    blocks = outlines(geoboxes)
    bounds = shapely.bounds(blocks)
    # Footprints are split at 180 degrees, blocks continue beyond: blocks near the seam are queried on both sides of it.
    near_east, near_west = bounds[:, 2] > 180 - _SLACK_DEGREES, bounds[:, 0] < -180 + _SLACK_DEGREES
    found = []
    for turn, looked in ((0, np.ones(len(blocks), dtype=bool)), (-360, near_east), (360, near_west)):
        places = np.flatnonzero(looked)
        turned = shapely.transform(blocks[places], lambda points, turn=turn: np.add(points, (turn, 0)))
        block, granule = tree.query(turned, predicate="intersects")
        found.append(places[block] * len(granules) + granule)
    pairs = sorted_once(np.concatenate(found))
    return pairs // len(granules), pairs % len(granules)


def sorted_once(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted unique numbers; many times faster than NumPy's ``unique``, which hashes them."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) != 0] if ordered.size else ordered


# From scenes to pixels, on the worker: granules into a block, mosaicked so that a pixel's bands come from one granule.


class BlockReader(Protocol):
    """An engine that reads granules into a block. :func:`read_block` reads all formats that GDAL reads."""

    def __call__(
        self, granules: Sequence[Granule], bands: Sequence[BandRequest], geobox: GeoBox
    ) -> dict[str, np.ndarray]:
        """Pixels per band, ``(rows, columns)`` of the band's dtype in stored form, fill where there is no data."""
        ...


def read_block(
    granules: Sequence[Granule],
    bands: Sequence[BandRequest],
    geobox: GeoBox,
    retries: RetryPolicy = DEFAULT_RETRIES,
    *,
    seamless: bool = False,
    engine: Engine | None = None,
) -> dict[str, np.ndarray]:
    """Read a scene into a block.

    Granules are used in the given order. A pixel takes all its bands from one granule: the first in which every
    continuous band is valid there, or else the first in which any is. Granules that cannot add anything are not opened.

    Args:
        granules: Granules in mosaic order.
        bands: Bands to read of each.
        geobox: Grid of the block.
        retries: The retry policy.
        seamless: Join granules of one lattice before they are resampled, see :mod:`stac2cube.pixels.read`.
        engine: The engine; None for the one that the environment names, see :class:`stac2cube.pixels.open.Engine`.

    Returns:
        Per band ``(rows, columns)`` of its dtype in stored form.

    Raises:
        ReadError: An asset is missing or cannot be read. Its pixels are not replaced.
    """
    read_options = ReadOptions(retries, engine or Engine.of_environment())
    if seamless:
        return _read_joined(granules, bands, geobox, read_options)
    judges = [band for band in bands if band.kind == "continuous"] or list(bands)
    near = [granules[place] for place in intersecting(granules, [geobox])[0]]
    if not near:
        return {band.name: np.full(geobox.shape, band.fill, dtype=band.dtype) for band in bands}
    out = _read_granule(near[0], bands, geobox, read_options)
    _clear(out, bands, judges)
    best = _score(out, judges) if len(near) > 1 else np.empty(0)
    for granule in near[1:]:
        if best.min() == len(_SCORES) - 1:
            break
        part = _lacking(best, warped=bool(granule.crs) and granule.crs != str(geobox.crs))
        pixels = _read_granule(granule, bands, geobox[part], read_options)
        score = _score(pixels, judges)
        better = score > best[part]
        for name, mosaic in out.items():
            np.copyto(mosaic[part], pixels[name], where=better)
        np.copyto(best[part], score, where=better)
        del pixels, score, better  # before the next granule is read, so that no more than two are held
    return out


_SCORES = ("nothing", "some bands", "all bands")
"""What a granule offers a pixel, by score."""


def _lacking(best: np.ndarray, *, warped: bool) -> tuple[slice, slice]:
    """Rows and columns around all pixels that another granule could improve; no more of that granule is read.

    If it is warped, columns are grouped as in the whole block, so that its pixels equal those of the whole block.
    """
    lacks = best < len(_SCORES) - 1
    rows = np.flatnonzero(lacks.any(axis=1))
    if not warped:
        return slice(rows[0], rows[-1] + 1), slice(0, best.shape[1])
    columns = np.flatnonzero(lacks.any(axis=0)) // WARP_COLUMNS
    first, last = columns[0] * WARP_COLUMNS, (columns[-1] + 1) * WARP_COLUMNS
    return slice(rows[0], rows[-1] + 1), slice(first, min(last, best.shape[1]))


def _score(pixels: Mapping[str, np.ndarray], judges: Sequence[BandRequest]) -> np.ndarray:
    """0 where no band is valid, 1 where some are, 2 where all are; uint8."""
    some = _valid(pixels, judges[0])
    every = some.copy() if len(judges) > 1 else some
    for band in judges[1:]:
        valid = _valid(pixels, band)
        every &= valid
        some |= valid
    score: np.ndarray = np.add(every, some, dtype="uint8")
    return score


def _clear(pixels: Mapping[str, np.ndarray], bands: Sequence[BandRequest], judges: Sequence[BandRequest]) -> None:
    """Set the other bands to fill where no band of ``judges`` is valid."""
    others = [band for band in bands if band not in judges]
    if not others:
        return
    nothing = is_nodata(pixels[judges[0].name], judges[0].fill)
    for band in judges[1:]:
        if not nothing.any():
            return
        nothing &= is_nodata(pixels[band.name], band.fill)
    for band in others:
        np.copyto(pixels[band.name], np.asarray(band.fill, dtype=band.dtype), where=nothing)


def _valid(pixels: Mapping[str, np.ndarray], band: BandRequest) -> np.ndarray:
    missing = is_nodata(pixels[band.name], band.fill)
    np.logical_not(missing, out=missing)
    return missing


def _read_granule(
    granule: Granule, bands: Sequence[BandRequest], geobox: GeoBox, read_options: ReadOptions
) -> dict[str, np.ndarray]:
    """All bands of a granule; over a network in parallel, because most of the time is spent waiting."""
    cuts = [partial(_own_window, granule=granule, band=band, geobox=geobox) for band in bands]
    reads = [partial(of_asset, granule, band, cut, read_options) for band, cut in zip(bands, cuts, strict=True)]
    remote = any(is_remote(asset.href) for asset in granule.assets.values())
    coming = _network_pool().map(lambda read: read(), reads) if remote else iter(())
    out = {}
    for band, read in zip(bands, reads, strict=True):
        pixels = next(coming) if remote else read()
        out[band.name] = np.full(geobox.shape, band.fill, dtype=band.dtype) if pixels is None else pixels
    return out


REMOTE_BANDS = 16
"""Bands that one process fetches over a network at the same time, over all its blocks."""


@cache
def _network_pool() -> ThreadPoolExecutor:
    """Threads that live as long as the process: GDAL keeps connections per thread, and new ones are expensive."""
    return ThreadPoolExecutor(REMOTE_BANDS, thread_name_prefix="band")


def _read_joined(
    granules: Sequence[Granule], bands: Sequence[BandRequest], geobox: GeoBox, read_options: ReadOptions
) -> dict[str, np.ndarray]:
    near = [granules[place] for place in intersecting(granules, [geobox])[0]]
    out = {}
    for band in bands:
        joint = Mosaic(band, geobox)
        for granule in near:
            of_asset(granule, band, joint.add, read_options)
        out[band.name] = joint.pixels()
    return out


def _own_window(image: Image, asset: AssetRef, granule: Granule, band: BandRequest, geobox: GeoBox) -> np.ndarray:
    found = source_window(image, asset, band, geobox)
    # Pixels of another location must not be used: an address may lead to the file of another tile.
    if is_nodata(found, band.fill).all() and intersecting([granule], [image.geobox]) == [()]:
        raise ReadError("it lies elsewhere than its item says")
    return found


# Pixels without a granule, in products with tiles of one degree that omit tiles of open sea.
#
# A missing tile is sea only where there is no land: elsewhere this catalog or the product lacks it, and its pixels have
# no data.

Cell = tuple[int, int]
"""South and west edge of a cell of one degree, in degrees."""

_BESIDE = 0.01
"""Degrees at the south and east edge of a tile that may belong to the next tile: tiles of the Copernicus DEM end half a
pixel north of their south edge and half a pixel west of their east edge, because their pixels are points (Product
Handbook, issue 5.0). Half of the widest pixel, of GLO-90 near the poles, is 0.0042 degrees."""

_SAMPLES = 256
"""Points along each edge of a grid that determine the cells below it."""


@equal_nan
@dataclass(frozen=True)
class Sea:
    """Rules for missing tiles.

    Attributes:
        value: The value of the sea.
        withheld: West, south, east, north of areas where missing tiles are not sea, although there is no land.
    """

    value: float
    withheld: Sequence[Sequence[float]] = field(default=())

    def fill(self, pixels: np.ndarray, geobox: GeoBox, found: Collection[Cell] = ()) -> np.ndarray:
        """Pixels with the sea filled in.

        Args:
            pixels: ``(rows, columns)`` float, NaN without data.
            geobox: Their grid.
            found: Cells of existing tiles: pixels without data inside them are not filled, except at their south and
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
        """Names of the missing tiles below a grid: those with land, and those of open sea."""
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
    """The cells of granules, by the centroids of their footprints."""
    middles = [shape(granule.footprint).centroid for granule in granules]
    return frozenset((int(np.floor(middle.y)), int(np.floor(middle.x))) for middle in middles)


def name_of(cell: Sequence[int]) -> str:
    """``"N49E011"``: a cell by its south-west corner, as tiles are named."""
    south, west = cell[0], (cell[1] + 180) % 360 - 180
    return f"{'N' if south >= 0 else 'S'}{abs(south):02d}{'E' if west >= 0 else 'W'}{abs(west):03d}"


def _places(geobox: GeoBox, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of positions in a grid, given in pixels from its corner."""
    from pyproj import Transformer

    a, b, c, d, e, f = tuple(geobox.transform)[:6]
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    longitude, latitude = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(x, y)
    return np.asarray(longitude), np.asarray(latitude)


@cache
def _land() -> NDArray[np.bool_]:
    """``(180, 360)``, from 90 degrees south and 180 degrees west: whether a cell holds land."""
    rows = json.loads(files("stac2cube.tables").joinpath("land_cells.json").read_text(encoding="utf-8"))["rows"]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex("".join(rows)), "uint8")).reshape(180, 360)
    land = bits[::-1].astype(bool)
    land[:6] = True  # the table ends at 84 degrees south, but Antarctica's ice does not: there is no open sea
    return land
