"""Files of a cube are equal, byte for byte, whichever Python and releases of libraries made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from stac2cube.model.cube_spec import Layer
from stac2cube.store.staging import create_array, fast_pipeline, shard_file, write_shard_file
from tests.build.toy import GRID
from tests.store.digests import LAYERS, made, stored

KNOWN = json.loads(Path(__file__).with_name("digests.json").read_text())


def test_files_are_those_of_every_other_installation(tmp_path: Path) -> None:
    """Shards and coordinates; another zstd may pack the same pixels otherwise, then these must be equal."""
    mine = made(tmp_path)
    assert mine["pixels"] == KNOWN["pixels"]
    assert mine["files"].keys() == KNOWN["files"].keys()
    packed = mine["zstd"] != KNOWN["zstd"]
    other = [name for name, digest in mine["files"].items() if digest != KNOWN["files"][name]]
    assert not [name for name in other if not packed or name.endswith("zarr.json")]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.dtype)
def test_shards_are_those_that_zarrs_makes(layer: Layer, tmp_path: Path) -> None:
    """By one thread; several would put each chunk where it is ready."""
    create_array(LocalStore(tmp_path), layer, GRID, 1)
    mine, pixels = tmp_path / layer.name, stored(layer, 1)[np.newaxis]
    for tile in GRID.tiles():
        write_shard_file(mine, tile, pixels[:, *GRID.window(tile)])
    ours = {tile: shard_file(mine / "c" / "0", tile).read_bytes() for tile in GRID.tiles()}
    with fast_pipeline(writing=True):
        theirs = zarr.open_array(LocalStore(mine), mode="r+")
    for tile in GRID.tiles():
        shard_file(mine / "c" / "0", tile).unlink()
    theirs[:] = pixels
    assert {tile: shard_file(mine / "c" / "0", tile).read_bytes() for tile in GRID.tiles()} == ours
    np.testing.assert_array_equal(zarr.open_array(LocalStore(mine), mode="r")[:], pixels)
