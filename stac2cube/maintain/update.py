"""Update derived cubes, whatever their stage."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Protocol

from stac2cube.build.derived import CubesBeside, Derived, Parents, derive, sealed_keys
from stac2cube.build.plan import BuildOptions, Summary
from stac2cube.build.status import cube_status
from stac2cube.errors import BadInputError, CubeError
from stac2cube.executors.base import Place
from stac2cube.progress import Progress
from stac2cube.store.metadata import read_root

# Update of one derived cube.

DERIVED = {"clouds", "masked", "coregistered", "moved", "superres", "indices", "composite", "overview"}
"""Names of the stages that derive a cube from a cube."""


def derived_stage(name: str) -> Derived[Any]:
    """The stage with a name of :data:`DERIVED`; stages are imported when one is used."""
    from stac2cube.clouds.stage import CLOUDS
    from stac2cube.coregister.stage import COREGISTERED, MOVED
    from stac2cube.stages.overviews import OVERVIEW
    from stac2cube.stages.stored_views import COMPOSITE, INDICES, MASKED
    from stac2cube.superres.stage import SUPERRES

    stages = (CLOUDS, MASKED, COREGISTERED, MOVED, SUPERRES, INDICES, COMPOSITE, OVERVIEW)
    return next(stage for stage in stages if stage.name == name)


def is_derived(cube: Path) -> bool:
    """Whether a cube is derived from another; False if it does not exist."""
    return cube.exists() and read_root(cube).spec.stage in DERIVED


def update(
    cube: Path,
    place: Place,
    *,
    catalog: str | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Update a derived cube from its inputs, by the rules that it stores; see :func:`derive`.

    Args:
        cube: A cube for which :func:`is_derived` is true.
        place: Where the work runs.
        catalog: Catalog of the L1C, for clouds cubes. Default: the one that the cube stores.
        options: Options of the build. Default: ``BuildOptions()``.
        progress: Receives every finished block. Default: shows nothing.

    Returns:
        Summary of the build.

    Raises:
        BadInputError: A catalog was given for a cube that reads none; or an error of the stage of the cube.
    """
    spec = read_root(cube).spec
    stage, parents = derived_stage(spec.stage), Parents.of(spec)
    if catalog is not None and not parents.catalog:
        raise BadInputError(f"{cube} is updated from its stored source: leave out --catalog")
    parents = replace(parents, catalog=catalog or parents.catalog)
    return derive(stage, parents, cube, stage.rules_of(spec), place, options=options, progress=progress)


# Derived cubes beside a cube: which exist, what they are missing, and their update.

log = logging.getLogger(__name__)


class DerivedKind(Protocol):
    """A kind of cubes, or of folders of samples, that are derived from cubes."""

    def candidates(self, cube: Path) -> Iterable[Path]:
        """Paths beside a cube that may be of this kind."""
        ...

    def parent(self, cube: Path) -> Path | None:
        """The parent of a cube of this kind; None for any other path.

        Raises:
            CubeError: Not a cube.
        """
        ...

    def behind(self, cube: Path) -> tuple[int, int]:
        """Number of steps that a cube of this kind is missing, and of steps that its parent has rebuilt since."""
        ...

    def too_many(self, cube: Path, keys: Collection[str]) -> set[str]:
        """Keys of the steps of a cube of this kind that have no step in its parent, given the parent's keys."""
        ...

    def drop(self, cube: Path, keys: Collection[str], options: BuildOptions) -> None:
        """Remove such steps."""
        ...

    def inputs(self, cube: Path) -> set[Path]:
        """Absolute paths of the cubes that a cube of this kind reads besides its parent."""
        ...

    def follow(self, cube: Path, place: Place, *, options: BuildOptions, progress: Progress | None) -> Summary:
        """Update a cube of this kind from its parent."""
        ...


class StageKinds(CubesBeside):
    """Cubes derived by the stages: clouds, masked, co-registered, super-resolved cubes, overviews ..."""

    def parent(self, cube: Path) -> Path | None:
        """The parent of a cube."""
        request = read_root(cube).spec.request
        return Path(request["layers"]) if is_derived(cube) and request.get("layers") else None

    def behind(self, cube: Path) -> tuple[int, int]:
        """Number of missing and of stale steps."""
        status = cube_status(cube)
        return status.lacking, len(status.stale)

    def follow(self, cube: Path, place: Place, *, options: BuildOptions, progress: Progress | None) -> Summary:
        """Update a cube from its parent."""
        return update(cube, place, options=options, progress=progress)


STAGES: tuple[DerivedKind, ...] = (StageKinds(),)
"""The default kinds of derived cubes."""


def children_of(cube: Path, kinds: Sequence[DerivedKind] = STAGES) -> list[tuple[Path, DerivedKind]]:
    """Cubes beside a cube that were derived from it, sorted by path; its overviews among them."""
    wanted = cube.resolve()
    found: dict[Path, tuple[Path, DerivedKind]] = {}
    for kind in kinds:
        for path in kind.candidates(wanted):
            try:
                if kind.parent(path) == wanted:
                    found.setdefault(path.resolve(), (path, kind))
            except (CubeError, OSError):
                continue  # another kind of store, or one of another user
    return sorted(found.values(), key=lambda one: str(one[0]))


def derived_from(cube: Path, kinds: Sequence[DerivedKind] = STAGES) -> list[tuple[Path, Path, DerivedKind]]:
    """All cubes derived from a cube, directly or not: parent, path and kind, each after all cubes that it reads.

    Raises:
        CubeError: Cubes are derived from each other.
    """
    found: dict[Path, tuple[Path, Path, DerivedKind]] = {}
    waiting = [cube]
    for parent in waiting:
        fresh = [(child, kind) for child, kind in children_of(parent, kinds) if child.resolve() not in found]
        found |= {child.resolve(): (parent, child, kind) for child, kind in fresh}
        waiting += [child for child, _ in fresh]
    needs = {path: {parent.resolve(), *kind.inputs(child)} for path, (parent, child, kind) in found.items()}
    try:
        return [found[path] for path in TopologicalSorter(needs).static_order() if path in found]
    except CycleError as error:
        raise CubeError(f"cubes are made from each other: {', '.join(map(str, error.args[1]))}") from error


def outdated_children(cube: Path, kinds: Sequence[DerivedKind] = STAGES) -> dict[str, dict[str, int]]:
    """Missing, stale and surplus steps of the derived cubes of a cube, by path; cubes that are up to date are left out.

    A cube that cannot be compared, because it or one of its inputs is damaged or missing, is named in the log.
    """
    found: dict[str, dict[str, int]] = {}
    for parent, child, kind in derived_from(cube, kinds):
        try:
            lacking, stale = kind.behind(child)
            too_many = len(kind.too_many(child, sealed_keys(parent)))
        except (CubeError, BadInputError) as error:
            log.warning("%s cannot be compared with %s: %s", child, parent, error)
            continue
        state = {"lacking": lacking, "stale": stale, "too many": too_many}
        if any(state.values()):
            found[str(child)] = state
    return found


def update_children(
    cube: Path,
    place: Place,
    options: BuildOptions,
    progress: Progress | None,
    summary: Summary,
    kinds: Sequence[DerivedKind] = STAGES,
) -> None:
    """Update all cubes derived from a cube, directly or not, until all are up to date or the run is stopped.

    Args:
        cube: The cube.
        place: Where the work runs.
        options: Options of the build.
        progress: Receives every finished block. None: shows nothing.
        summary: Receives failures, and whether the run was stopped.
        kinds: Kinds of cubes that are updated.
    """
    for parent, child, kind in derived_from(cube, kinds):
        kind.drop(child, kind.too_many(child, sealed_keys(parent)), options)
        done = kind.follow(child, place, options=options, progress=progress)
        summary.failed |= {f"{child.name} {key}": reason for key, reason in done.failed.items()}
        if done.stopped:
            summary.stopped = True
            break
