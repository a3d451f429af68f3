"""Commands that give a cube to other eyes and programs: export, quicklook, report."""

from __future__ import annotations

from pathlib import Path

import click

from stac2cube.cli.words import CUBE


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--step", required=True, help="Scene key, or the date of the step: 2023-07-14.")
def export(cube: Path, out: Path, step: str) -> None:
    """Write one time step of CUBE as the cloud-optimised GeoTIFF OUT, for programs that do not read Zarr 3."""
    from stac2cube.products.geotiff import export_step

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
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE)
def report(cube: Path, out: Path) -> None:
    """Write one self-contained HTML page about CUBE."""
    from stac2cube.products.report import write_report

    click.echo(write_report(cube, out))
