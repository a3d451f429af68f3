"""Commands that build: layers, update, plan, demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from stac2cube.cli.options import CUBE, as_json, items_option, talking, what_options, what_words, where_options
from stac2cube.cli.run import RunOptions, build_layers, prepared, update_child
from stac2cube.errors import BadInputError


@click.command()
@click.argument("out", type=CUBE)
@what_options
@items_option
@where_options
@click.option("--update", "updating", is_flag=True, help="Take everything but --time from the cube.")
@click.option("--replace-superseded", is_flag=True, help="Make steps anew for which newer or more items exist.")
@click.option("--per-feature", is_flag=True, help="One cube per feature of the area: OUT/<name>.zarr.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and end.")
@as_json
def layers(out: Path, per_feature: bool, **options: Any) -> int:
    """Turn a STAC catalog, an area and a time into the cube OUT, or extend it.

    Running it again changes nothing; a longer time adds what is missing, wherever in time it lies.
    """
    with talking(options["quiet"]) as console:
        if not per_feature:
            return _layers(out, what_words(**options), options, console)
        from stac2cube.model.geometry import read_areas

        areas = read_areas(options["aoi"], crs=options["aoi_crs"], edge=options["edge"], split=True)
        words = what_words(**options)
        codes = [_layers(out / f"{area.name}.zarr", words | {"area": area}, options, console) for area in areas]
        return max(codes)


@click.command()
@click.argument("cube", type=CUBE)
@click.option("--time", help="What to add; every time asked for so far if not said (finds late scenes).")
@click.option("--catalog", help="Another catalog than the one the cube remembers.")
@click.option("--replace-superseded", is_flag=True, help="Make steps anew for which newer or more items exist.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and end.")
@as_json
@where_options
def update(cube: Path, **options: Any) -> int:
    """Extend CUBE by a time, or look for late scenes in the times it has; what was made from another cube follows it.

    So do samples, in a cube or in a folder, whatever they were made of.
    """
    from stac2cube.datasets.sample_cube import holds_sample_files, holds_samples
    from stac2cube.maintain.update import is_derived
    from stac2cube.model.period import parse_period

    words = {"catalog": options["catalog"]}
    words["time"] = None if options["time"] is None else parse_period(options["time"]).text
    with talking(options["quiet"]) as console:
        if holds_sample_files(cube) or is_derived(cube) or holds_samples(cube):
            return _follow(cube, options, console)
        return _layers(cube, words, {**options, "updating": True}, console)


@click.command()
@click.argument("out", type=CUBE)
@what_options
@items_option
@where_options
@click.option("--update", "updating", is_flag=True, help="Take everything but --time from the cube.")
@as_json
def plan(out: Path, **options: Any) -> int:
    """Say what `layers` would do to OUT: scenes, blocks, bytes to read and write, files and bytes of every year."""
    with talking(options["quiet"]) as console:
        return _layers(out, what_words(**options), {**options, "dry_run": True}, console)


@click.command()
@click.argument("folder", type=CUBE, default=Path("build/demo"))
@click.option("--quiet", "-q", is_flag=True, help="No progress, warnings only.")
def demo(folder: Path, quiet: bool) -> int:
    """Build a small cube from simulated scenes in FOLDER, extend it twice, and show it."""
    from stac2cube.cli.show_demo import show

    with talking(quiet) as console:
        for what, path in show(folder, console).items():
            click.echo(f"{what:<12} {path}")
    return 0


def _follow(cube: Path, options: dict[str, Any], console: Console) -> int:
    if options["time"] is not None or options["dry_run"]:
        raise BadInputError(f"{cube} follows what it was made of: say neither --time nor --dry-run")
    return update_child(cube, options["catalog"], RunOptions.of(options, console))


def _layers(out: Path, words: dict[str, Any], options: dict[str, Any], console: Console) -> int:
    from stac2cube.build.plan import BuildOptions
    from stac2cube.build.size_estimate import require_room
    from stac2cube.cli.run import plan_json, plan_table, wide_console

    manner = RunOptions.of(options, console)
    job = prepared(out, words, manner, updating=options["updating"])
    if options["dry_run"]:
        if manner.machine:
            click.echo(json.dumps(plan_json(job), indent=1))
        else:
            wide_console().print(plan_table(job))
        require_room(out, job.spec, job.plan(), BuildOptions(limits=manner.limits), manner.place)
        return 0
    return build_layers(job, manner)
