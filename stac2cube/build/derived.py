"""Derived cubes: the definition of a stage, the common way to run stages, and the removal of steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stac2cube.build.loop import build
from stac2cube.build.plan import PARENT, BuildOptions, Step, Summary, Task
from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.executors.base import Place, place_or_threads
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.grid import Tile
from stac2cube.progress import Progress
from stac2cube.store.ledger import PERIOD_END, SEALED, Entry, Ledger
from stac2cube.store.metadata import Root, overviews_beside, read_root
from stac2cube.store.repair import arrange
from stac2cube.store.staging import StoredStep
from stac2cube.store.writer import open_writer

if TYPE_CHECKING:
    import xarray as xr

# Parents of derived cubes: what a step takes over from its parent's step, and when it is outdated.

CARRIED = (
    *("platform", "orbit", "orbit_state", "cloud_cover", "catalog", "simulated", "baselines", PERIOD_END),
    *("shift_x", "shift_y", "shift_accepted", "shift_field"),
)
"""Properties of a step that also apply to it in every derived cube."""


@dataclass(frozen=True)
class Parent:
    """A cube from which another is derived.

    Attributes:
        path: Absolute path.
        spec: Spec of the cube.
        rows: Its sealed steps, oldest first, by key.
        generation: Generation of the cube in which the steps have their slots.
    """

    path: Path
    spec: CubeSpec
    rows: Mapping[str, Entry]
    generation: int

    @classmethod
    def read(cls, path: str | Path) -> Parent:
        """Read a cube's root and ledger.

        Raises:
            CubeError: Not a cube.
            BadInputError: It has no step yet.
        """
        cube = Path(path).resolve()
        root = read_root(cube)
        rows = Ledger(cube, root.ledger).sealed()
        if not rows:
            raise BadInputError(f"{path} has no step yet")
        return cls(cube, root.spec, rows, root.generation)

    @property
    def mission(self) -> str:
        """Name of its mission, "" if it has none."""
        return str(self.spec.recipe.get("mission", ""))

    def stored(self, row: Entry) -> StoredStep:
        """Reference to the pixels of a step."""
        return StoredStep(str(self.path), int(row.slot or 0), self.generation)

    def entry(self, row: Entry, **properties: Any) -> Entry:
        """The row of a step for the ledger of the child.

        The child inherits the parent's parts with their versions: when the parent's step is rebuilt from newer parts,
        the child's is outdated.
        """
        return Entry(
            key=row.key,
            time=row.time,
            status=SEALED,
            items=row.items,
            parts={f"{PARENT}{part}": version for part, version in row.parts.items()},
            footprint=row.footprint,
            properties={**{name: row.properties[name] for name in CARRIED if name in row.properties}, **properties},
        )

    def shared(self, other: Parent) -> dict[str, tuple[Entry, Entry]]:
        """Steps of both cubes, by key: the row of this cube and the row of the other.

        Raises:
            CubeMismatchError: The cubes are on different grids.
        """
        if other.spec.grid != self.spec.grid:
            raise CubeMismatchError(f"{self.path} and {other.path} lie on different grids: make one from the other")
        return {key: (row, other.rows[key]) for key, row in self.rows.items() if key in other.rows}

    def tiles(self, row: Entry) -> tuple[Tile, ...]:
        """Blocks with data in a step, in the order of the grid."""
        filled = {receipt.tile for receipt in row.receipts if any(shard.valid for shard in receipt.shards)}
        return tuple(tile for tile in self.spec.grid.tiles() if tile in filled)


def fractions(row: Entry) -> dict[str, Any]:
    """Cloud and shadow fraction of a step, if known: a finer grid or a shift does not change them."""
    return {name: row.properties[name] for name in ("cloud_fraction", "shadow_fraction") if name in row.properties}


def origin(path: Path) -> Path:
    """The layers cube from which a cube was derived, over any number of stages; itself if it is one.

    Raises:
        CubeError: Not a cube, or its parent is gone.
        BadInputError: It was not derived from layers.
    """
    spec = read_root(path).spec
    while spec.stage != "layers":
        if "layers" not in spec.request:
            raise BadInputError(f"{path} is a cube of stage {spec.stage!r}, made from no layers")
        path = Path(spec.request["layers"])
        spec = read_root(path).spec
    return path


# Stages and how they are run: parents and rules give a plan, which the build loop carries out.

Rules = TypeVar("Rules")


@dataclass(frozen=True)
class Parents:
    """The inputs of a derived cube, as its request names them.

    Attributes:
        layers: The parent: the cube whose steps are used.
        clouds: Clouds cube of the parent. None: not used.
        shifts: Co-registered cube whose shifts are applied. None: not used.
        catalog: Catalog that is searched for more scenes, for example the L1C of clouds. "": not used.
    """

    layers: Path
    clouds: Path | None = None
    shifts: Path | None = None
    catalog: str = ""

    @classmethod
    def of(cls, spec: CubeSpec) -> Parents:
        """The inputs named by a stored cube."""
        clouds, shifts = (Path(path) if (path := spec.request.get(name)) else None for name in ("clouds", "shifts"))
        return cls(Path(spec.request["layers"]), clouds, shifts, spec.request.get("catalog", ""))


@dataclass(frozen=True)
class DerivedPlan:
    """The plan of a stage for one cube.

    Attributes:
        spec: Grid, layers, recipe and request of the cube.
        steps: All steps that the cube must have.
        task: Computes one block.
        exact: Rebuild a step if its parts differ in any way, also if they are older or fewer, and remove steps that are
            not among these. False: rebuild only if parts are newer, or differ in the parent.
        before: Summary of earlier work that the plan needed. Its failures and its time count as those of the build.
    """

    spec: CubeSpec
    steps: Sequence[Step]
    task: Task
    exact: bool = False
    before: Summary = field(default_factory=Summary)


@dataclass(frozen=True)
class Derivation:
    """One run that creates or extends a derived cube.

    Attributes:
        out: Path of the cube, which need not exist.
        place: Where the work runs.
        options: Options of the build.
        progress: Receives every finished block. None: shows nothing.
    """

    out: Path
    place: Place
    options: BuildOptions
    progress: Progress | None

    def require_same(self, spec: CubeSpec) -> None:
        """Check the cube against a spec, before a plan searches, measures or trains.

        Raises:
            CubeMismatchError: The cube was made with other rules.
        """
        if self.out.exists():
            read_root(self.out).spec.require_same(spec, str(self.out))

    def build(self, work: DerivedPlan) -> Summary:
        """Carry out a plan; see :func:`stac2cube.build.loop.build` for the errors."""
        options = self.options
        if work.exact and self.out.exists():
            options = replace(options, again=options.again | _changed(self.out, work.steps))
        summary = build(self.out, work.spec, work.steps, work.task, self.place, options=options, progress=self.progress)
        # Only now: the one composite of all steps has another key where an earlier scene came.
        whole = work.exact and not summary.exit_code and self.out.exists()
        if whole and (gone := sealed_keys(self.out) - {step.entry.key for step in work.steps}):
            drop(self.out, gone, options=options)
        summary.failed |= work.before.failed
        summary.seconds += work.before.seconds
        return summary


@dataclass(frozen=True)
class Derived(Generic[Rules]):
    """A stage that makes a cube from a cube.

    Attributes:
        name: Name of the stage in the cubes that it makes.
        rules_of: Reads the rules from the spec of a stored cube. Rules are a frozen dataclass, or None.
        plan: Makes a plan from inputs, rules and the run. It returns a summary instead if there is nothing to build,
            for example because earlier work was stopped. It raises the errors of the public function of the stage.
    """

    name: str
    rules_of: Callable[[CubeSpec], Rules]
    plan: Callable[[Parents, Rules, Derivation], DerivedPlan | Summary]


def derive(
    stage: Derived[Rules],
    parents: Parents,
    out: Path,
    rules: Rules,
    place: Place,
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Create a derived cube, or extend it: add steps that its inputs gained, and rebuild steps that were rebuilt there.

    Args:
        stage: The stage, for example ``stac2cube.clouds.stage.CLOUDS``.
        parents: The inputs.
        out: Path of the cube, created or extended.
        rules: Rules of the stage; they decide the pixels.
        place: Where the work runs.
        options: Options of the build. Outdated steps are always replaced. Default: ``BuildOptions()``.
        progress: Receives every finished block. Default: shows nothing.

    Returns:
        What was done.

    Raises:
        BadInputError: The stage, or :func:`stac2cube.build.loop.build`, refuses the inputs or rules.
        CubeMismatchError: The cube was made with other rules, or the inputs are on different grids.
    """
    making = Derivation(out, place, replace(options or BuildOptions(), superseded="replace"), progress)
    work = stage.plan(parents, rules, making)
    return work if isinstance(work, Summary) else making.build(work)


def derived_cube(
    stage: Derived[Rules], parents: Parents, out: str | Path, rules: Rules, place: Place | None
) -> xr.Dataset:
    """Create or extend a derived cube, and open it.

    Args:
        stage: The stage.
        parents: The inputs.
        out: Path of the cube.
        rules: Rules of the stage.
        place: Where the work runs. Default: threads of this process.

    Returns:
        The opened cube.

    Raises:
        IncompleteError: Some steps failed; the others are committed.
    """
    from stac2cube.store.reader import open_cube

    derive(stage, parents, Path(out), rules, place_or_threads(place)).require_complete(out)
    return open_cube(out)


def _changed(out: Path, steps: Sequence[Step]) -> frozenset[str]:
    """Keys of steps whose parts, or versions of parts, differ from those in the ledger."""
    rows = Ledger(out, read_root(out).ledger).entries(whole=False)
    wanted = {step.entry.key: dict(step.entry.parts) for step in steps}
    return frozenset(key for key, row in rows.items() if key in wanted and dict(row.parts) != wanted[key])


# Removing steps from a cube.


def drop(cube: Path, keys: Collection[str], *, options: BuildOptions | None = None) -> Root | None:
    """Remove steps from a cube; its history keeps them. None if it has none of them."""
    with open_writer(cube, read_root(cube).spec, (options or BuildOptions()).verdict) as writer:
        sealed = writer.ledger.sealed(whole=False)
        kept = [key for key in sealed if key not in keys]
        return arrange(writer, kept) if len(kept) < len(sealed) else None


# Common parts of all kinds of derived cubes, for maintenance.


def sealed_keys(cube: Path) -> set[str]:
    """Keys of the sealed steps of a cube."""
    return set(Ledger(cube, read_root(cube).ledger).sealed(whole=False))


class CubesBeside:
    """Common methods of the kinds that are cubes."""

    def candidates(self, cube: Path) -> Iterable[Path]:
        """Stores beside a cube, and its overviews."""
        return [*sorted(cube.parent.glob("*.zarr")), *overviews_beside(cube)]

    def too_many(self, cube: Path, keys: Collection[str]) -> set[str]:
        """Keys of steps whose scenes the parent no longer has; none for composites, whose steps are periods."""
        return set() if read_root(cube).spec.stage == "composite" else sealed_keys(cube) - set(keys)

    def drop(self, cube: Path, keys: Collection[str], options: BuildOptions) -> None:
        """Remove steps."""
        drop(cube, keys, options=options)

    def inputs(self, cube: Path) -> set[Path]:
        """Clouds cube and co-registered cube that it was derived with."""
        request = read_root(cube).spec.request
        return {Path(request[name]).resolve() for name in ("clouds", "shifts") if request.get(name)}
