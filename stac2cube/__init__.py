"""stac2cube: satellite catalogs to analysis-ready Zarr cubes that can be extended safely for years.

The public face. Names are imported when first used, so that ``import stac2cube`` stays quick on a login node.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stac2cube.version import __version__

if TYPE_CHECKING:
    from stac2cube.archives.across import archive_series, export_mosaics
    from stac2cube.archives.mosaic import map_tiles, open_archive
    from stac2cube.archives.status import ArchiveStatus, archive_status
    from stac2cube.build.status import CubeStatus, cube_status
    from stac2cube.clouds.stage import get_cloud_layers
    from stac2cube.coregister.rules import ShiftRules
    from stac2cube.coregister.stage import coregister_scenes, move_scenes
    from stac2cube.datasets.acquisitions import DownloadRequest
    from stac2cube.datasets.download import download_products
    from stac2cube.datasets.files import Making
    from stac2cube.datasets.frames import find_frames
    from stac2cube.datasets.patch_rules import PatchRules, StatisticsRules
    from stac2cube.datasets.rules import AngleRules, LabelRules, SampleRules
    from stac2cube.datasets.sample_cube import make_sample_cube
    from stac2cube.datasets.samples import make_samples
    from stac2cube.datasets.shards import make_patches
    from stac2cube.datasets.statistics import add_moments, count_values, read_statistics
    from stac2cube.datasets.torch import FramesDataset, PatchStream
    from stac2cube.executors.base import Threads
    from stac2cube.executors.gateway import Gateway
    from stac2cube.executors.local import Local
    from stac2cube.executors.site import find_site
    from stac2cube.executors.slurm import Allocation, Slurm
    from stac2cube.explorer.session import Explorer, explore
    from stac2cube.index.index import create_index, export_index, filter_index, index_info, update_index
    from stac2cube.maintain.seal_year import seal_year
    from stac2cube.reading.read import read, read_arrays, sample, save_per_geometry, zonal_statistics
    from stac2cube.search.search import Conditions
    from stac2cube.stages.composites import store_composites
    from stac2cube.stages.layers import get_stac_layers
    from stac2cube.stages.overviews import store_overviews
    from stac2cube.stages.stored_views import apply_masks, store_indices
    from stac2cube.store.reader import open_cube
    from stac2cube.superres.rules import SuperresRules
    from stac2cube.superres.stage import super_resolution
    from stac2cube.views.composite import composite
    from stac2cube.views.indices import indices
    from stac2cube.views.masks import class_mask, mask_by, mask_classes, mask_clouds
    from stac2cube.views.options import Composition, Hiding
    from stac2cube.views.render import rgb
    from stac2cube.views.units import (
        aspect,
        despeckle,
        from_db,
        hillshade,
        slope,
        to_celsius,
        to_db,
        to_kelvin,
        to_reflectance,
        to_stack,
    )


_HOMES = {
    "Allocation": "stac2cube.executors.slurm",
    "AngleRules": "stac2cube.datasets.rules",
    "ArchiveStatus": "stac2cube.archives.status",
    "Composition": "stac2cube.views.options",
    "Conditions": "stac2cube.search.search",
    "CubeStatus": "stac2cube.build.status",
    "DownloadRequest": "stac2cube.datasets.acquisitions",
    "Explorer": "stac2cube.explorer.session",
    "FramesDataset": "stac2cube.datasets.torch",
    "Gateway": "stac2cube.executors.gateway",
    "Hiding": "stac2cube.views.options",
    "LabelRules": "stac2cube.datasets.rules",
    "Local": "stac2cube.executors.local",
    "Making": "stac2cube.datasets.files",
    "PatchRules": "stac2cube.datasets.patch_rules",
    "PatchStream": "stac2cube.datasets.torch",
    "SampleRules": "stac2cube.datasets.rules",
    "ShiftRules": "stac2cube.coregister.rules",
    "Slurm": "stac2cube.executors.slurm",
    "StatisticsRules": "stac2cube.datasets.patch_rules",
    "SuperresRules": "stac2cube.superres.rules",
    "Threads": "stac2cube.executors.base",
    "add_moments": "stac2cube.datasets.statistics",
    "apply_masks": "stac2cube.stages.stored_views",
    "archive_series": "stac2cube.archives.across",
    "archive_status": "stac2cube.archives.status",
    "aspect": "stac2cube.views.units",
    "class_mask": "stac2cube.views.masks",
    "composite": "stac2cube.views.composite",
    "coregister_scenes": "stac2cube.coregister.stage",
    "count_values": "stac2cube.datasets.statistics",
    "create_index": "stac2cube.index.index",
    "cube_status": "stac2cube.build.status",
    "despeckle": "stac2cube.views.units",
    "download_products": "stac2cube.datasets.download",
    "explore": "stac2cube.explorer.session",
    "export_index": "stac2cube.index.index",
    "export_mosaics": "stac2cube.archives.across",
    "filter_index": "stac2cube.index.index",
    "find_frames": "stac2cube.datasets.frames",
    "find_site": "stac2cube.executors.site",
    "from_db": "stac2cube.views.units",
    "get_cloud_layers": "stac2cube.clouds.stage",
    "get_stac_layers": "stac2cube.stages.layers",
    "hillshade": "stac2cube.views.units",
    "index_info": "stac2cube.index.index",
    "indices": "stac2cube.views.indices",
    "make_patches": "stac2cube.datasets.shards",
    "make_sample_cube": "stac2cube.datasets.sample_cube",
    "make_samples": "stac2cube.datasets.samples",
    "map_tiles": "stac2cube.archives.mosaic",
    "mask_by": "stac2cube.views.masks",
    "mask_classes": "stac2cube.views.masks",
    "mask_clouds": "stac2cube.views.masks",
    "move_scenes": "stac2cube.coregister.stage",
    "open_archive": "stac2cube.archives.mosaic",
    "open_cube": "stac2cube.store.reader",
    "read": "stac2cube.reading.read",
    "read_arrays": "stac2cube.reading.read",
    "read_statistics": "stac2cube.datasets.statistics",
    "rgb": "stac2cube.views.render",
    "sample": "stac2cube.reading.read",
    "save_per_geometry": "stac2cube.reading.read",
    "seal_year": "stac2cube.maintain.seal_year",
    "slope": "stac2cube.views.units",
    "store_composites": "stac2cube.stages.composites",
    "store_indices": "stac2cube.stages.stored_views",
    "store_overviews": "stac2cube.stages.overviews",
    "super_resolution": "stac2cube.superres.stage",
    "to_celsius": "stac2cube.views.units",
    "to_db": "stac2cube.views.units",
    "to_kelvin": "stac2cube.views.units",
    "to_reflectance": "stac2cube.views.units",
    "to_stack": "stac2cube.views.units",
    "update_index": "stac2cube.index.index",
    "zonal_statistics": "stac2cube.reading.read",
}

__all__ = [
    "Allocation",
    "AngleRules",
    "ArchiveStatus",
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
    "archive_series",
    "archive_status",
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
    "export_mosaics",
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
    "map_tiles",
    "mask_by",
    "mask_classes",
    "mask_clouds",
    "move_scenes",
    "open_archive",
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


_WITH_DATASETS = ("stac2cube.archives", "stac2cube.store", "stac2cube.stages", "stac2cube.views")
"""Rooms whose functions take or give Datasets."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stac2cube' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    if home.__name__.startswith(_WITH_DATASETS):
        import_module("stac2cube.export.accessor")  # so that their Datasets have .s2c
    return getattr(home, name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
