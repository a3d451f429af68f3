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

from stac2cube.cli.stopping import stoppable
from stac2cube.cli.where import limits_of, place_of
from stac2cube.errors import BadInputError
from stac2cube.places.queue import Queue, in_job, job_end
from stac2cube.places.slurm import Slurm

if TYPE_CHECKING:
    from stac2cube.limits import Limits
    from stac2cube.places.place import Place
    from stac2cube.progress import Progress
    from stac2cube.stages.cloud_rules import CloudRules
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
        machine: Say what was done as JSON.
        superseded: See :class:`stac2cube.work.Orders`.
        progress_file: Where progress is written too.
        limits: What the cube may grow to, None for what the place's site allows.
    """

    place: Place
    console: Console = field(repr=False)
    quiet: bool = False
    machine: bool = False
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
        if isinstance(place, Slurm):
            place.require_logs()
        return cls(
            place=place,
            console=console,
            quiet=options["quiet"],
            machine=options.get("machine", False),
            superseded="replace" if options.get("replace_superseded") else "report",
            progress_file=progress_file,
            limits=limits_of(options["site"]),
        )

    def progress(self, what: str = "blocks") -> Progress:
        """Progress as it shall be shown, counting so named things."""
        from stac2cube.progress import FileProgress, Progress, progress_for

        shown = Progress() if self.quiet else progress_for(self.console, what)
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

    assert job.out is not None
    return built(job.out, partial(run, job), manner)


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
    from stac2cube.stages.clouds import run_clouds

    given = dict(words)
    again = given.pop("from_probability", False)
    rules = cloud_rules(given)
    if again:
        return built(out, partial(mask_again, out, rules), manner)
    return built(out, partial(run_clouds, layers, out, rules, catalog), manner)


def cloud_rules(words: Mapping[str, Any]) -> CloudRules:
    """The rules that words mean.

    Raises:
        BadInputError: A word is wrong.
    """
    from stac2cube.stages.cloud_rules import CloudRules

    try:
        return CloudRules(**{**words, "thresholds": tuple(float(threshold) for threshold in words["thresholds"])})
    except ValueError as error:
        raise BadInputError(f"thresholds are numbers: {error}") from error


def built(out: Path, make: Callable[..., Summary], manner: Manner) -> int:
    """Build a cube from a cube and say what was done; the exit code.

    Args:
        out: The cube, for what is said.
        make: Takes ``place``, and ``orders=`` and ``progress=``.
        manner: How.
    """
    from stac2cube.work import Orders

    with stoppable() as stop:
        orders = Orders(superseded=manner.superseded, stop=stop, deadline=job_end(), limits=manner.limits)
        summary = make(manner.place, orders=orders, progress=manner.progress())
    return said(out, summary, machine=manner.machine)


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

    make = partial(run_coregister, layers, out, ShiftRules(**words), clouds, apply=apply)
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
    """Bring a cube made from another, or of samples, up to date and say what was done; the exit code.

    Raises:
        BadInputError: A catalog for a cube that needs none.
    """
    from stac2cube.stages.following import follow
    from stac2cube.training.cubes import follow_samples, holds_samples

    if holds_samples(cube):
        if catalog is not None:
            raise BadInputError(f"{cube} remembers its source: `stac2cube samples` takes another, say no --catalog")
        return built(cube, partial(follow_samples, cube), manner)
    return built(cube, partial(follow, cube, catalog=catalog), manner)


def said(out: Path, summary: Summary, *, machine: bool = False) -> int:
    """Say what a build did, for people or as a line of JSON; the exit code."""
    from stac2cube.cli.tables import summary_lines

    if machine:
        click.echo(json.dumps({"cube": str(out), **asdict(summary)}))
    else:
        for line in summary_lines(out, summary):
            click.echo(line)
    return summary.exit_code


def leave(code: int, on_deadline: str) -> int:
    """What a job does when it ends: asked to, and stopped at its deadline, it has itself requeued."""
    if code == 10 and on_deadline == "requeue" and in_job():
        job = os.environ["SLURM_JOB_ID"]
        log.info("job %s asks SLURM to run it again", job)
        Queue().call("scontrol", ["requeue", job])
    return code
