"""Looking for what is wrong with a cube: what the ledger says against what lies on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zarr
from zarr.storage import LocalStore

from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.root import OWN, Root, read_root
from stac2cube.cube.shard import checksum, shard_file
from stac2cube.cube.staging import Shard
from stac2cube.cube.years import YearStore, version_of, years_folder
from stac2cube.errors import CubeError

KINDS = {
    "missing": "a file of pixels is not there: its pixels read as no data",
    "corrupt": "a file of pixels has other bytes than were written",
    "orphan": "a file of pixels that belongs to no step",
    "metadata": "an array's own metadata do not follow the root",
    "coordinate": "time or scene key of a step are not what the ledger has",
    "ledger": "a part of the ledger is not there or cannot be read",
    "history": "the root of the last commit is not in the history",
    "year": "the store of a sealed year is not what was sealed; its steps are whole in the cube",
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
    for year, name in sorted(root.years.items()):
        found += _look_at_year(years_folder(cube) / name, year, rows, deep=deep)
    return found


def _look_at_year(folder: Path, year: int, rows: Mapping[str, Entry], *, deep: bool) -> Iterator[Damage]:
    """What is wrong with the store of a year; that steps changed since is not."""
    where = f"../{folder.parent.name}/{folder.name}"
    try:
        store = YearStore.read(folder)
        shards, root = store.shards, Root(json.loads((folder / "zarr.json").read_bytes()))
    except (CubeError, OSError, ValueError) as error:
        yield Damage("year", where, str(year), str(error))
        return
    for version in store.versions:
        row = rows.get(version.key)
        if row is not None and row.commit == version.commit and version.checksum != version_of(row).checksum:
            yield Damage("year", where, str(year), f"{version.key} was made from other pixels than the ledger has")
    for path in root.strayed(folder):
        yield Damage("year", f"{where}/{path.relative_to(folder)}", str(year), KINDS["metadata"])
    yield from _year_coordinates(folder, where, store, rows)
    known = {shard_file(folder / shard.layer / "c" / "0", shard.tile): shard for shard in shards if shard.size}
    for path, shard in known.items():
        for damage in _look_at(folder, path, shard, str(year), deep=deep):
            yield replace(damage, kind="year", path=f"{where}/{damage.path}")
    for layer in root.spec.layers:
        for path in sorted((folder / layer.name / "c").rglob("*")):
            if path.is_file() and path not in known:
                yield Damage("year", f"{where}/{path.relative_to(folder)}", str(year), KINDS["orphan"])


def _year_coordinates(folder: Path, where: str, store: YearStore, rows: Mapping[str, Entry]) -> Iterator[Damage]:
    try:
        times, scenes = _read_coordinates(folder)
    except _UNREADABLE as error:
        yield Damage("year", f"{where}/time", str(store.year), f"time or scene cannot be read: {error}")
        return
    if [str(scene) for scene in scenes] != [version.key for version in store.versions]:
        yield Damage("year", f"{where}/scene", str(store.year), "scene keys are not those that were sealed")
    for version, time in zip(store.versions, times, strict=False):
        row = rows.get(version.key)
        if row is not None and row.commit == version.commit and time != _microseconds(row):
            yield Damage("year", f"{where}/time", str(store.year), f"the time of {version.key} is not the ledger's")


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
        times, scenes = _read_coordinates(cube)
    except _UNREADABLE as error:
        yield Damage("coordinate", "time", "", f"time or scene cannot be read: {error}")
        return
    for slot in range(root.steps):
        row = by_slot.get(slot)
        if row is None:
            yield Damage("ledger", OWN, "", f"no row of the ledger has slot {slot}")
            continue
        if times[slot] != _microseconds(row) or str(scenes[slot]) != row.key:
            what = f"slot {slot} holds {scenes[slot]} at {np.datetime64(int(times[slot]), 'us')}"
            yield Damage("coordinate", "time", row.key, what)


_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError)
"""What zarr and its codecs raise at bytes that are none of theirs."""


def _read_coordinates(store: Path) -> tuple[np.ndarray, np.ndarray]:
    group = zarr.open_group(LocalStore(store, read_only=True), mode="r", use_consolidated=True)
    times, scenes = (np.asarray(group[name][:]) for name in ("time", "scene"))  # type: ignore[index]
    return times, scenes


def _microseconds(row: Entry) -> int:
    return int(np.datetime64(row.time.replace(tzinfo=None), "us").astype("int64"))


def _lost_parts(cube: Path, root: Root) -> Iterator[Damage]:
    for part in root.ledger:
        try:
            Ledger(cube, [part]).entries()
        except (CubeError, ValueError, KeyError) as error:
            why = error.__cause__ or error
            what = f"cannot be read: {' '.join(str(why).split())[:120]}"
            yield Damage("ledger", f"{OWN}/ledger/{part}", "", what)
