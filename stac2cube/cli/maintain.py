"""Commands that maintain and describe cubes: verify, sync, tidy, rollback, status, history."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.archives import archive_folder, has_year, is_of_layers, over_archive, show_archive_status
from stac2cube.cli.options import CUBE, as_json, console_for, listed, where_options
from stac2cube.cli.run import STOPPED, RunOptions, built, human_bytes, said, stoppable, wide_console
from stac2cube.errors import CubeError
from stac2cube.executors.queue import job_end
from stac2cube.progress import counted

if TYPE_CHECKING:
    from stac2cube.executors.jobs import Submission
    from stac2cube.maintain.update import DerivedKind
    from stac2cube.store.metadata import Root


# Commands that maintain cubes: sync, verify, diff, rollback, tidy, seal-year.


class CommitNumber(click.ParamType[int]):
    """Number of a commit as `stac2cube history` lists it: 3, or v3."""

    name = "commit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the number."""
        digits = str(value).removeprefix("v")
        if not digits.isdecimal():
            self.fail(f"{value!r} is no commit: write its number, 3 or v3, see `stac2cube history`", param, ctx)
        return int(digits)


COMMIT = CommitNumber()


@click.command()
@click.argument("cube", type=CUBE)
@click.option("--apply", "applying", is_flag=True, help="Apply the changes. Default: only print them.")
@click.option(
    "--only",
    help=(
        "Kinds of changes, separated by commas: new, late, failed, superseded, reduced, withdrawn, "
        "children. Default: all."
    ),
)
@click.option(
    "--even-many", is_flag=True, help="Remove withdrawn steps even if they are more than a fifth of the cube."
)
@click.option(
    "--inventory",
    type=CUBE,
    help="Inventory of the archive (Parquet): which items were removed, and which are not there yet.",
)
@as_json
@where_options
@over_archive(is_of_layers)
def sync(cube: Path, applying: bool, only: str | None, even_many: bool, inventory: Path | None, **options: Any) -> int:
    """Compare CUBE with its catalog over its whole time: new, late, superseded, withdrawn scenes; stale derived cubes.

    Without --apply, only print what would be done. --only limits both to some kinds of changes.
    """
    from stac2cube.maintain.sync import KINDS, compare_with_catalog
    from stac2cube.maintain.sync import sync as bring_together

    kinds, derived = listed(only) or KINDS, _all_kinds()
    with console_for(options["quiet"]) as console:
        run_options = RunOptions.of(options, console)
        if applying:
            make = partial(bring_together, cube, kinds=kinds, even_many=even_many, inventory=inventory, derived=derived)
            return built(cube, make, run_options)
        found, _ = compare_with_catalog(
            cube, on_cluster=run_options.place.on_cluster, inventory=inventory, derived=derived
        )
        found = found.only(kinds)
        if run_options.machine:
            click.echo(json.dumps(asdict(found), indent=1))
            return 0
        for kind in (kind for kind in KINDS[:-1] if kind in kinds):
            click.echo(_some(kind, getattr(found, kind)))
        for child, state in found.children.items():
            click.echo(
                f"child        {child}: {', '.join(f'{count} {what}' for what, count in state.items() if count)}"
            )
        if found.awaited:
            click.echo(_some("not here yet", tuple(found.awaited)))
        if found.nothing:
            click.echo("everything is up to date")
        return 0


def _all_kinds() -> tuple[DerivedKind, ...]:
    """All kinds of derived cubes: those of the stages, which do not import training sets, and samples."""
    from stac2cube.datasets.sample_cube import SampleFilesKind, SampleKind
    from stac2cube.maintain.update import STAGES

    return (*STAGES, SampleKind(), SampleFilesKind())


def _some(kind: str, keys: tuple[str, ...]) -> str:
    return f"{kind:<12} {len(keys):>5}  {' '.join(keys[:4])}{' ...' if len(keys) > 4 else ''}"


@click.command()
@click.argument("cube", type=CUBE)
@click.option("--repair", "repairing", is_flag=True, help="Rebuild what is damaged, and nothing else.")
@click.option("--quick", is_flag=True, help="Compare the sizes of pixel files instead of their checksums.")
@as_json
@where_options
@over_archive(lost=True)
def verify(cube: Path, repairing: bool, quick: bool, machine: bool, **options: Any) -> int:
    """Compare every file of CUBE with its checksum in the ledger. Exit code 0: no damage; 2: damage."""
    from stac2cube.build.plan import BuildOptions
    from stac2cube.datasets.sample_cube import follow_samples
    from stac2cube.maintain.care import remarks, repair
    from stac2cube.maintain.care import verify as look_for_damage

    with console_for(options["quiet"]) as console:
        if repairing:
            run_options = RunOptions.of(options, console)
            done = repair(
                cube,
                run_options.place,
                options=BuildOptions(limits=run_options.limits),
                progress=run_options.progress(),
                deep=not quick,
                again=follow_samples if _holds_samples(cube) else None,
            )
            found, left = done.found, done.left
            if done.summary.replaced and not machine:
                said(cube, done.summary)
        else:
            found = left = tuple(look_for_damage(cube, deep=not quick))
        lost = any(one.kind in ("ledger", "root") for one in left)
        besides = [] if lost else remarks(cube, _all_kinds())
    if machine:
        told = {"found": [asdict(one) for one in found], "left": [asdict(one) for one in left], "remarks": besides}
        click.echo(json.dumps(told, indent=1))
    else:
        for one in found:
            click.echo(f"{one.kind:<10} {one.path}  {one.key}  {one.what}")
        for remark in besides:
            click.echo(f"remark     {remark}")
        what = f"{len(found)} damaged" if found else "no damage found"
        click.echo(f"{cube}: {what}" + (f", {len(left)} left" if repairing and found else ""))
    return 2 if left else 0


def _holds_samples(cube: Path) -> bool:
    """Whether a cube is one of samples; False where its root is lost, which is repaired first."""
    from stac2cube.datasets.sample_cube import holds_samples

    try:
        return holds_samples(cube)
    except CubeError:
        return False


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("one", type=COMMIT)
@click.argument("other", type=COMMIT)
@as_json
def diff(cube: Path, one: int, other: int, machine: bool) -> None:
    """List the time steps of CUBE that differ between the commits ONE and OTHER."""
    from stac2cube.store.repair import difference

    found = asdict(difference(cube, one, other))
    if machine:
        click.echo(json.dumps(found, indent=1))
        return
    for what, keys in found.items():
        for key in keys:
            click.echo(f"{what:<9} {key}")


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("commit", type=COMMIT, required=False)
@click.option(
    "--before", metavar="DATE", help="Use the last commit before this date (UTC), for example 2025-03-01, not COMMIT."
)
@as_json
@over_archive()
def rollback(cube: Path, commit: int | None, before: str | None, machine: bool) -> None:
    """Restore CUBE as it was after COMMIT. This is a new commit, so you can undo it.

    With --before, CUBE may be an archive: each of its cubes goes back to the last commit before that date.
    """
    from stac2cube.maintain.care import last_commit_before
    from stac2cube.maintain.care import rollback as roll
    from stac2cube.store.metadata import read_root

    if (commit is None) == (before is None):
        raise click.ClickException("give either COMMIT or --before DATE")
    commit = last_commit_before(cube, str(before)) if commit is None else commit
    now = read_root(cube)
    root = now if before is not None and commit == now.commit else roll(cube, commit)
    said = f"{cube}: commit {root.commit}, {root.steps} steps, as after commit {commit}"
    click.echo(_root_json(root) if machine else said)


@click.command()
@click.argument("cube", type=CUBE)
@as_json
@over_archive()
def tidy(cube: Path, machine: bool) -> None:
    """Sort the time steps of CUBE by time on disk, without rewriting pixels."""
    from stac2cube.maintain.care import tidy as put_in_order
    from stac2cube.store.metadata import read_root

    root = put_in_order(cube)
    said = f"{cube}: {'in order already' if root is None else f'in order of time, commit {root.commit}'}"
    click.echo(_root_json(root or read_root(cube), made=root is not None) if machine else said)


@click.command("seal-year")
@click.argument("cube", type=CUBE)
@click.argument("year", type=int)
@as_json
@where_options
@over_archive(has_year)
def seal_year(cube: Path, year: int, machine: bool, **options: Any) -> int:
    """Store a past YEAR of CUBE a second time, in files that hold all its time steps: fast to read along time."""
    from stac2cube.build.plan import BuildOptions
    from stac2cube.maintain.seal_year import seal_year as seal

    with console_for(options["quiet"]) as console, stoppable() as stop:
        run_options = RunOptions.of(options, console)
        build_options = BuildOptions(stop=stop, deadline=job_end(), limits=run_options.limits)
        done = seal(cube, year, run_options.place, options=build_options, progress=run_options.progress())
    if machine:
        click.echo(json.dumps(asdict(done), indent=1))
    elif not done.store:
        click.echo(STOPPED)
    else:
        what = f"{done.steps} steps of {year} in {done.files} files of {human_bytes(done.size)}"
        besides = f"besides the cube's own {done.files_before} of {human_bytes(done.size_before)}"
        click.echo(f"{done.store}: {what}, {besides}{'' if done.made else '; nothing had changed'}")
    return done.exit_code


def _root_json(root: Root, *, made: bool = True) -> str:
    return json.dumps({"commit": root.commit, "steps": root.steps, "generation": root.generation, "made": made})


# Commands that show information: status, history, missions, catalogs.


@click.command()
@click.argument("path", type=CUBE)
@as_json
def status(path: Path, machine: bool) -> int:
    """Print what a cube holds, and the state of its jobs. PATH: a cube, a recipe, an archive, or a folder of cubes."""
    from stac2cube.archives.archive import is_archive
    from stac2cube.build.status import cube_status
    from stac2cube.cli.jobs import cubes_folder
    from stac2cube.executors.jobs import submissions

    if is_archive(path) or (path.suffix in (".yaml", ".yml") and is_archive(cubes_folder(path))):
        folder = path if is_archive(path) else cubes_folder(path)
        jobs = _job_status(submitted[-1]) if (submitted := submissions(archive_folder(folder))) else {}
        show_archive_status(archive_folder(folder), jobs, machine=machine)
        return 0
    recipe_or_folder = path.suffix in (".yaml", ".yml") or (path.is_dir() and not (path / "zarr.json").exists())
    folder = cubes_folder(path) if recipe_or_folder else path.resolve().parent
    cubes = sorted(folder.glob("*.zarr")) if recipe_or_folder else [path]
    found, odd = [], {}
    for cube in cubes:
        try:
            found.append(asdict(cube_status(cube)))
        except CubeError as error:
            if not recipe_or_folder:
                raise
            odd[str(cube)] = str(error)
    submitted = submissions(folder)
    jobs = _job_status(submitted[-1]) if submitted else {}
    if machine:
        one = {"cubes": found} | ({"unreadable": odd} if odd else {}) if recipe_or_folder else found[0]
        click.echo(json.dumps(one | ({"jobs": jobs} if jobs else {}), default=str, indent=1))
        return 2 if odd else 0
    for place, values in enumerate(found):
        if place:
            click.echo()
        _show_cube(values)
    for name, value in jobs.items():
        click.echo(f"{name:<16} {value}")
    for why in odd.values():
        click.echo(f"{'unreadable':<16} {why}")
    if not found and not jobs and not odd:
        click.echo(f"{folder} holds no cube yet, and nothing was submitted for it")
    return 2 if odd else 0


def _show_cube(found: dict[str, Any]) -> None:
    failed, by_year, more, deep = (found.pop(name) for name in ("failed", "by_year", "year_more", "deep"))
    sealed = {state["year"]: state for state in found.pop("sealed_years")}
    found |= {"layers": " ".join(found["layers"]), "size": human_bytes(found["size"]), "failed": len(failed)}
    found |= {name: f"{found[name]:%Y-%m-%d %H:%M:%S}" for name in ("first", "last") if found[name] is not None}
    found |= {"shape": "{} x {}".format(*found["shape"]), "stale": " ".join(found["stale"])}
    for name, value in found.items():
        click.echo(f"{name:<16} {'-' if value in (None, '') else value}")
    for year, load in by_year.items():
        click.echo(f"{year:<16} {_load_words(load)}{_year_words(sealed.pop(year)) if year in sealed else ''}")
    for year, state in sealed.items():
        click.echo(f"{year:<16} no steps{_year_words(state)}")
    if deep["files"]:
        click.echo(f"{'sealed years':<16} {deep['files']} files, {human_bytes(deep['size'])} besides")
    if more["steps"]:
        click.echo(f"{'a year more':<16} about {_load_words(more)}")
    for key, reason in failed.items():
        click.echo(f"  {key}: {reason}")


def _load_words(load: dict[str, Any]) -> str:
    return f"{counted(load['steps'], 'step')}, {load['files']} files, {human_bytes(load['size'])}"


def _year_words(state: dict[str, Any]) -> str:
    """Text about the state of a sealed year relative to its cube."""
    if not state["there"]:
        return "; sealed, but its store is gone: seal it again"
    kinds = [f"{len(state[kind])} {kind}" for kind in ("changed", "late", "withdrawn") if state[kind]]
    if not kinds:
        return f"; sealed, {state['steps']} steps"
    return f"; sealed, stale: {', '.join(kinds)} of {state['steps']} steps, read from the cube until it is sealed again"


def _job_status(submission: Submission) -> dict[str, str]:
    """Jobs, blocks and the last error of a submission, as text."""
    from stac2cube.errors import SlurmError
    from stac2cube.progress import duration

    try:
        states = submission.states()
    except SlurmError as error:
        states = {"unknown": str(error)}
    words = {"jobs": ", ".join(f"{name} {state}" for name, state in states.items())}
    if progress := submission.progress():
        words["blocks"] = f"{progress['done']:.0f} of {progress['total']:.0f}"
        if progress["done"]:
            words["pace"] = f"{progress['seconds_per_block']:.2f} s per block, {duration(progress['left'])} left"
    if said := submission.last_error():
        words["last error"] = said
    words["logs"] = str(submission.folder)
    return words


@click.command()
@click.argument("cube", type=CUBE)
@as_json
def history(cube: Path, machine: bool) -> None:
    """List the commits of CUBE: when, by whom, and what."""
    from stac2cube.build.status import cube_history

    commits = [asdict(commit) for commit in cube_history(cube)]
    if machine:
        click.echo(json.dumps(commits, indent=1))
        return
    for commit in commits:
        changed = ", ".join(f"{count} {what}" for what, count in commit["changed"].items()) or "settings"
        click.echo(f"{commit['number']:>5}  {commit['made']}  {commit['steps']:>5} steps  {changed:<32} {commit['by']}")


@click.command()
@click.argument("name", required=False)
@click.option("--markdown", is_flag=True, help="Print the tables of docs/missions.md.")
@as_json
def missions(name: str | None, markdown: bool, machine: bool) -> None:
    """List missions, or print the bands and catalogs of the mission NAME."""
    from rich.table import Table

    from stac2cube.cli.catalogs import mission_facts, mission_tables
    from stac2cube.model.mission import find_mission, mission_names

    if markdown:
        click.echo(mission_tables(), nl=False)
        return
    if machine:
        names = mission_names() if name is None else (name,)
        click.echo(json.dumps([mission_facts(find_mission(one)) for one in names], indent=1))
        return
    console = wide_console()
    if name is None:
        table = Table("mission", "title", "catalogs", box=None)
        for known in map(find_mission, mission_names()):
            table.add_row(known.name, known.title, ", ".join(known.catalogs))
        console.print(table)
        return
    mission = find_mission(name)
    table = Table(
        "band", "common name", "m", "stored as", "scale", "offset", "unit", "what", box=None, title=mission.title
    )
    for band in mission.bands.values():
        form = band.quantity
        row = (form.dtype, f"{form.scale:g}", f"{form.offset:g}", form.units)
        star = "*" if band.name in mission.default_bands else ""
        table.add_row(band.name + star, band.common_name, str(band.gsd), *row, band.long_name)
    console.print(table)
    console.print("* default bands")
    for page in mission.pages:
        console.print(f"{page.catalog}: collection {page.collection}, assets {', '.join(page.assets)}", markup=False)


@click.command()
@click.argument("name", required=False)
@as_json
def catalogs(name: str | None, machine: bool) -> None:
    """List catalogs, or print what is known about the catalog NAME."""
    from stac2cube.model.catalog import catalogs as known_catalogs
    from stac2cube.model.catalog import find_catalog

    if machine:
        named = known_catalogs().values() if name is None else (find_catalog(name),)
        click.echo(json.dumps([one.to_json() for one in named], indent=1))
        return
    if name is not None:
        for key, value in find_catalog(name).to_json().items():
            words = ", ".join(value) if isinstance(value, list) else value
            click.echo(f"{key:<11} {words or '-'}")
        return
    for catalog in known_catalogs().values():
        click.echo(f"{catalog.name:<20} {catalog.title:<40} {catalog.url}")


@click.command()
@click.argument("cube", type=CUBE)
@click.option("--force", is_flag=True, help="Confirm that the process that holds the lock is dead.")
def unlock(cube: Path, force: bool) -> None:
    """Remove the lock of CUBE that a dead process left."""
    from stac2cube.store.lock import force_unlock, is_locked, read_owner

    if not is_locked(cube):
        click.echo(f"{cube} is not locked")
        return
    owner = read_owner(cube) or "somebody whose card cannot be read"
    if not force:
        raise click.ClickException(f"{cube} is held by {owner}. If you know that it is dead, use --force.")
    force_unlock(cube)
    click.echo(f"the lock of {owner} was removed")
