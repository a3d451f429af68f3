"""Runs by a clock: what is new since the last one, what became of that, and what of it may go."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from stac2cube.cli.kinds import parameters_of
from stac2cube.cli.words import what_words
from stac2cube.errors import BadInputError
from stac2cube.jobs import submissions
from stac2cube.recipe.file import Entry, Recipe

log = logging.getLogger(__name__)

UNDER_WAY = 600.0
"""Seconds after which a submission that has not been written down is taken for dead."""


def entries_behind(recipe: Recipe) -> list[str]:
    """Entries for which there is something to do: labels, in their order.

    Layers: scenes that the catalog has and the cube has not. Cubes made from cubes: steps that the parent has. Anything
    else: an input that was changed since.

    Raises:
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    return [entry.label for entry in recipe.entries if _is_behind(recipe, entry)]


def _is_behind(recipe: Recipe, entry: Entry) -> bool:
    from stac2cube.cube.overviews import overviews_beside  # and what it takes along: every command would start later
    from stac2cube.stages.layers import make_request, prepare
    from stac2cube.status import cube_status

    if entry.kind.name == "layers":
        out = recipe.made_by(entry)
        job = prepare(out, make_request(what_words(**parameters_of(recipe, entry))), on_cluster=True)
        return bool(job.plan().blocks) or not out.exists()
    inputs = [recipe.cube(name) for names in entry.inputs.values() for name in names]
    if entry.kind.suffix is None:
        made = [level for cube in inputs for level in overviews_beside(cube)]
    else:
        made = [recipe.made_by(entry)]
    if not made or not all(path.exists() for path in made):
        return True
    for path in made:
        if (path / "zarr.json").exists() and entry.kind.name != "composite":
            status = cube_status(path)
            if status.lacking or status.stale:
                return True
        elif any(_changed(cube) > _changed(path) for cube in inputs if cube.exists()):
            return True
    return False


def _changed(path: Path) -> float:
    """When a cube, a file, or what lies in a folder was changed, seconds since 1970."""
    root = path / "zarr.json"
    if root.exists() or not path.is_dir():
        return (root if root.exists() else path).stat().st_mtime
    return max((inner.stat().st_mtime for inner in path.iterdir()), default=0.0)


def tell_of_the_last(recipe: Recipe) -> None:
    """Warn where jobs of the last submission ended badly: whoever runs this by a clock hears of it."""
    earlier = submissions(recipe.cubes)
    if not earlier:
        return
    bad = {name: state for name, state in earlier[-1].states().items() if state not in ("COMPLETED", "ENDED")}
    if bad:
        said = ", ".join(f"{name} {state}" for name, state in bad.items())
        log.warning("the last submission: %s; %s", said, earlier[-1].last_error() or f"see {earlier[-1].folder}")


def require_first(folder: Path) -> None:
    """Refuse a submission while another for the same cubes is under way: of two at the same moment one goes on.

    Args:
        folder: Its own, just made.

    Raises:
        BadInputError: Another has begun before.
    """
    for other in folder.parent.iterdir():
        begun = other.name < folder.name and other.is_dir() and not (other / "submission.json").exists()
        if begun and abs(time.time() - other.stat().st_mtime) < UNDER_WAY:
            raise BadInputError(f"{folder.parents[1]} is being submitted just now ({other}): wait a moment")


def remove_old(cubes: Path, keep: int) -> int:
    """Remove scripts, logs and progress of submissions that have ended, but for the newest.

    Args:
        cubes: Folder of the cubes.
        keep: Submissions to keep.

    Returns:
        Submissions removed.

    Raises:
        SlurmError: SLURM cannot be asked which have ended.
    """
    old = [one for one in submissions(cubes)[:-keep] if not one.alive()]
    for one in old:
        shutil.rmtree(one.folder)
    return len(old)
