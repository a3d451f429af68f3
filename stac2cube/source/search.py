"""From a catalog, an area and a time to scenes: what the driver does before any pixel is read."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stac2cube.catalog import Catalog
from stac2cube.errors import CatalogError, ItemError
from stac2cube.mission import Band, Mission
from stac2cube.scene import Granule, Scene, SceneKey
from stac2cube.source.api import items_of_api
from stac2cube.source.identity import Item, identify, orbit_state, time_of
from stac2cube.source.items import Reading
from stac2cube.source.local import Look, items_of_path
from stac2cube.source.lying import footprint_of
from stac2cube.source.parsing import Notes, counted, parse_item
from stac2cube.source.tiles import Known, choose, groups_of

log = logging.getLogger(__name__)

MARGIN = timedelta(minutes=15)
"""How far beyond the times asked for the rest of a scene is looked for: an overpass of an area takes minutes and may
straddle midnight, so that cutting it there would make half a scene of each half."""


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        mission: The mission.
        area: Area of interest, WGS84, split at the antimeridian.
        longitude: Centre of the area, degrees; decides the solar day.
        intervals: First and last instant of each, UTC, both included.
        bands: Bands wanted.
        orbit: ``"ascending"``, ``"descending"`` or the number of a relative orbit; "" for all.
        max_cloud_cover: Percent; a scene whose cloud cover over all its granules is higher is left out. None for any.
        without: Ids of items that are left out, because they were withdrawn.
    """

    mission: Mission
    area: BaseGeometry = field(repr=False)
    longitude: float
    intervals: tuple[tuple[datetime, datetime], ...]
    bands: tuple[Band, ...]
    max_cloud_cover: float | None = None
    orbit: str = ""
    without: frozenset[str] = field(default=frozenset(), repr=False)


def search(query: Query, catalog: Catalog) -> list[Scene]:
    """Find the scenes over an area.

    Items of one platform, relative orbit and solar day are one scene. Of items of the same tile and datastrip the
    newest processing baseline is used; different datastrips of one overpass are both used; see
    :mod:`stac2cube.source.tiles` for items that lack bands. A scene of which one item lies within the times is found
    whole. A scene with an item that contradicts itself, or without any known asset, is returned with its problem, so
    that the others can be built. Items that their catalog calls deprecated are left out, and so is what cannot be
    understood, which is logged.

    Args:
        query: What to look for.
        catalog: Where.

    Returns:
        Scenes, sorted by key; none if nothing is there.

    Raises:
        BadInputError: The catalog does not carry the mission.
        CatalogError: The catalog cannot be read.
    """
    harvest = found_items(query, catalog)
    scenes = scenes_of(harvest.items, query, catalog, harvest.notes)
    harvest.notes.say(catalog.name)
    return scenes


@dataclass
class Harvest:
    """What a catalog gave.

    Attributes:
        items: Items that touch the area, about the times.
        notes: What else is to be said.
    """

    items: list[Item] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)


def found_items(query: Query, catalog: Catalog) -> Harvest:
    """The items that a search finds, as the catalog gives them; see :func:`search`.

    Raises:
        CatalogError: The catalog cannot be read, or holds no STAC item.
    """
    harvest = Harvest()
    harvest.items.extend(_matching(query, catalog, harvest.notes))
    broken = [reason for reason in harvest.notes.left_out.values() if "not a STAC item" in reason]
    if not harvest.items and broken and len(broken) == len(harvest.notes.left_out) and not harvest.notes.met:
        raise CatalogError(f"{catalog.url} holds {counted(broken)}")
    return harvest


def scenes_of(items: Iterable[Item], query: Query, catalog: Catalog, notes: Notes | None = None) -> list[Scene]:
    """Items of a catalog as scenes; see :func:`search`.

    Args:
        items: The items.
        query: What to look for.
        catalog: Where they come from.
        notes: Told of items that are left out; if None, they are logged.
    """
    reading = Reading(query.mission, catalog, query.bands)
    noted = Notes() if notes is None else notes
    found: dict[SceneKey, list[Known]] = {}
    strangers = noted.strangers
    for item in items:
        try:
            identity = identify(item, query.mission)
            if identity is None:
                # An item that names no collection may be anybody's; others are the mission's and should be known.
                strangers.update({item["id"]} if item.get("collection") else ())
                continue
            if query.orbit not in ("", str(identity.orbit), orbit_state(item)):
                continue
            day = time_of(item).date() if query.mission.static else solar_day(time_of(item), query.longitude)
        except ItemError as error:
            noted.leave_out(item, error)
            continue
        key = SceneKey(query.mission.name, day, identity.platform, identity.orbit)
        found.setdefault(key, []).append((item, identity))
    if strangers:
        log.warning("%s: left out %d items of unknown platforms: %s", catalog.name, len(strangers), min(strangers))
    found = {key: items for key, items in found.items() if any(_inside(time_of(i), query.intervals) for i, _ in items)}
    scenes = [_scene(key, items, reading, query.area) for key, items in sorted(found.items())]
    kept = [scene for scene in scenes if _clear_enough(scene, query.max_cloud_cover)]
    log.info("%s: %d items, %d scenes", catalog.name, sum(map(len, found.values())), len(kept))
    if notes is None:
        noted.say(catalog.name)
    return kept


def solar_day(time: datetime, longitude: float) -> date:
    """The date at which the sun stands where it stood: UTC plus four minutes per degree of longitude."""
    try:
        return (time + timedelta(hours=longitude / 15)).date()
    except OverflowError:  # in the hours around the years 1 and 9999
        return time.date()


def _matching(query: Query, catalog: Catalog, notes: Notes) -> Iterator[Item]:
    """Items of the mission's collections that touch the area, about the times; checked here, whatever a server does."""
    around = [(first - MARGIN, last + MARGIN) for first, last in query.intervals]
    wanted: Collection[str | None] = {page.collection for page in query.mission.pages} | {None}
    if catalog.is_local:
        parts = getattr(query.area, "geoms", [query.area])
        look = Look(tuple(part.bounds for part in parts), tuple(around))
        values: Iterable[Any] = items_of_path(Path(catalog.url), look, notes)
    else:
        pages = query.mission.pages_in(catalog.like) if catalog.like else query.mission.pages
        collections = list(dict.fromkeys(page.collection for page in pages))
        values = items_of_api(catalog.url, collections, query.area, around, notes, catalog.login)
    shapely.prepare(query.area)
    seen: set[tuple[str, str]] = set()
    for value in values:
        if catalog.is_local and isinstance(value, Mapping) and (other := _collection(value)) not in wanted:
            notes.elsewhere[str(other)] += 1
            continue
        try:
            item = parse_item(value)
            known = (str(item.get("collection") or ""), item["id"])
            notes.met.add(item["id"])
            if item["properties"].get("deprecated") is True:
                notes.deprecated.add(item["id"])
                continue
            if item["id"] in query.without:
                continue
            # Two files of a local source may hold the same item, as two pages of a server may.
            if known not in seen and _inside(time_of(item), around) and query.area.intersects(footprint_of(item)):
                _require_known(item, query.mission)
                seen.add(known)
                yield item
        except ItemError as error:
            notes.leave_out(value, error)


def _require_known(item: Item, mission: Mission) -> None:
    """Be sure that an item tells who it is, whether or not that is of the mission.

    Raises:
        ItemError: It does not.
    """
    identify(item, mission)
    orbit_state(item)


def _collection(value: Mapping[str, Any]) -> str | None:
    said = value.get("collection")
    return said if isinstance(said, str) else None


def _inside(time: datetime, intervals: Sequence[tuple[datetime, datetime]]) -> bool:
    return any(first <= time <= last for first, last in intervals)


def _scene(key: SceneKey, items: Sequence[Known], reading: Reading, area: BaseGeometry) -> Scene:
    chosen = [choose(group, reading) for group in groups_of(items, reading.mission)]
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


def _clear_enough(scene: Scene, limit: float | None) -> bool:
    return limit is None or scene.cloud_cover is None or scene.cloud_cover <= limit
