"""Scenes as steps of a cube: what the ledger shall say of each, and which blocks it can touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from shapely import union_all
from shapely.geometry import mapping, shape

from stac2cube.cube.ledger import SEALED, Entry
from stac2cube.grid import Grid, Tile
from stac2cube.scene import Scene
from stac2cube.source.touching import sorted_once, touching_pairs
from stac2cube.version import __version__
from stac2cube.work import Step


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
    blocks, places = touching_pairs(granules, [grid.tile_geobox(tile) for tile in tiles])
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
