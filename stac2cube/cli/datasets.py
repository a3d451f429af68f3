"""Commands for training data: download, samples, statistics, patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.options import CUBE, LIST, listed, talking, where_options
from stac2cube.cli.run import RunOptions, built, human_bytes, made_samples, stoppable, wide_console
from stac2cube.errors import BadInputError
from stac2cube.executors.queue import job_end

if TYPE_CHECKING:
    from rich.console import Console

    from stac2cube.datasets.acquisitions import WantedFile
    from stac2cube.datasets.patch_rules import PatchRules
    from stac2cube.datasets.rules import SampleRequest, SampleRules, SampleSource
    from stac2cube.datasets.statistics import StatisticsRules


# Commands for those who train: statistics, patches.

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
@click.option("--range", "ends", nargs=2, type=float, help="Lowest and highest value that is counted. Default: 0 1.")
@click.option(
    "--bin-width",
    "width",
    type=float,
    help="Width of a histogram bin, which is the precision of percentiles. Default: 0.0005.",
)
@click.option(
    "--percentiles",
    nargs=2,
    type=float,
    help="Lower and upper percentile; values beyond them are clipped. Default: 2 98.",
)
@click.option("--max-pixels-per-scene", type=int, help="Number of pixels taken from each scene. Default: all.")
@click.option("--seed", type=int, help="Seed that chooses the pixels. Default: 0.")
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
@click.option("--rules", "file", type=CUBE, help="YAML file with all rules, see docs/patches.md.")
@click.option("--size", type=int, help="Edge of a patch in pixels. Default: 128.")
@click.option("--stride", type=int, help="Distance from one patch to the next in pixels. Default: the edge of a patch.")
@click.option("--stack", type=int, help="Number of consecutive time steps in a patch. Default: 1.")
@click.option(
    "--form", type=click.Choice(["webdataset", "zarr", "geotiff"]), help="Storage format. Default: webdataset."
)
@click.option("--seed", type=int, help="Seed that decides the order of the patches. Default: 0.")
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
@click.option("--config", type=CUBE, help="YAML file with these options.")
@click.option("--aoi", help="As for `stac2cube layers`.")
@click.option("--time", help="As for `stac2cube layers`.")
@click.option(
    "--roles",
    help=(
        "Roles of files, separated by commas: l1c.band.B02, l1c.band.*, l1c.product_metadata, "
        "l1c.tile_metadata, l2a.scl_20m ..."
    ),
)
@click.option("--catalog", help="Name, URL or path of a catalog. Default: cdse.")
@click.option("--tiles", help="Tile codes, separated by commas: 32TNT,32TPT. Default: all tiles.")
@click.option("--cloud", help="Range of the cloud cover of a tile in percent: LOWEST-HIGHEST.")
@click.option("--min-coverage", type=float, help="Percentage of the area that a tile must cover.")
@click.option(
    "--max-scenes", type=click.IntRange(1), help="Largest number of acquisitions per tile; the oldest are taken."
)
@click.option(
    "--connections", type=click.IntRange(1), help="Number of files that are downloaded at the same time. Default: 4."
)
@click.option("--tables", help="Formats of the table of files, separated by commas: csv, parquet, xlsx. Default: csv.")
@click.option("--verify", is_flag=True, help="Compute the checksums of existing files again.")
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
"""Files that are named on the screen."""

METHODS = click.Choice(["nearest", "bilinear", "cubic", "average", "mode", "max", "min", "med", "q1", "q3", "sum"])


@click.command()
@click.argument("source", required=False)
@click.argument("out", type=CUBE, required=False)
@click.option("--config", type=CUBE, help="YAML file with these options and with details of angles and labels.")
@click.option("--mission", help="Name of a mission. Default: sentinel-2-l1c.")
@click.option("--aoi", help="Area of interest. Samples are cut to it.")
@click.option("--time", help="As for `stac2cube layers`. Default: all times.")
@click.option("--bands", help="Bands by name or common name, separated by commas. Default: those of the mission.")
@click.option("--target", help="Band to whose pixels all others are resampled, or `grid`. Default: B02.")
@click.option("--crs", help="CRS of the target `grid`.")
@click.option("--resolution", type=float, help="Pixel size of the target `grid`, in units of its CRS.")
@click.option(
    "--radiometry",
    type=click.Choice(["toa", "boa", "raw"]),
    help=(
        "Top-of-atmosphere reflectance (toa), surface reflectance (boa), or stored numbers (raw). "
        "Default: that of the mission."
    ),
)
@click.option(
    "--scaling",
    type=click.Choice(["product", "item"]),
    help="Source of scale and offset: the product's metadata file, or the item. Default: product.",
)
@click.option(
    "--upsampling", type=METHODS, help="Method for bands with larger pixels than the target. Default: bilinear."
)
@click.option(
    "--downsampling", type=METHODS, help="Method for bands with smaller pixels than the target. Default: average."
)
@click.option("--source-nodata", type=float, help="Stored number that means no data. Default: that of the file, or 0.")
@click.option("--nodata", type=float, help="Number that means no data in the samples. Default: nan.")
@click.option(
    "--validity",
    type=click.Choice(["single", "per_band"]),
    help="One channel of validity, or one per band. Default: single.",
)
@click.option(
    "--threshold", type=float, help="Fraction of a pixel that must be covered by valid source pixels. Default: 0.5."
)
@click.option(
    "--angles",
    type=click.Choice(["degrees", "sin_cos"]),
    help="Write the angles of sun and view, as degrees or as sine and cosine.",
)
@click.option(
    "--view",
    type=click.Choice(["single", "per_band"]),
    help="View angles: one mean of all bands, or one per band. Default: single.",
)
@click.option("--labels", type=click.Choice(["scl", "raster", "vector", "clouds"]), help="Source of the labels.")
@click.option(
    "--labels-path",
    help=("Raster file, vector file or clouds cube with the labels; {tile}, {date} and {id} are replaced."),
)
@click.option("--mapping", help="Classes of source values, separated by commas: 4=0,8=1,9=1.")
@click.option("--max-cloud-cover", type=float, help="Leave out scenes with more cloud than this, in percent.")
@click.option("--max-scenes", type=click.IntRange(1), help="Largest number of scenes; the oldest are taken.")
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
    from rich.table import Table

    table = Table("sample", "pixels", "resolution", "cloud %", "lacks", box=None)
    for source in sources:
        size = "-" if source.grid is None else "x".join(map(str, source.grid.shape))
        step = "-" if source.grid is None else f"{source.grid.resolution:g}"
        cover = "-" if source.cloud_cover is None else f"{source.cloud_cover:.0f}"
        table.add_row(source.id, size, step, cover, "; ".join(source.lacking) or "nothing")
    wide_console().print(table)
