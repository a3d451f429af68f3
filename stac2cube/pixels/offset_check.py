"""Whether a Sentinel-2 scene's pixels contradict what its metadata say of the offset.

Some items of Earth Search carry a flag that their pixels belie, in both directions (github.com/Element84/earth-search,
threads 9, 66 and 71). Wrong by 1000 counts, dark surfaces give it away: their blue or red reflectance lies near 0.02 to
0.05 in all light, and never far below zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from stac2cube.access.sign import opening
from stac2cube.errors import ReadError
from stac2cube.model.scene import Granule, Scene, is_zarr_array
from stac2cube.pixels.gdal import gdal_settings, open_image
from stac2cube.trust.deadline import within

LONGEST = 60.0
"""Seconds that are waited for a picture."""

LOOKED_AT = ("B02", "B04")
"""Blue, or failing that red."""

EDGE = 256
"""Pixels of the picture that is looked at, along each edge."""

TOO_DARK = 800
"""Stored counts (reflectance -0.02): if the darkest hundredth lies below, an offset is missing. In recorded scenes
whose offset is right it lies between 1180 and 1515."""

TOO_BRIGHT = 1900
"""Stored counts (reflectance 0.09): if the darkest hundredth of vegetation and water lies above, an offset was added to
pixels that had it."""

DARK_CLASSES = (3, 4, 6)
"""Cloud shadow, vegetation and water of the scene classification."""

ENOUGH = 100
"""Pixels of these classes that make a judgement."""


def offset_problems(scenes: Sequence[Scene]) -> list[str]:
    """Of each scene, why its pixels contradict its metadata, "" if they do not.

    A small picture of one band and of the classes is read of each granule; where that is not possible, nothing is said:
    reading itself will tell.
    """
    with ThreadPoolExecutor(16, thread_name_prefix="judge") as pool:
        return list(pool.map(_doubt, scenes))


def _doubt(scene: Scene) -> str:
    if scene.problem:
        return ""
    return next((words for granule in scene.granules if (words := contradiction(granule))), "")


def is_flagged(scene: Scene) -> bool:
    """Whether a provider says of the scene that it changed the offset: only then can saying and doing differ."""
    return any('"earthsearch:boa_offset_applied"' in granule.item for granule in scene.granules)


def contradiction(granule: Granule) -> str:
    """Why the pixels of a granule cannot be as its metadata say, "" if they can."""
    band = next((name for name in LOOKED_AT if name in granule.assets), None)
    if band is None:
        return ""
    pixels = _picture(granule, band)
    if pixels is None or not (pixels > 0).any():
        return ""
    counts = pixels.astype("int64") + granule.assets[band].shift
    darkest = float(np.percentile(counts[pixels > 0], 1))
    if darkest < TOO_DARK:
        return _words(granule, band, darkest, "darker than any surface: its pixels seem to have lost their offset")
    classes = _picture(granule, "SCL")
    if classes is None or classes.shape != pixels.shape:
        return ""
    dark = np.isin(classes, DARK_CLASSES) & (pixels > 0)
    if dark.sum() >= ENOUGH and (darkest := float(np.percentile(counts[dark], 1))) > TOO_BRIGHT:
        return _words(granule, band, darkest, "too bright for vegetation and water: its pixels seem to have an offset")
    return ""


def _words(granule: Granule, band: str, darkest: float, what: str) -> str:
    reflectance = darkest * 1e-4 - 0.1
    return (
        f"item {granule.id}: by its metadata the darkest {band} is {reflectance:.2f} reflectance, {what}. Its offset "
        f"flag and its pixels contradict each other (baseline {granule.baseline or 'unknown'}, shift "
        f"{granule.assets[band].shift})"
    )


def _picture(granule: Granule, band: str) -> np.ndarray | None:
    import rasterio
    from rasterio.enums import Resampling

    asset = granule.assets.get(band)
    if asset is None or is_zarr_array(asset.href):
        return None  # an array in Zarr has no small picture: it would have to be read whole

    def look() -> np.ndarray:
        way = opening(asset, granule.signer)
        with gdal_settings(remote=way.remote, store=way.settings), open_image(way.location) as file:
            shape = (min(EDGE, file.height), min(EDGE, file.width))
            picture: np.ndarray = file.read(asset.index, out_shape=shape, resampling=Resampling.nearest)
            return picture

    try:
        return within(LONGEST, look, "a look at it")
    except (rasterio.errors.RasterioError, ReadError, OSError):
        return None
