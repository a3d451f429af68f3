"""Commands on archives: recipes with tiles are planned, run, submitted and examined here."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.options import console_for, options_of
from stac2cube.cli.run import STOPPED, RunOptions, build_layers, human_bytes, stoppable, was_asked_to_stop, wide_console
from stac2cube.errors import BadInputError, CubeError, Stac2cubeError
from stac2cube.executors.queue import job_end
from stac2cube.model.grid import crs_text, resolution_for
from stac2cube.model.query import Query, TilingWords
from stac2cube.recipe.file import Recipe, RecipeEntry
from stac2cube.recipe.schema import CUBE_KIND

if TYPE_CHECKING:
    from stac2cube.archives.run import ArchivePlan, ArchiveRequest, ArchiveSummary, TilePlan
    from stac2cube.archives.status import ArchiveStatus
    from stac2cube.model.grid import GridOptions

log = logging.getLogger(__name__)

_OF_AREA = ("aoi", "aoi_crs", "edge", "items")
"""Options of layers that choose tiles and items, and are not part of the inputs of a tile."""

budget_option = click.option(
    "--budget",
    default="",
    metavar="WORD=NUMBER,...",
    help="For archives: stop between two tiles at so many tiles, files, bytes or core-hours: files=100000,bytes=1TiB.",
)

tile_option = click.option(
    "--tile", "tiles", multiple=True, metavar="NAME", help="For archives: only this tile; repeatable."
)


@click.command()
@options_of(TilingWords, "tiling", "crs", "edge", "origin", "zone", unset="off")
@options_of(TilingWords, "level")
@options_of(TilingWords, "path", "priority", unset="off")
def _tiles() -> None:
    """No command: the words of a recipe's tiles come from options, as those of its entries do."""


tiling_words = [one for one in _tiles.params if isinstance(one, click.Option)]
"""Options that a recipe may set in its tiles."""


def archive_request(recipe: Recipe, query: Query, options: GridOptions, only: Sequence[str] = ()) -> ArchiveRequest:
    """Specification of the archive of a recipe.

    Args:
        recipe: A recipe with tiles.
        query: The query of its layers, over the whole area.
        options: The grid options of its layers.
        only: Names of the tiles to make; all if empty.

    Raises:
        BadInputError: An option of the tiles is invalid, or the layers set a CRS.
    """
    from stac2cube.archives.run import ArchiveRequest

    words: dict[str, Any] = dict(recipe.tiles or {})
    origin = words.pop("origin", None)
    if origin is not None:
        words["origin"] = _two_numbers(origin)
    tiling = TilingWords(**words)
    if options.crs is not None:
        raise BadInputError("the tiles say the CRS: leave crs out of layers, or say it in tiles")
    finest = min(band.gsd for band in query.chosen)
    # Tilings without a CRS of their own have tiles in metres.
    own = crs_text(tiling.crs) if tiling.crs else "EPSG:32631"
    resolution = resolution_for(options.resolution, finest, own)
    products = tuple(entry.name for entry in recipe.entries if entry.kind.suffix == CUBE_KIND)
    _warn_of_references(recipe)
    mark = json.dumps([_mark(entry) for entry in recipe.entries], sort_keys=True, default=str)
    return ArchiveRequest(recipe.cubes, tiling, query, resolution, products, mark, tuple(only))


def _warn_of_references(recipe: Recipe) -> None:
    """Warn where each tile would be co-registered to a separate reference."""
    from stac2cube.coregister.rules import REFERENCES

    for entry in recipe.entries:
        if entry.kind.name == "coregister" and entry.words.get("reference", REFERENCES[0]) in REFERENCES:
            log.warning(
                "%s: each tile takes a reference of its own, so that neighbours may differ: say reference: with an "
                "image over the whole area",
                entry.label,
            )


def _two_numbers(value: Any) -> tuple[float, float]:
    try:
        x, y = (float(number) for number in value)
    except (TypeError, ValueError):
        raise BadInputError("tiles: origin should be two numbers, x and y") from None
    return x, y


def _mark(entry: RecipeEntry) -> list[Any]:
    words = {name: value for name, value in entry.words.items() if name not in _OF_AREA}
    return [entry.label, words, dict(entry.inputs)]


MakeEntry = Callable[[Recipe, RecipeEntry, Sequence[str]], int]


@dataclass(frozen=True)
class TileMaker:
    """Makes all entries of a recipe for a tile.

    Attributes:
        recipe: The recipe.
        plan: The plan of the run.
        query: The query over the whole area.
        resampling: Method by which bands are resampled to the lattice of a tile.
        run_options: Options of the run.
        where: The same as command-line options.
        make_entry: Makes an entry other than layers; returns its exit code.
    """

    recipe: Recipe
    plan: ArchivePlan
    query: Query
    resampling: str | Mapping[str, str]
    run_options: RunOptions
    where: tuple[str, ...]
    make_entry: MakeEntry

    def __call__(self, one: TilePlan) -> int:
        """Make the tile; returns the worst exit code of its entries. No entry is made after one that stopped early."""
        from stac2cube.archives.run import query_of_tile
        from stac2cube.model.grid import GridOptions
        from stac2cube.stages.layers import prepare

        mine = replace(self.recipe, cubes=self.plan.archive.tile_folder(one.tile), tiles=None)
        code = 0
        for entry in mine.entries:
            if not self.run_options.quiet:
                click.echo(f"== {one.tile.name} {entry.label}", err=True)
            if entry.kind.name == "layers":
                query = query_of_tile(self.plan, one, self.query)
                options = GridOptions(geobox=one.tile.geobox, resampling=self.resampling)
                out = mine.made_by(entry)
                job = prepare(out, query, options, on_cluster=self.run_options.place.on_cluster)
                code = max(code, build_layers(job, self.run_options))
            else:
                code = max(code, self.make_entry(mine, entry, self.where))
            if code == 10:
                break
        return code


def run_recipe_of_tiles(
    recipe: Recipe,
    words: Mapping[str, Any],
    make_entry: MakeEntry,
    options: Mapping[str, Any],
    where: Sequence[str],
    planned: Path | None = None,
) -> tuple[int, bool, bool]:
    """Make the archive of a recipe.

    Args:
        recipe: The recipe.
        words: The request of its layers, over the whole area.
        make_entry: Makes an entry other than layers, of a tile; returns its exit code.
        options: Options of the command ``run``.
        where: Options of the place and the run, as on the command line.
        planned: A plan that was stored when the run was submitted; None to search now.

    Returns:
        The exit code; whether the job may be requeued, which is False if the run ended by its budget; and whether it
        came further.

    Raises:
        BadInputError: See :func:`stac2cube.archives.run.plan_archive`.
        CatalogError: The catalog cannot be read.
    """
    from stac2cube.archives.archive import read_archive
    from stac2cube.archives.run import ArchivePlan, Budget, RunLimits, plan_archive, refresh_door, run_archive, run_name
    from stac2cube.stages.layers import query_of_words

    budget = Budget.parse(options["budget"])
    with console_for(options["quiet"]) as console, stoppable() as stop:
        run_options = RunOptions.of(options, console)
        query, layout = query_of_words(words)
        if planned is None:
            wanted = archive_request(recipe, query, layout, options["tiles"])
            plan = plan_archive(wanted, on_cluster=run_options.place.on_cluster)
            name = run_name()
        else:
            plan = ArchivePlan.from_json(read_archive(recipe.cubes), planned.read_text(encoding="utf-8"))
            name = planned.parent.name
        if options["dry_run"]:
            show_plan(plan)
            return 0, False, False
        if planned is None:
            refresh_door(plan.archive)  # the tiles are listed from the start, even if this run fails
        make = TileMaker(recipe, plan, query, layout.resampling, run_options, tuple(where), make_entry)
        limits = RunLimits(budget, stop, job_end(), run_options.place.parallel)
        summary = run_archive(plan, make, limits, name)
        summary.shared = planned is not None
    say_summary(recipe, plan, summary)
    return summary.exit_code, not summary.limit, summary.progressed


def show_plan(plan: ArchivePlan) -> None:
    """Print the plan of a run."""
    from rich.table import Table

    table = Table("tile", "why", "items", "lacking", "rows", "columns", "CRS", box=None)
    for one in plan.todo:
        rows, columns = one.tile.shape
        crs = one.tile.crs if one.tile.crs.startswith("EPSG:") else "WKT"
        table.add_row(one.tile.name, one.why, str(one.found), str(one.lacking), str(rows), str(columns), crs)
    table.caption = (
        f"{len(plan.todo)} tiles to make, {len(plan.done)} complete, products {', '.join(plan.archive.products)}"
    )
    table.caption_justify = "left"
    wide_console().print(table)
    if plan.outside:
        click.echo(f"not in the recipe, left as they are: {', '.join(plan.outside)}")


def say_summary(recipe: Recipe, plan: ArchivePlan, summary: ArchiveSummary) -> None:
    """Print the outcome of a run."""
    from stac2cube.archives.run import counts_by_reason

    begun = f"{len(summary.made)} tiles made, {len(plan.done)} were complete, {len(summary.failed)} failed"
    others = "being made by other tasks" if summary.shared else "held by others"
    click.echo(f"{recipe.cubes}: {begun}, {len(summary.held)} {others}, {len(summary.left)} left")
    for reason, names in counts_by_reason(summary.failed).items():
        click.echo(f"failed: {', '.join(names)}: {reason}")
    for name, holder in () if summary.shared else summary.held.items():
        click.echo(f"held: {name}: {holder}")
    if summary.limit:
        click.echo(f"the budget {summary.limit} is reached: run the same command again to continue")
    elif summary.stopped:
        click.echo(STOPPED)


def archive_folder(path: Path) -> Path:
    """The folder of an archive, given the folder or its entry point."""
    return path if path.is_dir() else path.parent


def show_archive_status(folder: Path, jobs: Mapping[str, str], *, machine: bool) -> None:
    """Print the state of an archive, on one screen or as JSON.

    Args:
        folder: The archive.
        jobs: State of its last submission.
        machine: Whether to print JSON.

    Raises:
        BadInputError: There is no archive.
    """
    from stac2cube.archives.status import archive_status

    found = archive_status(folder)
    if machine:
        click.echo(json.dumps(asdict(found) | ({"jobs": dict(jobs)} if jobs else {}), indent=1))
        return
    for name, value in [*_status_lines(found), *jobs.items()]:
        click.echo(f"{name:<10} {value}")


MOST_LINES = 8
"""Number of kinds of failures and of names that are shown; the others are counted."""


def _status_lines(found: ArchiveStatus) -> list[tuple[str, str]]:
    from stac2cube.progress import duration

    lines = [
        ("archive", found.path),
        ("tiles", f"{found.done} of {found.tiles} done, {len(found.behind)} behind, {len(found.failed)} failed"),
        ("steps", ", ".join(f"{product} {count}" for product, count in found.steps.items()) or "-"),
    ]
    if found.pace is not None:
        left = f", {duration(found.left)} left" if found.left else ""
        lines.append(("pace", f"{found.pace:.1f} tiles per hour{left}; last tile {found.updated}"))
    if found.writing:
        lines.append(("writing", _some(found.writing)))
    lines.append(("disk", f"{found.files} files, {human_bytes(found.size)}"))
    for source, size, files in found.room:
        free = [human_bytes(size)] if size is not None else []
        free += [f"{files} files"] if files is not None else []
        if free:
            lines.append(("room", f"{', '.join(free)} left by {source}"))
    lines += [("failed", _some(found.failed))] if found.failed else []
    lines += [("behind", _some(found.behind))] if found.behind else []
    lines += [("reason", f"{one.count} x {one.reason} ({_some(one.tiles, 3)})") for one in found.failures[:MOST_LINES]]
    more = len(found.failures) - MOST_LINES
    return [*lines, ("reason", f"and {more} more kinds, see --json")] if more > 0 else lines


def _some(names: Sequence[str], most: int = MOST_LINES) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def require_tiles_for(recipe: Recipe, said: Mapping[str, Any]) -> None:
    """Refuse options of archives for a recipe without tiles.

    Raises:
        BadInputError: One of them is given, and the recipe has no tiles.
    """
    if recipe.tiles is None and any(said.values()):
        words = ", ".join("--tile" if name == "tiles" else f"--{name.replace('_', '-')}" for name in said if said[name])
        raise BadInputError(f"{recipe.path} has no tiles: {words} goes with recipes of archives")


def refuse_tiles(recipe: Recipe, what: str) -> None:
    """Refuse a recipe of an archive where only recipes of single cubes are accepted.

    Raises:
        BadInputError: The recipe has tiles.
    """
    if recipe.tiles is not None:
        raise BadInputError(f"{recipe.path} makes an archive of tiles: {what}")


# Commands on one cube, extended to all cubes of an archive.

Keep = Callable[..., Any]
Each = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]


def over_archive(
    applies: Callable[[Path, Mapping[str, Any]], bool] | None = None, each: Each | None = None, *, lost: bool = False
) -> Callable[[Keep], Keep]:
    """Let a command on one cube accept an archive too: it then runs on each cube, and resumes where it was stopped.

    Args:
        applies: Whether the command, with its options, applies to a cube; to all if None.
        each: Given the folder of a tile, a product and the options, returns the options for that cube; the same for
            all if None.
        lost: Whether cubes that the archive had and that no longer exist are reported, with exit code 2.
    """

    def decorate(command: Keep) -> Keep:
        @wraps(command)
        def on_each(cube: Path, **options: Any) -> Any:
            from stac2cube.archives.archive import is_archive

            if not is_archive(cube):
                return command(cube, **options)
            folder = archive_folder(cube)
            code = _keep(command, folder, options, applies, each)
            return max(code, _tell_lost(folder)) if lost and code != 10 else code

        return on_each

    return decorate


def _keep(
    command: Keep,
    folder: Path,
    options: Mapping[str, Any],
    applies: Callable[[Path, Mapping[str, Any]], bool] | None,
    each: Each | None,
) -> int:
    """Run a command on the cubes of an archive; returns the worst exit code, 10 if it was stopped before the last."""
    from stac2cube.archives.archive import read_archive
    from stac2cube.archives.keep import Journal

    archive = read_archive(folder)
    journal = Journal.of(archive, command.__name__, {name: str(value) for name, value in options.items()})
    for tile, product, cube in archive.cubes():
        name = f"{tile.folder}/{product}"
        if journal.has(name) or (applies is not None and not applies(cube, options)):
            continue
        click.echo(f"== {name}", err=True)
        try:
            code = command(cube, **(each(tile.folder, product, options) if each else options)) or 0
        except (Stac2cubeError, OSError) as error:
            click.echo(f"stac2cube: {error}", err=True)
            code = 1
        if code == 10 or was_asked_to_stop():
            click.echo(STOPPED, err=True)
            return 10
        journal.add(name, code)
    return journal.close()


def _tell_lost(folder: Path) -> int:
    """Report cubes that no longer exist; returns the exit code."""
    from stac2cube.archives.archive import lost_cubes, read_archive

    gone = lost_cubes(read_archive(folder))
    for name in gone:
        click.echo(f"{folder}/{name}.zarr is lost: put it back, or run the recipe to make it again", err=True)
    return 2 if gone else 0


def is_of_layers(cube: Path, _options: Mapping[str, Any]) -> bool:
    """Whether a cube was made from a catalog; a damaged cube is judged by its name: the command reports the damage."""
    from stac2cube.search.cubes import STAGE
    from stac2cube.store.metadata import read_root

    try:
        return read_root(cube).spec.stage == STAGE
    except CubeError:
        return cube.stem == STAGE


def has_year(cube: Path, options: Mapping[str, Any]) -> bool:
    """Whether a cube has a step of the requested year; True for a damaged cube: the command reports the damage."""
    from stac2cube.store.ledger import Ledger
    from stac2cube.store.metadata import read_root

    try:
        rows = Ledger(cube, read_root(cube).ledger).sealed(whole=False)
    except CubeError:
        return True
    return any(row.time.year == options["year"] for row in rows.values())


def has_steps(cube: Path, _options: Mapping[str, Any]) -> bool:
    """Whether a cube has a step; True for a damaged cube: the command reports the damage."""
    from stac2cube.store.metadata import read_root

    try:
        return read_root(cube).steps > 0
    except CubeError:
        return True
