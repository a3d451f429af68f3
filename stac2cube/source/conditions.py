"""What the items of an index shall fulfil: time, area, platform, orbit, clouds, and any property by CQL2."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shapely import to_geojson
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError
from stac2cube.source.identity import Item, orbit_state, time_of
from stac2cube.source.indexed import Interval
from stac2cube.source.lying import footprint_of

if TYPE_CHECKING:
    from cql2 import Expr


@dataclass(frozen=True)
class Conditions:
    """Conditions on single items; all must hold.

    Attributes:
        area: WGS84, which the item must touch.
        intervals: First and last instant, UTC, of which one must hold its time; any time if there is none.
        platforms: Of which it must be one, as the catalog writes them, in any case; any if there is none.
        orbit: ``"ascending"``, ``"descending"``, or the number of a relative orbit; "" for any.
        max_cloud_cover: Percent that the catalog says of the item itself at most; items that do not say are kept.
        where: CQL2 texts (OGC 21-065r2), ``"s2:nodata_pixel_percentage < 20"``. What they compare must be there.
    """

    area: BaseGeometry | None = None
    intervals: tuple[Interval, ...] = ()
    platforms: tuple[str, ...] = ()
    orbit: str = ""
    max_cloud_cover: float | None = None
    where: tuple[str, ...] = ()

    def keep(self, items: Sequence[Item]) -> list[bool]:
        """Whether each of some items fulfils them.

        Raises:
            BadInputError: A text is no CQL2, or names a property that none of the items has.
        """
        for expression, text in zip(self._expressions, self.where, strict=True):
            for name in _properties(expression.to_json()):
                if items and not any(name in item["properties"] or name in item for item in items):
                    raise BadInputError(f"{text!r}: no item has a property {name!r}")
        return [self._fulfils(item) for item in items]

    @cached_property
    def _expressions(self) -> list[Expr]:
        if not self.where:
            return []
        try:
            import cql2
        except ImportError:
            raise BadInputError("conditions on properties need cql2: pip install 'stac2cube[index]'") from None
        made = []
        for text in self.where:
            try:
                made.append(cql2.parse_text(text))
            except cql2.ParseError as error:
                reason = str(error).strip().splitlines()[-1].strip(" =")
                raise BadInputError(f"{text!r} is no condition in CQL2, as eo:cloud_cover < 20: {reason}") from None
        return made

    def _fulfils(self, item: Item) -> bool:
        properties = item["properties"]
        time, cover = time_of(item), properties.get("eo:cloud_cover")
        return (
            (not self.intervals or any(first <= time <= last for first, last in self.intervals))
            and (not self.platforms or str(properties.get("platform")).lower() in self._platforms)
            and self.orbit in ("", str(properties.get("sat:relative_orbit")), orbit_state(item))
            and (self.max_cloud_cover is None or cover is None or cover <= self.max_cloud_cover)
            and (self.area is None or bool(self.area.intersects(footprint_of(item))))
            and all(_matches(expression, item) for expression in self._expressions)
        )

    @cached_property
    def _platforms(self) -> set[str]:
        return {name.lower() for name in self.platforms}

    def to_json(self) -> dict[str, Any]:
        """The conditions as plain JSON values, those that say nothing left out."""
        values: dict[str, Any] = {
            "area": None if self.area is None else json.loads(to_geojson(self.area)),
            "intervals": [[first.isoformat(), last.isoformat()] for first, last in self.intervals],
            "platforms": list(self.platforms),
            "orbit": self.orbit,
            "max_cloud_cover": self.max_cloud_cover,
            "where": list(self.where),
        }
        return {name: value for name, value in values.items() if value not in (None, [], "")}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Conditions:
        """Read back what :meth:`to_json` wrote."""
        intervals = [tuple(datetime.fromisoformat(text) for text in pair) for pair in value.get("intervals", ())]
        return cls(
            area=shape(value["area"]) if "area" in value else None,
            intervals=tuple((first, last) for first, last in intervals),
            platforms=tuple(value.get("platforms", ())),
            orbit=value.get("orbit", ""),
            max_cloud_cover=value.get("max_cloud_cover"),
            where=tuple(value.get("where", ())),
        )


def _matches(expression: Expr, item: Item) -> bool:
    try:
        return bool(expression.matches(dict(item)))
    except Exception as error:  # cql2 raises nothing narrower where an item lacks what is compared
        if "boolean" not in str(error):
            raise
        return False


def _properties(expression: Any) -> Iterator[str]:
    """Names of the properties that an expression in CQL2-JSON compares."""
    if isinstance(expression, Mapping):
        if isinstance(expression.get("property"), str):
            yield expression["property"]
        for part in expression.values():
            yield from _properties(part)
    elif isinstance(expression, list):
        for part in expression:
            yield from _properties(part)
