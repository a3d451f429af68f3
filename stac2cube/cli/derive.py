"""Commands that store what views show: indices, composite, overviews."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from stac2cube.cli.steps import Manner, built
from stac2cube.cli.where import where_options
from stac2cube.cli.words import CUBE, LIST, as_json, hiding_of, hiding_options, listed, talking


@click.command()
@click.argument("words", nargs=-1, metavar="[NAME | LAYERS OUT NAMES...]")
@hiding_options
@as_json
@where_options
def indices(words: tuple[str, ...], **options: Any) -> int:
    """Store the spectral indices NAMES of LAYERS in the cube OUT; or say what NAME is, or which there are.

    NAME alone: formula, bands, constants, reference. Nothing said: the usual indices; all of Awesome Spectral Indices
    are known.
    """
    from stac2cube.stages.indexed import run_indices
    from stac2cube.views.spectral import described

    if not words:
        for line in _usual_indices():
            click.echo(line)
        return 0
    if len(words) == 1:
        about = described(words[0])
        lines = [f"{what:<10} {text}" for what, text in about.items()]
        click.echo(json.dumps(about, indent=1) if options["machine"] else "\n".join(lines))
        return 0
    if len(words) == 2:
        raise click.UsageError("say also which indices, for example ndvi nbr")
    layers, out, hiding = Path(words[0]), Path(words[1]), hiding_of(options)
    with talking(options["quiet"]) as console:
        return built(out, partial(run_indices, layers, out, words[2:], hiding=hiding), Manner.of(options, console))


def _usual_indices() -> list[str]:
    from stac2cube.views.index_names import USUAL, registry
    from stac2cube.views.spectral import described

    lines = []
    for name in USUAL:
        about = described(name)
        lines.append(f"{name:<9} {about['formula']:<52} {about['what']}")
    more = len(registry()) - len(USUAL)
    return [*lines, f"and {more} more of Awesome Spectral Indices; `stac2cube indices NAME` says what one is"]


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--period", default="month", show_default=True, help="week, month, season, year, all, or 10D, 1MS ...")
@click.option("--window", default="", help="Rolling: compose so many days about the middle of each period, 30D.")
@click.option("--method", default="median", show_default=True, help="median, mean, max, min, p10, medoid or best.")
@click.option("--by", help="For the method best: a layer or an index, for example NDVI.")
@click.option("--layers", "names", type=LIST, help="Layers with commas; all that are not classes if not said.")
@click.option("--memory", default="256MiB", show_default=True, help="Held at once by each block in work.")
@hiding_options
@as_json
@where_options
def composite(layers: Path, out: Path, names: str | None, **options: Any) -> int:
    """Store a picture per period of the cube LAYERS in the cube OUT, out of what clouds leave."""
    from stac2cube.places.queue import memory_bytes
    from stac2cube.stages.composed import Composition, run_composites

    chosen = listed(names)
    how = Composition(
        options["period"],
        options["method"],
        options["by"],
        None if chosen is None else tuple(chosen),
        options["window"],
        hiding_of(options),
    )
    make = partial(run_composites, layers, out, how, memory=memory_bytes(options["memory"]))
    with talking(options["quiet"]) as console:
        return built(out, make, Manner.of(options, console))


@click.command()
@click.argument("cube", type=CUBE)
@click.option("--levels", type=click.IntRange(1), help="How often to halve; until an edge has 256 pixels if not said.")
@as_json
@where_options
def overviews(cube: Path, levels: int | None, **options: Any) -> int:
    """Make CUBE's overviews of pixels 2, 4, 8 ... times as large, beside it, or bring them up to date."""
    from stac2cube.cube.overviews import overviews_folder
    from stac2cube.stages.overviews import run_overviews

    with talking(options["quiet"]) as console:
        make = partial(run_overviews, cube, levels=levels)
        return built(overviews_folder(cube), make, Manner.of(options, console))
