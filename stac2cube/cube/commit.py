"""The commit itself: the ledger's rows, the history and the root, in this order; the root by one atomic rename."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stac2cube.cube.files import sync_folder, write_partial, write_whole
from stac2cube.cube.folders import make_folder
from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.lock import CubeLock
from stac2cube.cube.points import passing
from stac2cube.cube.records import with_checksums
from stac2cube.cube.root import OWN, Root
from stac2cube.cube.spec import CubeSpec


def publish(
    cube: Path,
    root: Root,
    entries: Sequence[Entry],
    lock: CubeLock,
    *,
    before: Sequence[str],
    request: Mapping[str, Any] | None = None,
    changed: Mapping[str, int] | None = None,
) -> None:
    """Make a new root the truth, all or nothing.

    Args:
        cube: Where: the cube, or its next generation.
        root: The new root; it is told of its ledger, of who made it and of what.
        entries: Rows that it adds to the ledger.
        lock: Of the cube, held.
        before: Ledger parts that it begins with.
        request: New defaults for the next update, None to keep the old.
        changed: What is new in it, and how many, for the history; counted from the rows if None.

    Raises:
        CubeLockedError: The lock was taken away; nothing was changed.
    """
    parts = Ledger(cube, before).write(_placed(entries, root.spec), root.commit)
    passing("commit.ledger-written")
    counts = _counted(entries) if changed is None else dict(changed)
    root.own.update({"ledger": list(parts), "by": str(lock.owner), "changed": counts})
    if request is not None:
        root.own["spec"] = replace(root.spec, request=request).to_json()
    content = with_checksums(cube, root).to_bytes()
    history = cube / OWN / "history"
    make_folder(cube, history)
    write_whole(history / f"{root.commit:06d}.json", content, below=cube)
    passing("commit.history-written")
    waiting = write_partial(cube / "zarr.json", content)
    passing("commit.root-written")
    lock.require_held()
    waiting.replace(cube / "zarr.json")
    sync_folder(cube)
    passing("commit.root-replaced")
    lead_arrays(cube, root)
    passing("commit.arrays-replaced")


def lead_arrays(cube: Path, root: Root) -> None:
    """Let the per-array metadata follow the root, for readers that open one array alone."""
    for path, metadata in root.strayed(cube).items():
        write_whole(path, metadata, below=cube)


def _placed(entries: Sequence[Entry], spec: CubeSpec) -> Sequence[Entry]:
    """A row needs a geometry to be a STAC item: that of the grid, unless the stage knows better."""
    if all(entry.footprint for entry in entries):
        return entries
    whole = spec.grid.geobox.footprint("EPSG:4326").json
    return [entry if entry.footprint else replace(entry, footprint=whole) for entry in entries]


def _counted(entries: Sequence[Entry]) -> dict[str, int]:
    """How many rows of each status there are."""
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.status] = counts.get(entry.status, 0) + 1
    return counts
