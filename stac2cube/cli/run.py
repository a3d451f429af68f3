"""Common parts of all commands that build: check options, run the build, stop on signals, print the summary."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import click

from stac2cube.cli.options import SafeConsole, WhereOptions, raw, value_of
from stac2cube.errors import BadInputError, CubeError, SlurmError
from stac2cube.executors.queue import Queue, in_job, job_end
from stac2cube.executors.slurm import Slurm
from stac2cube.trust.deadline import stop_waiting, wait_again

STOPPED = "stopped before the end: run the same command again to continue"
"""Printed where a command ended early, at its limit or at a signal."""

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from stac2cube.build.plan import Summary
    from stac2cube.datasets.samples import Report
    from stac2cube.executors.base import Place
    from stac2cube.executors.site import Limits
    from stac2cube.progress import Progress
    from stac2cube.stages.layers import LayersJob


# Stopping a command by a signal; finished steps are sealed.

GRACE = 10.0
"""Seconds that reads from servers still have when a command is asked to stop: SLURM kills after 30."""

FAREWELL = 3.0
"""Seconds that threads have to end by themselves after the end of a command that was asked to stop."""


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """Handler of a signal: abandon waits for servers, and end the command like Ctrl-C.

    Raises:
        KeyboardInterrupt: Always.
    """
    stop_waiting(0.0)
    _ASKED.set()
    raise KeyboardInterrupt


_ASKED = threading.Event()
"""Set when the command was asked to stop."""


def begin_command() -> None:
    """Begin a command: clear any earlier request to stop, and let SIGTERM end it."""
    _ASKED.clear()
    signal.signal(signal.SIGTERM, end_at_once)


def was_asked_to_stop() -> bool:
    """Whether this process was asked to stop, by Ctrl-C or a signal."""
    return _ASKED.is_set()


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event set by Ctrl-C, SIGTERM and SIGUSR1: the build seals finished steps; a second signal ends it at once."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            end_at_once(number, frame)
        stop.set()
        _ASKED.set()
        stop_waiting(GRACE)
        logging.getLogger("stac2cube").warning(
            "%s: finishing the current blocks, then sealing; send it again to stop at once", signal.Signals(number).name
        )

    wait_again()
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        wait_again()


def leave_stopped(code: int) -> None:
    """End the process.

    If it was asked to stop, threads that still wait for a server do not delay the end.

    Args:
        code: The exit code.
    """
    if not _ASKED.is_set():
        sys.exit(code)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(FAREWELL)
            if thread.is_alive():
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    sys.exit(code)


# Common to commands that build: preparing a request, opening a place, running the build, reporting.

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """Options of the run of a build, whatever it builds.

    Attributes:
        place: Place where blocks are made.
        console: Console that shows progress.
        quiet: Show no progress.
        machine: Print the outcome as JSON.
        superseded: See :class:`stac2cube.build.plan.BuildOptions`.
        progress_file: File to which progress is written too.
        limits: Limits on the size of the cube, None for those of the place's site.
    """

    place: Place
    console: Console = field(repr=False)
    quiet: bool = False
    machine: bool = False
    superseded: Literal["report", "replace"] = "report"
    progress_file: Path | None = None
    limits: Limits | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any], console: Console) -> RunOptions:
        """Make them from the options of a command.

        Raises:
            BadInputError: The place is not available.
        """
        where = value_of(WhereOptions, options)
        place = where.executor()
        progress_file = options.get("progress_file")
        if isinstance(place, Slurm) and progress_file is not None:
            place = replace(place, logs=str(progress_file.parent))  # beside the log of the job that submits them
        if isinstance(place, Slurm):
            place.require_logs()
        return cls(
            place=place,
            console=console,
            quiet=where.quiet,
            machine=options.get("machine", False),
            superseded="replace" if options.get("replace_superseded") else "report",
            progress_file=progress_file,
            limits=where.limits(),
        )

    def progress(self, what: str = "blocks") -> Progress:
        """Progress as the options request it; `what` names what is counted."""
        from stac2cube.progress import FileProgress, Progress, progress_for

        shown = Progress() if self.quiet else progress_for(self.console, what)
        return shown if self.progress_file is None else FileProgress(self.progress_file, shown)


def prepared(out: Path, words: Mapping[str, Any], run_options: RunOptions, *, updating: bool = False) -> LayersJob:
    """Prepare the build of layers: parse the options, search, determine the steps.

    Raises:
        BadInputError: An argument is invalid, or there is nothing to update.
    """
    from stac2cube.stages.layers import prepare, query_of_words

    if updating and not out.exists():
        raise BadInputError(f"{out} does not exist: there is nothing to update")
    return prepare(out, *query_of_words(words, out if updating else None), on_cluster=run_options.place.on_cluster)


def build_layers(job: LayersJob, run_options: RunOptions) -> int:
    """Build or extend a layers cube and print the outcome; returns the exit code."""
    from stac2cube.stages.layers import run

    assert job.out is not None
    return built(job.out, partial(run, job), run_options)


def built(out: Path, make: Callable[..., Summary], run_options: RunOptions) -> int:
    """Build a derived cube and print the outcome; returns the exit code.

    Args:
        out: The cube, for the output.
        make: Function of ``place``, ``options=`` and ``progress=``.
        run_options: Options of the run.
    """
    from stac2cube.build.plan import BuildOptions

    with stoppable() as stop:
        build_options = BuildOptions(
            superseded=run_options.superseded, stop=stop, deadline=job_end(), limits=run_options.limits
        )
        summary = make(run_options.place, options=build_options, progress=run_options.progress())
    return said(out, summary, machine=run_options.machine)


def child_update(cube: Path, catalog: str | None) -> Callable[[RunOptions], int] | None:
    """The update of a derived cube, or of samples; None for a cube of layers.

    Args:
        cube: The cube, or the folder of samples.
        catalog: Catalog of L1C; None for the stored one.

    Returns:
        A function that updates, prints the outcome, and returns the exit code.

    Raises:
        BadInputError: A catalog was given for samples, which need none.
    """
    from stac2cube.store.metadata import read_root

    if (cube / "zarr.json").exists() and read_root(cube).spec.stage == "layers":
        return None  # decided without the imports that samples need
    from stac2cube.datasets.sample_cube import follow_sample_files, follow_samples, holds_sample_files, holds_samples
    from stac2cube.maintain.update import is_derived, update

    in_files = holds_sample_files(cube)
    if in_files or holds_samples(cube):
        if catalog is not None:
            raise BadInputError(f"{cube} is updated from its stored source: leave out --catalog")
        if in_files:
            return partial(made_samples, cube, partial(follow_sample_files, cube))
        return partial(built, cube, partial(follow_samples, cube))
    return partial(built, cube, partial(update, cube, catalog=catalog)) if is_derived(cube) else None


def made_samples(out: Path, make: Callable[..., Report], run_options: RunOptions) -> int:
    """Make samples in files and print the outcome; returns the exit code.

    Args:
        out: Their folder.
        make: Function of a place, ``build_options`` and ``progress``.
        run_options: Options of the run.
    """
    from stac2cube.build.plan import BuildOptions

    with stoppable() as stop:
        build_options = BuildOptions(stop=stop, deadline=job_end())
        report = make(run_options.place, options=build_options, progress=run_options.progress("samples"))
    click.echo(f"{out}: {len(report.made)} samples made, {len(report.present)} were there, {len(report.failed)} failed")
    for name, reason in report.failed.items():
        click.echo(f"  {name}: {reason}")
    if report.stopped:
        click.echo("stopped in time: run the same command again to continue")
    return report.exit_code


def said(out: Path, summary: Summary, *, machine: bool = False) -> int:
    """Print the outcome of a build, as text or as a line of JSON; returns the exit code."""
    if machine:
        click.echo(json.dumps({"cube": str(out), **asdict(summary)}))
    else:
        for line in summary_lines(out, summary):
            click.echo(line)
    return summary.exit_code


def commits_of(cubes: Sequence[Path]) -> list[int]:
    """Numbers of the last commits of the cubes that exist."""
    from stac2cube.store.metadata import read_root

    found = []
    for cube in cubes:
        with suppress(CubeError, OSError):
            found.append(read_root(cube).commit)
    return found


LIVES = 3
"""Runs of a job after which it is no longer requeued if it sealed nothing in its whole time limit."""


BUSY_PAUSES = (2.0, 5.0, 10.0)
"""Seconds before a job asks again to be requeued where SLURM's controller did not answer: it may be restarting."""

_BUSY = re.compile(r"unable to contact|connect|timed out|did not answer|transmitted or received|standby", re.IGNORECASE)
"""Messages of SLURM's commands about their connection to the controller (slurm_errno.c)."""


def leave(code: int, on_deadline: str, *, progressed: bool = True) -> int:
    """End of a job: requeue it if it was stopped before its end and ``on_deadline`` is "requeue".

    A cancelled job is not requeued, and a preempted job is requeued by SLURM itself; both receive SIGTERM, too.

    Args:
        code: The exit code.
        on_deadline: ``"requeue"`` or ``"stop"``.
        progressed: Whether anything was sealed since it began.

    Returns:
        The exit code.
    """
    if code != 10 or on_deadline != "requeue" or not in_job():
        return code
    job, count = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "")
    if not progressed and count.isdecimal() and int(count) >= LIVES - 1:
        log.warning(
            "job %s sealed nothing in its whole time limit, and is not requeued after %s restarts: give it more time "
            "or cores, or make smaller blocks",
            job,
            count,
        )
        return code
    for pause in (*BUSY_PAUSES, None):
        try:
            state = Queue().job(job) if was_asked_to_stop() else {}
            if state.get("JobState", "RUNNING") != "RUNNING" and state.get("Reason") != "TimeLimit":
                log.info("job %s is %s: it does not ask SLURM to run it again", job, state["JobState"])
                return code
            log.info("job %s asks SLURM to run it again", job)
            Queue().call("scontrol", ["requeue", job])
            return code
        except SlurmError as error:
            if pause is None or not _BUSY.search(str(error)):
                log.warning("job %s is not requeued: %s. Submit again to continue", job, error)
                return code
            log.info("job %s asks again in %.0f s: %s", job, pause, error)
            time.sleep(pause)
    return code


# Output of plans and summaries.


def plan_table(job: LayersJob) -> Table:
    """Table of a plan, scene by scene, with totals."""
    from rich.table import Table

    plan = job.plan()
    todo = {step.entry.key: step for step in plan.todo}
    superseded = {step.entry.key for _, step in plan.superseded}
    table = Table("scene", "time (UTC)", "cloud %", "items", "blocks", "what", box=None)
    for step in job.steps:
        key, entry = step.entry.key, step.entry
        what = "to build" if key in todo else "superseded" if key in superseded else "present"
        cloud = entry.properties["cloud_cover"]
        table.add_row(
            key,
            f"{entry.time:%Y-%m-%d %H:%M:%S}",
            "-" if cloud is None else f"{cloud:.1f}",
            str(len(entry.items)),
            str(len(step.tiles)),
            what,
        )
    table.caption = "\n".join(plan_lines(job))
    table.caption_justify = "left"
    return table


def plan_json(job: LayersJob) -> dict[str, Any]:
    """The plan as a dictionary for JSON."""
    from stac2cube.build.status import forecast

    plan = job.plan()
    ahead = forecast(job.out, job.spec, plan, job.steps)
    return {
        "todo": [step.entry.key for step in plan.todo],
        "present": list(plan.present),
        "superseded": [step.entry.key for _, step in plan.superseded],
        "blocks": plan.blocks,
        **asdict(ahead),
    }


def figures_table(rows: list[dict[str, Any]]) -> str:
    """Scores of restored pictures, a line per step and method."""
    lines = [f"{'step':<12} {'method':<15} {'PSNR, dB':>9} {'RMSE':>9} {'SAM, deg':>9} {'ERGAS':>6}"]
    for row in rows:
        figures = f"{row['psnr']:>9.2f} {row['rmse']:>9.5f} {row['sam']:>9.2f} {row['ergas']:>6.2f}"
        lines.append(f"{row['step']:<12} {row['method']:<15} {figures}")
    return "\n".join(lines)


def plan_lines(job: LayersJob) -> Iterator[str]:
    """Totals of a plan: blocks, bytes and files, now and per year."""
    from stac2cube.build.status import IN_FILES, forecast, to_read

    plan, grid, layers = job.plan(), job.spec.grid, job.spec.layers
    rows, columns = grid.shape
    ahead = forecast(job.out, job.spec, plan, job.steps)
    read = to_read(job.query.chosen, job.spec, ahead.pixels)
    units = "m" if grid.geobox.crs is not None and grid.geobox.crs.projected else "degrees"
    yield f"grid     {grid.crs}, {rows} x {columns} pixels of {grid.resolution:g} {units}, {len(layers)} layers"
    yield f"steps    {len(plan.todo)} to build, {len(plan.present)} present, {len(plan.superseded)} superseded"
    yield f"blocks   {plan.blocks}"
    yield f"read     at most {human_bytes(read)} of pixels, about {IN_FILES:g} of it as compressed files"
    yield f"now      {ahead.now.files} files, {human_bytes(ahead.now.size)}"
    yield f"write    at most {ahead.more.files} files, about {human_bytes(ahead.more.size)}"
    year = ahead.year
    yield f"per year at most {year.files} files, about {human_bytes(year.size)}, for about {year.steps} steps"


def wide_console() -> Console:
    """Console for tables: as wide as the terminal; in a file or pipe wide enough for keys of scenes."""
    console = SafeConsole(file=raw(sys.stdout))
    return console if console.is_terminal else SafeConsole(file=raw(sys.stdout), width=160)


def summary_lines(out: Path, summary: Summary) -> Iterator[str]:
    """Outcome of a build as lines of text."""
    yield (
        f"{out}: {len(summary.sealed)} steps sealed, {len(summary.present)} were present, "
        f"{len(summary.replaced)} replaced, {len(summary.failed)} failed, in {summary.seconds:.1f} s"
    )
    for why in dict.fromkeys(summary.empty.values()):
        yield f"{why}: {', '.join(key for key, reason in summary.empty.items() if reason == why)}"
    outdated = [key for key in summary.superseded if key not in summary.replaced and key not in summary.empty]
    if outdated:
        yield f"newer items exist for {', '.join(outdated)}: --replace-superseded rebuilds these steps"
    for key, reason in summary.substituted.items():
        yield f"older items stand in: {key}: {reason}"
    for line in summary.failures():
        yield f"failed: {line}"
    if summary.stopped:
        yield STOPPED


def human_bytes(count: float) -> str:
    """A number of bytes with a unit: ``"3.2 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""
