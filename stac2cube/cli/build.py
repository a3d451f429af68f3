"""Commands that build: layers, update, plan, demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.options import CUBE, as_json, console_for, items_option, query_options, query_words, where_options
from stac2cube.cli.run import RunOptions, build_layers, prepared, update_child
from stac2cube.errors import BadInputError

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("out", type=CUBE)
@query_options
@items_option
@where_options
@click.option("--update", "updating", is_flag=True, help="Take every option except --time from the cube.")
@click.option("--replace-superseded", is_flag=True, help="Rebuild time steps for which newer or more items exist.")
@click.option("--per-feature", is_flag=True, help="Build one cube per feature of the area: OUT/<name>.zarr.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and write nothing.")
@as_json
def layers(out: Path, per_feature: bool, **options: Any) -> int:
    """Build the cube OUT from a STAC catalog for an area and a time, or extend it.

    If you run it again, nothing changes. If you give a longer time, the missing time steps are added, also earlier
    ones.
    """
    with console_for(options["quiet"]) as console:
        if not per_feature:
            return _layers(out, query_words(**options), options, console)
        from stac2cube.model.geometry import read_areas

        areas = read_areas(options["aoi"], crs=options["aoi_crs"], edge=options["edge"], split=True)
        words = query_words(**options)
        codes = [_layers(out / f"{area.name}.zarr", words | {"area": area}, options, console) for area in areas]
        return max(codes)


@click.command()
@click.argument("cube", type=CUBE)
@click.option("--time", help="Time to add. Default: all times requested so far, which finds scenes that came late.")
@click.option("--catalog", help="Use this catalog instead of the one stored in the cube.")
@click.option("--replace-superseded", is_flag=True, help="Rebuild time steps for which newer or more items exist.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and write nothing.")
@as_json
@where_options
def update(cube: Path, **options: Any) -> int:
    """Add a time to CUBE, or add scenes that came late; a derived cube is brought up to date with its parent.

    Samples, in a cube or in a folder, are brought up to date with their source.
    """
    from stac2cube.model.period import parse_period

    words = {"catalog": options["catalog"]}
    words["time"] = None if options["time"] is None else parse_period(options["time"]).text
    with console_for(options["quiet"]) as console:
        if _is_made_from_another(cube):
            return _follow(cube, options, console)
        return _layers(cube, words, {**options, "updating": True}, console)


@click.command()
@click.argument("out", type=CUBE)
@query_options
@items_option
@where_options
@click.option("--update", "updating", is_flag=True, help="Take every option except --time from the cube.")
@as_json
def plan(out: Path, **options: Any) -> int:
    """Print what `layers` would do to OUT: scenes, blocks, bytes to read and write, files and bytes per year."""
    with console_for(options["quiet"]) as console:
        return _layers(out, query_words(**options), {**options, "dry_run": True}, console)


@click.command()
@click.argument("folder", type=CUBE, default=Path("build/demo"))
@click.option("--quiet", "-q", is_flag=True, help="Print warnings only, no progress.")
def demo(folder: Path, quiet: bool) -> int:
    """Build a small cube from simulated scenes in FOLDER, extend it twice, and draw it."""
    from stac2cube.cli.show_demo import show

    with console_for(quiet) as console:
        for what, path in show(folder, console).items():
            click.echo(f"{what:<12} {path}")
    return 0


def _is_made_from_another(cube: Path) -> bool:
    """Whether it is a derived cube or samples; told of a cube of layers without importing what samples need."""
    from stac2cube.store.metadata import read_root

    if (cube / "zarr.json").exists() and read_root(cube).spec.stage == "layers":
        return False
    from stac2cube.datasets.sample_cube import holds_sample_files, holds_samples
    from stac2cube.maintain.update import is_derived

    return holds_sample_files(cube) or is_derived(cube) or holds_samples(cube)


def _follow(cube: Path, options: dict[str, Any], console: Console) -> int:
    if options["time"] is not None or options["dry_run"]:
        raise BadInputError(f"{cube} is updated from its stored source: leave out --time and --dry-run")
    return update_child(cube, options["catalog"], RunOptions.of(options, console))


def _layers(out: Path, words: dict[str, Any], options: dict[str, Any], console: Console) -> int:
    from stac2cube.build.plan import BuildOptions
    from stac2cube.build.size_estimate import require_room
    from stac2cube.cli.run import plan_json, plan_table, wide_console

    run_options = RunOptions.of(options, console)
    job = prepared(out, words, run_options, updating=options["updating"])
    if options["dry_run"]:
        if run_options.machine:
            click.echo(json.dumps(plan_json(job), indent=1))
        else:
            wide_console().print(plan_table(job))
        require_room(out, job.spec, job.plan(), BuildOptions(limits=run_options.limits), run_options.place)
        return 0
    return build_layers(job, run_options)
