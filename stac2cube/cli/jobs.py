"""Commands about jobs and sites: submit, cancel, logs, sites, doctor."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.archives import (
    archive_request,
    budget_option,
    require_tiles_for,
    show_plan,
    tile_option,
)
from stac2cube.cli.options import CUBE, as_json, console_for, query_words
from stac2cube.cli.recipes import check_recipe, layers_words, parameters_of, recipe_at, set_option, stage_recipe
from stac2cube.cli.run import wide_console
from stac2cube.errors import BadInputError, SlurmError
from stac2cube.executors.jobs import submissions
from stac2cube.executors.queue import lets_in_no_more
from stac2cube.recipe.file import Recipe, RecipeEntry

if TYPE_CHECKING:
    from stac2cube.executors.jobs import Submission, Way
    from stac2cube.executors.queue import JobScript
    from stac2cube.executors.site import Site


# The command that examines a site.


@click.command()
@click.option("--site", default="example", show_default=True, help="Site to examine, see `stac2cube sites`.")
@click.option(
    "--folder",
    type=CUBE,
    default=Path(),
    help="Folder on the file system where cubes will be. Default: the current folder.",
)
@click.option("--wait", default=300.0, show_default=True, help="Seconds that the test job may wait in the queue.")
@click.option("--write", "name", help="Write the results as the site file NAME, which you can then edit.")
@click.option("--bug-report", "reporting", is_flag=True, help="Print facts for a bug report, without secrets.")
@click.option("--probe", type=CUBE, hidden=True)
@click.argument("path", type=CUBE, required=False)
def doctor(path: Path | None, reporting: bool, probe: Path | None, **options: Any) -> int:
    """Check whether a site can run stac2cube: submit two tiny jobs, and print what to fix.

    With --bug-report, submit nothing: print versions, the newest rows of the ledger of PATH (a cube), and the ends of
    the logs of its jobs. Keys and passwords are left out. PATH may also be a recipe or a folder of cubes.
    """
    from stac2cube.executors import doctor as practice

    if probe is not None:
        practice.probe(probe, int(os.environ["SLURM_PROCID"]))
        return 0
    if reporting:
        is_cube = path is not None and (path / "zarr.json").exists()
        submitted = [] if path is None else submissions(cubes_folder(path))
        click.echo(practice.bug_report(path if is_cube else None, submitted[-1].logs() if submitted else []))
        return 0
    if path is not None:
        raise BadInputError(f"doctor takes a path with --bug-report only; a folder to examine is --folder {path}")
    return _examined(**options)


def _examined(site: str, folder: Path, wait: float, name: str | None) -> int:
    from rich.table import Table

    from stac2cube.executors import doctor as practice
    from stac2cube.executors.site import find_site

    examined = find_site(site)
    table = Table("", "check", "found", box=None)
    signs = {True: "ok", False: "NO", None: "-"}
    otherwise: dict[str, Any] = {}
    found = []
    for check in practice.checks(examined, folder, wait, otherwise):
        found.append(check)
        table.add_row(signs[check.ok], check.name, check.words)
    wide_console().print(table)
    if name is not None:
        click.echo(_written(name, practice.site_text(examined, otherwise)))
    return 1 if any(check.ok is False for check in found) else 0


def _written(name: str, text: str) -> str:
    from stac2cube.model.tables import config_folder

    target = config_folder() / "sites" / f"{name}.toml"
    if target.exists():
        raise BadInputError(f"{target} exists already: remove it first, or choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return f"wrote {target}: look through it, then use --site {name}"


# Scheduled runs: find new scenes, report on the last submission, remove old ones.

UNDER_WAY = 600.0
"""Seconds after which a submission without a record is treated as dead."""


def entries_behind(recipe: Recipe) -> list[str]:
    """Labels of the entries with work to do, in order.

    For layers: the catalog has scenes that the cube does not have. For derived cubes: steps are missing or
    stale. For anything else: an input was changed since.

    Raises:
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    return [entry.label for entry in recipe.entries if _is_behind(recipe, entry)]


def _is_behind(recipe: Recipe, entry: RecipeEntry) -> bool:
    from stac2cube.build.status import cube_status
    from stac2cube.stages.layers import prepare, query_of_words
    from stac2cube.store.metadata import overviews_beside  # imported here: it would slow the start of all commands

    if entry.kind.name == "layers":
        out = recipe.made_by(entry)
        job = prepare(out, *query_of_words(query_words(**parameters_of(recipe, entry))), on_cluster=True)
        return bool(job.plan().blocks) or not out.exists()
    inputs = [recipe.cube(name) for names in entry.inputs.values() for name in names]
    if entry.kind.suffix is None:
        made = [level for cube in inputs for level in overviews_beside(cube)]
    else:
        made = [recipe.made_by(entry)]
    if not made or not all(path.exists() for path in made):
        return True
    for path in made:
        if (path / "zarr.json").exists() and entry.kind.name != "composite":
            status = cube_status(path)
            if status.lacking or status.stale:
                return True
        elif any(_changed(cube) > _changed(path) for cube in inputs if cube.exists()):
            return True
    return False


def _changed(path: Path) -> float:
    """When a cube, a file, or the content of a folder was changed, seconds since 1970."""
    root = path / "zarr.json"
    if root.exists() or not path.is_dir():
        return (root if root.exists() else path).stat().st_mtime
    return max((inner.stat().st_mtime for inner in path.iterdir()), default=0.0)


def tell_of_the_last(recipe: Recipe) -> None:
    """Log a warning if jobs of the last submission failed, for users of scheduled runs."""
    earlier = submissions(recipe.cubes)
    if not earlier:
        return
    bad = {name: state for name, state in earlier[-1].states().items() if state not in ("COMPLETED", "ENDED")}
    if bad:
        said = ", ".join(f"{name} {state}" for name, state in bad.items())
        log.warning("the last submission: %s; %s", said, earlier[-1].last_error() or f"see {earlier[-1].folder}")


def require_first(folder: Path) -> None:
    """Refuse a submission while another for the same cubes is being made: of two at the same moment one continues.

    Args:
        folder: Folder of this submission, just made.

    Raises:
        BadInputError: Another submission began earlier.
    """
    for other in folder.parent.iterdir():
        begun = other.name < folder.name and other.is_dir() and not (other / "submission.json").exists()
        if begun and abs(time.time() - other.stat().st_mtime) < UNDER_WAY:
            raise BadInputError(f"{folder.parents[1]} is being submitted just now ({other}): wait a moment")


def remove_old(cubes: Path, keep: int) -> int:
    """Remove scripts, logs and progress files of submissions that have ended, except for the newest.

    Args:
        cubes: Folder of the cubes.
        keep: Number of submissions to keep.

    Returns:
        Number of submissions removed.

    Raises:
        SlurmError: SLURM cannot be queried for their states.
    """
    old = [one for one in submissions(cubes)[:-keep] if not one.alive()]
    for one in old:
        try:
            shutil.rmtree(one.folder)
        except OSError as error:  # another member of the group submitted it
            log.warning("%s cannot be removed: %s", one.folder, error.strerror)
    return len(old)


# Commands about jobs: submit, cancel, logs, sites.

log = logging.getLogger(__name__)


@click.command()
@click.argument("recipe", type=CUBE)
@click.option("--site", required=True, help="Site, see `stac2cube sites`.")
@set_option
@click.option("--array", type=click.IntRange(1, 1000), help="Build `layers` as a job array with this many tasks.")
@click.option("--test", is_flag=True, help="Use the site's test partition and its short time limit.")
@click.option(
    "--place",
    type=click.Choice(["slurm", "allocation", "threads"]),
    default="slurm",
    show_default=True,
    help=(
        "Who makes the blocks: worker jobs that a small job submits (slurm), the tasks of one job "
        "(allocation), or threads of one job (threads)."
    ),
)
@click.option(
    "--on-deadline",
    type=click.Choice(["stop", "requeue"]),
    default="requeue",
    show_default=True,
    help="What a job does before its time limit: stop with exit code 10, or be requeued and continue.",
)
@click.option("--update", "updating", is_flag=True, help="Search first, and submit nothing if nothing is new.")
@click.option(
    "--keep",
    type=click.IntRange(1),
    help="Number of submissions whose scripts and logs are kept. Older ones are removed.",
)
@tile_option
@budget_option
@click.option("--dry-run", is_flag=True, help="Print the job scripts, and ask SLURM whether it would accept them.")
@click.option("--quiet", "-q", is_flag=True, help="Print warnings only.")
@as_json
def submit(recipe: Path, changes: tuple[str, ...], **options: Any) -> None:
    """Submit RECIPE to SLURM: each entry becomes a job that starts after the one before. Nothing keeps running here.

    The jobs run a copy of the recipe, with its variables filled in now. The copy is next to their logs. A recipe with
    tiles is searched here, once. Its job, or the tasks of its array, make one tile after the other.
    """
    from stac2cube.executors.jobs import Submission, require_none_alive
    from stac2cube.executors.site import find_site

    with console_for(options["quiet"]):
        wanted, site = recipe_at(recipe, changes), find_site(options["site"])
        check_recipe(wanted)
        if site.slurm.scheduler != "slurm":
            raise BadInputError(
                f"submit writes jobs of SLURM, and {site.name} has {site.slurm.scheduler}: in a session or a job of "
                f"your own, `stac2cube run {recipe} --place slurm --site {site.name}` has worker jobs there"
            )
        require_tiles_for(wanted, {name: options[name] for name in ("tiles", "budget")})
        if wanted.tiles is not None:
            _submit_tiles(wanted, site, options)
            return
        if options["dry_run"]:
            _dry_run(wanted, site, options)
            return
        # Values that cannot be in a script are refused before a byte is written.
        _scripts(wanted, site, wanted.cubes / "jobs" / "any", options)
        require_none_alive(wanted.cubes)
        if options["updating"]:
            tell_of_the_last(wanted)
            if not (new := entries_behind(wanted)):
                if options["machine"]:
                    click.echo(json.dumps({"jobs": {}, "logs": None}))
                elif not options["quiet"]:
                    click.echo(f"{wanted.cubes}: nothing new, nothing was submitted")
                return
            log.info("new: %s", ", ".join(new))
        with _submission_folder(wanted.cubes) as made:
            frozen = _frozen(wanted, made)
            jobs, clusters = (_array if options["array"] else _chain)(frozen, site, made, options)
        done = Submission.now(made, wanted.path, site.name, clusters, jobs) if jobs else None
        if done is None:
            shutil.rmtree(made)
        if options["keep"]:
            remove_old(wanted.cubes, options["keep"])
        if options["machine"]:
            click.echo(json.dumps({"jobs": jobs, "logs": done and str(done.folder)}))
            return
        if done is None:
            return
        for name, job in jobs.items():
            click.echo(f"{name:<14} job {job}")
        click.echo(f"logs in {done.folder}; how it goes: stac2cube status {recipe}")


@contextmanager
def _submission_folder(cubes: Path) -> Iterator[Path]:
    """The folder of a new submission; it is removed if the submission fails."""
    from stac2cube.executors.jobs import new_submission_folder

    made = new_submission_folder(cubes)
    try:
        require_first(made)
        yield made
    except BaseException:
        shutil.rmtree(made)
        raise


def _submit_tiles(recipe: Recipe, site: Site, options: dict[str, Any]) -> None:
    """Search once, and submit jobs for the tiles with work to do."""
    from stac2cube.archives.run import Budget, plan_archive, store_plan
    from stac2cube.executors.jobs import Submission, require_none_alive, require_one_cluster
    from stac2cube.stages.layers import query_of_words

    budget = Budget.parse(options["budget"])
    place = site.place(test=options["test"])
    if options["array"]:
        require_one_cluster(place)
    if not options["dry_run"]:
        require_none_alive(recipe.cubes)
        if options["updating"]:
            tell_of_the_last(recipe)
    plan = plan_archive(
        archive_request(recipe, *query_of_words(layers_words(recipe)), options["tiles"]), on_cluster=True
    )
    tasks = min(options["array"] or 1, len(plan.todo), budget.jobs or len(plan.todo))
    if options["dry_run"]:
        show_plan(plan)
        job = _tile_script(recipe, site, recipe.cubes / "jobs" / "dry-run", options, max(tasks, 1))
        click.echo(f"== {job.name}\n{job.text}")
        click.echo(place.queue.test(job))
        return
    done = None
    if plan.todo:
        with _submission_folder(recipe.cubes) as made:
            store_plan(plan, made.name)
            (made / "plan.json").write_text(plan.to_json(), encoding="utf-8")
            jobs, clusters = _tile_jobs(_frozen(recipe, made), site, made, options, tasks)
        done = Submission.now(made, recipe.path, site.name, clusters, jobs)
    if options["keep"]:
        remove_old(recipe.cubes, options["keep"])
    if options["machine"]:
        tiles = [one.tile.name for one in plan.todo]
        click.echo(json.dumps({"jobs": done.jobs if done else {}, "logs": done and str(done.folder), "tiles": tiles}))
    elif done is not None:
        for name, number in done.jobs.items():
            click.echo(f"{name:<14} job {number}, {len(plan.todo)} tiles, {tasks} at a time")
        click.echo(f"logs in {done.folder}; how it goes: stac2cube status {recipe.path}")
    elif not options["quiet"]:
        click.echo(f"{recipe.cubes}: all {len(plan.done)} tiles are complete, nothing was submitted")


def _tile_jobs(
    recipe: Recipe, site: Site, folder: Path, options: dict[str, Any], tasks: int
) -> tuple[dict[str, str], str]:
    """Submit a job, or an array of as many tasks as SLURM accepts."""
    from stac2cube.executors.jobs import submit_chain

    place = site.place(test=options["test"])
    while True:
        try:
            return submit_chain(place, [_tile_script(recipe, site, folder, options, tasks)], folder)
        except SlurmError as error:
            if tasks == 1 or not lets_in_no_more(str(error)):
                raise
            log.warning("SLURM accepts fewer jobs than %d tasks: %s", tasks, error)
            tasks //= 2


def _tile_script(recipe: Recipe, site: Site, folder: Path, options: dict[str, Any], tasks: int) -> JobScript:
    """Script of the job that makes tiles: with separate worker jobs, or as tasks of an array with their threads."""
    from stac2cube.executors.jobs import script

    way: Way = "threads" if options["array"] and options["place"] == "slurm" else options["place"]
    words = ["run", str(recipe.path), "--planned", str(folder / "plan.json"), "--place", way]
    words += ["--site", site.name, "--on-deadline", options["on_deadline"]]
    words += ["--budget", options["budget"]] if options["budget"] else []
    words += ["--test"] if way == "slurm" and options["test"] else []
    place = site.place(test=options["test"], gpu=any(entry.wants_gpu for entry in recipe.entries))
    extra = [f"--array=0-{tasks - 1}"] if tasks > 1 else []
    return script(place, "tiles", words, folder, way=way, extra=extra)


@click.command()
@click.argument("path", type=CUBE)
def cancel(path: Path) -> None:
    """Cancel the jobs of PATH: a recipe, a cube, or a folder of cubes. Sealed steps stay; submit again to continue."""
    for submission in _submissions(path):
        if submission.alive():
            submission.cancel()
            click.echo(f"cancelled {', '.join(f'{name} {job}' for name, job in submission.jobs.items())}")


@click.command()
@click.argument("path", type=CUBE)
@click.option("--lines", "-n", default=20, show_default=True, help="Number of lines at the end of each log.")
def logs(path: Path, lines: int) -> None:
    """Print the ends of the logs of the last submission of PATH: a recipe, a cube, or a folder of cubes."""
    for log in _submissions(path)[-1].logs():
        click.echo(f"== {log}")
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]:
            click.echo(line)


@click.command()
@click.argument("name", required=False)
def sites(name: str | None) -> None:
    """List sites, or print what is known about the site NAME."""
    from stac2cube.executors.site import find_site, site_names

    if name is None:
        for known in map(find_site, site_names()):
            click.echo(f"{known.name:<14} {known.title}")
        return
    site = find_site(name)
    click.echo(f"{'title':<11} {site.title}")
    click.echo(f"{'note':<11} {site.note or '-'}")
    click.echo(f"{'cluster':<11} {site.cluster or '-'}")
    said = asdict(site.slurm)
    del said["site"]  # it is the site's name
    for key, value in said.items():
        click.echo(f"{key:<11} {' | '.join(value) if isinstance(value, tuple) else value or '-'}")
    gateway = {key: value for key, value in asdict(replace(site.gateway, site="")).items() if value}
    changing = {"test": site.test, "gpu": site.gpu, "gateway": gateway, "limits": asdict(site.limits)}
    for part, changes in changing.items():
        click.echo(f"{part:<11} {', '.join(f'{key} = {value}' for key, value in changes.items()) or '-'}")


def cubes_folder(path: Path) -> Path:
    """The folder of cubes for a recipe, a cube or the folder itself.

    Raises:
        BadInputError: The path is none of them.
    """
    if path.suffix in (".yaml", ".yml"):
        return recipe_at(path).cubes
    if (path / "zarr.json").exists() or path.suffix == ".zarr":
        return path.resolve().parent
    if not path.is_dir():
        raise BadInputError(f"{path} is neither a recipe, a cube, nor a folder of cubes")
    return path.resolve()


def _submissions(path: Path) -> list[Submission]:
    from stac2cube.executors.jobs import submissions

    found = submissions(cubes_folder(path))
    if not found:
        raise BadInputError(f"nothing was submitted for {path}")
    return found


def _frozen(recipe: Recipe, folder: Path) -> Recipe:
    """A copy of a recipe for its jobs, so that neither a later edit nor another environment affects them."""
    from stac2cube.recipe.file import write_recipe

    copy = replace(recipe, path=folder / "recipe.yaml")
    write_recipe(copy)
    return copy


def _chain(recipe: Recipe, site: Site, folder: Path, options: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Submit a job for each entry; one for all of them where SLURM accepts fewer."""
    from stac2cube.executors.jobs import submit_chain

    place, scripts = site.place(test=options["test"]), _scripts(recipe, site, folder, options)
    try:
        return submit_chain(place, scripts, folder)
    except SlurmError as error:
        if len(scripts) == 1 or not lets_in_no_more(str(error)):
            raise
        jobs = submit_chain(place, [_one_script(recipe, site, folder, options, recipe.entries)], folder)
        log.warning("SLURM accepts fewer jobs than the recipe has entries: one job makes all of them: %s", error)
        return jobs


def _array(recipe: Recipe, site: Site, folder: Path, options: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Search and lock the cube here, then submit an array, its sealing job, and jobs for the stages after layers."""
    from stac2cube.build.array_job import ArrayLease, lease_cube
    from stac2cube.build.plan import BuildOptions
    from stac2cube.build.status import require_room
    from stac2cube.executors.jobs import ArrayJobs, script, submit_array
    from stac2cube.stages.layers import prepare, query_of_words

    place = site.place(test=options["test"])
    staged = recipe_at(stage_recipe(recipe.path, folder / "staged"))
    out = staged.made_by(staged.layers())
    job = prepare(out, *query_of_words(layers_words(staged)), on_cluster=True)
    if not job.plan().blocks:
        click.echo(f"{out}: nothing to do", err=options["machine"])
        return {}, place.clusters
    require_room(out, job.spec, job.plan(), BuildOptions(), place)

    def share_for(sealing: str, tasks: int) -> JobScript:
        words = ["share", str(staged.path), "--claim", sealing, "--progress-file", str(folder / "progress.json")]
        return script(place, "layers-share", words, folder, extra=[f"--array=0-{tasks - 1}"])

    def claim(sealing: str) -> None:
        lease_cube(out, job.spec, ArrayLease(sealing, place.queue.name()))

    rest = [entry for entry in recipe.entries if entry.kind.name != "layers"]
    jobs = ArrayJobs(
        seal=script(place, "layers-seal", ["seal", str(staged.path)], folder, way="slurm"),
        share_for=share_for,
        claim=claim,
        tasks=options["array"],
        rest=_scripts(recipe, site, folder, options, rest),
        rest_in_one=[_one_script(recipe, site, folder, options, rest)] if rest else [],
    )
    return submit_array(place, jobs, folder), place.clusters


def _scripts(
    recipe: Recipe, site: Site, folder: Path, options: dict[str, Any], entries: Sequence[RecipeEntry] | None = None
) -> list[JobScript]:
    from stac2cube.executors.jobs import script

    made = []
    for entry in recipe.entries if entries is None else entries:
        blocks = entry.kind.blocks
        way: Way = options["place"] if blocks else "threads"
        words = ["run", str(recipe.path), "--stage", entry.label, "--place", way]
        words += ["--on-deadline", options["on_deadline"]]
        words += ["--site", site.name] if blocks else []
        words += ["--test"] if way == "slurm" and options["test"] else []
        words += ["--progress-file", str(folder / "progress.json")] if blocks else []
        place = site.place(test=options["test"], gpu=entry.wants_gpu)
        made.append(script(place, entry.label, words, folder, way=way))
    return made


def _one_script(
    recipe: Recipe, site: Site, folder: Path, options: dict[str, Any], entries: Sequence[RecipeEntry]
) -> JobScript:
    """Script of one job for several entries, with the resources of the largest."""
    from stac2cube.executors.jobs import script

    place = site.place(test=options["test"], gpu=any(entry.wants_gpu for entry in entries))
    words = ["run", str(recipe.path), *(f"--stage={entry.label}" for entry in entries)]
    words += ["--place", options["place"], "--site", site.name, "--on-deadline", options["on_deadline"]]
    words += ["--test"] if options["place"] == "slurm" and options["test"] else []
    words += ["--progress-file", str(folder / "progress.json")]
    way: Way = "allocation" if options["place"] == "allocation" else "threads"
    return script(place, "entries", words, folder, way=way)


def _dry_run(recipe: Recipe, site: Site, options: dict[str, Any]) -> None:
    place = site.place(test=options["test"])
    folder = recipe.cubes / "jobs" / "dry-run"
    recipe = replace(recipe, path=folder / "recipe.yaml")
    scripts = _scripts(recipe, site, folder, options)
    if options["array"]:
        from stac2cube.executors.jobs import script

        words = ["share", str(recipe.path), "--claim", "SEALING-JOB"]
        recipe.layers()
        scripts[0] = script(place, "layers-share", words, folder, extra=[f"--array=0-{options['array'] - 1}"])
    for job in scripts:
        click.echo(f"== {job.name}\n{job.text}")
        click.echo(place.queue.test(job))
