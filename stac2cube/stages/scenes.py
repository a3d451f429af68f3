"""Scenes as steps of a cube, and older items in the place of those that cannot be read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from shapely import union_all
from shapely.geometry import mapping, shape

from stac2cube.build.plan import VERSIONS, Step, Summary
from stac2cube.model.grid import Grid, Tile
from stac2cube.model.scene import Granule, Scene
from stac2cube.pixels.read import intersecting_pairs, sorted_once
from stac2cube.store.ledger import FAILED, SEALED, Entry
from stac2cube.version import __version__

# Scenes as steps of a cube: what the ledger shall say of each, and which blocks it can touch.


def steps_for(scenes: Sequence[Scene], grid: Grid, why: str, layers: Sequence[str] = ()) -> list[Step]:
    """Scenes as steps: what the ledger shall say, and which blocks can hold anything.

    Args:
        scenes: The scenes.
        grid: The cube's.
        why: Why they come from this catalog.
        layers: Names of the cube's layers, to say which of them an item lacks.
    """
    tiles = list(grid.tiles())
    granules = [granule for scene in scenes for granule in scene.granules]
    blocks, places = intersecting_pairs(granules, [grid.tile_geobox(tile) for tile in tiles])
    owners = np.repeat(np.arange(len(scenes)), [len(scene.granules) for scene in scenes])
    pairs = sorted_once(owners[places] * len(tiles) + blocks)
    per_scene = np.split(pairs % len(tiles), np.searchsorted(pairs // len(tiles), np.arange(1, len(scenes))))
    shared: dict[bytes, tuple[Tile, ...]] = {}  # most scenes touch the same blocks
    steps = []
    for scene, touched in zip(scenes, per_scene, strict=False):
        # A scene with a problem gets a block to fail on, so that it is recorded and not taken for empty.
        chosen = touched if touched.size or not scene.problem else np.zeros(1, dtype=touched.dtype)
        key = chosen.tobytes()
        if key not in shared:
            shared[key] = tuple(tiles[block] for block in chosen)
        steps.append(Step(_entry(scene, why, layers), _light(scene), shared[key]))
    return steps


def _entry(scene: Scene, why: str, layers: Sequence[str]) -> Entry:
    footprints = [granule.footprint for granule in scene.granules]
    if len(footprints) > 1:
        footprints = [dict(mapping(union_all([shape(footprint) for footprint in footprints])))]
    return Entry(
        key=str(scene.key),
        time=scene.time,
        status=SEALED,
        items=scene.item_ids,
        parts=scene.parts,
        footprint=footprints[0] if footprints else {},
        properties={
            "platform": scene.key.platform,
            "orbit": scene.key.orbit,
            "orbit_state": scene.orbit_state,
            "cloud_cover": scene.cloud_cover,
            "catalog": ",".join(sorted({granule.catalog for granule in scene.granules})),
            "catalog_choice": why,
            "collections": sorted({granule.collection for granule in scene.granules}),
            "baselines": sorted({granule.baseline for granule in scene.granules}),
            "shifts": {granule.id: _shift_of(granule.assets) for granule in scene.granules},
            "absent": {granule.id: absent for granule in scene.granules if (absent := _absent(granule.assets, layers))},
            "superseded_items": list(scene.superseded),
            "versions": {name: dict(version) for name, version in scene.versions.items()},
            **({"passed_over": dict(scene.passed_over)} if scene.passed_over else {}),
            **({"unreadable": dict(scene.unreadable)} if scene.unreadable else {}),
            "software": {"stac2cube": __version__},
            **({"simulated": True} if any(granule.simulated for granule in scene.granules) else {}),
        },
        sources=tuple(text for one in scene.granules for text in (one.item, *(text for _, text in one.completed_by))),
    )


def _absent(assets: Mapping[str, Any], layers: Sequence[str]) -> list[str]:
    return [name for name in layers if name not in assets]


def _shift_of(assets: Mapping[str, Any]) -> int:
    """Counts added to the bands that ever carried an offset."""
    return max((asset.shift for asset in assets.values()), default=0)


def _light(scene: Scene) -> Scene:
    """The scene as it travels to the workers: without the whole items and their keys, which only the driver wants."""
    light = tuple(replace(granule, item="", completed_by=(), signed={}) for granule in scene.granules)
    return replace(scene, granules=light, spares={}, versions={}, passed_over={}, unreadable={})


# Older items in the place of newer ones whose files cannot be read: chosen per step, said, and remembered.
#
# A step is always read from one choice of items: no block of it from the newer, another from the older one. That the
# newer one failed is remembered in the ledger, so that the next run does not try it again as long as the catalog says
# the same of it.

_MAY_PASS = re.compile(
    r"response code: (?:0|408|429|5\d\d)\b|timed? ?out|could not resolve|connection|temporar|try again|"
    r"No space left|Stale file handle|Input/output error|took longer|given up|search anew",
    re.IGNORECASE,
)
"""Words of failures that may be over when it is tried again; all others are for good."""

_OF_SERVERS = re.compile(r"response code: (?:0|408|429|5\d\d)\b|timed? ?out|took longer", re.IGNORECASE)
"""Those of them by which a server can fail at one file for ever."""


def is_for_good(reason: str) -> bool:
    """Whether a failure will be the same at the next try."""
    return _MAY_PASS.search(reason) is None


def remembered(scenes: Sequence[Scene], rows: Mapping[str, Entry]) -> tuple[Scene, ...]:
    """Scenes with older items in the place of those that the ledger says cannot be read.

    Args:
        scenes: As they were found.
        rows: The ledger's rows by key.
    """
    return tuple(_remembered(scene, rows.get(str(scene.key))) if scene.spares else scene for scene in scenes)


def _remembered(scene: Scene, row: Entry | None) -> Scene:
    if row is None:
        return scene
    if row.status == FAILED:
        return with_standins(scene, row.reason) or scene
    if row.status != SEALED:
        return scene
    told, had = row.properties.get("unreadable", {}), row.properties.get(VERSIONS, {})
    for name, reason in told.items():
        if had.get(name) == scene.versions.get(name):
            scene = with_standins(scene, reason, name) or scene
    return scene


def with_standins(scene: Scene, reason: str, name: str = "", *, again: bool = False) -> Scene | None:
    """A scene with the next older item in the place of the one whose file cannot be read.

    Args:
        scene: The scene.
        reason: Why its step failed; names the item.
        name: The item; the one that the reason names if "".
        again: Whether the step failed in an earlier run, too: what a server still does is not waited for any longer.

    Returns:
        None where nothing can stand in, or the failure may pass by itself.
    """
    if not is_for_good(reason) and not (again and _OF_SERVERS.search(reason)):
        return None
    for part, granule in scene.named.items():
        failed = name in granule.item_ids if name else any(f"item {one}," in reason for one in granule.item_ids)
        spares = [spare for spare in scene.spares.get(part, ()) if not _reads_the_same(spare, granule, reason)]
        if failed and spares:
            place = scene.granules.index(granule)
            granules = (*scene.granules[:place], spares[0], *scene.granules[place + 1 :])
            gone = dict.fromkeys(granule.item_ids, reason)
            others = set(scene.superseded) | set(granule.item_ids)
            return replace(
                scene,
                granules=granules,
                superseded=tuple(sorted(others - set(spares[0].item_ids))),
                passed_over={**gone, **scene.passed_over},
                unreadable={**gone, **scene.unreadable},
                spares={**scene.spares, part: tuple(spares[1:])},
            )
    return None


def _reads_the_same(spare: Granule, granule: Granule, reason: str) -> bool:
    """Whether a granule reads the file that a reason says cannot be read."""
    named = _BAND.search(reason)
    band = named[1] if named else ""
    return band in granule.assets and band in spare.assets and spare.assets[band].href == granule.assets[band].href


_BAND = re.compile(r"item .*?, band (\w+): ")
"""How reasons of reads begin."""


def words_of(entry: Entry) -> str:
    """What is said of a step in which older items stand in, "" if none does."""
    passed = entry.properties.get("passed_over", {})
    if not passed:
        return ""
    named = [f"{'a part of ' if name in entry.items else ''}{name}: {why}" for name, why in passed.items()]
    return f"{', '.join(entry.items)} in the place of {'; '.join(named)}"


def add(summary: Summary, more: Summary) -> None:
    """Take over what a further build of failed steps did."""
    done = {*more.sealed, *more.replaced, *more.empty}
    summary.failed = {key: why for key, why in summary.failed.items() if key not in done} | more.failed
    summary.sealed += more.sealed
    summary.replaced += more.replaced
    summary.empty |= more.empty
    summary.stopped = more.stopped
    summary.seconds += more.seconds
