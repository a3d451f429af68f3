"""What the commands that build have in common: a request prepared, a place opened, a build run, and how it went."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.console import Console

from stac2cube.cli.words import PLAIN_WORDS, limits_of, place_of, stoppable, what_words
from stac2cube.errors import BadInputError
from stac2cube.places.queue import Queue, in_job, job_end
from stac2cube.places.slurm import Slurm
from stac2cube.recipe import WITH_BLOCKS

if TYPE_CHECKING:
    from stac2cube.limits import Limits
    from stac2cube.places.place import Place
    from stac2cube.progress import Progress
    from stac2cube.recipe import Recipe
    from stac2cube.stages.layers import LayersJob
    from stac2cube.work import Summary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manner:
    """How a build is run, whatever it builds.

    Attributes:
        place: Where.
        console: Where progress is shown.
        quiet: Show none.
        superseded: See :class:`stac2cube.work.Orders`.
        progress_file: Where progress is written too.
        limits: What the cube may grow to, None for anything.
    """

    place: Place
    console: Console = field(repr=False)
    quiet: bool = False
    superseded: Literal["report", "replace"] = "report"
    progress_file: Path | None = None
    limits: Limits | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any], console: Console) -> Manner:
        """From the options of a command.

        Raises:
            BadInputError: The place cannot be had.
        """
        place = place_of(
            options["place"], options["workers"], options["site"], test=options["test"], cluster=options["cluster"]
        )
        progress_file = options.get("progress_file")
        if isinstance(place, Slurm) and progress_file is not None:
            place = replace(place, logs=str(progress_file.parent))  # beside the log of the job that submits them
        return cls(
            place=place,
            console=console,
            quiet=options["quiet"],
            superseded="replace" if options.get("replace_superseded") else "report",
            progress_file=progress_file,
            limits=limits_of(options["site"]),
        )

    def progress(self) -> Progress:
        """Progress as it shall be shown."""
        from stac2cube.progress import FileProgress, Progress, progress_for

        shown = Progress() if self.quiet else progress_for(self.console)
        return shown if self.progress_file is None else FileProgress(self.progress_file, shown)


def prepared(out: Path, words: Mapping[str, Any], manner: Manner, *, updating: bool = False) -> LayersJob:
    """A layers request understood, searched and laid out.

    Raises:
        BadInputError: A word is wrong, or there is nothing to update.
    """
    from stac2cube.stages.layers import make_request, prepare

    if updating and not out.exists():
        raise BadInputError(f"{out} does not exist: there is nothing to update")
    return prepare(out, make_request(words, out if updating else None), on_cluster=manner.place.on_cluster)


def build_layers(job: LayersJob, manner: Manner) -> int:
    """Build or extend a layers cube and say what was done; the exit code."""
    from stac2cube.stages.layers import run
    from stac2cube.work import Orders

    with stoppable() as stop:
        orders = Orders(superseded=manner.superseded, stop=stop, deadline=job_end(), limits=manner.limits)
        summary = run(job, manner.place, orders=orders, progress=manner.progress())
    assert job.out is not None
    return said(job.out, summary)


def build_clouds(layers: Path, out: Path, words: Mapping[str, Any], catalog: str, manner: Manner) -> int:
    """Build or extend a clouds cube and say what was done; the exit code.

    Args:
        layers: The cube.
        out: The clouds cube.
        words: Fields of :class:`stac2cube.stages.cloud_rules.CloudRules`; ``from_probability`` to make masks anew.
        catalog: Where the L1C is.
        manner: How.

    Raises:
        BadInputError: A word is wrong.
    """
    from stac2cube.stages.cloud_again import mask_again
    from stac2cube.stages.cloud_rules import CloudRules
    from stac2cube.stages.clouds import run_clouds

    given = dict(words)
    again = given.pop("from_probability", False)
    try:
        for name in ("average_m", "dilate_m", "resolution"):
            if name in given:
                given[name] = float(given[name])
        if "thresholds" in given:
            several = given["thresholds"] if isinstance(given["thresholds"], (list, tuple)) else [given["thresholds"]]
            given["thresholds"] = tuple(float(threshold) for threshold in several)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"clouds want numbers: {error}") from error
    rules = CloudRules(**given)
    if again:
        return built(out, partial(mask_again, out, rules), manner)
    return built(out, partial(run_clouds, layers, out, rules, catalog), manner)


def built(out: Path, make: Callable[..., Summary], manner: Manner, *, machine: bool = False) -> int:
    """Build a cube from a cube and say what was done; the exit code.

    Args:
        out: The cube, for what is said.
        make: Takes ``place``, and ``orders=`` and ``progress=``.
        manner: How.
        machine: Say it as JSON.
    """
    from stac2cube.work import Orders

    with stoppable() as stop:
        orders = Orders(superseded=manner.superseded, stop=stop, deadline=job_end(), limits=manner.limits)
        summary = make(manner.place, orders=orders, progress=manner.progress())
    if machine:
        click.echo(json.dumps(asdict(summary), indent=1))
        return summary.exit_code
    return said(out, summary)


def build_coregistered(
    layers: Path, out: Path, words: Mapping[str, Any], clouds: Path | None, manner: Manner, *, apply: bool = True
) -> int:
    """Build or extend a co-registered cube and say what was done; the exit code.

    Args:
        layers: The cube.
        out: The co-registered cube.
        words: Fields of :class:`stac2cube.stages.shift_rules.ShiftRules`.
        clouds: Its clouds cube, None for its own classes.
        manner: How.
        apply: Whether scenes are moved, and not only measured.

    Raises:
        BadInputError: A word is wrong.
    """
    from stac2cube.stages.coregister import Paths, run_coregister
    from stac2cube.stages.shift_rules import ShiftRules

    given = dict(words)
    try:
        given["max_shift"] = float(given.get("max_shift", ShiftRules.max_shift))
    except (TypeError, ValueError) as error:
        raise BadInputError(f"max_shift is a number of pixels: {error}") from error
    make = partial(run_coregister, layers, out, ShiftRules(**given), clouds, apply=apply)
    return built(out if apply else Paths(out).shifts, make, manner)


def build_superres(layers: Path, out: Path, words: Mapping[str, Any], manner: Manner) -> int:
    """Build or extend a super-resolved cube and say what was done; the exit code.

    Args:
        layers: The cube.
        out: The cube made.
        words: Fields of :class:`stac2cube.stages.superres_rules.SuperresRules`.
        manner: How.

    Raises:
        BadInputError: A word is wrong.
    """
    from stac2cube.stages.superres import run_superres
    from stac2cube.stages.superres_rules import SuperresRules

    return built(out, partial(run_superres, layers, out, SuperresRules(**words)), manner)


def update_child(cube: Path, catalog: str | None, manner: Manner) -> int:
    """Bring a cube made from another up to date and say what was done; the exit code."""
    from stac2cube.stages.following import follow

    return built(cube, partial(follow, cube, catalog=catalog), manner)


def said(out: Path, summary: Summary) -> int:
    """Say what a build did; the exit code."""
    from stac2cube.cli.tables import summary_lines

    for line in summary_lines(out, summary):
        click.echo(line)
    return summary.exit_code


def recipe_words(recipe: Recipe) -> dict[str, Any]:
    """The words of a request from the layers stage of a recipe.

    Raises:
        BadInputError: A word is not understood, or the recipe has no layers.
    """
    if "layers" not in recipe.stages:
        raise BadInputError(f"the recipe {recipe.path} has no stage 'layers'")
    given = dict(recipe.stages["layers"])
    aoi, bands, resampling = (given.get(name) for name in ("aoi", "bands", "resampling"))
    options: dict[str, Any] = dict.fromkeys((*PLAIN_WORDS, "aoi_crs", "edge", "time", "aoi"))
    options |= {name: value for name, value in given.items() if name in options}
    options["orbit"] = None if given.get("orbit") is None else str(given["orbit"])
    options["time"] = None if given.get("time") is None else str(given["time"])
    options["aoi"] = _beside(recipe, aoi)
    if isinstance(given.get("catalog"), str):
        options["catalog"] = _beside(recipe, given["catalog"])
    options["bands"] = ",".join(map(str, bands)) if isinstance(bands, list) else bands
    options["resampling"] = (
        ",".join(f"{band}={method}" for band, method in resampling.items())
        if isinstance(resampling, dict)
        else resampling
    )
    words = what_words(**options)
    return words | ({"items": Path(_beside(recipe, given["items"]))} if given.get("items") else {})


def run_stage(recipe: Recipe, stage: str, manner: Manner) -> int:
    """Run one stage of a recipe; the exit code."""
    log.info("stage %s of %s", stage, recipe.path)
    return _STAGES[stage](recipe, manner)


def leave(code: int, on_deadline: str) -> int:
    """What a job does when it ends: asked to, and stopped at its deadline, it has itself requeued."""
    if code == 10 and on_deadline == "requeue" and in_job():
        job = os.environ["SLURM_JOB_ID"]
        log.info("job %s asks SLURM to run it again", job)
        Queue().call("scontrol", ["requeue", job])
    return code


def _run_layers(recipe: Recipe, manner: Manner) -> int:
    return build_layers(prepared(recipe.cube("layers"), recipe_words(recipe), manner), manner)


def _run_clouds(recipe: Recipe, manner: Manner) -> int:
    words = dict(recipe.stages["clouds"])
    catalog = _beside(recipe, words.pop("catalog", "auto"))
    return build_clouds(recipe.cube("layers"), recipe.cube("clouds"), words, catalog, manner)


def _run_coregister(recipe: Recipe, manner: Manner) -> int:
    clouds = recipe.cube("clouds") if "clouds" in recipe.stages else None
    words = dict(recipe.stages["coregister"])
    words["reference"] = _beside(recipe, words.get("reference", "clearest"))
    return build_coregistered(recipe.cube("layers"), recipe.cube("coregister"), words, clouds, manner)


def _run_superres(recipe: Recipe, manner: Manner) -> int:
    words = dict(recipe.stages["superres"])
    words["weights"] = _beside(recipe, words.get("weights", ""))
    best = "coregister" if "coregister" in recipe.stages else "layers"
    return build_superres(recipe.cube(best), recipe.cube("superres"), words, manner)


def _run_quicklook(recipe: Recipe, manner: Manner) -> int:  # noqa: ARG001 - one signature for all stages
    from stac2cube.products.quicklook import draw

    click.echo(draw(recipe.cube("layers"), recipe.cubes / "quicklook.png"))
    return 0


def _run_report(recipe: Recipe, manner: Manner) -> int:  # noqa: ARG001 - one signature for all stages
    from stac2cube.products.report import write_report

    click.echo(write_report(recipe.cube("layers"), recipe.cubes / "report.html"))
    for stage in WITH_BLOCKS & recipe.stages.keys() - {"layers"}:
        click.echo(write_report(recipe.cube(stage), recipe.cubes / f"report-{stage}.html"))
    return 0


_STAGES: Mapping[str, Callable[[Recipe, Manner], int]] = {
    "layers": _run_layers,
    "clouds": _run_clouds,
    "coregister": _run_coregister,
    "superres": _run_superres,
    "quicklook": _run_quicklook,
    "report": _run_report,
}


def _beside(recipe: Recipe, value: Any) -> Any:
    """A path in a recipe, meant from its folder; anything else as it is."""
    if not isinstance(value, str):
        return value
    path = recipe.path.parent / value
    return str(path) if len(value) < 255 and path.exists() else value
