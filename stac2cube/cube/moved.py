"""Where the cubes lie that a cube remembers by their paths, also after all of them were moved together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CUBES = ("layers", "clouds", "shifts", "source")
"""Words of a request that may be the path of another cube."""


def found_again(cube: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """What a cube remembers of its making, with the paths of other cubes as they are now.

    A path at which there is no cube any more means the cube of that name beside this one, if there is one: an archive
    that is moved keeps its cubes together.

    Args:
        cube: The cube that remembers.
        request: What it remembers.
    """
    return {word: _now(cube, value) if word in _CUBES else value for word, value in request.items()}


def _now(cube: Path, remembered: Any) -> Any:
    if not isinstance(remembered, str) or not remembered.startswith("/") or _is_cube(Path(remembered)):
        return remembered
    here = cube.resolve().parent
    # A level of overviews lies in a folder beside the cube that it was made from, or beside the level before it.
    beside = (here / Path(remembered).name, here.parent / Path(remembered).name)
    there = [path for path in (beside if here.suffix == ".overviews" else beside[:1]) if _is_cube(path)]
    return str(there[0]) if there else remembered


def _is_cube(path: Path) -> bool:
    return (path / "zarr.json").exists()
