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
