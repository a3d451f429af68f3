"""Positions of a block's pixels in an image, computed once for all bands and dates of two grids.

The positions are those of GDAL's approximate transformer (gdaltransformer.cpp of GDAL 3.10, with its error threshold of
1/8 pixel): exact at both ends of a piece of a line and interpolated between them, halved if the middle would be off by
more, and exact for a position just outside the image. So the resampled pixels equal those of GDAL's warper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.fastcog.header import UTM_CODES

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from pyproj import Transformer

    from stac2cube.fastcog.kernels import Runs
    from stac2cube.model.image import BandRequest


TOLERANCE = 0.125
"""Error in source pixels that is allowed for an interpolated position in the middle of its piece."""

_SHORT = 5
"""Pieces with at most this many pixels are not interpolated."""

Exact = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From columns and rows of pixel centres in the target to x and y in the source; float64, pixels."""


def positions(source: GeoBox, target: GeoBox, width: int) -> Runs:
    """Positions of the pixels of a grid in another grid.

    Args:
        source: Grid of the image, without rotation.
        target: Grid of the block.
        width: Columns that are interpolated together.

    Returns:
        Runs; at most a megabyte for a block of 2048 x 2048 pixels between CRSs.
    """
    return _positions(Same(source), Same(target), width)


@dataclass(frozen=True)
class Same:
    """A grid as a key of a cache: odc-geo writes out the CRS each time its hash is computed."""

    geobox: GeoBox

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        to = self.geobox.transform
        return tuple(self.geobox.shape), (to.a, to.b, to.c, to.d, to.e, to.f), str(self.geobox.crs)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._key == other._key


@lru_cache(maxsize=32)
def _positions(lattice: Same, block: Same, width: int) -> Runs:
    from stac2cube.fastcog.kernels import stray_pixels

    source, target = lattice.geobox, block.geobox
    pieces: list[Runs] = []
    for left in range(0, target.shape[1], width):
        columns = target[:, left : min(left + width, target.shape[1])]
        pieces += [
            _moved(runs, left) for runs in _pieces(_transform(source, columns), (target.shape[0], columns.shape[1]))
        ]
    runs = _joined(pieces)
    rows, columns_ = stray_pixels((source.shape[0], source.shape[1]), runs)
    if rows.size:
        runs = _joined([runs, *_retried(source, target, width, rows, columns_)])
    for part in runs:
        part.flags.writeable = False
    return runs


def _transform(source: GeoBox, target: GeoBox) -> Exact:
    """The exact transform, with GDAL's order of operations."""
    to, within = target.transform, source.transform
    project = None
    if source.crs != target.crs:
        project = _projection(str(target.crs), str(source.crs))

    def exact(column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = to.c + column * to.a + row * to.b, to.f + column * to.d + row * to.e
        if project is not None:
            x, y = project.transform(x, y)
        return -within.c / within.a + x * (1 / within.a), -within.f / within.e + y * (1 / within.e)

    return exact


@lru_cache(maxsize=64)
def _projection(source: str, target: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


def _pieces(exact: Exact, shape: tuple[int, int]) -> list[Runs]:
    """Runs of a strip whose lines are interpolated as a whole, or repeatedly halved if needed."""
    made = []
    work = [(0, shape[1], np.arange(shape[0]))]
    while work:
        first, count, rows = work.pop()
        if count <= _SHORT:
            made += [_run(rows, column, 1, exact) for column in range(first, first + count)]
            continue
        middle = (count - 1) // 2
        runs = _run(rows, first, count, exact)
        _, _, _, x, y, across, down = runs
        true_x, true_y = exact(np.full(rows.size, first + middle + 0.5), rows + 0.5)
        off = np.abs(x + across * middle - true_x) + np.abs(y + down * middle - true_y) > TOLERANCE
        made.append(_chosen(runs, ~off))
        if off.any():
            work += [(first, middle, rows[off]), (first + middle, count - middle, rows[off])]
    return made


def _run(rows: np.ndarray, first: int, count: int, exact: Exact) -> Runs:
    """One run in each of the rows, interpolated between its ends."""
    x, y = exact(np.full(rows.size, first + 0.5), rows + 0.5)
    across = down = np.zeros(rows.size)
    if count > 1:
        last_x, last_y = exact(np.full(rows.size, first + count - 0.5), rows + 0.5)
        across, down = (last_x - x) / (count - 1), (last_y - y) / (count - 1)
    return rows, np.full(rows.size, first), np.full(rows.size, count), x, y, across, down


def _retried(source: GeoBox, target: GeoBox, width: int, rows: np.ndarray, columns: np.ndarray) -> list[Runs]:
    """Runs of one pixel each for pixels outside the image by interpolation, and inside by their exact position."""
    made = []
    height, long = source.shape
    for left in np.unique(columns // width) * width:
        here = (columns >= left) & (columns < left + width)
        strip = target[:, left : min(left + width, target.shape[1])]
        x, y = _transform(source, strip)(columns[here] - left + 0.5, rows[here] + 0.5)
        inside = (x >= 0) & (y >= 0) & (x + 1e-10 <= long) & (y + 1e-10 <= height)
        one, none = np.ones(inside.sum(), int), np.zeros(inside.sum())
        made.append((rows[here][inside], columns[here][inside], one, x[inside], y[inside], none, none))
    return made


def _moved(runs: Runs, columns: int) -> Runs:
    return runs[0], runs[1] + columns, *runs[2:]


def _chosen(runs: Runs, which: np.ndarray) -> Runs:
    row, column, count, x, y, across, down = (part[which] for part in runs)
    return row, column, count, x, y, across, down


def _joined(pieces: list[Runs]) -> Runs:
    row, column, count, x, y, across, down = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return row, column, count, x, y, across, down


def resample_quickly(
    image: np.ndarray, source: GeoBox, target: GeoBox, width: int, band: BandRequest, out: np.ndarray
) -> None:
    """Resample an image without GDAL.

    Args:
        image: ``(rows, columns)`` in stored form.
        source: Grid of the image.
        target: Grid of the block.
        width: See :func:`positions`.
        band: The request: fill, and the method nearest or bilinear.
        out: ``(rows, columns)`` of the block; pixels without data keep their values.
    """
    from stac2cube.fastcog.kernels import resample_image

    resample_image(image, band.fill, positions(source, target, width), out, bilinear=band.resampling == "bilinear")


_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"}


def is_same_as_gdal(source: GeoBox, target: GeoBox, dtype: np.dtype[Any], method: str) -> bool:
    """Whether tests verify that the pixels equal GDAL's: within any CRS, and from one UTM zone to another."""
    if method not in ("nearest", "bilinear") or str(dtype) not in _TYPES:
        return False
    if any((source.transform.b, source.transform.d, target.transform.b, target.transform.d)):
        return False
    crs, other = source.crs, target.crs
    if crs is None or other is None:
        return False
    return bool(crs == other or {crs.epsg, other.epsg} <= UTM_CODES)
