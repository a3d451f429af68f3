"""Create a store: metadata of its arrays, attributes, constant coordinates."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.errors import CubeError
from stac2cube.model.cube_spec import FORMAT, CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.files import passing, remove_tree, sync_folder, tell_shortcomings
from stac2cube.store.lock import CubeLock
from stac2cube.store.metadata import CONVENTIONS, COORDINATE_CHUNK, GRID_MAPPING, OWN, hide_own, now_text, placed
from stac2cube.store.records import Census, Damage
from stac2cube.store.staging import create_array
from stac2cube.version import __version__

if TYPE_CHECKING:
    import zarr
    from zarr.abc.buffer import Buffer
    from zarr.storage import MemoryStore

# A new store: the metadata of its arrays, its attributes, and its constant coordinates.


def create_cube(path: Path, spec: CubeSpec, lock: CubeLock) -> None:
    """Create an empty cube: build it completely under another name, then rename it into place."""
    making = path.with_name(f".{path.name}.making")
    remove_tree(making)
    try:
        making.mkdir()
        tell_shortcomings(making)
        write_empty_cube(making, spec)
        lock.enter(making)
        passing("create.filled")
        sync_folder(making)
        making.rename(path)
    finally:
        remove_tree(making)  # still there if the disk is full: frees its space
    sync_folder(path.parent)
    passing("create.renamed")


def write_empty_cube(folder: Path, spec: CubeSpec) -> None:
    """Write the metadata and the constant coordinates of a cube without steps into a new folder."""
    own = {"commit": 0, "generation": 0, "ledger": [], "made": now_text()}
    write_store(folder, spec, own, 0, lambda store, layer: create_array(store, layer, spec.grid, steps=0))


def write_store(
    folder: Path, spec: CubeSpec, own: Mapping[str, Any], steps: int, create: Callable[[MemoryStore, Layer], None]
) -> None:
    """Write the metadata and the constant coordinates of a store with a cube's layers into a new folder.

    Args:
        folder: The new folder.
        spec: Spec of the cube.
        own: stac2cube's attributes besides the format and the spec.
        steps: Length of the time dimension.
        create: Creates the array of a layer.
    """
    import zarr
    from zarr.buffer import cpu
    from zarr.storage import MemoryStore

    # In memory first: zarr creates files of new arrays by hard links, which some file systems lack.
    files: dict[str, Buffer] = {}
    store = MemoryStore(files)
    group = zarr.create_group(store, attributes=_attributes(spec, own))
    group.create_group(OWN)
    write_axes(group, spec.grid)
    group.create_array(
        "time",
        shape=(steps,),
        chunks=(COORDINATE_CHUNK,),
        dtype="int64",
        dimension_names=("time",),
        fill_value=np.iinfo("int64").min,
        attributes={
            "standard_name": "time",
            "long_name": "acquisition time, UTC",
            "units": "microseconds since 1970-01-01",
            "calendar": "proleptic_gregorian",
            "units_metadata": "leap_seconds: none",
        },
    )
    group.create_array(
        "scene",
        shape=(steps,),
        chunks=(COORDINATE_CHUNK,),
        dtype="string",
        dimension_names=("time",),
        attributes={"long_name": "key of the scene: platform, relative orbit, solar day"},
    )
    for layer in spec.layers:
        create(store, layer)
        metadata = zarr.open_array(store, path=layer.name)
        metadata.attrs["coordinates"] = "scene spatial_ref"
    with warnings.catch_warnings():
        # Consolidated metadata makes a commit a single rename. The warning that its place in the Zarr 3 specification
        # is pending is of no use to users.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(store)
    root = json.loads(files["zarr.json"].to_bytes())
    hide_own(root)
    files["zarr.json"] = cpu.Buffer.from_bytes(json.dumps(root, indent=2).encode())
    for key, content in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content.to_bytes())
            if key == "zarr.json" or not key.endswith("/zarr.json"):
                # Every writer rewrites the metadata of arrays to match the root; these files are never written again.
                file.flush()
                os.fsync(file.fileno())


def write_axes(group: zarr.Group, grid: Grid) -> None:
    """Write pixel centres x and y, and the CF grid mapping, as CF 1.11 and GDAL describe a grid."""
    from pyproj import CRS

    crs = CRS.from_user_input(grid.crs)
    described = {axis["axis"]: axis for axis in crs.cs_to_cf()}
    for name, place, length in (("y", 5, grid.shape[0]), ("x", 2, grid.shape[1])):
        start, step = grid.transform[place], grid.transform[place - 1 if name == "y" else 0]
        values = start + step * (np.arange(length) + 0.5)
        attributes = {key: described[name.upper()][key] for key in ("axis", "standard_name", "long_name", "units")}
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=values.shape,
            dtype="float64",
            dimension_names=(name,),
            attributes=attributes,
        )
        array[:] = values
    mapping = crs.to_cf() | {
        "long_name": "coordinate reference system",
        "spatial_ref": crs.to_wkt(),
    }
    reference = group.create_array(GRID_MAPPING, shape=(), dtype="int32", dimension_names=(), attributes=mapping)
    reference[...] = crs.to_epsg() or 0


def _attributes(spec: CubeSpec, own: Mapping[str, Any]) -> dict[str, Any]:
    grid = spec.grid
    return {
        "Conventions": "CF-1.11",
        "title": str(spec.recipe.get("title", f"stac2cube {spec.stage}")),
        "history": f"{now_text()} created by stac2cube {__version__}; each step's making is in the ledger",
        "zarr_conventions": CONVENTIONS,
        **placed(grid),
        "stac2cube": {
            "format": FORMAT,
            "version": __version__,
            "spec": spec.to_json(),
            **own,
        },
    }


# The constant coordinates of a cube (x, y and the grid mapping): the content of their files follows from the grid.

AXES = ("x", "y", "spatial_ref")

UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError)
"""Errors of zarr and its codecs for invalid bytes."""

_CLOSE = 1e-6
"""Tolerance for pixel centres, as a fraction of a pixel: processors round differently."""


def axis_files(grid: Grid) -> dict[str, bytes]:
    """The chunk files of the constant coordinates, by path within a cube."""
    return {path: content for path, content in _written(grid).items() if not path.endswith("zarr.json")}


def look_at_axes(store: Path, grid: Grid, census: Census) -> Iterator[Damage]:
    """Damage to the constant coordinates of a cube or of the store of a year."""
    import zarr
    from zarr.storage import LocalStore, MemoryStore

    wanted = _read(MemoryStore({path: _buffer(content) for path, content in _written(grid).items()}))
    for path in axis_files(grid):
        name = path.split("/", 1)[0]
        if path not in census.files:
            yield Damage("coordinate", path, "", f"{name} is lost: plain readers see zeros")
            continue
        try:
            there = np.asarray(zarr.open_group(LocalStore(store, read_only=True), mode="r")[name][...])  # type: ignore[index]
        except UNREADABLE as error:
            yield Damage("coordinate", path, "", f"{name} cannot be read: {' '.join(str(error).split())[:120]}")
            continue
        step = abs(grid.transform[4] if name == "y" else grid.transform[0])
        if there.shape != wanted[name].shape or not np.allclose(there, wanted[name], rtol=0, atol=_CLOSE * step):
            yield Damage("coordinate", path, "", f"{name} is not that of the grid: every pixel seems to lie elsewhere")


def require_axes(cube: Path, grid: Grid, x: np.ndarray, y: np.ndarray) -> None:
    """Refuse a cube whose file of x or y is lost, which reads as zeros, or belongs to another cube.

    Args:
        cube: Its path, for the message.
        grid: Its grid.
        x: ``(columns,)`` pixel centres as read.
        y: ``(rows,)`` pixel centres as read.

    Raises:
        CubeError: They are not those of the grid.
    """
    for name, values, place in (("x", x, 2), ("y", y, 5)):
        start, step = grid.transform[place], grid.transform[0 if name == "x" else 4]
        ends = start + step * (np.array([0, values.size - 1]) + 0.5)
        if not np.allclose(values[[0, -1]], ends, rtol=0, atol=abs(step) / 1000):
            raise CubeError(
                f"{cube}: {name} is not that of its grid; its file is lost or damaged: stac2cube verify {cube} --repair"
            )


@lru_cache(maxsize=16)
def _written(grid: Grid) -> Mapping[str, bytes]:
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Buffer] = {}
    write_axes(zarr.create_group(MemoryStore(files)), grid)
    return {path: buffer.to_bytes() for path, buffer in files.items()}


def _read(store: MemoryStore) -> dict[str, np.ndarray]:
    import zarr

    group = zarr.open_group(store, mode="r")
    return {name: np.asarray(group[name][...]) for name in AXES}  # type: ignore[index]


def _buffer(content: bytes) -> Buffer:
    from zarr.buffer import default_buffer_prototype

    return default_buffer_prototype().buffer.from_bytes(content)
