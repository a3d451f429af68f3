"""Update cubes that were made from other cubes, whatever their stage."""

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

# Bring a cube that was made from another up to date, whatever it is.

DERIVED = {"clouds", "masked", "coregistered", "moved", "superres", "indices", "composite", "overview"}
"""Names of the stages that make a cube from a cube."""


def derived_stage(name: str) -> Derived[Any]:
    """The stage of a name of :data:`DERIVED`; stages are imported when one is used."""
    from stac2cube.clouds.stage import CLOUDS
    from stac2cube.coregister.stage import COREGISTERED, MOVED
    from stac2cube.stages.overviews import OVERVIEW
    from stac2cube.stages.stored_views import COMPOSITE, INDICES, MASKED
    from stac2cube.superres.stage import SUPERRES

    stages = (CLOUDS, MASKED, COREGISTERED, MOVED, SUPERRES, INDICES, COMPOSITE, OVERVIEW)
    return next(stage for stage in stages if stage.name == name)


def is_derived(cube: Path) -> bool:
    """Whether a cube follows another; False where there is no cube."""
    return cube.exists() and read_root(cube).spec.stage in DERIVED


def update(
    cube: Path,
    place: Place,
    *,
    catalog: str | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Bring a derived cube up to date with its inputs, by the rules that it stores; see :func:`derive`.

    Args:
        cube: A cube for which :func:`is_derived` is true.
        place: Where the work runs.
        catalog: Catalog of the L1C, for clouds cubes. Default: the one that the cube stores.
        options: Options of the build. Default: ``BuildOptions()``.
        progress: Receives every finished block. Default: shows nothing.

    Returns:
        What was done.

    Raises:
        BadInputError: A catalog was given for a cube that reads none; or an error of the stage of the cube.
    """
    spec = read_root(cube).spec
    stage, parents = derived_stage(spec.stage), Parents.of(spec)
    if catalog is not None and not parents.catalog:
        raise BadInputError(f"{cube} is updated from its stored source: leave out --catalog")
    parents = replace(parents, catalog=catalog or parents.catalog)
    return derive(stage, parents, cube, stage.rules_of(spec), place, options=options, progress=progress)


# Cubes that were made from a cube: which there are beside it, how they stand to it, and how they follow.

log = logging.getLogger(__name__)


class DerivedKind(Protocol):
    """A kind of cubes, or of folders of samples, that are made from cubes."""

    def candidates(self, cube: Path) -> Iterable[Path]:
        """What lies beside a cube and may be of this kind."""
        ...

    def parent(self, cube: Path) -> Path | None:
        """The cube that a cube of this kind was made from; None for any other.

        Raises:
            CubeError: Not a cube.
        """
        ...

    def behind(self, cube: Path) -> tuple[int, int]:
        """Steps that a cube of this kind lacks, and how many it has that were made anew in its parent since."""
        ...

    def too_many(self, cube: Path, keys: Collection[str]) -> set[str]:
        """Steps that a cube of this kind has and of which its parent's are none, by the keys of those."""
        ...

    def drop(self, cube: Path, keys: Collection[str], options: BuildOptions) -> None:
        """Take such steps out."""
        ...

    def inputs(self, cube: Path) -> set[Path]:
        """Cubes that a cube of this kind reads besides its parent; absolute paths."""
        ...

    def follow(self, cube: Path, place: Place, *, options: BuildOptions, progress: Progress | None) -> Summary:
        """Bring a cube of this kind up to its parent."""
        ...


class StageKinds(CubesBeside):
    """What the stages make from a cube: clouds, masked, co-registered, super-resolved cubes, overviews ..."""

    def parent(self, cube: Path) -> Path | None:
        """The cube that a cube was made from."""
        request = read_root(cube).spec.request
        return Path(request["layers"]) if is_derived(cube) and request.get("layers") else None

    def behind(self, cube: Path) -> tuple[int, int]:
        """Steps lacking and stale."""
        status = cube_status(cube)
        return status.lacking, len(status.stale)

    def follow(self, cube: Path, place: Place, *, options: BuildOptions, progress: Progress | None) -> Summary:
        """Bring a cube up to its parent."""
        return update(cube, place, options=options, progress=progress)


STAGES: tuple[DerivedKind, ...] = (StageKinds(),)
"""The kinds that are followed if nobody says more."""


def children_of(cube: Path, kinds: Sequence[DerivedKind] = STAGES) -> list[tuple[Path, DerivedKind]]:
    """Cubes beside a cube that were made from it, in the order of their paths; its overviews among them."""
    wanted = cube.resolve()
    found: dict[Path, tuple[Path, DerivedKind]] = {}
    for kind in kinds:
        for path in kind.candidates(wanted):
            try:
                if kind.parent(path) == wanted:
                    found.setdefault(path.resolve(), (path, kind))
            except (CubeError, OSError):
                continue  # some other store, or somebody else's
    return sorted(found.values(), key=lambda one: str(one[0]))


def derived_from(cube: Path, kinds: Sequence[DerivedKind] = STAGES) -> list[tuple[Path, Path, DerivedKind]]:
    """The children of a cube, and theirs: each with its parent before it, and after all cubes that it is made from.

    Raises:
        CubeError: Cubes are made from each other.
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
    """How the children of a cube, and theirs, stand to their parents, those that are not in step; by path.

    One of which that cannot be told, because it is damaged or an input of it is gone, is named in the log.
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
    """Update the children of a cube, and theirs, until all are up to date or the run is stopped.

    Args:
        cube: The cube.
        place: Where the work runs.
        options: Options of the build.
        progress: Receives every finished block. None: shows nothing.
        summary: Receives what failed, and whether the run was stopped.
        kinds: Kinds of cubes that are updated.
    """
    for parent, child, kind in derived_from(cube, kinds):
        kind.drop(child, kind.too_many(child, sealed_keys(parent)), options)
        done = kind.follow(child, place, options=options, progress=progress)
        summary.failed |= {f"{child.name} {key}": reason for key, reason in done.failed.items()}
        if done.stopped:
            summary.stopped = True
            break
