"""Commands for training data: download, samples, statistics, patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from stac2cube.cli.options import CUBE, LIST, listed, talking, where_options
from stac2cube.cli.run import RunOptions, built, human_bytes, made_samples, stoppable, wide_console
from stac2cube.errors import BadInputError
from stac2cube.executors.queue import job_end

if TYPE_CHECKING:
    from stac2cube.datasets.acquisitions import WantedFile
    from stac2cube.datasets.patch_rules import PatchRules
    from stac2cube.datasets.rules import SampleRequest, SampleRules, SampleSource
    from stac2cube.datasets.statistics import StatisticsRules


# Commands for those who train: statistics, patches.

_FOLDER = click.Path(path_type=Path)


def _frames_options(command: Any) -> Any:
    for option in (
        click.option("--clouds", type=CUBE, help="The clouds cube of a cube."),
        click.option("--labels", help="The layer of a cube that labels it, for example SCL or cloud_mask."),
        click.option("--bands", type=LIST, help="Layers of a cube with commas; all that are measured if not said."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@_frames_options
@click.option("--range", "ends", nargs=2, type=float, help="Values counted [0 1].")
@click.option("--bin-width", "width", type=float, help="Percentiles are known no finer [0.0005].")
@click.option("--percentiles", nargs=2, type=float, help="What lies beyond is clipped [2 98].")
@click.option("--max-pixels-per-scene", type=int, help="Pixels looked at of each scene; all if not said.")
@click.option("--seed", type=int, help="Decides which pixels [0].")
@click.option("--only", type=click.Choice(["histogram", "moments"]), help="One of the two passes; both if not said.")
@where_options
def statistics(source: Path, out: Path, **options: Any) -> int:
    """Write percentiles, mean and deviation of each band of SOURCE (a cube or samples) into the folder OUT."""
    from stac2cube.build.plan import BuildOptions
    from stac2cube.datasets.files import Making
    from stac2cube.datasets.frames import find_frames
    from stac2cube.datasets.statistics import add_moments, count_values, read_statistics

    moments_only = options["only"] == "moments"  # what is not said is then as the first pass was told
    rules = replace(read_statistics(out).rules, **_said(options)) if moments_only else statistics_rules_of(options)
    with talking(options["quiet"]) as console, stoppable() as stop:
        manner = RunOptions.of(options, console)
        making = Making(manner.place, manner.progress("scenes"), BuildOptions(stop=stop, deadline=job_end()))
        frames = find_frames(source, listed(options["bands"]), labels=options["labels"], clouds=options["clouds"])
        made = None if moments_only else count_values(frames, rules, out, making)
        if moments_only or (made is not None and options["only"] is None):
            made = add_moments(frames, out, making, rules=rules)
    if made is None:
        click.echo(f"{out}: stopped before the end, run again to go on")
        return 10
    for band in made.bands:
        low, high = band.limits
        moments = "" if band.mean is None else f"  mean {band.mean:.5f}  std {band.std:.5f}"
        click.echo(f"{band.name:<8} {band.pixels:>12} pixels  clipped to {low:.5f} .. {high:.5f}{moments}")
    return 0


def statistics_rules_of(options: Mapping[str, Any]) -> StatisticsRules:
    """What `stac2cube statistics` is asked for.

    Raises:
        BadInputError: It makes no sense.
    """
    from stac2cube.datasets.statistics import StatisticsRules

    return StatisticsRules(**_said(options))


def _said(options: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of statistics that are given, by name."""
    words = {name: options[name] for name in ("width", "percentiles", "max_pixels_per_scene", "seed")}
    words |= {} if options["ends"] is None else dict(zip(("low", "high"), options["ends"], strict=True))
    return {name: value for name, value in words.items() if value is not None}


@click.command()
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@_frames_options
@click.option("--rules", "file", type=CUBE, help="YAML, see docs/patches.md.")
@click.option("--size", type=int, help="Edge of a patch, pixels [128].")
@click.option("--stride", type=int, help="Pixels from patch to patch; the size if not said.")
@click.option("--stack", type=int, help="Frames of one place per patch, one after another in time [1].")
@click.option("--form", type=click.Choice(["webdataset", "zarr", "geotiff"]), help="How they are stored [webdataset].")
@click.option("--seed", type=int, help="Decides the order [0].")
@click.option("--statistics", "stats", type=_FOLDER, help="Clip and standardise by these; see `stac2cube statistics`.")
@where_options
def patches(source: Path, out: Path, **options: Any) -> int:
    """Cut SOURCE (a cube or samples) into patches for training, split by place and time, into shards in OUT."""
    from stac2cube.build.plan import BuildOptions
    from stac2cube.datasets.files import Making
    from stac2cube.datasets.frames import find_frames
    from stac2cube.datasets.shards import make_patches
    from stac2cube.datasets.statistics import read_statistics

    rules = patch_rules_of(options)
    known = None if options["stats"] is None else read_statistics(options["stats"])
    with talking(options["quiet"]) as console, stoppable() as stop:
        manner = RunOptions.of(options, console)
        making = Making(
            manner.place, manner.progress("scenes, then shards"), BuildOptions(stop=stop, deadline=job_end())
        )
        frames = find_frames(source, listed(options["bands"]), labels=options["labels"], clouds=options["clouds"])
        made = make_patches(frames, out, rules, making, statistics=known)
    if not made.manifest:
        click.echo(f"{out}: stopped before the end, run again to go on")
        return 10
    kept = made.manifest["counts"]["kept"]
    for split, share in rules.splits.shares.items():
        none = "" if kept.get(split) or not share else ": no good patch lies in a block of its own, make blocks smaller"
        click.echo(f"{split:<8} {kept.get(split, 0):>8} patches{none}")
    for why, count in made.manifest["counts"]["left out"].items():
        click.echo(f"{'left out':<8} {count:>8} {why}")
    return 0


def patch_rules_of(options: Mapping[str, Any]) -> PatchRules:
    """What `stac2cube patches` is asked for: a file of rules, and what is said beside it.

    Raises:
        BadInputError: It makes no sense.
    """
    from stac2cube.datasets.config import read_words
    from stac2cube.datasets.patch_rules import PatchRules

    known = tuple(field.name for field in fields(PatchRules))
    words = {} if options["file"] is None else read_words(options["file"], known)
    given = {name: options[name] for name in ("size", "stride", "stack", "form", "seed") if options[name] is not None}
    return PatchRules.from_json(words | given)


# Commands for training sets: download, samples.


@click.command()
@click.argument("folder", type=CUBE, required=False)
@click.option("--config", type=CUBE, help="A YAML file of these words.")
@click.option("--aoi", help="As for `layers`.")
@click.option("--time", help="As for `layers`.")
@click.option("--roles", help="With commas: l1c.band.B02 or l1c.band.*, l1c.product_metadata, l1c.tile_metadata, ...")
@click.option("--catalog", help="Name, URL or path [cdse].")
@click.option("--tiles", help="Codes with commas: 32TNT,32TPT; all if not said.")
@click.option("--cloud", help="Cloud cover of a tile, percent: LOWEST-HIGHEST.")
@click.option("--min-coverage", type=float, help="Percent of the area that a tile has to cover.")
@click.option("--max-scenes", type=click.IntRange(1), help="At most so many acquisitions of a tile, the oldest.")
@click.option("--connections", type=click.IntRange(1), help="Files fetched at a time [4].")
@click.option("--tables", help="The account for people, with commas: csv, parquet, xlsx [csv].")
@click.option("--verify", is_flag=True, help="Reckon the checksums of files that are there already anew.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched and end.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, warnings only.")
def download(folder: Path | None, config: Path | None, **options: Any) -> int:
    """Fetch files of products by their role into FOLDER, and write a manifest, which every command takes as --catalog.

    Broken downloads are resumed, files verified by size and checksum where the catalog gives them, Level-1C paired with
    Level-2A, the newest baseline taken. Of the Copernicus Data Space: set CDSE_USERNAME and CDSE_PASSWORD.
    """
    from stac2cube.datasets.acquisitions import wanted_files
    from stac2cube.datasets.config import DOWNLOAD, download_of_words, read_words
    from stac2cube.datasets.config import listed as several
    from stac2cube.datasets.download import CONNECTIONS, Fetcher, run_download
    from stac2cube.progress import Progress, progress_for

    with talking(options["quiet"]) as console:
        words = read_words(config, DOWNLOAD) if config is not None else {}
        words |= {name: value for name, value in options.items() if value is not None and name in DOWNLOAD}
        words |= {} if folder is None else {"folder": folder}
        if words.get("folder") is None:
            raise BadInputError("say FOLDER, or give it in --config")
        request = download_of_words(words)
        if options["dry_run"]:
            return _show_files(wanted_files(request), Path(words["folder"]))
        with stoppable() as stop:
            done = run_download(
                request,
                Path(words["folder"]),
                fetcher=Fetcher(stop=stop),
                connections=int(words.get("connections", CONNECTIONS)),
                tables=several(words.get("tables", "csv")),
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
    """What would be fetched, per acquisition; the exit code."""
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
"""Files that are named on the screen."""

METHODS = click.Choice(["nearest", "bilinear", "cubic", "average", "mode", "max", "min", "med", "q1", "q3", "sum"])


@click.command()
@click.argument("source", required=False)
@click.argument("out", type=CUBE, required=False)
@click.option("--config", type=CUBE, help="A YAML file of these words, with details of angles and labels.")
@click.option("--mission", help="sentinel-2-l1c [the default], or another.")
@click.option("--aoi", help="Only what touches this area; samples are cut to it.")
@click.option("--time", help="As for `layers`; everything if not said.")
@click.option("--bands", help="Names or common names with commas; the mission's if not said.")
@click.option("--target", help="The band whose pixels all others are brought to, or `grid` [B02].")
@click.option("--crs", help="For the target grid.")
@click.option("--resolution", type=float, help="For the target grid, units of its CRS.")
@click.option("--radiometry", type=click.Choice(["toa", "boa", "raw"]), help="The mission's reflectance if not said.")
@click.option("--scaling", type=click.Choice(["product", "item"]), help="Whence scale and offset come [product].")
@click.option("--upsampling", type=METHODS, help="[bilinear]")
@click.option("--downsampling", type=METHODS, help="[average]")
@click.option("--source-nodata", type=float, help="Count without data; what the files say, or 0, if not said.")
@click.option("--nodata", type=float, help="What stands for it in the samples [nan].")
@click.option("--validity", type=click.Choice(["single", "per_band"]), help="Channels of validity [single].")
@click.option("--threshold", type=float, help="Share of a pixel that must be valid [0.5].")
@click.option("--angles", type=click.Choice(["degrees", "sin_cos"]), help="Write angles of sun and view.")
@click.option("--view", type=click.Choice(["single", "per_band"]), help="Of view: all bands or each [single].")
@click.option("--labels", type=click.Choice(["scl", "raster", "vector", "clouds"]), help="Write labels from this.")
@click.option("--labels-path", help="The raster, vector file or clouds cube; {tile}, {date} and {id} are filled in.")
@click.option("--mapping", help="Value=class with commas: 4=0,8=1,9=1.")
@click.option("--max-cloud-cover", type=float, help="Leave out scenes with more, percent.")
@click.option("--max-scenes", type=click.IntRange(1), help="At most so many, the oldest.")
@click.option("--overwrite", is_flag=True, help="Make a set that is there anew, by other rules; what it holds goes.")
@click.option(
    "--incomplete",
    type=click.Choice(["refuse", "list"]),
    default="refuse",
    show_default=True,
    help="If an input is missing: make nothing, or all else and list what failed.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be made, and what is missing.")
@where_options
def samples(source: str | None, out: Path | None, config: Path | None, **options: Any) -> int:
    """Make training samples of every scene of SOURCE in the folder OUT.

    SOURCE is a manifest of `stac2cube download`, another catalog, or a cube. A sample is a folder with x.tif (bands and
    validity), y.tif, angles.tif and meta.json; index.json lists all. If OUT ends in .zarr, they become a cube.
    """
    from stac2cube.datasets.config import read_words, request_of_words, rules_of_words, sample_words

    with talking(options["quiet"]) as console:
        words = read_words(config, sample_words()) if config is not None else {}
        words |= {name: value for name, value in _words(options).items() if value is not None}
        words |= {name: value for name, value in (("source", source), ("out", out)) if value is not None}
        if words.get("out") is None:
            raise BadInputError("say SOURCE and OUT, or give them in --config")
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

    manner, incomplete, overwrite = RunOptions.of(options, console), options["incomplete"], options["overwrite"]
    if out.suffix != ".zarr":
        make = partial(run_samples, request, out, rules, overwrite=overwrite, incomplete=incomplete)
        return made_samples(out, make, manner)
    if overwrite:
        raise BadInputError("a cube is never overwritten: give another path")
    return built(out, partial(run_sample_cube, request, out, rules, incomplete=incomplete), manner)


def _words(options: dict[str, Any]) -> dict[str, Any]:
    """Options as words of a configuration."""
    from stac2cube.datasets.rules import AngleRules

    words = {name: value for name, value in options.items() if name not in _OWN}
    words["bands"] = listed(options["bands"])
    if options["angles"] is not None:
        words["angles"] = AngleRules(options["angles"], options["view"] or "single")
    elif options["view"] is not None:
        raise BadInputError("--view says how --angles are written: say both")
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
"""Options that are no words of a set."""


def _show(sources: list[SampleSource]) -> None:
    table = Table("sample", "pixels", "resolution", "cloud %", "lacks", box=None)
    for source in sources:
        size = "-" if source.grid is None else "x".join(map(str, source.grid.shape))
        step = "-" if source.grid is None else f"{source.grid.resolution:g}"
        cover = "-" if source.cloud_cover is None else f"{source.cloud_cover:.0f}"
        table.add_row(source.id, size, step, cover, "; ".join(source.lacking) or "nothing")
    wide_console().print(table)
