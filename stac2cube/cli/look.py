"""Commands that look: status, history, missions, catalogs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from stac2cube.cli.tables import human_bytes, wide_console
from stac2cube.cli.words import CUBE, as_json
from stac2cube.progress import counted

if TYPE_CHECKING:
    from stac2cube.jobs import Submission


@click.command()
@click.argument("path", type=CUBE)
@as_json
def status(path: Path, machine: bool) -> None:
    """Say what a cube holds, and how the jobs go that build it. PATH is a cube, a recipe, or a folder of cubes."""
    from stac2cube.cli.jobs import cubes_folder
    from stac2cube.jobs import submissions
    from stac2cube.status import cube_status

    recipe_or_folder = path.suffix in (".yaml", ".yml") or (path.is_dir() and not (path / "zarr.json").exists())
    folder = cubes_folder(path) if recipe_or_folder else path.resolve().parent
    cubes = sorted(folder.glob("*.zarr")) if recipe_or_folder else [path]
    found = [asdict(cube_status(cube)) for cube in cubes]
    submitted = submissions(folder)
    jobs = _job_status(submitted[-1]) if submitted else {}
    if machine:
        one = found[0] if found and not recipe_or_folder else {"cubes": found}
        click.echo(json.dumps(one | ({"jobs": jobs} if jobs else {}), default=str, indent=1))
        return
    for place, values in enumerate(found):
        if place:
            click.echo()
        _show_cube(values)
    for name, value in jobs.items():
        click.echo(f"{name:<16} {value}")
    if not found and not jobs:
        click.echo(f"{folder} holds no cube yet, and nothing was submitted for it")


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
    """How a sealed year stands to its cube."""
    if not state["there"]:
        return "; sealed, but its store is gone: seal it again"
    kinds = [f"{len(state[kind])} {kind}" for kind in ("changed", "late", "withdrawn") if state[kind]]
    if not kinds:
        return f"; sealed, {state['steps']} steps"
    return f"; sealed, stale: {', '.join(kinds)} of {state['steps']} steps, read from the cube until it is sealed again"


def _job_status(submission: Submission) -> dict[str, str]:
    """Jobs, blocks and the last error of a submission, as words."""
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
    """List the commits of CUBE: when, by whom, what."""
    from stac2cube.status import cube_history

    commits = [asdict(commit) for commit in cube_history(cube)]
    if machine:
        click.echo(json.dumps(commits, indent=1))
        return
    for commit in commits:
        changed = ", ".join(f"{count} {what}" for what, count in commit["changed"].items()) or "settings"
        click.echo(f"{commit['number']:>5}  {commit['made']}  {commit['steps']:>5} steps  {changed:<32} {commit['by']}")


@click.command()
@click.argument("name", required=False)
@click.option("--markdown", is_flag=True, help="The tables of docs/missions.md.")
@as_json
def missions(name: str | None, markdown: bool, machine: bool) -> None:
    """List missions, or the bands and catalogs of the mission NAME."""
    from stac2cube.cli.pages import mission_facts, mission_tables
    from stac2cube.mission import find_mission, mission_names

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
    """List catalogs, or what is known of the catalog NAME."""
    from stac2cube.catalog import catalogs as known_catalogs
    from stac2cube.catalog import find_catalog

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
@click.option("--force", is_flag=True, help="Yes, the holder is dead.")
def unlock(cube: Path, force: bool) -> None:
    """Take the lock of CUBE away from a writer that is dead."""
    from stac2cube.cube.lock import force_unlock, is_locked, read_owner

    if not is_locked(cube):
        click.echo(f"{cube} is not locked")
        return
    owner = read_owner(cube) or "somebody whose card cannot be read"
    if not force:
        raise click.ClickException(f"{cube} is held by {owner}. If you know that it is dead, say --force.")
    force_unlock(cube)
    click.echo(f"the lock of {owner} was removed")
