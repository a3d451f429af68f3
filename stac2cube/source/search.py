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
from stac2cube.errors import RadiometryError
from stac2cube.mission import Band, Mission
from stac2cube.scene import Granule, Scene, SceneKey
from stac2cube.source.api import items_of_api
from stac2cube.source.items import Item, Reading, orbit_of, platform_of, time_of, to_granule
from stac2cube.source.local import items_of_path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        mission: The mission.
        area: Area of interest, WGS84, split at the antimeridian.
        longitude: Centre of the area, degrees; decides the solar day.
        intervals: First and last instant of each, UTC, both included.
        bands: Bands wanted.
        max_cloud_cover: Percent; a scene whose cloud cover over all its granules is higher is left out. None for any.
    """

    mission: Mission
    area: BaseGeometry = field(repr=False)
    longitude: float
    intervals: tuple[tuple[datetime, datetime], ...]
    bands: tuple[Band, ...]
    max_cloud_cover: float | None = None


def search(query: Query, catalog: Catalog) -> list[Scene]:
    """Find the scenes over an area.

    Items of one platform, relative orbit and solar day are one scene. Of items of the same tile and datastrip the
    newest processing baseline is used; different datastrips of one overpass are both used. A scene with an item that
    contradicts itself is returned with its problem, so that the others can be built.

    Args:
        query: What to look for.
        catalog: Where.

    Returns:
        Scenes, sorted by key; none if nothing is there.

    Raises:
        BadInputError: The catalog does not carry the mission.
        CatalogError: The catalog cannot be read.
    """
    reading = Reading(query.mission, catalog, query.bands)
    found: dict[SceneKey, list[Item]] = {}
    for item in _matching(query, catalog):
        platform = platform_of(item, query.mission)
        if not platform:
            continue
        day = solar_day(time_of(item), query.longitude)
        key = SceneKey(query.mission.name, day, platform, orbit_of(item, platform))
        found.setdefault(key, []).append(item)
    scenes = [_scene(key, items, reading, query.area) for key, items in sorted(found.items())]
    kept = [scene for scene in scenes if _clear_enough(scene, query.max_cloud_cover)]
    log.info("%s: %d items, %d scenes", catalog.name, sum(map(len, found.values())), len(kept))
    return kept


def solar_day(time: datetime, longitude: float) -> date:
    """The date at which the sun stands where it stood: UTC plus four minutes per degree of longitude."""
    return (time + timedelta(hours=longitude / 15)).date()


def _matching(query: Query, catalog: Catalog) -> Iterator[Item]:
    """Items of the mission's collections that touch the area within the times; checked here, whatever a server does."""
    if catalog.is_local:
        wanted = {page.collection for page in query.mission.pages}
        items: Iterable[dict[str, Any]] = (
            item for item in items_of_path(Path(catalog.url)) if item.get("collection") in wanted | {None}
        )
    else:
        pages = query.mission.pages_in(catalog.like) if catalog.like else query.mission.pages
        collections = list(dict.fromkeys(page.collection for page in pages))
        items = items_of_api(catalog.url, collections, query.area, query.intervals)
    shapely.prepare(query.area)
    for item in items:
        time = time_of(item)
        inside = any(first <= time <= last for first, last in query.intervals)
        if inside and item.get("geometry") and query.area.intersects(shape(item["geometry"])):
            yield item


def _scene(key: SceneKey, items: Sequence[Item], reading: Reading, area: BaseGeometry) -> Scene:
    problem = ""
    granules = []
    for item in items:
        try:
            granules.append(to_granule(item, reading))
        except RadiometryError as error:
            problem = str(error)
    used, left_out = _newest(granules, reading)
    return Scene(
        key=key,
        time=min(time_of(item) for item in items),
        granules=tuple(used),
        superseded=tuple(sorted(granule.id for granule in left_out)),
        cloud_cover=_cloud_cover(used, area),
        problem=problem,
    )


def _newest(granules: Sequence[Granule], reading: Reading) -> tuple[list[Granule], list[Granule]]:
    """Split into granules to use, in mosaic order, and those superseded."""
    preference = {page.collection: place for place, page in enumerate(reading.mission.pages)}

    def rank(granule: Granule) -> tuple[Any, ...]:
        # Newest baseline; then the collection listed first; then the id, so that the order never depends on a server.
        return (_number(granule.baseline), -preference.get(granule.collection, 0), granule.id)

    groups: dict[tuple[str, str], list[Granule]] = {}
    for granule in granules:
        # Where the datastrip is unknown, granules of one tile within the scene are taken for the same.
        groups.setdefault((granule.tile, granule.datastrip), []).append(granule)
    used, left_out = [], []
    for _, group in sorted(groups.items()):
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
    weights = [(shape(g.footprint).intersection(area).area, g.cloud_cover) for g in granules]
    known = [(weight, cover) for weight, cover in weights if cover is not None]
    total = sum(weight for weight, _ in known)
    return round(sum(weight * cover for weight, cover in known) / total, 4) if total else None


def _clear_enough(scene: Scene, limit: float | None) -> bool:
    return limit is None or scene.cloud_cover is None or scene.cloud_cover <= limit
