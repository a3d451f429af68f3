"""Commands that find clouds and hide them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from stac2cube.cli.steps import Manner, build_clouds, built
from stac2cube.cli.where import where_options
from stac2cube.cli.words import CUBE, LIST, PATH, as_json, listed, talking


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@click.option(
    "--method",
    type=click.Choice(["s2cloudless", "scl", "qa_pixel"]),
    default="s2cloudless",
    show_default=True,
    help="s2cloudless on Sentinel-2 L1C, or the cube's own SCL or QA_PIXEL.",
)
@click.option(
    "--thresholds",
    type=LIST,
    default="0.4",
    show_default=True,
    help="Probabilities with commas; the first makes cloud_mask.",
)
@click.option("--average-m", default=120.0, show_default=True, help="Average the probability over so many metres.")
@click.option("--dilate-m", default=120.0, show_default=True, help="Widen masks by so many metres.")
@click.option("--shadows/--no-shadows", default=True, show_default=True, help="Look for the shadows of clouds.")
@click.option("--resolution", default=60.0, show_default=True, help="Pixel edge at which clouds are found, metres.")
@click.option(
    "--engine",
    type=click.Choice(["forest", "library"]),
    default="forest",
    show_default=True,
    help="What runs the model: our flat copy of it, or LightGBM; the pixels are the same.",
)
@click.option(
    "--from-probability", is_flag=True, help="Make the masks of OUT anew from its probabilities, reading no L1C."
)
@click.option("--catalog", type=PATH, default="auto", show_default=True, help="Where the Sentinel-2 L1C is.")
@as_json
@where_options
def clouds(layers: Path, out: Path, **options: Any) -> int:
    """Find clouds and shadows for every step of the cube LAYERS, in the cube OUT.

    Of Sentinel-2 by s2cloudless on the L1C of the same overpass, or as the cube's own classification has them. Running
    it again follows what was added to LAYERS or made anew there.
    """
    with talking(options["quiet"]) as console:
        names = ("method", "average_m", "dilate_m", "shadows", "resolution", "engine", "from_probability")
        words = {name: options[name] for name in names}
        words["thresholds"] = tuple(options["thresholds"].split(","))
        return build_clouds(layers, out, words, options["catalog"], Manner.of(options, console))


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("clouds", type=CUBE)
@click.argument("out", type=CUBE)
@click.option(
    "--masks", type=LIST, help="Names with commas; cloud_mask, and shadow_mask where there is one, if not said."
)
@click.option("--max-cloud", type=float, help="Leave out steps of which more is cloud, 0 to 1.")
@as_json
@where_options
def mask(layers: Path, clouds: Path, out: Path, **options: Any) -> int:
    """Write the cube OUT: LAYERS without what its cube CLOUDS calls cloud or shadow, or does not know."""
    from stac2cube.stages.masked import run_masked

    with talking(options["quiet"]) as console:
        make = partial(run_masked, layers, clouds, out, listed(options["masks"]), options["max_cloud"])
        return built(out, make, Manner.of(options, console))
