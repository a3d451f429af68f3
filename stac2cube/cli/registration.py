"""Commands that move scenes where they belong."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from stac2cube.cli.steps import Manner, build_coregistered, built
from stac2cube.cli.where import where_options
from stac2cube.cli.words import CUBE, PATH, as_json, talking


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--clouds", type=CUBE, help="Its clouds cube; the cube's own SCL or QA_PIXEL if not said.")
@click.option(
    "--engine",
    type=click.Choice(["arosics", "phase"]),
    default="arosics",
    show_default=True,
    help="AROSICS, checked by phase correlation; or phase correlation alone.",
)
@click.option(
    "--strategy",
    type=click.Choice(["reference", "graph", "consecutive"]),
    default="reference",
    show_default=True,
    help="Each scene against a reference; against it and its neighbours, best under clouds; or against the last.",
)
@click.option(
    "--reference",
    type=PATH,
    default="clearest",
    show_default=True,
    help="clearest, median or seasonal; the key of a scene; or the path of an image.",
)
@click.option("--band", default="", help="What is compared; red if not said.")
@click.option("--max-shift", default=3.0, show_default=True, help="Pixels; what is found beyond is not believed.")
@click.option("--resampling", default="cubic", show_default=True, help="Of bands moved by parts of a pixel.")
@click.option(
    "--source",
    type=click.Choice(["auto", "scenes", "cube"]),
    default="auto",
    show_default=True,
    help="Read moved pixels from the scenes again, so that they are interpolated once, or from the cube.",
)
@click.option(
    "--mode",
    type=click.Choice(["global", "local"]),
    default="global",
    show_default=True,
    help="One shift per scene; or a smooth field where AROSICS' local mode finds one.",
)
@click.option("--measure-only", is_flag=True, help="Only measure: OUT.shifts.zarr instead of OUT.zarr.")
@as_json
@where_options
def coregister(layers: Path, out: Path, clouds: Path | None, measure_only: bool, **options: Any) -> int:
    """Measure every scene of the cube LAYERS and write the cube OUT, in which those that lie beside are moved.

    No scene disappears: what cannot be measured to satisfaction stays where it is, and the report says why.
    """
    with talking(options["quiet"]) as console:
        names = ("engine", "strategy", "reference", "band", "max_shift", "resampling", "mode", "source")
        words = {name: options[name] for name in names}
        manner = Manner.of(options, console)
        return build_coregistered(layers, out, words, clouds, manner, apply=not measure_only)


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("coregistered", type=CUBE)
@click.argument("out", type=CUBE)
@as_json
@where_options
def move(cube: Path, coregistered: Path, out: Path, **options: Any) -> int:
    """Write the cube OUT: CUBE, of clouds for example, moved by the shifts of the cube COREGISTERED."""
    from stac2cube.stages.coregister import run_move

    with talking(options["quiet"]) as console:
        return built(out, partial(run_move, cube, coregistered, out), Manner.of(options, console))
