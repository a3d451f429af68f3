"""Pixels out of a decompressed tile of a TIFF: predictor undone, cut to what is wanted, put in its place; in one pass.

Source: TIFF revision 6.0, section 14 (horizontal differencing); Adobe Photoshop TIFF technical note 3 (floating point).
Compiled by numba, as :mod:`stac2cube.kernels.resampling` is.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


def place_tile(
    tile: np.ndarray, dtype: np.dtype[Any], predictor: int, band: int, corner: tuple[int, int], out: np.ndarray
) -> None:
    """Put the part of a tile that begins at ``corner`` and is as large as ``out`` into ``out``.

    Args:
        tile: uint8 ``(rows, columns, samples, bytes per number)`` as decompressed.
        dtype: Of the numbers, in the byte order of the file.
        predictor: 1 none, 2 horizontal differencing, 3 floating point.
        band: Which sample, from 0.
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
    """Running sums along lines, modulo the width of the numbers; compiled for each of their types."""
    row = 0
    # Four lines at a time: within one, each sum waits for the one before.
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
    """Sums along lines of bytes, then numbers put together from the planes of their bytes, most significant first."""
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
