"""Cloud probability of a pixel by the model of s2cloudless, with a fast evaluation of its trees; masks and shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage

from stac2cube.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightgbm import Booster


# A gradient-boosted forest laid flat: LightGBM's own answers, bit for bit, several times as fast on one core.
#
# A forest that was trained on binned numbers compares each feature with few distinct cuts (253 in s2cloudless' model),
# so a feature can be replaced by the number of cuts below it, which fits in a byte, and no comparison changes its
# outcome. A block of pixels, whose bytes stay in the cache, passes each tree in two parts:
#
# - The top: the nodes that most pixels of the training passed. It ends in 64 exits. Every one of its nodes is evaluated
#   for every pixel. No memory access depends on the one before, so the compiler uses vector instructions (16 to 64
#   pixels in one), and all 63 nodes cost less than two steps down the tree.
# - The rest: what lies below the exits. Four of ten pixels are at a leaf already, the others need three steps. They are
#   listed, all of the list take one step, and those not at a leaf are listed again: no pixel waits for another, and the
#   processor works on many at a time.
#
# Leaf values are summed in the order of the trees, in double precision, as LightGBM does, and the logistic function is
# that of the same C library: hence the same bits.

MOST_CUTS = 255
"""Distinct cuts of a feature that a byte can count."""

_MOST_FEATURES = 16

_EXITS = 64
"""Of the top of a tree, 256 at most: with 48 or 128, a pixel takes a tenth longer."""

_BLOCK = 2048
"""Pixels that pass a tree together: 20 KiB of bytes and 40 KiB of lists."""

_LEAF, _FEATURE, _NEXT = 1 << 31, 8, 12
"""Layout of a node below the top in 32 bits: cut in the lowest 8, feature in 4, place of the left child from bit 12,
the right one follows it; the highest bit marks a leaf, which holds its own place."""


@dataclass(frozen=True)
class Forest:
    """A forest laid flat.

    Attributes:
        cuts: Per feature its distinct cuts, ascending, float64.
        tops: ``(trees, 63, 4)`` uint8, the nodes of the top, each before those below it: feature, cut, first exit of
            the node and first exit of its right child; exits are numbered from left to right. Unused ones are 0.
        nodes: ``(trees, places)`` uint32, see above, exits first; unused places are 0.
        values: ``(trees, places)`` float64, what a leaf adds.
    """

    cuts: tuple[np.ndarray, ...]
    tops: np.ndarray
    nodes: np.ndarray
    values: np.ndarray

    def probability(self, features: np.ndarray) -> np.ndarray:
        """The model's answers.

        Args:
            features: ``(pixels, features)`` float32 or float64, no NaN.

        Returns:
            ``(pixels,)`` float64, 0 to 1.

        Raises:
            BadInputError: numba is not installed.
        """
        walk = _walker()
        cuts = np.full((len(self.cuts), MOST_CUTS), np.inf)
        for feature, some in enumerate(self.cuts):
            cuts[feature, : len(some)] = some
        sums = np.zeros(len(features))
        for at in range(0, len(features), _BLOCK):
            block = np.array(features[at : at + _BLOCK].T, "float64", order="C")
            walk(block, cuts, self.tops, self.nodes, self.values, sums[at : at + _BLOCK])
        return sums


@cache
def read_forest(path: Path) -> Forest:
    """Read a LightGBM model file (its text format, version 2 and later) and lay it flat.

    Raises:
        BadInputError: It is of a kind that is not covered: another objective than binary, categorical or linear trees,
            special treatment of missing values, too many features or cuts.
    """
    head, *trees = path.read_text(encoding="utf-8").split("\nTree=")
    parsed = [_parse(tree) for tree in trees]
    features = int(_field(head, "max_feature_idx")) + 1
    kinds = {kind for tree in parsed for kind in tree["decision_type"]}
    plain = "objective=binary sigmoid:1" in head and "num_class=1\n" in head and kinds <= {"0", "2"}
    if not plain or features > _MOST_FEATURES or any("is_linear=1" in tree for tree in trees):
        raise BadInputError(f"{path.name} is a forest of another kind: use the engine 'library'")
    split = [np.array(tree["split_feature"], int) for tree in parsed]
    at = [np.array(tree["threshold"], float) for tree in parsed]
    every, where = np.concatenate(at), np.concatenate(split)
    cuts = tuple(np.unique(every[where == feature]) for feature in range(features))
    if max(map(len, cuts)) > MOST_CUTS:
        raise BadInputError(f"{path.name} has more than {MOST_CUTS} cuts of one feature: use the engine 'library'")
    places = max(2 * len(one) + 1 for one in split)
    nodes, values = np.zeros((len(parsed), places), "uint32"), np.zeros((len(parsed), places))
    tops = np.zeros((len(parsed), _EXITS - 1, 4), "uint8")
    for number, tree in enumerate(parsed):
        cut = np.zeros(len(split[number]), int)
        for feature in range(features):
            mine = split[number] == feature
            cut[mine] = np.searchsorted(cuts[feature], at[number][mine])
        _lay_flat(tree, split[number], cut, (tops[number], nodes[number], values[number]))
    return Forest(cuts, tops, nodes, values)


def _parse(tree: str) -> dict[str, list[str]]:
    names = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value", "internal_count")
    return {name: _field(tree, name).split() for name in names}


def _field(text: str, name: str) -> str:
    return text.split(f"\n{name}=", 1)[1].split("\n", 1)[0]


def _lay_flat(
    tree: dict[str, list[str]], split: np.ndarray, cut: np.ndarray, into: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    """Write the top of a tree, and give every node below it a place: exits, then level by level, siblings together."""
    top, nodes, values = into
    children = list(zip(map(int, tree["left_child"]), map(int, tree["right_child"]), strict=True))
    inside = _most_visited(children, [int(count) for count in tree["internal_count"]])
    exits: list[int] = []
    # Left before right, so that exits are met in their order; with a right child goes the row of its parent.
    waiting, row = [(0, -1)], 0
    while waiting:
        node, parent = waiting.pop()
        if parent >= 0:
            top[parent, 3] = len(exits)
        if node in inside:
            top[row, :3] = split[node], cut[node], len(exits)
            waiting += [(children[node][1], row), (children[node][0], -1)]
            row += 1
        else:
            exits.append(node)
    places = exits
    for place, node in enumerate(places):
        if node < 0:  # LightGBM numbers leaves -1, -2, ...
            nodes[place], values[place] = _LEAF | place << _NEXT, float(tree["leaf_value"][~node])
        else:
            nodes[place] = cut[node] | split[node] << _FEATURE | len(places) << _NEXT
            places += children[node]


def _most_visited(children: list[tuple[int, int]], visits: list[int]) -> set[int]:
    """The inner nodes around the root that most of the training passed."""
    found: set[int] = set()
    edge = [(-visits[0], 0)]
    while edge and len(found) < _EXITS - 1:
        _, node = heappop(edge)
        found.add(node)
        for child in children[node]:
            if child >= 0:
                heappush(edge, (-visits[child], child))
    return found


@cache
def _walker() -> Callable[..., None]:
    """The loop over trees and pixels, compiled once per process (a second or two)."""
    try:
        import numba
    except ImportError as error:
        raise BadInputError(
            "the engine 'forest' needs numba: pip install 'stac2cube[clouds]', or use the engine 'library'"
        ) from error

    # Unsigned numbers throughout: numba counts a negative index from the end, and has to look for one.
    next_at, feature_at, leaf_at, one = np.uint32(_NEXT), np.uint32(_FEATURE), np.uint32(31), np.uint32(1)
    byte, nibble, place = np.uint32(255), np.uint32(15), np.uint32((_LEAF >> _NEXT) - 1)

    @numba.njit
    def count_cuts(features: Any, cuts: Any, counts: Any) -> None:
        for feature in range(features.shape[0]):
            values, mine, into = features[feature], cuts[feature], counts[feature]
            for pixel in range(values.size):
                below = 0
                for bit in (128, 64, 32, 16, 8, 4, 2, 1):
                    below += bit * (mine[below + bit - 1] < values[pixel])
                into[pixel] = below

    @numba.njit
    def find_exits(top: Any, counts: Any, exits: Any) -> None:
        # A pixel is at the first exit of the node it has come to, and no pixel elsewhere is at this exit.
        exits[:] = 0
        for node in range(top.shape[0]):
            column, cut, first, right = counts[top[node, 0]], top[node, 1], top[node, 2], top[node, 3]
            for pixel in range(exits.size):
                here = exits[pixel]
                exits[pixel] = right if (here == first) & (column[pixel] > cut) else here

    @numba.njit
    def find_leaves(nodes: Any, counts: Any, at: Any, listed: Any, left: Any) -> None:
        while left:
            walking, left = left, 0
            for number in range(walking):
                pixel = listed[number]
                node = at[pixel]
                count = counts[(node >> feature_at) & nibble, pixel]
                node = nodes[((node >> next_at) & place) + np.uint32(count > (node & byte))]
                # Written always, and kept by counting on: a branch would be predicted wrongly every few pixels.
                at[pixel], listed[left] = node, pixel
                left += np.int64((node >> leaf_at) ^ one)

    @numba.njit(nogil=True)
    def walk(features: Any, cuts: Any, tops: Any, forest: Any, values: Any, sums: Any) -> None:
        counts = np.empty((features.shape[0], _BLOCK), np.uint8)
        count_cuts(features, cuts, counts)
        exits, at, listed = (
            np.empty(sums.size, np.uint8),
            np.empty(sums.size, np.uint32),
            np.empty(sums.size, np.uint32),
        )
        for tree in range(forest.shape[0]):
            nodes, leaves = forest[tree], values[tree]
            find_exits(tops[tree], counts, exits)
            left = np.int64(0)
            for pixel in range(sums.size):
                node = nodes[exits[pixel]]
                at[pixel], listed[left] = node, pixel
                left += np.int64((node >> leaf_at) ^ one)
            find_leaves(nodes, counts, at, listed, left)
            for pixel in range(sums.size):
                sums[pixel] += leaves[(at[pixel] >> next_at) & place]
        for pixel in range(sums.size):
            sums[pixel] = 1.0 / (1.0 + math.exp(-sums[pixel]))

    compiled: Callable[..., None] = walk
    return compiled


# Cloud probability of a pixel from its Sentinel-2 L1C reflectance: the model of s2cloudless.
#
# s2cloudless (Sinergise; code and model CC BY-SA 4.0) is a gradient-boosted forest over ten bands of one pixel. Its
# model file is read from the installed package; nothing of it is part of this one.

BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")
"""The bands that the model sees, in its order."""

NODATA = 255
"""Probability of a pixel without data: never 0, which would be clear."""

DARKEST = 0.02
"""Top-of-atmosphere reflectance of B02 below which no hundredth of a scene lies: clear air alone scatters 0.05 and more
into it."""

PLAUSIBLE = 0.95
"""Share of pixels that may be cloud beyond doubt before the offset is suspected."""

OFFSET = 0.1
"""The agency's offset since baseline 04.00, in reflectance (Sentinel-2 Products Specification Document, issue 14.9)."""

_NOISE = 0.005
"""Reflectance that noise may take from the darkest hundredth of a dark band."""


def cloud_probability(toa: np.ndarray, engine: Literal["forest", "library"] = "forest") -> np.ndarray:
    """Probability of cloud.

    Args:
        toa: ``(..., 10)`` float, top-of-atmosphere reflectance 0 to 1 in the order of :data:`BANDS`; NaN in any band
            where there is no data.
        engine: The answers of both are the same to the last bit.

    Returns:
        ``(...)`` float64, 0 to 1; NaN where there is no data.

    Raises:
        BadInputError: The packages that hold and run the model are not installed.
    """
    flat = toa.reshape(-1, len(BANDS))
    valid = ~np.isnan(flat).any(axis=1)
    out = np.full(len(flat), np.nan)
    if valid.any():
        if engine == "forest":
            out[valid] = read_forest(model_file()).probability(flat[valid])
        else:  # one thread: as many blocks as there are cores are worked on already
            out[valid] = np.asarray(_booster().predict(flat[valid], num_threads=1))
    probability: np.ndarray = out.reshape(toa.shape[:-1])
    return probability


def as_percent(probability: np.ndarray) -> np.ndarray:
    """Probability as it is stored: uint8, whole percent, :data:`NODATA` where it is NaN."""
    percent = np.rint(np.where(np.isnan(probability), 0, probability) * 100).astype("uint8")
    return np.where(np.isnan(probability), np.uint8(NODATA), percent)


def implausible(probability: np.ndarray, toa: np.ndarray) -> str:
    """Why probabilities cannot be right, "" if they can.

    Counts whose offset was taken off twice or not at all drive the model to either end. What clouds themselves do to a
    scene is told apart by B10 and B12: without clouds the air lets next to no light through in B10, and dark ground and
    water give next to none in B12, so a missed offset of 0.1 is the least that both hold anywhere, and one that was
    taken off twice leaves B10 near -0.1. Thin cirrus leaves B10 or dark places of B12 below that, and as soon as it
    does not, it is bright in B02.

    Args:
        probability: ``(...)``, NaN without data.
        toa: ``(..., 10)`` reflectance in the order of :data:`BANDS`.
    """
    known = ~np.isnan(probability)
    if known.sum() < 1000:
        return ""
    blue, cirrus, swir = (toa[..., BANDS.index(band)][known] for band in ("B02", "B10", "B12"))
    darkest, least = float(np.percentile(blue, 1)), float(np.percentile(cirrus, 1))
    if darkest < DARKEST and least < _NOISE - OFFSET / 2:
        return f"the darkest B02 is {darkest:.3f}, less than air alone: its offset was probably taken off twice"
    if min(least, float(np.percentile(swir, 1))) < OFFSET - _NOISE:
        return ""
    if (probability[known] > 0.99).mean() > PLAUSIBLE and float(np.percentile(blue, 5)) < 0.2:
        return (
            f"nearly every pixel is cloud beyond doubt though many are dark, and B10 is nowhere below {least:.3f}: its "
            "offset was probably not taken off"
        )
    return ""


def model_file() -> Path:
    """The model in the installed package, found without importing it (which would load OpenCV and more).

    Raises:
        BadInputError: s2cloudless is not installed.
    """
    spec = find_spec("s2cloudless")
    if spec is None or not spec.submodule_search_locations:
        raise BadInputError("cloud probabilities need s2cloudless: pip install 'stac2cube[clouds]'")
    found = sorted((Path(next(iter(spec.submodule_search_locations))) / "models").glob("*.txt"))
    if not found:
        raise BadInputError(
            "the installed s2cloudless holds no model: reinstall it (pip install --force-reinstall s2cloudless)"
        )
    return found[-1]


@cache
def _booster() -> Booster:
    try:
        import lightgbm
    except ImportError as error:
        raise BadInputError("cloud probabilities need lightgbm: pip install 'stac2cube[clouds]'") from error
    except OSError as error:
        # Its wheel brings no OpenMP, and a fresh system has none before something else asks for it.
        raise BadInputError(f"lightgbm cannot be loaded ({error}): apt install libgomp1, or module load gcc") from error
    return lightgbm.Booster(model_file=str(model_file()))


# From cloud to masks: averaged and dilated by a disk in metres, and the shadows clouds cast.

DARK_NIR = 0.15
"""Top-of-atmosphere reflectance of B08 below which a pixel may lie in shadow (as in Google's Earth Engine tutorial on
s2cloudless)."""

WATER_SWIR = 0.03
"""Reflectance of B11 below which a dark pixel is taken for water, which is dark without shadow."""

HIGHEST_M = 5000.0
"""Cloud height up to which shadows are looked for; higher clouds are mostly thin."""

LOWEST_M = 200.0


def disk(radius_m: float, resolution: float) -> np.ndarray:
    """Pixels whose centre lies within a radius of the middle one's: ``(n, n)`` bool, n odd."""
    reach = math.floor(radius_m / resolution + 1e-9)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside: np.ndarray = rows**2 + columns**2 <= (radius_m / resolution + 1e-9) ** 2
    return inside


def cloud_mask(
    percent: np.ndarray, threshold: float, average_m: float, dilate_m: float, resolution: float
) -> np.ndarray:
    """A mask from a probability: its mean over a disk above a threshold, dilated by a disk.

    The order is that of s2cloudless; pixels without data take no part in the mean.

    Args:
        percent: ``(rows, columns)`` uint8, whole percent, 255 without data.
        threshold: 0 to 1.
        average_m: Radius of the mean, metres; 0 for none.
        dilate_m: Radius of the dilation, metres; 0 for none.
        resolution: Pixel edge, metres.

    Returns:
        Same shape, uint8: 1 cloud, 0 none, 255 without data.
    """
    known = percent != NODATA
    values = np.where(known, percent, 0).astype("int64")
    around = disk(average_m, resolution).astype("int64")
    # Whole numbers, so that the sum is the same whatever the block.
    total = ndimage.convolve(values, around, mode="constant")
    count = ndimage.convolve(known.astype("int64"), around, mode="constant")
    cloudy = (total > threshold * 100 * count) & known
    if dilate_m >= resolution:
        cloudy = dilated(cloudy, dilate_m, resolution)
    return np.where(known, cloudy.astype("uint8"), np.uint8(NODATA))


def dilated(mask: np.ndarray, radius_m: float, resolution: float) -> np.ndarray:
    """A mask widened by a disk: True where the centre of a pixel of the mask lies within a radius."""
    if not mask.any():
        return mask
    # By distance, whose cost does not grow with the radius.
    distance = ndimage.distance_transform_edt(~mask)
    wide: np.ndarray = distance <= radius_m / resolution + 1e-9
    return wide


def dark_land(nir: np.ndarray, swir: np.ndarray) -> np.ndarray:
    """Where it is dark and no water: the only places that can lie in shadow; bool, False without data.

    Args:
        nir: Top-of-atmosphere reflectance of B08, NaN without data.
        swir: The same of B11.
    """
    dark: np.ndarray = (nir < DARK_NIR) & (swir >= WATER_SWIR)
    return dark


def shadow_mask(cloud: np.ndarray, dark: np.ndarray, sun: tuple[float, float], resolution: float) -> np.ndarray:
    """Where clouds of :data:`LOWEST_M` to :data:`HIGHEST_M` cast their shadow, and it is dark.

    A cloud of height h lies h tan(zenith) from its shadow, which falls away from the sun.

    Args:
        cloud: ``(rows, columns)`` uint8, 1 cloud, 0 none, 255 without data; rows run south.
        dark: See :func:`dark_land`.
        sun: Azimuth, clockwise from grid north, and elevation, degrees.
        resolution: Pixel edge, metres.

    Returns:
        Same shape, uint8: 1 shadow, 0 none, 255 without data.
    """
    azimuth, elevation = (math.radians(angle) for angle in sun)
    reach = 1 / math.tan(max(elevation, math.radians(5)))
    cast = np.zeros(cloud.shape, dtype=bool)
    steps = max(math.ceil((HIGHEST_M - LOWEST_M) * reach / resolution), 1)
    for height in np.linspace(LOWEST_M, HIGHEST_M, steps + 1):
        length = height * reach / resolution
        row, column = round(length * math.cos(azimuth)), round(-length * math.sin(azimuth))
        cast |= _moved(cloud == 1, row, column)
    shadow = cast & dark & (cloud == 0)
    return np.where(cloud == NODATA, np.uint8(NODATA), shadow.astype("uint8"))


def shadow_reach_m(elevation: float) -> float:
    """How far from its cloud a shadow can lie, metres."""
    return HIGHEST_M / math.tan(math.radians(max(elevation, 5.0)))


def _moved(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """A mask moved down and to the right by whole pixels; what comes in from outside is False."""
    out = np.zeros_like(mask)
    height, width = mask.shape
    if abs(rows) >= height or abs(columns) >= width:
        return out
    into = (slice(max(rows, 0), height + min(rows, 0)), slice(max(columns, 0), width + min(columns, 0)))
    of = (slice(max(-rows, 0), height + min(-rows, 0)), slice(max(-columns, 0), width + min(-columns, 0)))
    out[into] = mask[of]
    return out
