"""Whether the overviews of a file are means of pixels, or pixels that were chosen: then they lie beside their middle.

A chosen pixel stands for the corner of what it covers, (F - 1) / 2 pixels from its middle at factor F. Files say
seldom how their overviews were made, so that a piece of one is laid beside the full resolution.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np

from stac2cube.source.image import Image, Roi
from stac2cube.source.sign import is_remote
from stac2cube.trust.address import host_of

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
