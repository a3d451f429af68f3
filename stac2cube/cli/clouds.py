"""The command that finds clouds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stac2cube.cli.steps import Manner, build_clouds
from stac2cube.cli.words import CUBE, talking, where_options


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@click.option(
    "--thresholds", default="0.4", show_default=True, help="Probabilities with commas; the first makes cloud_mask."
)
@click.option("--average-m", default=120.0, show_default=True, help="Average the probability over so many metres.")
@click.option("--dilate-m", default=120.0, show_default=True, help="Widen masks by so many metres.")
@click.option("--shadows/--no-shadows", default=True, show_default=True, help="Look for the shadows of clouds.")
@click.option("--resolution", default=60.0, show_default=True, help="Pixel edge at which clouds are found, metres.")
@click.option("--catalog", default="auto", show_default=True, help="Where the Sentinel-2 L1C is.")
@where_options
def clouds(layers: Path, out: Path, **options: Any) -> int:
    """Find clouds and shadows for every step of the Sentinel-2 cube LAYERS, in the cube OUT.

    By s2cloudless on the L1C of the same overpass. Running it again follows what was added to LAYERS.
    """
    with talking(options["quiet"]) as console:
        words = {name: options[name] for name in ("average_m", "dilate_m", "shadows", "resolution")}
        words["thresholds"] = tuple(options["thresholds"].split(","))
        return build_clouds(layers, out, words, options["catalog"], Manner.of(options, console))
