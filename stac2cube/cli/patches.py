"""Commands for those who train: statistics, patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.steps import Manner
from stac2cube.cli.stopping import stoppable
from stac2cube.cli.where import where_options
from stac2cube.cli.words import CUBE, LIST, listed, talking
from stac2cube.places.queue import job_end

if TYPE_CHECKING:
    from stac2cube.training.patch_rules import PatchRules
    from stac2cube.training.statistics import StatisticsRules

_FOLDER = click.Path(path_type=Path)


def _frames_options(command: Any) -> Any:
    for option in (
        click.option("--clouds", type=CUBE, help="The clouds cube of a cube."),
        click.option("--labels", help="The layer of a cube that labels it, for example SCL or cloud_mask."),
        click.option("--bands", type=LIST, help="Layers of a cube with commas; all that are measured if not said."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@_frames_options
@click.option("--range", "ends", nargs=2, type=float, help="Values counted [0 1].")
@click.option("--bin-width", "width", type=float, help="Percentiles are known no finer [0.0005].")
@click.option("--percentiles", nargs=2, type=float, help="What lies beyond is clipped [2 98].")
@click.option("--max-pixels-per-scene", type=int, help="Pixels looked at of each scene; all if not said.")
@click.option("--seed", type=int, help="Decides which pixels [0].")
@click.option("--only", type=click.Choice(["histogram", "moments"]), help="One of the two passes; both if not said.")
@where_options
def statistics(source: Path, out: Path, **options: Any) -> int:
    """Write percentiles, mean and deviation of each band of SOURCE (a cube or samples) into the folder OUT."""
    from stac2cube.training.finding import find_frames
    from stac2cube.training.parts import Making
    from stac2cube.training.passes import add_moments, count_values
    from stac2cube.training.statistics import read_statistics
    from stac2cube.work import Orders

    moments_only = options["only"] == "moments"  # what is not said is then as the first pass was told
    rules = replace(read_statistics(out).rules, **_said(options)) if moments_only else statistics_rules_of(options)
    with talking(options["quiet"]) as console, stoppable() as stop:
        manner = Manner.of(options, console)
        making = Making(manner.place, manner.progress("scenes"), Orders(stop=stop, deadline=job_end()))
        frames = find_frames(source, listed(options["bands"]), labels=options["labels"], clouds=options["clouds"])
        made = None if moments_only else count_values(frames, rules, out, making)
        if moments_only or (made is not None and options["only"] is None):
            made = add_moments(frames, out, making, rules=rules)
    if made is None:
        click.echo(f"{out}: stopped before the end, run again to go on")
        return 10
    for band in made.bands:
        low, high = band.limits
        moments = "" if band.mean is None else f"  mean {band.mean:.5f}  std {band.std:.5f}"
        click.echo(f"{band.name:<8} {band.pixels:>12} pixels  clipped to {low:.5f} .. {high:.5f}{moments}")
    return 0


def statistics_rules_of(options: Mapping[str, Any]) -> StatisticsRules:
    """What `stac2cube statistics` is asked for.

    Raises:
        BadInputError: It makes no sense.
    """
    from stac2cube.training.statistics import StatisticsRules

    return StatisticsRules(**_said(options))


def _said(options: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of statistics that are given, by name."""
    words = {name: options[name] for name in ("width", "percentiles", "max_pixels_per_scene", "seed")}
    words |= {} if options["ends"] is None else dict(zip(("low", "high"), options["ends"], strict=True))
    return {name: value for name, value in words.items() if value is not None}


@click.command()
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@_frames_options
@click.option("--rules", "file", type=CUBE, help="YAML, see docs/patches.md.")
@click.option("--size", type=int, help="Edge of a patch, pixels [128].")
@click.option("--stride", type=int, help="Pixels from patch to patch; the size if not said.")
@click.option("--stack", type=int, help="Frames of one place per patch, one after another in time [1].")
@click.option("--form", type=click.Choice(["webdataset", "zarr", "geotiff"]), help="How they are stored [webdataset].")
@click.option("--seed", type=int, help="Decides the order [0].")
@click.option("--statistics", "stats", type=_FOLDER, help="Clip and standardise by these; see `stac2cube statistics`.")
@where_options
def patches(source: Path, out: Path, **options: Any) -> int:
    """Cut SOURCE (a cube or samples) into patches for training, split by place and time, into shards in OUT."""
    from stac2cube.training.finding import find_frames
    from stac2cube.training.making import make_patches
    from stac2cube.training.parts import Making
    from stac2cube.training.statistics import read_statistics
    from stac2cube.work import Orders

    rules = patch_rules_of(options)
    known = None if options["stats"] is None else read_statistics(options["stats"])
    with talking(options["quiet"]) as console, stoppable() as stop:
        manner = Manner.of(options, console)
        making = Making(manner.place, manner.progress("scenes, then shards"), Orders(stop=stop, deadline=job_end()))
        frames = find_frames(source, listed(options["bands"]), labels=options["labels"], clouds=options["clouds"])
        made = make_patches(frames, out, rules, making, statistics=known)
    if not made.manifest:
        click.echo(f"{out}: stopped before the end, run again to go on")
        return 10
    kept = made.manifest["counts"]["kept"]
    for split, share in rules.splits.shares.items():
        none = "" if kept.get(split) or not share else ": no good patch lies in a block of its own, make blocks smaller"
        click.echo(f"{split:<8} {kept.get(split, 0):>8} patches{none}")
    for why, count in made.manifest["counts"]["left out"].items():
        click.echo(f"{'left out':<8} {count:>8} {why}")
    return 0


def patch_rules_of(options: Mapping[str, Any]) -> PatchRules:
    """What `stac2cube patches` is asked for: a file of rules, and what is said beside it.

    Raises:
        BadInputError: It makes no sense.
    """
    from stac2cube.training.config import read_words
    from stac2cube.training.patch_rules import PatchRules

    known = tuple(field.name for field in fields(PatchRules))
    words = {} if options["file"] is None else read_words(options["file"], known)
    given = {name: options[name] for name in ("size", "stride", "stack", "form", "seed") if options[name] is not None}
    return PatchRules.from_json(words | given)
