"""Sealed years: a year of a cube once more, in files that are deep in time, in a second store beside the cube.

The cube's own files stay what they are: one step each, good for writing and for maps. A year that is over can be
written a second time into files that hold all its steps, good for series of a pixel and few to open. The root of the
cube names the store of each sealed year, so that sealing is a commit and a rollback takes it back. The store names, for
each of its steps, the commit that made the step's pixels: a step that was made anew since is read from the cube.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.cube.files import read_plain
from stac2cube.cube.ledger import SEALED, Entry
from stac2cube.cube.root import OWN, Root
from stac2cube.cube.shard import Shape, checksum
from stac2cube.cube.spec import Layer
from stac2cube.cube.staging import Shard
from stac2cube.errors import CubeError
from stac2cube.grid import Grid

CHUNK_BYTES = 2**20
"""Pixels of a chunk at most, uncompressed: what a series of one pixel has to decode. Against four times as much, series
of single pixels cost 0.6 of the CPU, those of 512 x 512 pixels the same (tests/bench/keeping.py)."""

SHARD_BYTES = 512 * 2**20
"""Pixels of a file at most, uncompressed: what a worker holds while it writes one."""

SHARDS = f"{OWN}/shards.json"
"""What is known of every file of a year's store."""


PIXELS_OF = "pixels_of"
"""Property of a step whose files were lost and brought back: the commit that had made the same pixels."""


@dataclass(frozen=True)
class StepVersion:
    """Which version of which step a place in a year's store was made from.

    Attributes:
        key: Of the scene.
        commit: That made its pixels.
        checksum: Of the checksums of all its files. Files that were lost and brought back may hold the same pixels in
            other bytes, if another version of the codec wrote them: it does not count when versions are compared.
    """

    key: str
    commit: int
    checksum: str = field(compare=False)


@dataclass(frozen=True)
class YearStore:
    """The store of a year.

    Attributes:
        path: Where.
        year: UTC.
        versions: What each of its steps was made from, in order of time.
    """

    path: Path
    year: int
    versions: tuple[StepVersion, ...]

    @classmethod
    def read(cls, path: Path) -> YearStore:
        """Look at a store.

        Raises:
            CubeError: Nothing there, or nothing that can be read.
        """
        try:
            own = json.loads(read_plain(path / "zarr.json"))["attributes"]["stac2cube"]
            return cls(path, int(own["year"]), tuple(StepVersion(**version) for version in own["versions"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CubeError(f"{path} is not the store of a year: {error}") from error

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """What is known of its files.

        Raises:
            CubeError: The record is not there or cannot be read.
        """
        try:
            rows = json.loads(read_plain(self.path / SHARDS))
            return tuple(Shard(**{**row, "tile": tuple(row["tile"])}) for row in rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CubeError(f"{self.path / SHARDS} cannot be read: {error}") from error

    def places(self, rows: Mapping[str, Entry]) -> dict[int, int]:
        """Slot in the cube -> place in this store, of the steps whose pixels are still those it was made from."""
        found = {}
        for place, version in enumerate(self.versions):
            row = rows.get(version.key)
            if row is not None and row.status == SEALED and pixels_of(row) == version.commit:
                found[int(row.slot or 0)] = place
        return found


@dataclass(frozen=True)
class YearState:
    """How a sealed year stands to its cube.

    Attributes:
        year: UTC.
        path: Of its store.
        steps: In the store.
        changed: Keys of steps that were made anew since, and are read from the cube.
        late: Keys of steps that came since, and are read from the cube.
        withdrawn: Keys of steps that the cube has no more, and nobody is shown.
        there: Whether the store can be read; else all steps come from the cube.
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
    """Where the stores of a cube's years lie."""
    cube = cube.resolve()
    return cube.with_name(f"{cube.name}.years")


def year_stores(cube: Path, root: Root) -> Iterator[YearStore]:
    """The stores that a root names, those that can be read."""
    for _, name in sorted(root.years.items()):
        try:
            yield YearStore.read(years_folder(cube) / name)
        except CubeError:
            continue  # its steps are read from the cube; `verify` and `status` tell


def year_states(cube: Path, root: Root, rows: Mapping[str, Entry]) -> list[YearState]:
    """How each sealed year stands to its cube.

    Args:
        cube: The cube.
        root: Its root.
        rows: Its ledger's rows by key; lean ones do.
    """
    stores = {store.path.name: store for store in year_stores(cube, root)}
    return [
        _state(year, years_folder(cube) / name, stores.get(name), rows) for year, name in sorted(root.years.items())
    ]


def rows_of(year: int, rows: Mapping[str, Entry]) -> list[Entry]:
    """The sealed steps of a year, in order of time."""
    mine = [row for row in rows.values() if row.status == SEALED and row.time.year == year]
    return sorted(mine, key=lambda row: (row.time, row.key))


def pixels_of(row: Entry) -> int:
    """The commit that made the pixels of a step."""
    return int(row.properties.get(PIXELS_OF, row.commit))


def version_of(row: Entry) -> StepVersion:
    """Which version of which step a row stands for; the row is a whole one."""
    shards = [asdict(shard) for receipt in row.receipts for shard in receipt.shards]
    text = json.dumps(sorted(shards, key=lambda shard: (shard["layer"], shard["tile"])))
    return StepVersion(row.key, pixels_of(row), checksum(text.encode()))


def grid_of_year(layer: Layer, grid: Grid, steps: int) -> Grid:
    """How a layer's lattice is cut in the store of a year of so many steps.

    Chunks hold all steps and are parts of the cube's, as large as :data:`CHUNK_BYTES` allows: 64 x 64 pixels of 75
    steps of uint16 are 600 KiB. Shards are the cube's or whole parts of them, so that each is made from one tile of the
    cube.
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
    now = {row.key: pixels_of(row) for row in rows_of(year, rows)}
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
    """Our attributes of the store of a year, from which :meth:`YearStore.read` reads it."""
    return {"year": year, "versions": [asdict(version) for version in versions]}
