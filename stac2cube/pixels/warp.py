"""Resample an image onto the grid of a block, with the counts and no-data of the band."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.access.sign import is_remote
from stac2cube.algorithms.radiometry import apply_shift
from stac2cube.errors import BadInputError, ReadError
from stac2cube.fastcog.warp import Same, is_same_as_gdal, resample_quickly
from stac2cube.model.classes import is_nodata, not_nodata
from stac2cube.model.fields import equal_nan
from stac2cube.model.image import METHODS, BandRequest, Image, Roi
from stac2cube.model.scene import AssetRef
from stac2cube.trust.address import host_of

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from odc.geo.overlap import ReprojectInfo

# Whether the overviews of a file are means of pixels, or pixels that were chosen: then they lie beside their middle.
#
# A chosen pixel stands for the corner of what it covers, (F - 1) / 2 pixels from its middle at factor F. Files say
# seldom how their overviews were made, so that a piece of one is laid beside the full resolution.

_MOST = 512
"""Pixels of the full resolution along the edge of a piece."""

_FEWEST = 8
"""Different values that a piece has at least: else chosen pixels and means are alike."""


def are_means(image: Image, index: int, level: int, near: Roi, href: str) -> bool:
    """Whether the pixels of an overview are no pixels of the full resolution.

    Args:
        image: The file.
        index: Band, from 1.
        level: Of the overview, from 1.
        near: Rows and columns of it that are wanted, of which a piece is looked at.
        href: Where the file lies: of one host behind a network, files of one form are taken to be made alike.

    Returns:
        False also where it cannot be told, as over a lake.
    """
    whole = image.geobox.shape
    kind = (href if not is_remote(href) else host_of(href), index, level, tuple(whole), tuple(image.factors))
    with _LOCK:
        known = _KNOWN.get(kind)
    if known is not None:
        return known
    for piece in _pieces(near, image.factors[level - 1]):
        found = _compared(image, index, level, piece)
        if found is not None:
            with _LOCK:
                _KNOWN[kind] = found
                while len(_KNOWN) > _KEPT:
                    _KNOWN.popitem(last=False)
            return found
    return False


_KEPT = 4096
_KNOWN: OrderedDict[tuple[Any, ...], bool] = OrderedDict()
_LOCK = Lock()


def _pieces(near: Roi, factor: int) -> list[Roi]:
    """The middle of an area, and two of its corners."""
    edge = max(_FEWEST, _MOST // factor)
    places = []
    for part in (0.5, 0.1, 0.9):
        rows, columns = (
            slice(first, min(first + edge, whole.stop))
            for whole in near
            for first in [int(whole.start + part * max(whole.stop - whole.start - edge, 0))]
        )
        places.append((rows, columns))
    return places


def _compared(image: Image, index: int, level: int, piece: Roi) -> bool | None:
    """Whether a piece of an overview holds means; None if that cannot be told."""
    small = image.read(index, piece, level)
    if np.unique(small).size < _FEWEST:
        return None
    factor = image.factors[level - 1]
    for down, across in zip(*(_places(image, level, axis, piece[axis]) for axis in (0, 1)), strict=True):
        corner = max(int(down[0]) - 1, 0), max(int(across[0]) - 1, 0)
        rows, columns = (
            slice(first, min(int(places[-1]) + factor + 1, most))
            for first, places, most in zip(corner, (down, across), image.geobox.shape, strict=True)
        )
        full = image.read(index, (rows, columns))
        for row in range(-1, factor + 1):
            lines = full[np.clip(down + row - rows.start, 0, full.shape[0] - 1)]
            for column in range(-1, factor + 1):
                chosen = lines[:, np.clip(across + column - columns.start, 0, full.shape[1] - 1)]
                if np.array_equal(chosen, small, equal_nan=small.dtype.kind == "f"):
                    return False
    return True


def _places(image: Image, level: int, axis: int, part: slice) -> list[np.ndarray]:
    """Where along an axis the pixels of an overview may have been chosen from, but for one distance in common.

    By GDAL's rule (overview.cpp) from the full resolution, or from the level before, as it does where it makes several;
    or at every second, fourth ... pixel.
    """
    sizes = [int(image.geobox_of(number).shape[axis]) for number in range(level + 1)]
    here = np.arange(part.start, part.stop)
    once, by_levels = np.floor(here * (sizes[0] / sizes[level]) + 0.5).astype(int), here
    for number in range(level, 0, -1):
        by_levels = np.floor(by_levels * (sizes[number - 1] / sizes[number]) + 0.5).astype(int)
    ways = [once, by_levels, here * image.factors[level - 1]]
    return ways if len({way.tobytes() for way in ways}) > 1 else ways[:1]


# One band of one granule into the lattice of a block: pasted where it fits, warped where not.

# Warping an array, rasterio remarks that the array is no georeferenced file. It is not meant to be; where it lies is
# said in the call. (Not a context manager around the call: those are not safe among threads.)
warnings.filterwarnings(
    "ignore", "Dataset has no geotransform|The given matrix is equal to Affine", module="rasterio.warp"
)


def source_window(image: Image, asset: AssetRef, band: BandRequest, geobox: GeoBox) -> np.ndarray:
    """Read one band of an image into a lattice, in stored form.

    Where the image lies on the same lattice its pixels are copied. Else they are warped, nodata-aware; between lattices
    of about the same pixel size with GDAL's kernel held at its true size (``XSCALE=1, YSCALE=1``), because GDAL would
    widen a bilinear kernel as soon as one UTM zone is turned against another, and blur the image.

    Args:
        image: Whoever reads it.
        asset: Band within it, from 1; and counts to add, see :mod:`stac2cube.algorithms.radiometry`. They are added
            before interpolation, so that all providers' files of one product round alike.
        band: How it is wanted.
        geobox: Lattice of the block.

    Returns:
        ``(rows, columns)`` of the band's dtype, fill where the file has no data.

    Raises:
        ReadError: The file has no georeference, not that band, or values that the dtype cannot hold.
    """
    index = asset.index
    if not 1 <= index <= image.bands:
        raise ReadError(f"it has {image.bands} band(s), and no band {index}")
    relation = _relation(Same(image.geobox), Same(geobox))
    taken, given = _slices(relation.roi_src), _slices(relation.roi_dst)
    if _is_empty(taken) or _is_empty(given):
        return np.full(geobox.shape, band.fill, dtype=band.dtype)
    nodata = nodata_of(image, asset, band)
    if relation.paste_ok and relation.read_shrink == 1:
        pixels = stored(image.read(index, taken), nodata, band, asset)
        if pixels.shape == geobox.shape:
            return pixels
        out = np.full(geobox.shape, band.fill, dtype=band.dtype)
        out[given] = pixels
        return out
    # Overviews of classes may hold averages of them, so classes always come from the full resolution.
    level = 0
    # The mean of decibels is no mean of power.
    low_passed = band.exact and image.is_jpeg2000  # its levels are no averages
    if band.kind == "continuous" and not asset.decibels and (band.reduced or not low_passed):
        if low_passed:
            level = _wavelet_level(image.factors, relation.scale)
        else:
            level = _overview(image.factors, relation.scale, evenly=band.exact)
        # What only the item calls no data was mixed into its neighbours when the overviews were made.
        clean = image.nodata is not None or _same_number(nodata, band.fill)
        level = level if level and clean and _may_be_read(image, index, level, geobox, asset) else 0
    cut = _cut(image, index, geobox, level)
    mixed = cut.pixels == nodata if level and not _keeps_nodata(image) else np.zeros((0, 0), bool)
    if mixed.any() and not low_passed:
        cut = _cut(image, index, geobox, 0)
    out = np.empty(geobox.shape, dtype=band.dtype)
    warp(replace(cut, pixels=stored(cut.pixels, nodata, band, asset)), band, geobox, out)
    if mixed.any() and low_passed and (near := _beside(replace(cut, pixels=mixed), geobox)).any():
        part = _around(near) if image.geobox.crs == geobox.crs else np.s_[:, :]  # else columns are warped together
        whole = source_window(image, asset, replace(band, reduced=False), geobox[part])
        np.copyto(out[part], whole, where=near[part])
    return out


def nodata_of(image: Image, asset: AssetRef, band: BandRequest) -> float:
    """What marks no data: as the file says, else as its item says, else the band's fill.

    Args:
        image: The file, opened.
        asset: What its item says of it.
        band: How it is wanted.
    """
    return next((value for value in (image.nodata, asset.nodata) if value is not None), band.fill)


def _beside(cut: SourceWindow, geobox: GeoBox) -> np.ndarray:
    """Which pixels of a block may hold light of pixels without data, as the low-pass filters of a wavelet mix them.

    Each pixel is judged by what lies around it, so that it is the same in every block.

    Args:
        cut: ``(rows, columns)`` bool, True where a pixel of a lower level shows no data.
        geobox: Lattice of the block.

    Returns:
        ``(rows, columns)`` of the block, bool.
    """
    from scipy import ndimage  # of the readers only this one needs it

    near = ndimage.binary_dilation(cut.pixels, np.ones((3, 3), bool), iterations=_MIXED).astype("uint8")
    out = np.zeros(geobox.shape, "uint8")
    resample_block(replace(cut, pixels=near), "max", None, geobox, out)
    return out > 0


def _around(near: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns around all that is marked."""
    rows, columns = (np.flatnonzero(near.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


_MIXED = 2
"""Pixels of a wavelet level around one without data that may hold light of others: the low-pass filters of 5-3 reach 2
pixels of the level before, those of 9-7 reach 4 (ISO/IEC 15444-1, annex F)."""


@lru_cache(maxsize=1024)
def _relation(source: Same, target: Same) -> ReprojectInfo:
    """How two lattices lie to each other: worked out once for all bands and dates."""
    from odc.geo.overlap import compute_reproject_roi

    return compute_reproject_roi(source.geobox, target.geobox, ttol=0.05, stol=_SAME_SIZE)


@dataclass(frozen=True)
class SourceWindow:
    """The part of an image that a block needs.

    Attributes:
        pixels: ``(rows, columns)``, as in the file.
        geobox: Their lattice.
        scale: Size of the block's pixels in these.
        quick: Whether GDAL need not be asked for what can be had without it, pixel for pixel; needs numba.
    """

    pixels: np.ndarray
    geobox: GeoBox
    scale: float
    quick: bool = False


def _cut(image: Image, index: int, geobox: GeoBox, level: int) -> SourceWindow:
    """Read what a block needs of the full resolution (0) or of an overview (from 1)."""
    source = image.geobox_of(level)
    taken, part, scale = _needed(Same(source), Same(geobox))
    return SourceWindow(image.read(index, taken, level), part, scale, image.quick)


@lru_cache(maxsize=1024)
def _needed(source: Same, target: Same) -> tuple[Roi, GeoBox, float]:
    """What of an image a block needs: rows and columns, their lattice, and the size of the block's pixels in these."""
    from odc.geo.overlap import compute_reproject_roi

    relation = compute_reproject_roi(source.geobox, target.geobox, padding=8)
    taken = _slices(relation.roi_src)
    return taken, source.geobox[taken], relation.scale


def _may_be_read(image: Image, index: int, level: int, geobox: GeoBox, asset: AssetRef) -> bool:
    """Whether the pixels of an overview stand for what they cover."""
    if image.is_jpeg2000 or not image.is_averaged(level):
        return image.is_averaged(level)
    near, _, _ = _needed(Same(image.geobox_of(level)), Same(geobox))
    return are_means(image, index, level, near, asset.address)


def _keeps_nodata(image: Image) -> bool:
    """Whether overviews were made without mixing pixels that hold no data into their neighbours.

    They were not where the file does not say what no data is, and never in JPEG 2000, whose overviews are the low-pass
    half of a wavelet transform over all numbers alike.
    """
    return image.nodata is not None and not image.is_jpeg2000


def warp(cut: SourceWindow, band: BandRequest, geobox: GeoBox, out: np.ndarray) -> None:
    """Resample an image in stored form into a block.

    Args:
        cut: The image.
        band: How it is wanted.
        geobox: Lattice of the block.
        out: ``(rows, columns)`` of the block, overwritten.
    """
    plain = cut.scale < _COARSER
    if cut.quick and plain and is_same_as_gdal(cut.geobox, geobox, cut.pixels.dtype, band.resampling):
        out[...] = band.fill
        resample_quickly(cut.pixels, cut.geobox, geobox, _columns(cut.geobox, geobox), band, out)
    else:
        resample_block(cut, band.resampling, band.fill, geobox, out)


def _columns(source: GeoBox, target: GeoBox) -> int:
    """Columns that are warped at a time."""
    return int(target.shape[1]) if source.crs == target.crs else WARP_COLUMNS


def resample_block(cut: SourceWindow, method: str, fill: float | None, geobox: GeoBox, out: np.ndarray) -> None:
    """Resample an image into a block.

    Args:
        cut: The image.
        method: GDAL's name of it.
        fill: Value of pixels without data, which take no part; None if all have some: what the image does not cover
            then stays 0.
        geobox: Lattice of the block.
        out: ``(rows, columns)`` of the block, overwritten.
    """
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    # A target at most a little coarser than the source keeps the kernel at its own size. Its size is said in any case:
    # GDAL would derive it from the outline of the block, and one pixel would differ from block to block.
    kernel = 1.0 if cut.scale < _COARSER else 1 / cut.scale
    # Before 3.12 GDAL lets a float that comes to be the value for no data be no data. Of NaN no mean is made.
    pixels, missing = cut.pixels, fill
    swapped = fill is not None and out.dtype.kind == "f" and not math.isnan(fill)
    if fill is not None and swapped:
        pixels, missing = np.where(is_nodata(pixels, fill), np.nan, pixels).astype(out.dtype), math.nan
    total, width = geobox.shape[1], _columns(cut.geobox, geobox)
    if kernel < 1:
        width = min(width, _COARSE_COLUMNS)
    for left in range(0, total, width):
        right = min(left + width, total)
        columns = geobox[:, left:right]
        part = np.empty(columns.shape, out.dtype)
        reproject(
            pixels,
            part,
            src_transform=cut.geobox.transform,
            src_crs=str(cut.geobox.crs),
            src_nodata=missing,
            dst_transform=columns.transform,
            dst_crs=str(geobox.crs),
            dst_nodata=missing,
            init_dest_nodata=True,
            resampling=Resampling[method],
            num_threads=1,
            XSCALE=kernel,
            YSCALE=kernel,
            # Else GDAL would cut a block of which an image covers less than half, and interpolate positions over the
            # pieces: a pixel would hang on how much of its block is covered.
            SRC_FILL_RATIO_HEURISTICS="NO",
        )
        if swapped:
            value = out.dtype.type(fill)
            part[part == value] = not_nodata(value)
            part[np.isnan(part)] = value
        out[:, left:right] = part


WARP_COLUMNS = 256
"""Width of the columns that are warped at a time between CRSs, pixels.

GDAL interpolates positions along each line of the target, up to 1/8 of a pixel wrong in its middle. From one UTM zone
to the next that left 52 % of the pixels in lines of 2048 at their true bilinear value (others up to 5 counts
beside it); in lines of 256 it is 99 % (1 count), for a sixth more time. The error falls with the square of the width.
"""

_COARSE_COLUMNS = 32
"""The same where pixels are averaged over, which takes far longer than to find out where they lie.

Of 10 m brought to 120 to 200 m in other CRSs, positions were up to 0.13 source pixels off in lines of 256, and are no
more than 1/16 in these (tests/pixels/test_read_coarse.py).
"""

_SAME_SIZE = 1e-5
"""Pixel sizes that differ by less are the same: over 10,000 pixels it makes a tenth of one."""

_COARSER = 1.2
"""Target pixels more than this many times larger than the source's are averaged over, not sampled."""


def _overview(factors: list[int], scale: float, *, evenly: bool) -> int:
    """The coarsest overview that is still at least as fine as the target, from 1; 0 for the full resolution.

    Args:
        factors: Of the overviews, ascending.
        scale: Source pixels per target pixel.
        evenly: Only those of which a whole number makes a target pixel.
    """
    if math.isnan(scale):
        return 0
    usable = [place for place, factor in enumerate(factors) if factor <= scale * 1.001]
    if evenly:
        usable = [place for place in usable if abs(scale / factors[place] - round(scale / factors[place])) < _SAME_SIZE]
    return usable[-1] + 1 if usable else 0


def _wavelet_level(factors: list[int], scale: float) -> int:
    """The level of a JPEG 2000 that is averaged instead of all pixels, from 1; 0 for the full resolution.

    The coarsest of which three pixels or more make one of the target, along an edge. Half the resolution does with one
    and a half: of 20 m brought to 60 m.

    Args:
        factors: Of the levels, ascending.
        scale: Source pixels per target pixel.
    """
    if math.isnan(scale) or not factors or scale < _FEW * (1 - _SAME_SIZE):
        return 0
    usable = [place for place, factor in enumerate(factors) if scale / factor >= _FEW * (1 - _SAME_SIZE)]
    return usable[-1] + 1 if usable else 1


_FEW = 3
"""Pixels along the edge of a target pixel: fewer are no mean. So many of half the resolution were within 0.2 % of the
cloud mask of all (docs/clouds.md)."""


def stored(pixels: np.ndarray, nodata: float, band: BandRequest, asset: AssetRef) -> np.ndarray:
    """Pixels as read, in the band's dtype, with its fill and its counts.

    Args:
        pixels: As in the file.
        nodata: What marks no data in them.
        band: How they are wanted.
        asset: What its item says of them.

    Raises:
        ReadError: They do not fit the dtype; or where power is wanted they are none.
    """
    shift = asset.shift
    gone = is_nodata(pixels, nodata) if asset.decibels or band.above > -math.inf else np.zeros(0, bool)
    if asset.decibels and asset.nodata is not None:
        gone |= is_nodata(pixels, asset.nodata)
    if band.above > -math.inf:
        _require_power(pixels[~gone], asset)
    if asset.decibels:
        pixels, nodata = np.where(gone, np.nan, 10 ** (pixels.astype("float64") / 10)).astype("float32"), np.nan
    missing = None
    if not _same_number(nodata, band.fill):
        missing = is_nodata(pixels, nodata)
    if not np.can_cast(pixels.dtype, band.dtype):
        whole = np.dtype(band.dtype).kind in "iu"
        if whole and pixels.dtype.kind == "f":
            missing = np.isnan(pixels) if missing is None else missing | np.isnan(pixels)
        counted = pixels if missing is None else pixels[~missing]
        limits = np.iinfo(band.dtype) if whole else np.finfo(band.dtype)
        if counted.size and not (limits.min <= counted.min() and counted.max() <= limits.max):
            raise ReadError(f"it holds {counted.min()} to {counted.max()}, which is not {band.dtype}")
        if whole and pixels.dtype.kind == "f":
            _require_counts(counted)
            pixels = np.rint(pixels)
    if missing is not None and missing.any():
        pixels = np.where(missing, 0, pixels).astype(band.dtype, copy=False)
        pixels[missing] = band.fill
    pixels = pixels.astype(band.dtype, copy=False)
    if band.above > -math.inf:
        pixels = np.where(pixels > band.above, pixels, np.asarray(band.fill, dtype=band.dtype))
    return apply_shift(pixels, shift, int(band.fill)) if shift else pixels


_LEAST_COUNT = 350
"""Below it lie reflectance as a fraction or in percent, and temperature in kelvin or degrees; counts lie far above."""


def _require_counts(pixels: np.ndarray) -> None:
    """See that valid pixels of a float file may be counts: resampled ones may be fractions, but are no small numbers.

    Raises:
        ReadError: They are physical values.
    """
    if pixels.size and pixels.max() < _LEAST_COUNT and np.count_nonzero(pixels != np.rint(pixels)) > pixels.size / 10:
        raise ReadError(
            f"it holds fractions from {pixels.min():.4g} to {pixels.max():.4g}, as physical values are: only the "
            "counts of the product are read"
        )


_FAINTEST = -60
"""dB that no backscatter falls below: what is less marks no data."""


def _require_power(pixels: np.ndarray, asset: AssetRef) -> None:
    """See that valid pixels may be linear power, or dB where their item says so.

    Power is not below 0 but for noise, which is far from -1.

    Raises:
        ReadError: They cannot be.
    """
    whole = pixels.dtype.kind in "iu"
    if asset.decibels:
        if whole and pixels.size and not (pixels.min() >= _FAINTEST and pixels.max() <= -_FAINTEST):
            raise ReadError(
                f"it holds {pixels.min()} to {pixels.max()}, which are no dB but scaled by what is not said"
            )
        return
    known = pixels if whole else pixels[pixels > _FAINTEST]
    if known.size and np.count_nonzero(known < -1) > known.size / 10:
        raise ReadError(
            f"it holds {known.min():.4g} to {known.max():.4g}, as backscatter in dB has, and its item declares no dB"
        )


def _same_number(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _slices(roi: Any) -> tuple[slice, slice]:
    rows, columns = roi
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)


def _is_empty(roi: tuple[slice, slice]) -> bool:
    return any(part.stop <= part.start for part in roi)


# A band of a file on another grid as float32, with the share of every pixel that valid pixels of the file cover.


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
    from odc.geo.overlap import compute_reproject_roi

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
    cut = SourceWindow(pixels, image.geobox[taken], scale)
    resample_block(
        cut, measure.downsampling if scale > 1 + _SAME_SIZE else measure.upsampling, math.nan, geobox, values
    )
    border = _MARGIN + math.ceil(scale)
    around = replace(cut, pixels=np.pad((~missing).astype("float32"), border), geobox=cut.geobox.pad(border))
    resample_block(around, "average", None, geobox, coverage)
    return values, np.clip(coverage, 0, 1)


_MARGIN = 8
"""Pixels read around what a block needs: more than any kernel reaches."""
