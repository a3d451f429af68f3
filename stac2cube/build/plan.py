"""Data types of a build: block, step, plan, options and summary."""

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
    """Pixels of a block, with measurements.

    Args:
        layers: Per layer ``(rows, columns)`` pixels in stored form.
        means: Name -> sum and weight. Over all blocks of a step, sum / weight becomes a property of the step.
        facts: Properties of the step, plain JSON values: for stages whose steps have one block.
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
"""The work of a stage: a step's payload and a block to ``(rows, columns)`` pixels per layer in stored form. It is pure,
can be pickled, and runs on a worker. The result may be :class:`Measured`."""


@dataclass(frozen=True)
class Step:
    """A time step to be made.

    Attributes:
        entry: Its row for the ledger.
        payload: Input of the task; small, because it is sent to the workers.
        tiles: Blocks that can hold data; all others are fill.
    """

    entry: Entry
    payload: Any = field(repr=False)
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Plan:
    """The difference between the steps wanted and the ledger.

    Attributes:
        todo: Steps to make.
        present: Keys of steps that are sealed (or known to be empty) as wanted.
        superseded: Steps that are sealed from older or fewer parts than wanted, with their slots.
    """

    todo: tuple[Step, ...]
    present: tuple[str, ...]
    superseded: tuple[tuple[int, Step], ...]

    @property
    def blocks(self) -> int:
        """Number of blocks to make."""
        return sum(len(step.tiles) for step in self.todo)

    def summary(self) -> Summary:
        """The summary of a build that has not made anything yet."""
        return Summary(present=list(self.present), superseded=[step.entry.key for _, step in self.superseded])


@dataclass
class Summary:
    """The result of a build.

    Attributes:
        sealed: Keys of the steps sealed, in the order of sealing.
        present: Keys that were there already.
        empty: Key of each scene without a step, and the reason: no valid pixel, or left out by the recipe.
        failed: Key and reason of each failed step; the next run tries it again.
        superseded: Keys of sealed steps for which newer or more items exist.
        replaced: Keys of sealed steps that were rebuilt.
        substituted: Key of each step in which an older item replaces a newer one, and the reason.
        stopped: Whether the build was stopped before it was complete.
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
        """Check that no step failed.

        Raises:
            IncompleteError: Names the failed steps, with their reasons; the others are sealed.
        """
        if self.failed:
            reasons = "; ".join(self.failures())
            raise IncompleteError(f"{len(self.failed)} step(s) of {out} failed, run again to try them: {reasons}")

    def failures(self) -> Iterator[str]:
        """Failures as text, one line for all steps with the same reason."""
        for reason in dict.fromkeys(self.failed.values()):
            keys = [key for key, why in self.failed.items() if why == reason]
            yield f"{keys[0]}: {reason}" if len(keys) == 1 else f"{len(keys)} steps: {reason}: {', '.join(keys)}"

    @property
    def exit_code(self) -> int:
        """0 done, 2 some steps failed, 10 stopped in time; after 2 and 10 the same command continues."""
        return 10 if self.stopped else 2 if self.failed else 0


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Attributes:
        superseded: Report sealed steps for which newer items exist, or replace them by a new generation.
        stop: Set from outside (a signal) to drop the pending blocks, seal finished steps and return.
        deadline: Time at which this process will be killed, seconds since 1970: blocks that cannot be finished before
            are not started. None for never.
        verdict: See :class:`stac2cube.store.lock.CubeLock`.
        again: Keys of sealed steps to rebuild although nothing newer exists, because they are damaged, or made
            from items that are gone.
        limits: Limits on the size of the cube; None for those of the place's site.
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
        steps: All steps wanted over the requested range.
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

    Rows of version 0.1.0 do not contain the versions of their items; these are read from the stored items.

    Args:
        path: The cube.
        steps: The steps.
        root: Root of the cube, if it was read already.

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
"""Prefix of the names of parts that come from a parent cube."""

VERSIONS = "versions"
"""Property of a step: by item id, facts that show whether its files are unchanged."""


def outdated(have: Mapping[str, str], want: Mapping[str, str]) -> bool:
    """Whether a wanted part is missing or newer than the one used, or a part of the parent has another version now."""
    newer = any(_is_newer(part, version, have) for part, version in want.items())
    # A part missing in a catalog is no reason to rebuild; a parent that was rolled back or lost an item of a scene is.
    return newer or any(want.get(part) != version for part, version in have.items() if part.startswith(PARENT))


def _is_newer(part: str, version: str, have: Mapping[str, str]) -> bool:
    """Whether a wanted part is missing, or newer than all its candidates."""
    candidates = versions_like(part, have)
    return not candidates or version > max(candidates)


def versions_like(part: str, have: Mapping[str, str]) -> list[str]:
    """Versions of the parts that may be identical with a part.

    Some catalogs name no datastrip. Their part of a tile (``"32TMT/"``) may be any part of that tile in a catalog that
    does.

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
    if strip.startswith("#"):  # a second half of a tile, so the other catalog must have two as well
        return named if len(named) > 1 else []
    return [have[f"{tile}/"]] if f"{tile}/" in have else []


def is_behind(row: Entry, want: Entry) -> bool:
    """Whether a step is outdated: by its parts, or because its catalog has other or newer items for it.

    Items of different catalogs can be compared by the baselines of their parts only.
    """
    if outdated(row.parts, want.parts):
        return True
    had, now = row.properties.get(VERSIONS), want.properties.get(VERSIONS)
    if now is None or row.properties.get("catalog") != want.properties.get("catalog"):
        return False
    if any(baseline(row.parts.get(part, "")) > version for part, version in want.parts.items()):
        return False  # the newer item is gone, so there is less than before
    had = had or {}
    if any(standing(had.get(item, {}), now.get(item, {})) == "newer" for item in set(want.items) & set(row.items)):
        return True
    fresh, gone = set(want.items) - set(row.items), set(row.items) - set(want.items)
    pairs = [standing(had.get(one, {}), now.get(other, {})) for one in gone for other in fresh]
    return bool(fresh) and not (pairs and all(pair == "older" for pair in pairs))


def renewed(row: Entry, want: Entry) -> dict[str, str]:
    """The parts of a rebuilt step, with versions that differ from the former ones, so that derived cubes notice.

    If the baseline is the same, a counter is appended: ``"05.09"``, ``"05.09 (02)"``, ``"05.09 (03)"``.
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
    """The baseline in the version of a part, without the counter of :func:`renewed`."""
    return _COUNTED.sub("", version)


_COUNTED = re.compile(r" \(\d{2,}\)$")
