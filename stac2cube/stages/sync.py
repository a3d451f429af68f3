"""A cube and its catalog, compared over the whole time it covers, and brought together again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stac2cube.cube.folders import require_renamable
from stac2cube.cube.ledger import FAILED, SEALED, Entry, Ledger
from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError, NothingFoundError
from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.source.inventory import Inventory, read_inventory
from stac2cube.stages.dropping import drop
from stac2cube.stages.kin import STAGES, Kin, bring_along, children_behind
from stac2cube.stages.layers import LayersJob, make_request, prepare, run
from stac2cube.stages.request import understand
from stac2cube.stages.whereabouts import Whereabouts
from stac2cube.work import Orders, Summary, baseline

KINDS = ("new", "late", "failed", "superseded", "reduced", "withdrawn", "children")
"""What can be brought together, by name."""

_BUILT = ("new", "late", "failed", "superseded", "reduced")
"""Those of them that are built."""

MOST_WITHDRAWN = 0.2
"""Part of a cube's steps that may go at once: a catalog that lost more is more likely ill than right."""


@dataclass(frozen=True)
class Sync:
    """How a cube stands to its catalog, by keys of scenes.

    Attributes:
        new: In the catalog, later than all that is sealed.
        late: In the catalog, earlier than the last that is sealed.
        failed: That failed when they were last tried.
        superseded: Sealed from older, other or fewer items than there are now.
        reduced: Sealed from items of which some were withdrawn, while others of the scene are still there.
        withdrawn: Sealed, and not in the catalog any more.
        children: Cubes made from this one, and from those, that lack steps, hold stale ones, or some too many.
        awaited: Status by item id of what the inventory knows and the archive has not yet: nothing to do but wait.
    """

    new: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()
    reduced: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    children: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    awaited: Mapping[str, str] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        """Whether all is in step."""
        return not any(getattr(self, kind) for kind in KINDS)

    def only(self, kinds: Collection[str]) -> Sync:
        """What of it is of some of :data:`KINDS`.

        Raises:
            BadInputError: Not a kind.
        """
        _require_known(kinds)
        left_out: dict[str, Any] = {kind: {} if kind == "children" else () for kind in KINDS if kind not in kinds}
        return replace(self, **left_out)


def look(
    cube: Path, *, on_cluster: bool = False, inventory: Path | None = None, kin: Sequence[Kin] = STAGES
) -> tuple[Sync, LayersJob | None]:
    """Compare a layers cube with its catalog; nothing is changed.

    An item counts as withdrawn when the catalog it came from, asked for the item itself, says that it does not have it
    any more, or calls it deprecated; or when the inventory says that it was removed. That a search does not find it is
    not enough. A step whose items were replaced by others of the same tile and time is superseded, not withdrawn.

    Args:
        cube: The cube.
        on_cluster: Whether blocks will be made on the nodes of a cluster.
        inventory: Of the catalog's archive, see :mod:`stac2cube.source.inventory`.
        kin: Kinds of cubes that are made from others.

    Returns:
        How they differ; and what would build it, None where the catalog has no scene at all.

    Raises:
        CubeError: Not a cube.
        BadInputError: Not one of layers.
        CatalogError: The catalog or the inventory cannot be read.
    """
    rows = Ledger(cube, read_root(cube).ledger).entries(whole=False)
    sealed = {key: row for key, row in rows.items() if row.status == SEALED}
    last = max((row.time for row in sealed.values()), default=None)
    request, told = make_request({}, cube), Inventory(frozenset(), {})
    if inventory is not None:
        told = read_inventory(inventory, understand(request).query)
        request = replace(request, without=told.withdrawn)
    have = {item for row in sealed.values() for item in row.items}
    awaited = {item: status for item, status in told.awaited.items() if item not in have}
    try:
        job = prepare(cube, request, on_cluster=on_cluster)
    except NothingFoundError:
        nobody = Whereabouts(cube, told.withdrawn, understand(request, on_cluster=on_cluster), None)
        lost = tuple(key for key, row in sealed.items() if nobody.all_gone(row))
        return Sync(withdrawn=lost, children=children_behind(cube, kin), awaited=awaited), None
    plan = job.plan()
    todo = {step.entry.key: step.entry for step in plan.todo}
    failed = [key for key in todo if key in rows and rows[key].status == FAILED]
    fresh = [entry for key, entry in todo.items() if key not in failed]
    there = {step.entry.key: step.entry for step in job.steps}
    late = [entry.key for entry in fresh if last is not None and entry.time < last]
    asked = Whereabouts(cube, told.withdrawn, job.wanted, job.found)
    lost = tuple(key for key, row in sealed.items() if key not in there and asked.all_gone(row))
    less = [key for key in plan.present if key in sealed and _reduced(sealed[key], there[key])]
    found = Sync(
        new=tuple(entry.key for entry in fresh if entry.key not in late),
        late=tuple(late),
        failed=tuple(failed),
        superseded=tuple(step.entry.key for _, step in plan.superseded),
        reduced=tuple(key for key in less if asked.are_gone(sealed[key], _missing(sealed[key], there[key]))),
        withdrawn=lost,
        children=children_behind(cube, kin),
        awaited=awaited,
    )
    return found, job


def _reduced(row: Entry, now: Entry) -> bool:
    """Whether a step was made from items of which the same catalog now shows others, older ones, or fewer."""
    same = row.properties.get("catalog") == now.properties.get("catalog")
    other = any(now.parts.get(part) != baseline(version) for part, version in row.parts.items())
    return same and (other or bool(_missing(row, now)))


def _missing(row: Entry, now: Entry) -> set[str]:
    return set(row.items) - set(now.items)


def sync(
    cube: Path,
    place: Place,
    *,
    kinds: Collection[str] = KINDS,
    even_many: bool = False,
    inventory: Path | None = None,
    orders: Orders | None = None,
    progress: Progress | None = None,
    kin: Sequence[Kin] = STAGES,
) -> Summary:
    """Bring a cube and its catalog together again, and what was made from the cube with it.

    Args:
        cube: A layers cube.
        place: Where the work runs.
        kinds: Of :data:`KINDS`, what is done.
        even_many: Take steps out, or make them anew from less, however many items were withdrawn.
        inventory: Of the catalog's archive.
        orders: How.
        progress: Told of every block.
        kin: Kinds of cubes that are made from others.

    Raises:
        BadInputError: Not a kind, not a layers cube, or so much was withdrawn that it cannot be right.
        CatalogError: The catalog cannot be read.
    """
    _require_known(kinds)
    orders = orders or Orders()
    found, job = look(cube, on_cluster=place.on_cluster, inventory=inventory, kin=kin)
    gone = found.withdrawn if "withdrawn" in kinds else ()
    less = found.reduced if "reduced" in kinds else ()
    steps = read_root(cube).steps
    if len(gone) + len(less) > MOST_WITHDRAWN * steps and not even_many:
        raise BadInputError(
            f"{len(gone)} of the {steps} steps of {cube} are not in the catalog any more, and items of {len(less)} "
            "others: if that is right, say even many"
        )
    if gone or less or ("superseded" in kinds and found.superseded):
        require_renamable(cube, "taking steps out or replacing them")
    summary = Summary()
    if job is not None:
        wanted = {key for kind in _BUILT if kind in kinds for key in getattr(found, kind)}
        open_ones = {key for kind in _BUILT for key in getattr(found, kind)}
        kept = tuple(step for step in job.steps if step.entry.key in wanted or step.entry.key not in open_ones)
        how = replace(orders, superseded="replace", again=frozenset(less))
        summary = run(replace(job, steps=kept), place, orders=how, progress=progress)
    if gone and not summary.stopped:
        drop(cube, gone, orders=orders)
    if "children" in kinds and not summary.stopped:
        bring_along(cube, place, orders, progress, summary, kin)
    return summary


def _require_known(kinds: Collection[str]) -> None:
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise BadInputError(f"sync does {', '.join(KINDS)}, not {', '.join(sorted(unknown))}")
