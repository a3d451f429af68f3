"""stac2cube: satellite catalogs to analysis-ready Zarr cubes that can be extended safely for years.

The public face. Names are imported when first used, so that ``import stac2cube`` stays quick on a login node.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stac2cube.version import __version__

if TYPE_CHECKING:
    from stac2cube.cube.reader import open_cube
    from stac2cube.explorer.session import Explorer, explore
    from stac2cube.places.allocation import Allocation
    from stac2cube.places.gateway import Gateway
    from stac2cube.places.local import Local
    from stac2cube.places.slurm import Slurm
    from stac2cube.places.threads import Threads
    from stac2cube.reads.features import read_arrays, sample, zonal_statistics
    from stac2cube.reads.files import save_per_geometry
    from stac2cube.reads.whole import read
    from stac2cube.site import find_site
    from stac2cube.source.conditions import Conditions
    from stac2cube.stages.clouds import get_cloud_layers
    from stac2cube.stages.composed import Composition, store_composites
    from stac2cube.stages.coregister import coregister_scenes, move_scenes
    from stac2cube.stages.index_facts import export_index, index_info
    from stac2cube.stages.indexed import store_indices
    from stac2cube.stages.indexing import create_index, filter_index, update_index
    from stac2cube.stages.layers import get_stac_layers
    from stac2cube.stages.masked import apply_masks
    from stac2cube.stages.overviews import store_overviews
    from stac2cube.stages.shift_rules import ShiftRules
    from stac2cube.stages.superres import super_resolution
    from stac2cube.stages.superres_rules import SuperresRules
    from stac2cube.stages.yearly import seal_year
    from stac2cube.status import CubeStatus, cube_status
    from stac2cube.training.acquisitions import DownloadRequest
    from stac2cube.training.cubes import make_sample_cube
    from stac2cube.training.download import download_products
    from stac2cube.training.finding import find_frames
    from stac2cube.training.loading import FramesDataset, PatchStream
    from stac2cube.training.making import make_patches
    from stac2cube.training.parts import Making
    from stac2cube.training.passes import add_moments, count_values
    from stac2cube.training.patch_rules import PatchRules
    from stac2cube.training.rules import AngleRules, LabelRules, SampleRules
    from stac2cube.training.samples import make_samples
    from stac2cube.training.statistics import StatisticsRules, read_statistics
    from stac2cube.views.classes import class_mask, mask_classes
    from stac2cube.views.clouds import mask_clouds
    from stac2cube.views.colour import rgb
    from stac2cube.views.composite import composite
    from stac2cube.views.mask_recipes import Hiding, mask_by
    from stac2cube.views.physical import from_db, to_celsius, to_db, to_kelvin, to_reflectance, to_stack
    from stac2cube.views.speckle import despeckle
    from stac2cube.views.spectral import indices
    from stac2cube.views.terrain import aspect, hillshade, slope

_HOMES = {
    "Allocation": "stac2cube.places.allocation",
    "AngleRules": "stac2cube.training.rules",
    "Composition": "stac2cube.stages.composed",
    "Conditions": "stac2cube.source.conditions",
    "CubeStatus": "stac2cube.status",
    "DownloadRequest": "stac2cube.training.acquisitions",
    "Explorer": "stac2cube.explorer.session",
    "FramesDataset": "stac2cube.training.loading",
    "Gateway": "stac2cube.places.gateway",
    "Hiding": "stac2cube.views.mask_recipes",
    "LabelRules": "stac2cube.training.rules",
    "Local": "stac2cube.places.local",
    "Making": "stac2cube.training.parts",
    "PatchRules": "stac2cube.training.patch_rules",
    "PatchStream": "stac2cube.training.loading",
    "SampleRules": "stac2cube.training.rules",
    "ShiftRules": "stac2cube.stages.shift_rules",
    "Slurm": "stac2cube.places.slurm",
    "StatisticsRules": "stac2cube.training.statistics",
    "SuperresRules": "stac2cube.stages.superres_rules",
    "Threads": "stac2cube.places.threads",
    "add_moments": "stac2cube.training.passes",
    "apply_masks": "stac2cube.stages.masked",
    "aspect": "stac2cube.views.terrain",
    "class_mask": "stac2cube.views.classes",
    "composite": "stac2cube.views.composite",
    "coregister_scenes": "stac2cube.stages.coregister",
    "count_values": "stac2cube.training.passes",
    "create_index": "stac2cube.stages.indexing",
    "cube_status": "stac2cube.status",
    "despeckle": "stac2cube.views.speckle",
    "download_products": "stac2cube.training.download",
    "explore": "stac2cube.explorer.session",
    "export_index": "stac2cube.stages.index_facts",
    "filter_index": "stac2cube.stages.indexing",
    "find_frames": "stac2cube.training.finding",
    "find_site": "stac2cube.site",
    "from_db": "stac2cube.views.physical",
    "get_cloud_layers": "stac2cube.stages.clouds",
    "get_stac_layers": "stac2cube.stages.layers",
    "hillshade": "stac2cube.views.terrain",
    "index_info": "stac2cube.stages.index_facts",
    "indices": "stac2cube.views.spectral",
    "make_patches": "stac2cube.training.making",
    "make_sample_cube": "stac2cube.training.cubes",
    "make_samples": "stac2cube.training.samples",
    "mask_by": "stac2cube.views.mask_recipes",
    "mask_classes": "stac2cube.views.classes",
    "mask_clouds": "stac2cube.views.clouds",
    "move_scenes": "stac2cube.stages.coregister",
    "open_cube": "stac2cube.cube.reader",
    "read": "stac2cube.reads.whole",
    "read_arrays": "stac2cube.reads.features",
    "read_statistics": "stac2cube.training.statistics",
    "rgb": "stac2cube.views.colour",
    "sample": "stac2cube.reads.features",
    "save_per_geometry": "stac2cube.reads.files",
    "seal_year": "stac2cube.stages.yearly",
    "slope": "stac2cube.views.terrain",
    "store_composites": "stac2cube.stages.composed",
    "store_indices": "stac2cube.stages.indexed",
    "store_overviews": "stac2cube.stages.overviews",
    "super_resolution": "stac2cube.stages.superres",
    "to_celsius": "stac2cube.views.physical",
    "to_db": "stac2cube.views.physical",
    "to_kelvin": "stac2cube.views.physical",
    "to_reflectance": "stac2cube.views.physical",
    "to_stack": "stac2cube.views.physical",
    "update_index": "stac2cube.stages.indexing",
    "zonal_statistics": "stac2cube.reads.features",
}

__all__ = [
    "Allocation",
    "AngleRules",
    "Composition",
    "Conditions",
    "CubeStatus",
    "DownloadRequest",
    "Explorer",
    "FramesDataset",
    "Gateway",
    "Hiding",
    "LabelRules",
    "Local",
    "Making",
    "PatchRules",
    "PatchStream",
    "SampleRules",
    "ShiftRules",
    "Slurm",
    "StatisticsRules",
    "SuperresRules",
    "Threads",
    "__version__",
    "add_moments",
    "apply_masks",
    "aspect",
    "class_mask",
    "composite",
    "coregister_scenes",
    "count_values",
    "create_index",
    "cube_status",
    "despeckle",
    "download_products",
    "explore",
    "export_index",
    "filter_index",
    "find_frames",
    "find_site",
    "from_db",
    "get_cloud_layers",
    "get_stac_layers",
    "hillshade",
    "index_info",
    "indices",
    "make_patches",
    "make_sample_cube",
    "make_samples",
    "mask_by",
    "mask_classes",
    "mask_clouds",
    "move_scenes",
    "open_cube",
    "read",
    "read_arrays",
    "read_statistics",
    "rgb",
    "sample",
    "save_per_geometry",
    "seal_year",
    "slope",
    "store_composites",
    "store_indices",
    "store_overviews",
    "super_resolution",
    "to_celsius",
    "to_db",
    "to_kelvin",
    "to_reflectance",
    "to_stack",
    "update_index",
    "zonal_statistics",
]


_WITH_DATASETS = ("stac2cube.cube", "stac2cube.stages", "stac2cube.views")
"""Rooms whose functions take or give Datasets."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stac2cube' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    if home.__name__.startswith(_WITH_DATASETS):
        import_module("stac2cube.products.accessor")  # so that their Datasets have .s2c
    return getattr(home, name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
