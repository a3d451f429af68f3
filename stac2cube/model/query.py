"""Search requests: which scenes, from which catalog, over which area; and the tiles of archives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stac2cube.errors import BadInputError
from stac2cube.model.fields import Options, Range, documented, option, options_in
from stac2cube.model.mission import Band, Mission, find_mission

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from stac2cube.model.geometry import Area
    from stac2cube.model.period import Interval, Period
    from stac2cube.model.scene import Identity, Item, Scene

ALWAYS = "1900/2100"
"""The time of a mission without time series, and of a query without a time."""


@documented
@dataclass(frozen=True, kw_only=True)
class Filters(Options):
    """The options that leave scenes or items out of a query.

    Command line options, keys of recipes, and the values that cubes and indexes store are derived from these fields.
    The cloud cover of a scene is the mean of its granules, weighted by area; scenes above the limit are left out.
    """

    max_cloud_cover: float | None = option(
        None, "Leave out scenes with more cloud than this, in percent.", unit="percent", bounds=Range(0, 100)
    )
    orbit: str = option("", "ascending, descending, or the number of a relative orbit. Default: all orbits.")

    def filters(self) -> dict[str, Any]:
        """Values of the filters by name, as stored in cubes and indexes."""
        return {name: getattr(self, name) for name in options_in(Filters)}


def stored_filters(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Filters stored in a cube or an index, by name; missing ones are left out."""
    return {name: stored[name] for name in options_in(Filters) if name in stored}


@documented
@dataclass(frozen=True)
class AreaOptions(Options):
    """The area of interest, as given on the command line and in recipes."""

    aoi: str | None = option(
        None,
        "Area of interest: a GeoJSON, GeoPackage, Shapefile or KML file, GeoJSON text, a box "
        "'west,south,east,north' in degrees, or a point 'lat,lon' with --edge.",
        form="area",
    )
    aoi_crs: str | None = option(None, "CRS of the numbers in --aoi. Default: WGS84.")
    edge: float | None = option(None, "Edge of the square around a point, in metres.", unit="metres")


def names_of_bands(bands: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of bands as given: several, or one text with commas, as on the command line; None if none are given."""
    if isinstance(bands, str):
        return tuple(name.strip() for name in bands.split(",") if name.strip())
    return None if bands is None else tuple(bands)


@documented
@dataclass(frozen=True)
class Query(Filters):
    """A search request, used by everything that searches.

    Values are checked when the query is created. The mission is "" only until it is known from the source of a read or
    of samples; the time is "" for all times, see :func:`stac2cube.model.period.parse_period`. The pixel grid is not
    part of it, see :class:`stac2cube.model.grid.GridOptions`.

    Attributes:
        area: Area of interest; None for everywhere.
        items: A stored search result of that catalog, searched instead of it.
        where: CQL2 texts that each item must match, see :class:`stac2cube.search.search.Conditions`.
        without: Ids of items that are left out because they were withdrawn.
        tile: Code of the only tile of the mission to use, ``"32TPT"``; "" for all.
    """

    mission: str = option("", "Name of a mission, see `stac2cube missions`.")
    area: Area | None = field(default=None, repr=False)
    time: str = option(
        "",
        "A year 2018, a month 2018-07, a day 2018-07-14, an interval 2018/2020-06, or a season of "
        "several years '2018/2020 06-01/08-31'. Separate several by commas.",
        form="list",
    )
    bands: tuple[str, ...] | None = option(
        None,
        "Bands by name or common name, separated by commas: B04,B08 or red,nir,scl. Default: those of the mission.",
    )
    catalog: str = option(
        "auto",
        "Name of a catalog (see `stac2cube catalogs`) or of an index (see `stac2cube index list`), "
        "URL of a STAC API, or path. Default: chosen automatically.",
        form="path",
    )
    items: Path | None = None
    where: tuple[str, ...] = ()
    fill: bool = option(False, "Fill missing tiles of the Copernicus DEM GLO-30 from GLO-90, and record them.")
    strict: bool = option(
        False,
        "Fail scenes whose pixels contradict their metadata, and never use an older item in place of an unusable one.",
    )
    without: frozenset[str] = field(default=frozenset(), repr=False)
    tile: str = ""

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            BadInputError: Names the invalid value.
        """
        _ = self.period  # raises if it is invalid, as the bands below do
        super().__post_init__()
        if self.orbit not in ("", "ascending", "descending") and not self.orbit.isdigit():
            raise BadInputError(f"orbit {self.orbit!r}: say ascending, descending, or the number of a relative orbit")
        if self.mission:
            self._check_mission()

    def _check_mission(self) -> None:
        _ = self.chosen
        west, south, east, north = self.page.coverage
        if self.area is not None:
            from shapely.geometry import box

            if not self.area.geometry.intersects(box(west, south, east, north)):
                raise BadInputError(
                    f"area {self.area.name!r} lies outside what {self.mission} covers "
                    f"({south:g} to {north:g} degrees north, {west:g} to {east:g} east)"
                )
        if self.fill and not self.page.filler:
            raise BadInputError(f"{self.mission} has no coarser product to fill its gaps from")

    @cached_property
    def page(self) -> Mission:
        """The mission of the query."""
        return find_mission(self.mission)

    @cached_property
    def chosen(self) -> tuple[Band, ...]:
        """The bands, in the order given."""
        return self.page.choose_bands(self.bands)

    @cached_property
    def period(self) -> Period:
        """The time, parsed."""
        from stac2cube.model.period import parse_period

        return parse_period(self.time or ALWAYS)

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """First and last instant of each interval, UTC, both included."""
        return self.period.intervals

    @cached_property
    def geometry(self) -> BaseGeometry:
        """The area in WGS84, split at the antimeridian."""
        if self.area is not None:
            return self.area.geometry
        from shapely.geometry import box

        return box(-180, -90, 180, 90)

    @property
    def longitude(self) -> float:
        """Centre longitude of the area, degrees; it defines the solar day."""
        return 0.0 if self.area is None else self.area.longitude

    def takes(self, item: Item, identity: Identity) -> bool:
        """Whether an item passes the filters of single items.

        Args:
            item: The item.
            identity: Its identity.

        Raises:
            ItemError: The item's metadata contradict each other.
        """
        from stac2cube.model.scene import orbit_state  # the command line needs the filters, and no items

        if self.orbit not in ("", str(identity.orbit), orbit_state(item)):
            return False
        return self.tile in ("", identity.tile)

    def takes_scene(self, scene: Scene) -> bool:
        """Whether a scene passes the filters of whole scenes; a scene without a known value passes."""
        limit, cover = self.max_cloud_cover, scene.cloud_cover
        return limit is None or cover is None or cover <= limit

    def unfiltered(self) -> Query:
        """The same query without filters and conditions."""
        return replace(self, where=(), **Filters().filters())


# Tiles of an archive, as given in a recipe.

TILINGS = ("mgrs", "equi7", "glance7", "grid", "file")
"""Names of the tilings."""

ZONES = ("AF", "AN", "AS", "EU", "NA", "OC", "SA")
"""Continents of EQUI7 and GLANCE7."""

LEVELS = ("T1", "T3", "T6")
"""Tile sizes of EQUI7."""


@documented
@dataclass(frozen=True)
class TilingWords:
    """The tiling of an archive, as given in a recipe."""

    tiling: str = option(
        "",
        "mgrs (the mission's own tiles), equi7, glance7, grid (squares in any CRS), or file (named polygons).",
        choices=TILINGS,
    )
    crs: str = option(
        "", "CRS of a grid, or of the cubes of a file; that of the file, or of degrees the UTM zone, if not said."
    )
    edge: float = option(0.0, "Edge of a tile of a grid, units of its CRS.", bounds=Range(above=0))
    origin: tuple[float, float] = option(
        (0.0, 0.0), "x and y of a corner of a tile of a grid, units of its CRS; [0, 0] if not said."
    )
    zone: str = option("", "Continent of equi7 and glance7.", choices=ZONES)
    level: str = option("T1", "Tile size of equi7: 100, 300 or 600 km.", choices=LEVELS)
    path: str = option("", "GeoPackage or GeoJSON of a file: a named polygon for each tile.", form="path")
    priority: str = option("", "Column of that file: tiles with larger numbers are made first.")

    def __post_init__(self) -> None:
        """Refuse an incomplete or contradictory tiling.

        Raises:
            BadInputError: A key is missing, or belongs to another tiling.
        """
        if self.tiling not in TILINGS:
            raise BadInputError(f"tiling {self.tiling!r} is not known; known are {', '.join(TILINGS)}")
        said = {"crs": self.crs, "edge": self.edge, "zone": self.zone, "path": self.path, "priority": self.priority}
        given = {name for name, value in said.items() if value}
        needed = {"grid": {"crs", "edge"}, "equi7": {"zone"}, "glance7": {"zone"}, "file": {"path"}}
        allowed = needed.get(self.tiling, set()) | ({"crs", "priority"} if self.tiling == "file" else set())
        if lacking := sorted(needed.get(self.tiling, set()) - given):
            raise BadInputError(f"tiles: {self.tiling} needs {', '.join(lacking)}")
        if others := sorted(given - allowed):
            raise BadInputError(f"tiles: {self.tiling} does not take {', '.join(others)}")
        if self.zone and self.zone not in ZONES:
            raise BadInputError(f"tiles: zone {self.zone!r} is not known; known are {', '.join(ZONES)}")
        if self.level not in LEVELS:
            raise BadInputError(f"tiles: level {self.level!r} is not known; known are {', '.join(LEVELS)}")
        if self.tiling == "grid" and not (math.isfinite(self.edge) and self.edge > 0):
            raise BadInputError(f"tiles: edge is a positive number, not {self.edge!r}")
        if not all(map(math.isfinite, self.origin)):
            raise BadInputError(f"tiles: origin is two numbers, not {self.origin!r}")
