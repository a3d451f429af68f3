"""The public names, and the modules that they are imported from when they are first used."""

from .archives.mosaic import archive_series as archive_series, export_mosaics as export_mosaics
from .archives.mosaic import map_tiles as map_tiles, open_archive as open_archive
from .archives.status import ArchiveStatus as ArchiveStatus, archive_status as archive_status
from .build.status import CubeStatus as CubeStatus, cube_status as cube_status
from .clouds.stage import get_cloud_layers as get_cloud_layers
from .coregister.rules import ShiftRules as ShiftRules
from .coregister.stage import coregister_scenes as coregister_scenes, move_scenes as move_scenes
from .datasets.download import download_products as download_products
from .datasets.files import Making as Making
from .datasets.frames import find_frames as find_frames
from .datasets.patch_rules import PatchRules as PatchRules, StatisticsRules as StatisticsRules
from .datasets.rules import (
    AngleRules as AngleRules,
    DownloadRequest as DownloadRequest,
    LabelRules as LabelRules,
    SampleRules as SampleRules,
)
from .datasets.sample_cube import make_sample_cube as make_sample_cube
from .datasets.samples import make_samples as make_samples
from .datasets.shards import make_patches as make_patches
from .datasets.statistics import (
    add_moments as add_moments,
    count_values as count_values,
    read_statistics as read_statistics,
)
from .datasets.torch import FramesDataset as FramesDataset, PatchStream as PatchStream
from .executors.base import Threads as Threads
from .executors.gateway import Gateway as Gateway
from .executors.local import Local as Local
from .executors.site import find_site as find_site
from .executors.slurm import Allocation as Allocation, Slurm as Slurm
from .explorer.session import Explorer as Explorer, explore as explore
from .index.index import (
    create_index as create_index,
    export_index as export_index,
    filter_index as filter_index,
    index_info as index_info,
    update_index as update_index,
)
from .maintain.seal_year import seal_year as seal_year
from .reading.read import (
    read as read,
    read_arrays as read_arrays,
    sample as sample,
    save_per_geometry as save_per_geometry,
    zonal_statistics as zonal_statistics,
)
from .search.search import Conditions as Conditions
from .stages.stored_views import store_composites as store_composites
from .stages.layers import get_stac_layers as get_stac_layers
from .stages.overviews import store_overviews as store_overviews
from .stages.stored_views import apply_masks as apply_masks, store_indices as store_indices
from .store.reader import open_cube as open_cube
from .superres.rules import SuperresRules as SuperresRules
from .superres.stage import super_resolution as super_resolution
from .version import __version__ as __version__
from .views.composite import composite as composite
from .views.indices import indices as indices
from .views.masks import (
    class_mask as class_mask,
    mask_by as mask_by,
    mask_classes as mask_classes,
    mask_clouds as mask_clouds,
)
from .views.options import Composition as Composition, Hiding as Hiding
from .views.render import rgb as rgb
from .views.units import (
    aspect as aspect,
    despeckle as despeckle,
    from_db as from_db,
    hillshade as hillshade,
    slope as slope,
    to_celsius as to_celsius,
    to_db as to_db,
    to_kelvin as to_kelvin,
    to_reflectance as to_reflectance,
    to_stack as to_stack,
)
