"""From a catalog, an area and a time to scenes: what the driver does before any pixel is read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stac2cube.catalog import Catalog
from stac2cube.errors import CatalogError, RadiometryError
from stac2cube.mission import Band, Mission
from stac2cube.scene import Granule, Scene, SceneKey
from stac2cube.source.api import items_of_api
from stac2cube.source.identity import Identity, Item, generated, identify, orbit_state, time_of
from stac2cube.source.items import Reading, footprint_of, to_granule
from stac2cube.source.local import Look, items_of_path

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
    newest processing baseline is used; different datastrips of one overpass are both used. A scene of which one item
    lies within the times is found whole. A scene with an item that contradicts itself, or without any known asset, is
    returned with its problem, so that the others can be built. Items that their catalog calls deprecated are left out.

    Args:
        query: What to look for.
        catalog: Where.

    Returns:
        Scenes, sorted by key; none if nothing is there.

    Raises:
        BadInputError: The catalog does not carry the mission.
        CatalogError: The catalog cannot be read.
    """
    return scenes_of(found_items(query, catalog), query, catalog)


def found_items(query: Query, catalog: Catalog) -> list[Item]:
    """The items that a search finds, as the catalog gives them; see :func:`search`."""
    return list(_matching(query, catalog))


def scenes_of(items: Iterable[Item], query: Query, catalog: Catalog) -> list[Scene]:
    """Items of a catalog as scenes; see :func:`search`."""
    reading = Reading(query.mission, catalog, query.bands)
    found: dict[SceneKey, list[Known]] = {}
    strangers: set[str] = set()
    for item in items:
        identity = identify(item, query.mission)
        if identity is None:
            # An item that names no collection may be anybody's; others are the mission's and should be known.
            strangers |= {item["id"]} if item.get("collection") else set()
            continue
        if query.orbit not in ("", str(identity.orbit), orbit_state(item)):
            continue
        day = time_of(item).date() if query.mission.static else solar_day(time_of(item), query.longitude)
        key = SceneKey(query.mission.name, day, identity.platform, identity.orbit)
        found.setdefault(key, []).append((item, identity))
    if strangers:
        log.warning("%s: left out %d items of unknown platforms: %s", catalog.name, len(strangers), min(strangers))
    found = {key: items for key, items in found.items() if any(_inside(time_of(i), query.intervals) for i, _ in items)}
    scenes = [_scene(key, items, reading, query.area) for key, items in sorted(found.items())]
    kept = [scene for scene in scenes if _clear_enough(scene, query.max_cloud_cover)]
    log.info("%s: %d items, %d scenes", catalog.name, sum(map(len, found.values())), len(kept))
    return kept


def solar_day(time: datetime, longitude: float) -> date:
    """The date at which the sun stands where it stood: UTC plus four minutes per degree of longitude."""
    return (time + timedelta(hours=longitude / 15)).date()


def _matching(query: Query, catalog: Catalog) -> Iterator[Item]:
    """Items of the mission's collections that touch the area, about the times; checked here, whatever a server does."""
    around = [(first - MARGIN, last + MARGIN) for first, last in query.intervals]
    if catalog.is_local:
        wanted = {page.collection for page in query.mission.pages}
        parts = getattr(query.area, "geoms", [query.area])
        look = Look(tuple(part.bounds for part in parts), tuple(around))
        items: Iterable[dict[str, Any]] = (
            item for item in items_of_path(Path(catalog.url), look) if item.get("collection") in wanted | {None}
        )
    else:
        pages = query.mission.pages_in(catalog.like) if catalog.like else query.mission.pages
        collections = list(dict.fromkeys(page.collection for page in pages))
        items = items_of_api(catalog.url, collections, query.area, around, catalog.login)
    shapely.prepare(query.area)
    seen: set[tuple[str, str]] = set()
    for item in items:
        if item["properties"].get("deprecated") is True or item["id"] in query.without:
            continue
        known = (str(item.get("collection") or ""), item["id"])
        # Two files of a local source may hold the same item, as two pages of a server may.
        if known not in seen and _inside(time_of(item), around) and query.area.intersects(footprint_of(item)):
            seen.add(known)
            yield item


def _inside(time: datetime, intervals: Sequence[tuple[datetime, datetime]]) -> bool:
    return any(first <= time <= last for first, last in intervals)


Known = tuple[Item, Identity]
"""An item, and who it is."""


def _scene(key: SceneKey, items: Sequence[Known], reading: Reading, area: BaseGeometry) -> Scene:
    used, left_out = _newest(items, reading.mission)
    problem = ""
    granules = []
    for item, identity in used:
        try:
            granules.append(to_granule(item, reading, identity))
        except (RadiometryError, CatalogError) as error:
            problem = problem or str(error)
    return Scene(
        key=key,
        time=min(time_of(item) for item, _ in used),
        granules=tuple(granules),
        superseded=tuple(sorted(item["id"] for item, _ in left_out)),
        cloud_cover=_cloud_cover(granules, area),
        orbit_state=orbit_state(used[0][0]),
        problem=problem,
    )


def _newest(items: Sequence[Known], mission: Mission) -> tuple[list[Known], list[Known]]:
    """Split into items to use, in mosaic order, and those superseded."""
    preference: dict[str, int] = {}
    for place, page in enumerate(mission.pages):
        preference.setdefault(page.collection, -place)

    def rank(known: Known) -> tuple[Any, ...]:
        item, identity = known
        # The newest baseline; made last; of the collection listed first; then the id, so that the order in which a
        # server answers never matters.
        first = preference.get(str(item.get("collection")), -len(preference))
        return (_number(identity.baseline), generated(item), first, item["id"])

    groups: dict[tuple[str, str], list[Known]] = {}
    for item, identity in items:
        # Where the datastrip is unknown, items of one tile within the scene are taken for the same.
        groups.setdefault((identity.tile, identity.datastrip), []).append((item, identity))
    used, left_out = [], []
    for _, group in sorted(groups.items(), key=lambda entry: entry[0]):
        ordered = sorted(group, key=rank)
        used.append(ordered[-1])
        left_out += ordered[:-1]
    return used, left_out


def _number(baseline: str) -> float:
    try:
        return float(baseline)
    except ValueError:
        return -1.0


def _cloud_cover(granules: Sequence[Granule], area: BaseGeometry) -> float | None:
    if len(granules) == 1:
        return None if granules[0].cloud_cover is None else round(granules[0].cloud_cover, 4)
    weights = [(shape(g.footprint).intersection(area).area, g.cloud_cover) for g in granules]
    known = [(weight, cover) for weight, cover in weights if cover is not None]
    total = sum(weight for weight, _ in known)
    return round(sum(weight * cover for weight, cover in known) / total, 4) if total else None


def _clear_enough(scene: Scene, limit: float | None) -> bool:
    return limit is None or scene.cloud_cover is None or scene.cloud_cover <= limit
