"""The pixel lattice of a cube: its geotransform, and how it is cut into blocks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from stac2cube.errors import BadInputError
from stac2cube.model.fields import documented, option

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

CHUNK = 256
"""Read unit in pixels: 256 x 256 uint16 are 128 KiB, one blosc block."""

SHARD = 2048
"""Maximum write unit in pixels: one file per layer, step and 2048 x 2048 pixels suits a parallel file system."""

Tile = tuple[int, int]
"""Row and column of a block within the grid, counted in shards."""


@documented
@dataclass(frozen=True)
class GridOptions:
    """The lattice to which pixels are resampled, and how.

    Attributes:
        geobox: The grid itself; replaces area, resolution and CRS.
    """

    resolution: float | None = option(
        None, "Pixel size in units of the CRS. Default: that of the finest band.", unit="units of the CRS"
    )
    crs: str | None = option(None, "CRS of the cube. Default: the native CRS that covers most of the area.")
    geobox: GeoBox | None = field(default=None, repr=False)
    resampling: str | Mapping[str, str] = option(
        "bilinear",
        "Resampling method for continuous bands whose pixels differ from the grid, or one per band: "
        "B05=cubic,SCL=mode. Default: bilinear; nearest for classes.",
        form="pairs",
    )

    def __post_init__(self) -> None:
        """Refuse a resolution of zero, which is no default.

        Raises:
            BadInputError: The resolution is not positive.
        """
        if self.resolution is not None and not self.resolution > 0:
            raise BadInputError(f"resolution must be a positive number, not {self.resolution!r}")


@dataclass(frozen=True)
class Grid:
    """A regular north-up lattice, cut into shards (units of writing) of chunks (units of reading).

    Attributes:
        crs: ``"EPSG:32632"`` or a WKT string.
        resolution: Pixel edge in units of the CRS, positive.
        origin: x and y of the upper left corner of the upper left pixel, units of the CRS.
        shape: Rows and columns, pixels.
        chunk: Rows and columns of a chunk, pixels.
        shard: Rows and columns of a shard, pixels; multiples of ``chunk``.
    """

    crs: str
    resolution: float
    origin: tuple[float, float]
    shape: tuple[int, int]
    chunk: tuple[int, int] = (CHUNK, CHUNK)
    shard: tuple[int, int] = (SHARD, SHARD)

    @cached_property
    def geobox(self) -> GeoBox:
        """The lattice as an :class:`odc.geo.geobox.GeoBox`."""
        from affine import Affine
        from odc.geo.geobox import GeoBox

        x, y = self.origin
        return GeoBox(self.shape, Affine(self.resolution, 0, x, 0, -self.resolution, y), self.crs)

    @property
    def tiles_shape(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return (-(-self.shape[0] // self.shard[0]), -(-self.shape[1] // self.shard[1]))

    def tiles(self) -> Iterator[Tile]:
        """All blocks, row by row."""
        rows, columns = self.tiles_shape
        return ((row, column) for row in range(rows) for column in range(columns))

    def window(self, tile: Tile) -> tuple[slice, slice]:
        """Rows and columns of the grid that a block covers; fewer than a shard at the lower and right edge."""
        (row, column), (rows, columns) = tile, self.shard
        return (
            slice(row * rows, min((row + 1) * rows, self.shape[0])),
            slice(column * columns, min((column + 1) * columns, self.shape[1])),
        )

    def tile_geobox(self, tile: Tile) -> GeoBox:
        """The lattice of one block."""
        return self.geobox[self.window(tile)]

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Affine coefficients a, b, c, d, e, f in the order of GDAL and the ``spatial:transform`` convention."""
        return (self.resolution, 0.0, self.origin[0], 0.0, -self.resolution, self.origin[1])

    @cached_property
    def metres(self) -> float:
        """Edge of the pixels in metres, of pixels in degrees along the equator."""
        from pyproj import CRS

        crs = CRS.from_user_input(self.crs)
        radius = crs.ellipsoid.semi_major_metre if crs.is_geographic and crs.ellipsoid else 1.0
        return float(self.resolution * crs.axis_info[0].unit_conversion_factor * radius)

    def require_metres(self, what: str) -> None:
        """Refuse a grid whose pixels are not in metres, but in degrees or feet.

        Args:
            what: The operation that needs metres, for the message.

        Raises:
            BadInputError: The CRS is geographic, or projected with another unit than the metre.
        """
        unit = axis_unit(self.crs)
        if unit != METRE:
            raise BadInputError(
                f"{what} counts in metres, and the pixels of the cube are in {unit}: build the cube in a projected "
                "CRS in metres (crs=), for example UTM"
            )

    @cached_property
    def _is_geographic(self) -> bool:
        from pyproj import CRS

        return bool(CRS.from_user_input(self.crs).is_geographic)

    def shape_of(self, shape: BaseGeometry, crs: Hashable) -> BaseGeometry:
        """A geometry where it lies on this grid.

        Args:
            shape: Two-dimensional geometry of any type.
            crs: Its CRS.

        Returns:
            The same in the CRS of the grid, long edges bent where that moves them by more than a hundredth of a pixel.
            On a grid in degrees that crosses the antimeridian, longitudes are those of the grid.
        """
        import numpy as np
        import shapely

        from stac2cube.model.geometry import shape_in

        placed = shape_in(shape, crs, self.crs, self.resolution / 100)
        if placed.is_empty or not self._is_geographic:
            return placed
        west, east = self.origin[0], self.origin[0] + self.resolution * self.shape[1]
        turned = [
            (turn, shapely.transform(part, partial(np.add, (turn, 0))))
            for part in shapely.get_parts(placed)
            for turn in (0, -360, 360)
        ]
        here = [(turn, part) for turn, part in turned if part.bounds[0] < east and part.bounds[2] > west]
        if not any(turn for turn, _ in here):
            return placed
        return shapely.union_all([shapely.make_valid(part) for _, part in here])

    def to_json(self) -> dict[str, Any]:
        """The grid as plain JSON values, for a cube's recipe."""
        return {
            "crs": self.crs,
            "resolution": self.resolution,
            "origin": list(self.origin),
            "shape": list(self.shape),
            "chunk": list(self.chunk),
            "shard": list(self.shard),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Grid:
        """Read the value of :meth:`to_json`."""
        pairs = {name: tuple(value[name]) for name in ("origin", "shape", "chunk", "shard")}
        return cls(crs=value["crs"], resolution=float(value["resolution"]), **pairs)


def grid_over(
    area: BaseGeometry,
    area_crs: str,
    crs: str,
    resolution: float,
    *,
    lattice: tuple[float, float] = (0.0, 0.0),
    step: float | None = None,
) -> Grid:
    """The smallest grid over an area whose pixel corners are on a mission's lattice.

    Args:
        area: Polygon(s) in ``area_crs``.
        area_crs: CRS of ``area``.
        crs: CRS of the grid.
        resolution: Pixel edge in units of ``crs``.
        lattice: A point (x, y) of the mission's pixel corner lattice; ``(0, 0)`` for Sentinel-2.
        step: Distance to which the grid's corners are snapped; ``resolution`` if None. With 10 m pixels, a step of 20 m
            keeps every 2 x 2 pixels exactly within one 20 m pixel of the source.

    Raises:
        BadInputError: The resolution is not positive, the CRS unknown, or the area cannot be expressed in it.
    """
    if not (math.isfinite(resolution) and resolution > 0):
        raise BadInputError(f"resolution must be a positive number, not {resolution!r}")
    west, south, east, north = _bounds_in(area, area_crs, crs)
    snap = step or resolution
    x0 = math.floor((west - lattice[0]) / snap + _SLACK) * snap + lattice[0]
    y1 = math.ceil((north - lattice[1]) / snap - _SLACK) * snap + lattice[1]
    x1 = math.ceil((east - lattice[0]) / snap - _SLACK) * snap + lattice[0]
    y0 = math.floor((south - lattice[1]) / snap + _SLACK) * snap + lattice[1]
    rows = max(1, round((y1 - y0) / resolution))
    columns = max(1, round((x1 - x0) / resolution))
    shard = (_shard_edge(rows), _shard_edge(columns))
    return Grid(crs=crs, resolution=resolution, origin=(x0, y1), shape=(rows, columns), shard=shard)


def grid_from_geobox(geobox: GeoBox) -> Grid:
    """A user's GeoBox as a grid, unchanged.

    Raises:
        BadInputError: It is not north-up with square pixels, or has no CRS.
    """
    transform = geobox.transform
    if geobox.crs is None or transform.b or transform.d or transform.a <= 0 or transform.a != -transform.e:
        raise BadInputError("a GeoBox must have a CRS, be north-up and have square pixels")
    rows, columns = geobox.shape
    return Grid(
        crs=crs_text(geobox.crs),
        resolution=transform.a,
        origin=(transform.c, transform.f),
        shape=(rows, columns),
        shard=(_shard_edge(rows), _shard_edge(columns)),
    )


def native_crs(area: BaseGeometry, footprints: Sequence[tuple[str, BaseGeometry]], longitude: float) -> str:
    """The CRS in which most of the area is delivered.

    Args:
        area: Area of interest, WGS84.
        footprints: CRS and WGS84 footprint of every granule found.
        longitude: Centre of the area, degrees. If two UTM zones cover the area about equally, the centre's zone wins.

    Raises:
        BadInputError: No granule declares its CRS.
    """
    from shapely import union_all

    by_crs: dict[str, list[BaseGeometry]] = {}
    for crs, footprint in footprints:
        if crs:
            by_crs.setdefault(crs, []).append(footprint)
    if not by_crs:
        raise BadInputError("no item found says what its CRS is: pass crs=, for example crs='EPSG:32632'")
    zone = math.floor((longitude + 180) / 6) % 60 + 1
    covered = {crs: union_all(shapes).buffer(0).intersection(area).area for crs, shapes in by_crs.items()}
    most = max(covered.values())
    alike = [crs for crs, square in covered.items() if square >= 0.99 * most]
    # 326zz and 327zz are the EPSG codes of WGS84 / UTM north and south.
    return min(alike, key=lambda crs: (not crs.endswith((f":326{zone:02d}", f":327{zone:02d}")), crs))


def crs_text(crs: Any) -> str:
    """``"EPSG:n"`` where the CRS has a code, else its WKT.

    Raises:
        BadInputError: There is no such CRS, or it is compound, vertical or geocentric.
    """
    from odc.geo import CRS
    from pyproj.exceptions import CRSError

    try:
        parsed = CRS(crs)
    except (CRSError, ValueError) as error:  # odc-geo takes what stands behind "EPSG:" for a number
        raise BadInputError(f"unknown CRS {crs!r}: use an EPSG code such as EPSG:32632") from error
    if parsed.proj.is_geocentric or (parsed.proj.is_vertical and not parsed.proj.is_compound):
        raise BadInputError(f"{parsed.proj.name} ({crs}) has no map: use the EPSG code of one, such as EPSG:32632")
    epsg = parsed.to_epsg()
    return f"EPSG:{epsg}" if epsg is not None else str(parsed.to_wkt())


_SLACK = 1e-6
"""Corners less than a millionth of a pixel off the lattice are treated as on it (floating point)."""


METRE = "metres"


def axis_unit(crs: str) -> str:
    """The unit of x and y in a CRS: ``"metres"``, ``"degrees"``, or its own name, ``"US survey foot"``."""
    from pyproj import CRS

    parsed = CRS.from_user_input(crs)
    if parsed.is_geographic:
        return "degrees"
    axes = parsed.axis_info
    return METRE if not axes or axes[0].unit_conversion_factor == 1 else axes[0].unit_name


def resolution_for(given: float | None, finest: float, crs: str) -> float:
    """The pixel edge of a new grid.

    Args:
        given: The edge asked for, units of the CRS; None for that of the finest band.
        finest: Edge of the finest band's pixels, metres.
        crs: The CRS.

    Raises:
        BadInputError: None is asked for, and the CRS does not count in metres.
    """
    if given is not None:
        return float(given)
    if (unit := axis_unit(crs)) == METRE:
        return float(finest)
    from pyproj import CRS

    metres = 108_000 if unit == "degrees" else CRS.from_user_input(crs).axis_info[0].unit_conversion_factor
    raise BadInputError(f"{crs} counts in {unit}: say resolution= too, for example {finest / metres:.3g}")


def shard_for(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the shards of a grid of the given shape, pixels."""
    return _shard_edge(shape[0]), _shard_edge(shape[1])


def _shard_edge(pixels: int) -> int:
    return min(SHARD, -(-pixels // CHUNK) * CHUNK)


def _bounds_in(area: BaseGeometry, area_crs: str, crs: str) -> tuple[float, float, float, float]:
    """Bounds of an area in another CRS, with densified edges, over the parts on both sides of 180 degrees together."""
    from odc.geo import geom as odc_geom

    parts = [part for part in getattr(area, "geoms", [area]) if not part.is_empty]
    boxes = []
    for part in parts:
        shape = odc_geom.Geometry(part, crs_text(area_crs))
        if crs_text(area_crs) != crs_text(crs):
            west, south, east, north = part.bounds
            dense = max(east - west, north - south) / 64 or None
            shape = shape.to_crs(crs_text(crs), resolution=dense) if dense else shape.to_crs(crs_text(crs))
        boxes.append(tuple(shape.boundingbox))
    bounds = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    if not all(math.isfinite(value) for value in bounds):
        raise BadInputError(f"the area cannot be expressed in {crs}: choose another CRS")
    return bounds
