"""The command line: options named like the arguments of the Python functions, one-line errors, exit codes."""

from __future__ import annotations

import errno
import re
import sys

import click

from stac2cube.cli.build import demo, layers, plan, update
from stac2cube.cli.catalogs import compare, explore, gaps, index, read, sample
from stac2cube.cli.datasets import download, patches, samples, statistics
from stac2cube.cli.derive import clouds, composite, coregister, indices, mask, move, overviews, superres, weights
from stac2cube.cli.export import cwl, export, item, publish, quicklook, report, series, slider, timelapse
from stac2cube.cli.jobs import cancel, doctor, logs, sites, submit
from stac2cube.cli.maintain import (
    catalogs,
    diff,
    history,
    missions,
    rollback,
    seal_year,
    status,
    sync,
    tidy,
    unlock,
    verify,
)
from stac2cube.cli.options import Sections, clean_streams
from stac2cube.cli.recipes import claim, config, run, seal, share, stage
from stac2cube.cli.run import begin_command, leave_stopped
from stac2cube.errors import IncompleteError, Stac2cubeError
from stac2cube.trust.text import shown
from stac2cube.version import __version__


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="stac2cube")
def cli() -> None:
    """Turn satellite catalogs (STAC) into analysis-ready Zarr cubes, and extend these cubes for years.

    Exit codes: 0 done; 1 the command was refused, nothing was written; 2 some steps failed, run it again; 10 stopped in
    time, run it again to continue.
    """


def as_typed(message: str, words: list[str]) -> str:
    """Rewrite an error for the command line: ``--max-shift`` for ``max_shift=`` or ``max_shift should be``.

    Only names of options that the command has are replaced.

    Args:
        message: Message of a Python function.
        words: The words of the command line.
    """
    command: click.Command = cli
    for word in words:
        if isinstance(command, click.Group) and word in command.commands:
            command = command.commands[word]
    flags = {option.name: max(option.opts, key=len) for option in command.params if isinstance(option, click.Option)}

    def typed(found: re.Match[str]) -> str:
        flag = flags.get(found["name"])
        return found[0] if flag is None else f"{flag} {found['value']}" if found["value"] else flag

    said = r"\b(?P<name>[a-z_]+)(?:=(?:'(?P<value>[^']*)'|(?=[\s,;:.)]|$))|(?= should be\b))"
    return re.sub(said, typed, message)


cli.add_sections(
    {
        "From catalogs to cubes": (layers, update, plan, run, stage, demo),
        "From cubes to cubes": (clouds, mask, coregister, move, superres, indices, composite, overviews),
        "Look at a cube": (status, quicklook, report, timelapse, slider),
        "Keep a cube": (sync, verify, history, diff, rollback, tidy, seal_year, unlock),
        "Export and publish": (export, series, publish),
        "Without a cube": (explore, index, read, sample, item),
        "Training sets": (download, samples, statistics, patches),
        "On a cluster": (submit, logs, cancel, claim, share, seal, sites, doctor, cwl),
        "Missions, catalogs, weights and recipes": (missions, catalogs, compare, gaps, weights, config),
    }
)


def main() -> None:
    """Run the command line; errors of ours and of the system are one line on standard error."""
    # A command without other handling of SIGTERM ends as by Ctrl-C, and so releases the cube, also for other nodes.
    begin_command()
    leave_stopped(run_words())


def run_words() -> int:
    """Run the command line with its output cleaned; returns the exit code."""
    with clean_streams():
        return _run()


def _run() -> int:
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 1
    except click.Abort:
        click.echo("interrupted", err=True)
        code = 10
    except Stac2cubeError as error:
        click.echo(f"stac2cube: {shown(as_typed(str(error), sys.argv[1:]), lines=True)}", err=True)
        code = 2 if isinstance(error, IncompleteError) else 1
    except OSError as error:
        # A folder that cannot be written, a full disk: the system's message is sufficient.
        where = f"{error.filename}: " if error.filename else ""
        advice = "; make room and run again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        click.echo(f"stac2cube: {where}{error.strerror or error}{advice}", err=True)
        code = 1
    except MemoryError:
        click.echo("stac2cube: there is not enough memory. What was sealed is safe; run again with more", err=True)
        code = 1
    return code if isinstance(code, int) else 0
