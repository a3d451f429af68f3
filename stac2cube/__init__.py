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
    from stac2cube.stages.clouds import get_cloud_layers
    from stac2cube.stages.composed import Composition, store_composites
    from stac2cube.stages.coregister import coregister_scenes, move_scenes
    from stac2cube.stages.indexed import store_indices
    from stac2cube.stages.layers import get_stac_layers
    from stac2cube.stages.masked import apply_masks
    from stac2cube.stages.shift_rules import ShiftRules
    from stac2cube.stages.superres import super_resolution
    from stac2cube.stages.superres_rules import SuperresRules
    from stac2cube.status import CubeStatus, cube_status
    from stac2cube.views.classes import class_mask, mask_classes
    from stac2cube.views.clouds import mask_clouds
    from stac2cube.views.colour import rgb
    from stac2cube.views.composite import composite
    from stac2cube.views.mask_recipes import Hiding, mask_by
    from stac2cube.views.physical import from_db, to_celsius, to_db, to_kelvin, to_reflectance, to_stack
    from stac2cube.views.speckle import despeckle
    from stac2cube.views.spectral import indices
    from stac2cube.views.terrain import aspect, hillshade, slope

__version__ = "0.1.0"

_HOMES = {
    "Allocation": "stac2cube.places.allocation",
    "Composition": "stac2cube.stages.composed",
    "CubeStatus": "stac2cube.status",
    "Hiding": "stac2cube.views.mask_recipes",
    "Local": "stac2cube.places.local",
    "ShiftRules": "stac2cube.stages.shift_rules",
    "Slurm": "stac2cube.places.slurm",
    "SuperresRules": "stac2cube.stages.superres_rules",
    "Threads": "stac2cube.places.threads",
    "apply_masks": "stac2cube.stages.masked",
    "aspect": "stac2cube.views.terrain",
    "class_mask": "stac2cube.views.classes",
    "coregister_scenes": "stac2cube.stages.coregister",
    "composite": "stac2cube.views.composite",
    "cube_status": "stac2cube.status",
    "despeckle": "stac2cube.views.speckle",
    "find_site": "stac2cube.site",
    "from_db": "stac2cube.views.physical",
    "get_cloud_layers": "stac2cube.stages.clouds",
    "get_stac_layers": "stac2cube.stages.layers",
    "hillshade": "stac2cube.views.terrain",
    "indices": "stac2cube.views.spectral",
    "mask_by": "stac2cube.views.mask_recipes",
    "mask_classes": "stac2cube.views.classes",
    "mask_clouds": "stac2cube.views.clouds",
    "move_scenes": "stac2cube.stages.coregister",
    "open_cube": "stac2cube.cube.reader",
    "rgb": "stac2cube.views.colour",
    "slope": "stac2cube.views.terrain",
    "store_composites": "stac2cube.stages.composed",
    "store_indices": "stac2cube.stages.indexed",
    "super_resolution": "stac2cube.stages.superres",
    "to_celsius": "stac2cube.views.physical",
    "to_db": "stac2cube.views.physical",
    "to_kelvin": "stac2cube.views.physical",
    "to_reflectance": "stac2cube.views.physical",
    "to_stack": "stac2cube.views.physical",
}

__all__ = [
    "Allocation",
    "Composition",
    "CubeStatus",
    "Hiding",
    "Local",
    "ShiftRules",
    "Slurm",
    "SuperresRules",
    "Threads",
    "__version__",
    "apply_masks",
    "aspect",
    "class_mask",
    "composite",
    "coregister_scenes",
    "cube_status",
    "despeckle",
    "find_site",
    "from_db",
    "get_cloud_layers",
    "get_stac_layers",
    "hillshade",
    "indices",
    "mask_by",
    "mask_classes",
    "mask_clouds",
    "move_scenes",
    "open_cube",
    "rgb",
    "slope",
    "store_composites",
    "store_indices",
    "super_resolution",
    "to_celsius",
    "to_db",
    "to_kelvin",
    "to_reflectance",
    "to_stack",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stac2cube' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
