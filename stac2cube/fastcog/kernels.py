"""Compiled loops (numba): extracting pixels from decompressed tiles, and resampling by positions."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stac2cube.model.classes import not_nodata

# Pixels of a decompressed TIFF tile: the predictor is undone and the wanted part copied to its place, in one pass.
#
# Source: TIFF revision 6.0, section 14 (horizontal differencing); Adobe Photoshop TIFF technical note 3 (floating
# point).


def place_tile(
    tile: np.ndarray, dtype: np.dtype[Any], predictor: int, band: int, corner: tuple[int, int], out: np.ndarray
) -> None:
    """Copy the part of a tile that begins at ``corner`` and has the shape of ``out`` into ``out``.

    Args:
        tile: uint8 ``(rows, columns, samples, bytes per number)`` as decompressed.
        dtype: Type of the numbers, in the byte order of the file.
        predictor: 1 none, 2 horizontal differencing, 3 floating point.
        band: Index of the sample, from 0.
        corner: First row and column wanted.
        out: ``(rows, columns)`` of the numbers' type in native byte order; a view, overwritten.
    """
    row, column = corner
    bits = np.dtype(f"u{dtype.itemsize}")
    if predictor == 3:
        rows, columns, samples, size = tile.shape
        lines = tile.reshape(rows, columns * samples * size)
        _floating(lines, samples, band, row, column, out.view(bits))
        return
    numbers = tile.view(bits.newbyteorder(dtype.byteorder))[..., 0]
    if predictor == 1:
        out.view(bits)[...] = numbers[row : row + out.shape[0], column : column + out.shape[1], band]
        return
    if not numbers.dtype.isnative:
        numbers = numbers[row : row + out.shape[0]].astype(bits)
        row = 0
    _differences(numbers, band, row, column, out.view(bits))


@numba.njit(nogil=True, cache=True)
def _differences(numbers: Any, band: int, top: int, left: int, out: Any) -> None:
    """Cumulative sums along lines, modulo the width of the numbers; compiled for each type."""
    row = 0
    # Four lines at a time: within one line, each sum depends on the one before.
    for row in range(0, out.shape[0] - 3, 4):
        one, two, three, four = (
            numbers[top + row],
            numbers[top + row + 1],
            numbers[top + row + 2],
            numbers[top + row + 3],
        )
        a = b = c = d = np.uint64(0)
        for column in range(left):
            a += np.uint64(one[column, band])
            b += np.uint64(two[column, band])
            c += np.uint64(three[column, band])
            d += np.uint64(four[column, band])
        for column in range(out.shape[1]):
            a += np.uint64(one[left + column, band])
            b += np.uint64(two[left + column, band])
            c += np.uint64(three[left + column, band])
            d += np.uint64(four[left + column, band])
            out[row, column], out[row + 1, column], out[row + 2, column], out[row + 3, column] = a, b, c, d
    for row in range(out.shape[0] - out.shape[0] % 4, out.shape[0]):
        total = np.uint64(0)
        for column in range(left):
            total += np.uint64(numbers[top + row, column, band])
        for column in range(out.shape[1]):
            total += np.uint64(numbers[top + row, left + column, band])
            out[row, column] = total


@numba.njit(nogil=True, cache=True)
def _floating(lines: Any, samples: int, band: int, top: int, left: int, out: Any) -> None:
    """Cumulative sums along lines of bytes, then numbers from the planes of their bytes, most significant first."""
    width = lines.shape[1]
    size = out.itemsize
    plane = width // size
    line = np.empty(width, np.uint8)
    for row in range(out.shape[0]):
        source = lines[top + row]
        for place in range(samples):
            line[place] = source[place]
        for place in range(samples, width):
            line[place] = source[place] + line[place - samples]
        for column in range(out.shape[1]):
            first = (left + column) * samples + band
            number = np.uint64(0)
            for byte in range(size):
                number = (number << np.uint64(8)) | np.uint64(line[byte * plane + first])
            out[row, column] = number


# Resampling by positions that are computed once for all images of a grid: nearest and bilinear.
#
# Both give, bit for bit, the result of GDAL's warper (gdalwarpkernel.cpp of GDAL 3.10) for an image with a no-data
# value, a kernel of its true size and the same positions; tests verify this. A pixel of the target needs a valid
# nearest source pixel; of its four neighbours those that are inside and valid are used. An average that happens to
# equal the no-data value is replaced by its neighbour, so that it remains data: whole numbers by the next lower one
# (above the lowest), floats by the next larger one of their type, as in GDAL from 3.12 on (earlier releases let such a
# float become no data).
#
# Runs of the target are parallel arrays: ``row``, ``column`` and ``count`` select the pixels (int64), ``x`` and ``y``
# are the position of the first pixel in the source (float64; pixels, counted from the corner of the first one),
# ``across`` and ``down`` the step from one pixel to the next.
#
# The functions are compiled by numba, which caches them on disk between processes: import this module where it is used,
# and only if numba is installed (the extra ``fast``).

Runs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""row, column, count, x, y, across, down; one element per run."""

CLOSE = 1.0
"""Source pixels: positions outside the image by at most this are computed exactly when the runs are made."""


def resample_image(image: np.ndarray, fill: Any, runs: Runs, out: np.ndarray, *, bilinear: bool) -> None:
    """Resample an image.

    Args:
        image: ``(rows, columns)`` numbers of at most 32 bits, or float64.
        fill: No-data value of the image and of ``out``.
        runs: Positions of the target's pixels in the image.
        out: ``(rows, columns)`` of the target, of the same type; pixels without data keep their values.
        bilinear: Bilinear if true, else nearest.
    """
    value = image.dtype.type(fill)
    if bilinear:
        whole = out.dtype.kind in "iu"
        _bilinear(image, value, not_nodata(value), whole, runs, out)
    else:
        _nearest(image, value, runs, out)


def stray_pixels(shape: tuple[int, int], runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of target pixels that are outside an image by less than :data:`CLOSE`, int64."""
    found = _strays(shape[0], shape[1], runs)
    return found[:, 0], found[:, 1]


@numba.njit(inline="always")
def _place(x: float, y: float, height: int, width: int) -> Any:
    """Row and column of the pixel at a position; -1 if it is outside."""
    if not (x >= 0.0 and y >= 0.0 and x + 1e-10 <= width and y + 1e-10 <= height):
        return -1, -1
    return min(int(y + 1e-10), height - 1), min(int(x + 1e-10), width - 1)


@numba.njit(inline="always")
def _is_fill(value: Any, fill: Any) -> Any:
    return value == fill or (fill != fill and value != value)  # noqa: PLR0124 - that is how NaN is told


@numba.njit(inline="always")
def _steps_within(at: float, stride: float, length: int) -> int:
    """Steps along a line during which a position certainly remains inside."""
    if abs(stride) < 1e-9:
        return 1 << 30
    return int(((length - 1 - at) if stride > 0 else (at - 1)) / abs(stride))


@numba.njit(nogil=True, cache=True)
def _strays(height: int, width: int, runs: Any) -> Any:
    rows, columns, counts, xs, ys, across, down = runs
    found = np.empty((1024, 2), np.int64)
    total = 0
    for run in range(rows.size):
        step = 0
        while step < counts[run]:
            x, y = xs[run] + across[run] * step, ys[run] + down[run] * step
            step += 1
            if 1 < x < width - 1 and 1 < y < height - 1:
                # While the run certainly remains inside, there is nothing to find.
                step += min(_steps_within(x, across[run], width), _steps_within(y, down[run], height))
            elif -CLOSE < x < width + CLOSE and -CLOSE < y < height + CLOSE and _place(x, y, height, width)[0] < 0:
                if total == found.shape[0]:
                    more = np.empty((2 * total, 2), np.int64)
                    more[:total] = found
                    found = more
                found[total, 0], found[total, 1] = rows[run], columns[run] + step - 1
                total += 1
    return found[:total]


@numba.njit(nogil=True, cache=True)
def _nearest(image: Any, fill: Any, runs: Any, out: Any) -> None:
    height, width = image.shape
    rows, columns, counts, xs, ys, across, down = runs
    for run in range(rows.size):
        line = out[rows[run]]
        for step in range(counts[run]):
            row, column = _place(xs[run] + across[run] * step, ys[run] + down[run] * step, height, width)
            if row >= 0 and not _is_fill(image[row, column], fill):
                line[columns[run] + step] = image[row, column]


@numba.njit(inline="always")
def _four(a: Any, b: Any, c: Any, d: Any, near_left: float, near_top: float) -> Any:
    """Weighted sum of four neighbours, and the sum of the weights; in GDAL's order, since rounding depends on it."""
    far_left, far_top = 1.0 - near_left, 1.0 - near_top
    e, f, g, h = near_left * near_top, far_left * near_top, near_left * far_top, far_left * far_top
    return a * e + b * f + c * g + d * h, e + f + g + h


@numba.njit(inline="always")
def _is_between(x: float, y: float, height: int, width: int) -> Any:
    """Whether a position has four neighbours inside the image."""
    return 0.5 <= x < width - 0.5 and 0.5 <= y < height - 0.5


@numba.njit(inline="always")
def _store(line: Any, place: Any, made: float, fill: Any, instead: Any, whole: bool) -> None:
    """Store an average: whole numbers rounded, and replaced if it equals the no-data value."""
    line[place] = np.floor(made + 0.5) if whole else made
    if line[place] == fill:  # compared in its type: a number too small for a float32 is 0 there
        line[place] = instead


_PIECE = 64
"""Pixels that are resampled together: their data fit the fastest cache."""


@numba.njit(nogil=True, cache=True)
def _some(image: Any, fill: Any, x: float, y: float) -> Any:
    """The same for those neighbours that are inside and valid; 0, 0 if the nearest pixel is not."""
    height, width = image.shape
    total = weights = 0.0
    row, column = _place(x, y, height, width)
    if row < 0 or _is_fill(image[row, column], fill):
        return total, weights
    left, top = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
    near_left, near_top = 1.5 - (x - left), 1.5 - (y - top)
    if left < 0:
        left, near_left = 0, 1.0
    if top < 0:
        top, near_top = 0, 1.0
    for lower in range(min(2, height - top)):
        tall = 1.0 - near_top if lower else near_top
        for right in range(min(2, width - left)):
            value = image[top + lower, left + right]
            if not _is_fill(value, fill):
                weight = (1.0 - near_left if right else near_left) * tall
                weights += weight
                total += value * weight
    return total, weights


# With NumPy's rules of division: weights are never 0 there, and Python's check would cost time for each pixel.
@numba.njit(nogil=True, cache=True, error_model="numpy")
def _bilinear(image: Any, fill: Any, instead: Any, whole: bool, runs: Any, out: Any) -> None:
    """Resample pieces of runs inside the image together, and pixels at its edge or beside no data one by one."""
    height, width = image.shape
    rows, columns, counts, xs, ys, across, down = runs
    flat = image.ravel()
    places, lacks = np.empty(_PIECE, np.int64), np.empty(_PIECE, np.int64)
    near_left, near_top, made = np.empty(_PIECE), np.empty(_PIECE), np.empty(_PIECE)
    a, b = np.empty(_PIECE, image.dtype), np.empty(_PIECE, image.dtype)
    c, d = np.empty(_PIECE, image.dtype), np.empty(_PIECE, image.dtype)
    for run in range(rows.size):
        line = out[rows[run]]
        x0, y0, right, low = xs[run], ys[run], across[run], down[run]
        for first in range(0, counts[run], _PIECE):
            count = min(_PIECE, counts[run] - first)
            last = first + count - 1
            inside = _is_between(x0 + right * first, y0 + low * first, height, width)
            inside &= _is_between(x0 + right * last, y0 + low * last, height, width)
            lacking = count
            if inside:
                # The compiler vectorises each of these loops, except the second.
                for step in range(count):
                    x, y = x0 + right * (first + step), y0 + low * (first + step)
                    left, top = int(x - 0.5), int(y - 0.5)
                    places[step] = top * width + left
                    near_left[step], near_top[step] = 1.5 - (x - left), 1.5 - (y - top)
                for step in range(count):
                    # Unsigned, so that no check for negative indices is made.
                    upper = np.uint64(places[step])
                    lower = upper + np.uint64(width)
                    a[step], b[step] = flat[upper], flat[upper + np.uint64(1)]
                    c[step], d[step] = flat[lower], flat[lower + np.uint64(1)]
                lacking = 0
                for step in range(count):
                    lacks[step] = _is_fill(a[step], fill) + _is_fill(b[step], fill)
                    lacks[step] += _is_fill(c[step], fill) + _is_fill(d[step], fill)
                    lacking += lacks[step]
                for step in range(count):
                    total, weights = _four(a[step], b[step], c[step], d[step], near_left[step], near_top[step])
                    made[step] = total / weights
            begin = columns[run] + first
            if lacking == 0:
                for step in range(count):
                    _store(line, np.uint64(begin + step), made[step], fill, instead, whole)
                continue
            for step in range(count):
                if inside and not lacks[step]:
                    _store(line, np.uint64(begin + step), made[step], fill, instead, whole)
                    continue
                total, weights = _some(image, fill, x0 + right * (first + step), y0 + low * (first + step))
                if weights >= 0.00001:
                    _store(line, np.uint64(begin + step), total / weights, fill, instead, whole)
