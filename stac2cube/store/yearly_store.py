"""Sealed years: a second store beside the cube with files that are deep in time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.errors import CubeError
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid, Tile
from stac2cube.store.creation import write_store
from stac2cube.store.files import (
    make_folder,
    move,
    passing,
    read_plain,
    remove_partials,
    remove_tree,
    sync_folder,
    sync_tree,
    write_whole,
)
from stac2cube.store.ledger import SEALED, Entry
from stac2cube.store.metadata import OWN, Root
from stac2cube.store.staging import (
    Shape,
    Shard,
    checksum,
    count_valid,
    create_array,
    open_array,
    shard_file,
    write_shard_file,
)
from stac2cube.store.writer import write_values
from stac2cube.version import __version__

# Sealed years: a second copy of a year of a cube, in files that are deep in time, in a store beside the cube.
#
# The cube's own files do not change: one step each, good for writing and for maps. A past year can be written a second
# time into files that hold all its steps, good for series of a pixel and few to open. The root of the cube names the
# store of each sealed year, so that sealing is a commit and a rollback reverts it. The store records, for each of its
# steps, the commit that wrote the step's pixels: a step that was rebuilt since is read from the cube.

CHUNK_BYTES = 2**20
"""Maximum size of a chunk, uncompressed: what a series of one pixel has to decode. Compared with four times as much,
series of single pixels take 0.6 of the CPU, those of 512 x 512 pixels the same (tests/bench/keeping.py)."""

SHARD_BYTES = 512 * 2**20
"""Maximum size of a file, uncompressed: what a worker holds while it writes one."""

SHARDS = f"{OWN}/shards.json"
"""The records of all files of a year's store."""


PIXELS_OF = "pixels_of"
"""Property of a step whose lost files were restored: the commit that first wrote the same pixels."""


@dataclass(frozen=True)
class StepVersion:
    """The version of a step in a year's store.

    Attributes:
        key: Key of the scene.
        commit: Commit that wrote its pixels.
        checksum: Checksum of the checksums of all its files. Restored files may hold the same pixels in other bytes,
            if another version of the codec wrote them, so it is ignored when versions are compared.
    """

    key: str
    commit: int
    checksum: str = field(compare=False)


@dataclass(frozen=True)
class YearStore:
    """The store of a year.

    Attributes:
        path: Its path.
        year: Year, UTC.
        versions: Version of each of its steps, in order of time.
    """

    path: Path
    year: int
    versions: tuple[StepVersion, ...]

    @classmethod
    def read(cls, path: Path) -> YearStore:
        """Read the metadata of a store.

        Raises:
            CubeError: It is missing or cannot be read.
        """
        try:
            own = json.loads(read_plain(path / "zarr.json"))["attributes"]["stac2cube"]
            return cls(path, int(own["year"]), tuple(StepVersion(**version) for version in own["versions"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CubeError(f"{path} is not the store of a year: {error}") from error

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The records of its files.

        Raises:
            CubeError: The record is not there or cannot be read.
        """
        try:
            rows = json.loads(read_plain(self.path / SHARDS))
            return tuple(Shard(**{**row, "tile": tuple(row["tile"])}) for row in rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CubeError(f"{self.path / SHARDS} cannot be read: {error}") from error

    def places(self, rows: Mapping[str, Entry]) -> dict[int, int]:
        """Slot in the cube -> index in this store, for steps whose pixels are unchanged since."""
        found = {}
        for place, version in enumerate(self.versions):
            row = rows.get(version.key)
            if row is not None and row.status == SEALED and pixel_commit(row) == version.commit:
                found[int(row.slot or 0)] = place
        return found


@dataclass(frozen=True)
class YearState:
    """A sealed year compared with its cube.

    Attributes:
        year: Year, UTC.
        path: Path of its store.
        steps: Number of steps in the store.
        changed: Keys of steps that were rebuilt since, and are read from the cube.
        late: Keys of steps that were added since, and are read from the cube.
        withdrawn: Keys of steps that the cube no longer has; readers do not see them.
        there: Whether the store can be read; if not, all steps are read from the cube.
    """

    year: int
    path: str
    steps: int
    changed: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    there: bool = True

    @property
    def stale(self) -> bool:
        """Whether sealing the year again would change its store."""
        return not self.there or bool(self.changed or self.late or self.withdrawn)


def years_folder(cube: Path) -> Path:
    """The folder of the stores of a cube's years."""
    cube = cube.resolve()
    return cube.with_name(f"{cube.name}.years")


def year_stores(cube: Path, root: Root) -> Iterator[YearStore]:
    """The readable stores named by a root."""
    for _, name in sorted(root.years.items()):
        try:
            yield YearStore.read(years_folder(cube) / name)
        except CubeError:
            continue  # its steps are read from the cube; `verify` and `status` report it


def year_states(cube: Path, root: Root, rows: Mapping[str, Entry]) -> list[YearState]:
    """Each sealed year compared with its cube.

    Args:
        cube: The cube.
        root: Its root.
        rows: Its ledger's rows by key; lean ones are enough.
    """
    stores = {store.path.name: store for store in year_stores(cube, root)}
    return [
        _state(year, years_folder(cube) / name, stores.get(name), rows) for year, name in sorted(root.years.items())
    ]


def rows_of(year: int, rows: Mapping[str, Entry]) -> list[Entry]:
    """The sealed steps of a year, sorted by time."""
    mine = [row for row in rows.values() if row.status == SEALED and row.time.year == year]
    return sorted(mine, key=lambda row: (row.time, row.key))


def pixel_commit(row: Entry) -> int:
    """The commit that wrote the pixels of a step."""
    return int(row.properties.get(PIXELS_OF, row.commit))


def row_version(row: Entry) -> StepVersion:
    """The version of a step by its row, which must be a complete one."""
    shards = [asdict(shard) for receipt in row.receipts for shard in receipt.shards]
    text = json.dumps(sorted(shards, key=lambda shard: (shard["layer"], shard["tile"])))
    return StepVersion(row.key, pixel_commit(row), checksum(text.encode()))


def grid_of_year(layer: Layer, grid: Grid, steps: int) -> Grid:
    """The chunks and shards of a layer in the store of a year with a number of steps.

    Chunks hold all steps and are parts of the cube's chunks, as large as :data:`CHUNK_BYTES` allows: 64 x 64 pixels of
    75 steps of uint16 are 600 KiB. Shards are the cube's or integer parts of them, so that each is made from one tile
    of the cube.
    """
    size = np.dtype(layer.dtype).itemsize * steps
    chunks = [cut for by in (2, 4, 8) if (cut := _cut(grid.chunk, by))] or [grid.chunk]
    chunk = next((cut for cut in chunks if size * cut[0] * cut[1] <= CHUNK_BYTES), chunks[-1])
    shards = [cut for by in (1, 2, 4, 8) if (cut := _cut(grid.shard, by)) and _holds(cut, chunk)]
    shard = next((cut for cut in shards if size * cut[0] * cut[1] <= SHARD_BYTES), shards[-1])
    return replace(grid, chunk=chunk, shard=shard)


def shapes_of(cut: Grid, steps: int) -> tuple[Shape, Shape]:
    """Chunk and shard of an array in the store of a year."""
    return (steps, *cut.chunk), (steps, *cut.shard)


def _cut(shape: tuple[int, int], by: int) -> tuple[int, int] | None:
    return None if shape[0] % by or shape[1] % by else (shape[0] // by, shape[1] // by)


def _holds(shard: tuple[int, int], chunk: tuple[int, int]) -> bool:
    return shard[0] % chunk[0] == 0 and shard[1] % chunk[1] == 0


def _state(year: int, path: Path, store: YearStore | None, rows: Mapping[str, Entry]) -> YearState:
    if store is None:
        return YearState(year, str(path), 0, there=False)
    now = {row.key: pixel_commit(row) for row in rows_of(year, rows)}
    then = {version.key: version.commit for version in store.versions}
    return YearState(
        year=year,
        path=str(path),
        steps=len(then),
        changed=tuple(key for key in then if key in now and now[key] != then[key]),
        late=tuple(key for key in now if key not in then),
        withdrawn=tuple(key for key in then if key not in now),
    )


def store_attributes(year: int, versions: tuple[StepVersion, ...]) -> dict[str, Any]:
    """Attributes of the store of a year, read by :meth:`YearStore.read`."""
    return {"year": year, "versions": [asdict(version) for version in versions]}


# Writing the store of a year: part by part on workers, checked against the ledger, moved into place by one rename.
#
# A part is one layer over one tile of the cube. To make it, a worker compares the tile's files with the ledger's
# checksums, writes the part's shards, reads them back, and leaves a receipt. A run that continues after a kill makes
# only the parts without receipt.

_STORE, _PARTS, _PLAN = "store.zarr", "parts", "plan.json"
"""In the folder in which a store is made: the store, a receipt per part, and the plan."""


@dataclass(frozen=True)
class YearPart:
    """One layer over one tile of the cube: the unit of work of a worker.

    Attributes:
        making: The folder in which the store is made.
        cube: The cube.
        layer: The layer.
        grid: Grid of the cube.
        tile: The tile, in the cube's grid.
        files: Per step its slot in the cube, and bytes and checksum of its file from the ledger.
        valid: Number of pixels that are not fill, from the ledger.
    """

    making: Path
    cube: Path
    layer: Layer
    grid: Grid
    tile: Tile
    files: tuple[tuple[int, int, str], ...]
    valid: int

    @property
    def receipt(self) -> Path:
        """The receipt, which exists once the part is made."""
        return self.making / _PARTS / f"{self.layer.name}-{self.tile[0]}-{self.tile[1]}.json"

    def __call__(self) -> float:
        """Make the part; durable when this returns.

        Returns:
            Duration, seconds.

        Raises:
            CubeError: A file of the cube, or a written one, does not match the ledger.
        """
        begun = time.perf_counter()
        self._check_files()
        shards = [self._write(tile, window) for tile, window in self._shards()]
        if sum(shard.valid for shard in shards) != self.valid:
            raise CubeError(f"{self} has {sum(s.valid for s in shards)} valid pixels, the ledger {self.valid}")
        write_whole(self.receipt, json.dumps([asdict(shard) for shard in shards]).encode())
        passing("year.part-made")
        return time.perf_counter() - begun

    def __str__(self) -> str:
        return f"{self.layer.name}, tile {self.tile} of {self.cube}"

    def _check_files(self) -> None:
        for slot, size, code in self.files:
            path = shard_file(self.cube / self.layer.name / "c" / str(slot), self.tile)
            try:
                content = read_plain(path) if size else b""
            except OSError as error:
                raise CubeError(f"{path} cannot be read ({error.strerror}): stac2cube verify --repair first") from error
            if size and (len(content), checksum(content)) != (size, code):
                raise CubeError(f"{path} is damaged: stac2cube verify --repair first")

    def _shards(self) -> Iterator[tuple[Tile, tuple[slice, slice]]]:
        """Shards of the store within the tile, with their windows."""
        cut, whole = grid_of_year(self.layer, self.grid, len(self.files)), self.grid.window(self.tile)
        for tile in cut.tiles():
            window = cut.window(tile)
            if all(w.start <= part.start < w.stop for w, part in zip(whole, window, strict=True)):
                yield tile, window

    def _write(self, tile: Tile, window: tuple[slice, slice]) -> Shard:
        cube = open_array(self.cube / self.layer.name)
        shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        block = np.full((len(self.files), *shape), self.layer.fill_scalar, dtype=self.layer.dtype)
        for place, (slot, size, _) in enumerate(self.files):
            if size:
                block[place] = cube[slot, window[0], window[1]]
        valid = count_valid(block, self.layer)
        if valid == 0:
            return Shard(self.layer.name, tile, 0, "", 0)
        folder = self.making / _STORE / self.layer.name
        size, code = write_shard_file(folder, tile, block, below=self.making.parents[1])
        made, edge = open_array(folder), grid_of_year(self.layer, self.grid, len(self.files)).chunk[0]
        for first in range(0, shape[0], edge):
            rows = slice(window[0].start + first, min(window[0].start + first + edge, window[0].stop))
            again = np.asarray(made[:, rows, window[1]])
            if not np.array_equal(again, block[:, first : first + edge], equal_nan=block.dtype.kind == "f"):
                raise CubeError(f"the content of {self} differs from what was written")
        return Shard(self.layer.name, tile, size, code, valid)


def begin_year(cube: Path, spec: CubeSpec, year: int, rows: Sequence[Entry]) -> Path:
    """The folder in which the store of a year is made; parts that an earlier run made from the same steps are kept.

    Args:
        cube: The cube.
        spec: Spec of the cube.
        year: Year, UTC.
        rows: Its sealed steps in order of time, complete rows.
    """
    making = making_folder(cube, year)
    versions = tuple(row_version(row) for row in rows)
    plan = json.dumps({**store_attributes(year, versions), "version": __version__}).encode()
    if (making / _PLAN).exists() and (making / _PLAN).read_bytes() == plan:
        return making
    remove_tree(making, below=making.parents[1])
    make_folder(making.parents[1], making)
    store_folder = making / _STORE

    def create(store: Any, layer: Layer) -> None:
        chunk, shard = shapes_of(grid_of_year(layer, spec.grid, len(rows)), len(rows))
        create_array(store, layer, spec.grid, len(rows), chunk=chunk, shard=shard)

    write_store(store_folder, replace(spec, request={}), store_attributes(year, versions), len(rows), create)
    write_values(store_folder, rows)
    (making / _PARTS).mkdir()
    write_whole(making / _PLAN, plan)
    passing("year.begun")
    return making


def making_folder(cube: Path, year: int) -> Path:
    """The folder in which the store of a year is made, beside the finished stores."""
    return years_folder(cube) / f".{year}.making"


def year_parts(making: Path, cube: Path, spec: CubeSpec, rows: Sequence[Entry]) -> list[YearPart]:
    """All parts of the store of a year; those with a receipt are done."""
    known: dict[tuple[str, Tile], dict[str, Shard]] = {}
    for row in rows:
        for shard in (shard for receipt in row.receipts for shard in receipt.shards):
            known.setdefault((shard.layer, shard.tile), {})[row.key] = shard
    return [
        YearPart(
            making,
            cube,
            layer,
            spec.grid,
            tile,
            _files(rows, known.get((layer.name, tile), {})),
            _valid(known, layer, tile),
        )
        for layer in spec.layers
        for tile in spec.grid.tiles()
    ]


def finish_year(making: Path, year: int, commit: int, parts: Sequence[YearPart]) -> YearStore:
    """Move a complete store into its place; no reader opens it before the root names it.

    Args:
        making: The folder in which it was made.
        year: Year, UTC.
        commit: Number of the commit that will name it.
        parts: Its parts.
    """
    store = making / _STORE
    shards = [shard for part in parts for shard in json.loads(read_plain(part.receipt))]
    remove_partials(store, deep=True)  # from runs that were killed; this one continues with their parts
    write_whole(store / SHARDS, json.dumps(shards).encode())
    sync_tree(store)
    passing("year.finished")
    path = making.with_name(f"{year}-{commit:06d}.zarr")
    beside = making.parents[1]
    remove_tree(path, below=beside)  # from a run that died before its commit
    move(beside, store, path)
    sync_folder(path.parent)
    remove_tree(making, below=beside)
    passing("year.renamed")
    return YearStore.read(path)


def waiting_year(cube: Path, year: int, versions: Sequence[StepVersion], named: str | None) -> YearStore | None:
    """A complete store of exactly these steps: the one named by the root, or one whose run died before its commit.

    Args:
        cube: The cube.
        year: Year, UTC.
        versions: The present versions of the steps.
        named: Name of the year's store in the root, None if none.
    """
    paths = sorted(years_folder(cube).glob(f"{year}-*.zarr"), key=lambda path: (path.name == named, path.name))
    for path in reversed(paths):
        try:
            store = YearStore.read(path)
        except CubeError:
            continue  # being made, or damaged
        if store.versions == tuple(versions):
            return store
    return None


def _files(rows: Sequence[Entry], known: Mapping[str, Shard]) -> tuple[tuple[int, int, str], ...]:
    nothing = Shard("", (0, 0), 0, "", 0)
    shards = [known.get(row.key, nothing) for row in rows]
    return tuple((int(row.slot or 0), shard.size, shard.checksum) for row, shard in zip(rows, shards, strict=True))


def _valid(known: Mapping[tuple[str, Tile], Mapping[str, Shard]], layer: Layer, tile: Tile) -> int:
    return sum(shard.valid for shard in known.get((layer.name, tile), {}).values())
