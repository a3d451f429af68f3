"""Files of pixels and of coordinates of one step, compared with what the ledger says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr
from zarr.storage import LocalStore

from stac2cube.cube.census import Census, Damage
from stac2cube.cube.files import read_plain
from stac2cube.cube.ledger import Entry
from stac2cube.cube.shard import checksum
from stac2cube.cube.staging import Shard


def look_at_shard(store: Path, path: str, shard: Shard, key: str, census: Census, *, deep: bool) -> Iterator[Damage]:
    """What is wrong with a file of pixels.

    Args:
        store: The cube, or the store of a year.
        path: Of the file in it.
        shard: What is known of it.
        key: Of its step.
        census: What lies there.
        deep: Compare its checksum too.
    """
    if path not in census.files:
        what = "there is something else" if path in census.others | census.folders else "not there"
        yield Damage("missing", path, key, f"{what}; {shard.valid} pixels")
        return
    size = census.files[path].st_size
    if size != shard.size:
        yield Damage("corrupt", path, key, f"{size} bytes instead of {shard.size}")
        return
    if not deep:
        return
    try:
        code = checksum(read_plain(store / path))
    except OSError as error:
        yield Damage("missing", path, key, f"not readable ({error.strerror}); {shard.valid} pixels")
        return
    if code != shard.checksum:
        yield Damage("corrupt", path, key, f"checksum {code} instead of {shard.checksum}")


def read_coordinates(store: Path) -> tuple[np.ndarray, np.ndarray]:
    """Time, in microseconds since 1970, and scene key of every step of a cube or the store of a year."""
    group = zarr.open_group(LocalStore(store, read_only=True), mode="r", use_consolidated=True)
    times, scenes = (np.asarray(group[name][:]) for name in ("time", "scene"))  # type: ignore[index]
    return times, scenes


def microseconds(row: Entry) -> int:
    """The time of a step as the coordinate has it."""
    return int(np.datetime64(row.time.replace(tzinfo=None), "us").astype("int64"))
