"""A layer of a cube and of its sealed years as one array: each read takes the files that leave less to decode.

A series of a pixel comes from the years' deep files, a map from the cube's own; the pixels are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from stac2cube.cube.shard import fast_pipeline, open_array, shard_file
from stac2cube.cube.years import YearStore

OPENING = 2**16
"""Pixels that can be decoded in the time that it takes to open a file of the cube."""

Part = slice | np.ndarray
"""Rows, columns or slots: ascending, without repetition."""


@dataclass(frozen=True)
class JoinedYear:
    """The store of a year as a cube's reader sees it.

    Attributes:
        store: The store.
        places: Slot in the cube -> place in the store, of steps that are the same in both.
    """

    store: YearStore
    places: Mapping[int, int]


class JoinedLayer(BackendArray):
    """One layer, in the order of the cube's slots.

    Args:
        cube: The cube.
        array: The layer in it.
        years: Its sealed years.
    """

    def __init__(self, cube: Path, array: zarr.Array[Any], years: Sequence[JoinedYear]) -> None:
        self._cube, self._array, self._years = cube, array, tuple(years)
        self._deep = [_DeepLayer(year, array.basename) for year in years]
        self.shape, self.dtype = array.shape, array.dtype

    def __reduce__(self) -> Any:
        """On another node it opens its arrays again."""
        return _again, (self._cube, self._array.basename, self.shape[0], self._years)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Pixels in stored form, for every kind of indexer of xarray."""
        points = isinstance(key, indexing.VectorizedIndexer)
        support = indexing.IndexingSupport.VECTORIZED if points else indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._points if points else self._outer)

    def _outer(self, key: tuple[Any, ...]) -> np.ndarray:
        """Steps x rows x columns; a dimension for which one number was given is dropped."""
        parts = [_part(part, size) for part, size in zip(key, self.shape, strict=True)]
        slots, rows, columns = _numbers(parts[0]), parts[1], parts[2]
        out = np.empty([_numbers(part).size for part in parts], dtype=self.dtype)
        left = np.ones(slots.size, dtype=bool)
        for deep in self._deep:
            mine = deep.has(slots)
            if mine.any() and deep.pays(int(mine.sum()), rows, columns, self._array):
                out[mine] = deep.read(slots[mine], rows, columns)
                left &= ~mine
        for run in _runs(np.flatnonzero(left), slots):
            out[run] = _read(self._array, slice(slots[run.start], slots[run.stop - 1] + 1), rows, columns)
        drop = tuple(0 if isinstance(part, (int, np.integer)) else slice(None) for part in key)
        return np.asarray(out[drop])

    def _points(self, key: tuple[Any, ...]) -> np.ndarray:
        """Single pixels of single steps."""
        slots, rows, columns = np.broadcast_arrays(*key)
        out = np.empty(slots.shape, dtype=self.dtype)
        left = np.ones(slots.shape, dtype=bool)
        for deep in self._deep:
            mine = left & deep.has(slots)
            if mine.any() and deep.pays(np.unique(slots[mine]).size, rows[mine], columns[mine], self._array):
                out[mine] = deep.read_points(slots[mine], rows[mine], columns[mine])
                left &= ~mine
        if left.any():
            out[left] = self._array.vindex[slots[left], rows[left], columns[left]]
        return out


class _DeepLayer:
    """One layer in the store of a year.

    Args:
        year: The year.
        name: Of the layer.
    """

    def __init__(self, year: JoinedYear, name: str) -> None:
        self._folder = year.store.path / name
        self._array = open_array(self._folder)
        self._places = np.full(max(year.places, default=0) + 1, -1)
        for slot, place in year.places.items():
            self._places[slot] = place
        self._filled = {shard.tile for shard in year.store.shards if shard.layer == name and shard.size}

    def has(self, slots: np.ndarray) -> np.ndarray:
        """Which of some slots are in here."""
        known = slots < self._places.size
        return np.asarray(known & (self._places[np.where(known, slots, 0)] >= 0))

    def pays(self, steps: int, rows: Part, columns: Part, cube: zarr.Array[Any]) -> bool:
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


def _again(cube: Path, name: str, steps: int, years: Sequence[JoinedYear]) -> JoinedLayer:
    with fast_pipeline():
        array = zarr.open_group(cube, mode="r", use_consolidated=True)[name]
    joined = JoinedLayer(cube, array, years)  # type: ignore[arg-type]
    joined.shape = (steps, *joined.shape[1:])
    return joined


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


def _read(array: zarr.Array[Any], steps: slice, rows: Part, columns: Part) -> np.ndarray:
    whole = isinstance(rows, slice) and isinstance(columns, slice)
    return np.asarray(array[steps, rows, columns] if whole else array.oindex[steps, rows, columns])
