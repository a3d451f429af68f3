"""Commands that make cubes from cubes: clouds, coregister, superres, indices, composite, overviews."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from stac2cube.cli.options import (
    CUBE,
    LIST,
    PATH,
    as_json,
    console_for,
    listed,
    mask_options,
    options_of,
    query_words,
    value_of,
    where_options,
)
from stac2cube.cli.run import RunOptions, built
from stac2cube.clouds.rules import CloudRules
from stac2cube.coregister.rules import ShiftRules
from stac2cube.superres.rules import SuperresRules
from stac2cube.views.options import Composition, Hiding

# Checks of the parameters of a command before anything runs, so that a late entry cannot fail after hours.


def check_layers(parameters: Mapping[str, Any]) -> None:
    """Refuse an unknown mission, area, time, band or catalog.

    Raises:
        BadInputError: A parameter is invalid, and named in the message.
    """
    from stac2cube.search.choose_catalog import catalog_choices
    from stac2cube.stages.layers import query_of_words

    catalog_choices(query_of_words(query_words(**parameters))[0])


# Commands that find clouds and hide them.


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@options_of(CloudRules)
@click.option(
    "--from-probability",
    is_flag=True,
    help="Compute the masks of OUT again from its stored probabilities, without reading L1C.",
)
@click.option("--catalog", type=PATH, default="auto", show_default=True, help="Catalog of the Sentinel-2 L1C scenes.")
@as_json
@where_options
def clouds(layers: Path, out: Path, catalog: str, *, from_probability: bool, **options: Any) -> int:
    """Find clouds and shadows for every time step of the cube LAYERS, and store them in the cube OUT.

    Sentinel-2 clouds come from s2cloudless on the L1C scene of the same overpass, or from the cube's own classes.
    Run it again to add steps that were added to LAYERS or rebuilt there.
    """
    from stac2cube.build.derived import Parents, derive
    from stac2cube.clouds.stage import CLOUDS, rethreshold

    with console_for(options["quiet"]) as console:
        rules, run_options = value_of(CloudRules, options), RunOptions.of(options, console)
        if from_probability:
            return built(out, partial(rethreshold, out, rules), run_options)
        return built(out, partial(derive, CLOUDS, Parents(layers, catalog=catalog), out, rules), run_options)


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("clouds", type=CUBE)
@click.argument("out", type=CUBE)
@click.option(
    "--masks",
    type=LIST,
    help="Names of masks, separated by commas. Default: cloud_mask, and shadow_mask if there is one.",
)
@click.option("--max-cloud", type=float, help="Leave out time steps with a larger fraction of cloud, from 0 to 1.")
@as_json
@where_options
def mask(layers: Path, clouds: Path, out: Path, **options: Any) -> int:
    """Write the cube OUT: LAYERS without pixels that the cube CLOUDS marks as cloud, shadow or unknown."""
    from stac2cube.build.derived import Parents, derive
    from stac2cube.stages.stored_views import MASKED, MaskRules

    rules = MaskRules(listed(options["masks"]), options["max_cloud"])
    with console_for(options["quiet"]) as console:
        return built(out, partial(derive, MASKED, Parents(layers, clouds), out, rules), RunOptions.of(options, console))


# Commands that store views: indices, composite, overviews.


@click.command()
@click.argument("words", nargs=-1, metavar="[NAME | LAYERS OUT NAMES...]")
@mask_options
@as_json
@where_options
def indices(words: tuple[str, ...], **options: Any) -> int:
    """Store the spectral indices NAMES of LAYERS in the cube OUT, or explain the index NAME, or list indices.

    With NAME alone, print formula, bands, constants and reference. Without arguments, list the usual indices. All
    indices of Awesome Spectral Indices are known.
    """
    from stac2cube.build.derived import Parents, derive
    from stac2cube.stages.stored_views import INDICES, IndexRules
    from stac2cube.views.indices import describe_index

    if not words:
        for line in _usual_indices():
            click.echo(line)
        return 0
    if len(words) == 1:
        about = describe_index(words[0])
        lines = [f"{what:<10} {text}" for what, text in about.items()]
        click.echo(json.dumps(about, indent=1) if options["machine"] else "\n".join(lines))
        return 0
    if len(words) == 2:
        raise click.UsageError("give the indices, too, for example ndvi nbr")
    layers, out, rules = Path(words[0]), Path(words[1]), IndexRules(words[2:], value_of(Hiding, options))
    with console_for(options["quiet"]) as console:
        return built(out, partial(derive, INDICES, Parents(layers), out, rules), RunOptions.of(options, console))


def _usual_indices() -> list[str]:
    from stac2cube.views.indices import USUAL, describe_index, registry

    lines = []
    for name in USUAL:
        about = describe_index(name)
        lines.append(f"{name:<9} {about['formula']:<52} {about['what']}")
    more = len(registry()) - len(USUAL)
    return [*lines, f"and {more} more of Awesome Spectral Indices; `stac2cube indices NAME` says what one is"]


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@options_of(Composition, *("period", "window", "method", "by", "layers"), flags={"layers": ("--layers", "names")})
@click.option(
    "--memory", default="256MiB", show_default=True, help="Memory for the input of each block that is being made."
)
@mask_options
@as_json
@where_options
def composite(layers: Path, out: Path, names: str | None, **options: Any) -> int:
    """Store one composite per period of the cube LAYERS in the cube OUT, for example monthly medians."""
    from stac2cube.build.derived import Parents, derive
    from stac2cube.executors.queue import memory_bytes
    from stac2cube.stages.stored_views import composites_within

    how = value_of(Composition, {**options, "layers": names}, hiding=value_of(Hiding, options))
    make = partial(derive, composites_within(memory_bytes(options["memory"])), Parents(layers), out, how)
    with console_for(options["quiet"]) as console:
        return built(out, make, RunOptions.of(options, console))


@click.command()
@click.argument("cube", type=CUBE)
@click.option(
    "--levels", type=click.IntRange(1), help="Number of overview levels. Default: until an edge has 256 pixels."
)
@as_json
@where_options
def overviews(cube: Path, levels: int | None, **options: Any) -> int:
    """Build overviews of CUBE with pixels 2, 4, 8 ... times as large, next to it, or bring them up to date."""
    from stac2cube.stages.overviews import run_overviews
    from stac2cube.store.metadata import overviews_folder

    with console_for(options["quiet"]) as console:
        make = partial(run_overviews, cube, levels=levels)
        return built(overviews_folder(cube), make, RunOptions.of(options, console))


# Commands that correct shifts of scenes.


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--clouds", type=CUBE, help="Clouds cube of LAYERS. Default: the cube's own layer SCL or QA_PIXEL.")
@options_of(ShiftRules, "engine", "strategy", "reference", "band", "max_shift", "resampling", "source", "mode")
@click.option("--measure-only", is_flag=True, help="Only measure the shifts: write OUT.shifts.zarr, and not OUT.zarr.")
@as_json
@where_options
def coregister(layers: Path, out: Path, clouds: Path | None, measure_only: bool, **options: Any) -> int:
    """Measure the shift of every scene of the cube LAYERS, and write the cube OUT with the shifts corrected.

    No scene is lost: a scene whose shift cannot be measured reliably is not moved, and the report says why.
    """
    from stac2cube.build.derived import Parents, derive
    from stac2cube.coregister.stage import Paths, coregistering

    with console_for(options["quiet"]) as console:
        stage, rules = coregistering(apply=not measure_only), value_of(ShiftRules, options)
        make = partial(derive, stage, Parents(layers, clouds), out, rules)
        return built(Paths(out).shifts if measure_only else out, make, RunOptions.of(options, console))


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("coregistered", type=CUBE)
@click.argument("out", type=CUBE)
@as_json
@where_options
def move(cube: Path, coregistered: Path, out: Path, **options: Any) -> int:
    """Write the cube OUT: CUBE (for example a clouds cube) moved by the shifts of the cube COREGISTERED."""
    from stac2cube.build.derived import Parents, derive
    from stac2cube.coregister.stage import MOVED

    make = partial(derive, MOVED, Parents(cube, shifts=coregistered), out, None)
    with console_for(options["quiet"]) as console:
        return built(out, make, RunOptions.of(options, console))


# Commands for finer grids: superres and its training, and weights.


class _OrTrain(click.Group):
    """A group that runs its own command if the first word is not a subcommand."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Treat ``superres LAYERS OUT`` as ``superres make LAYERS OUT``."""
        known = args and args[0] in self.commands
        return super().resolve_command(ctx, args if known else ["make", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Treat options before LAYERS as options of ``make``, too."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_OrTrain, subcommand_metavar="LAYERS OUT [OPTIONS] | train CUBES... OUT [OPTIONS]")
def superres() -> None:
    """Bring all bands of a Sentinel-2 cube to one grid of 2.5 m or 10 m, or train networks for this.

    The options of the first form are listed by: stac2cube superres make --help.
    """


@superres.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@options_of(SuperresRules)
@as_json
@where_options
def make(layers: Path, out: Path, **options: Any) -> int:
    """Write the cube OUT: the bands of LAYERS on one finer grid. The pixels have that size, the details are coarser."""
    from stac2cube.build.derived import Parents, derive
    from stac2cube.superres.stage import SUPERRES

    with console_for(options["quiet"]) as console:
        make = partial(derive, SUPERRES, Parents(layers), out, value_of(SuperresRules, options))
        return built(out, make, RunOptions.of(options, console))


@superres.command()
@click.argument("cubes", type=CUBE, nargs=-1, required=True)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--steps", type=click.IntRange(min=10), help="Training steps per network. Default: 3000 to 2.5 m, 1000 to 10 m."
)
@click.option(
    "--seed", default=0, show_default=True, help="Seed of the training: the same seed gives the same weights."
)
@options_of(SuperresRules, "device")
def train(cubes: tuple[Path, ...], out: Path, steps: int | None, seed: int, device: str) -> int:
    """Train the networks on CUBES, and write OUT.safetensors and its description OUT.json.

    The measured pixels are the target; their coarser version is the input. Every fifth place is used for testing only.
    """
    import json

    from stac2cube.cli.run import figures_table
    from stac2cube.superres.backends import device_for
    from stac2cube.superres.networks import require_torch
    from stac2cube.superres.stage import train_on

    require_torch()
    told = partial(click.echo, err=True)
    many = None if steps is None else {"sharpen": steps, "fuse": steps}
    file = train_on(cubes, out.with_suffix(".safetensors"), steps=many, seed=seed, device=device_for(device), told=told)
    card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    click.echo(figures_table(card["figures"]))
    click.echo(f"{file}, trained in {card['seconds']:g} s")
    return 0


@click.group()
def weights() -> None:
    """List, download or verify weights of networks. Nothing is downloaded unless you run `weights fetch`."""


@weights.command("list")
def list_() -> int:
    """List the weights, and where they are."""
    from stac2cube.superres.networks import sha256_of
    from stac2cube.superres.weights import all_shipped, folders, known

    for one in all_shipped():
        about = f" ({one.about}; for older cubes only)" if one.about else ""
        click.echo(f"native     shipped   {sha256_of(one.path)[:16]}  Apache-2.0  {one.path}{about}")
    for file in known():
        there = [folder / file.name for folder in folders(file.backend) if (folder / file.name).exists()]
        where = there[0] if there else f"not here: stac2cube weights fetch {file.backend}"
        click.echo(
            f"{file.backend:<10} {'there' if there else 'missing':<9} {file.sha256[:16]}  {file.licence}  {where}"
        )
    return 0


@weights.command()
@click.argument("backend")
@click.option(
    "--into", type=click.Path(path_type=Path), help="Folder to write to. Default: the site's folder or your cache."
)
def fetch(backend: str, into: Path | None) -> int:
    """Download the weights of BACKEND and check them."""
    from stac2cube.superres.weights import fetch as download

    for path in download(backend, into):
        click.echo(path)
    return 0


@weights.command()
@click.argument("backend")
@click.option("--folder", default="", help="Folder to check. Default: the folders that are searched.")
def verify(backend: str, folder: str) -> int:
    """Check that the weights of BACKEND are present and undamaged."""
    from stac2cube.superres.weights import find_folder

    click.echo(f"{find_folder(backend, folder)}: all there, checksums right")
    return 0
