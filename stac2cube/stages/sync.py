"""A cube and its catalog, compared over the whole time it covers, and brought together again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stac2cube.cube.ledger import FAILED, SEALED, Ledger
from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError, CubeError, NothingFoundError
from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.stages.care import drop
from stac2cube.stages.following import follow, follows
from stac2cube.stages.layers import LayersJob, make_request, prepare, run
from stac2cube.status import cube_status
from stac2cube.work import Orders, Summary

KINDS = ("new", "late", "failed", "superseded", "withdrawn", "children")
"""What can be brought together, by name."""

MOST_WITHDRAWN = 0.2
"""Part of a cube's steps that may go at once: a catalog that lost more is more likely ill than right."""


@dataclass(frozen=True)
class Sync:
    """How a cube stands to its catalog, by keys of scenes.

    Attributes:
        new: In the catalog, later than all that is sealed.
        late: In the catalog, earlier than the last that is sealed.
        failed: That failed when they were last tried.
        superseded: Sealed from older or fewer items than there are now.
        withdrawn: Sealed, and not in the catalog any more.
        children: Cubes made from this one, and from those, that lack steps, hold stale ones, or some too many.
    """

    new: tuple[str, ...]
    late: tuple[str, ...]
    failed: tuple[str, ...]
    superseded: tuple[str, ...]
    withdrawn: tuple[str, ...]
    children: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        """Whether all is in step."""
        return not any(getattr(self, kind) for kind in KINDS)


def look(cube: Path, *, on_cluster: bool = False) -> tuple[Sync, LayersJob | None]:
    """Compare a layers cube with its catalog; nothing is changed.

    Args:
        cube: The cube.
        on_cluster: Whether blocks will be made on the nodes of a cluster.

    Returns:
        How they differ; and what would build it, None where the catalog has no scene at all.

    Raises:
        CubeError: Not a cube.
        BadInputError: Not one of layers.
        CatalogError: The catalog cannot be read.
    """
    rows = Ledger(cube, read_root(cube).ledger).entries(whole=False)
    sealed = {key: row for key, row in rows.items() if row.status == SEALED}
    last = max((row.time for row in sealed.values()), default=None)
    try:
        job = prepare(cube, make_request({}, cube), on_cluster=on_cluster)
    except NothingFoundError:
        return Sync((), (), (), (), tuple(sealed), _children(cube, set(sealed))), None
    plan = job.plan()
    todo = {step.entry.key: step.entry for step in plan.todo}
    failed = [key for key in todo if key in rows and rows[key].status == FAILED]
    fresh = [entry for key, entry in todo.items() if key not in failed]
    there = {step.entry.key for step in job.steps}
    late = [entry.key for entry in fresh if last is not None and entry.time < last]
    found = Sync(
        new=tuple(entry.key for entry in fresh if entry.key not in late),
        late=tuple(late),
        failed=tuple(failed),
        superseded=tuple(step.entry.key for _, step in plan.superseded),
        withdrawn=tuple(key for key in sealed if key not in there),
        children=_children(cube, set(sealed)),
    )
    return found, job


def sync(
    cube: Path,
    place: Place,
    *,
    kinds: Collection[str] = KINDS,
    even_many: bool = False,
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Bring a cube and its catalog together again, and what was made from the cube with it.

    Args:
        cube: A layers cube.
        place: Where the work runs.
        kinds: Of :data:`KINDS`, what is done.
        even_many: Take steps out however many were withdrawn.
        orders: How.
        progress: Told of every block.

    Raises:
        BadInputError: Not a kind, not a layers cube, or so much was withdrawn that it cannot be right.
        CatalogError: The catalog cannot be read.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise BadInputError(f"sync does {', '.join(KINDS)}, not {', '.join(sorted(unknown))}")
    orders = orders or Orders()
    found, job = look(cube, on_cluster=place.on_cluster)
    gone = found.withdrawn if "withdrawn" in kinds else ()
    steps = read_root(cube).steps
    if len(gone) > MOST_WITHDRAWN * steps and not even_many:
        raise BadInputError(
            f"{len(gone)} of the {steps} steps of {cube} are not in the catalog any more: if that is right, say even "
            "many"
        )
    summary = Summary()
    if job is not None:
        chosen = [kind for kind in KINDS[:4] if kind in kinds]
        wanted = {key for kind in chosen for key in getattr(found, kind)}
        have = {step.entry.key for step in job.plan().todo} | {step.entry.key for _, step in job.plan().superseded}
        kept = tuple(step for step in job.steps if step.entry.key in wanted or step.entry.key not in have)
        how = Orders("replace", orders.stop, orders.deadline, orders.verdict)
        part = LayersJob(job.out, job.wanted, job.scenes, job.spec, kept)
        summary = run(part, place, orders=how, progress=progress)
    if gone and not summary.stopped:
        drop(cube, gone, orders=orders)
    if "children" in kinds and not summary.stopped:
        _bring_along(cube, place, orders, progress, summary)
    return summary


def children_of(cube: Path) -> list[Path]:
    """Cubes beside a cube that were made from it, in an order in which they can follow it."""
    wanted, found = cube.resolve(), []
    for path in sorted(cube.resolve().parent.glob("*.zarr")):
        try:
            if follows(path) and Path(read_root(path).spec.request.get("layers", "")) == wanted:
                found.append(path)
        except CubeError:
            continue  # some other store
    # Those that need the clouds of another of them come after it.
    return sorted(found, key=lambda path: bool(read_root(path).spec.request.get("clouds")))


def has_scenes(cube: Path) -> bool:
    """Whether the steps of a cube are those of its parent, and not periods of time."""
    return read_root(cube).spec.stage != "composite"


def _children(cube: Path, keys: set[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for child in children_of(cube):
        status = cube_status(child)
        mine = _sealed(child)
        too_many = len(mine - keys) if has_scenes(child) else 0
        state = {"lacking": status.lacking, "stale": len(status.stale), "too many": too_many}
        if any(state.values()):
            found[str(child)] = state
        found |= _children(child, mine)
    return found


def _bring_along(cube: Path, place: Place, orders: Orders, progress: Progress | None, summary: Summary) -> None:
    keys = _sealed(cube)
    for child in children_of(cube):
        if has_scenes(child):
            drop(child, _sealed(child) - keys, orders=orders)
        done = follow(child, place, orders=orders, progress=progress)
        summary.failed |= {f"{child.name} {key}": reason for key, reason in done.failed.items()}
        summary.stopped |= done.stopped
        if not done.stopped:
            _bring_along(child, place, orders, progress, summary)


def _sealed(cube: Path) -> set[str]:
    rows = Ledger(cube, read_root(cube).ledger).entries(whole=False)
    return {key for key, row in rows.items() if row.status == SEALED}
