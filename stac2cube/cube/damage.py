"""Looking for what is wrong with a cube: what the ledger says against what lies on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import zarr
from zarr.storage import LocalStore

from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.root import OWN, Root, read_root
from stac2cube.cube.shard import checksum, shard_file
from stac2cube.cube.staging import Shard

KINDS = {
    "missing": "a file of pixels is not there: its pixels read as no data",
    "corrupt": "a file of pixels has other bytes than were written",
    "orphan": "a file of pixels that belongs to no step",
    "metadata": "an array's own metadata do not follow the root",
    "coordinate": "time or scene key of a step are not what the ledger has",
    "ledger": "a part of the ledger is not there or cannot be read",
    "history": "the root of the last commit is not in the history",
}
"""What can be wrong, by name."""


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        kind: Name of :data:`KINDS`.
        path: Where, within the cube.
        key: Of the step it harms, "" if none.
        what: In words.
    """

    kind: str
    path: str
    key: str
    what: str


def find_damage(cube: Path, *, deep: bool = True) -> list[Damage]:
    """Everything that is wrong with a cube.

    Args:
        cube: The cube.
        deep: Read every file and compare checksums; else only sizes.

    Raises:
        CubeError: Not a cube, or its root cannot be read.
    """
    root = read_root(cube)
    lost = list(_lost_parts(cube, root))
    if lost:
        return lost  # without the ledger nobody knows what there should be
    rows = Ledger(cube, root.ledger).sealed()
    found: list[Damage] = []
    known: set[Path] = set()
    for key, row in rows.items():
        for shard in (shard for receipt in row.receipts for shard in receipt.shards):
            if shard.size:
                path = shard_file(cube / shard.layer / "c" / str(row.slot), shard.tile)
                known.add(path)
                found += _look_at(cube, path, shard, key, deep=deep)
    found += _orphans(cube, root, known)
    found += _metadata(cube, root)
    found += _coordinates(cube, root, rows)
    if root.commit and not (cube / OWN / "history" / f"{root.commit:06d}.json").exists():
        found.append(Damage("history", f"{OWN}/history/{root.commit:06d}.json", "", KINDS["history"]))
    return found


def _look_at(cube: Path, path: Path, shard: Shard, key: str, *, deep: bool) -> Iterator[Damage]:
    name = str(path.relative_to(cube))
    try:
        size = path.stat().st_size
        content = path.read_bytes() if deep and size == shard.size else b""
    except OSError as error:
        yield Damage("missing", name, key, f"not there, or not readable ({error.strerror}); {shard.valid} pixels")
        return
    if size != shard.size:
        yield Damage("corrupt", name, key, f"{size} bytes instead of {shard.size}")
    elif deep and checksum(content) != shard.checksum:
        yield Damage("corrupt", name, key, f"checksum {checksum(content)} instead of {shard.checksum}")


def _orphans(cube: Path, root: Root, known: set[Path]) -> Iterator[Damage]:
    for layer in root.spec.layers:
        folder = cube / layer.name / "c"
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file() and path not in known:
                yield Damage("orphan", str(path.relative_to(cube)), "", KINDS["orphan"])


def _metadata(cube: Path, root: Root) -> Iterator[Damage]:
    for path in root.strayed(cube):
        yield Damage("metadata", str(path.relative_to(cube)), "", KINDS["metadata"])


def _coordinates(cube: Path, root: Root, rows: Mapping[str, Entry]) -> Iterator[Damage]:
    by_slot = {int(row.slot or 0): row for row in rows.values()}
    try:
        group = zarr.open_group(LocalStore(cube, read_only=True), mode="r", use_consolidated=True)
        times, scenes = (np.asarray(group[name][:]) for name in ("time", "scene"))  # type: ignore[index]
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        yield Damage("coordinate", "time", "", f"time or scene cannot be read: {error}")
        return
    for slot in range(root.steps):
        row = by_slot.get(slot)
        if row is None:
            yield Damage("ledger", OWN, "", f"no row of the ledger has slot {slot}")
            continue
        time = np.datetime64(row.time.replace(tzinfo=None), "us").astype("int64")
        if times[slot] != time or str(scenes[slot]) != row.key:
            what = f"slot {slot} holds {scenes[slot]} at {np.datetime64(int(times[slot]), 'us')}"
            yield Damage("coordinate", "time", row.key, what)


def _lost_parts(cube: Path, root: Root) -> Iterator[Damage]:
    for part in root.ledger:
        try:
            Ledger(cube, [part]).entries()
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            what = f"cannot be read: {' '.join(str(error).split())[:120]}"
            yield Damage("ledger", f"{OWN}/ledger/{part}", "", what)
