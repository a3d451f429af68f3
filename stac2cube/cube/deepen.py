"""Writing the store of a year: part by part on workers, checked against the ledger, put into place by one rename.

A part is one layer over one tile of the cube. What makes it first compares the tile's files with the ledger's
checksums, then writes the part's shards and reads them back, and leaves a receipt: a run that goes on after a kill
makes only what has none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.cube.creation import write_store
from stac2cube.cube.files import read_plain, remove_tree, sync_folder, sync_tree, write_whole
from stac2cube.cube.folders import make_folder, move
from stac2cube.cube.ledger import Entry
from stac2cube.cube.points import passing
from stac2cube.cube.shard import checksum, create_array, open_array, shard_file
from stac2cube.cube.slots import write_values
from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.cube.staging import Shard, count_valid, write_file
from stac2cube.cube.years import (
    SHARDS,
    StepVersion,
    YearStore,
    grid_of_year,
    shapes_of,
    store_attributes,
    version_of,
    years_folder,
)
from stac2cube.errors import CubeError
from stac2cube.grid import Grid, Tile
from stac2cube.version import __version__

_STORE, _PARTS, _PLAN = "store.zarr", "parts", "plan.json"
"""In the folder in which a store is made: the store, a receipt per part, and what is being made."""


@dataclass(frozen=True)
class Part:
    """One layer over one tile of the cube: what a worker makes at a time.

    Attributes:
        making: The folder in which the store is made.
        cube: The cube.
        layer: The layer.
        grid: The cube's.
        tile: The tile, in the cube's grid.
        files: Per step its slot in the cube, and bytes and checksum of its file as the ledger has them.
        valid: Pixels that are not fill, as the ledger counts them.
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
        """The file that says that it is made."""
        return self.making / _PARTS / f"{self.layer.name}-{self.tile[0]}-{self.tile[1]}.json"

    def __call__(self) -> float:
        """Make it; durable when this returns.

        Returns:
            Seconds it took.

        Raises:
            CubeError: A file of the cube, or what was written, is not what the ledger says.
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
        size, code = write_file(folder, tile, block, below=self.making.parents[1])
        made, edge = open_array(folder), grid_of_year(self.layer, self.grid, len(self.files)).chunk[0]
        for first in range(0, shape[0], edge):
            rows = slice(window[0].start + first, min(window[0].start + first + edge, window[0].stop))
            again = np.asarray(made[:, rows, window[1]])
            if not np.array_equal(again, block[:, first : first + edge], equal_nan=block.dtype.kind == "f"):
                raise CubeError(f"{self} reads back otherwise than it was written")
        return Shard(self.layer.name, tile, size, code, valid)


def begin_year(cube: Path, spec: CubeSpec, year: int, rows: Sequence[Entry]) -> Path:
    """The folder in which the store of a year is made; what an earlier run made of the same steps is kept.

    Args:
        cube: The cube.
        spec: What it is.
        year: UTC.
        rows: Its sealed steps in order of time, whole.
    """
    making = years_folder(cube) / f".{year}.making"
    versions = tuple(version_of(row) for row in rows)
    plan = json.dumps({**store_attributes(year, versions), "version": __version__}).encode()
    if (making / _PLAN).exists() and (making / _PLAN).read_bytes() == plan:
        return making
    remove_tree(making, below=cube.parent)
    make_folder(cube.parent, making)
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


def parts_of(making: Path, cube: Path, spec: CubeSpec, rows: Sequence[Entry]) -> list[Part]:
    """All parts of the store of a year; those whose receipt exists are made."""
    known: dict[tuple[str, Tile], dict[str, Shard]] = {}
    for row in rows:
        for shard in (shard for receipt in row.receipts for shard in receipt.shards):
            known.setdefault((shard.layer, shard.tile), {})[row.key] = shard
    return [
        Part(
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


def finish_year(making: Path, year: int, commit: int, parts: Sequence[Part]) -> YearStore:
    """Put a store all of whose parts are made into its place; nobody reads it before the root names it.

    Args:
        making: Where it was made.
        year: UTC.
        commit: That will name it.
        parts: Its parts.
    """
    store = making / _STORE
    shards = [shard for part in parts for shard in json.loads(read_plain(part.receipt))]
    write_whole(store / SHARDS, json.dumps(shards).encode())
    sync_tree(store)
    passing("year.finished")
    path = making.with_name(f"{year}-{commit:06d}.zarr")
    beside = making.parents[1]
    remove_tree(path, below=beside)  # of a run that died before its commit
    move(beside, store, path)
    sync_folder(path.parent)
    remove_tree(making, below=beside)
    passing("year.renamed")
    return YearStore.read(path)


def waiting_year(cube: Path, year: int, versions: Sequence[StepVersion], named: str | None) -> YearStore | None:
    """A whole store of these very steps: the one that the root names, or one whose run died before its commit.

    Args:
        cube: The cube.
        year: UTC.
        versions: The steps as they are now.
        named: Name of the store that the root has for the year, None if none.
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
