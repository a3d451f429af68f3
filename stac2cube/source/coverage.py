"""A band of a file on another grid as float32, with the share of every pixel that valid pixels of the file cover."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi

from stac2cube.equality import equal_nan
from stac2cube.errors import BadInputError, ReadError
from stac2cube.source.asset import Cut, is_nodata, resample
from stac2cube.source.image import Image

METHODS = ("nearest", "bilinear", "cubic", "average", "mode", "max", "min", "med", "q1", "q3", "sum")
"""Ways to resample, by GDAL's names."""


@equal_nan
@dataclass(frozen=True, slots=True)
class Measure:
    """How a file's counts become what is asked for.

    Attributes:
        scale: Value = count * scale + offset, before anything is resampled.
        offset: See ``scale``.
        nodata: Count of pixels without data; None for what the file says, and without that ``unsaid``.
        unsaid: Count of pixels without data in files that do not say: 0 in all of Sentinel-2.
        upsampling: Method where the file's pixels are larger, or as large on another lattice.
        downsampling: Method where they are smaller.
    """

    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    unsaid: float = 0.0
    upsampling: str = "bilinear"
    downsampling: str = "average"

    def __post_init__(self) -> None:
        """Refuse methods that are not known.

        Raises:
            BadInputError: Naming it.
        """
        for method in (self.upsampling, self.downsampling):
            if method not in METHODS:
                raise BadInputError(f"there is no resampling {method!r}: choose {', '.join(METHODS)}")


def read_covered(image: Image, index: int, measure: Measure, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Read one band of a file onto a lattice, always from its full resolution.

    Where the file lies on the same lattice, its pixels are copied. Else values and validity are resampled each by its
    own rule: values by the method asked for, from valid pixels only; validity as the share of a pixel's footprint that
    valid pixels cover, where what lies beyond the file's edge counts as not valid.

    Args:
        image: The file, opened.
        index: Band within it, from 1.
        measure: How it is wanted.
        geobox: The lattice.

    Returns:
        Values, float32, NaN where there are none, and coverage, float32 from 0 to 1; both ``(rows, columns)``.

    Raises:
        ReadError: The file has not that band.
    """
    if not 1 <= index <= image.bands:
        raise ReadError(f"it has {image.bands} band(s), and no band {index}")
    values, coverage = np.full(geobox.shape, np.nan, "float32"), np.zeros(geobox.shape, "float32")
    exact = compute_reproject_roi(image.geobox, geobox, ttol=0.05, stol=_SAME_SIZE)
    pasted = exact.paste_ok and exact.read_shrink == 1
    relation = exact if pasted else compute_reproject_roi(image.geobox, geobox, padding=_MARGIN)
    taken = _slices(relation.roi_src)
    if any(part.stop <= part.start for part in taken):
        return values, coverage
    counts = image.read(index, taken)
    nodata = next((n for n in (measure.nodata, image.nodata) if n is not None), measure.unsaid)
    missing = is_nodata(counts, nodata)
    if counts.dtype.kind == "f":
        missing |= np.isnan(counts)
    pixels = (counts * measure.scale + measure.offset).astype("float32")
    pixels[missing] = np.nan
    if pasted:
        given = _slices(exact.roi_dst)
        values[given] = pixels
        coverage[given] = ~missing
        return values, coverage
    scale = 1.0 if math.isnan(relation.scale) else relation.scale
    cut = Cut(pixels, image.geobox[taken], scale)
    resample(cut, measure.downsampling if scale > 1 + _SAME_SIZE else measure.upsampling, math.nan, geobox, values)
    border = _MARGIN + math.ceil(scale)
    around = replace(cut, pixels=np.pad((~missing).astype("float32"), border), geobox=cut.geobox.pad(border))
    resample(around, "average", None, geobox, coverage)
    return values, np.clip(coverage, 0, 1)


def _slices(roi: Any) -> tuple[slice, slice]:
    rows, columns = roi
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)


_MARGIN = 8
"""Pixels read around what a block needs: more than any kernel reaches."""

_SAME_SIZE = 1e-5
"""Pixel sizes that differ by less are the same."""
