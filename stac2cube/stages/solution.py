"""Solve: from what was measured to one shift per scene, or the reason why a scene stays where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stac2cube.cube.ledger import FAILED, Entry
from stac2cube.kernels.fields import Field
from stac2cube.kernels.solving import Pair, along, graph
from stac2cube.stages.shift_rules import DEAD_BAND, ShiftRules


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


def _pair(key: str, pair: Mapping[str, Any]) -> Pair:
    return Pair(key, pair["other"], (pair["shift_x"], pair["shift_y"]), pair["sigma"])


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
