"""What cubes made from other cubes have in common: parents, outdated steps, removing steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stac2cube.build.plan import PARENT, BuildOptions
from stac2cube.errors import BadInputError
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.grid import Tile
from stac2cube.store.ledger import PERIOD_END, SEALED, Entry, Ledger
from stac2cube.store.metadata import Root, overviews_beside, read_root
from stac2cube.store.repair import arrange
from stac2cube.store.staging import StoredStep
from stac2cube.store.writer import open_writer

# A cube made from a cube: what it takes over from its parent, and when a step of it is out of date.

CARRIED = (
    *("platform", "orbit", "orbit_state", "cloud_cover", "catalog", "simulated", "baselines", PERIOD_END),
    *("shift_x", "shift_y", "shift_accepted", "shift_field"),
)
"""Properties of a step that are true of it in every cube made from it."""


@dataclass(frozen=True)
class Parent:
    """A cube from which another is made.

    Attributes:
        path: Absolute.
        spec: What it is.
        rows: Its sealed steps, oldest first, by key.
        generation: Of the cube, in which the steps have their slots.
    """

    path: Path
    spec: CubeSpec
    rows: Mapping[str, Entry]
    generation: int

    @classmethod
    def read(cls, path: str | Path) -> Parent:
        """Look at a cube.

        Raises:
            CubeError: Not a cube.
            BadInputError: It has no step yet.
        """
        cube = Path(path).resolve()
        root = read_root(cube)
        rows = Ledger(cube, root.ledger).sealed()
        if not rows:
            raise BadInputError(f"{path} has no step yet")
        return cls(cube, root.spec, rows, root.generation)

    @property
    def mission(self) -> str:
        """Name of its mission, "" if it is of none."""
        return str(self.spec.recipe.get("mission", ""))

    def stored(self, row: Entry) -> StoredStep:
        """The pixels of a step."""
        return StoredStep(str(self.path), int(row.slot or 0), self.generation)

    def entry(self, row: Entry, **properties: Any) -> Entry:
        """What the ledger of the child shall say of a step.

        The parent's parts with their versions are the child's: when the parent's step is made anew from newer ones, the
        child's is out of date.
        """
        return Entry(
            key=row.key,
            time=row.time,
            status=SEALED,
            items=row.items,
            parts={f"{PARENT}{part}": version for part, version in row.parts.items()},
            footprint=row.footprint,
            properties={**{name: row.properties[name] for name in CARRIED if name in row.properties}, **properties},
        )

    def tiles(self, row: Entry) -> tuple[Tile, ...]:
        """Blocks in which a step has data, in the order of the grid."""
        filled = {receipt.tile for receipt in row.receipts if any(shard.valid for shard in receipt.shards)}
        return tuple(tile for tile in self.spec.grid.tiles() if tile in filled)


def origin(path: Path) -> Path:
    """The layers cube from which a cube was made, over however many stages; itself if it is one.

    Raises:
        CubeError: Not a cube, or its parent is gone.
        BadInputError: It was not made from layers.
    """
    spec = read_root(path).spec
    while spec.stage != "layers":
        if "layers" not in spec.request:
            raise BadInputError(f"{path} is a cube of stage {spec.stage!r}, made from no layers")
        path = Path(spec.request["layers"])
        spec = read_root(path).spec
    return path


# Taking steps out of a cube.


def drop(cube: Path, keys: Collection[str], *, orders: BuildOptions | None = None) -> Root | None:
    """Take steps out of a cube; its history keeps them. None where it has none of them."""
    with open_writer(cube, read_root(cube).spec, (orders or BuildOptions()).verdict) as writer:
        sealed = writer.ledger.sealed(whole=False)
        kept = [key for key in sealed if key not in keys]
        return arrange(writer, kept) if len(kept) < len(sealed) else None


# What kinds of cubes that are made from others have in common, for those who bring all along.


def sealed_keys(cube: Path) -> set[str]:
    """Keys of the sealed steps of a cube."""
    return set(Ledger(cube, read_root(cube).ledger).sealed(whole=False))


class CubesBeside:
    """What kinds that are cubes have in common."""

    def candidates(self, cube: Path) -> Iterable[Path]:
        """Stores beside a cube, and its overviews."""
        return [*sorted(cube.parent.glob("*.zarr")), *overviews_beside(cube)]

    def too_many(self, cube: Path, keys: Collection[str]) -> set[str]:
        """Steps whose scenes the parent has no more; a composite's steps are periods of time, not scenes."""
        return set() if read_root(cube).spec.stage == "composite" else sealed_keys(cube) - set(keys)

    def drop(self, cube: Path, keys: Collection[str], orders: BuildOptions) -> None:
        """Take steps out."""
        drop(cube, keys, orders=orders)

    def is_last(self, cube: Path) -> bool:
        """Whether it needs the clouds of another."""
        return bool(read_root(cube).spec.request.get("clouds"))
