"""Make an archive: one search for all tiles, then tile after tile, within a budget."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import numpy as np

from stac2cube.archives.archive import (
    TileArchive,
    TileState,
    describe,
    is_archive,
    read_archive,
    with_tiles,
    write_door,
)
from stac2cube.archives.keep import FoundItems
from stac2cube.archives.tiling import ArchiveTile, MissionTiles, TilesTouched, tiles_for
from stac2cube.errors import BadInputError, CubeError, CubeLockedError, NothingFoundError
from stac2cube.executors.queue import memory_bytes
from stac2cube.model.catalog import Catalog
from stac2cube.model.mission import Mission
from stac2cube.model.query import Query, TilingWords
from stac2cube.search.choose_catalog import CatalogChoice, catalog_choices, find
from stac2cube.search.cubes import STAGE, area_of
from stac2cube.search.parsing import Notes
from stac2cube.search.search import SearchResult, matching_items, require_items
from stac2cube.store.ledger import FAILED, Ledger
from stac2cube.store.metadata import now_text, read_root

log = logging.getLogger(__name__)

ITEMS = "items.parquet"
"""File in the folder of a tile with the items of the last search."""

DOOR_EVERY = 600.0
"""Seconds after which a long run writes the entry point of the archive again."""


@dataclass(frozen=True)
class Budget:
    """Limits of a run; it stops between two tiles when one is reached. 0 is no limit.

    Attributes:
        jobs: Jobs of a submission.
        tiles: Tiles made.
        files: Files added.
        size: Bytes added.
        core_hours: Wall time of tiles times the number of blocks made at once, hours.
    """

    jobs: int = 0
    tiles: int = 0
    files: int = 0
    size: int = 0
    core_hours: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``"files=100000,bytes=1TiB,core-hours=50,tiles=20,jobs=8"``.

        Raises:
            BadInputError: A word is unknown, or a value is not a positive number.
        """
        found: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            word, equals, value = (one.strip() for one in part.partition("="))
            if not equals or word not in _BUDGET:
                raise BadInputError(f"budget {part!r}: write WORD=NUMBER, with {', '.join(_BUDGET)}")
            try:
                number = (
                    memory_bytes(value) if word == "bytes" else float(value) if word == "core-hours" else int(value)
                )
            except ValueError:
                raise BadInputError(f"budget {part!r}: {value!r} is no number") from None
            if not 0 < number < float("inf"):
                raise BadInputError(f"budget {part!r}: the number should be positive")
            found[_BUDGET[word]] = number
        return cls(**found)  # type: ignore[arg-type]

    def reached(self, done: Sequence[TileState]) -> str:
        """The limit that the finished tiles have reached, "" if none."""
        spent = {
            "tiles": (len(done), self.tiles),
            "files": (sum(one.new_files for one in done), self.files),
            "bytes": (sum(one.new_bytes for one in done), self.size),
            "core-hours": (sum(one.seconds * one.cores for one in done) / 3600, self.core_hours),
        }
        return next((f"{what}={limit:g}" for what, (used, limit) in spent.items() if limit and used >= limit), "")


_BUDGET = {"jobs": "jobs", "tiles": "tiles", "files": "files", "bytes": "size", "core-hours": "core_hours"}


@dataclass(frozen=True)
class ArchiveRequest:
    """Specification of an archive.

    Attributes:
        folder: Folder of the archive.
        tiling: Its tiling.
        query: The query of its layers over the whole area.
        resolution: Pixel edge of its tiles, units of their CRS.
        products: Names of the cubes of a tile.
        mark: Text of everything in the recipe that changes a tile.
        only: Names of the tiles to make; all if empty.
    """

    folder: Path
    tiling: TilingWords
    query: Query
    resolution: float
    products: tuple[str, ...]
    mark: str
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class TilePlan:
    """A tile with work to do.

    Attributes:
        tile: The tile.
        fingerprint: Digest of its items and the recipe.
        found: Number of items found.
        lacking: Number of items that are missing in its first cube.
        why: ``"new"``; ``"items"`` or ``"recipe"`` that changed; ``"failed"`` or ``"stopped"`` the last time;
            a ``"product"`` that is missing; a cube that was ``"changed"`` outside a run, rolled back for example.
        numbers: Numbers of its items in :attr:`ArchivePlan.items`; empty where they are stored already.
    """

    tile: ArchiveTile
    fingerprint: str
    found: int
    lacking: int
    why: str
    numbers: Sequence[int] = field(default=(), repr=False)


@dataclass(frozen=True)
class ArchivePlan:
    """The work of a run.

    Attributes:
        archive: The archive as it will be.
        catalog: The catalog that was searched.
        todo: Tiles to make, in order.
        done: Names of tiles without work to do.
        outside: Names of tiles of the archive that are not in the recipe.
        items: The items found; None where the items of tiles are stored already.
    """

    archive: TileArchive
    catalog: str
    todo: tuple[TilePlan, ...]
    done: tuple[str, ...]
    outside: tuple[str, ...] = ()
    items: FoundItems | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """The plan for the tasks of a job array, without items."""
        todo = [[one.tile.name, one.fingerprint, one.found, one.lacking, one.why] for one in self.todo]
        return json.dumps({"catalog": self.catalog, "todo": todo, "done": self.done, "outside": self.outside})

    @classmethod
    def from_json(cls, archive: TileArchive, text: str) -> ArchivePlan:
        """Read back what :meth:`to_json` wrote."""
        value = json.loads(text)
        todo = tuple(TilePlan(archive.tiles[name], *rest) for name, *rest in value["todo"])
        return cls(archive, value["catalog"], todo, tuple(value["done"]), tuple(value["outside"]))


def plan_archive(wanted: ArchiveRequest, *, on_cluster: bool = False) -> ArchivePlan:
    """Search once for all tiles, and determine which of them need work. Nothing is written.

    Args:
        wanted: Specification of the archive.
        on_cluster: Whether blocks will be made on the nodes of a cluster, for the choice of the catalog.

    Raises:
        BadInputError: An argument is invalid, no tile overlaps the area, or a tile exists on another lattice.
        NothingFoundError: The catalog has no scene over the area.
        CatalogError: The catalog cannot be read.
    """
    # Limits on scenes apply per tile: over a country, clouds over one tile mean nothing for another.
    query = replace(wanted.query, max_cloud_cover=None, strict=False)
    area, mission, choices = area_of(query), query.page, catalog_choices(query, on_cluster=on_cluster)
    if any(choice.together for choice in choices):
        raise BadInputError("an archive reads one catalog: give one name, or make an index of each")
    search = _TileSearch(mission)
    if wanted.tiling.tiling != "mgrs":
        tiles = tiles_for(wanted.tiling, area, wanted.resolution, mission.lattice)
        name = search.run(query, choices, tiles)
    else:
        name = search.run(query, choices, [])
        tiles = search.of_mission.over(area, wanted.resolution)
    if unknown := sorted(set(wanted.only) - {tile.name for tile in tiles}):
        raise BadInputError(f"no tile of the archive is called {', '.join(unknown)}")
    old = read_archive(wanted.folder) if is_archive(wanted.folder) else None
    archive = with_tiles(old, wanted.folder, tiles, wanted.products)
    plans = list(_planned(archive, tiles, search, wanted))
    todo = sorted((one for one in plans if one.why), key=lambda one: (-one.tile.priority, -one.lacking, one.tile.name))
    _require_same_bands(archive, todo, query)
    outside = tuple(sorted(set(archive.tiles) - {tile.name for tile in tiles}))
    done = tuple(one.tile.name for one in plans if not one.why)
    catalog = name if query.catalog == "auto" else query.catalog
    return ArchivePlan(archive, catalog, tuple(todo), done, outside, search.items)


class _TileSearch:
    """One search for all tiles. Items are assigned to their tiles as they arrive, and are not held in memory.

    Args:
        mission: The mission to search for.
    """

    def __init__(self, mission: Mission) -> None:
        self._begin(mission)

    def _begin(self, mission: Mission) -> None:
        self.items, self.of_mission = FoundItems(), MissionTiles(mission)
        self._numbers: dict[str, array[int]] = {}

    def run(self, query: Query, choices: Sequence[CatalogChoice], tiles: Sequence[ArchiveTile]) -> str:
        """Search the catalogs.

        Args:
            query: The query.
            choices: The catalogs to try, in order.
            tiles: Tiles to which items are assigned; empty for the mission's own tiles, which items name themselves.

        Returns:
            Name of the catalog that was searched.

        Raises:
            NothingFoundError: The catalog has no matching item.
            CatalogError: The catalog cannot be read.
        """
        touched = TilesTouched(tiles) if tiles else None

        def gather(query: Query, catalog: Catalog) -> SearchResult:
            self._begin(query.page)  # drops the items of a catalog that was tried before
            notes, numbers = self._gathered(query, catalog, tiles, touched)
            return SearchResult([self.items.item(number) for number in numbers], notes)

        if len(choices) > 1:  # scenes decide which of them is usable
            return find(query, choices, gather).choice.catalog.name
        catalog = choices[0].catalog
        notes, _ = self._gathered(query, catalog, tiles, touched)
        notes.say(catalog.name)
        if not self.items:
            why = notes.why_nothing() or "it has no item for these words"
            raise NothingFoundError(f"no scene of {query.mission}: not {catalog.name}: {why}")
        log.info("%s: %d items", catalog.name, len(self.items))
        return catalog.name

    def _gathered(
        self, query: Query, catalog: Catalog, tiles: Sequence[ArchiveTile], touched: TilesTouched | None
    ) -> tuple[Notes, list[int]]:
        """Add all items; returns notes on the search, and the numbers of the items at both ends."""
        notes, numbers = Notes(), array("L")
        for matched in matching_items(query, catalog, notes):
            number = self.items.add(matched, notes)
            if number is None:
                continue
            numbers.append(number)
            if touched is not None:
                names = [tiles[place].name for place in touched.by(matched.footprint)]
            else:
                names = [matched.identity.tile] if matched.identity else []
                self.of_mission.add(matched.item, *names or [""])
            for name in names:
                self._numbers.setdefault(name, array("L")).append(number)
        require_items(catalog, notes, found=bool(numbers))
        return notes, sorted({*numbers[:_ENDS], *numbers[-_ENDS:]})

    def of(self, tile: ArchiveTile) -> array[int]:
        """Numbers of the items of a tile: those that name it if it is the mission's own, else those that touch it."""
        return self.items.kept(self._numbers.get(tile.code or tile.name, ()))


_ENDS = 100
"""Number of items at both ends of a search that decide whether its catalog is usable."""


def _planned(
    archive: TileArchive, tiles: Sequence[ArchiveTile], search: _TileSearch, wanted: ArchiveRequest
) -> Iterator[TilePlan]:
    """Each requested tile; its reason is "" where there is nothing to do."""
    for tile in tiles:
        if wanted.only and tile.name not in wanted.only:
            continue
        mine = search.of(tile)
        digest = hashlib.sha256(wanted.mark.encode())
        digest.update("\n".join(sorted(search.items.marks(mine))).encode())
        fingerprint, state = digest.hexdigest()[:32], archive.state(tile)
        cubes = [archive.cube(tile, product) for product in wanted.products]
        absent = [cube for cube in cubes if not (cube / "zarr.json").exists()]
        why = ""
        if state.code == -1:
            why = "new"
        elif state.code != 0:
            why = "stopped" if state.code == 10 else "failed"
        elif state.fingerprint != fingerprint:
            why = "items" if state.items != len(mine) else "recipe"
        elif absent and state.steps:
            why = "product"
        elif _has_changed(archive, tile, state):
            why = "changed"
        lacking = _lacking(cubes[0], search.items.ids(mine)) if why else 0
        yield TilePlan(tile, fingerprint, len(mine), lacking, why, mine)


def _require_same_bands(archive: TileArchive, todo: Sequence[TilePlan], query: Query) -> None:
    """Refuse, before any tile is made, other bands than those of the cubes; the message lists the alternatives.

    Raises:
        BadInputError: The recipe requests other bands.
    """
    asked = {band.name: np.dtype(band.quantity.dtype).itemsize for band in query.chosen}
    for one in todo:
        for product in archive.products:
            try:
                spec = read_root(archive.cube(one.tile, product)).spec
            except CubeError:
                continue
            if spec.stage != STAGE:
                continue
            if (have := {layer.name for layer in spec.layers}) != set(asked):
                raise BadInputError(
                    f"{archive.folder}: the {product} of tile {one.tile.name} have the bands "
                    f"{', '.join(sorted(have))}, the recipe asks for {', '.join(sorted(asked))}. Cubes keep their "
                    f"bands, and nothing was changed. {_ways_to_other_bands(archive, product, have, asked)}"
                )
            return


def _ways_to_other_bands(archive: TileArchive, product: str, have: set[str], asked: Mapping[str, int]) -> str:
    """Ways to get other bands, as text for the user, with the most files and bytes that each needs.

    Args:
        archive: The archive.
        product: The product with the layers.
        have: Bands of its cubes.
        asked: Bytes per pixel of the bands in the recipe, by name.
    """
    steps, shards, pixels = 0, 0, 0
    for tile in archive.tiles.values():
        count = archive.state(tile).steps.get(product, 0)
        steps += count
        shards += count * sum(1 for _ in tile.grid.tiles())
        pixels += count * tile.shape[0] * tile.shape[1]

    def sizes(names: Iterable[str]) -> str:
        chosen = [asked[name] for name in names]
        return f"at most {len(chosen) * shards} files, {pixels * sum(chosen) / 2**30:.3g} GiB before compression"

    lines = [f"For the {steps} steps of its {len(archive.tiles)} tiles you can"]
    if new := sorted(set(asked) - have):
        lines.append(
            f"  keep it and make a second archive of {', '.join(new)} alone ({sizes(new)}): copy the recipe, set "
            f"cubes: {archive.folder.name}-2 and bands: [{', '.join(new)}], and leave entries out that need other bands"
        )
    lines.append(
        f"  make an archive with all bands of the recipe and remove the old one later ({sizes(asked)}): run the "
        f"recipe with --set cubes={archive.folder.name}-2"
    )
    lines.append(f"  go on as before: set bands: [{', '.join(sorted(have))}]")
    return "\n".join(lines)


def _has_changed(archive: TileArchive, tile: ArchiveTile, state: TileState) -> bool:
    """Whether cubes of a tile have other numbers of steps than after its last run."""
    try:
        return any(read_root(archive.cube(tile, product)).steps != steps for product, steps in state.steps.items())
    except CubeError:
        return True


def _lacking(cube: Path, ids: Sequence[str]) -> int:
    """Number of items that are not in the ledger of a cube."""
    try:
        rows = Ledger(cube, read_root(cube).ledger).entries(whole=False)
    except CubeError:
        return len(ids)
    known: set[str] = set()
    for row in rows.values():
        if row.status != FAILED:
            known |= {*row.items, *row.properties.get("superseded_items", ())}
    return sum(name not in known for name in ids)


def store_plan(plan: ArchivePlan, run: str) -> None:
    """Write the entry point of an archive and the items of the tiles to be made, which tasks on other nodes need.

    Args:
        plan: The plan.
        run: Name of the run, for messages.
    """
    log.info("run %s: %d tiles to make, %d done", run, len(plan.todo), len(plan.done))
    for one in plan.todo:
        _store_items(plan, one)
    refresh_door(plan.archive)


def _store_items(plan: ArchivePlan, one: TilePlan) -> None:
    if plan.items is not None:
        plan.items.write(plan.archive.tile_folder(one.tile) / ITEMS, one.numbers)


def query_of_tile(plan: ArchivePlan, one: TilePlan, query: Query) -> Query:
    """The query of one tile: over its area and restricted to its items.

    Args:
        plan: The plan.
        one: The tile.
        query: The query over the whole area.
    """
    items = plan.archive.tile_folder(one.tile) / ITEMS
    return replace(query, area=one.tile.area, tile=one.tile.code, catalog=plan.catalog, items=items)


@dataclass
class ArchiveSummary:
    """Outcome of a run.

    Attributes:
        made: Names of tiles that are complete now.
        failed: Reasons by name of tiles that are not complete.
        held: Messages about the lock by name of tiles that another process is making.
        left: Names of tiles that were not begun.
        limit: The limit of the budget that was reached, "" for none.
        stopped: Whether it was asked to stop, or neared the end of its job.
        new_steps: Number of steps added to tiles, including tiles that are not complete.
        shared: Whether it is a task of a submission: another task then makes and reports a tile that is held.
        progressed: Whether this process came further: it completed a tile, added a step, or tried a tile that had not
            failed in the same run before. Otherwise running it again would not help.
    """

    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    limit: str = ""
    stopped: bool = False
    new_steps: int = 0
    shared: bool = False
    progressed: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 2 some tiles failed or are held by another run, 10 stopped before the end."""
        lacking = self.failed or (self.held and not self.shared)
        return 10 if self.stopped or self.limit else 2 if lacking else 0


Maker = Callable[[TilePlan], int]
"""Makes all products of a tile; returns the exit code of the equivalent commands."""


@dataclass(frozen=True)
class RunLimits:
    """Conditions under which a run ends before its last tile.

    Attributes:
        budget: Limits of the run.
        stop: Set to ask the run to stop.
        deadline: End of its job, seconds since 1970; None for no end.
        cores: Number of blocks that are made at the same time.
    """

    budget: Budget = field(default_factory=Budget)
    stop: threading.Event = field(default_factory=threading.Event)
    deadline: float | None = None
    cores: int = 1

    def ends(self) -> bool:
        """Whether no further tile is begun."""
        late = self.deadline is not None and time.time() + MARGIN > self.deadline
        return self.stop.is_set() or late


_ANEW = ("product", "changed")
"""Reasons for work that the state of a tile does not show."""

MARGIN = 60.0
"""Seconds before the end of a job in which no tile is begun; a build itself stops before the end of its job."""


def run_archive(plan: ArchivePlan, make: Maker, limits: RunLimits, run: str) -> ArchiveSummary:
    """Make the tiles of a plan, one after the other. An error in one tile never stops the others.

    Several processes may run the same plan at once: each tile is made by the process that holds its lock. If a job is
    requeued, tiles that failed before in the same run come last, so that they do not keep it from the others.

    Args:
        plan: The plan.
        make: Makes a tile.
        limits: Conditions under which to stop.
        run: Name of the run, common to all processes that share a budget.
    """
    archive, summary = plan.archive, ArchiveSummary()
    written = time.monotonic()
    failed = {one.tile.name for one in plan.todo if _has_failed(archive.state(one.tile), run)}
    todo = sorted(plan.todo, key=lambda one: one.tile.name in failed)  # otherwise in the order of the plan
    for place, one in enumerate(todo):
        limit = limits.budget.reached(_states_of(archive, plan, run)) if limits.budget != Budget() else ""
        if limit or summary.stopped or limits.ends():
            summary.limit, summary.stopped = limit, not limit
            summary.left = [other.tile.name for other in todo[place:]]
            break
        try:
            with archive.lock(one.tile):
                state = archive.state(one.tile)
                if state.code != 0 or state.fingerprint != one.fingerprint or one.why in _ANEW:
                    state = _made(plan, one, make, limits.cores, run)
                    summary.new_steps += state.new_steps
                    further = state.code == 0 or (state.code != 10 and one.tile.name not in failed)
                    summary.progressed |= further or state.new_steps > 0
        except CubeLockedError as error:
            summary.held[one.tile.name] = str(error)
            log.info("tile %s is passed over: somebody else is making it", one.tile.name)
            continue
        if state.code == 0:
            summary.made.append(one.tile.name)
        elif state.code == 10:
            summary.stopped = True
        else:
            summary.failed[one.tile.name] = state.reason
            log.warning("tile %s is not complete: %s", one.tile.name, state.reason)
        if time.monotonic() - written > DOOR_EVERY:
            refresh_door(archive)
            written = time.monotonic()
    refresh_door(archive)
    return summary


def _has_failed(state: TileState, run: str) -> bool:
    """Whether a tile failed in a run."""
    return state.run == run and state.code not in (-1, 0, 10)


def _states_of(archive: TileArchive, plan: ArchivePlan, run: str) -> list[TileState]:
    """States of the tiles of a plan that a run has written."""
    return [state for one in plan.todo if (state := archive.state(one.tile)).run == run]


def _made(plan: ArchivePlan, one: TilePlan, make: Maker, cores: int, run: str) -> TileState:
    """Make a tile, and store its state; the caller holds its lock."""
    archive = plan.archive
    before, begun = archive.state(one.tile), time.monotonic()
    files, size = usage(archive.tile_folder(one.tile))
    reason = ""
    try:
        _store_items(plan, one)
        code = make(one)
    except NothingFoundError as error:
        code, reason = 0, f"no scene: {error}"
    except CubeLockedError as error:
        code, reason = 2, str(error)
    except Exception as error:  # the other tiles are made all the same; the state of this one has the reason
        code, reason = 1, f"{type(error).__name__}: {error}" if not str(error) else str(error)
        log.debug("tile %s", one.tile.name, exc_info=True)
    steps, failures = steps_and_failures(archive, one.tile)
    if code and not reason:
        reason = (
            next(iter(failures), "") or "stopped before the end" if code == 10 else next(iter(failures), "see the log")
        )
    now_files, now_size = usage(archive.tile_folder(one.tile))
    state = TileState(
        code=code,
        reason=reason,
        fingerprint=one.fingerprint,
        items=one.found,
        steps=steps,
        failures=failures,
        files=now_files,
        size=now_size,
        seconds=time.monotonic() - begun,
        cores=cores,
        run=run,
        updated=now_text(),
        new_files=max(now_files - files, 0),
        new_bytes=max(now_size - size, 0),
        new_steps=max(sum(steps.values()) - sum(before.steps.values()), 0),
    )
    describe(archive, one.tile)
    archive.write_state(one.tile, state)
    return state


def steps_and_failures(archive: TileArchive, tile: ArchiveTile) -> tuple[dict[str, int], dict[str, int]]:
    """Number of steps by product, and of failed steps by reason, in the present cubes of a tile."""
    steps: dict[str, int] = {}
    failures: Counter[str] = Counter()
    for product in archive.products:
        cube = archive.cube(tile, product)
        if not (cube / "zarr.json").exists():
            continue
        try:
            root = read_root(cube)
            rows = Ledger(cube, root.ledger).entries(whole=False)
        except CubeError as error:
            failures[str(error)] += 1
            continue
        steps[product] = root.steps
        failures.update(row.reason for row in rows.values() if row.status == FAILED)
    return steps, dict(failures)


def usage(folder: Path) -> tuple[int, int]:
    """Number of files in a folder and its subfolders, and their bytes; links are not followed."""
    files = size = 0
    waiting = [folder]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue  # moved by a commit meanwhile, or not made yet
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                try:
                    size += entry.stat(follow_symlinks=False).st_size
                    files += 1
                except FileNotFoundError:
                    continue
    return files, size


def refresh_door(archive: TileArchive) -> None:
    """Write the entry point of an archive from the present state of its tiles; not while another process holds it."""
    for _ in range(20):
        try:
            with archive.lock():
                # Tiles that another run has added meanwhile are kept.
                now = read_archive(archive.folder) if is_archive(archive.folder) else None
                write_door(with_tiles(now, archive.folder, list(archive.tiles.values()), archive.products))
                return
        except CubeLockedError as error:
            held = error
        time.sleep(0.5)
    log.warning("the entry point of the archive was not updated: %s", held)


def run_name() -> str:
    """A unique name for a run."""
    return f"{now_text()}-{uuid4().hex[:8]}"


def counts_by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by reason, the most frequent reason first."""
    found: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        found.setdefault(reason, []).append(name)
    return dict(sorted(found.items(), key=lambda one: (-len(one[1]), one[0])))
