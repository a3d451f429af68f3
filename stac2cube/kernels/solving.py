"""From shifts between pairs of scenes to one shift per scene."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

REFERENCE = "reference"
"""Name of the reference in pairs; it lies where it should."""

Vector = tuple[float, float]


@dataclass(frozen=True)
class Pair:
    """One measured and accepted pair.

    Attributes:
        scene: Key of the scene.
        other: Key of what it was measured against, or :data:`REFERENCE`.
        shift: x and y, metres: what moves the scene onto the other as it lies.
        sigma: Its standard error, metres.
    """

    scene: str
    other: str
    shift: Vector
    sigma: float


def along(pairs: Sequence[Pair], fixed: Mapping[str, Vector], *, unknown_is_still: bool) -> dict[str, Vector]:
    """Shifts by adding up: a scene's is that of its pair plus that of the other scene.

    Args:
        pairs: At most one per scene.
        fixed: Shifts that are known.
        unknown_is_still: Another scene without a shift counts as unmoved; else what hangs on it has no shift either.
    """
    by_scene = {pair.scene: pair for pair in pairs}
    known = {REFERENCE: (0.0, 0.0), **fixed}

    def follow(scene: str, above: frozenset[str]) -> Vector | None:
        if scene in known:
            return known[scene]
        pair = by_scene.get(scene)
        if pair is None or scene in above:
            return (0.0, 0.0) if unknown_is_still and above else None
        other = follow(pair.other, above | {scene})
        if other is None:
            return None
        known[scene] = (other[0] + pair.shift[0], other[1] + pair.shift[1])
        return known[scene]

    # In the order given, so that chains of any length are followed without deep recursion.
    found = {pair.scene: follow(pair.scene, frozenset()) for pair in pairs}
    return {scene: shift for scene, shift in found.items() if shift is not None}


def graph(pairs: Sequence[Pair], fixed: Mapping[str, Vector], passes: int = 10) -> dict[str, Vector]:
    """Shifts by least squares over all pairs, those that contradict the others counting less.

    Iteratively reweighted with Huber's weights (Huber 1964), tuned to 1.345 robust deviations.

    Args:
        pairs: Any number per scene.
        fixed: Shifts that are known and stay.
        passes: Reweightings.

    Returns:
        Shifts of the scenes that hang together with the reference or a fixed one.
    """
    known = {REFERENCE: (0.0, 0.0), **fixed}
    tied = _tied(pairs, known)
    free = sorted(tied - known.keys())
    if not free:
        return {}
    places = {scene: place for place, scene in enumerate(free)}
    used = [pair for pair in pairs if pair.scene in places and (pair.other in places or pair.other in known)]
    used += [pair for pair in pairs if pair.scene in known and pair.other in places]
    rows, values = np.zeros((len(used), len(free))), np.zeros((len(used), 2))
    for row, pair in enumerate(used):
        # The scene moved minus the other moved is what was measured between them.
        values[row] = pair.shift
        for scene, sign in ((pair.scene, 1.0), (pair.other, -1.0)):
            if scene in places:
                rows[row, places[scene]] += sign
            else:
                values[row] -= sign * np.array(known[scene])
    base = 1 / np.array([max(pair.sigma, 1e-3) for pair in used])
    weight = base
    for _ in range(passes):
        shifts = np.linalg.lstsq(rows * weight[:, None], values * weight[:, None], rcond=None)[0]
        off = np.hypot(*(rows @ shifts - values).T) * base
        scale = 1.4826 * np.median(off) + 1e-9
        weight = base * np.sqrt(np.minimum(1.0, 1.345 * scale / np.maximum(off, 1e-12)))
    return {scene: (float(shifts[place, 0]), float(shifts[place, 1])) for scene, place in places.items()}


def _tied(pairs: Sequence[Pair], known: Collection[str]) -> set[str]:
    """Scenes that a chain of pairs joins to a known one."""
    joined, grown = set(known), True
    while grown:
        grown = False
        for pair in pairs:
            if (pair.scene in joined) != (pair.other in joined):
                joined |= {pair.scene, pair.other}
                grown = True
    return joined
