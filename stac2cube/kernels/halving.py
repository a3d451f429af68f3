"""A picture at half its size: four pixels become one."""

from __future__ import annotations

from typing import Any

import numpy as np


def _fours(values: np.ndarray) -> np.ndarray:
    """The four pixels of each new one: ``(4, rows / 2, columns / 2)``, in the order of reading."""
    rows, columns = values.shape
    return values.reshape(rows // 2, 2, columns // 2, 2).transpose(1, 3, 0, 2).reshape(4, rows // 2, columns // 2)


def halved_mean(values: np.ndarray, fill: Any) -> np.ndarray:
    """Means of the pixels that hold data; integers are rounded to the nearest, halves to the even.

    Args:
        values: ``(rows, columns)``, both even.
        fill: What pixels without data hold; NaN too.

    Returns:
        ``(rows / 2, columns / 2)`` of the same dtype; fill where none of the four holds data.
    """
    floating = values.dtype.kind == "f"
    fours = _fours(values)
    valid = np.isfinite(fours) & (fours != fill) if floating else fours != fill
    count = valid.sum(axis=0)
    mean = np.where(valid, fours, 0).sum(axis=0, dtype="float64") / np.maximum(count, 1)
    if not floating:
        mean = np.rint(mean)
    halved: np.ndarray = np.where(count > 0, mean, fill).astype(values.dtype)
    return halved


def halved_mode(values: np.ndarray, fill: Any) -> np.ndarray:
    """The most frequent of the values that are not fill; of equally frequent ones the first in the order of reading.

    Args:
        values: ``(rows, columns)`` integers, both even: classes or bits.
        fill: What pixels without data hold.

    Returns:
        ``(rows / 2, columns / 2)`` of the same dtype; fill where none of the four holds data.
    """
    fours = _fours(values)
    alike = (fours[:, None] == fours[None]).sum(axis=1, dtype="int8")
    votes = np.where(fours == fill, 0, alike)
    halved: np.ndarray = np.take_along_axis(fours, votes.argmax(axis=0)[None], axis=0)[0]
    return halved


def halved(picture: np.ndarray, way: str) -> np.ndarray:
    """Pixels of 20 m from those of 10 m that were made of them.

    Args:
        picture: ``(rows, columns)``, even, beginning at the corner of a 20 m pixel.
        way: ``"nearest"``: every pixel is there four times; ``"bilinear"``: each is a mix, three to one, along both
            axes, which two pixels either side of an edge undo exactly; ``"mean"`` of four, for what was moved by parts
            of a pixel: softer than what was measured.
    """
    if way == "bilinear":
        return _unmixed(_unmixed(picture).T).T
    rows, columns = picture.shape
    means: np.ndarray = picture.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3), dtype="float32")
    return means


def _unmixed(picture: np.ndarray) -> np.ndarray:
    """Along rows: of two pixels either side of an edge, 3/4 a + 1/4 b and 1/4 a + 3/4 b, the a and b; means of both."""
    first, second = picture[0::2], picture[1::2]
    upper = first.copy()
    upper[1:] = 1.5 * first[1:] - 0.5 * second[:-1]
    lower = second.copy()
    lower[:-1] = 1.5 * second[:-1] - 0.5 * first[1:]
    mean: np.ndarray = (upper + lower) / 2
    return mean
