"""Commands that work from a recipe: run, stage, and the three parts of a job array: claim, share, seal."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from stac2cube.cli.steps import Manner, leave, prepared, recipe_words, run_stage, said
from stac2cube.cli.words import CUBE, stoppable, talking, where_options
from stac2cube.errors import BadInputError
from stac2cube.places.queue import Queue, job_end

RECIPE = click.argument("recipe", type=CUBE)

progress_file = click.option("--progress-file", type=CUBE, hidden=True)

claim_option = click.option(
    "--claim", "job", help="Id of the job that will seal, for which the cube is held; this job if not said."
)


@click.command()
@RECIPE
@click.option("--stage", "only", multiple=True, help="Only this stage; may be said several times.")
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
@progress_file
def run(recipe: Path, only: tuple[str, ...], on_deadline: str, package: Path | None, **options: Any) -> int:
    """Run the stages of RECIPE one after the other. Running it again goes on where it ended."""
    from stac2cube.recipe import read_recipe

    code = 0
    with talking(options["quiet"]) as console:
        wanted = read_recipe(recipe)
        if package is not None:
            wanted = replace(wanted, cubes=package.absolute())
        manner = Manner.of(options, console)
        if unknown := set(only) - set(wanted.stages):
            raise BadInputError(f"{recipe} has no stage {', '.join(sorted(unknown))}")
        for stage in only or wanted.stages:
            code = max(code, run_stage(wanted, stage, manner))
            if code == 10:
                break
        if package is not None:
            from stac2cube.products.static_catalog import describe_cubes

            click.echo(describe_cubes(wanted.cubes))
        return leave(code, on_deadline)


@click.command()
@RECIPE
@click.argument("folder", type=CUBE, required=False)
@click.option("--quiet", "-q", is_flag=True, help="Warnings only.")
def stage(recipe: Path, folder: Path | None, quiet: bool) -> None:
    """Search now, and store what a job without a network needs: RECIPE, area and found items, in FOLDER.

    Run it on a login node, then submit the recipe it prints.
    """
    with talking(quiet):
        click.echo(stage_recipe(recipe, folder))


def stage_recipe(path: Path, folder: Path | None = None) -> Path:
    """Store a recipe with its search result and area; the stored recipe.

    Raises:
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    from shapely import to_geojson

    from stac2cube.recipe import Recipe, read_recipe, write_recipe
    from stac2cube.stages.layers import make_request
    from stac2cube.stages.offline import store_search

    recipe = read_recipe(path)
    target = (folder or recipe.cubes / "staged").resolve()
    request = make_request(recipe_words(recipe))
    stored = store_search(request, target / "items.parquet")
    (target / "area.geojson").write_text(to_geojson(request.area.geometry))
    words = dict(recipe.stages["layers"])
    for name in ("aoi_crs", "edge"):
        words.pop(name, None)
    words |= {"aoi": "area.geojson", "catalog": stored.catalog, "items": "items.parquet"}
    staged = Recipe(target / "recipe.yaml", recipe.cubes, {**recipe.stages, "layers": words})
    write_recipe(staged)
    return staged.path


@click.command()
@RECIPE
@claim_option
@where_options
def claim(recipe: Path, job: str | None, **options: Any) -> None:
    """Hold the layers cube of RECIPE for a job array, until the job that seals it ends."""
    from stac2cube.recipe import read_recipe
    from stac2cube.shares import claim_cube

    with talking(options["quiet"]) as console:
        wanted = read_recipe(recipe)
        prepared_job = prepared(wanted.cube("layers"), recipe_words(wanted), Manner.of(options, console))
        claim_cube(wanted.cube("layers"), prepared_job.spec, claim_of(job))


@click.command()
@RECIPE
@claim_option
@click.option("--number", type=click.IntRange(0), help="Which share, from 0; this task of the array if not said.")
@click.option("--of", "of", type=click.IntRange(1), help="How many shares; tasks of the array if not said.")
@where_options
@progress_file
def share(recipe: Path, job: str | None, number: int | None, of: int | None, **options: Any) -> int:
    """Make one share of the blocks that the claimed layers cube of RECIPE lacks; in each task of a job array."""
    from stac2cube.recipe import read_recipe
    from stac2cube.shares import build_share
    from stac2cube.work import Orders

    which = number if number is not None else _array("SLURM_ARRAY_TASK_ID") - _array("SLURM_ARRAY_TASK_MIN")
    many = of if of is not None else _array("SLURM_ARRAY_TASK_COUNT")
    with talking(options["quiet"]) as console:
        wanted = read_recipe(recipe)
        manner = Manner.of(options, console)
        if manner.progress_file is not None:
            manner = replace(manner, progress_file=manner.progress_file.with_suffix(f".{which}.json"))
        out = wanted.cube("layers")
        work = prepared(out, recipe_words(wanted), manner)
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
    from stac2cube.recipe import read_recipe
    from stac2cube.shares import seal_shares
    from stac2cube.stages.layers import doubted

    with talking(options["quiet"]) as console:
        wanted = read_recipe(recipe)
        out = wanted.cube("layers")
        work = prepared(out, recipe_words(wanted), Manner.of(options, console))
        return said(out, seal_shares(out, work.spec, doubted(work), claim_of(job)))


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
