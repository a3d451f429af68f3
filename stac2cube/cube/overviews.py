"""Where the overviews of a cube lie: beside it, a Zarr group of its own that follows the convention ``multiscales``.

``alps.zarr`` has its overviews in ``alps.zarr.overviews/``: ``2``, ``4``, ``8`` ... are cubes whose pixels are so many
times as large, each with its own ledger and made from the one before; ``1`` is a link to the cube itself, so that the
group is the whole pyramid. The cube does not know of them: nothing that it does can hurt them, nor they it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stac2cube.cube.files import write_whole
from stac2cube.cube.folders import real_folder
from stac2cube.cube.root import CONVENTIONS, convention, placed, read_root
from stac2cube.errors import BadInputError

SUFFIX = ".overviews"

MULTISCALES = convention("multiscales", "d35379db-88df-4056-af3a-620245f8e347", "Levels of the pyramid")


def overviews_folder(cube: Path) -> Path:
    """Where the overviews of a cube lie, or would."""
    cube = cube.resolve()
    return cube.with_name(f"{cube.name}{SUFFIX}")


def levels_of(cube: Path) -> tuple[int, ...]:
    """Levels that a cube has: how many times as large their pixels are, ascending; without the cube itself."""
    folder = overviews_folder(cube)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return tuple(sorted(int(name) for name in names if name.isdigit() and name != "1"))


def level_path(cube: Path, level: int) -> Path:
    """The cube that holds a level of a cube; the cube itself for 1.

    Raises:
        BadInputError: It has no such level.
    """
    if level == 1:
        return cube
    there = levels_of(cube)
    if level not in there:
        have = f"there are 1, {', '.join(map(str, there))}" if there else f"make them: stac2cube overviews {cube}"
        raise BadInputError(f"{cube} has no level {level}: {have}")
    return overviews_folder(cube) / str(level)


def overviews_beside(cube: Path) -> list[Path]:
    """All levels of a cube, and the others of a cube that is a level itself."""
    folder = cube.parent if cube.parent.suffix == SUFFIX else overviews_folder(cube)
    return [path for path in sorted(folder.glob("[0-9]*")) if path.name.isdigit() and not path.is_symlink()]


def write_pyramid(cube: Path) -> Path:
    """Write, or write anew, the group that says which levels there are; its folder.

    Raises:
        CubeError: Not a cube.
    """
    folder, grid = real_folder(overviews_folder(cube)), read_root(cube).spec.grid
    folder.mkdir(exist_ok=True)
    for level in levels_of(cube):
        real_folder(folder / str(level))
    whole = folder / "1"
    if not whole.is_symlink():
        whole.symlink_to(Path("..") / cube.name)
    layout: list[dict[str, Any]] = []
    for level in (1, *levels_of(cube)):
        own = read_root(level_path(cube, level)).spec.grid
        entry: dict[str, Any] = {"asset": str(level)}
        if layout:
            step = level / int(layout[-1]["asset"])
            entry |= {"derived_from": layout[-1]["asset"], "transform": {"scale": [step, step]}}
        layout.append(entry | {"spatial:shape": list(own.shape), "spatial:transform": list(own.transform)})
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {
            "zarr_conventions": [MULTISCALES, *CONVENTIONS],
            "multiscales": {"layout": layout, "resampling_method": "average"},
            **placed(grid),
        },
    }
    write_whole(folder / "zarr.json", json.dumps(document, indent=1).encode())
    return folder
