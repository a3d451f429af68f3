"""Commands for finer grids: superres and its training, and weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from stac2cube.cli.steps import Manner, build_superres
from stac2cube.cli.where import where_options
from stac2cube.cli.words import CUBE, PATH, as_json, talking


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


@click.group(cls=_OrTrain, subcommand_metavar="LAYERS OUT [OPTIONS] | train CUBES... OUT [OPTIONS]")
def superres() -> None:
    """Bring the bands of a Sentinel-2 cube to one grid of 2.5 m, or of 10 m; or train networks for it.

    Options of the first: stac2cube superres make --help.
    """


@superres.command()
@click.argument("layers", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--target", type=float, default=2.5, show_default=True, help="Pixel edge, metres: 2.5 or 10.")
@click.option(
    "--backend",
    type=click.Choice(["native", "backproject", "bicubic", "selftrain", "sen2sr", "onnx"]),
    default="native",
    show_default=True,
    help="Our networks, no network at all, networks trained on this cube, SEN2SR-Lite or ONNX from a folder.",
)
@click.option(
    "--consistency",
    type=click.Choice(["mtf", "mean", "none"]),
    default="mtf",
    show_default=True,
    help="Agree with what was measured through the sensor's optics, in plain means, or not.",
)
@click.option("--weights", type=PATH, default="", help="File or folder of weights instead of the usual one.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--tile", default=256, show_default=True, help="Pixels of 10 m worked on at a time.")
@click.option("--margin", default=32, show_default=True, help="Pixels of 10 m around a tile looked at with it.")
@click.option("--large", is_flag=True, help="However large it is.")
@as_json
@where_options
def make(layers: Path, out: Path, **options: Any) -> int:
    """Write the cube OUT: the bands of LAYERS on one finer grid. The pixels are of that size, the details are not."""
    names = ("target", "backend", "consistency", "weights", "device", "tile", "margin", "large")
    with talking(options["quiet"]) as console:
        words = {name: options[name] for name in names}
        return build_superres(layers, out, words, Manner.of(options, console))


@superres.command()
@click.argument("cubes", type=CUBE, nargs=-1, required=True)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=10), help="Of training, per network; some hundreds if not said.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
def train(cubes: tuple[Path, ...], out: Path, steps: int | None, seed: int, device: str) -> int:
    """Train our networks on CUBES and write OUT.safetensors with its card, OUT.json.

    What was measured is the truth, made coarser and looked for again; every fifth place only judges.
    """
    import json

    from stac2cube.cli.tables import figures_table
    from stac2cube.kernels.networks import require_torch
    from stac2cube.kernels.upscaling import device_for
    from stac2cube.stages.schooling import train_on

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
    """Weights of networks: list, fetch, verify. Fetching is for nodes with a network; nothing is fetched by itself."""


@weights.command("list")
def list_() -> int:
    """Say which weights there are and where."""
    from stac2cube.kernels.networks import sha256_of
    from stac2cube.weights import all_shipped, folders, known

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
@click.option("--into", type=click.Path(path_type=Path), help="A folder; the site's or your own if not said.")
def fetch(backend: str, into: Path | None) -> int:
    """Download the weights of BACKEND and check them."""
    from stac2cube.weights import fetch as download

    for path in download(backend, into):
        click.echo(path)
    return 0


@weights.command()
@click.argument("backend")
@click.option("--folder", default="", help="The folder; where they are looked for if not said.")
def verify(backend: str, folder: str) -> int:
    """Be sure that the weights of BACKEND are there and unharmed."""
    from stac2cube.weights import find_folder

    click.echo(f"{find_folder(backend, folder)}: all there, checksums right")
    return 0
