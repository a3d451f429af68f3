"""Lost files of a cube, brought back from the store of a sealed year: the same pixels, and nothing else is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stac2cube.build import build
from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.root import read_root
from stac2cube.cube.shard import open_array
from stac2cube.cube.spec import Layer
from stac2cube.cube.years import PIXELS_OF, pixels_of, year_stores
from stac2cube.errors import ReadError
from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.work import Block, Orders, Step, Summary


@dataclass(frozen=True)
class Kept:
    """A step as the store of a year has it.

    Attributes:
        store: Path of the store.
        place: Of the step in it.
    """

    store: str
    place: int


@dataclass(frozen=True)
class ReadKept:
    """The task.

    Attributes:
        layers: Of the cube.
    """

    layers: tuple[Layer, ...]

    def __call__(self, kept: Kept, block: Block) -> dict[str, np.ndarray]:
        """Pixels of one block.

        Raises:
            ReadError: The store cannot be read.
        """
        rows, columns = block.grid.window(block.tile)
        try:
            return {
                layer.name: np.asarray(open_array(Path(kept.store) / layer.name)[kept.place, rows, columns])
                for layer in self.layers
            }
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ReadError(f"{kept.store}: {error}") from error


def restore(
    cube: Path,
    keys: Collection[str],
    damaged: Collection[int],
    place: Place,
    orders: Orders,
    progress: Progress | None = None,
) -> Summary:
    """Bring steps back from sealed years, as far as these have them.

    Args:
        cube: The cube.
        keys: Of steps whose files are damaged.
        damaged: Years whose own stores are, and are not asked.
        place: Where the work runs.
        orders: How.
        progress: Told of every block.

    Returns:
        A summary that names the steps brought back as replaced.
    """
    root = read_root(cube)
    rows = Ledger(cube, root.ledger).entries(keys=keys)
    by_slot = {int(row.slot or 0): row for row in rows.values()}
    steps = [
        Step(_again(by_slot[slot]), Kept(str(store.path), there), _tiles(by_slot[slot]))
        for store in year_stores(cube, root)
        if store.year not in damaged
        for slot, there in store.places(rows).items()
    ]
    if not steps:
        return Summary()
    how = replace(orders, superseded="replace", again=frozenset(step.entry.key for step in steps))
    return build(cube, root.spec, steps, ReadKept(root.spec.layers), place, orders=how, progress=progress)


def _again(row: Entry) -> Entry:
    """The row of a step made anew from its own pixels: whoever has these need not read them again."""
    return replace(row, receipts=(), properties={**row.properties, PIXELS_OF: pixels_of(row)})


def _tiles(row: Entry) -> tuple[tuple[int, int], ...]:
    filled: Mapping[tuple[int, int], bool] = {
        receipt.tile: any(shard.valid for shard in receipt.shards) for receipt in row.receipts
    }
    return tuple(tile for tile, valid in filled.items() if valid)
