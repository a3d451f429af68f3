"""stac2cube: satellite catalogs to analysis-ready Zarr cubes that can be extended safely for years.

The public face. Names are imported when first used, so that ``import stac2cube`` stays quick on a login node.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stac2cube.cube.reader import open_cube
    from stac2cube.places.allocation import Allocation
    from stac2cube.places.local import Local
    from stac2cube.places.slurm import Slurm
    from stac2cube.places.threads import Threads
    from stac2cube.site import find_site
    from stac2cube.stages.layers import get_stac_layers
    from stac2cube.status import CubeStatus, cube_status

__version__ = "0.1.0"

_HOMES = {
    "Allocation": "stac2cube.places.allocation",
    "CubeStatus": "stac2cube.status",
    "Local": "stac2cube.places.local",
    "Slurm": "stac2cube.places.slurm",
    "Threads": "stac2cube.places.threads",
    "cube_status": "stac2cube.status",
    "find_site": "stac2cube.site",
    "get_stac_layers": "stac2cube.stages.layers",
    "open_cube": "stac2cube.cube.reader",
}

__all__ = [
    "Allocation",
    "CubeStatus",
    "Local",
    "Slurm",
    "Threads",
    "__version__",
    "cube_status",
    "find_site",
    "get_stac_layers",
    "open_cube",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stac2cube' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
