"""Which granules can hold pixels of which blocks, by their footprints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry import shape

from stac2cube.scene import Granule
from stac2cube.source.outline import outlines

_SLACK_DEGREES = 0.02
"""About two kilometres: more than the simplification of any catalog's footprints seen."""


def touching(granules: Sequence[Granule], geoboxes: Sequence[GeoBox]) -> list[tuple[int, ...]]:
    """Which granules can touch which blocks: for each block their places in the sequence, in order.

    Footprints in catalogs are simplified, so they are taken a little larger than they say.
    """
    blocks, places = touching_pairs(granules, geoboxes)
    ends = np.searchsorted(blocks, np.arange(1, len(geoboxes)))
    return [tuple(part.tolist()) for part in np.split(places, ends)]


def touching_pairs(
    granules: Sequence[Granule], geoboxes: Sequence[GeoBox]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same as pairs: places of blocks, sorted, and of granules, sorted within each block."""
    if not granules or not geoboxes:
        return np.empty(0, "int64"), np.empty(0, "int64")
    tree = shapely.STRtree(shapely.buffer([shape(granule.footprint) for granule in granules], _SLACK_DEGREES))
    blocks = outlines(geoboxes)
    bounds = shapely.bounds(blocks)
    # Footprints are split at 180 degrees, blocks run on beyond: they are looked for on either side of the seam.
    near_east, near_west = bounds[:, 2] > 180 - _SLACK_DEGREES, bounds[:, 0] < -180 + _SLACK_DEGREES
    found = []
    for turn, looked in ((0, np.ones(len(blocks), dtype=bool)), (-360, near_east), (360, near_west)):
        places = np.flatnonzero(looked)
        turned = shapely.transform(blocks[places], lambda points, turn=turn: np.add(points, (turn, 0)))
        block, granule = tree.query(turned, predicate="intersects")
        found.append(places[block] * len(granules) + granule)
    pairs = sorted_once(np.concatenate(found))
    return pairs // len(granules), pairs % len(granules)


def sorted_once(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers in order, each once; many times faster than NumPy's ``unique``, which hashes them."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) != 0] if ordered.size else ordered
