"""Whether what was found can be used: problems, bands that are lacking, and where it lies."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError
from stac2cube.grid import crs_text
from stac2cube.mission import Band
from stac2cube.scene import Scene
from stac2cube.source.engine import geobox_of
from stac2cube.source.parsing import counted
from stac2cube.source.probe import crs_of_file

log = logging.getLogger(__name__)


def without_standins(scene: Scene) -> Scene:
    """A scene that has a problem if an older item stands in for the newest."""
    if scene.problem or not scene.passed_over:
        return replace(scene, spares={})
    name, why = next(iter(scene.passed_over.items()))
    return replace(scene, spares={}, problem=f"item {name} cannot be used, and none may stand in for it: {why}")


def lacking(scenes: Sequence[Scene], bands: Sequence[Band]) -> dict[str, int]:
    """How many of the usable scenes have no item with a band, by band; without those that all have."""
    usable = [scene for scene in scenes if scene.granules and not scene.problem]
    counts = {
        band.name: sum(all(band.name not in granule.assets for granule in scene.granules) for scene in usable)
        for band in bands
    }
    return {name: count for name, count in counts.items() if count}


def say_absent(scenes: Sequence[Scene], bands: Sequence[Band]) -> None:
    """Log which bands some scenes have no item with."""
    for name, count in lacking(scenes, bands).items():
        log.warning("%d of %d scenes have no item with band %s: it has no data there", count, len(scenes), name)


def require_usable(scenes: Sequence[Scene]) -> None:
    """Be sure that there is something to lay out a grid for.

    Raises:
        BadInputError: All scenes have a problem, and nothing tells their CRS.
    """
    problems = [scene.problem for scene in scenes if scene.problem]
    if problems and not any(granule.crs for scene in scenes for granule in scene.granules):
        raise BadInputError(f"none of the {len(scenes)} scenes found can be used: {counted(problems)}")


def require_bands(scenes: Sequence[Scene], bands: Sequence[Band]) -> None:
    """Be sure that each band is in an item of some scene.

    Raises:
        BadInputError: No usable scene has one of them: its layer would hold nothing.
    """
    usable = len([scene for scene in scenes if scene.granules and not scene.problem])
    absent = lacking(scenes, bands)
    nowhere = [name for name, count in absent.items() if count == usable]
    if not nowhere:
        return
    having = [f"{band.name} ({usable - absent.get(band.name, 0)})" for band in bands if band.name not in nowhere]
    raise BadInputError(
        f"no item of the {usable} scenes found has band {', '.join(nowhere)}"
        + (f"; of the others asked for they have {', '.join(having)}" if having else "")
        + ": leave it out, or ask another catalog (`stac2cube missions NAME` says which has which)"
    )


_LOOKED_AT = 12
"""Files that are opened at most to find out their CRS."""


def footprints_of(scenes: Sequence[Scene]) -> list[tuple[str, BaseGeometry]]:
    """CRS and footprint of each granule; where no item says its CRS, the files of some do.

    Raises:
        BadInputError: No item says its CRS, and no file tells it.
    """
    granules = [granule for scene in scenes if not scene.problem for granule in scene.granules]
    granules = granules or [granule for scene in scenes for granule in scene.granules]
    if not any(granule.crs for granule in granules):
        one_per_tile = list({granule.tile: granule for granule in granules}.values())[:_LOOKED_AT]
        told = [(granule, *crs_of_file(granule)) for granule in one_per_tile]
        if not any(crs for _, crs, _ in told):
            names = counted(f"item {granule.id} does not say its CRS, and {problem}" for granule, _, problem in told)
            raise BadInputError(f"{names}. Give the CRS of the cube: --crs EPSG:32632")
        return [(crs, shape(granule.footprint)) for granule, crs, _ in told if crs]
    return [(granule.crs, shape(granule.footprint)) for granule in granules]


def corner_of_files(scenes: Sequence[Scene], crs: str) -> tuple[float, float] | None:
    """Upper left corner of the first granule's pixels in a CRS: as its item says, or else its file."""
    granules = sorted((g for s in scenes for g in s.granules), key=lambda granule: (granule.tile, granule.id))
    for granule in granules:
        if granule.corner and granule.crs and crs_text(granule.crs) == crs:
            return granule.corner
    for granule in granules[:1]:
        asset = next(iter(granule.assets.values()), None)
        geobox = None if asset is None else geobox_of(asset, granule.signer)
        if geobox is not None and geobox.crs == crs:
            return float(geobox.transform.c), float(geobox.transform.f)
    return None
