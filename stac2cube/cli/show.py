"""Commands that show a cube: quicklook, timelapse, slider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stac2cube.cli.words import CUBE, choice_of, choice_options, hiding_of, hiding_options, look_of, look_options


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--most", default=24, show_default=True, help="Dates shown at most, spread over the whole time.")
@choice_options
@hiding_options
@look_options
def quicklook(cube: Path, out: Path, most: int, **options: Any) -> None:
    """Draw CUBE: OUT.png with a panel per date, or OUT.gif."""
    from stac2cube.products.quicklook import draw

    look, hiding, choice = look_of(options), hiding_of(options), choice_of(options)
    click.echo(draw(cube, out, most, look=look, hiding=hiding, choice=choice))


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--title", default="", help="Written beside the date.")
@click.option("--most", type=click.IntRange(1), help="Steps shown, spread over the whole time; all if not said.")
@click.option("--width", default=640, show_default=True, help="Longer edge of the pictures, pixels.")
@click.option("--seconds", default=0.7, show_default=True, help="That each step is shown.")
@choice_options
@hiding_options
@look_options
def timelapse(cube: Path, out: Path, **options: Any) -> None:
    """Make a film of CUBE: OUT.gif or OUT.mp4, with dates, legend, scale, north and attribution."""
    from stac2cube.products.timelapse import Film, write_timelapse

    words = {name: options[name] for name in ("title", "most", "width", "seconds")}
    film = Film(look=look_of(options), hiding=hiding_of(options), choice=choice_of(options), **words)
    click.echo(write_timelapse(cube, out, film))


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("before")
@click.argument("after")
@click.argument("out", type=CUBE)
@click.option("--width", default=1200, show_default=True, help="Longer edge of the pictures, pixels.")
@hiding_options
@look_options
def slider(cube: Path, before: str, after: str, out: Path, width: int, **options: Any) -> None:
    """Write the page OUT.html with a line to move between two steps of CUBE: scene keys or dates, BEFORE and AFTER."""
    from stac2cube.products.slider import write_slider

    look, hiding = look_of(options), hiding_of(options)
    click.echo(write_slider(cube, (before, after), out, look=look, hiding=hiding, width=width))
