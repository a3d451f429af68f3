"""How an archive stands: tiles, pace, failures, disk."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from stac2cube.archives.archive import TileArchive, TileState, read_archive
from stac2cube.executors.site import rooms
from stac2cube.store.lock import is_locked


@dataclass(frozen=True)
class ArchiveFailure:
    """Failures with the same kind of reason.

    Attributes:
        reason: One of them.
        count: Tiles and steps that failed so.
        tiles: Names of the tiles.
    """

    reason: str
    count: int
    tiles: tuple[str, ...]


@dataclass(frozen=True)
class ArchiveStatus:
    """How an archive stands.

    Attributes:
        path: Its folder.
        products: Names of its products.
        tiles: Number of tiles.
        done: Tiles whose last run was complete.
        failed: Names of tiles whose last run was not, by themselves.
        behind: Names of tiles that were not run yet, or not to the end.
        writing: Names of tiles that somebody is making now, or held when it died.
        steps: Steps over all tiles, by product.
        files: Files of all tiles.
        size: Their bytes.
        pace: Tiles per hour in the last run; None before the first tile.
        left: Seconds until the last tile at that pace; None where it is not known.
        updated: When the last tile ended, UTC; "" before the first.
        failures: By kind of reason, the most frequent first.
        room: What is left: source, bytes, files (None where there is no limit).
    """

    path: str
    products: tuple[str, ...]
    tiles: int
    done: int
    failed: tuple[str, ...]
    behind: tuple[str, ...]
    writing: tuple[str, ...]
    steps: Mapping[str, int]
    files: int
    size: int
    pace: float | None
    left: float | None
    updated: str
    failures: tuple[ArchiveFailure, ...] = ()
    room: tuple[tuple[str, int | None, int | None], ...] = field(default=())


def archive_status(path: str | Path) -> ArchiveStatus:
    """Look at an archive without opening its cubes.

    Args:
        path: The archive's folder.

    Raises:
        BadInputError: There is no archive.
    """
    archive = read_archive(path)
    states = {name: archive.state(tile) for name, tile in archive.tiles.items()}
    behind = tuple(name for name, state in states.items() if state.code in (-1, 10))
    failed = tuple(name for name, state in states.items() if state.code not in (-1, 0, 10))
    steps: Counter[str] = Counter()
    for state in states.values():
        steps.update(state.steps)
    pace = _pace(list(states.values()))
    waiting = len(behind) + len(failed)
    return ArchiveStatus(
        path=str(archive.folder),
        products=archive.products,
        tiles=len(states),
        done=len(states) - waiting,
        failed=failed,
        behind=behind,
        writing=tuple(name for name, tile in archive.tiles.items() if is_locked(archive.tile_folder(tile))),
        steps={product: steps[product] for product in archive.products},
        files=sum(state.files for state in states.values()),
        size=sum(state.size for state in states.values()),
        pace=pace,
        left=waiting / pace * 3600 if pace and waiting else 0.0 if not waiting else None,
        updated=max((state.updated for state in states.values()), default=""),
        failures=failures_of(archive, states),
        room=tuple((room.source, room.size, room.files) for room in rooms(archive.folder)),
    )


def _pace(states: Sequence[TileState]) -> float | None:
    """Tiles per hour in the last run, from the begin of its first tile to the end of its last."""
    last = max((state for state in states if state.run), key=lambda state: state.updated, default=None)
    if last is None:
        return None
    mine = [state for state in states if state.run == last.run]
    ends = [datetime.fromisoformat(state.updated).timestamp() for state in mine]
    begun = min(end - state.seconds for end, state in zip(ends, mine, strict=True))
    return 3600 * len(mine) / max(max(ends) - begun, 1.0)


def failures_of(archive: TileArchive, states: Mapping[str, TileState]) -> tuple[ArchiveFailure, ...]:
    """Failures of tiles and steps, those with the same kind of reason together.

    Args:
        archive: The archive.
        states: By name of the tile.
    """
    found: dict[str, tuple[str, int, list[str]]] = {}
    for name in archive.tiles:
        state = states[name]
        reasons = dict(state.failures)
        if state.code not in (-1, 0, 10) and not reasons:
            reasons[state.reason] = 1
        for reason, count in reasons.items():
            kind = _kind_of(reason)
            first, before, tiles = found.get(kind, (reason, 0, []))
            found[kind] = (first, before + count, tiles if name in tiles else [*tiles, name])
    listed = [ArchiveFailure(reason, count, tuple(tiles)) for reason, count, tiles in found.values()]
    return tuple(sorted(listed, key=lambda one: (-one.count, one.reason)))


def _kind_of(reason: str) -> str:
    """A reason without the names, paths and numbers that differ from step to step."""
    return re.sub(r"\S*[\d/]\S*", "*", reason)
