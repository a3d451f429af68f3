"""Commands that make cubes from cubes: clouds, coregister, superres, indices, composite, overviews."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import click

from stac2cube.cli.options import (
    CUBE,
    LIST,
    PATH,
    as_json,
    hiding_of,
    hiding_options,
    listed,
    talking,
    what_words,
    where_options,
)
from stac2cube.cli.run import RunOptions, build_clouds, build_coregistered, build_superres, built

# Whether the parameters of a command make sense, before anything runs: nobody should read of the last after hours.


def check_layers(parameters: Mapping[str, Any]) -> None:
    """Refuse a mission, area, time, band or catalog that is not known.

    Raises:
        BadInputError: Naming the word that is wrong.
    """
    from stac2cube.search.request import resolve
    from stac2cube.stages.layers import make_request

    resolve(make_request(what_words(**parameters)))


def check_clouds(parameters: Mapping[str, Any]) -> None:
    """Refuse rules for clouds that make no sense.

    Raises:
        BadInputError: Naming the word that is wrong.
    """
    from stac2cube.cli.run import cloud_rules
    from stac2cube.clouds.rules import CloudRules

    words = {name: parameters[name] for name in _fields(CloudRules)}
    cloud_rules(words | {"thresholds": parameters["thresholds"].split(",")})


def check_coregister(parameters: Mapping[str, Any]) -> None:
    """Refuse rules for shifts that make no sense.

    Raises:
        BadInputError: Naming the word that is wrong.
    """
    from stac2cube.coregister.rules import ShiftRules

    ShiftRules(**{name: parameters[name] for name in _fields(ShiftRules) if name in parameters})


def check_superres(parameters: Mapping[str, Any]) -> None:
    """Refuse rules for finer grids that make no sense.

    Raises:
        BadInputError: Naming the word that is wrong.
    """
    from stac2cube.superres.rules import SuperresRules

    SuperresRules(**{name: parameters[name] for name in _fields(SuperresRules) if name in parameters})


def _fields(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


# Commands that find clouds and hide them.


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@click.option(
    "--method",
    type=click.Choice(["s2cloudless", "scl", "qa_pixel"]),
    default="s2cloudless",
    show_default=True,
    help=("How clouds are found: s2cloudless on Sentinel-2 L1C, or the cube's own layer SCL or QA_PIXEL."),
)
@click.option(
    "--thresholds",
    type=LIST,
    default="0.4",
    show_default=True,
    help=("Cloud probabilities from 0 to 1, separated by commas. Each makes a mask; the first one makes cloud_mask."),
)
@click.option(
    "--average-m", default=120.0, show_default=True, help="Average the probability over this distance, in metres."
)
@click.option("--dilate-m", default=120.0, show_default=True, help="Widen the masks by this distance, in metres.")
@click.option("--shadows/--no-shadows", default=True, show_default=True, help="Find the shadows of clouds.")
@click.option("--resolution", default=60.0, show_default=True, help="Pixel size at which clouds are found, in metres.")
@click.option(
    "--engine",
    type=click.Choice(["forest", "library"]),
    default="forest",
    show_default=True,
    help=(
        "Program that evaluates the model: the built-in one (forest) or LightGBM (library). Both give the same pixels."
    ),
)
@click.option(
    "--decode",
    type=click.Choice(["exact", "reduced"]),
    default="exact",
    show_default=True,
    help=(
        "How JPEG 2000 is decoded where pixels are averaged: every pixel (exact), or a lower wavelet level (reduced), "
        "which is faster and changes a few pixels."
    ),
)
@click.option(
    "--from-probability",
    is_flag=True,
    help="Compute the masks of OUT again from its stored probabilities, without reading L1C.",
)
@click.option("--catalog", type=PATH, default="auto", show_default=True, help="Catalog of the Sentinel-2 L1C scenes.")
@as_json
@where_options
def clouds(layers: Path, out: Path, **options: Any) -> int:
    """Find clouds and shadows for every time step of the cube LAYERS, and store them in the cube OUT.

    Sentinel-2 clouds come from s2cloudless on the L1C scene of the same overpass, or from the cube's own classes.
    Run it again to add steps that were added to LAYERS or rebuilt there.
    """
    with talking(options["quiet"]) as console:
        names = ("method", "average_m", "dilate_m", "shadows", "resolution", "engine", "decode", "from_probability")
        words = {name: options[name] for name in names}
        words["thresholds"] = tuple(options["thresholds"].split(","))
        return build_clouds(layers, out, words, options["catalog"], RunOptions.of(options, console))


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
    with talking(options["quiet"]) as console:
        return built(out, partial(derive, MASKED, Parents(layers, clouds), out, rules), RunOptions.of(options, console))


# Commands that store what views show: indices, composite, overviews.


@click.command()
@click.argument("words", nargs=-1, metavar="[NAME | LAYERS OUT NAMES...]")
@hiding_options
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
        raise click.UsageError("say also which indices, for example ndvi nbr")
    layers, out, rules = Path(words[0]), Path(words[1]), IndexRules(words[2:], hiding_of(options))
    with talking(options["quiet"]) as console:
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
@click.option(
    "--period",
    default="month",
    show_default=True,
    help=("Period of one composite: week, month, season, year, all, or a pandas frequency such as 10D or 1MS."),
)
@click.option(
    "--window",
    default="",
    help=("Rolling window: use the scenes of this many days around the middle of each period, for example 30D."),
)
@click.option(
    "--method",
    default="median",
    show_default=True,
    help="median, mean, max, min, a percentile such as p10, medoid, or best.",
)
@click.option("--by", help="For the method best: the layer or index whose highest value is chosen, for example NDVI.")
@click.option("--layers", "names", type=LIST, help="Layers, separated by commas. Default: all layers except classes.")
@click.option(
    "--memory", default="256MiB", show_default=True, help="Memory for the input of each block that is being made."
)
@hiding_options
@as_json
@where_options
def composite(layers: Path, out: Path, names: str | None, **options: Any) -> int:
    """Store one composite per period of the cube LAYERS in the cube OUT, for example monthly medians."""
    from stac2cube.build.derived import Parents, derive
    from stac2cube.executors.queue import memory_bytes
    from stac2cube.stages.composites import Composition, composites_within

    chosen = listed(names)
    how = Composition(
        options["period"],
        options["method"],
        options["by"],
        None if chosen is None else tuple(chosen),
        options["window"],
        hiding_of(options),
    )
    make = partial(derive, composites_within(memory_bytes(options["memory"])), Parents(layers), out, how)
    with talking(options["quiet"]) as console:
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

    with talking(options["quiet"]) as console:
        make = partial(run_overviews, cube, levels=levels)
        return built(overviews_folder(cube), make, RunOptions.of(options, console))


# Commands that move scenes where they belong.


@click.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--clouds", type=CUBE, help="Clouds cube of LAYERS. Default: the cube's own layer SCL or QA_PIXEL.")
@click.option(
    "--engine",
    type=click.Choice(["arosics", "phase"]),
    default="arosics",
    show_default=True,
    help=("AROSICS, checked by phase correlation; or phase correlation alone, which needs nothing installed."),
)
@click.option(
    "--strategy",
    type=click.Choice(["reference", "graph", "consecutive"]),
    default="reference",
    show_default=True,
    help=(
        "Compare each scene with a reference image (reference), with the reference and its neighbours"
        " in time (graph, best under clouds), or with the scene before (consecutive)."
    ),
)
@click.option(
    "--reference",
    type=PATH,
    default="clearest",
    show_default=True,
    help="Reference image: clearest, median or seasonal, the key of a scene, or the path of an image.",
)
@click.option("--band", default="", help="Band in which scenes are compared. Default: red.")
@click.option("--max-shift", default=3.0, show_default=True, help="Largest shift that is accepted, in pixels.")
@click.option(
    "--resampling", default="cubic", show_default=True, help="Resampling method for shifts by a fraction of a pixel."
)
@click.option(
    "--source",
    type=click.Choice(["auto", "scenes", "cube"]),
    default="auto",
    show_default=True,
    help=(
        "Where shifted pixels come from: the scenes are read again, so that pixels are interpolated "
        "only once (scenes), or the cube is used (cube)."
    ),
)
@click.option(
    "--mode",
    type=click.Choice(["global", "local"]),
    default="global",
    show_default=True,
    help="One shift per scene (global), or a smooth field of shifts where AROSICS finds one (local).",
)
@click.option("--measure-only", is_flag=True, help="Only measure the shifts: write OUT.shifts.zarr, and not OUT.zarr.")
@as_json
@where_options
def coregister(layers: Path, out: Path, clouds: Path | None, measure_only: bool, **options: Any) -> int:
    """Measure the shift of every scene of the cube LAYERS, and write the cube OUT with the shifts corrected.

    No scene is lost: a scene whose shift cannot be measured reliably is not moved, and the report says why.
    """
    with talking(options["quiet"]) as console:
        names = ("engine", "strategy", "reference", "band", "max_shift", "resampling", "mode", "source")
        words = {name: options[name] for name in names}
        manner = RunOptions.of(options, console)
        return build_coregistered(layers, out, words, clouds, manner, apply=not measure_only)


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
    with talking(options["quiet"]) as console:
        return built(out, make, RunOptions.of(options, console))


# Commands for finer grids: superres and its training, and weights.


class _OrTrain(click.Group):
    """A group whose own work is done where the first word names no subcommand."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take ``superres LAYERS OUT`` for ``superres make LAYERS OUT``."""
        known = args and args[0] in self.commands
        return super().resolve_command(ctx, args if known else ["make", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options before LAYERS are those of ``make``, too."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


_device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Processor for the networks; auto takes a GPU if there is one.",
)


@click.group(cls=_OrTrain, subcommand_metavar="LAYERS OUT [OPTIONS] | train CUBES... OUT [OPTIONS]")
def superres() -> None:
    """Bring all bands of a Sentinel-2 cube to one grid of 2.5 m or 10 m, or train networks for this.

    The options of the first form are listed by: stac2cube superres make --help.
    """


@superres.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--target", type=float, default=2.5, show_default=True, help="Pixel size in metres: 2.5 or 10.")
@click.option(
    "--backend",
    type=click.Choice(["native", "backproject", "bicubic", "selftrain", "sen2sr", "onnx"]),
    default="native",
    show_default=True,
    help=(
        "native (the shipped networks), backproject or bicubic (no network), selftrain (networks "
        "trained on this cube), sen2sr, or onnx (a model from a folder)."
    ),
)
@click.option(
    "--consistency",
    type=click.Choice(["mtf", "mean", "none"]),
    default="mtf",
    show_default=True,
    help=(
        "How the result must agree with the measured pixels: through the sensor's optics (mtf), in "
        "plain means (mean), or not at all (none)."
    ),
)
@click.option(
    "--weights",
    type=PATH,
    default="",
    help="File or folder of weights. Default: the shipped weights, or those in the cache.",
)
@_device_option
@click.option(
    "--tile", default=256, show_default=True, help="Edge of the tiles in which the work is done, in pixels of 10 m."
)
@click.option("--margin", default=32, show_default=True, help="Margin around each tile, in pixels of 10 m.")
@click.option("--large", is_flag=True, help="Allow cubes of more than 4.3 GB per date.")
@as_json
@where_options
def make(layers: Path, out: Path, **options: Any) -> int:
    """Write the cube OUT: the bands of LAYERS on one finer grid. The pixels have that size, the details are coarser."""
    names = ("target", "backend", "consistency", "weights", "device", "tile", "margin", "large")
    with talking(options["quiet"]) as console:
        words = {name: options[name] for name in names}
        return build_superres(layers, out, words, RunOptions.of(options, console))


@superres.command()
@click.argument("cubes", type=CUBE, nargs=-1, required=True)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=10), help="Training steps per network. Default: some hundreds.")
@click.option(
    "--seed", default=0, show_default=True, help="Seed of the training: the same seed gives the same weights."
)
@_device_option
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
    card = json.loads(file.with_suffix(".json").read_text())
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
