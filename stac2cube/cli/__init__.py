"""The command line: the same words as the Python functions, one clear line for every error, honest exit codes."""

from __future__ import annotations

import sys

import click

from stac2cube.cli.care import diff, rollback, seal_year, sync, tidy, verify
from stac2cube.cli.catalogs import compare, gaps
from stac2cube.cli.clouds import clouds, mask
from stac2cube.cli.config import config
from stac2cube.cli.cwl import cwl
from stac2cube.cli.derive import composite, indices, overviews
from stac2cube.cli.doctor import doctor
from stac2cube.cli.explore import explore
from stac2cube.cli.index import index
from stac2cube.cli.item import item
from stac2cube.cli.jobs import cancel, logs, sites, submit
from stac2cube.cli.look import catalogs, history, missions, status, unlock
from stac2cube.cli.make import demo, layers, plan, update
from stac2cube.cli.out import export, publish, report, series
from stac2cube.cli.patches import patches, statistics
from stac2cube.cli.reads import read, sample
from stac2cube.cli.recipes import claim, run, seal, share, stage
from stac2cube.cli.registration import coregister, move
from stac2cube.cli.show import quicklook, slider, timelapse
from stac2cube.cli.superres import superres, weights
from stac2cube.cli.training import download, samples
from stac2cube.errors import IncompleteError, Stac2cubeError
from stac2cube.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="stac2cube")
def cli() -> None:
    """Satellite catalogs to analysis-ready Zarr cubes that can be extended safely for years.

    Exit codes: 0 done; 1 asked wrongly, nothing was written; 2 some steps failed, run again; 10 stopped in time, run
    again.
    """


for command in (
    *(layers, clouds, mask, coregister, move, superres, indices, composite, update, plan, run, status),
    *(history, missions, catalogs, export, publish, quicklook, report, unlock, demo, sync, verify),
    *(download, samples, diff, rollback, tidy, statistics, patches, weights, compare, gaps, submit),
    *(cancel, logs, sites, doctor, stage, claim, share, seal, seal_year, overviews, index, read),
    *(sample, item, cwl, config, explore, timelapse, slider, series),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors of ours and of the system are one line on standard error."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 1
    except click.Abort:
        click.echo("interrupted", err=True)
        code = 10
    except Stac2cubeError as error:
        click.echo(f"stac2cube: {error}", err=True)
        code = 2 if isinstance(error, IncompleteError) else 1
    except OSError as error:
        # A folder that cannot be written, a full disk: what the system says is all that there is to say.
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"stac2cube: {where}{error.strerror or error}", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
