"""Taking steps out of a cube."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from stac2cube.cube.rearrange import arrange
from stac2cube.cube.root import Root, read_root
from stac2cube.cube.writer import open_writer
from stac2cube.work import Orders


def drop(cube: Path, keys: Collection[str], *, orders: Orders | None = None) -> Root | None:
    """Take steps out of a cube; its history keeps them. None where it has none of them."""
    with open_writer(cube, read_root(cube).spec, (orders or Orders()).verdict) as writer:
        sealed = writer.ledger.sealed(whole=False)
        kept = [key for key in sealed if key not in keys]
        return arrange(writer, kept) if len(kept) < len(sealed) else None
