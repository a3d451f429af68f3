"""What there is for a draft: scenes day by day, and what a cube of them amounts to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import shapely
from shapely.geometry import shape

from stac2cube.cube.spec import CubeSpec
from stac2cube.explorer.draft import Draft
from stac2cube.explorer.places import Place
from stac2cube.growth import IN_FILES, added, pixels_of, to_read
from stac2cube.mission import find_mission
from stac2cube.period import parse_period
from stac2cube.scene import Granule, Scene
from stac2cube.stages.choice import Found
from stac2cube.stages.request import ALWAYS, Request, Wanted, find_scenes, grid_for, spec_for, understand
from stac2cube.stages.scenes import steps_for
from stac2cube.work import Step

_FINE = 0.002
"""Degrees by which outlines for the map may be simplified."""


@dataclass(frozen=True)
class Asked:
    """What a search depends on; the same again needs no second search."""

    area: int
    mission: str
    catalog: str
    time: str


def asked(draft: Draft) -> Asked:
    """What a draft's search depends on."""
    return Asked(draft.area, draft.mission, draft.catalog, draft.time)


def request_of(draft: Draft, place: Place, *, every_band: bool = False) -> Request:
    """A draft as a request; its cloud limit is left to the page, which shows what it leaves out.

    Raises:
        BadInputError: A word is not understood.
    """
    mission = find_mission(draft.mission)
    return Request(
        mission=mission.name,
        area=place.area,
        time=parse_period(draft.time).text if draft.time else ALWAYS,
        bands=tuple(mission.bands) if every_band else draft.chosen_bands() or None,
        resolution=None if every_band else draft.resolution,
        catalog=draft.catalog,
    )


def search(draft: Draft, place: Place) -> Found:
    """Search, whatever bands will be wanted.

    Raises:
        BadInputError: A word is not understood.
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    return find_scenes(understand(request_of(draft, place, every_band=True)))


def shown(draft: Draft, place: Place, found: Found) -> dict[str, Any]:
    """What was found, for the page.

    Args:
        draft: What is chosen.
        place: The area.
        found: The scenes over it.

    Raises:
        BadInputError: A band, or a grid that cannot be laid out.
    """
    wanted = understand(request_of(draft, place))
    spec = spec_for(wanted, grid_for(wanted, found.scenes))
    steps = tuple(steps_for(found.scenes, spec.grid, found.choice.why, [layer.name for layer in spec.layers]))
    scenes = [_scene(scene) | _size(wanted, spec, step) for scene, step in zip(found.scenes, steps, strict=True)]
    rows, columns = spec.grid.shape
    intervals = wanted.query.intervals if draft.time else ()
    return {
        "catalog": {"name": found.choice.catalog.name, "why": found.choice.why},
        "times": [[f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"] for first, last in intervals],
        "grid": {
            "crs": spec.grid.crs,
            "resolution": spec.grid.resolution,
            "rows": rows,
            "columns": columns,
            "layers": [layer.name for layer in spec.layers],
        },
        "scenes": sorted(scenes, key=lambda scene: str(scene["time"])),
    }


def _size(wanted: Wanted, spec: CubeSpec, step: Step) -> dict[str, float]:
    load, pixels = added(spec, [step]), pixels_of(spec, step)
    read = to_read(wanted.query.bands, spec, pixels) * IN_FILES
    return {"blocks": len(step.tiles), "files": load.files, "write": load.size, "read": read}


def _scene(scene: Scene) -> dict[str, Any]:
    return {
        "key": str(scene.key),
        "time": f"{scene.time:%Y-%m-%dT%H:%M:%SZ}",
        "day": f"{scene.key.day:%Y-%m-%d}",
        "platform": scene.key.platform,
        "orbit": scene.key.orbit,
        "cloud": scene.cloud_cover,
        "problem": scene.problem,
        "parts": [{"tile": granule.tile or granule.id, "geometry": _outline(granule)} for granule in scene.granules],
    }


def _outline(granule: Granule) -> dict[str, Any]:
    simple = shapely.set_precision(shape(granule.footprint).simplify(_FINE), 1e-4, mode="pointwise")
    outline: dict[str, Any] = json.loads(shapely.to_geojson(simple))
    return outline
