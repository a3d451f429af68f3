"""Cloud probability of a pixel by the model of s2cloudless, with a fast evaluation of its trees; masks and shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
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
# outcome. A tree then is a few kilobytes that stay in the innermost cache while all pixels walk it, eight side by
# side, so that the processor never waits for one of them. Leaf values are summed in the order of the trees, in double
# precision, as LightGBM does, and the logistic function is that of the same C library: hence the same bits.

MOST_CUTS = 255
"""Distinct cuts of a feature that a byte can count."""

_LEAF, _CUT, _NEXT = 1 << 31, 4, 12
"""Layout of a node in 32 bits: feature in the lowest 4, cut in 8, place of the left child from bit 12, the right one
follows it; the highest bit marks a leaf, which is its own left child."""

_ROW = 16
"""Bytes per pixel: features, padded to a power of two."""


@dataclass(frozen=True)
class Forest:
    """A forest laid flat.

    Attributes:
        cuts: Per feature its distinct cuts, ascending, float64.
        nodes: ``(trees, places)`` uint32, see above; unused places are 0.
        values: ``(trees, places)`` float64, what a leaf adds.
    """

    cuts: tuple[np.ndarray, ...]
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
        rows = np.zeros((-(-len(features) // 8) * 8, _ROW), "uint8")
        for feature, cuts in enumerate(self.cuts):
            rows[: len(features), feature] = np.searchsorted(cuts, features[:, feature], side="left")
        sums = np.zeros(len(rows))
        _walker()(rows, self.nodes, self.values, sums)
        answers: np.ndarray = sums[: len(features)]
        return answers


@cache
def read_forest(path: Path) -> Forest:
    """Read a LightGBM model file (its text format, version 2 and later) and lay it flat.

    Raises:
        BadInputError: It is of a kind that is not covered: another objective than binary, categorical or linear trees,
            special treatment of missing values, too many features or cuts.
    """
    head, *trees = path.read_text().split("\nTree=")
    parsed = [_parse(tree) for tree in trees]
    features = int(_field(head, "max_feature_idx")) + 1
    kinds = {kind for tree in parsed for kind in tree["decision_type"]}
    plain = "objective=binary sigmoid:1" in head and "num_class=1\n" in head and kinds <= {"0", "2"}
    if not plain or features > _ROW - 1 or any("is_linear=1" in tree for tree in trees):
        raise BadInputError(f"{path.name} is a forest of another kind: use the engine 'library'")
    split = [np.array(tree["split_feature"], int) for tree in parsed]
    at = [np.array(tree["threshold"], float) for tree in parsed]
    every, where = np.concatenate(at), np.concatenate(split)
    cuts = tuple(np.unique(every[where == feature]) for feature in range(features))
    if max(map(len, cuts)) > MOST_CUTS:
        raise BadInputError(f"{path.name} has more than {MOST_CUTS} cuts of one feature: use the engine 'library'")
    places = max(2 * len(one) + 1 for one in split)
    nodes, values = np.zeros((len(parsed), places), "uint32"), np.zeros((len(parsed), places))
    for number, tree in enumerate(parsed):
        cut = np.zeros(len(split[number]), int)
        for feature in range(features):
            mine = split[number] == feature
            cut[mine] = np.searchsorted(cuts[feature], at[number][mine])
        _lay_flat(tree, split[number] | cut << _CUT, nodes[number], values[number])
    return Forest(cuts, nodes, values)


def _parse(tree: str) -> dict[str, list[str]]:
    names = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value")
    return {name: _field(tree, name).split() for name in names}


def _field(text: str, name: str) -> str:
    return text.split(f"\n{name}=", 1)[1].split("\n", 1)[0]


def _lay_flat(tree: dict[str, list[str]], heads: np.ndarray, nodes: np.ndarray, values: np.ndarray) -> None:
    """Give every node a place, level by level, siblings side by side."""
    children = list(zip(map(int, tree["left_child"]), map(int, tree["right_child"]), strict=True))
    queue, place_of, following = [0], {0: 0}, 1
    for node in queue:
        nodes[place_of[node]] = heads[node] | following << _NEXT
        for child in children[node]:
            if child >= 0:
                place_of[child] = following
                queue.append(child)
            else:  # LightGBM numbers leaves -1, -2, ...; cut 255 sends every byte to the left, to the leaf itself
                nodes[following] = _LEAF | 255 << _CUT | following << _NEXT
                values[following] = float(tree["leaf_value"][~child])
            following += 1


@cache
def _walker() -> Callable[..., None]:
    """The loop over trees and pixels, compiled once per process (a second or two)."""
    try:
        import numba
    except ImportError as error:
        raise BadInputError(
            "the engine 'forest' needs numba: pip install 'stac2cube[clouds]', or use the engine 'library'"
        ) from error

    leaf, mask = np.uint32(_LEAF), np.uint32((_LEAF >> _NEXT) - 1)
    next_at, cut_at, byte, nibble = np.uint32(_NEXT), np.uint32(_CUT), np.uint32(255), np.uint32(15)

    @numba.njit(inline="always")
    def step(node: Any, nodes: Any, row: Any) -> Any:
        right = np.uint32(row[node & nibble] > ((node >> cut_at) & byte))
        return nodes[((node >> next_at) & mask) + right]

    @numba.njit(nogil=True)
    def walk(rows: Any, forest: Any, values: Any, sums: Any) -> None:
        for tree in range(forest.shape[0]):
            nodes, leaves = forest[tree], values[tree]
            for i in range(0, rows.shape[0], 8):
                r0, r1, r2, r3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
                r4, r5, r6, r7 = rows[i + 4], rows[i + 5], rows[i + 6], rows[i + 7]
                a = b = c = d = e = f = g = h = nodes[0]
                while not a & b & c & d & e & f & g & h & leaf:
                    for _ in range(2):
                        a, b, c, d = step(a, nodes, r0), step(b, nodes, r1), step(c, nodes, r2), step(d, nodes, r3)
                        e, f, g, h = step(e, nodes, r4), step(f, nodes, r5), step(g, nodes, r6), step(h, nodes, r7)
                sums[i] += leaves[(a >> next_at) & mask]
                sums[i + 1] += leaves[(b >> next_at) & mask]
                sums[i + 2] += leaves[(c >> next_at) & mask]
                sums[i + 3] += leaves[(d >> next_at) & mask]
                sums[i + 4] += leaves[(e >> next_at) & mask]
                sums[i + 5] += leaves[(f >> next_at) & mask]
                sums[i + 6] += leaves[(g >> next_at) & mask]
                sums[i + 7] += leaves[(h >> next_at) & mask]
        for i in range(sums.size):
            sums[i] = 1.0 / (1.0 + math.exp(-sums[i]))

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
