"""Commands that build: layers, update, plan, demo."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.options import CUBE, as_json, console_for, items_option, query_options, query_words, where_options
from stac2cube.cli.run import RunOptions, build_layers, child_update, prepared
from stac2cube.errors import BadInputError

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)


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
        if (run := child_update(cube, options["catalog"])) is not None:
            if options["time"] is not None or options["dry_run"]:
                raise BadInputError(f"{cube} is updated from its stored source: leave out --time and --dry-run")
            return run(RunOptions.of(options, console))
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
    with console_for(quiet) as console:
        for what, path in show_demo(folder, console).items():
            click.echo(f"{what:<12} {path}")
    return 0


def _layers(out: Path, words: dict[str, Any], options: dict[str, Any], console: Console) -> int:
    from stac2cube.build.plan import BuildOptions
    from stac2cube.build.status import require_room
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


# The main job on simulated scenes: build a year, add the next, add an earlier one, and make pictures and reports.

DEMO_YEARS = ("2023", "2024", "2022")
"""Years in the order in which they are built: the last one is before the first."""


def show_demo(folder: Path, console: Console) -> dict[str, Path]:
    """Run the demo.

    Args:
        folder: Folder for all files.
        console: Console that shows progress.

    Returns:
        Paths of the results by name.

    Raises:
        IncompleteError: Steps of a stage failed; later stages are not run.
        Stac2cubeError: Any other error.
    """
    from stac2cube.executors.base import Threads
    from stac2cube.export.pictures import draw
    from stac2cube.export.report import write_report
    from stac2cube.progress import progress_for
    from stac2cube.stages.layers import area_words, prepare, query_of_words, run
    from stac2cube.store.reader import open_cube
    from stac2cube.testing.archive import ArchiveSpec, simulate

    cube, catalog = folder / "layers.zarr", "earth-search"
    simulating = progress_for(console, "simulated granules")
    spec = ArchiveSpec(dates_per_year=6)
    log.info("simulating an archive of Sentinel-2-like scenes in %s", folder / "archive")
    with simulating.over(len(spec.years) * spec.dates_per_year * 3):
        archive = simulate(folder / "archive", spec, lambda _done, _all: simulating.advance())
    words = {
        "mission": "sentinel-2-l2a",
        "catalog": str(archive.catalog(catalog)),
        **area_words(archive.area(two_zones=True)),
    }
    for year in DEMO_YEARS:
        log.info("%s %s", "updating" if cube.exists() else "building", f"{cube} with {year}")
        summary = run(prepare(cube, *query_of_words(words | {"time": year})), Threads(), progress=progress_for(console))
        summary.require_complete(cube)
        log.info("%d steps sealed, %d were present", len(summary.sealed), len(summary.present))
    log.info("%s holds %d steps, sorted by time", cube, open_cube(cube).sizes["time"])
    finer = _finer(folder, cube)
    return {
        "cube": cube,
        "quicklook": draw(cube, folder / "quicklook.png"),
        "animation": draw(cube, folder / "timelapse.gif"),
        "report": write_report(cube, folder / "report.html"),
        "shifts": write_report(folder / "coregistered.zarr", folder / "report-coregistered.html"),
        "2.5 m grid": write_report(finer, folder / "report-superres.html"),
        "archive": archive.catalog(catalog),
    }


def _finer(folder: Path, cube: Path) -> Path:
    """Run the other stages, with engines that need no extra: co-registered, masked, on a grid of 2.5 m."""
    from stac2cube.clouds.stage import get_cloud_layers
    from stac2cube.coregister.rules import ShiftRules
    from stac2cube.coregister.stage import coregister_scenes
    from stac2cube.stages.stored_views import apply_masks
    from stac2cube.superres.rules import SuperresRules
    from stac2cube.superres.stage import super_resolution

    moved, clouds, clear, finer = (folder / f"{name}.zarr" for name in ("coregistered", "clouds", "clear", "superres"))
    log.info("co-registering, masking and super-resolving %s", cube)
    coregister_scenes(cube, moved, rules=ShiftRules(engine="phase"))
    get_cloud_layers(moved, clouds, method="scl")
    apply_masks(moved, clouds, clear, max_cloud=0.3)
    super_resolution(clear, finer, rules=SuperresRules(backend="backproject"))
    return finer
