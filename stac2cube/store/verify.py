"""Find damage in a cube or in the store of a sealed year."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import zarr
from zarr.storage import LocalStore

from stac2cube.errors import CubeError
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.store.creation import UNREADABLE, axis_files, look_at_axes
from stac2cube.store.files import read_plain
from stac2cube.store.ledger import Entry, Ledger
from stac2cube.store.metadata import COORDINATE_CHUNK, OWN, Root
from stac2cube.store.records import (
    KINDS,
    Census,
    Damage,
    files_of_commits,
    look_at_history,
    look_at_root,
    lost_parts,
    stray_files,
    take_census,
)
from stac2cube.store.staging import Shard, checksum, shard_file
from stac2cube.store.yearly_store import SHARDS, YearStore, row_version, years_folder

# Files of pixels and of coordinates of one step, compared with the ledger.


def look_at_shard(store: Path, path: str, shard: Shard, key: str, census: Census, *, deep: bool) -> Iterator[Damage]:
    """Damage to a file of pixels.

    Args:
        store: The cube, or the store of a year.
        path: Path of the file in it.
        shard: Its record.
        key: Key of its step.
        census: The content of the store.
        deep: Compare its checksum too.
    """
    if path not in census.files:
        what = "there is something else" if path in census.others | census.folders else "not there"
        yield Damage("missing", path, key, f"{what}; {shard.valid} pixels")
        return
    size = census.files[path].st_size
    if size != shard.size:
        yield Damage("corrupt", path, key, f"{size} bytes instead of {shard.size}")
        return
    if not deep:
        return
    try:
        code = checksum(read_plain(store / path))
    except OSError as error:
        yield Damage("missing", path, key, f"not readable ({error.strerror}); {shard.valid} pixels")
        return
    if code != shard.checksum:
        yield Damage("corrupt", path, key, f"checksum {code} instead of {shard.checksum}")


def read_coordinates(store: Path) -> tuple[np.ndarray, np.ndarray]:
    """Time, in microseconds since 1970, and scene key of every step of a cube or the store of a year."""
    group = zarr.open_group(LocalStore(store, read_only=True), mode="r", use_consolidated=True)
    times, scenes = (np.asarray(group[name][:]) for name in ("time", "scene"))  # type: ignore[index]
    return times, scenes


def microseconds(row: Entry) -> int:
    """The time of a step as stored in the coordinate."""
    return int(np.datetime64(row.time.replace(tzinfo=None), "us").astype("int64"))


# Find damage in the store of a sealed year.


def look_at_year(folder: Path, year: int, rows: Mapping[str, Entry], spec: CubeSpec, *, deep: bool) -> Iterator[Damage]:
    """Damage to the store of a year; steps that changed since are no damage.

    Args:
        folder: Folder of the store.
        year: Year, UTC.
        rows: Sealed steps of the cube by key, complete rows.
        spec: Spec of the cube.
        deep: Compare checksums too.
    """
    where = f"../{folder.parent.name}/{folder.name}"
    try:
        root = Root(json.loads(read_plain(folder / "zarr.json")))
        store = YearStore.read(folder)
        shards, nodes, _ = store.shards, root.nodes(), root.steps
    except (CubeError, *UNREADABLE, AttributeError) as error:
        yield Damage("year", where, str(year), str(error))
        return
    if lies := _lies(root, store, year, spec):
        yield Damage("year", f"{where}/zarr.json", str(year), f"{lies} not what was sealed")
        return
    for version in store.versions:
        row = rows.get(version.key)
        if row is not None and row.commit == version.commit and version.checksum != row_version(row).checksum:
            yield Damage("year", where, str(year), f"{version.key} was made from other pixels than the ledger has")
    census = take_census(folder)
    known = {str(shard_file(Path(shard.layer) / "c" / "0", shard.tile)): shard for shard in shards if shard.size}
    expected = {"zarr.json", SHARDS, "time/c/0", "scene/c/0", *axis_files(spec.grid), *known}
    expected |= {f"{name}/zarr.json" for name in nodes}
    found = [*census.found, *stray_files(census, expected, {layer.name for layer in spec.layers})]
    found += [
        Damage("metadata", str(path.relative_to(folder)), "", KINDS["metadata"]) for path in root.strayed(folder, nodes)
    ]
    for path, shard in known.items():
        found += look_at_shard(folder, path, shard, str(year), census, deep=deep)
    found += look_at_axes(folder, spec.grid, census)
    found += _coordinates_of_year(folder, store, rows)
    for damage in found:
        yield replace(damage, kind="year", key=str(year), path=f"{where}/{damage.path}")


def _lies(root: Root, store: YearStore, year: int, spec: CubeSpec) -> str:
    """The part of a year's root that contradicts cube and grid, "" if none."""
    attributes, grid = root.document["attributes"], spec.grid
    if attributes.get("spatial:transform") != list(grid.transform):
        return "the place of its grid is"
    if store.year != year or len(store.versions) != root.steps:
        return "its year or its number of steps is"
    nodes = {name: json.loads(node) for name, node in root.nodes().items()}
    for layer in spec.layers:
        if nodes.get(layer.name, {}).get("shape") != [root.steps, *grid.shape]:
            return f"what it says of {layer.name} is"
    return ""


def _coordinates_of_year(folder: Path, store: YearStore, rows: Mapping[str, Entry]) -> Iterator[Damage]:
    try:
        times, scenes = read_coordinates(folder)
    except UNREADABLE as error:
        yield Damage("year", "time", "", f"time or scene cannot be read: {error}")
        return
    if [str(scene) for scene in scenes] != [version.key for version in store.versions]:
        yield Damage("year", "scene", "", "scene keys are not those that were sealed")
    for version, time in zip(store.versions, times, strict=False):
        row = rows.get(version.key)
        if row is not None and row.commit == version.commit and time != microseconds(row):
            yield Damage("year", "time", "", f"the time of {version.key} is not the ledger's")


# Find damage in a cube: root, grid and ledger are compared with the files on disk.

__all__ = ["KINDS", "Damage", "find_damage"]


def find_damage(cube: Path, *, deep: bool = True) -> list[Damage]:
    """All damage to a cube.

    If the root or the ledger is damaged, only that is reported: without them the expected content is unknown.

    Args:
        cube: The cube.
        deep: Read every file and compare checksums; else compare sizes only.

    Raises:
        CubeError: Not a cube, or one of a newer version.
    """
    state = look_at_root(cube)
    if state.root is None:
        return list(state.found)
    root = state.root
    lost = list(lost_parts(cube, root))
    if lost:
        return lost
    rows = Ledger(cube, root.ledger).sealed()
    census = take_census(cube)
    shards = {str(path.relative_to(cube)): found for path, found in _shards(cube, rows)}
    expected = _expected(root, census) | shards.keys()
    found = [*census.found, *stray_files(census, expected, {layer.name for layer in root.spec.layers})]
    for path, (shard, key) in shards.items():
        found += look_at_shard(cube, path, shard, key, census, deep=deep)
    nodes = root.strayed(cube, root.nodes())
    found += [Damage("metadata", str(path.relative_to(cube)), "", KINDS["metadata"]) for path in nodes]
    found += look_at_axes(cube, root.spec.grid, census)
    found += _coordinates(cube, root, rows, census)
    found += look_at_history(cube, root, census, deep=deep)
    for year, name in sorted(root.years.items()):
        found += look_at_year(years_folder(cube) / name, year, rows, root.spec, deep=deep)
    return found


def _shards(cube: Path, rows: Mapping[str, Entry]) -> Iterator[tuple[Path, tuple[Shard, str]]]:
    """The expected files of pixels, with the keys of their steps."""
    for key, row in rows.items():
        for shard in (shard for receipt in row.receipts for shard in receipt.shards):
            if shard.size:
                yield shard_file(cube / shard.layer / "c" / str(row.slot), shard.tile), (shard, key)


def _expected(root: Root, census: Census) -> set[str]:
    """Paths of the files that may be in a cube, except those of pixels."""
    nodes = {"zarr.json", *(f"{name}/zarr.json" for name in root.nodes())}
    return nodes | axis_files(root.spec.grid).keys() | _coordinate_files(root) | files_of_commits(root, census)


def _coordinate_files(root: Root) -> set[str]:
    chunks = range(-(-root.steps // COORDINATE_CHUNK))
    # A commit that died may have written a first step, or the first of a next chunk.
    after = {root.steps // COORDINATE_CHUNK}
    return {f"{name}/c/{chunk}" for name in ("time", "scene") for chunk in {*chunks, *after}}


def _coordinates(cube: Path, root: Root, rows: Mapping[str, Entry], census: Census) -> Iterator[Damage]:
    by_slot = {int(row.slot or 0): row for row in rows.values()}
    wanted = [f"{name}/c/{chunk}" for name in ("time", "scene") for chunk in range(-(-root.steps // COORDINATE_CHUNK))]
    lost = [path for path in wanted if path not in census.files]
    yield from (Damage("coordinate", path, "", "not there, or not a plain file") for path in lost)
    if lost:
        return
    try:
        times, scenes = read_coordinates(cube)
    except UNREADABLE as error:
        yield Damage("coordinate", "time", "", f"time or scene cannot be read: {error}")
        return
    for slot in range(root.steps):
        row = by_slot.get(slot)
        if row is None:
            yield Damage("ledger", OWN, "", f"no row of the ledger has slot {slot}")
            continue
        if times[slot] != microseconds(row) or str(scenes[slot]) != row.key:
            what = f"slot {slot} holds {scenes[slot]} at {np.datetime64(int(times[slot]), 'us')}"
            yield Damage("coordinate", "time", row.key, what)
