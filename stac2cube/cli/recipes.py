"""Commands that work from a recipe: run, stage, and the three parts of a job array: claim, share, seal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.kinds import check_recipe, make_entry, parameters_of, recipe_at
from stac2cube.cli.steps import Manner, leave, prepared, said
from stac2cube.cli.stopping import stoppable
from stac2cube.cli.where import where_options
from stac2cube.cli.words import CUBE, talking, what_words
from stac2cube.errors import BadInputError
from stac2cube.places.queue import Queue, job_end

if TYPE_CHECKING:
    from stac2cube.recipe.file import Recipe

RECIPE = click.argument("recipe", type=CUBE)

set_option = click.option(
    "--set", "changes", multiple=True, metavar="WORD=VALUE", help="Say a word otherwise: layers.time=2024; repeatable."
)

claim_option = click.option(
    "--claim", "job", help="Id of the job that will seal, for which the cube is held; this job if not said."
)


@click.command()
@RECIPE
@click.option("--stage", "only", multiple=True, help="Only this entry: composite, or composite.monthly; repeatable.")
@set_option
@click.option(
    "--on-deadline",
    type=click.Choice(["stop", "requeue"]),
    default="stop",
    show_default=True,
    help="In a job that nears its end: stop with exit code 10, or have SLURM run it again.",
)
@click.option(
    "--package",
    type=CUBE,
    help="Make everything in this folder instead of the recipe's own, described there as a STAC catalog.",
)
@where_options
def run(recipe: Path, only: tuple[str, ...], changes: tuple[str, ...], on_deadline: str, **options: Any) -> int:
    """Make what RECIPE says, one entry after the other. Running it again goes on where it ended."""
    wanted = recipe_at(recipe, changes)
    package: Path | None = options.pop("package")
    if package is not None:
        wanted = replace(wanted, cubes=package.absolute())
    entries = wanted.chosen(only)
    check_recipe(wanted, entries)
    where = where_words(options)
    code = 0
    for entry in entries:
        if not options["quiet"]:
            click.echo(f"== {entry.label}", err=True)
        code = max(code, make_entry(wanted, entry, where))
        if code == 10:
            break
    if package is not None:
        from stac2cube.products.static_catalog import describe_cubes

        click.echo(describe_cubes(wanted.cubes))
    with talking(options["quiet"]):
        return leave(code, on_deadline)


@click.command()
@RECIPE
@click.argument("folder", type=CUBE, required=False)
@set_option
@click.option("--quiet", "-q", is_flag=True, help="Warnings only.")
def stage(recipe: Path, folder: Path | None, changes: tuple[str, ...], quiet: bool) -> None:
    """Search now, and store what a job without a network needs: RECIPE, area and found items, in FOLDER.

    Run it on a login node, then submit the recipe it prints.
    """
    with talking(quiet):
        click.echo(stage_recipe(recipe, folder, changes))


def stage_recipe(path: Path, folder: Path | None = None, changes: Sequence[str] = ()) -> Path:
    """Store a recipe with its search result and area; the stored recipe.

    Raises:
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    from shapely import to_geojson

    from stac2cube.recipe.file import write_recipe
    from stac2cube.stages.layers import make_request
    from stac2cube.stages.offline import store_search

    recipe = recipe_at(path, changes)
    target = (folder or recipe.cubes / "staged").resolve()
    layers = recipe.layers()
    request = make_request(layers_words(recipe))
    stored = store_search(request, target / "items.parquet")
    (target / "area.geojson").write_text(to_geojson(request.area.geometry))
    words = {name: value for name, value in layers.words.items() if name not in ("aoi_crs", "edge")}
    words |= {"aoi": "area.geojson", "catalog": stored.catalog, "items": "items.parquet"}
    entries = tuple(replace(one, words=words) if one is layers else one for one in recipe.entries)
    staged = replace(recipe, path=target / "recipe.yaml", entries=entries)
    write_recipe(staged)
    return staged.path


@click.command()
@RECIPE
@claim_option
@where_options
def claim(recipe: Path, job: str | None, **options: Any) -> None:
    """Hold the layers cube of RECIPE for a job array, until the job that seals it ends."""
    from stac2cube.growth import require_room
    from stac2cube.shares import claim_cube
    from stac2cube.work import Orders

    with talking(options["quiet"]) as console:
        wanted, manner = recipe_at(recipe), Manner.of(options, console)
        out = wanted.made_by(wanted.layers())
        work = prepared(out, layers_words(wanted), manner)
        require_room(out, work.spec, work.plan(), Orders(limits=manner.limits), manner.place)
        claim_cube(out, work.spec, claim_of(job))


@click.command()
@RECIPE
@claim_option
@click.option("--number", type=click.IntRange(0), help="Which share, from 0; this task of the array if not said.")
@click.option("--of", "of", type=click.IntRange(1), help="How many shares; tasks of the array if not said.")
@where_options
def share(recipe: Path, job: str | None, number: int | None, of: int | None, **options: Any) -> int:
    """Make one share of the blocks that the claimed layers cube of RECIPE lacks; in each task of a job array."""
    from stac2cube.shares import build_share
    from stac2cube.work import Orders

    which = number if number is not None else _array("SLURM_ARRAY_TASK_ID") - _array("SLURM_ARRAY_TASK_MIN")
    many = of if of is not None else _array("SLURM_ARRAY_TASK_COUNT")
    with talking(options["quiet"]) as console:
        wanted = recipe_at(recipe)
        manner = Manner.of(options, console)
        if manner.progress_file is not None:
            manner = replace(manner, progress_file=manner.progress_file.with_suffix(f".{which}.json"))
        out = wanted.made_by(wanted.layers())
        work = prepared(out, layers_words(wanted), manner)
        with stoppable() as stop:
            orders = Orders(stop=stop, deadline=job_end())
            summary = build_share(
                out,
                work.steps,
                work.task(),
                manner.place,
                claim_of(job),
                (which, many),
                orders=orders,
                progress=manner.progress(),
            )
        return summary.exit_code


@click.command()
@RECIPE
@claim_option
@where_options
def seal(recipe: Path, job: str | None, **options: Any) -> int:
    """Seal what a job array made of the claimed layers cube of RECIPE, and end its hold; in a last, dependent job."""
    from stac2cube.shares import seal_shares
    from stac2cube.stages.layers import doubted

    with talking(options["quiet"]) as console:
        wanted = recipe_at(recipe)
        out = wanted.made_by(wanted.layers())
        work = prepared(out, layers_words(wanted), Manner.of(options, console))
        return said(out, seal_shares(out, work.spec, doubted(work), claim_of(job)))


def layers_words(recipe: Recipe) -> dict[str, Any]:
    """The words of a request, from the layers of a recipe.

    Raises:
        BadInputError: It has none, or several; or a word is not understood.
    """
    return what_words(**parameters_of(recipe, recipe.layers()))


def where_words(options: Mapping[str, Any]) -> list[str]:
    """What was said of where the work runs, to say it again to a command."""
    said = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value not in (None, False)}
    return [name if value is True else f"{name}={value}" for name, value in said.items()]


def claim_of(job: str | None) -> Any:
    """The claim of a sealing job, this one if none is named.

    Raises:
        BadInputError: None is named, and this is no job.
    """
    from stac2cube.shares import Claim

    sealing = job or os.environ.get("SLURM_JOB_ID")
    if not sealing:
        raise BadInputError("say --claim JOB: the id of the job that will seal")
    return Claim(sealing, os.environ.get("SLURM_CLUSTER_NAME") or Queue().name())


def _array(variable: str) -> int:
    value = os.environ.get(variable)
    if value is None:
        raise BadInputError("say --number and --of, or run this in a job array (sbatch --array=0-7)")
    return int(value)
