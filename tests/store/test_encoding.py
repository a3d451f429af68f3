"""Shards encoded chunk by chunk, read back by zarr's own pipeline and by zarrs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from stac2cube.errors import CubeError
from stac2cube.model.cube_spec import Layer
from stac2cube.model.grid import Grid
from stac2cube.store.staging import create_array, format_of, open_array, shard_file

GRID = Grid("EPSG:32632", 10.0, (500000.0, 5000000.0), (300, 420), chunk=(64, 64), shard=(256, 256))


def created(folder: Path, layer: Layer, steps: int, **sizes: tuple[int, int, int]) -> Path:
    create_array(LocalStore(folder), layer, GRID, steps, **sizes)
    return folder / layer.name


def textured(shape: tuple[int, ...], dtype: str, fill: float) -> np.ndarray:
    """With holes of single pixels, and one of whole chunks."""
    rng = np.random.default_rng(4)
    pixels = (rng.random(shape) ** 4 * 100).astype(dtype)
    pixels[rng.random(shape) < 0.1] = fill
    pixels[:, 64:192, 64:192] = fill
    return pixels


def written(array: Path, pixels: np.ndarray) -> dict[tuple[int, int], int]:
    """Every shard of an array whose shards hold all its steps; bytes of each."""
    sizes = {}
    for tile in GRID.tiles():
        rows, columns = GRID.window(tile)
        content = b"".join(format_of((array / "zarr.json").read_bytes()).encode(pixels[:, rows, columns]))
        file = shard_file(array / "c" / "0", tile)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        sizes[tile] = len(content)
    return sizes


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("uint8", 0), ("uint16", 0), ("int16", -9999), ("int32", 0), ("float32", float("nan")), ("float64", -1.0)],
)
@pytest.mark.parametrize("steps", [1, 5])
def test_other_libraries_read_the_same_pixels(dtype: str, fill: float, steps: int, tmp_path: Path) -> None:
    layer = Layer("layer", dtype, fill)
    array = created(tmp_path, layer, steps, chunk=(steps, 64, 64), shard=(steps, 256, 256))
    pixels = textured((steps, *GRID.shape), dtype, fill)
    written(array, pixels)
    np.testing.assert_array_equal(open_array(array)[:], pixels)
    np.testing.assert_array_equal(zarr.open_array(LocalStore(array), mode="r")[:], pixels)


def test_chunks_without_data_take_no_room(tmp_path: Path) -> None:
    array = created(tmp_path, Layer("layer", "uint16", 0), 1)
    pixels = np.zeros((1, *GRID.shape), "uint16")
    pixels[0, 0, 0] = 1
    sizes = written(array, pixels)
    index = 16 * 16 + 4
    assert sizes[1, 1] == index
    assert index < sizes[0, 0] < 2 * index


def test_a_float_that_only_equals_the_fill_is_kept(tmp_path: Path) -> None:
    array = created(tmp_path, Layer("layer", "float32", 0.0), 1)
    written(array, np.full((1, *GRID.shape), -0.0, "float32"))
    assert np.signbit(open_array(array)[:]).all()


@pytest.mark.parametrize("change", ["compressor", "index", "plain"])
def test_arrays_packed_otherwise_are_refused(change: str, tmp_path: Path) -> None:
    metadata = json.loads((created(tmp_path, Layer("layer", "uint16", 0), 1) / "zarr.json").read_bytes())
    words = metadata["codecs"][0]["configuration"]
    if change == "compressor":
        words["codecs"][1] = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
    elif change == "index":
        words["index_location"] = "start"
    else:
        metadata["codecs"] = words["codecs"]
    with pytest.raises(CubeError, match="packed in a way"):
        format_of(json.dumps(metadata).encode())
