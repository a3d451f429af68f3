"""Commands for those who train: statistics, patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stac2cube.cli.steps import Manner
from stac2cube.cli.stopping import stoppable
from stac2cube.cli.words import CUBE, listed, talking, where_options
from stac2cube.errors import BadInputError

_FOLDER = click.Path(path_type=Path)


def _frames_options(command: Any) -> Any:
    for option in (
        click.option("--clouds", type=CUBE, help="The clouds cube of a cube."),
        click.option("--labels", help="The layer of a cube that labels it, for example SCL or cloud_mask."),
        click.option("--bands", help="Layers of a cube with commas; all that are no classes if not said."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@_frames_options
@click.option("--range", "ends", nargs=2, type=float, default=(0.0, 1.0), show_default=True, help="Values counted.")
@click.option("--bin-width", default=0.0005, show_default=True)
@click.option("--percentiles", nargs=2, type=float, default=(2.0, 98.0), show_default=True)
@click.option("--max-pixels-per-scene", type=int, help="Pixels looked at of each scene; all if not said.")
@click.option("--seed", default=0, show_default=True, help="Decides which pixels.")
@click.option("--only", type=click.Choice(["histogram", "moments"]), help="One of the two passes; both if not said.")
@where_options
def statistics(source: Path, out: Path, **options: Any) -> int:
    """Write percentiles, mean and deviation of each band of SOURCE (a cube or samples) into the folder OUT."""
    from stac2cube.training.frames import find_frames
    from stac2cube.training.parts import Making
    from stac2cube.training.statistics import StatisticsRules, add_moments, count_values

    low, high = options["ends"]
    rules = StatisticsRules(
        low, high, options["bin_width"], options["percentiles"], options["max_pixels_per_scene"], options["seed"]
    )
    with talking(options["quiet"]) as console, stoppable() as stop:
        manner = Manner.of(options, console)
        making = Making(manner.place, manner.progress(), stop)
        frames = find_frames(source, listed(options["bands"]), labels=options["labels"], clouds=options["clouds"])
        made = None
        if options["only"] != "moments":
            made = count_values(frames, rules, out, making)
        if options["only"] != "histogram" and not stop.is_set():
            made = add_moments(frames, out, making)
    if made is None:
        click.echo(f"{out}: stopped before the end, run again to go on")
        return 10
    for band in made.bands:
        low, high = band.limits
        moments = "" if band.mean is None else f"  mean {band.mean:.5f}  std {band.std:.5f}"
        click.echo(f"{band.name:<8} {band.pixels:>12} pixels  clipped to {low:.5f} .. {high:.5f}{moments}")
    return 0


@click.command()
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@_frames_options
@click.option("--rules", "file", type=click.Path(exists=True, path_type=Path), help="YAML, see docs/training.md.")
@click.option("--size", type=int, help="Edge of a patch, pixels [128].")
@click.option("--stride", type=int, help="Pixels from patch to patch; the size if not said.")
@click.option("--stack", type=int, help="Frames of one place per patch, one after another in time [1].")
@click.option("--form", type=click.Choice(["webdataset", "zarr", "geotiff"]), help="How they are stored [webdataset].")
@click.option("--seed", type=int, help="Decides the order [0].")
@click.option("--statistics", "stats", type=_FOLDER, help="Clip and standardise by these; see `stac2cube statistics`.")
@where_options
def patches(source: Path, out: Path, **options: Any) -> int:
    """Cut SOURCE (a cube or samples) into patches for training, split by place and time, into shards in OUT."""
    import yaml

    from stac2cube.training.frames import find_frames
    from stac2cube.training.making import make_patches
    from stac2cube.training.parts import Making
    from stac2cube.training.patch_rules import PatchRules
    from stac2cube.training.statistics import read_statistics

    words = {} if options["file"] is None else yaml.safe_load(options["file"].read_text())
    if not isinstance(words, dict):
        raise BadInputError(f"{options['file']} should hold words such as 'size: 128'")
    given = {name: options[name] for name in ("size", "stride", "stack", "form", "seed") if options[name] is not None}
    rules = PatchRules.from_json(words | given)
    known = None if options["stats"] is None else read_statistics(options["stats"])
    with talking(options["quiet"]) as console, stoppable() as stop:
        manner = Manner.of(options, console)
        making = Making(manner.place, manner.progress(), stop)
        frames = find_frames(source, listed(options["bands"]), labels=options["labels"], clouds=options["clouds"])
        made = make_patches(frames, out, rules, making, statistics=known)
    if not made.manifest:
        click.echo(f"{out}: stopped before the end, run again to go on")
        return 10
    for split, count in made.manifest["counts"]["kept"].items():
        click.echo(f"{split:<8} {count:>8} patches")
    for why, count in made.manifest["counts"]["left out"].items():
        click.echo(f"{'left out':<8} {count:>8} {why}")
    return 0
