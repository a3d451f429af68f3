"""Measure: how far every scene lies beside the reference, and beside its neighbours in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stac2cube.build.clear_pixels import FLATTEST, MatchBand, Patch, Picture, choose_windows, infilled, texture
from stac2cube.build.derived import Derivation, DerivedPlan, Parent
from stac2cube.build.plan import Block, Measured, Step, Summary
from stac2cube.coregister.apply import fit_field
from stac2cube.coregister.engines import arosics_points
from stac2cube.coregister.matching import MARGIN, Match, match
from stac2cube.coregister.reference import Reference
from stac2cube.coregister.rules import ShiftRules, shifts_spec
from stac2cube.coregister.solve import REFERENCE
from stac2cube.model.grid import Grid
from stac2cube.store.staging import Window

NEIGHBOURS = 3
"""Scenes before it against which a scene is measured for a graph."""

WINDOWS = {"arosics": 8, "phase": 12}
"""Windows compared at most, per engine."""


@dataclass(frozen=True)
class Other:
    """What a scene is measured against.

    Attributes:
        name: Key of the scene, or :data:`stac2cube.coregister.solve.REFERENCE`.
        picture: Its pixels.
        season: Of the reference, "" for a scene.
    """

    name: str
    picture: Picture
    season: str = ""


@dataclass(frozen=True)
class Task:
    """The scene and what it is measured against."""

    picture: Picture
    others: tuple[Other, ...]


@dataclass(frozen=True)
class MeasureScene:
    """The task: the shifts of one scene.

    Attributes:
        look: How scenes are looked at.
        reference_look: How references are looked at.
        grid: Of the scenes.
        edge: Of the windows, pixels.
        cells: Per season of the reference and half window: the part that shows ground, and how much there is to see.
        rules: What decides.
    """

    look: MatchBand
    reference_look: MatchBand
    grid: Grid
    edge: int
    cells: Mapping[str, tuple[np.ndarray, np.ndarray]]
    rules: ShiftRules

    def __call__(self, task: Task, block: Block) -> Measured:
        """Per window the shift against the first other, metres; as a fact of the step all pairs.

        Raises:
            ReadError: A cube cannot be read.
        """
        clear = self.look.clear_cells(task.picture, self.grid, self.edge // 2)
        pairs, field = [], np.full((2, *block.geobox.shape), np.nan, dtype="float32")
        for place, other in enumerate(task.others):
            about, each = self._pair(task.picture, other, clear)
            if self.rules.mode == "local" and "shift_x" in about:
                about["local"] = self._local(task.picture, other.picture)
                if not about["local"]["reason"]:  # what one shift cannot say is no doubt of a field
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
        # Both are clear only where each is: of cells partly clear at least as much as this.
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
        """A field of shifts as far as one can be believed: coefficients in metres, or why there is none."""
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
    """What a scene is measured against."""
    if rules.strategy == "consecutive":
        return tuple(Other(one, pictures[one]) for one in before[-1:])
    # A season's own reference is measured against the main one; the others of the season against it.
    own = reference.scenes[season] == (key,)
    season = reference.main if own else season
    name = REFERENCE if season == reference.main else reference.scenes[season][0]
    others = [Other(name, reference.picture(season), season)]
    if rules.strategy == "graph":
        others += [Other(one, pictures[one]) for one in before[-NEIGHBOURS:]]
    return tuple(others)


def _shows_ground(patch: Patch) -> bool:
    """Whether there is enough in a window, now that its pixels are known."""
    inner = slice(MARGIN, -MARGIN)
    good = patch.good[inner, inner]
    if good.mean() < FLATTEST:
        return False
    return bool(texture(patch.target[inner, inner], good).any() and texture(patch.reference[inner, inner], good).any())


def _of_windows(cells: np.ndarray) -> np.ndarray:
    """Means over windows of two by two cells, each half a window beside the next."""
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
