"""Resample an image onto the grid of a block, with the counts and no-data of the band."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Iterator
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

# Whether the overviews of a file are averages of pixels, or selected pixels, which are displaced from their centres.
#
# A selected pixel represents the corner of the area that it covers, (F - 1) / 2 pixels from its centre at factor F.
# Files rarely declare how their overviews were made, so a sample of an overview is compared with the full resolution.

_MOST = 512
"""Edge of a sample, in pixels of the full resolution."""

_FEWEST = 8
"""Fewest distinct values in a sample: with fewer, selected pixels and averages are alike."""


def are_means(image: Image, index: int, level: int, near: Roi, href: str) -> bool:
    """Whether the pixels of an overview are averages, and not selected pixels of the full resolution.

    Args:
        image: The file.
        index: Band, from 1.
        level: Level of the overview, from 1.
        near: Rows and columns of the overview to be read; the samples are taken from them.
        href: Address of the file: on one remote host, files of the same shape and factors are assumed to be made alike.

    Returns:
        False also if it cannot be determined, as over a lake.
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
    """Three samples of an area: its middle, and towards two of its corners."""
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
    """Whether a sample of an overview holds averages; None if that cannot be determined."""
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
    """Candidate positions along an axis from which the pixels of an overview may be selected, up to a common shift.

    Candidates follow GDAL's rule (overview.cpp) from the full resolution, or from the level before, as GDAL does if it
    makes several levels; or every second, fourth ... pixel.
    """
    sizes = [int(image.geobox_of(number).shape[axis]) for number in range(level + 1)]
    here = np.arange(part.start, part.stop)
    once, by_levels = np.floor(here * (sizes[0] / sizes[level]) + 0.5).astype(int), here
    for number in range(level, 0, -1):
        by_levels = np.floor(by_levels * (sizes[number - 1] / sizes[number]) + 0.5).astype(int)
    ways = [once, by_levels, here * image.factors[level - 1]]
    return ways if len({way.tobytes() for way in ways}) > 1 else ways[:1]


# One band of one granule onto the grid of a block: copied if the grids match, warped if not.

# rasterio warns that a warped array is not a georeferenced file. That is intended; the call passes the georeference.
# (Not a context manager around the call: those are not thread-safe.)
warnings.filterwarnings(
    "ignore", "Dataset has no geotransform|The given matrix is equal to Affine", module="rasterio.warp"
)


def source_window(image: Image, asset: AssetRef, band: BandRequest, geobox: GeoBox) -> np.ndarray:
    """Read one band of an image onto a grid, in stored form.

    If the image is on the same lattice, its pixels are copied. Otherwise they are warped, nodata-aware; between
    lattices of about the same pixel size with GDAL's kernel fixed at its true size (``XSCALE=1, YSCALE=1``), because
    GDAL would widen a bilinear kernel as soon as one UTM zone is rotated against another, and blur the image.

    Args:
        image: The opened image.
        asset: Band within it, from 1; and counts to add, see :mod:`stac2cube.algorithms.radiometry`. They are added
            before interpolation, so that all providers' files of one product round alike.
        band: The request: dtype, fill and resampling.
        geobox: Grid of the block.

    Returns:
        ``(rows, columns)`` of the band's dtype, fill where the file has no data.

    Raises:
        ReadError: The file has no georeference, lacks the band, or has values that the dtype cannot hold.
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
    # Overviews of classes may hold averages, so classes are always read from the full resolution.
    level = 0
    # An average of decibels is not an average of power.
    low_passed = band.exact and image.is_jpeg2000  # its levels are not averages
    if band.kind == "continuous" and not asset.decibels and (band.reduced or not low_passed):
        if low_passed:
            level = _wavelet_level(image.factors, relation.scale)
        else:
            level = _overview(image.factors, relation.scale, evenly=band.exact)
        # No-data values declared only by the item were mixed into neighbouring pixels when the overviews were made.
        clean = image.nodata is not None or _same_number(nodata, band.fill)
        level = level if level and clean and _may_be_read(image, index, level, geobox, asset) else 0
    cut = _cut(image, index, geobox, level, band.resampling)
    out = _warped(cut, nodata, band, asset, geobox)
    if level and not _keeps_nodata(image) and (mixed := cut.pixels == nodata).any():
        near = _beside(replace(cut, pixels=mixed), geobox, _REACH.get(band.resampling, 0))
        for part in _parts(near, relation.scale, same_crs=image.geobox.crs == geobox.crs):
            here = geobox[part]
            whole = _warped(_cut(image, index, here, 0, band.resampling), nodata, band, asset, here)
            np.copyto(out[part], whole, where=near[part])
    return out


def _warped(cut: SourceWindow, nodata: float, band: BandRequest, asset: AssetRef, geobox: GeoBox) -> np.ndarray:
    """A part of an image, resampled in stored form onto the grid of a block."""
    out = np.empty(geobox.shape, dtype=band.dtype)
    warp(replace(cut, pixels=stored(cut.pixels, nodata, band, asset)), band, geobox, out)
    return out


def nodata_of(image: Image, asset: AssetRef, band: BandRequest) -> float:
    """The no-data value: declared by the file, else by its item, else the band's fill.

    Args:
        image: The file, opened.
        asset: The asset, with the no-data value that its item declares.
        band: The request: dtype, fill and resampling.
    """
    return next((value for value in (image.nodata, asset.nodata) if value is not None), band.fill)


def _beside(cut: SourceWindow, geobox: GeoBox, reach: int) -> np.ndarray:
    """Mask of a block's pixels that may mix values with no data, because the pixels of a lower level do.

    Each pixel is judged by its neighbourhood, so that it is the same in every block.

    Args:
        cut: ``(rows, columns)`` bool, True where a pixel of a lower level has no data.
        geobox: Grid of the block.
        reach: Pixels of the block, beyond the pixel itself, that the resampling method uses.

    Returns:
        ``(rows, columns)`` of the block, bool.
    """
    from scipy import ndimage  # the only reader that needs it

    def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
        if not pixels:  # which SciPy takes for "until nothing changes"
            return mask
        wider: np.ndarray = ndimage.binary_dilation(mask, np.ones((3, 3), bool), iterations=pixels)
        return wider

    around = geobox.pad(reach)
    out = np.zeros(around.shape, "uint8")
    resample_block(replace(cut, pixels=grown(cut.pixels, _MIXED).astype("uint8")), "max", None, around, out)
    return grown(out > 0, reach)[reach : reach + geobox.shape[0], reach : reach + geobox.shape[1]]


_REACH = {"bilinear": 1, "cubic": 2, "lanczos": 3}
"""Radius of the kernels of GDAL's warper in pixels of a coarser target, where it is not half a pixel."""


def _parts(near: np.ndarray, scale: float, *, same_crs: bool) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of small parts of a block, together all its marked pixels.

    An edge of an orbit runs across a block: of the full resolution only its surroundings are read.

    Args:
        near: ``(rows, columns)`` bool of the block.
        scale: Pixels of the full resolution per pixel of the block.
        same_crs: Whether image and block have one CRS; otherwise columns are grouped as in the whole block, so that
            pixels equal those of the whole block.
    """
    edge = max(1, round(_PART / scale))
    width = edge if same_crs else WARP_COLUMNS
    for top in range(0, near.shape[0], edge):
        for left in range(0, near.shape[1], width):
            piece = near[top : top + edge, left : left + width]
            rows, columns = (np.flatnonzero(piece.any(axis=axis)) for axis in (1, 0))
            if rows.size:
                down = slice(top + int(rows[0]), top + int(rows[-1]) + 1)
                across = slice(left + int(columns[0]), left + int(columns[-1]) + 1)
                yield down, across if same_crs else slice(left, left + piece.shape[1])


_PART = 512
"""Edge of a part in pixels of the full resolution: half a tile of Sentinel-2's JPEG 2000 files."""

_MIXED = 2
"""Pixels of a wavelet level around a pixel without data that may be mixed with no data: the low-pass filters of 5-3
reach 2 pixels of the level before, those of 9-7 reach 4 (ISO/IEC 15444-1, annex F). Averages reach one."""


@lru_cache(maxsize=1024)
def _relation(source: Same, target: Same) -> ReprojectInfo:
    """The relation of two grids, computed once for all bands and dates."""
    from odc.geo.overlap import compute_reproject_roi

    return compute_reproject_roi(source.geobox, target.geobox, ttol=0.05, stol=_SAME_SIZE)


@dataclass(frozen=True)
class SourceWindow:
    """The part of an image that a block needs.

    Attributes:
        pixels: ``(rows, columns)``, as in the file.
        geobox: Their grid.
        scale: Size of the block's pixels along x and y of the image, in its pixels. They differ between degrees and
            metres: at 60 degrees north, a pixel in degrees is twice as high as it is wide.
        quick: Whether the fast resampling, equal to GDAL's pixel for pixel, may be used; needs numba.
    """

    pixels: np.ndarray
    geobox: GeoBox
    scale: tuple[float, float]
    quick: bool = False


def _cut(image: Image, index: int, geobox: GeoBox, level: int, method: str) -> SourceWindow:
    """Read the part that a block needs from the full resolution (0) or from an overview (from 1)."""
    source = image.geobox_of(level)
    taken, part, scale = _needed(Same(source), Same(geobox), method)
    return SourceWindow(image.read(index, taken, level), part, scale, image.quick)


@lru_cache(maxsize=1024)
def _needed(source: Same, target: Same, method: str) -> tuple[Roi, GeoBox, tuple[float, float]]:
    """Rows and columns of an image that a block needs, their grid, and the block's pixel size in the image's pixels."""
    relation = _padded(source.geobox, target.geobox, method)
    taken = _slices(relation.roi_src)
    return taken, source.geobox[taken], pixel_size(relation)


def pixel_size(relation: ReprojectInfo) -> tuple[float, float]:
    """Size of the target's pixels along x and y of the source, in its pixels; ``(1, 1)`` if that cannot be determined.

    Args:
        relation: The relation of two grids; if their CRSs differ, the size is that in the middle of the target.
    """
    from odc.geo import xy_

    rows, columns = relation.roi_dst
    back = relation.transform.back
    if back.linear is not None:
        edges = ((back.linear.a, back.linear.d), (back.linear.b, back.linear.e))
    else:
        x, y = (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2
        here, right, below = (point.xy for point in back([xy_(x, y), xy_(x + 1, y), xy_(x, y + 1)]))
        edges = ((right[0] - here[0], right[1] - here[1]), (below[0] - here[0], below[1] - here[1]))
    (right_x, right_y), (below_x, below_y) = edges
    size = math.hypot(right_x, below_x), math.hypot(right_y, below_y)
    return size if all(0 < edge < math.inf for edge in size) else (1.0, 1.0)


def _padded(source: GeoBox, target: GeoBox, method: str) -> ReprojectInfo:
    """The relation of two grids; its part of the source holds all pixels that the kernel of a method reaches."""
    from odc.geo.overlap import compute_reproject_roi

    relation = compute_reproject_roi(source, target, padding=_MARGIN)
    reach = math.ceil(_REACH.get(method, 1) * max(pixel_size(relation))) + 2
    return relation if reach <= _MARGIN else compute_reproject_roi(source, target, padding=reach)


_MARGIN = 8
"""Pixels read around a block's extent at least."""


def _may_be_read(image: Image, index: int, level: int, geobox: GeoBox, asset: AssetRef) -> bool:
    """Whether the pixels of an overview are averages of the pixels that they cover."""
    if image.is_jpeg2000 or not image.is_averaged(level):
        return image.is_averaged(level)
    near, _, _ = _needed(Same(image.geobox_of(level)), Same(geobox), "average")
    return are_means(image, index, level, near, asset.address)


def _keeps_nodata(image: Image) -> bool:
    """Whether overviews were made without mixing pixels without data into their neighbours.

    False if the file declares no no-data value, and always for JPEG 2000, whose levels are the low-pass half of a
    wavelet transform over all numbers alike.
    """
    return image.nodata is not None and not image.is_jpeg2000


def warp(cut: SourceWindow, band: BandRequest, geobox: GeoBox, out: np.ndarray) -> None:
    """Resample an image in stored form into a block.

    Args:
        cut: The image.
        band: The request: dtype, fill and resampling.
        geobox: Grid of the block.
        out: ``(rows, columns)`` of the block, overwritten.
    """
    plain = max(cut.scale) < _COARSER
    if cut.quick and plain and is_same_as_gdal(cut.geobox, geobox, cut.pixels.dtype, band.resampling):
        out[...] = band.fill
        resample_quickly(cut.pixels, cut.geobox, geobox, _columns(cut.geobox, geobox), band, out)
    else:
        resample_block(cut, band.resampling, band.fill, geobox, out)


def _columns(source: GeoBox, target: GeoBox) -> int:
    """Number of columns that are warped at a time."""
    return int(target.shape[1]) if source.crs == target.crs else WARP_COLUMNS


def resample_block(cut: SourceWindow, method: str, fill: float | None, geobox: GeoBox, out: np.ndarray) -> None:
    """Resample an image into a block.

    Args:
        cut: The image.
        method: GDAL's name of the resampling method.
        fill: Value of pixels without data, which are ignored; None if all pixels have data: pixels that the image does
            not cover then remain 0.
        geobox: Grid of the block.
        out: ``(rows, columns)`` of the block, overwritten.
    """
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    # A target slightly coarser than the source keeps the kernel at its own size. The size is always set: GDAL would
    # derive it from the extent of the block, and a pixel would differ from block to block.
    x_kernel, y_kernel = (1.0 if edge < _COARSER else 1 / edge for edge in cut.scale)
    # Before 3.12 GDAL marks a float as no data if it happens to equal the no-data value. NaN avoids this.
    pixels, missing = cut.pixels, fill
    swapped = fill is not None and out.dtype.kind == "f" and not math.isnan(fill)
    if fill is not None and swapped:
        pixels, missing = np.where(is_nodata(pixels, fill), np.nan, pixels).astype(out.dtype), math.nan
    total, width = geobox.shape[1], _columns(cut.geobox, geobox)
    if min(x_kernel, y_kernel) < 1:
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
            XSCALE=x_kernel,
            YSCALE=y_kernel,
            # Else GDAL would split a block that an image covers to less than half, and interpolate positions over the
            # pieces: a pixel would depend on the coverage of its block.
            SRC_FILL_RATIO_HEURISTICS="NO",
        )
        if swapped:
            value = out.dtype.type(fill)
            part[part == value] = not_nodata(value)
            part[np.isnan(part)] = value
        out[:, left:right] = part


WARP_COLUMNS = 256
"""Width in pixels of the columns that are warped at a time between CRSs.

GDAL interpolates positions along each line of the target, with an error of up to 1/8 of a pixel in its middle. From one
UTM zone to the next, 52 % of the pixels in lines of 2048 had their true bilinear value (others differed by up to 5
counts); in lines of 256 it is 99 % (1 count), for a sixth more time. The error falls with the square of the width.
"""

_COARSE_COLUMNS = 32
"""The same for averaging, which takes far longer than computing positions.

For 10 m resampled to 120 to 200 m in other CRSs, positions were up to 0.13 source pixels off in lines of 256, and are
off by at most 1/16 in these (tests/pixels/test_read_coarse.py).
"""

_SAME_SIZE = 1e-5
"""Pixel sizes with a smaller relative difference are equal: over 10,000 pixels it adds up to a tenth of a pixel."""

_COARSER = 1.2
"""Target pixels larger than the source's by more than this factor are averaged, not sampled."""


def _overview(factors: list[int], scale: float, *, evenly: bool) -> int:
    """The coarsest overview that is at least as fine as the target, from 1; 0 for the full resolution.

    Args:
        factors: Factors of the overviews, ascending.
        scale: Source pixels per target pixel.
        evenly: Only overviews with a whole number of pixels per target pixel.
    """
    if math.isnan(scale):
        return 0
    usable = [place for place, factor in enumerate(factors) if factor <= scale * 1.001]
    if evenly:
        usable = [place for place in usable if abs(scale / factors[place] - round(scale / factors[place])) < _SAME_SIZE]
    return usable[-1] + 1 if usable else 0


def _wavelet_level(factors: list[int], scale: float) -> int:
    """The level of a JPEG 2000 that is averaged instead of the full resolution, from 1; 0 for the full resolution.

    It is the coarsest level with at least three pixels per target pixel along an edge. Half the resolution is also used
    with one and a half: for 20 m resampled to 60 m.

    Args:
        factors: Factors of the levels, ascending.
        scale: Source pixels per target pixel.
    """
    if math.isnan(scale) or not factors or scale < _FEW * (1 - _SAME_SIZE):
        return 0
    usable = [place for place, factor in enumerate(factors) if scale / factor >= _FEW * (1 - _SAME_SIZE)]
    return usable[-1] + 1 if usable else 1


_FEW = 3
"""Fewest pixels along the edge of a target pixel for an average. With this number at half the resolution, the cloud
mask was within 0.2 % of that from all pixels (docs/clouds.md)."""


def stored(pixels: np.ndarray, nodata: float, band: BandRequest, asset: AssetRef) -> np.ndarray:
    """Convert pixels to stored form: the band's dtype, fill and counts.

    Args:
        pixels: Pixels as in the file.
        nodata: Their no-data value.
        band: The request: dtype, fill and resampling.
        asset: The asset, with the metadata from its item.

    Raises:
        ReadError: They do not fit the dtype; or power is wanted and they cannot be power.
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
"""Reflectance as a fraction or in percent, and temperature in kelvin or degrees, are below; counts are far above."""


def _require_counts(pixels: np.ndarray) -> None:
    """Check that valid pixels of a float file can be counts: resampled counts may be fractions, but not small numbers.

    Raises:
        ReadError: They are physical values.
    """
    if pixels.size and pixels.max() < _LEAST_COUNT and np.count_nonzero(pixels != np.rint(pixels)) > pixels.size / 10:
        raise ReadError(
            f"it holds fractions from {pixels.min():.4g} to {pixels.max():.4g}, as physical values are: only the "
            "counts of the product are read"
        )


_FAINTEST = -60
"""Lower limit of backscatter in dB; smaller values mark no data."""


def _require_power(pixels: np.ndarray, asset: AssetRef) -> None:
    """Check that valid pixels can be linear power, or dB if their item declares it.

    Power is not below 0 except for noise, which is far from -1.

    Raises:
        ReadError: They cannot.
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


# A band of a file on another grid as float32, with the fraction of every pixel that valid pixels of the file cover.


@equal_nan
@dataclass(frozen=True, slots=True)
class Measure:
    """How a file's counts are converted and resampled.

    Attributes:
        scale: Value = count * scale + offset, before anything is resampled.
        offset: See ``scale``.
        nodata: Count of pixels without data; None for the file's own value, or else ``unsaid``.
        unsaid: Count of pixels without data in files that declare none: 0 in all of Sentinel-2.
        upsampling: Method if the file's pixels are larger, or of the same size on another lattice.
        downsampling: Method if they are smaller.
    """

    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    unsaid: float = 0.0
    upsampling: str = "bilinear"
    downsampling: str = "average"

    def __post_init__(self) -> None:
        """Refuse unknown methods.

        Raises:
            BadInputError: A method is unknown.
        """
        for method in (self.upsampling, self.downsampling):
            if method not in METHODS:
                raise BadInputError(f"there is no resampling {method!r}: choose {', '.join(METHODS)}")


def read_covered(image: Image, index: int, measure: Measure, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Read one band of a file onto a grid, always from its full resolution.

    If the file is on the same lattice, its pixels are copied. Otherwise values and validity are resampled separately:
    values by the chosen method, from valid pixels only; validity as the fraction of a pixel's footprint that valid
    pixels cover, where the area beyond the file's edge counts as invalid.

    Args:
        image: The file, opened.
        index: Band within it, from 1.
        measure: Conversion and resampling.
        geobox: The grid.

    Returns:
        Values, float32, NaN where there are none, and coverage, float32 from 0 to 1; both ``(rows, columns)``.

    Raises:
        ReadError: The file lacks the band.
    """
    from odc.geo.overlap import compute_reproject_roi

    if not 1 <= index <= image.bands:
        raise ReadError(f"it has {image.bands} band(s), and no band {index}")
    values, coverage = np.full(geobox.shape, np.nan, "float32"), np.zeros(geobox.shape, "float32")
    exact = compute_reproject_roi(image.geobox, geobox, ttol=0.05, stol=_SAME_SIZE)
    pasted = exact.paste_ok and exact.read_shrink == 1
    relation = exact if pasted else _padded(image.geobox, geobox, measure.downsampling)
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
    cut = SourceWindow(pixels, image.geobox[taken], pixel_size(relation))
    method = measure.downsampling if min(cut.scale) > 1 + _SAME_SIZE else measure.upsampling
    resample_block(cut, method, math.nan, geobox, values)
    border = _MARGIN + math.ceil(max(cut.scale))
    around = replace(cut, pixels=np.pad((~missing).astype("float32"), border), geobox=cut.geobox.pad(border))
    resample_block(around, "average", None, geobox, coverage)
    return values, np.clip(coverage, 0, 1)
