"""Rules of co-registration, and specifications of its cubes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from stac2cube.errors import BadInputError
from stac2cube.model.fields import Options, Range, documented, option

if TYPE_CHECKING:
    from pathlib import Path

    from stac2cube.coregister.matching import Match
    from stac2cube.model.cube_spec import CubeSpec, Layer
    from stac2cube.model.grid import Grid

STAGE = "coregistered"
"""Name of the stage in the cubes it makes."""

STRATEGIES = {
    "reference": "every scene against one reference, or one per season",
    "graph": "every scene against the reference and its neighbours in time, robust least squares over all",
    "consecutive": "every scene against the one before, added up; drifts, kept for comparison with older tools",
}
"""Strategies from pairs to shifts."""

REFERENCES = ("clearest", "median", "seasonal")
"""References that are made from the series itself: its clearest scene, the median of the clearest, or the clearest of
each quarter of the year."""

LEAST_WINDOWS = 5
"""Fewest windows that must agree."""

MOST_SPREAD = 0.15
"""Largest median absolute deviation of the windows' shifts, pixels."""

MOST_LEFT = 0.2
"""Largest residual after moving, and largest difference between two engines, pixels."""

DEAD_BAND = 0.1
"""Shifts below this, in pixels, or below two standard errors, do not justify resampling a scene."""


@documented
@dataclass(frozen=True)
class ShiftRules(Options):
    """How shifts are measured and applied.

    ``source`` makes no difference where the cube's pixels are the scenes' own: ``"auto"`` uses the cube in that case.
    Classes are never interpolated: ``resampling`` applies to continuous bands.
    """

    engine: str = option(
        "arosics",
        "AROSICS, checked by phase correlation; or phase correlation alone, which needs nothing installed.",
        choices=("arosics", "phase"),
    )
    strategy: str = option(
        "reference",
        "Compare each scene with a reference image (reference), with the reference and its neighbours"
        " in time (graph, best under clouds), or with the scene before (consecutive).",
        choices=tuple(STRATEGIES),
    )
    reference: str = option(
        "clearest",
        "Reference image: clearest, median or seasonal, the key of a scene, or the path of an image.",
        form="path",
    )
    band: str = option("", "Band in which scenes are compared. Default: red.")
    max_shift: float = option(
        3.0, "Largest shift that is accepted, in pixels.", unit="pixels", bounds=Range(above=0, most=10)
    )
    resampling: str = option("cubic", "Resampling method for shifts by a fraction of a pixel.")
    mode: str = option(
        "global",
        "One shift per scene (global), or a smooth field of shifts where AROSICS finds one (local).",
        choices=("global", "local"),
    )
    source: str = option(
        "auto",
        "Where shifted pixels come from: the scenes are read again, so that pixels are interpolated "
        "only once (scenes), or the cube is used (cube).",
        choices=("auto", "scenes", "cube"),
    )

    def __post_init__(self) -> None:
        """Refuse invalid options.

        Raises:
            BadInputError: An option is invalid, which the message names, or AROSICS is not installed.
        """
        from stac2cube.coregister.matching import require_arosics
        from stac2cube.model.image import CONTINUOUS_RESAMPLING

        super().__post_init__()
        if self.resampling not in CONTINUOUS_RESAMPLING or self.resampling == "nearest":
            raise BadInputError(
                f"shifted bands cannot be resampled by {self.resampling!r}: bilinear, cubic, lanczos ..."
            )
        if self.strategy != "reference" and self.reference == "seasonal":
            raise BadInputError("seasonal references go with the strategy 'reference'")
        if self.mode == "local" and (self.strategy, self.source) not in (("reference", "auto"), ("reference", "cube")):
            raise BadInputError("local shifts go with the strategy 'reference', and move the cube's own pixels")
        if self.mode == "local" and self.reference == "seasonal":
            raise BadInputError("local shifts go with one reference, not one per season")
        if self.engine == "arosics" or self.mode == "local":
            require_arosics()

    def verdict(self, match: Match | None, check: Match | None) -> str:
        """Why a measurement is rejected, "" if it is accepted.

        Args:
            match: Result of the engine.
            check: Result of phase correlation, None if that is the engine.
        """
        if match is None:
            return "nothing matches"
        apart = 0.0
        if self.engine == "arosics":
            if check is None:
                return "phase correlation finds no match"
            apart = math.hypot(match.first[0] - check.right, match.first[1] - check.down)
        few = match.windows < LEAST_WINDOWS or 2 * match.windows < match.tried
        not_better = match.size > DEAD_BAND and match.residual >= match.size
        doubts = {
            f"only {match.windows} of {match.tried} windows agree": few,
            f"windows differ by {match.spread:.2f} px": match.spread > MOST_SPREAD,
            f"{match.size:.1f} px is more than max_shift": match.size > self.max_shift,
            f"{match.residual:.2f} px are left after moving": match.residual > MOST_LEFT or not_better,
            f"AROSICS and phase correlation differ by {apart:.2f} px": apart > MOST_LEFT,
        }
        return next((reason for reason, holds in doubts.items() if holds), "")


def reference_spec(parent: CubeSpec, band: Layer, rules: ShiftRules, request: dict[str, object]) -> CubeSpec:
    """Specification of the cube of the reference, so that later scenes are measured against the same picture."""
    from stac2cube.model.cube_spec import CubeSpec, Layer

    layer = Layer("picture", "float32", float("nan"), long_name=f"{band.name} as reference")
    recipe = {"title": "Reference of shifts", "reference": rules.reference, "band": band.name}
    return CubeSpec("reference", parent.grid, (layer,), recipe, request)


def shifts_spec(parent: CubeSpec, band: Layer, rules: ShiftRules, layers: Path) -> CubeSpec:
    """Specification of the cube of measurements: a step per scene, a pixel per window.

    Raises:
        BadInputError: The area is too small.
    """
    from stac2cube.model.cube_spec import CubeSpec, Layer
    from stac2cube.model.grid import Grid

    edge, grid = windows_edge(parent.grid), parent.grid
    step = edge // 2  # windows overlap by half
    rows, columns = (size // step - 1 for size in grid.shape)
    x, y = grid.origin
    lattice = Grid(
        crs=grid.crs,
        resolution=step * grid.resolution,
        origin=(x + step / 2 * grid.resolution, y - step / 2 * grid.resolution),
        shape=(rows, columns),
        chunk=(rows, columns),
        shard=(rows, columns),
    )
    names = (("shift_x", "to be added to x"), ("shift_y", "to be added to y"))
    made = tuple(Layer(name, "float32", float("nan"), units="m", long_name=f"shift {what}") for name, what in names)
    recipe = {"title": "Shifts of scenes", "band": band.name, "edge": edge, **measuring(rules)}
    return CubeSpec("shifts", lattice, made, recipe, {"layers": str(layers)})


def coregistered_spec(
    parent: CubeSpec, rules: ShiftRules, source: str, request: dict[str, object], band: Layer
) -> CubeSpec:
    """Specification of the cube of moved scenes.

    Args:
        parent: Specification of the layers.
        rules: The rules.
        source: The source of the pixels after the decision: ``"scenes"`` or ``"cube"``.
        request: Paths of the inputs.
        band: The band that was compared.
    """
    from stac2cube.model.cube_spec import CubeSpec

    shifts = {**measuring(rules), "band": band.name, "resampling": rules.resampling, "source": source}
    return CubeSpec(STAGE, parent.grid, parent.layers, {**parent.recipe, "shifts": shifts}, request)


def measuring(rules: ShiftRules) -> dict[str, object]:
    """The rules that affect the measurement."""
    return {name: value for name, value in asdict(rules).items() if name not in ("band", "resampling", "source")}


def windows_edge(grid: Grid) -> int:
    """Edge of the windows, pixels.

    Raises:
        BadInputError: The area is too small.
    """
    from stac2cube.build.clear_pixels import EDGES, edge_for

    edge = edge_for(grid.shape)
    if edge is None:
        raise BadInputError(
            f"{grid.shape[0]} x {grid.shape[1]} pixels are too few to measure shifts: {2 * EDGES[-1]} a side are needed"
        )
    return edge
