"""A layer of an opened cube and of its sealed years as one array.

Each read takes the files that leave less to decode: a series of a pixel comes from the years' deep files, a map from
the cube's own; the pixels are the same. And each read takes the generation that was opened: a cube that was put in
order or rolled back since has other steps in its slots.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from xarray.backends import BackendArray

from stac2cube.adapters.xarray import ExplicitIndexer, IndexingSupport, VectorizedIndexer, explicit_indexing_adapter
from stac2cube.cube.generation import Held
from stac2cube.cube.ledger import Entry
from stac2cube.cube.root import Root
from stac2cube.cube.shard import fast_pipeline, shard_file
from stac2cube.cube.staging import Shard
from stac2cube.cube.years import YearStore, years_folder
from stac2cube.errors import CubeError

log = logging.getLogger(__name__)

OPENING = 2**16
"""Pixels that can be decoded in the time that it takes to open a file of the cube."""

Part = slice | np.ndarray
"""Rows, columns or slots: ascending, without repetition."""

Array = zarr.Array[Any]


@dataclass(frozen=True)
class OpenYear:
    """The store of a year as a cube's reader sees it.

    Attributes:
        path: Of the store.
        places: Slot in the cube -> place in the store, of steps that are the same in both.
        shards: Its files.
    """

    path: Path
    places: Mapping[int, int]
    shards: tuple[Shard, ...]


def open_years(cube: Path, root: Root, rows: Mapping[str, Entry]) -> list[OpenYear]:
    """The stores that a root names, as far as they can be read and hold anything that is still true."""
    found = []
    for year, name in sorted(root.years.items()):
        try:
            store = YearStore.read(years_folder(cube) / name)
            places, shards = store.places(rows), store.shards
        except CubeError as error:
            log.warning("the sealed year %d is read from the cube's own files: %s", year, error)
            continue
        if places:
            found.append(OpenYear(store.path, places, shards))
    return found


class OpenLayer(BackendArray):
    """One layer, in the order of the cube's slots.

    Args:
        held: The generation of the cube that was opened.
        array: The layer in it.
        years: Its sealed years.
    """

    def __init__(self, held: Held, array: Array, years: Sequence[OpenYear]) -> None:
        self._held, self._years = held, tuple(years)
        self._name = array.basename
        self._arrays = {held.cube: array}
        self._deep = [_DeepLayer(year, self._name) for year in years]
        self.shape, self.dtype = array.shape, array.dtype

    def __reduce__(self) -> Any:
        """On another node it opens its arrays again."""
        return _again, (self._held, self._name, self.shape[0], self._years)

    def __getitem__(self, key: ExplicitIndexer) -> Any:
        """Pixels in stored form, for every kind of indexer of xarray.

        Raises:
            CubeError: The cube was rebuilt since it was opened, and its old generation is gone.
        """
        points = isinstance(key, VectorizedIndexer)
        support = IndexingSupport.VECTORIZED if points else IndexingSupport.OUTER
        while True:
            folder = self._held.folder()
            read = partial(self._points if points else self._outer, self._array_in(folder))
            try:
                pixels = explicit_indexing_adapter(key, self.shape, support, read)
            except (OSError, RuntimeError, ValueError):
                # Where one shard lay when its index was read, another may have lain when its chunks were.
                if self._held.folder() == folder:
                    raise
                continue
            if self._held.folder() == folder:  # else the generations were swapped while we read
                return pixels

    def _array_in(self, folder: Path) -> Array:
        if folder not in self._arrays:
            self._arrays[folder] = _layer_of(folder, self._name)
        return self._arrays[folder]

    def _outer(self, array: Array, key: tuple[Any, ...]) -> np.ndarray:
        """Steps x rows x columns; a dimension for which one number was given is dropped."""
        parts = [_part(part, size) for part, size in zip(key, self.shape, strict=True)]
        slots, rows, columns = _numbers(parts[0]), parts[1], parts[2]
        out = np.empty([_numbers(part).size for part in parts], dtype=self.dtype)
        left = np.ones(slots.size, dtype=bool)
        for deep in self._deep:
            mine = deep.has(slots)
            if mine.any() and deep.pays(int(mine.sum()), rows, columns, array):
                out[mine] = deep.read(slots[mine], rows, columns)
                left &= ~mine
        for run in _runs(np.flatnonzero(left), slots):
            out[run] = _read(array, slice(slots[run.start], slots[run.stop - 1] + 1), rows, columns)
        drop = tuple(0 if isinstance(part, (int, np.integer)) else slice(None) for part in key)
        return np.asarray(out[drop])

    def _points(self, array: Array, key: tuple[Any, ...]) -> np.ndarray:
        """Single pixels of single steps."""
        slots, rows, columns = np.broadcast_arrays(*key)
        out = np.empty(slots.shape, dtype=self.dtype)
        left = np.ones(slots.shape, dtype=bool)
        for deep in self._deep:
            mine = left & deep.has(slots)
            if mine.any() and deep.pays(np.unique(slots[mine]).size, rows[mine], columns[mine], array):
                out[mine] = deep.read_points(slots[mine], rows[mine], columns[mine])
                left &= ~mine
        if left.any():
            out[left] = array.vindex[slots[left], rows[left], columns[left]]
        return out


class _DeepLayer:
    """One layer in the store of a year.

    Args:
        year: The year.
        name: Of the layer.
    """

    def __init__(self, year: OpenYear, name: str) -> None:
        self._folder = year.path / name
        self._array = _layer_of(year.path, name)
        self._places = np.full(max(year.places) + 1, -1)
        for slot, place in year.places.items():
            self._places[slot] = place
        self._filled = {shard.tile for shard in year.shards if shard.layer == name and shard.size}

    def has(self, slots: np.ndarray) -> np.ndarray:
        """Which of some slots are in here."""
        known = slots < self._places.size
        return np.asarray(known & (self._places[np.where(known, slots, 0)] >= 0))

    def pays(self, steps: int, rows: Part, columns: Part, cube: Array) -> bool:
        """Whether less is to be decoded here than of so many steps of the cube, and all files are there."""
        mine = self._array.shape[0] * _pixels(rows, columns, self._array.chunks[1:])
        files = steps * _pixels(rows, columns, (cube.shards or cube.chunks)[1:], each=1)
        theirs = steps * _pixels(rows, columns, cube.chunks[1:]) + OPENING * files
        return bool(mine < theirs) and self._whole(rows, columns)

    def read(self, slots: np.ndarray, rows: Part, columns: Part) -> np.ndarray:
        """``(slots, rows, columns)`` pixels."""
        places = self._places[slots]
        first = int(places.min())
        found = _read(self._array, slice(first, int(places.max()) + 1), rows, columns)
        return np.asarray(found[places - first])

    def read_points(self, slots: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """``(points,)`` pixels."""
        return np.asarray(self._array.vindex[self._places[slots], rows, columns])

    def _whole(self, rows: Part, columns: Part) -> bool:
        """Whether no file is lost that was written: a lost one would read as fill."""
        edges = (self._array.shards or self._array.chunks)[1:]
        touched = [np.unique(_numbers(part) // edge) for part, edge in zip((rows, columns), edges, strict=True)]
        tiles = {(int(row), int(column)) for row in touched[0] for column in touched[1]}
        return all(shard_file(self._folder / "c" / "0", tile).exists() for tile in tiles & self._filled)


def _again(held: Held, name: str, steps: int, years: Sequence[OpenYear]) -> OpenLayer:
    layer = OpenLayer(held, _layer_of(held.folder(), name), years)
    layer.shape = (steps, *layer.shape[1:])
    return layer


def _layer_of(store: Path, name: str) -> Array:
    """One layer as the root of its store has it, which the layer's own metadata may lag behind."""
    with fast_pipeline():
        array = zarr.open_group(store, mode="r", use_consolidated=True)[name]
    assert isinstance(array, zarr.Array)
    return array


def _part(key: Any, size: int) -> Part:
    if isinstance(key, slice):
        return slice(*key.indices(size))
    return np.asarray(key) if np.ndim(key) else slice(int(key), int(key) + 1, 1)


def _numbers(part: Part) -> np.ndarray:
    return np.arange(part.start, part.stop, part.step or 1) if isinstance(part, slice) else part


def _pixels(rows: Part, columns: Part, edges: Sequence[int], each: int = 0) -> int:
    """Pixels of the chunks, of such edges, that a window touches; or ``each`` per chunk."""
    touched = [np.unique(_numbers(part) // edge).size for part, edge in zip((rows, columns), edges, strict=True)]
    return int(touched[0] * touched[1] * (each or edges[0] * edges[1]))


def _runs(places: np.ndarray, slots: np.ndarray) -> list[slice]:
    """Places, ascending, cut into runs of neighbouring places that hold neighbouring slots."""
    if not places.size:
        return []
    cuts = np.flatnonzero((np.diff(places) != 1) | (np.diff(slots[places]) != 1)) + 1
    return [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(places, cuts)]


def _read(array: Array, steps: slice, rows: Part, columns: Part) -> np.ndarray:
    whole = isinstance(rows, slice) and isinstance(columns, slice)
    return np.asarray(array[steps, rows, columns] if whole else array.oindex[steps, rows, columns])
