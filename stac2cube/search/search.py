"""Search: the scenes that match a query, and conditions on single items."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely import to_geojson
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError, CatalogError, ItemError
from stac2cube.model.catalog import Catalog
from stac2cube.model.query import Query
from stac2cube.model.scene import (
    Granule,
    Identity,
    Item,
    Scene,
    SceneKey,
    converted,
    identify,
    orbit_state,
    standing,
    time_of,
    version_of,
)
from stac2cube.search.clients import ItemFilter, items_of_api, items_of_path
from stac2cube.search.dem_tiles import Known, choose_items, group_items
from stac2cube.search.index_files import Interval
from stac2cube.search.items import Reading
from stac2cube.search.parsing import Notes, counted_reasons, declared_box, footprint_of, parse_item

if TYPE_CHECKING:
    import pyarrow as pa
    from cql2 import Expr


# Conditions on the items of an index: time, area, platform, orbit, cloud cover, and any property by CQL2.


@dataclass(frozen=True)
class Conditions:
    """Conditions on single items; all must hold.

    Attributes:
        area: Geometry in WGS84 that the item must intersect.
        intervals: Pairs of first and last instant, UTC. The item's time must be in one of them; empty for any.
        platforms: Accepted platforms as the catalog writes them, compared without case; empty accepts any platform.
        orbit: ``"ascending"``, ``"descending"``, or the number of a relative orbit; "" accepts any orbit.
        max_cloud_cover: Highest cloud cover in percent that the item may declare; items that declare none are kept.
        where: CQL2 texts (OGC 21-065r2), ``"s2:nodata_pixel_percentage < 20"``. The item must have the properties
            compared.
    """

    area: BaseGeometry | None = None
    intervals: tuple[Interval, ...] = ()
    platforms: tuple[str, ...] = ()
    orbit: str = ""
    max_cloud_cover: float | None = None
    where: tuple[str, ...] = ()

    def keep(self, items: Sequence[Item]) -> list[bool]:
        """Whether each item fulfils all conditions.

        Raises:
            BadInputError: A text is not CQL2, or names a property that none of the items has.
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
        """The conditions as plain JSON values; unset conditions are left out."""
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


# From a catalog, an area and a time to scenes; the driver does this before any pixel is read.

log = logging.getLogger(__name__)

MARGIN = timedelta(minutes=15)
"""Time added before and after each interval to find complete scenes: an overpass of an area takes minutes and may
straddle midnight, so that a cut there would split one scene into two incomplete ones."""


def search(query: Query, catalog: Catalog) -> list[Scene]:
    """Find the scenes over an area.

    Items of one platform, relative orbit and solar day form one scene. Of items of the same tile and datastrip the
    newest processing baseline is used; different datastrips of one overpass are both used; see
    :mod:`stac2cube.search.dem_tiles` for items that lack bands. A scene is returned with all its items if at least one
    of them is within the times. A scene with an item that contradicts itself, or without any known asset, is returned
    with its problem, so that the others can be built. Items that their catalog marks as deprecated are left out. Items
    that cannot be interpreted are left out too, and logged.

    Args:
        query: The query.
        catalog: The catalog to search.

    Returns:
        Scenes, sorted by key; empty if nothing is found.

    Raises:
        BadInputError: The catalog does not carry the mission.
        CatalogError: The catalog cannot be read.
    """
    harvest = found_items(query, catalog)
    scenes = scenes_of(harvest.items, query, catalog, harvest.notes)
    harvest.notes.say(catalog.name)
    return scenes


@dataclass
class SearchResult:
    """Result of a search in one catalog.

    Attributes:
        items: Items that intersect the area, within the times and :data:`MARGIN`.
        notes: What is reported besides the items.
    """

    items: list[Item] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)


def found_items(query: Query, catalog: Catalog) -> SearchResult:
    """Search a catalog and return its items unchanged; see :func:`search`.

    Raises:
        CatalogError: The catalog cannot be read, or holds no STAC item.
    """
    harvest = SearchResult()
    harvest.items.extend(
        _newest_of_each((one.item for one in matching_items(query, catalog, harvest.notes)), harvest.notes)
    )
    require_items(catalog, harvest.notes, found=bool(harvest.items))
    return harvest


def require_items(catalog: Catalog, notes: Notes, *, found: bool) -> None:
    """Check that a catalog returned STAC items, if it returned anything.

    Args:
        catalog: The catalog.
        notes: Notes of the search.
        found: Whether any item was found.

    Raises:
        CatalogError: No returned value was a STAC item.
    """
    broken = [reason for reason in notes.left_out.values() if "not a STAC item" in reason]
    if not found and broken and len(broken) == len(notes.left_out) and not notes.met:
        raise CatalogError(f"{catalog.url} holds {counted_reasons(broken)}")


def scenes_of(items: Iterable[Item], query: Query, catalog: Catalog, notes: Notes | None = None) -> list[Scene]:
    """Group items of a catalog into scenes; see :func:`search`.

    Args:
        items: The items.
        query: The query.
        catalog: The catalog that the items come from.
        notes: Records items that are left out; if None, they are logged.
    """
    reading = Reading(query.page, catalog, query.chosen)
    noted = Notes() if notes is None else notes
    found: dict[SceneKey, list[Known]] = {}
    strangers = noted.strangers
    for item in _fulfilling(items, query):
        try:
            identity = identify(item, query.page)
            if identity is None:
                # An item without a collection may belong to any mission; others are the mission's and should be known.
                strangers.update({item["id"]} if item.get("collection") else ())
                continue
            if not query.takes(item, identity):
                continue
            day = time_of(item).date() if query.page.static else solar_day(time_of(item), query.longitude)
        except ItemError as error:
            noted.leave_out(item, error)
            continue
        key = SceneKey(query.mission, day, identity.platform, identity.orbit)
        found.setdefault(key, []).append((item, identity))
    if strangers:
        log.warning("%s: left out %d items of unknown platforms: %s", catalog.name, len(strangers), min(strangers))
    found = {key: items for key, items in found.items() if any(_inside(time_of(i), query.intervals) for i, _ in items)}
    scenes = [_scene(key, items, reading, query.geometry) for key, items in sorted(found.items())]
    kept = [scene for scene in scenes if query.takes_scene(scene)]
    log.info("%s: %d items, %d scenes", catalog.name, sum(map(len, found.values())), len(kept))
    if notes is None:
        noted.say(catalog.name)
    return kept


def _fulfilling(items: Iterable[Item], query: Query) -> Iterable[Item]:
    """Items that meet the CQL2 conditions of a query; these conditions need all items at once."""
    if not query.where:
        return items
    held = list(items)
    return compress(held, Conditions(where=query.where).keep(held))


def solar_day(time: datetime, longitude: float) -> date:
    """The local solar date: UTC plus four minutes per degree of longitude."""
    try:
        return (time + timedelta(hours=longitude / 15)).date()
    except OverflowError:  # in the hours around the years 1 and 9999
        return time.date()


def _newest_of_each(items: Iterable[Item], notes: Notes) -> list[Item]:
    """Items without duplicates: two pages of a server, or two files of a folder, may hold versions of the same item."""
    found: dict[tuple[str, str], Item] = {}
    for item in items:
        key = (str(item.get("collection") or ""), item["id"])
        first = found.setdefault(key, item)
        if first is not item:
            found[key] = newest_of(first, item, notes)
    return list(found.values())


def newest_of(first: Item, item: Item, notes: Notes) -> Item:
    """The one of two items of the same collection and id that is used.

    Items with one id and different times are different items, of which only one can be kept: the first. The other is
    noted as left out.

    Args:
        first: The item found first.
        item: The item found later.
        notes: Records an item that is left out.
    """
    if abs(time_of(item) - time_of(first)) > MARGIN:
        notes.leave_out(item, ItemError(f"item {item['id']} is there twice, with other times: the first is used"))
        return first
    return item if converted(item) > converted(first) or _standing(first, item) == "newer" else first


def _standing(had: Item, now: Item) -> str:
    one, other = (version_of(item, list(filter(_is_mapping, item["assets"].values()))) for item in (had, now))
    return standing(one, other)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


@dataclass(frozen=True, slots=True)
class MatchedItem:
    """An item that matches a query.

    Attributes:
        item: The item.
        footprint: Its footprint in WGS84, split at the antimeridian.
        identity: Its identity, None if it belongs to none of the mission's platforms.
    """

    item: Item
    footprint: BaseGeometry
    identity: Identity | None


def matching_items(query: Query, catalog: Catalog, notes: Notes) -> Iterator[MatchedItem]:
    """Items of the mission's collections that intersect the area, within the times and :data:`MARGIN`.

    All conditions are checked here, whatever the server does. Items are yielded in the catalog's order, so that not all
    need be held in memory. An item may occur twice, see :func:`newest_of`.

    Args:
        query: The query.
        catalog: The catalog to search.
        notes: Records items that are left out.

    Raises:
        CatalogError: The catalog cannot be read.
    """
    around = [(first - MARGIN, last + MARGIN) for first, last in query.intervals]
    wanted: Collection[str | None] = {page.collection for page in query.page.pages} | {None}
    if catalog.is_local:
        parts = getattr(query.geometry, "geoms", [query.geometry])
        look = ItemFilter(tuple(part.bounds for part in parts), tuple(around))
        values: Iterable[Any] = items_of_path(Path(catalog.url), look, notes)
    else:
        pages = query.page.pages_in(catalog.like) if catalog.like else query.page.pages
        collections = list(dict.fromkeys(page.collection for page in pages))
        values = items_of_api(catalog.url, collections, query.geometry, around, notes, catalog.login)
    shapely.prepare(query.geometry)
    for value in values:
        if isinstance(value, Mapping) and (other := _collection(value)) not in wanted:  # some servers heed no filter
            notes.elsewhere[str(other)] += 1
            continue
        try:
            item = parse_item(value)
            notes.met.add(item["id"])
            if item["properties"].get("deprecated") is True:
                notes.deprecated.add(item["id"])
                continue
            if item["id"] in query.without:
                continue
            if not _inside(time_of(item), around):
                continue
            footprint = footprint_of(item)
            if query.geometry.intersects(footprint):
                identity = identify(item, query.page)  # raises for an item that does not declare its identity
                orbit_state(item)
                yield MatchedItem(item, footprint, identity)
            elif (said := declared_box(item)) and query.geometry.intersects(said) and footprint.disjoint(said):
                raise ItemError(f"item {item['id']} has a geometry far from its bbox: are its axes swapped?")
        except ItemError as error:
            notes.leave_out(value, error)


def _collection(value: Mapping[str, Any]) -> str | None:
    said = value.get("collection")
    return said if isinstance(said, str) else None


def _inside(time: datetime, intervals: Sequence[tuple[datetime, datetime]]) -> bool:
    return any(first <= time <= last for first, last in intervals)


def _scene(key: SceneKey, items: Sequence[Known], reading: Reading, area: BaseGeometry) -> Scene:
    chosen = [choose_items(group, reading) for group in group_items(items, reading.mission)]
    granules = tuple(part.granule for part in chosen if part.granule is not None)
    used = [item for part in chosen for item, _ in part.used]
    problems = [part.problem for part in chosen if part.problem]
    scene = Scene(
        key=key,
        time=min(time_of(item) for item in used),
        granules=granules,
        superseded=tuple(sorted(name for part in chosen for name in part.left_out)),
        cloud_cover=_cloud_cover(granules, area),
        orbit_state=orbit_state(used[0]),
        problem=problems[0] if problems else "",
        passed_over={name: why for part in chosen for name, why in part.passed_over.items()},
        versions={item["id"]: version for part in chosen for item, version in part.versions},
    )
    by_id = {part.granule.id: part.spares for part in chosen if part.granule is not None and part.spares}
    spares = {name: by_id[granule.id] for name, granule in scene.named.items() if granule.id in by_id}
    return replace(scene, spares=spares) if spares else scene


def _cloud_cover(granules: Sequence[Granule], area: BaseGeometry) -> float | None:
    if len(granules) == 1:
        return None if granules[0].cloud_cover is None else round(granules[0].cloud_cover, 4)
    weights = [(shape(g.footprint).intersection(area).area, g.cloud_cover) for g in granules]
    known = [(weight, cover) for weight, cover in weights if cover is not None]
    total = sum(weight for weight, _ in known)
    return round(sum(weight * cover for weight, cover in known) / total, 4) if total else None


# An archive's inventory: the operator's list of all items, including those that are not, or no longer, in the archive.
#
# It is a Parquet file with the columns ``id``, ``datetime``, ``geometry`` (WKB, WGS84), ``status`` and ``deprecated``;
# terrabyte publishes one per collection.

COLUMNS = ("id", "datetime", "geometry", "status", "deprecated")

AWAITED = ("orderable", "ordered")
"""Status of items that exist but are not in the archive yet."""

GONE = "removed"
"""Status of items that were taken out of the archive."""

THERE = "succeeded"
"""Status of items that are in the archive."""


@dataclass(frozen=True)
class Inventory:
    """Entries of an inventory for an area and a time.

    Attributes:
        withdrawn: Ids of items that were removed or are deprecated.
        awaited: Status by id of items that are not in the archive yet.
    """

    withdrawn: frozenset[str]
    awaited: dict[str, str]


def read_inventory(path: Path, query: Query) -> Inventory:
    """Read the entries of an inventory that match a query.

    Args:
        path: The file.
        query: Area and times; row groups that the file's statistics exclude are not read.

    Raises:
        CatalogError: It does not exist, is not Parquet, lacks a column, or holds an unknown status or an invalid value.
    """
    table = _rows(path, query)
    status = table["status"].to_pylist()
    strange = sorted({str(word) for word in status} - {*AWAITED, GONE, THERE})
    if strange:
        raise CatalogError(f"{path}: status {', '.join(strange)} is none of {', '.join((*AWAITED, GONE, THERE))}")
    names, old = table["id"].to_pylist(), table["deprecated"].to_pylist()
    within = _touching(table, path, query)
    awaited = {
        name: word
        for name, word, is_old, near in zip(names, status, old, within, strict=True)
        if word in AWAITED and not is_old and near
    }
    gone = (name for name, word, is_old in zip(names, status, old, strict=True) if is_old or word == GONE)
    return Inventory(frozenset(gone), dict(sorted(awaited.items())))


def _rows(path: Path, query: Query) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        lacking = [name for name in COLUMNS if name not in schema.names]
        if lacking:
            raise CatalogError(f"{path} is no inventory: it lacks the column {', '.join(lacking)}")
        kind = schema.field("datetime").type
        if not pa.types.is_timestamp(kind):
            raise CatalogError(f"{path}: datetime holds {kind} where times are expected")
        wanted = None
        for first, last in query.intervals:
            # Times without a zone, as some writers leave them, are UTC.
            ends = [end.astimezone(UTC).replace(tzinfo=UTC if kind.tz else None) for end in (first, last)]
            within = (pc.field("datetime") >= pa.scalar(ends[0], kind)) & (
                pc.field("datetime") <= pa.scalar(ends[1], kind)
            )
            wanted = within if wanted is None else wanted | within
        return pq.read_table(path, columns=list(COLUMNS), filters=wanted)
    except (OSError, pa.ArrowException) as error:
        raise CatalogError(f"the inventory {path} cannot be read: {error}") from error


def _touching(table: pa.Table, path: Path, query: Query) -> np.ndarray:
    """Mask of the rows whose geometry intersects the area."""
    try:
        shapes: Any = shapely.from_wkb(table["geometry"].to_pylist())
    except (shapely.errors.ShapelyError, TypeError) as error:
        raise CatalogError(f"{path}: geometry is not WKB: {error}") from error
    return np.asarray(shapely.intersects(query.geometry, shapes), dtype=bool)
