"""Compare a cube with its catalogs, and bring it up to date."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stac2cube.build.derived import drop
from stac2cube.build.plan import BuildOptions, Summary, baseline, versions_like
from stac2cube.errors import BadInputError, NothingFoundError
from stac2cube.executors.base import Place
from stac2cube.maintain.update import STAGES, DerivedKind, outdated_children, update_children
from stac2cube.model.catalog import Catalog
from stac2cube.progress import Progress
from stac2cube.search.choose_catalog import CatalogChoice, Found, catalog_choices
from stac2cube.search.clients import is_gone
from stac2cube.search.parsing import Notes
from stac2cube.search.search import Inventory, read_inventory
from stac2cube.stages.layers import LayersJob, prepare, query_of_words, run
from stac2cube.store.files import require_renamable
from stac2cube.store.ledger import FAILED, SEALED, Entry, Ledger
from stac2cube.store.metadata import read_root

# Whether items that a search did not find are withdrawn: their catalog is queried for each of them.
#
# A search may be incomplete: servers time out, page wrongly, hide items for an hour, or change a property that the
# search uses. Steps are removed from cubes only for items that their own catalog reports as gone, by 404 or 410 (RFC
# 9110, 15.5.5 and 15.5.11), or as deprecated.

log = logging.getLogger(__name__)

_AT_ONCE = 8
"""Number of items for which a catalog is queried at the same time."""


@dataclass
class ItemStates:
    """Determines whether items were withdrawn.

    Attributes:
        cube: The cube that was made from them.
        withdrawn: Ids of items that were withdrawn according to an inventory.
        choices: The catalogs to be searched, in order.
        found: Result of the search, None if it found nothing.
        elsewhere: Ids of items of the steps that the cube should have now. An item that is missing in its old step
            moved to another one, for example because the catalog corrected its time.
    """

    cube: Path
    withdrawn: Collection[str]
    choices: Sequence[CatalogChoice]
    found: Found | None
    elsewhere: Collection[str] = frozenset()
    _asked: dict[tuple[str, str], bool] = field(default_factory=dict)
    _serves: dict[str, bool] = field(default_factory=dict)

    def all_gone(self, row: Entry) -> bool:
        """Whether all items of a step are certainly withdrawn."""
        return self.are_gone(row, row.items)

    def are_gone(self, row: Entry, items: Collection[str]) -> bool:
        """Whether the given items of a step are certainly withdrawn."""
        names = [name for name in items if name not in self.withdrawn and name not in self.elsewhere]
        if not names:
            return True
        catalogs = [catalog for name in self._names(row) for catalog in self._catalogs() if catalog.name == name]
        if len({catalog.name for catalog in catalogs}) < len(self._names(row)):
            return False  # unknown for a catalog that was not searched
        if any(self._is_met(name) for name in names):
            log.warning("%s: the catalog has its items, but not as a scene for these words: it is kept", row.key)
            return False
        remote = [catalog for catalog in catalogs if not catalog.is_local]
        if not remote:
            return not any(note.incomplete for note in self._notes())
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="items") as pool:
            answers = list(pool.map(lambda one: self._is_gone(remote, *one), self._collections(row, names)))
        if not all(answers):
            log.warning("%s: its catalog did not confirm that all its items were withdrawn: it is kept", row.key)
        return all(answers)

    def _names(self, row: Entry) -> set[str]:
        return set(str(row.properties.get("catalog", "")).split(",")) if self._is_several(row) else {_whole(row)}

    def _is_several(self, row: Entry) -> bool:
        return _whole(row) not in {catalog.name for catalog in self._catalogs()}

    def _catalogs(self) -> list[Catalog]:
        """Catalogs that could have listed an item; items missing in other catalogs were not withdrawn."""
        together = [choice.catalog for choice in self.choices if choice.together]
        if together:
            return together
        whole = [choice for choice in self.choices if not choice.last_resort]
        return [self.found.choice.catalog if self.found else whole[-1].catalog]

    def _notes(self) -> tuple[Notes, ...]:
        return self.found.notes if self.found else ()

    def _is_met(self, name: str) -> bool:
        """Whether the search met an item, without the catalog marking it as deprecated."""
        notes = self._notes()
        met = any(name in note.met or name in note.left_out for note in notes)
        return met and not any(name in note.deprecated for note in notes)

    def _is_gone(self, catalogs: Collection[Catalog], collection: str, name: str) -> bool:
        if any(name in note.deprecated for note in self._notes()):
            return True
        if (collection, name) not in self._asked:
            gone = (is_gone(one.url, collection, name, one.login) is True and self._has_items(one) for one in catalogs)
            self._asked[collection, name] = all(gone)
        return self._asked[collection, name]

    def _has_items(self, catalog: Catalog) -> bool:
        """Whether a catalog answers queries for items: it must not call an item gone that the search just found."""
        if catalog.url not in self._serves:
            granules = [one for scene in (self.found.scenes if self.found else ()) for one in scene.granules]
            there = next((one for one in granules if one.catalog == catalog.name), None)
            self._serves[catalog.url] = (
                there is None or is_gone(catalog.url, there.collection, there.id, catalog.login) is False
            )
        return self._serves[catalog.url]

    def _collections(self, row: Entry, names: Collection[str]) -> list[tuple[str, str]]:
        """Collection and id of items, from the items stored in the ledger."""
        whole = Ledger(self.cube, read_root(self.cube).ledger).entries(keys=[row.key])[row.key]
        items = [json.loads(text) for text in whole.sources]
        known = {str(item["id"]): str(item.get("collection") or "") for item in items}
        return [(known.get(name, ""), name) for name in names]


def _whole(row: Entry) -> str:
    return str(row.properties.get("catalog", ""))


# Comparison of a cube with its catalog over the whole time it covers, and synchronisation of the two.

KINDS = ("new", "late", "failed", "superseded", "reduced", "withdrawn", "children")
"""Kinds of differences that can be removed, by name."""

_BUILT = ("new", "late", "failed", "superseded", "reduced")
"""Kinds that require a build."""

MOST_WITHDRAWN = 0.2
"""Largest part of a cube's steps that is removed at once: a catalog that lost more is probably at fault."""


@dataclass(frozen=True)
class Sync:
    """Differences between a cube and its catalog, by keys of scenes.

    Attributes:
        new: In the catalog, later than all sealed steps.
        late: In the catalog, earlier than the last sealed step.
        failed: Failed at the last attempt.
        superseded: Sealed from older, other or fewer items than there are now.
        reduced: Sealed from items of which some were withdrawn, while others of the scene still exist.
        withdrawn: Sealed, and no longer in the catalog.
        children: Cubes derived from this one, and from those, with missing, stale or surplus steps.
        awaited: Status by id of items that are in the inventory and not yet in the archive: they need no action.
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
        """Whether there is no difference."""
        return not any(getattr(self, kind) for kind in KINDS)

    def only(self, kinds: Collection[str]) -> Sync:
        """The differences of some of :data:`KINDS`.

        Raises:
            BadInputError: A kind is unknown.
        """
        _require_known(kinds)
        left_out: dict[str, Any] = {kind: {} if kind == "children" else () for kind in KINDS if kind not in kinds}
        return replace(self, **left_out)


def compare_with_catalog(
    cube: Path, *, on_cluster: bool = False, inventory: Path | None = None, derived: Sequence[DerivedKind] = STAGES
) -> tuple[Sync, LayersJob | None]:
    """Compare a layers cube with its catalog; nothing is changed.

    An item counts as withdrawn when the catalog from which it came, queried for the item itself, reports it as gone or
    deprecated; or when the inventory lists it as removed. It is not enough that a search does not find it. A step whose
    items were replaced by others of the same tile and time is superseded, not withdrawn. An item that the catalog now
    has at another time is withdrawn from its old step, and makes a new one.

    Args:
        cube: The cube.
        on_cluster: Whether blocks will be made on the nodes of a cluster.
        inventory: Inventory of the catalog's archive, see :mod:`stac2cube.search.search`.
        derived: Kinds of derived cubes.

    Returns:
        The differences; and the job that would build the cube, None if the catalog has no scene at all.

    Raises:
        CubeError: Not a cube.
        BadInputError: Not a cube of layers.
        CatalogError: The catalog or the inventory cannot be read.
    """
    rows = Ledger(cube, read_root(cube).ledger).entries(whole=False)
    sealed = {key: row for key, row in rows.items() if row.status == SEALED}
    last = max((row.time for row in sealed.values()), default=None)
    (query, options), told = query_of_words({}, cube), Inventory(frozenset(), {})
    if inventory is not None:
        told = read_inventory(inventory, query)
        query = replace(query, without=told.withdrawn)
    have = {item for row in sealed.values() for item in row.items}
    awaited = {item: status for item, status in told.awaited.items() if item not in have}
    try:
        job = prepare(cube, query, options, on_cluster=on_cluster)
    except NothingFoundError:
        nobody = ItemStates(cube, told.withdrawn, catalog_choices(query, on_cluster=on_cluster), None)
        lost = tuple(key for key, row in sealed.items() if nobody.all_gone(row))
        return Sync(withdrawn=lost, children=outdated_children(cube, derived), awaited=awaited), None
    plan = job.plan()
    todo = {step.entry.key: step.entry for step in plan.todo}
    failed = [key for key in todo if key in rows and rows[key].status == FAILED]
    fresh = [entry for key, entry in todo.items() if key not in failed]
    there = {step.entry.key: step.entry for step in job.steps}
    late = [entry.key for entry in fresh if last is not None and entry.time < last]
    elsewhere = {item for entry in there.values() for item in entry.items}
    asked = ItemStates(cube, told.withdrawn, job.choices, job.found, elsewhere)
    lost = tuple(key for key, row in sealed.items() if key not in there and asked.all_gone(row))
    less = [key for key in plan.present if key in sealed and _reduced(sealed[key], there[key])]
    found = Sync(
        new=tuple(entry.key for entry in fresh if entry.key not in late),
        late=tuple(late),
        failed=tuple(failed),
        superseded=tuple(step.entry.key for _, step in plan.superseded),
        reduced=tuple(key for key in less if asked.are_gone(sealed[key], _missing(sealed[key], there[key]))),
        withdrawn=lost,
        children=outdated_children(cube, derived),
        awaited=awaited,
    )
    return found, job


def _reduced(row: Entry, now: Entry) -> bool:
    """Whether the same catalog now shows other items for a step, older ones, or fewer."""
    same = row.properties.get("catalog") == now.properties.get("catalog")
    other = any(baseline(version) not in versions_like(part, now.parts) for part, version in row.parts.items())
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
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    derived: Sequence[DerivedKind] = STAGES,
) -> Summary:
    """Synchronise a cube with its catalog, and derived cubes with the cube.

    Args:
        cube: A layers cube.
        place: Place where blocks are made.
        kinds: Which of :data:`KINDS` are synchronised.
        even_many: Remove steps, or rebuild them from fewer items, however many items were withdrawn.
        inventory: Inventory of the catalog's archive.
        options: Options of the build.
        progress: Receives every finished block.
        derived: Kinds of derived cubes.

    Raises:
        BadInputError: A kind is unknown, the cube is not of layers, or so much was withdrawn that the catalog is
            probably at fault.
        CatalogError: The catalog cannot be read.
    """
    _require_known(kinds)
    options = options or BuildOptions()
    found, job = compare_with_catalog(cube, on_cluster=place.on_cluster, inventory=inventory, derived=derived)
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
        how = replace(options, superseded="replace", again=frozenset(less))
        summary = run(replace(job, steps=kept), place, options=how, progress=progress)
    if gone and not summary.stopped:
        drop(cube, gone, options=options)
    if "children" in kinds and not summary.stopped:
        update_children(cube, place, options, progress, summary, derived)
    return summary


def _require_known(kinds: Collection[str]) -> None:
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise BadInputError(f"sync does {', '.join(KINDS)}, not {', '.join(sorted(unknown))}")
