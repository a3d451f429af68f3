"""Commands for training data: download, samples, statistics, patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.options import (
    AREA_FORMS,
    CUBE,
    LIST,
    TIME_FORMS,
    console_for,
    listed,
    options_of,
    value_of,
    where_options,
)
from stac2cube.cli.run import STOPPED, RunOptions, built, human_bytes, made_samples, stoppable, wide_console
from stac2cube.datasets.patch_rules import PatchRules, StatisticsRules
from stac2cube.datasets.rules import (
    AngleRules,
    DownloadRequest,
    LabelRules,
    SampleRequest,
    SampleRules,
    TransferOptions,
)
from stac2cube.errors import BadInputError
from stac2cube.executors.queue import job_end
from stac2cube.model.grid import GridOptions
from stac2cube.model.query import AreaOptions, Query

if TYPE_CHECKING:
    from rich.console import Console

    from stac2cube.datasets.acquisitions import WantedFile
    from stac2cube.datasets.rules import SampleSource


# Commands for training data made from cubes: statistics, patches.

_FOLDER = click.Path(path_type=Path)


def _frames_options(command: Any) -> Any:
    for option in (
        click.option("--clouds", type=CUBE, help="Clouds cube that belongs to the cube."),
        click.option("--labels", help="Layer of a cube that holds the labels, for example SCL or cloud_mask."),
        click.option(
            "--bands", type=LIST, help="Layers of a cube, separated by commas. Default: all layers except classes."
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@_frames_options
@click.option(
    "--range",
    "ends",
    nargs=2,
    type=float,
    help=f"Lowest and highest value that is counted. Default: {StatisticsRules.low:g} {StatisticsRules.high:g}.",
)
@options_of(
    StatisticsRules,
    *("width", "percentiles", "max_pixels_per_scene", "seed"),
    unset="told",
    flags={"width": ("--bin-width", "width")},
)
@click.option(
    "--only", type=click.Choice(["histogram", "moments"]), help="Run one of the two passes only. Default: both."
)
@where_options
def statistics(source: Path, out: Path, **options: Any) -> int:
    """Write percentiles, mean and standard deviation of each band of SOURCE (a cube or samples) into the folder OUT."""
    from stac2cube.build.plan import BuildOptions
    from stac2cube.datasets.files import Making
    from stac2cube.datasets.frames import find_frames
    from stac2cube.datasets.statistics import add_moments, count_values, read_statistics

    moments_only = options["only"] == "moments"  # options that are not given are then those of the first pass
    rules = statistics_rules_of(options, read_statistics(out).rules if moments_only else None)
    with console_for(options["quiet"]) as console, stoppable() as stop:
        run_options = RunOptions.of(options, console)
        making = Making(run_options.place, run_options.progress("scenes"), BuildOptions(stop=stop, deadline=job_end()))
        frames = find_frames(source, listed(options["bands"]), labels=options["labels"], clouds=options["clouds"])
        made = None if moments_only else count_values(frames, rules, out, making)
        if moments_only or (made is not None and options["only"] is None):
            made = add_moments(frames, out, making, rules=rules)
    if made is None:
        click.echo(f"{out}: {STOPPED}")
        return 10
    for band in made.bands:
        low, high = band.limits
        moments = "" if band.mean is None else f"  mean {band.mean:.5f}  std {band.std:.5f}"
        click.echo(f"{band.name:<8} {band.pixels:>12} pixels  clipped to {low:.5f} .. {high:.5f}{moments}")
    return 0


def statistics_rules_of(options: Mapping[str, Any], known: StatisticsRules | None = None) -> StatisticsRules:
    """The rules that options of `stac2cube statistics` request.

    Args:
        options: Options of the command.
        known: Rules for options that are not given; the defaults if None.

    Raises:
        BadInputError: An option is invalid.
    """
    low, high = options["ends"] or (None, None)
    return value_of(
        StatisticsRules, {**asdict(known or StatisticsRules()), **_given({**options, "low": low, "high": high})}
    )


@click.command()
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@_frames_options
@click.option("--rules", "file", type=CUBE, help="YAML file with all rules, see docs/patches.md.")
@options_of(PatchRules, "size", "stride", "stack", "form", "seed", unset="told")
@click.option(
    "--statistics", "stats", type=_FOLDER, help="Clip and standardise by these statistics, see `stac2cube statistics`."
)
@where_options
def patches(source: Path, out: Path, **options: Any) -> int:
    """Cut SOURCE (a cube or samples) into patches for training, split by place and time, in the folder OUT."""
    from stac2cube.build.plan import BuildOptions
    from stac2cube.datasets.files import Making
    from stac2cube.datasets.frames import find_frames
    from stac2cube.datasets.shards import make_patches
    from stac2cube.datasets.statistics import read_statistics

    rules = patch_rules_of(options)
    known = None if options["stats"] is None else read_statistics(options["stats"])
    with console_for(options["quiet"]) as console, stoppable() as stop:
        run_options = RunOptions.of(options, console)
        making = Making(
            run_options.place, run_options.progress("scenes, then shards"), BuildOptions(stop=stop, deadline=job_end())
        )
        frames = find_frames(source, listed(options["bands"]), labels=options["labels"], clouds=options["clouds"])
        made = make_patches(frames, out, rules, making, statistics=known)
    if not made.manifest:
        click.echo(f"{out}: {STOPPED}")
        return 10
    kept = made.manifest["counts"]["kept"]
    for split, share in rules.splits.shares.items():
        none = "" if kept.get(split) or not share else ": no good patch lies in a block of its own, make blocks smaller"
        click.echo(f"{split:<8} {kept.get(split, 0):>8} patches{none}")
    for why, count in made.manifest["counts"]["left out"].items():
        click.echo(f"{'left out':<8} {count:>8} {why}")
    return 0


def patch_rules_of(options: Mapping[str, Any]) -> PatchRules:
    """The rules that options of `stac2cube patches` request: a file of rules, overridden by other options.

    Raises:
        BadInputError: An option is invalid.
    """
    from stac2cube.datasets.config import read_words

    known = tuple(field.name for field in fields(PatchRules))
    words = {} if options["file"] is None else read_words(options["file"], known)
    return PatchRules.from_json(words | _given({name: options.get(name) for name in known}))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given."""
    return {name: value for name, value in options.items() if value is not None}


# Commands for training sets: download, samples.


@click.command()
@click.argument("folder", type=CUBE, required=False)
@click.option("--config", type=CUBE, help="YAML file with these options.")
@options_of(
    AreaOptions,
    "aoi",
    unset="off",
    helps={"aoi": f"Area of interest: {AREA_FORMS}."},
)
@options_of(Query, "time", unset="off", helps={"time": TIME_FORMS})
@options_of(DownloadRequest, "roles", unset="off")
@options_of(DownloadRequest, "catalog", unset="told")
@options_of(DownloadRequest, "tiles", "cloud", "min_coverage", "max_scenes", unset="off")
@options_of(TransferOptions, "connections", "tables", unset="told")
@options_of(TransferOptions, "verify")
@click.option("--dry-run", is_flag=True, help="Print what would be downloaded, and write nothing.")
@click.option("--quiet", "-q", is_flag=True, help="Print warnings only, no progress.")
def download(folder: Path | None, config: Path | None, **options: Any) -> int:
    """Download files of products by their role into FOLDER, and write a manifest that every command takes as --catalog.

    Broken downloads are resumed. Files are verified by size and checksum if the catalog gives them. Level-1C is paired
    with Level-2A, and the newest baseline is taken. For the Copernicus Data Space, set CDSE_USERNAME and CDSE_PASSWORD.
    """
    from stac2cube.datasets.acquisitions import wanted_files
    from stac2cube.datasets.config import DOWNLOAD, download_of_words, read_words
    from stac2cube.datasets.config import listed as several
    from stac2cube.datasets.download import Fetcher, run_download
    from stac2cube.progress import Progress, progress_for

    with console_for(options["quiet"]) as console:
        words = read_words(config, DOWNLOAD) if config is not None else {}
        words |= {name: value for name, value in options.items() if value is not None and name in DOWNLOAD}
        words |= {} if folder is None else {"folder": folder}
        if words.get("folder") is None:
            raise BadInputError("give FOLDER, or write it into --config")
        request = download_of_words(words)
        if options["dry_run"]:
            return _show_files(wanted_files(request), Path(words["folder"]))
        with stoppable() as stop:
            done = run_download(
                request,
                Path(words["folder"]),
                fetcher=Fetcher(stop=stop),
                connections=int(words.get("connections", TransferOptions.connections)),
                tables=several(words.get("tables", TransferOptions.tables)),
                verify=options["verify"],
                progress=Progress() if options["quiet"] else progress_for(console, "files"),
            )
    size = human_bytes(sum(entry.size or 0 for entry in done.new))
    click.echo(f"{words['folder']}: {len(done.new)} files fetched ({size}), {len(done.there)} were there")
    for entry in done.absent[:SHOWN]:
        click.echo(f"  {entry.scene} {entry.role}: {entry.reason}")
    if done.absent:
        rest = f", all of them listed in {words['folder']}/index.json" if len(done.absent) > SHOWN else ""
        click.echo(f"{len(done.absent)} files are not there{rest}: run again to try them")
    return done.exit_code


def _show_files(wanted: list[WantedFile], folder: Path) -> int:
    """Print the files that would be downloaded, per acquisition; returns the exit code."""
    from rich.table import Table

    from stac2cube.datasets.download import RemoteFile, is_fetched

    table = Table("acquisition", "files", "there", "to fetch", "the catalog lacks", box=None)
    for scene in dict.fromkeys(one.scene for one in wanted):
        mine = [one for one in wanted if one.scene == scene]
        there = [one for one in mine if one.path and is_fetched(RemoteFile("", one.size), folder / one.path)]
        size = sum(one.size or 0 for one in mine if one not in there)
        lacks = "; ".join(f"{one.role.word}: {one.reason}" for one in mine if one.reason) or "nothing"
        table.add_row(scene, str(len(mine)), str(len(there)), human_bytes(size), lacks)
    wide_console().print(table)
    return 2 if any(one.reason for one in wanted) else 0


SHOWN = 20
"""Number of missing files that are listed on the screen."""


@click.command()
@click.argument("source", required=False)
@click.argument("out", type=CUBE, required=False)
@click.option("--config", type=CUBE, help="YAML file with these options and with details of angles and labels.")
@options_of(SampleRules, "mission", unset="told")
@options_of(
    AreaOptions,
    "aoi",
    unset="off",
    helps={"aoi": f"Area to which samples are cut: {AREA_FORMS}."},
)
@options_of(
    Query,
    "time",
    unset="off",
    helps={"time": f"{TIME_FORMS} Default: all times."},
)
@options_of(SampleRules, "bands", "target", unset="told")
@options_of(
    GridOptions,
    *("crs", "resolution"),
    unset="off",
    helps={
        "crs": "CRS of the target `grid`.",
        "resolution": "Pixel size of the target `grid`, in units of its CRS.",
    },
)
@options_of(
    SampleRules,
    *("radiometry", "scaling", "upsampling", "downsampling", "source_nodata", "nodata", "validity", "threshold"),
    unset="told",
)
@options_of(AngleRules, "form", unset="off", flags={"form": ("--angles", "angles")})
@options_of(AngleRules, "view", unset="told")
@options_of(LabelRules, "backend", unset="off", flags={"backend": ("--labels", "labels")})
@options_of(LabelRules, "path", unset="told", flags={"path": ("--labels-path", "labels_path")})
@click.option("--mapping", help="Classes of source values, separated by commas: 4=0,8=1,9=1.")
@options_of(Query, "max_cloud_cover", unset="off")
@options_of(SampleRequest, unset="off")
@click.option("--overwrite", is_flag=True, help="Replace an existing set that was made with other options.")
@click.option(
    "--incomplete",
    type=click.Choice(["refuse", "list"]),
    default="refuse",
    show_default=True,
    help=("If an input is missing: write nothing (refuse), or make the other samples and list the failed ones (list)."),
)
@click.option("--dry-run", is_flag=True, help="Print what would be made and what is missing, and write nothing.")
@where_options
def samples(source: str | None, out: Path | None, config: Path | None, **options: Any) -> int:
    """Make training samples of every scene of SOURCE in the folder OUT.

    SOURCE is a manifest of `stac2cube download`, another catalog, or a cube. A sample is a folder with x.tif (bands and
    validity), y.tif (labels), angles.tif and meta.json; index.json lists all samples. If OUT ends in .zarr, the samples
    become a cube.
    """
    from stac2cube.datasets.config import read_words, request_of_words, rules_of_words, sample_words

    with console_for(options["quiet"]) as console:
        words = read_words(config, sample_words()) if config is not None else {}
        words |= {name: value for name, value in _words(options).items() if value is not None}
        words |= {name: value for name, value in (("source", source), ("out", out)) if value is not None}
        if words.get("out") is None:
            raise BadInputError("give SOURCE and OUT, or write them into --config")
        request, rules = request_of_words(words), rules_of_words(words)
        if options["dry_run"]:
            from stac2cube.datasets.samples import plan_samples

            sources = plan_samples(request, rules, "list")
            _show(sources)
            return 2 if any(one.lacking for one in sources) else 0
        return _make(request, Path(words["out"]), rules, options, console)


def _make(request: SampleRequest, out: Path, rules: SampleRules, options: dict[str, Any], console: Console) -> int:
    from stac2cube.datasets.sample_cube import run_sample_cube
    from stac2cube.datasets.samples import run_samples

    run_options, incomplete, overwrite = RunOptions.of(options, console), options["incomplete"], options["overwrite"]
    if out.suffix != ".zarr":
        make = partial(run_samples, request, out, rules, overwrite=overwrite, incomplete=incomplete)
        return made_samples(out, make, run_options)
    if overwrite:
        raise BadInputError("a cube is never overwritten: give another path")
    return built(out, partial(run_sample_cube, request, out, rules, incomplete=incomplete), run_options)


def _words(options: dict[str, Any]) -> dict[str, Any]:
    """Options as keys of a configuration."""
    words = {name: value for name, value in options.items() if name not in _OWN}
    words["bands"] = listed(options["bands"])
    if options["angles"] is not None:
        words["angles"] = AngleRules(options["angles"], options["view"] or "single")
    elif options["view"] is not None:
        raise BadInputError("--view needs --angles")
    if options["labels"] is not None:
        words["labels"] = {"backend": options["labels"], "path": options["labels_path"] or ""}
        if options["mapping"] is not None:
            pairs = [word.partition("=") for word in options["mapping"].split(",")]
            if not all(value and number.strip().isdigit() for value, _, number in pairs):
                raise BadInputError(f"--mapping {options['mapping']!r}: write VALUE=CLASS with commas")
            words["labels"]["mapping"] = {value.strip(): int(number) for value, _, number in pairs}
    elif options["labels_path"] is not None or options["mapping"] is not None:
        raise BadInputError("--labels-path and --mapping say how --labels are made: say --labels too, or use --config")
    return words


_OWN = {"place", "workers", "site", "test", "quiet", "overwrite", "incomplete", "dry_run", "view"} | {
    "labels_path",
    "mapping",
}
"""Options that are not part of a configuration."""


def _show(sources: list[SampleSource]) -> None:
    from rich.table import Table

    table = Table("sample", "pixels", "resolution", "cloud %", "lacks", box=None)
    for source in sources:
        size = "-" if source.grid is None else "x".join(map(str, source.grid.shape))
        step = "-" if source.grid is None else f"{source.grid.resolution:g}"
        cover = "-" if source.cloud_cover is None else f"{source.cloud_cover:.0f}"
        table.add_row(source.id, size, step, cover, "; ".join(source.lacking) or "nothing")
    wide_console().print(table)
