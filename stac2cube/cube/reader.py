"""For those who read: open a cube as a Dataset sorted by time, and tell whether two cubes are the same."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr

from stac2cube.adapters.xarray import LazilyIndexedArray
from stac2cube.cube.axes import require_axes
from stac2cube.cube.facts import step_facts
from stac2cube.cube.generation import Held, next_folder
from stac2cube.cube.ledger import Ledger
from stac2cube.cube.opened import OpenLayer, OpenYear, open_years
from stac2cube.cube.overviews import level_path
from stac2cube.cube.root import COORDINATES, Root, read_root
from stac2cube.cube.shard import fast_pipeline
from stac2cube.errors import CubeError
from stac2cube.grid import Grid

_CHUNKING = ("chunks", "preferred_chunks", "shards")

SERIES_EDGE = 256
"""Pixels of a dask task along time: 256 x 256 of 75 steps, decoded, are 20 to 40 MB."""


def open_cube(
    path: str | Path,
    *,
    decode: bool = True,
    chunks: Literal["shards", "series", "auto"] | Mapping[str, int] | None = "shards",
    years: bool = True,
    level: int = 1,
) -> xr.Dataset:
    """Open a cube for reading: its sealed steps, lazily, sorted by time.

    A plain ``xarray.open_zarr(path)`` gives the same pixels in the order in which the steps arrived. Of years that were
    sealed, each read takes the deep files or the cube's own, whichever leave less to decode; see
    :mod:`stac2cube.cube.years`.

    Args:
        path: The cube.
        decode: True gives physical values (float, NaN where there is no data); False the stored numbers.
        chunks: ``"shards"`` makes one dask task per file of the cube, good for maps; ``"series"`` one per year and
            256 x 256 pixels, good along time; ``"auto"`` leaves it to dask; a mapping gives your own dask chunks, None
            no dask at all.
        years: Use the deep files of sealed years; False reads the cube's own files only.
        level: 1 for the cube; 2, 4, 8 ... for its overview whose pixels are so many times as large.

    Returns:
        Layers with dims ``(time, y, x)``; coordinates ``time`` (datetime64, UTC), ``scene`` (key), and along time what
        the ledger knows of each step (platform, orbit, cloud cover, catalog).

    Raises:
        CubeError: Nothing there, not a cube, or one whose ledger or scene keys are damaged.
        BadInputError: It has no such level.
    """
    cube = level_path(Path(path), level).resolve()
    root = _patiently(cube)
    times = xr.coders.CFDatetimeCoder(time_unit="us")
    with fast_pipeline():
        store = xr.backends.ZarrStore.open_group(cube, consolidated=True, mode="r", cache_members=True)
        dataset = xr.open_dataset(store, chunks=None, decode_cf=False, cache=False)
    # The root may have been replaced between our look and xarray's; its own attributes say which one it is.
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
    dataset = dataset[[layer.name for layer in root.spec.layers]]  # in the order in which they were asked for
    dataset.encoding["source"] = str(cube)
    dataset = dataset.assign_coords(step_facts([str(key) for key in keys.values], rows))
    dataset = dataset.assign_coords(scene=("time", np.array([str(key) for key in keys.values], "U"), keys.attrs))
    dataset.attrs = _portable(dataset.attrs)
    for layer in dataset.data_vars.values():
        # Of a part of the cube, or in other dask chunks, they would be in the way of to_zarr: it takes dask's.
        layer.encoding = {name: value for name, value in layer.encoding.items() if name not in _CHUNKING}
        # Said as "little" where it is the machine's own: netCDF4 warns of that.
        layer.encoding["dtype"] = np.dtype(layer.encoding["dtype"].name)
    order = np.lexsort((keys.values, dataset["time"].values))
    if np.any(np.diff(order) != 1):  # sorting copies what needs no sorting, too
        dataset = dataset.isel(time=order)
    if chunks is None:
        return dataset
    sizes = _dask_chunks(dataset, root.spec.grid, chunks)
    # Of the variables alone: the coordinates stay in memory.
    return dataset.assign({name: layer.variable.chunk(sizes) for name, layer in dataset.data_vars.items()})


def _portable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a root that any format can store and any selection may keep.

    Ours become a text, since NetCDF knows no nested values. What tells the lattice of the whole cube is left out: of a
    part of it, it would be wrong, and the coordinates say it.
    """
    kept = {name: value for name, value in attributes.items() if not name.startswith(("spatial:", "zarr_conventions"))}
    return kept | {"stac2cube": json.dumps(attributes["stac2cube"])}


def _guarded(dataset: xr.Dataset, cube: Path, root: Root, group: zarr.Group, years: Sequence[OpenYear]) -> xr.Dataset:
    """The layers, undecoded, read from this generation only, with the stores of sealed years behind them."""
    held, changed = Held(cube, root.generation), {}
    for layer in root.spec.layers:
        plain, array = dataset[layer.name].variable, group[layer.name]
        assert isinstance(array, zarr.Array)
        lazily = LazilyIndexedArray(OpenLayer(held, array, years))
        changed[layer.name] = xr.Variable(plain.dims, lazily, plain.attrs, plain.encoding)
    return dataset.assign(changed)


def _dask_chunks(dataset: xr.Dataset, grid: Grid, chunks: str | Mapping[str, int]) -> dict[str, Any]:
    if chunks == "auto":
        return dict.fromkeys(("time", "y", "x"), "auto")
    if not isinstance(chunks, str):
        return dict(chunks)
    if chunks == "shards":
        return dict(zip(("time", "y", "x"), (1, *grid.shard), strict=True))
    _, counts = np.unique(dataset["time"].dt.year, return_counts=True)
    return {"time": tuple(int(count) for count in counts), "y": SERIES_EDGE, "x": SERIES_EDGE}


def differences(one: Path, other: Path) -> list[str]:
    """What keeps two cubes from being the same; nothing if they are.

    They are the same when, in order of time, scene keys, item ids, status and stored pixels are equal. Job ids, paths,
    times of making, the order of slots and which years are sealed do not count.
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
    """Where two cubes are compared, and how it is called: every step; of sealed years every series, from deep files."""
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
    """The root; waits a moment where generations are swapped in two steps and the cube is away between them."""
    for _ in range(20):
        if cube.exists() or not next_folder(cube).exists():
            break
        time.sleep(0.1)
    if not cube.exists():
        raise CubeError(f"{cube} does not exist")
    return read_root(cube)
