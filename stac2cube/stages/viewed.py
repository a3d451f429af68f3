"""Some steps of a cube as views want them, for the workers that store what views show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stac2cube.cube.ledger import Entry
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec
from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.stages.follow import Parent
from stac2cube.views.mask_recipes import Hiding

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Viewed:
    """A cube of which some pixels are hidden.

    Attributes:
        parent: The cube.
        hiding: What is hidden.
        rows: Its sealed steps that can be seen, oldest first, by key: those that the clouds cube has too. Their parts
            are of both, so that a step whose clouds are made anew is out of date.
        clouds: What the clouds cube is, None where there is none.
    """

    parent: Parent
    hiding: Hiding
    rows: Mapping[str, Entry]
    clouds: CubeSpec | None = None

    @classmethod
    def read(cls, layers: Path, hiding: Hiding) -> Viewed:
        """Look at a cube and its clouds.

        Raises:
            CubeError: Not a cube.
            CubeMismatchError: The clouds lie on another grid.
            BadInputError: No step yet, or none that has clouds.
        """
        parent = Parent.read(layers)
        if not hiding.clouds:
            return cls(parent, hiding, parent.rows)
        sky = Parent.read(hiding.clouds)
        if sky.spec.grid != parent.spec.grid:
            raise CubeMismatchError(
                f"{layers} and {hiding.clouds} lie on different grids: make the clouds from this cube"
            )
        rows = {
            key: replace(row, parts={**row.parts, **_of_clouds(sky.rows[key])})
            for key, row in parent.rows.items()
            if key in sky.rows
        }
        if not rows:
            raise BadInputError(f"{hiding.clouds} has none of the steps of {layers}: update it first")
        return cls(parent, replace(hiding, clouds=str(sky.path)), rows, sky.spec)

    def window(self, *keys: str) -> Window:
        """Some of its steps, for a worker."""
        cubes = [str(self.parent.path), *([self.hiding.clouds] if self.hiding.clouds else [])]
        commits = tuple(read_root(Path(cube)).commit for cube in cubes)
        return Window(str(self.parent.path), commits, keys, self.hiding)

    def about(self) -> dict[str, Any]:
        """What the recipe of the new cube shall say of what is hidden."""
        mask = {"mask": self.hiding.mask} if self.hiding.mask else {}
        return mask | ({} if self.clouds is None else {"clouds": dict(self.clouds.recipe)})

    def request(self) -> dict[str, str]:
        """Where the parents are."""
        clouds = {"clouds": self.hiding.clouds} if self.hiding.clouds else {}
        return {"layers": str(self.parent.path), **clouds}

    @staticmethod
    def hiding_of(spec: CubeSpec) -> Hiding:
        """What a cube remembers of what is hidden."""
        return Hiding(spec.recipe.get("mask", ""), spec.request.get("clouds", ""))


@dataclass(frozen=True)
class Window:
    """Some steps of a cube, for a worker.

    Attributes:
        cube: Its path.
        commits: Of the states, its own and its clouds', that were planned with.
        keys: Of the steps.
        hiding: What is hidden of them.
    """

    cube: str
    commits: tuple[int, ...]
    keys: tuple[str, ...]
    hiding: Hiding = Hiding()  # noqa: RUF009 - it is frozen

    def open(self, rows: slice, columns: slice) -> xr.Dataset:
        """The steps within some rows and columns of the grid, decoded, lazily."""
        dataset = _opened(self.cube, self.commits)
        known = {key: place for place, key in enumerate(dataset["scene"].values)}
        part = dataset.isel(time=[known[key] for key in self.keys], y=rows, x=columns)
        return self.hiding.apply(part) if self.hiding else part


@lru_cache(maxsize=4)
def _opened(cube: str, commits: tuple[int, ...]) -> xr.Dataset:  # noqa: ARG001 - other commits are another cube
    from stac2cube.cube.reader import open_cube

    return open_cube(cube, chunks=None)


def _of_clouds(row: Entry) -> dict[str, str]:
    return {f"clouds {part}": version for part, version in row.parts.items()}
