"""Stage 3: the shift of every scene is measured, checked, applied once and recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stac2cube.build.clear_pixels import band_of, match_band, pictures_of
from stac2cube.build.derived import (
    Derivation,
    Derived,
    DerivedPlan,
    Parent,
    Parents,
    derive,
    derived_cube,
    fractions,
)
from stac2cube.build.plan import Step, Summary, outdated
from stac2cube.coregister.apply import Field, Moved, MoveScene, pixel_source, refined_by_agency, scenes_again
from stac2cube.coregister.measure import Verdict, measure, solve
from stac2cube.coregister.reference import reference_for
from stac2cube.coregister.rules import STAGE, ShiftRules, coregistered_spec
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Place, place_or_threads
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.mission import find_mission
from stac2cube.store.ledger import FAILED, SEALED, Entry, Ledger
from stac2cube.store.metadata import read_root

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Paths:
    """Paths of a co-registered cube and its auxiliary cubes: ``x.zarr``, ``x.shifts.zarr``, ``x.reference.zarr``."""

    out: Path

    @property
    def shifts(self) -> Path:
        """The cube of measurements."""
        return self.out.with_name(f"{self.out.stem}.shifts.zarr")

    @property
    def reference(self) -> Path:
        """The cube of the reference."""
        return self.out.with_name(f"{self.out.stem}.reference.zarr")


def coregister_scenes(
    layers: str | Path,
    out: str | Path,
    *,
    clouds: str | Path | None = None,
    rules: ShiftRules | None = None,
    apply: bool = True,
    place: Place | None = None,
) -> xr.Dataset:
    """Measure the shift of every scene of a cube against a reference, and correct it.

    Run it again for scenes that were added since: they are measured against the same reference. Scenes already moved do
    not change.

    Args:
        layers: The cube.
        out: Path of the co-registered cube, created or extended. Next to it are ``<out>.shifts.zarr`` with the
            measurements and ``<out>.reference.zarr`` with the reference image.
        clouds: Its clouds cube. Default: the cube's own layer SCL or QA_PIXEL, if it has one.
        rules: How shifts are measured and applied. Default: each scene against the clearest one, by AROSICS.
        apply: False only measures.
        place: Where the work runs; threads of this process if None.

    Returns:
        The co-registered cube: all layers and steps of the cube; along time ``shift_x`` and ``shift_y``, metres that
        were added to the positions of a scene's pixels, and ``shift_accepted``, whether the measurement was
        accepted. With ``apply=False`` the cube of shifts: ``shift_x``, ``shift_y`` float32, metres, with dims
        ``(time, y, x)``, a pixel per window.

    Raises:
        BadInputError: An argument is invalid, the area is too small, or AROSICS is not installed.
        CubeMismatchError: One of the cubes was made with other options.
        IncompleteError: Some scenes could not be read; the others are done.
    """
    from stac2cube.store.reader import open_cube

    parents, paths = Parents(Path(layers), clouds=None if clouds is None else Path(clouds)), Paths(Path(out))
    summary = derive(coregistering(apply=apply), parents, paths.out, rules or ShiftRules(), place_or_threads(place))
    summary.require_complete(out)
    return open_cube(paths.out if apply else paths.shifts)


def coregistering(*, apply: bool) -> Derived[ShiftRules]:
    """The stage of co-registered cubes. It stores measured shifts in a second cube next to the result.

    Args:
        apply: Whether shifts are applied. False: they are measured only.
    """
    return Derived(STAGE, lambda spec: ShiftRules(**spec.recipe["shifts"]), partial(_plan, apply))


def _plan(apply: bool, parents: Parents, rules: ShiftRules, making: Derivation) -> DerivedPlan | Summary:
    parent, sky = Parent.read(parents.layers), None if parents.clouds is None else Parent.read(parents.clouds)
    parent.spec.grid.require_metres("co-registration")
    paths = Paths(making.out)
    look = match_band(parent, sky, band_of(parent.spec, rules.band))
    source = _source(making.out, parent, rules)
    request: dict[str, object] = {
        "layers": str(parent.path),
        "clouds": "" if sky is None else str(sky.path),
        "shifts": str(paths.shifts.resolve()),
    }
    spec = coregistered_spec(parent.spec, rules, source, request, look.band)
    making.require_same(spec)
    pictures = pictures_of(parent, sky, look)
    if not pictures:
        raise BadInputError(f"{parents.clouds} has none of the steps of {parents.layers}: update it first")
    reference = reference_for(paths.reference, parent, pictures, look, rules, making.place)
    measured = measure(parent, pictures, look, reference, rules, replace(making, out=paths.shifts))
    if not apply or measured.stopped:
        return measured
    measured.failed = {key: f"not measured: {reason}" for key, reason in measured.failed.items()}
    rows = Ledger(paths.shifts, read_root(paths.shifts).ledger).entries(whole=False)
    sealed = _sealed(making.out, parent, making.options.again)
    verdicts = solve(rows, sealed, rules, parent.spec.grid.resolution)
    steps = _steps(parent, rows, sealed, verdicts, source)
    task = MoveScene(parent.spec.layers, rules.resampling, _is_seamless(parent.spec))
    return DerivedPlan(spec, steps, task, before=measured)


COREGISTERED = coregistering(apply=True)


def move_scenes(
    cube: str | Path, coregistered: str | Path, out: str | Path, *, place: Place | None = None
) -> xr.Dataset:
    """Move the scenes of another cube, of clouds for example, by the shifts of a co-registered cube.

    Args:
        cube: The cube to move, on the grid of the co-registered cube.
        coregistered: The co-registered cube with the shifts.
        out: Path of the new cube, created or extended.
        place: Where the work runs; threads of this process if None.

    Returns:
        The moved cube, with the steps that both cubes have.

    Raises:
        CubeMismatchError: The cubes have different grids.
        BadInputError: They share no step, or the scenes of the cube are moved already.
        IncompleteError: Some steps could not be read.
    """
    return derived_cube(MOVED, Parents(Path(cube), shifts=Path(coregistered)), out, None, place)


def _plan_moved(parents: Parents, _: None, __: Derivation) -> DerivedPlan:
    assert parents.shifts is not None
    parent, shifts = Parent.read(parents.layers), Parent.read(parents.shifts)
    pairs = parent.shared(shifts).values()
    if "shifts" not in shifts.spec.recipe:
        raise BadInputError(f"{shifts.path} is no co-registered cube")
    if not pairs:
        raise BadInputError(f"{parent.path} and {shifts.path} share no step")
    if _is_moved(parent.spec):
        raise BadInputError(
            f"{parent.path} was made of scenes that are moved already: moved again they would lie wrong"
        )
    steps = []
    for row, moved in pairs:
        facts = {name: moved.properties[name] for name in ("shift_x", "shift_y", "shift_accepted", "shift_field")}
        shift = (facts["shift_x"], facts["shift_y"])
        field = None if facts["shift_field"] is None else Field(**facts["shift_field"])
        entry = parent.entry(row, **fractions(row), **facts)
        steps.append(Step(entry, Moved(parent.stored(row), shift, field=field), _tiles(parent, row, shift)))
    recipe = {**parent.spec.recipe, "moved_by": dict(shifts.spec.recipe["shifts"])}
    request = {"layers": str(parent.path), "shifts": str(shifts.path)}
    spec = CubeSpec(MOVED.name, parent.spec.grid, parent.spec.layers, recipe, request)
    return DerivedPlan(spec, steps, MoveScene(parent.spec.layers, shifts.spec.recipe["shifts"]["resampling"]))


MOVED: Derived[None] = Derived("moved", lambda _: None, _plan_moved)
"""The stage of cubes that are moved by the shifts of a co-registered cube."""


def _is_moved(spec: CubeSpec) -> bool:
    """Whether the pixels of a cube, or of one of its parents, were moved by a co-registration."""
    while not {"shifts", "moved_by"} & spec.recipe.keys():
        parent = Path(str(spec.request.get("layers", "")))
        # s2cloudless reads L1C scenes from the catalog, not the layers, so its clouds are not moved.
        if spec.recipe.get("method") == "s2cloudless" or not (parent / "zarr.json").exists():
            return False
        spec = read_root(parent).spec
    return True


def _source(out: Path, parent: Parent, rules: ShiftRules) -> str:
    """The source of moved pixels, decided once for a cube, when it is made."""
    if rules.source == "auto" and out.exists():
        return str(read_root(out).spec.recipe.get("shifts", {}).get("source", "cube"))
    return pixel_source(parent.spec, list(parent.rows.values()), "cube" if rules.mode == "local" else rules.source)


def _sealed(out: Path, parent: Parent, again: Collection[str]) -> dict[str, Entry]:
    """Steps that do not change: sealed, and made from the layers' current content."""
    if not out.exists():
        return {}
    rows = Ledger(out, read_root(out).ledger).entries(whole=False)
    return {
        key: row
        for key, row in rows.items()
        if row.status == SEALED
        and key in parent.rows
        and key not in again
        and not outdated(row.parts, parent.entry(parent.rows[key]).parts)
    }


def _steps(
    parent: Parent,
    rows: Mapping[str, Entry],
    sealed: Mapping[str, Entry],
    verdicts: Mapping[str, Verdict],
    source: str,
) -> list[Step]:
    moving = [parent.rows[key] for key, verdict in verdicts.items() if verdict.shift != (0.0, 0.0)]
    scenes = scenes_again(parent.path, moving) if source == "scenes" else {}
    refined = refined_by_agency(parent, [key for key in parent.rows if key not in sealed])
    steps = []
    for key, row in parent.rows.items():
        if key in sealed:
            steps.append(Step(parent.entry(row), Moved(parent.stored(row)), ()))
        elif key in verdicts and rows[key].status != FAILED:
            verdict, facts = verdicts[key], rows[key].properties
            found = verdict.found or (None, None)
            entry = parent.entry(
                row,
                shift_x=verdict.shift[0],
                shift_y=verdict.shift[1],
                shift_accepted=verdict.accepted,
                shift_reason=verdict.reason,
                shift_field=None if verdict.field is None else asdict(verdict.field),
                found_x=found[0],
                found_y=found[1],
                clear_fraction=facts.get("clear_fraction"),
                pairs=facts["pairs"],
                **({"geometry_refined": refined[key]} if key in refined else {}),
            )
            payload = Moved(parent.stored(row), verdict.shift, scenes.get(key), verdict.field)
            steps.append(Step(entry, payload, _tiles(parent, row, verdict.shift)))
    return steps


def _tiles(parent: Parent, row: Entry, shift: tuple[float, float]) -> tuple[tuple[int, int], ...]:
    """Blocks that can hold data: a moved scene may reach into the next block."""
    if shift == (0.0, 0.0):
        return parent.tiles(row)
    near = {
        (tile[0] + down, tile[1] + right) for tile in parent.tiles(row) for down in (-1, 0, 1) for right in (-1, 0, 1)
    }
    return tuple(tile for tile in parent.spec.grid.tiles() if tile in near)


def _is_seamless(spec: CubeSpec) -> bool:
    """Whether granules were joined when the layers were read."""
    name = spec.recipe.get("mission")
    if not name:
        return False
    mission = find_mission(str(name))
    bands = [band for layer in spec.layers if (band := mission.bands.get(layer.name))]
    return bool(bands) and mission.joins_granules(bands, spec.grid.resolution)
