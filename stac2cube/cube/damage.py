"""Looking for what is wrong with a cube: what root, grid and ledger say against what lies on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from stac2cube.cube.axes import UNREADABLE, axis_files, look_at_axes
from stac2cube.cube.census import KINDS, Census, Damage, strays, take_census
from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.pixel_files import look_at_shard, microseconds, read_coordinates
from stac2cube.cube.records import files_of_commits, look_at_history, look_at_root, lost_parts
from stac2cube.cube.root import COORDINATE_CHUNK, OWN, Root
from stac2cube.cube.shard import shard_file
from stac2cube.cube.staging import Shard
from stac2cube.cube.year_damage import look_at_year
from stac2cube.cube.years import years_folder

__all__ = ["KINDS", "Damage", "find_damage"]


def find_damage(cube: Path, *, deep: bool = True) -> list[Damage]:
    """Everything that is wrong with a cube.

    Where the root or the ledger is damaged, that alone is told: without them nobody knows what there should be.

    Args:
        cube: The cube.
        deep: Read every file and compare checksums; else only sizes.

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
    found = [*census.found, *strays(census, expected, {layer.name for layer in root.spec.layers})]
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
    """The files of pixels that there must be, and the keys of their steps."""
    for key, row in rows.items():
        for shard in (shard for receipt in row.receipts for shard in receipt.shards):
            if shard.size:
                yield shard_file(cube / shard.layer / "c" / str(row.slot), shard.tile), (shard, key)


def _expected(root: Root, census: Census) -> set[str]:
    """Paths of the files that may lie in a cube, but for those of pixels."""
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
