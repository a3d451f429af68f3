"""From shifts between pairs of scenes to one shift per scene, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stac2cube.coregister.apply import Field
from stac2cube.coregister.rules import DEAD_BAND, ShiftRules
from stac2cube.store.ledger import FAILED, Entry

# From shifts between pairs of scenes to one shift per scene.

REFERENCE = "reference"
"""Name of the reference in pairs; it lies where it should."""

Vector = tuple[float, float]


@dataclass(frozen=True)
class MeasuredPair:
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


def along(pairs: Sequence[MeasuredPair], fixed: Mapping[str, Vector], *, unknown_is_still: bool) -> dict[str, Vector]:
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


def graph(pairs: Sequence[MeasuredPair], fixed: Mapping[str, Vector], passes: int = 10) -> dict[str, Vector]:
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


def _tied(pairs: Sequence[MeasuredPair], known: Collection[str]) -> set[str]:
    """Scenes that a chain of pairs joins to a known one."""
    joined, grown = set(known), True
    while grown:
        grown = False
        for pair in pairs:
            if (pair.scene in joined) != (pair.other in joined):
                joined |= {pair.scene, pair.other}
                grown = True
    return joined


# Solve: from what was measured to one shift per scene, or the reason why a scene stays where it is.


@dataclass(frozen=True)
class Verdict:
    """What becomes of a scene.

    Attributes:
        shift: x and y to be added to its positions, metres; (0, 0) if it stays.
        accepted: Whether it was measured to satisfaction, be it that it lies well already.
        reason: Why it stays, "" if it is moved.
        found: The shift that was solved, metres, None where nothing is believed.
        field: Shifts that change over the scene, metres to the right and down, instead of the one.
    """

    shift: tuple[float, float]
    accepted: bool
    reason: str
    found: tuple[float, float] | None
    field: Field | None = None


def solve(
    rows: Mapping[str, Entry], sealed: Mapping[str, Entry], rules: ShiftRules, resolution: float
) -> dict[str, Verdict]:
    """Decide for every scene that was measured and is not moved yet.

    Args:
        rows: Of the cube of shifts, by key.
        sealed: Of the co-registered cube: these stay as they are, and others may lean on them.
        rules: What decides.
        resolution: Pixel edge, metres.
    """
    measured = {key: row for key, row in rows.items() if row.status != FAILED}
    fixed = {
        key: (float(row.properties["found_x"]), float(row.properties["found_y"]))
        for key, row in sealed.items()
        if row.properties.get("found_x") is not None
    }
    pairs = [_pair(key, pair) for key, row in measured.items() for pair in row.properties["pairs"] if pair["accepted"]]
    if rules.strategy == "graph":
        solved = graph(pairs, fixed)
    else:
        solved = along(pairs, fixed, unknown_is_still=rules.strategy == "consecutive")
    return {
        key: _verdict(row.properties["pairs"], solved.get(key), rules, resolution)
        for key, row in measured.items()
        if key not in sealed
    }


def _pair(key: str, pair: Mapping[str, Any]) -> MeasuredPair:
    return MeasuredPair(key, pair["other"], (pair["shift_x"], pair["shift_y"]), pair["sigma"])


def _verdict(
    pairs: list[dict[str, Any]], found: tuple[float, float] | None, rules: ShiftRules, resolution: float
) -> Verdict:
    if not pairs:
        return Verdict((0.0, 0.0), accepted=False, reason="there is no scene before it", found=None)
    if found is None:
        reasons = dict.fromkeys(f"{pair['other']}: {pair['reason']}" for pair in pairs if pair["reason"])
        reason = "; ".join(reasons) or "what it was measured against is itself not placed"
        return Verdict((0.0, 0.0), accepted=False, reason=reason, found=None)
    found = (round(found[0], 4), round(found[1], 4))
    size = math.hypot(*found)
    # A graph's best pair says how sure a shift is at least; of chains the pair is all there is.
    sigma = min(pair["sigma"] for pair in pairs if pair["accepted"])
    if rules.strategy != "consecutive" and size > rules.max_shift * resolution:
        return Verdict((0.0, 0.0), accepted=False, reason=f"{size:.1f} m is more than max_shift", found=None)
    local = pairs[0].get("local") or {}
    if local.get("right"):
        field = Field(tuple(local["right"]), tuple(local["down"]))
        return Verdict(found, accepted=True, reason="", found=found, field=field)
    if size <= max(DEAD_BAND * resolution, 2 * sigma):
        return Verdict((0.0, 0.0), accepted=True, reason="in place already", found=found)
    return Verdict(found, accepted=True, reason="", found=found)
