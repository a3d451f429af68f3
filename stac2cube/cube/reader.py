"""For those who read: open a cube as a Dataset sorted by time, and tell whether two cubes are the same."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from stac2cube.cube.facts import step_facts
from stac2cube.cube.generation import next_folder
from stac2cube.cube.ledger import Ledger
from stac2cube.cube.overviews import level_path
from stac2cube.cube.root import COORDINATES, Root, read_root
from stac2cube.cube.shard import fast_pipeline
from stac2cube.errors import CubeError


def open_cube(
    path: str | Path,
    *,
    decode: bool = True,
    chunks: Literal["shards"] | Mapping[str, int] | None = "shards",
    level: int = 1,
) -> xr.Dataset:
    """Open a cube for reading: its sealed steps, lazily, sorted by time.

    A plain ``xarray.open_zarr(path)`` gives the same pixels in the order in which the steps arrived.

    Args:
        path: The cube.
        decode: True gives physical values (float, NaN where there is no data); False the stored numbers.
        chunks: ``"shards"`` makes one dask task per file, a mapping gives your own dask chunks, None no dask at all.
        level: 1 for the cube; 2, 4, 8 ... for its overview whose pixels are so many times as large.

    Returns:
        Layers with dims ``(time, y, x)``; coordinates ``time`` (datetime64, UTC), ``scene`` (key), and along time what
        the ledger knows of each step (platform, orbit, cloud cover, catalog).

    Raises:
        CubeError: Nothing there, or not a cube.
        BadInputError: It has no such level.
    """
    cube = level_path(Path(path), level)
    root = _patiently(cube)
    times = xr.coders.CFDatetimeCoder(time_unit="us")
    with fast_pipeline():
        dataset = xr.open_dataset(
            cube, engine="zarr", chunks=None, consolidated=True, mask_and_scale=decode, decode_times=times, cache=False
        )
    # The root may have been replaced between our look and xarray's; its own attributes say which one it is.
    own = dataset.attrs["stac2cube"]
    rows = Ledger(cube, own["ledger"]).entries(whole=False)
    keys = dataset["scene"].load()
    dataset = dataset[[layer.name for layer in root.spec.layers]]  # in the order in which they were asked for
    dataset.encoding["source"] = str(cube.absolute())
    dataset = dataset.assign_coords(step_facts([str(key) for key in keys.values], rows)).sortby(["time", "scene"])
    if chunks is None:
        return dataset
    sizes = dict(zip(("time", "y", "x"), (1, *root.spec.grid.shard), strict=True)) if chunks == "shards" else chunks
    return dataset.assign({name: layer.chunk(dict(sizes)) for name, layer in dataset.data_vars.items()})


def differences(one: Path, other: Path) -> list[str]:
    """What keeps two cubes from being the same; nothing if they are.

    They are the same when, in order of time, scene keys, item ids, status and stored pixels are equal. Job ids, paths,
    times of making and the order of slots do not count.
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
        for step, key in enumerate(mine["scene"].values):
            a, b = mine[layer.name][step].values, theirs[layer.name][step].values
            if not np.array_equal(a, b, equal_nan=floating):
                found.append(f"{layer.name} of {key}: {np.count_nonzero(a != b)} pixels differ")
    return found


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
