"""Update cubes that were made from other cubes, whatever their stage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from stac2cube.build.derived import CubesBeside, sealed_keys
from stac2cube.build.plan import BuildOptions, Summary
from stac2cube.build.status import cube_status
from stac2cube.errors import BadInputError, CubeError
from stac2cube.executors.base import Place
from stac2cube.progress import Progress
from stac2cube.store.metadata import read_root

# Bring a cube that was made from another up to date, whatever it is.

_DERIVED = {"clouds", "masked", "coregistered", "moved", "superres", "indices", "composite", "overview"}
"""Stages whose cubes follow another."""


def is_derived(cube: Path) -> bool:
    """Whether a cube follows another; False where there is no cube."""
    return cube.exists() and read_root(cube).spec.stage in _DERIVED


def update_derived(
    cube: Path,
    place: Place,
    *,
    catalog: str | None = None,
    orders: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Add to a cube what its parent has by now, and make anew what was made anew there, by the rules it remembers.

    Args:
        cube: A cube that :func:`is_derived`.
        place: Where the work runs.
        catalog: Another place to look for what a clouds cube needs beside its parent.
        orders: How.
        progress: Told of every block.

    Raises:
        BadInputError: A catalog for a cube that needs none; or what the cube's own stage raises.
    """
    stage = read_root(cube).spec.stage
    orders = orders or BuildOptions()
    if stage == "clouds":
        from stac2cube.clouds.stage import follow_clouds

        return follow_clouds(cube, place, orders, progress, catalog)
    if catalog is not None:
        raise BadInputError(f"{cube} is made from its parent alone: say no --catalog")
    return _follower(stage)(cube, place, orders, progress)


def _follower(stage: str) -> Callable[[Path, Place, BuildOptions, Progress | None], Summary]:
    """What brings a cube of a stage up to date; an update of layers loads none of them."""
    if stage in ("coregistered", "moved"):
        from stac2cube.coregister.stage import follow_coregistered, follow_moved

        return follow_moved if stage == "moved" else follow_coregistered
    if stage in ("masked", "indices"):
        from stac2cube.stages.stored_views import follow_indices, follow_masked

        return follow_masked if stage == "masked" else follow_indices
    if stage == "superres":
        from stac2cube.superres.stage import follow_superres

        return follow_superres
    if stage == "composite":
        from stac2cube.stages.composites import follow_composites

        return follow_composites
    from stac2cube.stages.overviews import follow_overview

    return follow_overview


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

    def drop(self, cube: Path, keys: Collection[str], orders: BuildOptions) -> None:
        """Take such steps out."""
        ...

    def is_last(self, cube: Path) -> bool:
        """Whether it needs others of the same parent, and so comes after them."""
        ...

    def follow(self, cube: Path, place: Place, *, orders: BuildOptions, progress: Progress | None) -> Summary:
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

    def follow(self, cube: Path, place: Place, *, orders: BuildOptions, progress: Progress | None) -> Summary:
        """Bring a cube up to its parent."""
        return update_derived(cube, place, orders=orders, progress=progress)


STAGES: tuple[DerivedKind, ...] = (StageKinds(),)
"""The kinds that are followed if nobody says more."""


def children_of(cube: Path, kinds: Sequence[DerivedKind] = STAGES) -> list[tuple[Path, DerivedKind]]:
    """Cubes beside a cube that were made from it, in an order in which they can follow; its overviews among them."""
    wanted = cube.resolve()
    found: dict[Path, tuple[Path, DerivedKind]] = {}
    for kind in kinds:
        for path in kind.candidates(wanted):
            try:
                if kind.parent(path) == wanted:
                    found.setdefault(path.resolve(), (path, kind))
            except CubeError:
                continue  # some other store
    return sorted(found.values(), key=lambda one: (one[1].is_last(one[0]), str(one[0])))


def outdated_children(cube: Path, kinds: Sequence[DerivedKind] = STAGES) -> dict[str, dict[str, int]]:
    """How the children of a cube, and theirs, stand to it, those that are not in step; by path.

    One of which that cannot be told, because it is damaged or an input of it is gone, is named in the log.
    """
    found: dict[str, dict[str, int]] = {}
    children = children_of(cube, kinds)
    keys = sealed_keys(cube) if children else set()
    for child, kind in children:
        try:
            lacking, stale = kind.behind(child)
            too_many = len(kind.too_many(child, keys))
        except (CubeError, BadInputError) as error:
            log.warning("how %s stands to %s cannot be told: %s", child, cube, error)
            continue
        state = {"lacking": lacking, "stale": stale, "too many": too_many}
        if any(state.values()):
            found[str(child)] = state
        found |= outdated_children(child, kinds)
    return found


def update_children(
    cube: Path,
    place: Place,
    orders: BuildOptions,
    progress: Progress | None,
    summary: Summary,
    kinds: Sequence[DerivedKind] = STAGES,
) -> None:
    """Let the children of a cube follow, and theirs.

    Args:
        cube: The cube.
        place: Where the work runs.
        orders: How.
        progress: Told of every block.
        summary: Told what failed, and whether it was stopped.
        kinds: Of cubes that follow.
    """
    children = children_of(cube, kinds)
    keys = sealed_keys(cube) if children else set()
    for child, kind in children:
        kind.drop(child, kind.too_many(child, keys), orders)
        done = kind.follow(child, place, orders=orders, progress=progress)
        summary.failed |= {f"{child.name} {key}": reason for key, reason in done.failed.items()}
        summary.stopped |= done.stopped
        if not done.stopped:
            update_children(child, place, orders, progress, summary, kinds)
