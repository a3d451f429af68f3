"""The fixed coordinates of a cube, x, y and the grid mapping: what their files must hold follows from the grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

from stac2cube.cube.census import Census, Damage
from stac2cube.cube.creation import write_axes
from stac2cube.errors import CubeError
from stac2cube.grid import Grid

AXES = ("x", "y", "spatial_ref")

UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError)
"""What zarr and its codecs raise at bytes that are none of theirs."""

_CLOSE = 1e-6
"""Part of a pixel by which a centre may differ: processors round differently."""


def axis_files(grid: Grid) -> dict[str, bytes]:
    """The files of pixels of the fixed coordinates, by path within a cube."""
    return {path: content for path, content in _written(grid).items() if not path.endswith("zarr.json")}


def look_at_axes(store: Path, grid: Grid, census: Census) -> Iterator[Damage]:
    """What is wrong with the fixed coordinates of a cube or the store of a year."""
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
    """Refuse a cube whose file of x or y is lost, which reads as zeros, or is another's.

    Args:
        cube: Its path, for the message.
        grid: Its grid.
        x: ``(columns,)`` pixel centres as they were read.
        y: ``(rows,)`` pixel centres as they were read.

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
    files: dict[str, Buffer] = {}
    write_axes(zarr.create_group(MemoryStore(files)), grid)
    return {path: buffer.to_bytes() for path, buffer in files.items()}


def _read(store: MemoryStore) -> dict[str, np.ndarray]:
    group = zarr.open_group(store, mode="r")
    return {name: np.asarray(group[name][...]) for name in AXES}  # type: ignore[index]


def _buffer(content: bytes) -> Buffer:
    return default_buffer_prototype().buffer.from_bytes(content)
