"""A shard: patches that are stored together, and how their pixels are got."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from stac2cube.cube.files import remove_tree, sync_folder, sync_tree
from stac2cube.cube.points import passing
from stac2cube.training.patches import Stack
from stac2cube.training.statistics import Statistics


@dataclass(frozen=True)
class Kept:
    """A patch that goes into a shard.

    Attributes:
        stack: Where its pixels are.
        facts: Its row of the table, plain JSON values.
    """

    stack: Stack
    facts: Mapping[str, Any]

    @property
    def json(self) -> bytes:
        """The facts, always in the same order."""
        return json.dumps(dict(self.facts), sort_keys=True).encode()


@dataclass(frozen=True)
class Shard:
    """What a worker needs to write a shard.

    Attributes:
        patches: In order.
        most: Patches that a full shard holds.
        size: Edge of a patch, pixels.
        bands: Their names.
        flat: Whether patches have one frame and no axis of time.
        statistics: Patches are clipped and standardised by them; None for physical values.
    """

    patches: tuple[Kept, ...]
    most: int
    size: int
    bands: tuple[str, ...]
    flat: bool
    statistics: Statistics | None

    def __str__(self) -> str:
        first = self.patches[0].facts
        return f"shard of {first['split']} that begins with {first['id']}"

    def pixels(self) -> Iterator[tuple[Kept, np.ndarray, np.ndarray | None]]:
        """Each patch with ``x`` ``([time,] bands, rows, columns)`` float32 and ``y`` ``([time,] rows, columns)`` uint8.

        Without data x is NaN; standardised it is 0, the mean of all.

        Raises:
            ReadError: A file is gone or damaged.
        """
        for kept in self.patches:
            row, column = kept.facts["row"], kept.facts["column"]
            read = kept.stack.read(slice(row, row + self.size), slice(column, column + self.size))
            x = read.values if self.statistics is None else self.statistics.standardised(read.values, axis=1)
            y = read.labels
            if self.flat:
                x, y = x[0], None if y is None else y[0]
            yield kept, x, y


class Writer(Protocol):
    """How shards are stored."""

    def where(self, root: Path, split: str, number: int) -> Path:
        """The file or folder whose being there says that a shard is there, whole."""
        ...

    def write(self, shard: Shard, out: Path) -> None:
        """Write a shard, atomically; runs on a worker. The same shard gives the same bytes."""
        ...

    def finish(self, root: Path, split: str, shards: Shard, count: int) -> None:
        """All shards of a split are there: write what makes them one.

        Args:
            root: The folder.
            split: The split.
            shards: Any one of its shards.
            count: Patches of the split.
        """
        ...


@contextmanager
def partial_beside(out: Path) -> Iterator[Path]:
    """A name beside a folder to be made, for :func:`move_in`; what is left there goes, however the block ends."""
    partial = out.with_name(f".{out.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial
    finally:
        remove_tree(partial)  # a full disk needs what it took


def move_in(partial: Path, out: Path) -> None:
    """A finished folder becomes durable and gets its name in one step."""
    sync_tree(partial)
    passing("shard.made")
    if out.exists():  # somebody else made the same one meanwhile
        remove_tree(partial)
        return
    partial.rename(out)
    passing("shard.named")
    sync_folder(out.parent)
