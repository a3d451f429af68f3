"""Commands for training sets: download, samples."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from stac2cube.cli.steps import Manner, built
from stac2cube.cli.stopping import stoppable
from stac2cube.cli.tables import human_bytes, wide_console
from stac2cube.cli.where import where_options
from stac2cube.cli.words import CUBE, listed, talking
from stac2cube.errors import BadInputError
from stac2cube.places.queue import job_end

if TYPE_CHECKING:
    from stac2cube.training.acquisitions import WantedFile
    from stac2cube.training.sources import SampleSource


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
    from stac2cube.progress import Progress, progress_for
    from stac2cube.training.acquisitions import wanted_files
    from stac2cube.training.config import DOWNLOAD, download_of_words, read_words
    from stac2cube.training.config import listed as several
    from stac2cube.training.download import CONNECTIONS, run_download
    from stac2cube.training.fetch import Fetcher

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
    from stac2cube.training.fetch import RemoteFile, is_there

    table = Table("acquisition", "files", "there", "to fetch", "the catalog lacks", box=None)
    for scene in dict.fromkeys(one.scene for one in wanted):
        mine = [one for one in wanted if one.scene == scene]
        there = [one for one in mine if one.path and is_there(RemoteFile("", one.size), folder / one.path)]
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
    from stac2cube.training.config import read_words, request_of_words, rules_of_words, sample_words

    with talking(options["quiet"]) as console:
        words = read_words(config, sample_words()) if config is not None else {}
        words |= {name: value for name, value in _words(options).items() if value is not None}
        words |= {name: value for name, value in (("source", source), ("out", out)) if value is not None}
        if words.get("out") is None:
            raise BadInputError("say SOURCE and OUT, or give them in --config")
        request, rules = request_of_words(words), rules_of_words(words)
        if options["dry_run"]:
            from stac2cube.training.samples import plan_samples

            sources = plan_samples(request, rules, "list")
            _show(sources)
            return 2 if any(one.lacking for one in sources) else 0
        return _make(request, Path(words["out"]), rules, options, console)


def _make(request: Any, out: Path, rules: Any, options: dict[str, Any], console: Console) -> int:
    from stac2cube.training.cubes import run_sample_cube
    from stac2cube.training.samples import run_samples
    from stac2cube.work import Orders

    manner, incomplete = Manner.of(options, console), options["incomplete"]
    if out.suffix == ".zarr":
        if options["overwrite"]:
            raise BadInputError("a cube is never overwritten: give another path")
        return built(out, partial(run_sample_cube, request, out, rules, incomplete=incomplete), manner)
    with stoppable() as stop:
        report = run_samples(
            request,
            out,
            rules,
            manner.place,
            overwrite=options["overwrite"],
            incomplete=incomplete,
            orders=Orders(stop=stop, deadline=job_end()),
            progress=manner.progress("samples"),
        )
    click.echo(f"{out}: {len(report.made)} samples made, {len(report.present)} were there, {len(report.failed)} failed")
    for name, reason in report.failed.items():
        click.echo(f"  {name}: {reason}")
    if report.stopped:
        click.echo("stopped in time: run again to go on")
    return report.exit_code


def _words(options: dict[str, Any]) -> dict[str, Any]:
    """Options as words of a configuration."""
    from stac2cube.training.rules import AngleRules

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
