"""Tilings: the tiles that cover an area, and the pixel lattice of each."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import shapely
from odc.geo import CRS
from odc.geo import geom as odc_geom
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError
from stac2cube.model.geometry import Area, read_areas, utm_code
from stac2cube.model.grid import Grid, crs_text, shard_for
from stac2cube.model.mission import Mission
from stac2cube.model.query import ZONES, TilingWords
from stac2cube.model.scene import Item
from stac2cube.search.parsing import declared_crs, declared_lattice
from stac2cube.trust.names import Names
from stac2cube.trust.text import printable

log = logging.getLogger(__name__)

_EQUI7 = dict(zip(ZONES, range(27701, 27708), strict=True))
"""EPSG codes of the projections of Equi7Grid (EPSG registry: "WGS 84 / Equi7 Africa" to "WGS 84 / Equi7 South
America"). They are those of Bauer-Marschallinger, Sabel and Wagner (2014), doi:10.1016/j.cageo.2014.07.005, with
false eastings and northings rounded to a millimetre."""

_EQUI7_EDGES = {"T1": 100_000.0, "T3": 300_000.0, "T6": 600_000.0}
"""Edges of the tiles of Equi7Grid, metres. Lower left corners are multiples of the edge."""

_GLANCE7: Mapping[str, tuple[float, float, float, float]] = {
    "AF": (5.0, 20.0, -5_312_270.0, 3_707_205.0),
    "AN": (-90.0, 0.0, -3_662_210.0, 5_169_375.0),
    "AS": (45.0, 100.0, -4_805_840.0, 5_190_735.0),
    "EU": (55.0, 20.0, -5_505_560.0, 3_346_245.0),
    "NA": (50.0, -100.0, -7_633_670.0, 5_076_465.0),
    "OC": (-15.0, 135.0, -6_961_010.0, 4_078_425.0),
    "SA": (-15.0, -60.0, -6_918_770.0, 4_899_705.0),
}
"""Latitude and longitude of the centre of the Lambert azimuthal equal-area projection, degrees; x and y of the upper
left corner of tile h00v00, metres. Boston University, GLANCE grids, version V01."""

_GLANCE7_EDGE = 150_000.0
"""Edge of a GLANCE tile: 5000 pixels of 30 m (GLANCE grids, V01)."""

_MGRS_EDGE = 109_800.0
"""Edge of a Sentinel-2 tile, metres (Sentinel-2 Products Specification Document), for items without ``proj:shape``."""

MOST_TILES = 20_000
"""Most tiles of an archive: a larger number comes from a wrong edge or CRS."""


@dataclass(frozen=True)
class ArchiveTile:
    """One tile of an archive.

    Attributes:
        name: Its name in the tiling.
        folder: Its folder in the archive: the name, made safe.
        crs: ``"EPSG:32632"`` or WKT.
        resolution: Pixel edge, units of the CRS.
        origin: x and y of the upper left corner, units of the CRS.
        shape: Rows and columns, pixels.
        code: Code of the mission's tile whose items are used; "" for all items that touch the tile.
        priority: Tiles with larger numbers are made first.
    """

    name: str
    folder: str
    crs: str
    resolution: float
    origin: tuple[float, float]
    shape: tuple[int, int]
    code: str = ""
    priority: float = 0.0

    @property
    def grid(self) -> Grid:
        """The lattice of the tile's cubes."""
        return Grid(self.crs, self.resolution, self.origin, self.shape, shard=shard_for(self.shape))

    @property
    def geobox(self) -> GeoBox:
        """The lattice as an :class:`odc.geo.geobox.GeoBox`."""
        return self.grid.geobox

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north edge, units of the CRS."""
        x, y = self.origin
        return x, y - self.shape[0] * self.resolution, x + self.shape[1] * self.resolution, y

    @cached_property
    def area(self) -> Area:
        """The tile as a geographic area."""
        return replace(read_areas(shapely.box(*self.bounds), crs=self.crs)[0], name=self.folder)

    def to_json(self) -> dict[str, Any]:
        """The tile as plain JSON values."""
        said = {"folder": self.folder, "crs": self.crs, "resolution": self.resolution}
        return {**said, "origin": list(self.origin), "shape": list(self.shape), "code": self.code}

    @classmethod
    def from_json(cls, name: str, value: Mapping[str, Any]) -> ArchiveTile:
        """Read back what :meth:`to_json` wrote."""
        (x, y), (rows, columns) = value["origin"], value["shape"]
        lattice = (float(value["resolution"]), (float(x), float(y)), (int(rows), int(columns)))
        return cls(name, str(value["folder"]), str(value["crs"]), *lattice, str(value.get("code", "")))


def tiles_for(words: TilingWords, area: Area, resolution: float, lattice: tuple[float, float]) -> list[ArchiveTile]:
    """Tiles of a tiling that overlap an area; for any tiling but ``mgrs``.

    Args:
        words: The tiling.
        area: The area.
        resolution: Pixel edge, units of the tiling's CRS.
        lattice: A point (x, y) of the mission's pixel corner lattice, to which polygons of a file are snapped.

    Returns:
        The tiles, ordered by name.

    Raises:
        BadInputError: The area cannot be expressed in the tiling's CRS, no tile touches it, there are too many, or
            the edge is not a whole number of pixels.
    """
    if words.tiling == "file":
        found = _of_file(words, area, resolution, lattice)
    elif words.tiling == "equi7":
        edge, zone = _EQUI7_EDGES[words.level], words.zone

        def equi7_name(column: int, row: int) -> str:
            east, north = (round(number * edge / 100_000) for number in (column, row))
            return f"{zone}_E{east:03d}N{north:03d}{words.level}"

        found = _regular(area, crs_text(f"EPSG:{_EQUI7[zone]}"), (0.0, 0.0), edge, resolution, equi7_name)
    elif words.tiling == "glance7":
        latitude, longitude, x, y = _GLANCE7[words.zone]
        crs = f"+proj=laea +lat_0={latitude:g} +lon_0={longitude:g} +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"

        def glance_name(column: int, row: int) -> str:
            return f"{words.zone}_h{column:02d}v{-1 - row:02d}"

        found = _regular(area, crs_text(crs), (x, y), _GLANCE7_EDGE, resolution, glance_name)
    else:
        found = _regular(area, crs_text(words.crs), words.origin, words.edge, resolution, _grid_name)
    if not found:
        raise BadInputError(f"no tile of {words.tiling} shares ground with the area {area.name!r}")
    return found


def _grid_name(column: int, row: int) -> str:
    """Name by column and row of the lower left corner, counted from the origin: ``"E0042N0031"``, ``"W0001S0002"``."""
    return f"{'E' if column >= 0 else 'W'}{abs(column):04d}{'N' if row >= 0 else 'S'}{abs(row):04d}"


def _regular(
    area: Area,
    crs: str,
    origin: tuple[float, float],
    edge: float,
    resolution: float,
    name: Callable[[int, int], str],
) -> list[ArchiveTile]:
    """Tiles of a regular grid of squares; rows count northwards from the origin."""
    pixels = _whole_pixels(edge, resolution, "tile edge")
    shape = _area_in(area, crs)
    west, south, east, north = shape.bounds
    spans = ((east - west) / edge, (north - south) / edge)
    if not (spans[0] + 2) * (spans[1] + 2) < 100 * MOST_TILES:
        raise BadInputError(
            f"the area {area.name!r} spans {east - west:g} by {north - south:g} units of {crs}, too much for tiles of "
            f"{edge:g}: choose a larger edge, or a CRS that is made for the area"
        )
    columns = np.arange(math.floor((west - origin[0]) / edge), math.ceil((east - origin[0]) / edge))
    rows = np.arange(math.floor((south - origin[1]) / edge), math.ceil((north - origin[1]) / edge))
    numbers = np.array([(column, row) for row in rows for column in columns], dtype=np.int64).reshape(-1, 2)
    x, y = origin[0] + numbers[:, 0] * edge, origin[1] + numbers[:, 1] * edge
    kept = _sharing_ground(shape, shapely.box(x, y, x + edge, y + edge))
    if kept.sum() > MOST_TILES:
        raise BadInputError(f"the area takes {kept.sum()} tiles, more than {MOST_TILES}: choose a larger edge")
    found = []
    for (column, row), left, low in zip(numbers[kept].tolist(), x[kept].tolist(), y[kept].tolist(), strict=True):
        called = name(column, row)
        found.append(ArchiveTile(called, called, crs, resolution, (left, low + edge), (pixels, pixels)))
    return sorted(found, key=lambda tile: tile.name)


_TAKEN = {"\0jobs": "jobs", "\0staged": "staged", "\0door": "archive.json"}
"""Names in the folder of an archive that a tile cannot have."""


def _of_file(words: TilingWords, area: Area, resolution: float, lattice: tuple[float, float]) -> list[ArchiveTile]:
    """Tiles from the polygons of a file; each is the smallest window of the lattice around its polygon."""
    features = read_areas(words.path, split=True)
    priorities = _priorities(words.path, words.priority, len(features)) if words.priority else [0.0] * len(features)
    names, found = Names(_TAKEN), []
    for feature, priority in zip(features, priorities, strict=True):
        crs = crs_text(words.crs or _projected(feature))
        if not feature.geometry.intersection(area.geometry).area:
            continue
        west, south, east, north = _area_in(feature, crs).bounds
        left, right = (
            math.floor((west - lattice[0]) / resolution + _SLACK),
            math.ceil((east - lattice[0]) / resolution - _SLACK),
        )
        low, top = (
            math.floor((south - lattice[1]) / resolution + _SLACK),
            math.ceil((north - lattice[1]) / resolution - _SLACK),
        )
        origin = (lattice[0] + left * resolution, lattice[1] + top * resolution)
        # A name from a file is untrusted: it is made a safe folder name.
        folder = names.of(feature.name)
        found.append(
            ArchiveTile(feature.name, folder, crs, resolution, origin, (top - low, right - left), priority=priority)
        )
    return sorted(found, key=lambda tile: tile.name)


def _projected(feature: Area) -> str:
    """The CRS of a polygon; for one in degrees, that of the UTM zone of its centre."""
    if not CRS(feature.native_crs).geographic:
        return feature.native_crs
    return utm_code(feature.longitude, feature.geometry.centroid.y)


_SLACK = 1e-6
"""Largest offset, in pixels, of a corner from the lattice that is ignored (floating point)."""


def _priorities(path: str, column: str, features: int) -> list[float]:
    """Numbers of a column of a vector file, in the order of its features."""
    import geopandas

    location, _, layer = path.partition("|layername=")
    frame = geopandas.read_file(location, **({"layer": layer} if layer else {}))
    frame = frame[[shape is not None for shape in frame.geometry]]
    if column not in frame.columns:
        raise BadInputError(f"{location} has no column {column!r}; it has {', '.join(map(str, frame.columns))}")
    try:
        numbers = [float(value) for value in frame[column]]
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{location}: the column {column!r} should hold numbers: {error}") from error
    if lacking := [row for row, number in enumerate(numbers, 1) if not math.isfinite(number)]:
        raise BadInputError(
            f"{location}: the column {column!r} should have a number for each tile, and has none in {len(lacking)} of "
            f"{len(numbers)}, the first is feature {lacking[0]}: write 0 for tiles that may come last"
        )
    if len(numbers) != features:
        raise BadInputError(f"{location}: the column {column!r} should have a number for each tile")
    return numbers


class MissionTiles:
    """The mission's own tiles, as its items describe them.

    Args:
        mission: The mission of the items.
    """

    def __init__(self, mission: Mission) -> None:
        self._mission = mission
        self._told: dict[str, Counter[tuple[str, float, float, float, float]]] = {}

    def add(self, item: Item, code: str) -> None:
        """Record the lattice that an item declares for its tile.

        Args:
            item: The item.
            code: Code of its tile; "" if it declares none.
        """
        if code and (lattice := _lattice_of(item)):
            self._told.setdefault(code, Counter())[lattice] += 1

    def over(self, area: Area, resolution: float) -> list[ArchiveTile]:
        """The tiles that overlap an area, ordered by code.

        Args:
            area: The area.
            resolution: Pixel edge, metres.

        Raises:
            BadInputError: No item names its tile and lattice; or the tile edge is not a whole number of pixels.
        """
        names, found = Names(), []
        areas: dict[str, BaseGeometry] = {}
        for code, lattices in sorted(self._told.items()):
            (crs, x, y, height, width), _ = lattices.most_common(1)[0]
            if len(lattices) > 1:
                log.warning(
                    "tile %s: its items say %d lattices, the most frequent is taken", printable(code), len(lattices)
                )
            shape = (_whole_pixels(height, resolution, "tile"), _whole_pixels(width, resolution, "tile"))
            tile = ArchiveTile(code, names.of(code), crs, resolution, (x, y), shape, code)
            if crs not in areas:
                areas[crs] = _area_in(area, crs)
            if _sharing_ground(areas[crs], np.array([shapely.box(*tile.bounds)])).any():
                found.append(tile)
        if not found:
            raise BadInputError(
                f"no item of {self._mission.name} over {area.name!r} names its tile and lattice: say tiling: grid"
            )
        return found


def _lattice_of(item: Item) -> tuple[str, float, float, float, float] | None:
    """CRS, x and y of the upper left corner, height and width of an item's tile; None if the item declares none."""
    for place in (*item["assets"].values(), item["properties"]):
        corner = declared_lattice(place)
        crs = declared_crs(place) or declared_crs(item["properties"])
        if corner is None or not crs or _in_degrees(crs):
            continue
        said = place.get("proj:shape")
        pixels = said if isinstance(said, (list, tuple)) and len(said) == 2 else None
        if pixels and all(isinstance(number, int) and number > 0 for number in pixels):
            return crs, corner[0], corner[1], pixels[0] * corner[2], pixels[1] * corner[2]
        return crs, corner[0], corner[1], _MGRS_EDGE, _MGRS_EDGE
    return None


@lru_cache(maxsize=256)
def _in_degrees(crs: str) -> bool:
    return bool(CRS(crs).geographic)


def _whole_pixels(length: float, resolution: float, what: str) -> int:
    pixels = round(length / resolution)
    if pixels < 1 or abs(pixels * resolution - length) > _SLACK * resolution * max(pixels, 1):
        raise BadInputError(f"a {what} of {length:g} is no whole number of pixels of {resolution:g}")
    return pixels


def _sharing_ground(shape: BaseGeometry, boxes: np.ndarray) -> np.ndarray:
    """Which boxes overlap a shape in more than an edge."""
    shapely.prepare(shape)
    near = shapely.intersects(shape, boxes)
    kept = np.zeros(len(boxes), dtype=bool)
    kept[near] = shapely.area(shapely.intersection(shape, boxes[near])) > 0
    return kept


def _area_in(area: Area, crs: str) -> BaseGeometry:
    """An area in another CRS; its edges are split into pieces before the transformation.

    Raises:
        BadInputError: The area cannot be expressed there.
    """
    if area.native_crs == crs:
        return area.native
    parts = []
    for part in getattr(area.geometry, "geoms", [area.geometry]):
        west, south, east, north = part.bounds
        dense = max(east - west, north - south) / 64
        parts.append(odc_geom.Geometry(part, "EPSG:4326").to_crs(crs, resolution=dense).geom)
    shape = shapely.union_all(parts)
    if not shape.is_valid:
        shape = shapely.make_valid(shape)
    if shape.is_empty or not np.isfinite(shapely.get_coordinates(shape)).all():
        raise BadInputError(f"the area {area.name!r} cannot be expressed in {crs}: choose another tiling or zone")
    return shape


def tile_footprints(tiles: Sequence[ArchiveTile]) -> np.ndarray:
    """Footprints of tiles as shapely polygons in WGS84 degrees, ``(tiles,)`` objects.

    All tiles of a CRS are transformed together, which takes a hundredth of the time for thousands of tiles.
    """
    found = np.empty(len(tiles), dtype=object)
    for crs in {tile.crs for tile in tiles}:
        mine = [place for place, tile in enumerate(tiles) if tile.crs == crs]
        boxes = shapely.box(*np.array([tiles[place].bounds for place in mine]).T)
        edge = max(max(tiles[place].shape) * tiles[place].resolution for place in mine)
        transform = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
        shapes = shapely.transform(shapely.segmentize(boxes, edge / _SIDES), transform, interleaved=False)
        for place, shape in zip(mine, shapes, strict=True):
            west, south, east, north = shape.bounds
            plain = math.isfinite(west + south + east + north) and east - west < 180 and shape.is_valid
            # Rings across the antimeridian or around a pole need the slower conversion.
            found[place] = shape if plain and max(-south, north) < 89 else tiles[place].area.geometry
    return found


_SIDES = 16
"""Number of pieces into which an edge of a tile is split before it is transformed to degrees."""


class TilesTouched:
    """Finds the tiles that an item touches.

    Args:
        tiles: The tiles.
    """

    def __init__(self, tiles: Sequence[ArchiveTile]) -> None:
        self._tree = shapely.STRtree(list(tile_footprints(tiles)))

    def by(self, footprint: BaseGeometry) -> list[int]:
        """Indices of the tiles that a footprint touches.

        Args:
            footprint: Footprint of an item, WGS84.
        """
        places: list[int] = self._tree.query(footprint, predicate="intersects").tolist()
        return places
