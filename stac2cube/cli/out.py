"""Commands that give a cube to other eyes and programs: export, series, report, publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from stac2cube.cli.words import (
    AREA,
    CUBE,
    LIST,
    as_json,
    choice_of,
    choice_options,
    hiding_of,
    hiding_options,
    listed,
    look_of,
    look_options,
    talking,
)


@click.command()
@click.argument("cubes", nargs=-1, required=True, type=CUBE, metavar="CUBE... OUT")
@click.option("--step", "steps", multiple=True, help="Scene key, or the date of a step: 2023-07-14; several times.")
@click.option("--layers", type=LIST, help="Layers with commas; all if not said.")
@click.option(
    "--clip", type=AREA, help="Polygons outside which there is no data: a file, GeoJSON text, or a box 'w,s,e,n'."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["cog", "png", "netcdf"]),
    default="cog",
    show_default=True,
    help="What a folder OUT is filled with.",
)
@choice_options
@hiding_options
@look_options
@click.option("--quiet", "-q", is_flag=True, help="No progress, warnings only.")
def export(cubes: tuple[Path, ...], kind: Any, **options: Any) -> None:
    """Write CUBE for programs that do not read Zarr 3: a step as OUT.tif or OUT.png, all as OUT.nc or a folder OUT.

    Several cubes on one lattice become a mosaic. With --show, pictures are written instead of numbers.
    """
    from stac2cube.products.export import Export, export
    from stac2cube.progress import Progress, progress_for

    if len(cubes) < 2:
        raise click.UsageError("say the cube, and where to write")
    quiet = options.pop("quiet")
    shown = any(options[name] for name in ("show", "balance", "ramp")) or options["stretch"] != "series"
    look = look_of(options)
    how = Export(
        layers=listed(options["layers"]),
        look=look if shown else None,
        clip=options["clip"],
        hiding=hiding_of(options),
        choice=choice_of(options),
        format=kind,
    )
    with talking(quiet) as console:
        progress = Progress() if quiet else progress_for(console, "steps")
        for file in export(cubes[:-1], cubes[-1], how, progress=progress):
            click.echo(file)


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("places")
@click.argument("out", type=CUBE)
@click.option("--layers", type=LIST, help="Layers with commas; all if not said.")
@click.option("--indices", type=LIST, help="Spectral indices with commas, beside the layers: ndvi,nbr.")
@click.option(
    "--statistics", type=LIST, default="mean,median,std", show_default=True, help="Of polygons: also min, max."
)
@choice_options
@hiding_options
@click.option("--quiet", "-q", is_flag=True, help="No progress, warnings only.")
def series(cube: Path, places: str, out: Path, **options: Any) -> None:
    """Write what CUBE says of points or polygons through time: OUT.csv or OUT.parquet, a row per place and step.

    PLACES is a GeoJSON, GeoPackage, Shapefile or KML file, GeoJSON text, or a point 'lat,lon'.
    """
    from stac2cube.products.series import Columns, write_series
    from stac2cube.progress import Progress, progress_for

    columns = Columns(listed(options["layers"]), listed(options["indices"]) or (), listed(options["statistics"]) or ())
    hiding, choice = hiding_of(options), choice_of(options)
    with talking(options["quiet"]) as console:
        progress = Progress() if options["quiet"] else progress_for(console, "places")
        click.echo(write_series(cube, places, out, columns=columns, hiding=hiding, choice=choice, progress=progress))


@click.command()
@click.argument("paths", nargs=-1, required=True, type=CUBE, metavar="CUBE... [OUT.html]")
@as_json
def report(paths: tuple[Path, ...], machine: bool) -> None:
    """Write one self-contained HTML page about one CUBE or several.

    Without OUT it is report.html in the folder of the first.
    """
    from stac2cube.products.figures import figures_of
    from stac2cube.products.report import write_report

    named = paths[-1].suffix in (".html", ".htm")
    cubes = paths[:-1] if named else paths
    if machine:
        if named:
            raise click.UsageError("--json writes to standard output: name no page")
        click.echo(json.dumps([figures_of(cube) for cube in cubes], indent=1))
        return
    if not cubes:
        raise click.UsageError("say which cube the page is about")
    click.echo(write_report(cubes, paths[-1] if named else cubes[0].parent / "report.html"))


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE, required=False)
@click.option("--api", help="Landing page of a STAC API with the transaction extension, instead of OUT.")
@click.option("--href", default="", help="Where people find the cube; its own path if not said.")
@click.option("--address", default="", help="Where people will find OUT, for self links.")
@click.option("--header", multiple=True, help="NAME: VALUE, sent to the API, a token for example.")
@as_json
def publish(
    cube: Path,
    out: Path | None,
    api: str | None,
    href: str,
    address: str,
    header: tuple[str, ...],
    machine: bool = False,
) -> None:
    """Describe CUBE as a STAC Collection with an Item per step: in the folder OUT, or in a STAC API."""
    from stac2cube.products.publish import post_stac, write_stac

    if (out is None) == (api is None):
        raise click.UsageError("say a folder, or --api URL")
    if address and out is None:
        raise click.UsageError("--address is where OUT will be found: an API makes its own links")
    if out is not None:
        where, items = str(write_stac(cube, out, href, address)), len(list((out / "items").glob("*.json")))
    else:
        pairs = [line.partition(":") for line in header]
        items = post_stac(cube, str(api), href, {name.strip(): value.strip() for name, _, value in pairs})
        where = f"{str(api).rstrip('/')}/collections/{cube.stem}"
    click.echo(json.dumps({"collection": where, "items": items}) if machine else f"{where}: {items} items")
