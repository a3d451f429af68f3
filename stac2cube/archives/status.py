"""State of an archive: tiles, pace, failures, disk."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from stac2cube.archives.archive import StepTable, TileArchive, TileState, product_steps, read_archive
from stac2cube.archives.tiling import tile_footprints
from stac2cube.executors.site import rooms
from stac2cube.store.files import write_whole
from stac2cube.store.lock import is_locked
from stac2cube.store.metadata import now_text
from stac2cube.version import __version__


@dataclass(frozen=True)
class ArchiveFailure:
    """Failures with the same kind of reason.

    Attributes:
        reason: The reason of one of them.
        count: Number of tiles and steps that failed for it.
        tiles: Names of the tiles.
    """

    reason: str
    count: int
    tiles: tuple[str, ...]


@dataclass(frozen=True)
class ArchiveStatus:
    """State of an archive.

    Attributes:
        path: Its folder.
        products: Names of its products.
        tiles: Number of tiles.
        done: Number of tiles whose last run was complete.
        failed: Names of tiles whose last run failed.
        behind: Names of tiles that were not run yet, or not to the end.
        writing: Names of tiles whose lock is held, by a running process or one that died.
        steps: Number of steps over all tiles, by product.
        files: Number of files of all tiles.
        size: Their bytes.
        pace: Tiles per hour in the last run; None before the first tile.
        left: Seconds until the last tile at that pace; None if unknown.
        updated: End of the last tile, UTC; "" before the first.
        failures: Failures by kind of reason, the most frequent first.
        room: Space left: source, bytes, files (None where there is no limit).
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
    """Read the state of an archive without opening its cubes.

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
    """Tiles per hour in the last run, from the beginning of its first tile to the end of its last."""
    last = max((state for state in states if state.run), key=lambda state: state.updated, default=None)
    if last is None:
        return None
    mine = [state for state in states if state.run == last.run]
    ends = [datetime.fromisoformat(state.updated).timestamp() for state in mine]
    begun = min(end - state.seconds for end, state in zip(ends, mine, strict=True))
    return 3600 * len(mine) / max(max(ends) - begun, 1.0)


def failures_of(archive: TileArchive, states: Mapping[str, TileState]) -> tuple[ArchiveFailure, ...]:
    """Group the failures of tiles and steps by kind of reason.

    Args:
        archive: The archive.
        states: States by name of the tile.
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
    """A reason without the names, paths and numbers that differ between steps."""
    return re.sub(r"\S*[\d/]\S*", "*", reason)


# The HTML page about an archive.


def write_archive_report(path: str | Path, out: str | Path) -> Path:
    """Write one self-contained HTML page about an archive.

    It has a map of the tiles coloured by their state, steps by month, failures by reason, and disk usage.

    Args:
        path: The archive's folder, or its ``archive.json``.
        out: The HTML file; replaced atomically if it exists.

    Returns:
        The file.

    Raises:
        BadInputError: There is no archive.
    """
    page, target = draw_archive(path), Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, page)
    return target


def draw_archive(path: str | Path) -> bytes:
    """Render the page about an archive as HTML, see :func:`write_archive_report`. Nothing is written.

    Args:
        path: The archive's folder, or its ``archive.json``.

    Raises:
        BadInputError: There is no archive.
    """
    from stac2cube.export.pictures import environment

    archive, status = read_archive(path), archive_status(path)
    shapes, view = _map(archive, status)
    template = environment().get_template("archive.html.j2")
    return template.render(
        title=archive.folder.resolve().name,
        status=status,
        tiles=shapes,
        view=view,
        calendars=[_calendar(product, product_steps(archive, product, whole=False)) for product in archive.products],
        months=MONTHS,
        made=now_text().replace("T", " ").rstrip("Z") + " UTC",
        version=__version__,
    ).encode()


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _map(archive: TileArchive, status: ArchiveStatus) -> tuple[list[dict[str, str]], str]:
    """Polygons of the tiles, and the box around them; degrees, longitudes scaled as at the mean latitude."""
    failed, behind = set(status.failed), set(status.behind)
    footprints = tile_footprints(list(archive.tiles.values()))
    middle = float(np.mean([shape.centroid.y for shape in footprints]))
    scale = max(math.cos(math.radians(middle)), 0.05)
    shapes: list[dict[str, str]] = []
    corners = []
    for (name, tile), shape in zip(archive.tiles.items(), footprints, strict=True):
        kind = "failed" if name in failed else "behind" if name in behind else "done"
        state = archive.state(tile)
        counts = ", ".join(f"{product} {count}" for product, count in state.steps.items())
        title = f"{name}: {kind}{f', {counts} steps' if counts else ''}{f': {state.reason}' if state.reason else ''}"
        for part in getattr(shape, "geoms", [shape]):
            ring = shapely.get_coordinates(part.exterior.simplify(part.length / 500)) * [scale, -1.0]
            corners.append(ring)
            points = " ".join(f"{x:.4f},{y:.4f}" for x, y in ring)
            shapes.append({"kind": kind, "title": title, "points": points})
    every = np.concatenate(corners)
    (left, top), (right, low) = every.min(axis=0), every.max(axis=0)
    edge = 0.02 * max(right - left, low - top)
    return shapes, f"{left - edge:.4f} {top - edge:.4f} {right - left + 2 * edge:.4f} {low - top + 2 * edge:.4f}"


def _calendar(product: str, table: StepTable) -> dict[str, Any]:
    """Number of steps by year and month over all tiles."""
    months = table.times.astype("datetime64[us]").astype("datetime64[M]").astype(int)
    years = {int(year): [0] * 12 for year in np.unique(months // 12 + 1970)}
    for month, count in zip(*np.unique(months, return_counts=True), strict=True):
        years[int(month) // 12 + 1970][int(month) % 12] = int(count)
    most = max((max(counts) for counts in years.values()), default=1)
    return {"product": product, "years": years, "most": max(most, 1)}
