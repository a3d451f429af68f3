"""Where a command runs: the options that many share, and the place they mean. It changes no pixel."""

from __future__ import annotations

from dataclasses import replace

import click

from stac2cube.cli.words import CUBE, Command, apply
from stac2cube.errors import BadInputError
from stac2cube.limits import Limits
from stac2cube.places.local import Local
from stac2cube.places.place import Place, usable_cores
from stac2cube.places.threads import Threads


def where_options(command: Command) -> Command:
    """Where the work runs; changes no pixel."""
    options = [
        click.option(
            "--place",
            type=click.Choice(["threads", "local", "slurm", "allocation", "gateway"]),
            default="threads",
            show_default=True,
            help="Threads of this process, worker processes on this machine, worker jobs on a SLURM cluster, the tasks "
            "of the SLURM job in which this runs, or workers of a Dask Gateway.",
        ),
        click.option(
            "--workers", type=click.IntRange(1), help="Threads, processes, jobs or workers; all there are if not said."
        ),
        click.option(
            "--site",
            help="Where, see `stac2cube sites`: for worker jobs and gateways, and for what a cube may grow to.",
        ),
        click.option(
            "--cluster",
            help="For gateways: a running cluster to use, by its name or its scheduler's address; $DASK_CLUSTER if not "
            "said, else a new one.",
        ),
        click.option("--test", is_flag=True, help="For worker jobs: the site's quick try."),
        click.option("--quiet", "-q", is_flag=True, help="No progress, warnings only."),
        click.option("--progress-file", type=CUBE, hidden=True),
    ]
    return apply(options, command)


def place_of(
    name: str, workers: int | None, site: str | None = None, *, test: bool = False, cluster: str | None = None
) -> Place:
    """The place asked for.

    Raises:
        BadInputError: It needs a site, or to run in a job.
    """
    if name == "gateway":
        from stac2cube.places.gateway import Gateway
        from stac2cube.site import find_site

        gateway = find_site(site).gateway if site else Gateway()
        gateway = gateway if workers is None else replace(gateway, workers=workers)
        return gateway if cluster is None else replace(gateway, cluster=cluster)
    if cluster is not None:
        raise BadInputError("--cluster NAME goes with --place gateway")
    if name == "slurm":
        from stac2cube.site import find_site, site_names

        if site is None:
            raise BadInputError(f"--place slurm: say --site NAME, one of {', '.join(site_names())}")
        place = find_site(site).place(test=test)
        return place if workers is None else replace(place, jobs=workers)
    if name == "allocation":
        from stac2cube.places.allocation import Allocation
        from stac2cube.places.slurm import Slurm
        from stac2cube.site import find_site

        known = find_site(site).slurm if site else Slurm()
        return Allocation.of_this_job(known.interface, dashboard=known.dashboard)
    count = workers or usable_cores()
    return Local(workers=count) if name == "local" else Threads(count)


def limits_of(site: str | None) -> Limits | None:
    """What a cube may grow to at a site; None where none is named, and the place itself knows or finds its own.

    Raises:
        BadInputError: The site is unknown.
    """
    if site is None:
        return None
    from stac2cube.site import find_site

    return find_site(site).limits
