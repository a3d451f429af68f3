"""Measure shifts of scenes against the reference and their neighbours, and give each scene one shift or a reason."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stac2cube.build.clear_pixels import FLATTEST, MatchBand, Patch, Picture, choose_windows, infilled, texture
from stac2cube.build.derived import Derivation, DerivedPlan, Parent
from stac2cube.build.plan import Block, Measured, Step, Summary
from stac2cube.coregister.apply import Field, fit_field
from stac2cube.coregister.matching import MARGIN, Match, arosics_points, match
from stac2cube.coregister.reference import Reference
from stac2cube.coregister.rules import DEAD_BAND, ShiftRules, shifts_spec
from stac2cube.model.grid import Grid
from stac2cube.store.ledger import FAILED, Entry
from stac2cube.store.staging import Window

# From shifts between pairs of scenes to one shift per scene.

REFERENCE = "reference"
"""Name of the reference in pairs; its shift is zero by definition."""

Vector = tuple[float, float]


@dataclass(frozen=True)
class MeasuredPair:
    """One measured and accepted pair.

    Attributes:
        scene: Key of the scene.
        other: Key of the scene that it was measured against, or :data:`REFERENCE`.
        shift: x and y in metres that move the scene onto the other, unmoved one.
        sigma: Its standard error, metres.
    """

    scene: str
    other: str
    shift: Vector
    sigma: float


def along(pairs: Sequence[MeasuredPair], fixed: Mapping[str, Vector], *, unknown_is_still: bool) -> dict[str, Vector]:
    """Shifts by summation: a scene's shift is that of its pair plus that of the other scene.

    Args:
        pairs: At most one per scene.
        fixed: Known shifts.
        unknown_is_still: Whether another scene without a shift counts as unmoved; if not, scenes measured against it
            have no shift either.
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

    # In the given order, so that chains of any length are followed without deep recursion.
    found = {pair.scene: follow(pair.scene, frozenset()) for pair in pairs}
    return {scene: shift for scene, shift in found.items() if shift is not None}


def graph(pairs: Sequence[MeasuredPair], fixed: Mapping[str, Vector], passes: int = 10) -> dict[str, Vector]:
    """Shifts by least squares over all pairs; pairs that contradict the others have less weight.

    Iteratively reweighted with Huber's weights (Huber 1964), tuned to 1.345 robust deviations.

    Args:
        pairs: Any number per scene.
        fixed: Known shifts, which are not changed.
        passes: Number of reweightings.

    Returns:
        Shifts of the scenes that are connected with the reference or a fixed scene.
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
        # The shift of the scene minus that of the other equals the measured shift between them.
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
    """Scenes that a chain of pairs connects with a known one."""
    joined, grown = set(known), True
    while grown:
        grown = False
        for pair in pairs:
            if (pair.scene in joined) != (pair.other in joined):
                joined |= {pair.scene, pair.other}
                grown = True
    return joined


# Solving: from measurements to one shift per scene, or the reason why a scene is not moved.


@dataclass(frozen=True)
class Verdict:
    """The decision on a scene.

    Attributes:
        shift: x and y in metres, added to its positions; (0, 0) if it is not moved.
        accepted: Whether the measurement was accepted, also if the scene is in place already.
        reason: Why it is not moved, "" if it is.
        found: The solved shift in metres, None if no measurement was accepted.
        field: Shifts that vary over the scene, in metres to the right and down, used instead of ``shift``.
    """

    shift: tuple[float, float]
    accepted: bool
    reason: str
    found: tuple[float, float] | None
    field: Field | None = None


def solve(
    rows: Mapping[str, Entry], sealed: Mapping[str, Entry], rules: ShiftRules, resolution: float
) -> dict[str, Verdict]:
    """Decide on every scene that was measured and is not moved yet.

    Args:
        rows: Ledger rows of the cube of shifts, by key.
        sealed: Ledger rows of the co-registered cube: these steps do not change, and others may be measured against
            them.
        rules: The rules.
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
    # In a graph the best pair gives an upper limit of the error; in chains there is only one pair.
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


NEIGHBOURS = 3
"""Number of preceding scenes against which a scene is measured for a graph."""

WINDOWS = {"arosics": 8, "phase": 12}
"""Most windows compared, per engine."""


@dataclass(frozen=True)
class Other:
    """A scene or reference that a scene is measured against.

    Attributes:
        name: Key of the scene, or :data:`stac2cube.coregister.measure.REFERENCE`.
        picture: Its pixels.
        season: Season of a reference, "" for a scene.
    """

    name: str
    picture: Picture
    season: str = ""


@dataclass(frozen=True)
class Task:
    """A scene and the pictures that it is measured against."""

    picture: Picture
    others: tuple[Other, ...]


@dataclass(frozen=True)
class MeasureScene:
    """The task that measures the shifts of one scene.

    Attributes:
        look: How pictures of scenes are read.
        reference_look: How pictures of references are read.
        grid: Grid of the scenes.
        edge: Edge of the windows, pixels.
        cells: Per season of the reference and half window: the fraction that shows ground, and the amount of texture.
        rules: The rules.
    """

    look: MatchBand
    reference_look: MatchBand
    grid: Grid
    edge: int
    cells: Mapping[str, tuple[np.ndarray, np.ndarray]]
    rules: ShiftRules

    def __call__(self, task: Task, block: Block) -> Measured:
        """The shift per window against the first other, in metres; all pairs as a fact of the step.

        Raises:
            ReadError: A cube cannot be read.
        """
        clear = self.look.clear_cells(task.picture, self.grid, self.edge // 2)
        pairs, field = [], np.full((2, *block.geobox.shape), np.nan, dtype="float32")
        for place, other in enumerate(task.others):
            about, each = self._pair(task.picture, other, clear)
            if self.rules.mode == "local" and "shift_x" in about:
                about["local"] = self._local(task.picture, other.picture)
                if not about["local"]["reason"]:  # doubts about a single shift do not apply to a field
                    about |= {"accepted": True, "reason": ""}
            pairs.append(about)
            if place == 0:
                for (row, column), shift in each.items():
                    field[:, row, column] = shift
        facts = {"pairs": pairs, "clear_fraction": round(float(clear.mean()), 4)}
        return Measured({"shift_x": field[0], "shift_y": field[1]}, facts=facts)

    def _pair(
        self, picture: Picture, other: Other, clear: np.ndarray
    ) -> tuple[dict[str, Any], dict[tuple[int, int], tuple[float, float]]]:
        season = other.season or next(iter(self.cells))
        ground, rough = self.cells[season]
        theirs = ground if other.season else self.look.clear_cells(other.picture, self.grid, self.edge // 2)
        look = self.reference_look if other.season else self.look
        count = max(WINDOWS.values())
        # Both are clear only where each is: for partly clear cells this is the lower limit.
        windows = choose_windows(_of_windows(np.clip(clear + theirs - 1, 0, 1)), _of_windows(rough), count)
        patches = [self._patch(picture, other.picture, look, window) for window in windows]
        seen = [patch for patch in patches if _shows_ground(patch)]
        windows = [window for window, patch in zip(windows, patches, strict=True) if _shows_ground(patch)]
        found = match(seen[: WINDOWS[self.rules.engine]], self.rules.engine) if seen else None
        check = match(seen, "phase") if seen and self.rules.engine != "phase" else None
        resolution = self.grid.resolution
        about = {
            "other": other.name,
            "season": other.season,
            "reason": self.rules.verdict(found, check),
            **(_figures(found, resolution) if found else {}),
        }
        about["accepted"] = not about["reason"]
        if check:
            about["phase_x"], about["phase_y"] = _metres(check.right, check.down, resolution)
        each = {
            window: _metres(*shift, resolution)
            for window, shift in zip(windows, found.each if found else (), strict=False)
            if shift is not None
        }
        return about, each

    def _local(self, picture: Picture, reference: Picture) -> dict[str, Any]:
        """A field of shifts, if one is reliable: coefficients in metres, or the reason why there is none."""
        whole = slice(0, self.grid.shape[0]), slice(0, self.grid.shape[1])
        target, seen = self.look.read(picture, whole)
        ground, there = self.reference_look.read(reference, whole)
        good = seen & there
        filled = infilled((ground, target), good)
        points, shifts = arosics_points(filled[0], filled[1], good, self.edge)
        size = np.array(self.grid.shape[::-1])
        fitted = fit_field(2 * (points + 0.5) / size - 1, shifts)
        if fitted is None:
            return {"points": len(points), "reason": "no field says more than one shift"}
        field, before, after = fitted
        if field.largest > self.rules.max_shift:
            return {"points": len(points), "reason": f"a field of up to {field.largest:.1f} px is more than max_shift"}
        step = self.grid.resolution
        return {
            "points": len(points),
            "reason": "",
            "left_by_one_shift": round(before, 4),
            "left": round(after, 4),
            "right": [round(value * step, 5) for value in field.right],
            "down": [round(value * step, 5) for value in field.down],
        }

    def _patch(self, picture: Picture, other: Picture, look: MatchBand, window: tuple[int, int]) -> Patch:
        around = self._window(window)
        target, seen = self.look.read(picture, around)
        reference, there = look.read(other, around)
        return Patch(reference, target, seen & there)

    def _window(self, window: tuple[int, int]) -> Window:
        top, left = (place * (self.edge // 2) - MARGIN for place in window)
        size = self.edge + 2 * MARGIN
        return slice(top, top + size), slice(left, left + size)


def measure(
    parent: Parent,
    pictures: Mapping[str, Picture],
    look: MatchBand,
    reference: Reference,
    rules: ShiftRules,
    making: Derivation,
) -> Summary:
    """Measure every scene that was not measured yet; raises the errors of :func:`stac2cube.build.loop.build`.

    Args:
        parent: The cube of the scenes.
        pictures: The scenes to be measured.
        look: Band and classes that are compared.
        reference: The reference.
        rules: Rules of the measurement.
        making: The run that creates or extends the cube of shifts.

    Returns:
        What was done.
    """
    spec = shifts_spec(parent.spec, look.band, rules, parent.path)
    edge = int(spec.recipe["edge"])
    cells = {season: reference.cells(season, edge // 2) for season in reference.scenes}
    task = MeasureScene(look, reference.look(), parent.spec.grid, edge, cells, rules)
    keys = sorted(pictures, key=lambda key: (parent.rows[key].time, key))
    steps = []
    for position, key in enumerate(keys):
        row = parent.rows[key]
        others = _others(key, keys[:position], reference, reference.season(row.time), pictures, rules)
        steps.append(Step(parent.entry(row), Task(pictures[key], others), ((0, 0),)))
    return making.build(DerivedPlan(spec, steps, task))


def _others(
    key: str,
    before: Sequence[str],
    reference: Reference,
    season: str,
    pictures: Mapping[str, Picture],
    rules: ShiftRules,
) -> tuple[Other, ...]:
    """The pictures that a scene is measured against."""
    if rules.strategy == "consecutive":
        return tuple(Other(one, pictures[one]) for one in before[-1:])
    # A season's own reference is measured against the main one; the season's other scenes against it.
    own = reference.scenes[season] == (key,)
    season = reference.main if own else season
    name = REFERENCE if season == reference.main else reference.scenes[season][0]
    others = [Other(name, reference.picture(season), season)]
    if rules.strategy == "graph":
        others += [Other(one, pictures[one]) for one in before[-NEIGHBOURS:]]
    return tuple(others)


def _shows_ground(patch: Patch) -> bool:
    """Whether the pixels of a window show enough ground."""
    inner = slice(MARGIN, -MARGIN)
    good = patch.good[inner, inner]
    if good.mean() < FLATTEST:
        return False
    return bool(texture(patch.target[inner, inner], good).any() and texture(patch.reference[inner, inner], good).any())


def _of_windows(cells: np.ndarray) -> np.ndarray:
    """Means over windows of two by two cells, half a window apart."""
    means: np.ndarray = (cells[1:, 1:] + cells[1:, :-1] + cells[:-1, 1:] + cells[:-1, :-1]) / 4
    return means


def _metres(right: float, down: float, resolution: float) -> tuple[float, float]:
    return round(right * resolution, 4), round(-down * resolution, 4)


def _figures(found: Match, resolution: float) -> dict[str, Any]:
    x, y = _metres(found.right, found.down, resolution)
    first = _metres(*found.first, resolution)
    return {
        "shift_x": x,
        "shift_y": y,
        "first_x": first[0],
        "first_y": first[1],
        "windows": found.windows,
        "tried": found.tried,
        "spread": round(found.spread, 4),
        "sigma": round(found.sigma * resolution, 4),
        "residual": round(found.residual, 4) if np.isfinite(found.residual) else None,
        "reliability": round(found.reliability, 1),
    }
