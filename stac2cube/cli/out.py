"""Commands that give a cube to other eyes and programs: export, quicklook, report."""

from __future__ import annotations

import json
from pathlib import Path

import click

from stac2cube.cli.look import as_json
from stac2cube.cli.words import CUBE


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--step", help="For a GeoTIFF: scene key, or the date of the step, 2023-07-14.")
@click.option("--time", default="", help="For NetCDF: which steps, a year 2023, a month, an interval; all if not said.")
def export(cube: Path, out: Path, step: str | None, time: str) -> None:
    """Give CUBE to programs that do not read Zarr 3: a step as cloud-optimised GeoTIFF, or steps as CF NetCDF.

    The name of OUT says which: .tif or .nc.
    """
    from stac2cube.products.geotiff import export_step
    from stac2cube.products.netcdf import export_netcdf

    if out.suffix == ".nc":
        if step is not None:
            raise click.UsageError("NetCDF holds steps of a --time, not one --step")
        click.echo(export_netcdf(cube, out, time))
        return
    if step is None or time:
        raise click.UsageError("a GeoTIFF holds one step: say --step, and no --time")
    click.echo(export_step(cube, step, out))


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--most", default=24, show_default=True, help="Dates shown at most, spread over the whole time.")
def quicklook(cube: Path, out: Path, most: int) -> None:
    """Draw CUBE in true colour: OUT.png with a panel per date, or OUT.gif."""
    from stac2cube.products.quicklook import draw

    click.echo(draw(cube, out, most))


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
@click.option("--header", multiple=True, help="NAME: VALUE, sent to the API, a token for example.")
def publish(cube: Path, out: Path | None, api: str | None, href: str, header: tuple[str, ...]) -> None:
    """Describe CUBE as a STAC Collection with an Item per step: in the folder OUT, or in a STAC API."""
    from stac2cube.products.publish import post_stac, write_stac

    if (out is None) == (api is None):
        raise click.UsageError("say a folder, or --api URL")
    if out is not None:
        click.echo(write_stac(cube, out, href))
        return
    pairs = [line.partition(":") for line in header]
    count = post_stac(cube, str(api), href, {name.strip(): value.strip() for name, _, value in pairs})
    click.echo(f"{api}: {cube.stem}, {count} items")
