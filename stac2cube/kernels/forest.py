"""A gradient-boosted forest laid flat: LightGBM's own answers, bit for bit, several times as fast on one core.

A forest that was trained on binned numbers compares each feature with few distinct cuts (253 in s2cloudless' model), so
a feature can be replaced by the number of cuts below it, which fits in a byte, and no comparison changes its outcome. A
tree then is a few kilobytes that stay in the innermost cache while all pixels walk it, eight side by side, so that the
processor never waits for one of them. Leaf values are summed in the order of the trees, in double precision, as
LightGBM does, and the logistic function is that of the same C library: hence the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable

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
