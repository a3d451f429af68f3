"""Open a cube as an xarray Dataset, sealed years included; compare cubes."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray
from zarr.storage import LocalStore

from stac2cube.adapters.xarray import (
    ExplicitIndexer,
    IndexingSupport,
    LazilyIndexedArray,
    VectorizedIndexer,
    explicit_indexing_adapter,
)
from stac2cube.errors import CubeError
from stac2cube.model.cube_spec import prepare_for_writing
from stac2cube.model.grid import Grid
from stac2cube.store.creation import require_axes
from stac2cube.store.generation import Held
from stac2cube.store.ledger import Entry, Ledger, step_facts
from stac2cube.store.metadata import COORDINATES, Root, level_path, next_folder, read_root
from stac2cube.store.staging import Shard, fast_pipeline, shard_file
from stac2cube.store.yearly_store import YearStore, years_folder
from stac2cube.trust.text import printable

# A layer of an opened cube and of its sealed years as one array.
#
# Each read uses the files that need less decoding: a series of a pixel comes from the years' deep files, a map from the
# cube's own; the pixels are the same. Each read uses the generation that was opened: a cube that was tidied or rolled
# back since has other steps in its slots.

log = logging.getLogger(__name__)

OPENING = 2**16
"""Number of pixels that can be decoded in the time it takes to open a file of the cube."""

Part = slice | np.ndarray
"""Rows, columns or slots: ascending, without repetition."""

Array = zarr.Array[Any]


@dataclass(frozen=True)
class OpenYear:
    """The store of a year, as used by the reader of a cube.

    Attributes:
        path: Path of the store.
        places: Slot in the cube -> index in the store, for steps that are the same in both.
        shards: Shards of the store.
    """

    path: Path
    places: Mapping[int, int]
    shards: tuple[Shard, ...]


def open_years(cube: Path, root: Root, rows: Mapping[str, Entry]) -> list[OpenYear]:
    """The stores named by a root, if they can be read and have steps that are still current."""
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


class OuterArray(BackendArray):
    """An array that is indexed by a number, a slice or an array of numbers per dimension."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: ExplicitIndexer) -> Any:
        """Pixels in stored form, for all indexers of xarray."""
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER, self.outer)

    def outer(self, key: tuple[Any, ...]) -> np.ndarray:
        """Pixels in stored form; dimensions indexed by one number are dropped."""
        raise NotImplementedError


def lazy_variable(
    array: BackendArray, dims: Sequence[Hashable], attributes: Mapping[Any, Any], encoding: Mapping[Any, Any]
) -> xr.Variable:
    """An array as a variable of a Dataset, read when its values are used.

    Args:
        array: The array that reads.
        dims: Names of its dimensions.
        attributes: Attributes of the variable.
        encoding: Its encoding, ``{}`` if there is none.
    """
    return xr.Variable(tuple(dims), LazilyIndexedArray(array), dict(attributes), dict(encoding))


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
        self._process = os.getpid()
        self.shape, self.dtype = array.shape, array.dtype

    def __reduce__(self) -> Any:
        """Pickle without the arrays, which are opened again on the other node."""
        return _again, (self._held, self._name, self.shape[0], self._years)

    def __getitem__(self, key: ExplicitIndexer) -> Any:
        """Pixels in stored form, for all indexers of xarray.

        Raises:
            CubeError: The cube was rebuilt since it was opened, and its old generation is gone.
        """
        if os.getpid() != self._process:  # forked: see fast_pipeline
            self._arrays, self._process = {}, os.getpid()
            self._deep = [_DeepLayer(year, self._name) for year in self._years]
        points = isinstance(key, VectorizedIndexer)
        support = IndexingSupport.VECTORIZED if points else IndexingSupport.OUTER
        while True:
            folder = self._held.folder()
            read = partial(self._points if points else self._outer, self._array_in(folder))
            try:
                pixels = explicit_indexing_adapter(key, self.shape, support, read)
            except (OSError, RuntimeError, ValueError):
                # Between reading a shard's index and its chunks, another shard may have replaced it.
                if self._held.folder() == folder:
                    raise
                continue
            if self._held.folder() == folder:  # otherwise the generations were swapped during the read
                return pixels

    def _array_in(self, folder: Path) -> Array:
        if folder not in self._arrays:
            self._arrays[folder] = _layer_of(folder, self._name)
        return self._arrays[folder]

    def _outer(self, array: Array, key: tuple[Any, ...]) -> np.ndarray:
        """Steps x rows x columns; dimensions indexed by one number are dropped."""
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
        name: Name of the layer.
    """

    def __init__(self, year: OpenYear, name: str) -> None:
        self._folder = year.path / name
        self._array = _layer_of(year.path, name)
        self._places = np.full(max(year.places) + 1, -1)
        for slot, place in year.places.items():
            self._places[slot] = place
        self._filled = {shard.tile for shard in year.shards if shard.layer == name and shard.size}

    def has(self, slots: np.ndarray) -> np.ndarray:
        """Mask of the slots that are in this store."""
        known = slots < self._places.size
        return np.asarray(known & (self._places[np.where(known, slots, 0)] >= 0))

    def pays(self, steps: int, rows: Part, columns: Part, cube: Array) -> bool:
        """Whether reading here needs less decoding than reading that many steps of the cube, and no file is lost."""
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
        """Whether no written file is lost: a lost one would read as fill."""
        edges = (self._array.shards or self._array.chunks)[1:]
        touched = [np.unique(_numbers(part) // edge) for part, edge in zip((rows, columns), edges, strict=True)]
        tiles = {(int(row), int(column)) for row in touched[0] for column in touched[1]}
        return all(shard_file(self._folder / "c" / "0", tile).exists() for tile in tiles & self._filled)


def _again(held: Held, name: str, steps: int, years: Sequence[OpenYear]) -> OpenLayer:
    layer = OpenLayer(held, _layer_of(held.folder(), name), years)
    layer.shape = (steps, *layer.shape[1:])
    return layer


def _layer_of(store: Path, name: str) -> Array:
    """One layer by the root of its store, which may be newer than the layer's own metadata."""
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
    """Pixels of all chunks of the given edges that a window touches; or ``each`` per chunk."""
    touched = [np.unique(_numbers(part) // edge).size for part, edge in zip((rows, columns), edges, strict=True)]
    return int(touched[0] * touched[1] * (each or edges[0] * edges[1]))


def _runs(places: np.ndarray, slots: np.ndarray) -> list[slice]:
    """Ascending places, split into runs of consecutive places with consecutive slots."""
    if not places.size:
        return []
    cuts = np.flatnonzero((np.diff(places) != 1) | (np.diff(slots[places]) != 1)) + 1
    return [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(places, cuts)]


def _read(array: Array, steps: slice, rows: Part, columns: Part) -> np.ndarray:
    whole = isinstance(rows, slice) and isinstance(columns, slice)
    return np.asarray(array[steps, rows, columns] if whole else array.oindex[steps, rows, columns])


# Open a cube as a Dataset sorted by time, and compare cubes.

SERIES_EDGE = 256
"""Edge of a dask task along time, pixels: 256 x 256 of 75 steps, decoded, are 20 to 40 MB."""


def open_cube(
    path: str | Path,
    *,
    decode: bool = True,
    chunks: Literal["shards", "series", "auto"] | Mapping[str, int] | None = "shards",
    years: bool = True,
    level: int = 1,
) -> xr.Dataset:
    """Open a cube for reading: its sealed steps, lazily, sorted by time.

    A plain ``xarray.open_zarr(path)`` gives the same pixels in the order in which the steps were added. For sealed
    years, each read uses the files of the year or those of the cube, whichever need less decoding; see
    :mod:`stac2cube.store.yearly_store`.

    Args:
        path: The cube.
        decode: True gives physical values (float, NaN where there is no data); False the stored numbers.
        chunks: ``"shards"`` makes one dask task per file of the cube, good for maps; ``"series"`` one per year and
            256 x 256 pixels, good along time; ``"auto"`` leaves it to dask; a mapping gives your own dask chunks, None
            no dask at all.
        years: Use the deep files of sealed years; False reads the cube's own files only.
        level: 1 for the cube; 2, 4, 8 ... for its overview whose pixels are that many times larger.

    Returns:
        Layers with dims ``(time, y, x)``; coordinates ``time`` (datetime64, UTC), ``scene`` (key), and along time the
        facts of each step in the ledger (platform, orbit, cloud cover, catalog).

    Raises:
        CubeError: There is none, it is not a cube, or its ledger or scene keys are damaged.
        BadInputError: There is no such level.
    """
    cube = level_path(Path(path), level).resolve()
    root = _patiently(cube)
    try:
        dataset = _assembled(cube, root, decode=decode, years=years)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        words = printable(" ".join(str(error).split())[:120])
        raise CubeError(
            f"{cube} has metadata of arrays, or coordinates, that cannot be read ({type(error).__name__}: {words}): "
            f"stac2cube verify {cube}"
        ) from error
    if chunks is None:
        return dataset
    sizes = _dask_chunks(dataset, root.spec.grid, chunks)
    # Of the variables alone: the coordinates stay in memory.
    return dataset.assign({name: layer.variable.chunk(sizes) for name, layer in dataset.data_vars.items()})


def _assembled(cube: Path, root: Root, *, decode: bool, years: bool) -> xr.Dataset:
    """The sealed steps of a cube with their coordinates, sorted, none of them loaded; see :func:`open_cube`."""
    times = xr.coders.CFDatetimeCoder(time_unit="us")
    with fast_pipeline():
        # A store, not a path: xarray passes paths as text, and zarr 3.4 treats one with "#" or "?" as an address.
        local = LocalStore(cube, read_only=True)
        store = xr.backends.ZarrStore.open_group(local, consolidated=True, mode="r", cache_members=True)
        dataset = xr.open_dataset(store, chunks=None, decode_cf=False, cache=False)
    # The root may have been replaced between our read and xarray's; its attributes show which one xarray read.
    root = Root({**root.document, "attributes": dataset.attrs})
    rows = Ledger(cube, root.ledger).entries(whole=False)
    dataset = _guarded(dataset, cube, root, store.zarr_group, open_years(cube, root, rows) if years else [])
    require_axes(cube, root.spec.grid, dataset["x"].values, dataset["y"].values)
    dataset = xr.decode_cf(dataset, mask_and_scale=decode, decode_times=times)
    keys = dataset["scene"].load()
    if strange := [str(key) for key in keys.values if str(key) not in rows]:
        raise CubeError(
            f"{cube} has scene keys that its ledger does not know ({', '.join(map(repr, strange[:3]))}): "
            f"stac2cube verify {cube} --repair"
        )
    dataset = dataset[[layer.name for layer in root.spec.layers]]  # in the order of the request
    dataset.encoding["source"] = str(cube)
    dataset = dataset.assign_coords(step_facts([str(key) for key in keys.values], rows))
    dataset = dataset.assign_coords(scene=("time", np.array([str(key) for key in keys.values], "U"), keys.attrs))
    dataset.attrs = _portable(dataset.attrs)
    prepare_for_writing(dataset)
    order = np.lexsort((keys.values, dataset["time"].values))
    if np.any(np.diff(order) != 1):  # indexing copies even if nothing moves
        dataset = dataset.isel(time=order)
    return dataset


def _portable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a root that any format can store and that stay correct for any selection.

    stac2cube's own become a text, since NetCDF has no nested values. The lattice of the whole cube is left out: it
    would be wrong for a part, and the coordinates contain it.
    """
    kept = {name: value for name, value in attributes.items() if not name.startswith(("spatial:", "zarr_conventions"))}
    return kept | {"stac2cube": json.dumps(attributes["stac2cube"])}


def _guarded(dataset: xr.Dataset, cube: Path, root: Root, group: zarr.Group, years: Sequence[OpenYear]) -> xr.Dataset:
    """The undecoded layers, read from this generation only, with the stores of sealed years."""
    held, changed = Held(cube, root.generation), {}
    for layer in root.spec.layers:
        plain, array = dataset[layer.name].variable, group[layer.name]
        assert isinstance(array, zarr.Array)
        layer_of_years = OpenLayer(held, array, years)
        changed[layer.name] = lazy_variable(layer_of_years, plain.dims, plain.attrs, plain.encoding)
    return dataset.assign(changed)


def _dask_chunks(dataset: xr.Dataset, grid: Grid, chunks: str | Mapping[str, int]) -> dict[str, Any]:
    if chunks == "auto":
        return dict.fromkeys(("time", "y", "x"), "auto")
    if not isinstance(chunks, str):
        return dict(chunks)
    if chunks == "shards":
        return dict(zip(("time", "y", "x"), (1, *grid.shard), strict=True))
    _, counts = np.unique(dataset["time"].dt.year, return_counts=True)
    steps = tuple(int(count) for count in counts) or (0,)
    return {"time": steps, "y": SERIES_EDGE, "x": SERIES_EDGE}


def differences(one: Path, other: Path) -> list[str]:
    """The differences between two cubes; empty if they are the same.

    They are the same when, in order of time, scene keys, item ids, status and stored pixels are equal. Job ids, paths,
    creation times, the order of slots and sealed years are ignored.
    """
    roots = [read_root(path) for path in (one, other)]
    found = [] if _layout(roots[0]) == _layout(roots[1]) else ["grid or layers differ"]
    rows = [_comparable(Ledger(path, root.ledger)) for path, root in zip((one, other), roots, strict=True)]
    keys = sorted(rows[0].keys() | rows[1].keys())
    found += [
        f"{key}: {rows[0].get(key)} and {rows[1].get(key)}" for key in keys if rows[0].get(key) != rows[1].get(key)
    ]
    if found:
        return found
    mine, theirs = (open_cube(path, decode=False, chunks=None) for path in (one, other))
    found += [f"{name} differs" for name in COORDINATES if not np.array_equal(mine[name].values, theirs[name].values)]
    for layer in roots[0].spec.layers:
        floating = np.dtype(layer.dtype).kind == "f"
        for where, what in _pieces(mine, roots):
            a, b = mine[layer.name].isel(where).values, theirs[layer.name].isel(where).values
            if not np.array_equal(a, b, equal_nan=floating):
                found.append(f"{layer.name} of {what}: {np.count_nonzero(a != b)} pixels differ")
    return found


def _pieces(dataset: xr.Dataset, roots: Sequence[Root]) -> Iterator[tuple[dict[str, Any], str]]:
    """Selections and labels to compare two cubes by: each step; for sealed years each series, from deep files."""
    yield from (({"time": step}, str(key)) for step, key in enumerate(dataset["scene"].values))
    years = {year for root in roots for year in root.years}
    series = replace(roots[0].spec.grid, shard=(SERIES_EDGE, SERIES_EDGE))
    for year in sorted(years):
        steps = np.flatnonzero(dataset["time"].dt.year == year)
        for tile in series.tiles() if steps.size else ():
            rows, columns = series.window(tile)
            yield {"time": steps, "y": rows, "x": columns}, f"{year} in rows {rows.start}, columns {columns.start}"


def _layout(root: Root) -> dict[str, Any]:
    return {name: value for name, value in root.spec.to_json().items() if name != "request"}


def _comparable(ledger: Ledger) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {key: (entry.status, entry.items) for key, entry in ledger.entries(whole=False).items()}


def _patiently(cube: Path) -> Root:
    """The root; waits a moment if the cube is absent between the two steps of a swap of generations."""
    for _ in range(20):
        if cube.exists() or not next_folder(cube).exists():
            break
        time.sleep(0.1)
    if not cube.exists():
        raise CubeError(f"{cube} does not exist")
    return read_root(cube)
