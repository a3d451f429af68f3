"""Bring a cube that was made from another up to date, whatever it is."""

from __future__ import annotations

from pathlib import Path

from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError
from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.stages.clouds import follow_clouds
from stac2cube.stages.composed import follow_composites
from stac2cube.stages.coregister import follow_coregistered, follow_moved
from stac2cube.stages.indexed import follow_indices
from stac2cube.stages.masked import follow_masked
from stac2cube.stages.overviews import follow_overview
from stac2cube.stages.superres import follow_superres
from stac2cube.work import Orders, Summary

_FOLLOWERS = {
    "clouds": follow_clouds,
    "masked": follow_masked,
    "coregistered": follow_coregistered,
    "moved": follow_moved,
    "superres": follow_superres,
    "indices": follow_indices,
    "composite": follow_composites,
    "overview": follow_overview,
}


def follows(cube: Path) -> bool:
    """Whether a cube follows another; False where there is no cube."""
    return cube.exists() and read_root(cube).spec.stage in _FOLLOWERS


def follow(
    cube: Path,
    place: Place,
    *,
    catalog: str | None = None,
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Add to a cube what its parent has by now, and make anew what was made anew there, by the rules it remembers.

    Args:
        cube: A cube that :func:`follows`.
        place: Where the work runs.
        catalog: Another place to look for what a clouds cube needs beside its parent.
        orders: How.
        progress: Told of every block.

    Raises:
        BadInputError: A catalog for a cube that needs none; or what the cube's own stage raises.
    """
    stage = read_root(cube).spec.stage
    orders = orders or Orders()
    if stage == "clouds":
        return follow_clouds(cube, place, orders, progress, catalog)
    if catalog is not None:
        raise BadInputError(f"{cube} is made from its parent alone: say no --catalog")
    return _FOLLOWERS[stage](cube, place, orders, progress)
