"""The query: which scenes are searched, and in which catalog."""

from __future__ import annotations

from collections.abc import Mapping
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
"""The time of a mission that has no time series, and of a query without a time."""


@documented
@dataclass(frozen=True, kw_only=True)
class Filters(Options):
    """What leaves scenes or items out of a query.

    The options of the command line, the words of recipes, and what cubes and indexes store are made from these fields.
    A scene is left out by its cloud cover if the mean of its granules, weighted by their area, is higher.
    """

    max_cloud_cover: float | None = option(
        None, "Leave out scenes with more cloud than this, in percent.", unit="percent", bounds=Range(0, 100)
    )
    orbit: str = option("", "ascending, descending, or the number of a relative orbit. Default: all orbits.")

    def filters(self) -> dict[str, Any]:
        """Values of the filters by name, as cubes and indexes store them."""
        return {name: getattr(self, name) for name in options_in(Filters)}


def stored_filters(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Filters that a cube or an index stores, by name; those that it does not know are left out."""
    return {name: stored[name] for name in options_in(Filters) if name in stored}


@dataclass(frozen=True)
class Query(Filters):
    """Which scenes are searched: the one search request, which everything that searches takes.

    Words are checked when the query is made. Filters are those of :class:`Filters`. The pixel grid is not part of it,
    see :class:`stac2cube.model.grid.GridOptions`.

    Attributes:
        mission: Name of a mission. "" only until the source of a read or of samples says it.
        area: Area of interest; None for everywhere.
        time: Period, see :func:`stac2cube.model.period.parse_period`; "" for all times.
        bands: Names or common names; None for the mission's default.
        catalog: Name, URL or path of a catalog, several separated by commas, or "auto".
        items: A stored search result of that catalog, which is searched instead of it.
        where: CQL2 texts that each item must fulfil, see :class:`stac2cube.search.search.Conditions`.
        fill: Fill missing tiles from the coarser product that the mission names.
        strict: Refuse Sentinel-2 scenes whose pixels contradict their metadata, and scenes whose newest item lacks a
            band or cannot be read.
        without: Ids of items that are left out, because they were withdrawn.
        tile: Code of the only tile of the mission whose items are taken, ``"32TPT"``; "" for all.
    """

    mission: str = ""
    area: Area | None = field(default=None, repr=False)
    time: str = ""
    bands: tuple[str, ...] | None = None
    catalog: str = "auto"
    items: Path | None = None
    where: tuple[str, ...] = ()
    fill: bool = False
    strict: bool = False
    without: frozenset[str] = field(default=frozenset(), repr=False)
    tile: str = ""

    def __post_init__(self) -> None:
        """Check every word.

        Raises:
            BadInputError: Naming the word that is wrong.
        """
        _ = self.period  # which says what is wrong with it, as the bands below do
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
        """The mission."""
        return find_mission(self.mission)

    @cached_property
    def chosen(self) -> tuple[Band, ...]:
        """The bands, in the order in which they were given."""
        return self.page.choose_bands(self.bands)

    @cached_property
    def period(self) -> Period:
        """The time, understood."""
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
        """Centre of the area, degrees; it decides the solar day."""
        return 0.0 if self.area is None else self.area.longitude

    def takes(self, item: Item, identity: Identity) -> bool:
        """Whether the filters of single items let an item pass.

        Args:
            item: The item.
            identity: Who it is.

        Raises:
            ItemError: The item contradicts itself.
        """
        from stac2cube.model.scene import orbit_state  # the command line needs the filters, and no items

        if self.orbit not in ("", str(identity.orbit), orbit_state(item)):
            return False
        return self.tile in ("", identity.tile)

    def takes_scene(self, scene: Scene) -> bool:
        """Whether the filters of whole scenes let a scene pass; a scene without a known value passes."""
        limit, cover = self.max_cloud_cover, scene.cloud_cover
        return limit is None or cover is None or cover <= limit

    def unfiltered(self) -> Query:
        """The same without any filter and condition."""
        return replace(self, where=(), **Filters().filters())
