"""The words of a build: what a block, a step, a plan and a summary are."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stac2cube.errors import IncompleteError
from stac2cube.executors.queue import job_is_alive
from stac2cube.executors.site import Limits
from stac2cube.model.grid import Grid, Tile
from stac2cube.model.scene import standing, version_of
from stac2cube.store.ledger import EMPTY, FAILED, SEALED, Entry, Ledger
from stac2cube.store.lock import Verdict
from stac2cube.store.metadata import Root, read_root

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True, slots=True)
class Block:
    """One unit of work: one tile of the grid at one time step."""

    grid: Grid
    tile: Tile

    @property
    def geobox(self) -> GeoBox:
        """The lattice of the block's pixels."""
        return self.grid.tile_geobox(self.tile)


class Measured(dict[str, np.ndarray]):
    """Pixels of a block, with what was measured on the way.

    Args:
        layers: Per layer ``(rows, columns)`` pixels in stored form.
        means: Name -> sum and weight. Of all blocks of a step together, sum / weight becomes a property of the step.
        facts: Properties of the step as they are, plain JSON values: for stages whose steps have one block.
    """

    def __init__(
        self,
        layers: Mapping[str, np.ndarray],
        means: Mapping[str, tuple[float, float]] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(layers)
        self.means = dict(means or {})
        self.facts = dict(facts or {})


Task = Callable[[Any, Block], Mapping[str, np.ndarray]]
"""What a stage does: a step's payload and a block to ``(rows, columns)`` pixels per layer in stored form. It is pure,
it pickles, and it runs on a worker. What it gives may be :class:`Measured`."""


@dataclass(frozen=True)
class Step:
    """A time step to be made.

    Attributes:
        entry: What the ledger shall say of it.
        payload: What the task needs to know; small, travels to the workers.
        tiles: Blocks that can hold data; the others are fill without asking.
    """

    entry: Entry
    payload: Any = field(repr=False)
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Plan:
    """The difference between what is wanted and what the ledger has.

    Attributes:
        todo: Steps to make.
        present: Keys of steps that are sealed (or known to be empty) as wanted.
        superseded: Steps that are sealed from older or fewer parts than wanted, with the slot they hold.
    """

    todo: tuple[Step, ...]
    present: tuple[str, ...]
    superseded: tuple[tuple[int, Step], ...]

    @property
    def blocks(self) -> int:
        """Blocks to make."""
        return sum(len(step.tiles) for step in self.todo)


@dataclass
class Summary:
    """What a build did.

    Attributes:
        sealed: Keys of the steps sealed, in the order of sealing.
        present: Keys that were there already.
        empty: Key of each scene that takes no step, and why: it has no valid pixel, or the recipe leaves it out.
        failed: Key and reason of each failed step; the next run tries it again.
        superseded: Keys of sealed steps for which newer or more items exist.
        replaced: Keys of sealed steps that were made anew.
        substituted: Key of each step made in which an older item stands in for a newer one, and why.
        stopped: Whether the build was asked to stop before it was through.
        seconds: Wall time.
    """

    sealed: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    empty: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    superseded: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    substituted: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    seconds: float = 0.0

    def require_complete(self, out: Path | str) -> None:
        """Be sure that no step failed.

        Raises:
            IncompleteError: Naming those that did, with their reasons; the others are sealed.
        """
        if self.failed:
            reasons = "; ".join(self.failures())
            raise IncompleteError(f"{len(self.failed)} step(s) of {out} failed, run again to try them: {reasons}")

    def failures(self) -> Iterator[str]:
        """What failed and why, a line for all steps that failed alike."""
        for reason in dict.fromkeys(self.failed.values()):
            keys = [key for key, why in self.failed.items() if why == reason]
            yield f"{keys[0]}: {reason}" if len(keys) == 1 else f"{len(keys)} steps: {reason}: {', '.join(keys)}"

    @property
    def exit_code(self) -> int:
        """0 done, 2 some steps failed, 10 stopped in time: after 2 and 10 the same command goes on."""
        return 10 if self.stopped else 2 if self.failed else 0


@dataclass(frozen=True)
class BuildOptions:
    """How a build behaves.

    Attributes:
        superseded: Report sealed steps for which newer items exist, or replace them by a new generation.
        stop: Set from outside (a signal) to drop the blocks at hand, seal what is finished and return.
        deadline: When this process will be killed, seconds since 1970: blocks that cannot be finished before are not
            begun. None for never.
        verdict: See :class:`stac2cube.store.lock.CubeLock`.
        again: Keys of sealed steps that are made anew although nothing newer exists, because they are damaged, or made
            from items that are gone.
        limits: What the cube may grow to; None for what the place's site allows.
    """

    superseded: Literal["report", "replace"] = "report"
    stop: threading.Event = field(default_factory=threading.Event)
    deadline: float | None = None
    verdict: Verdict | None = job_is_alive
    again: frozenset[str] = frozenset()
    limits: Limits | None = None


def plan(steps: Sequence[Step], known: Mapping[str, Entry], again: Collection[str] = ()) -> Plan:
    """Sort wanted steps into to do, present and superseded.

    Args:
        steps: All steps wanted over the whole range asked for.
        known: The ledger's rows by key; empty for a new cube.
        again: See :class:`BuildOptions`.
    """
    todo, present, superseded = [], [], []
    for step in sorted(steps, key=lambda step: (step.entry.time, step.entry.key)):
        row = known.get(step.entry.key)
        if row is None or row.status == FAILED:
            todo.append(step)
        elif step.entry.key not in again and not is_behind(row, step.entry):
            present.append(step.entry.key)
        elif row.status == EMPTY:
            todo.append(step)
        else:
            entry = replace(step.entry, parts=renewed(row, step.entry))
            superseded.append((int(row.slot or 0), replace(step, entry=entry)))
    return Plan(tuple(todo), tuple(present), tuple(superseded))


def known_entries(path: Path, steps: Sequence[Step], root: Root | None = None) -> dict[str, Entry]:
    """The lean ledger rows of some steps in a cube that may not exist yet.

    Rows of version 0.1.0 do not tell the versions of their items; those are taken from the items that they keep.

    Args:
        path: The cube.
        steps: Whose rows are wanted.
        root: Of the cube, where it was read before.

    Raises:
        CubeError: The path holds something that is not a cube.
    """
    if root is None and not path.exists():
        return {}
    ledger = Ledger(path, (root or read_root(path)).ledger)
    rows = ledger.entries(whole=False, keys=[step.entry.key for step in steps])
    if not any(VERSIONS in step.entry.properties for step in steps):
        return rows
    old = tuple(key for key, row in rows.items() if row.status == SEALED and VERSIONS not in row.properties)
    told = _versions_of_old(ledger.folder, ledger.parts, old) if old else {}
    return {
        key: replace(row, properties={**row.properties, VERSIONS: told[key]}) if key in told else row
        for key, row in rows.items()
    }


@lru_cache(maxsize=4)
def _versions_of_old(folder: Path, parts: tuple[str, ...], keys: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    rows = Ledger(folder.parents[1], parts).entries(keys=keys)
    found = {}
    for key, row in rows.items():
        items = [json.loads(text) for text in row.sources]
        found[key] = {str(item["id"]): version_of(item, ()) for item in items}
    return found


PARENT = "parent "
"""Before the names of parts that were taken from a cube."""

VERSIONS = "versions"
"""Property of a step: by item id, what tells whether its files are still the same."""


def outdated(have: Mapping[str, str], want: Mapping[str, str]) -> bool:
    """Whether a wanted part is missing or newer than the one used, or one taken from a cube is another there now."""
    newer = any(_is_newer(part, version, have) for part, version in want.items())
    # A catalog that forgets is no reason; a cube that was rolled back, or lost an item of a scene, is.
    return newer or any(want.get(part) != version for part, version in have.items() if part.startswith(PARENT))


def _is_newer(part: str, version: str, have: Mapping[str, str]) -> bool:
    """Whether a wanted part is missing, or newer than those it may be."""
    candidates = versions_like(part, have)
    return not candidates or version > max(candidates)


def versions_like(part: str, have: Mapping[str, str]) -> list[str]:
    """Versions of the parts that a part may be.

    Some catalogs name no datastrip: their part of a tile (``"32TMT/"``) may be any that a catalog which does has of it.

    Args:
        part: Tile and datastrip.
        have: Versions by part.
    """
    if part in have:
        return [have[part]]
    tile, _, strip = part.partition("/")
    named = [made for known, made in have.items() if tile and known.startswith(f"{tile}/") and known != f"{tile}/"]
    if not strip:
        return named
    if strip.startswith("#"):  # a further half of a tile, of which there must be two elsewhere, too
        return named if len(named) > 1 else []
    return [have[f"{tile}/"]] if f"{tile}/" in have else []


def is_behind(row: Entry, want: Entry) -> bool:
    """Whether a step is behind what is wanted: by its parts, or because its catalog has other or newer items for it.

    Items of different catalogs cannot be compared but by the baselines of their parts.
    """
    if outdated(row.parts, want.parts):
        return True
    had, now = row.properties.get(VERSIONS), want.properties.get(VERSIONS)
    if now is None or row.properties.get("catalog") != want.properties.get("catalog"):
        return False
    if any(baseline(row.parts.get(part, "")) > version for part, version in want.parts.items()):
        return False  # the newer one is gone: that is less than there was
    had = had or {}
    if any(standing(had.get(item, {}), now.get(item, {})) == "newer" for item in set(want.items) & set(row.items)):
        return True
    fresh, gone = set(want.items) - set(row.items), set(row.items) - set(want.items)
    pairs = [standing(had.get(one, {}), now.get(other, {})) for one in gone for other in fresh]
    return bool(fresh) and not (pairs and all(pair == "older" for pair in pairs))


def renewed(row: Entry, want: Entry) -> dict[str, str]:
    """The parts of a step that is made anew, with versions that differ from those before, for cubes made from it.

    Where the baseline stays, the version counts: ``"05.09"``, ``"05.09 (02)"``, ``"05.09 (03)"``.
    """
    changes = is_behind(row, want) and not outdated(row.parts, want.parts)
    found = dict(want.parts)
    for part, version in want.parts.items():
        before = row.parts.get(part, "")
        if part in row.parts and not part.startswith(PARENT) and baseline(before) == version:
            count = int(before[len(version) :].strip(" ()") or 1)
            found[part] = f"{version} ({count + 1:02d})" if changes else before
    return found


def baseline(version: str) -> str:
    """The baseline in the version of a part, see :func:`renewed`."""
    return _COUNTED.sub("", version)


_COUNTED = re.compile(r" \(\d{2,}\)$")
