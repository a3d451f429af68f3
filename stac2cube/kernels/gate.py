"""How far a picture bears the optics that are believed: gates between 0 and 1, and how bands go with each other.

Agreement with the optics sharpens what they blurred, and networks learned from pictures blurred like that. Where a
picture was seen by sharper optics than the table says, both would sharpen it twice; there the gates close. Nothing here
is learned. All sums are of elements in a fixed order, so that pixels do not hang on a library's threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stac2cube.kernels.optics import degraded, means

_SHARP_WINDOW, _SHARP_MIDDLE, _SHARP_SLOPE = 25, 0.51, 30
"""Pixels of 10 m across which contrasts are averaged; where the gate is half open, and how steeply it closes. Over one
pixel and over two the contrast of measured ground is as 0.41 to 0.47 through the optics of the table, and as 0.50 to
0.60 where plain averages take their place."""

_FUSE_WINDOWS, _FUSE_MIDDLE, _FUSE_SLOPE = (7, 7), 1.1, 12
"""Pixels of 20 m across which bands are compared and errors averaged; the rest as above. The error with the optics of
the table is 0.6 to 0.85 of that with plain averages where the first hold, and 1.1 to 1.4 where the second do."""

_BLUR = 0.3
"""Modulation transfer that stands for all bands of 20 m."""

_MIX_WINDOW = 5
"""Pixels of 10 m across which details of bands are compared."""

RIDGE = 0.02
"""Part of the guides' contrast that is added to their own, so that equal guides share what they explain."""

SHARP_SEEN = 2 + _SHARP_WINDOW // 2
"""Pixels of 10 m from which others change :func:`sharp_gate`."""

FUSE_SEEN = 2 * (2 + 1 + sum(window // 2 for window in _FUSE_WINDOWS))
"""Pixels of 10 m from which others change :func:`fuse_gate`."""


def sharp_gate(fine: np.ndarray) -> np.ndarray:
    """Whether bands of 10 m are as blurred as the table says.

    Args:
        fine: ``(4, rows, columns)`` reflectance, float32.

    Returns:
        ``(rows, columns)`` float32, 1 where they are, 0 where they are much sharper. Noise closes it too.
    """
    padded = np.pad(fine, ((0, 0), (2, 2), (2, 2)), mode="symmetric")
    near, far = (boxed(_contrast(padded, step), _SHARP_WINDOW) + np.float32(1e-6) for step in (1, 2))
    return _opened(near / far, _SHARP_MIDDLE, _SHARP_SLOPE)


def fuse_gate(fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Whether bands of 20 m go with those of 10 m better through the table's optics than through plain averages.

    Args:
        fine: ``(4, 2 rows, 2 columns)`` reflectance, float32.
        coarse: ``(n, rows, columns)``.

    Returns:
        ``(rows, columns)`` float32, 1 where they do.
    """
    wanted = _details(coarse, 3)
    errors = []
    for seen in (degraded(fine, 2, [_BLUR] * len(fine)), means(fine, 2)):
        guides = _details(seen, 3)
        left = wanted.copy()
        for band, parts in zip(left, mixed(guides, wanted, _FUSE_WINDOWS[0]), strict=True):
            for part, guide in zip(parts, guides, strict=True):
                np.subtract(band, part * guide, out=band)
        errors.append(boxed(np.square(left, out=left).sum(axis=0), _FUSE_WINDOWS[1]) + np.float32(1e-12))
    return _opened(np.sqrt(errors[0] / errors[1]), _FUSE_MIDDLE, _FUSE_SLOPE)


def details_mix(fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """How the details of some bands follow from those of the bands of 10 m around each pixel.

    Args:
        fine: ``(4, rows, columns)`` reflectance, float32.
        coarse: ``(n, rows, columns)`` at 10 m too.

    Returns:
        ``(n, 4, rows, columns)`` float32: parts of each of the four.
    """
    return mixed(_details(fine, 5), _details(coarse, 5), _MIX_WINDOW)


def mixed(guides: np.ndarray, bands: np.ndarray, window: int) -> np.ndarray:
    """Least squares around each pixel, with a ridge: ``(n, guides, rows, columns)`` from ``(n, rows, columns)``."""
    count = len(guides)
    matrix: list[list[np.ndarray]] = [[guides[0]] * count for _ in range(count)]
    for row in range(count):
        for column in range(row, count):
            matrix[row][column] = matrix[column][row] = boxed(guides[row] * guides[column], window)
    ridge = np.float32(RIDGE) * _sum([matrix[place][place] for place in range(count)]) + np.float32(1e-10)
    for place in range(count):
        matrix[place][place] = matrix[place][place] + ridge
    sides = [[boxed(guide * band, window) for guide in guides] for band in bands]
    # Elimination without pivots: the matrix is positive.
    for place in range(count):
        for row in range(place + 1, count):
            factor = matrix[row][place] / matrix[place][place]
            for column in range(place + 1, count):
                matrix[row][column] = matrix[row][column] - factor * matrix[place][column]
            for side in sides:
                side[row] = side[row] - factor * side[place]
    for side in sides:
        for row in reversed(range(count)):
            known = _sum([matrix[row][column] * side[column] for column in range(row + 1, count)])
            side[row] = (side[row] - known) / matrix[row][row]
    return np.stack([np.stack(side) for side in sides])


def boxed(picture: np.ndarray, window: int) -> np.ndarray:
    """Means over squares of an odd number of pixels, ``(rows, columns)`` float32; beyond the edge it is mirrored."""
    reach = window // 2
    rows, columns = picture.shape
    padded = np.pad(picture, reach, mode="symmetric")
    down = padded[:rows].copy()
    for place in range(1, window):
        down += padded[place : place + rows]
    both = down[:, :columns].copy()
    for place in range(1, window):
        both += down[:, place : place + columns]
    return both / np.float32(window**2)


def _details(pictures: np.ndarray, window: int) -> np.ndarray:
    return np.stack([picture - boxed(picture, window) for picture in pictures])


def _contrast(padded: np.ndarray, step: int) -> np.ndarray:
    """Second differences over so many pixels along both axes, summed over bands; two pixels less on every side."""
    rows, columns = (size - 4 for size in padded.shape[1:])
    middle = 2 * padded[:, 2:-2, 2:-2]
    total = np.zeros((rows, columns), "float32")
    for down, right in ((step, 0), (0, step)):
        before = padded[:, 2 - down : 2 - down + rows, 2 - right : 2 - right + columns]
        behind = padded[:, 2 + down : 2 + down + rows, 2 + right : 2 + right + columns]
        total += np.abs(before + behind - middle).sum(axis=0)
    return total


def _opened(ratio: np.ndarray, middle: float, slope: int) -> np.ndarray:
    # Ten times the middle closes any gate, and its power is still a number.
    opened: np.ndarray = 1 / (1 + np.minimum(ratio / np.float32(middle), 10) ** slope)
    return opened.astype("float32")


def _sum(pictures: Sequence[np.ndarray]) -> np.ndarray | np.float32:
    total: np.ndarray | np.float32 = np.float32(0)
    for picture in pictures:
        total = total + picture
    return total
