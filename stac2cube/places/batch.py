"""Worker jobs of PBS and LSF, as dask-jobqueue writes and submits them; made and read as text, untried on real ones."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

from distributed import Client, Status
from distributed.utils import get_ip, get_ip_interface

from stac2cube.errors import BadInputError, PlaceError
from stac2cube.places.dasking import Watch, quiet_dask, send_home
from stac2cube.places.keys import Keys
from stac2cube.places.queue import duration_seconds
from stac2cube.places.script import python_words
from stac2cube.places.worker_jobs import WorkerJobs

log = logging.getLogger(__name__)


def _classes(scheduler: str) -> tuple[Any, Any]:
    """Dask-jobqueue's classes of clusters and of jobs."""
    # First ours, which sees to it that dask-jobqueue writes no file into the home.
    from stac2cube.places.jobqueue import LIVES  # noqa: F401

    if scheduler == "pbs":
        from dask_jobqueue import PBSCluster
        from dask_jobqueue.pbs import PBSJob

        return PBSCluster, PBSJob
    from dask_jobqueue import LSFCluster
    from dask_jobqueue.lsf import LSFJob

    return LSFCluster, LSFJob


@contextmanager
def open_batch_jobs(wanted: WorkerJobs, name: str) -> Iterator[Executor]:
    """Submit worker jobs to PBS or LSF, with the scheduler in this process; they end with the context.

    Args:
        wanted: What they are; its ``scheduler`` says to which.
        name: What the jobs are called.

    Raises:
        BadInputError: A value cannot stand in dask-jobqueue's scripts.
        PlaceError: A job is refused, or the scheduler's programs are not there.
    """
    clusters, jobs = _classes(wanted.scheduler)
    program = jobs.submit_command
    if which(program) is None:
        raise PlaceError(f"there is no {program!r} on PATH: run this where jobs can be submitted")
    logs = Path(wanted.logs).resolve()
    refusals: list[str] = []
    with quiet_dask(dashboard=wanted.dashboard), Keys.made().stored(logs) as keys:
        host = get_ip_interface(wanted.interface) if wanted.interface else get_ip()
        with (
            clusters(
                job_cls=_telling(jobs, refusals),
                name=name,
                security=Keys(str(keys / "certificate.pem"), str(keys / "key.pem")).security(),
                protocol="tls://",
                scheduler_options={"host": host, "dashboard": False, "dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.ERROR,
                **job_options(wanted, name, keys, logs),
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):

            def look() -> str:
                # Jobs that have ended are submitted again.
                cluster.scale(jobs=wanted.jobs)
                return refusals[0] if refusals and not cluster.scheduler_info["workers"] else ""

            executor = client.get_executor(pure=False)
            try:
                with Watch(look, error=PlaceError).over(executor):
                    yield executor
            finally:
                executor.shutdown(wait=False)
                send_home(client)


def batch_script(wanted: WorkerJobs, name: str, scheduler: str, keys: Path, logs: Path) -> str:
    """The text of a worker's job.

    Args:
        wanted: What it is.
        name: What the job is called.
        scheduler: Address of dask's scheduler.
        keys: Folder of the run's certificate and key.
        logs: For logs, absolute.

    Raises:
        BadInputError: A value cannot stand in dask-jobqueue's scripts.
    """
    job = _classes(wanted.scheduler)[1](scheduler=scheduler, name=name, **job_options(wanted, name, keys, logs))
    return str(job.job_script())


def job_options(wanted: WorkerJobs, name: str, keys: Path, logs: Path) -> dict[str, Any]:
    """What dask-jobqueue's classes are told.

    Raises:
        BadInputError: A folder, name or Python holds what dask-jobqueue would write into a script without quotes.
    """
    python = python_words(wanted.python)
    for value in (str(keys), str(logs), name, wanted.partition, wanted.account, wanted.interface, *python):
        if not re.fullmatch(r"[\w@%+=:,./-]*", value, re.ASCII):
            raise BadInputError(
                f"{value!r}: worker jobs of {wanted.scheduler} take letters, digits and @%+=:,./-_ alone in folders, "
                "names and Python's path; say other `logs` or another `python` in the site file"
            )
    seconds = duration_seconds(wanted.walltime) or 0.0
    hours, minutes = divmod(-(-int(seconds) // 60), 60)
    # LSF takes no seconds.
    walltime = f"{hours:02}:{minutes:02}" + (":00" if wanted.scheduler == "pbs" else "")
    margin = max(30.0, min(300.0, seconds / 10))
    return {
        "cores": wanted.cores,
        "processes": 1,
        "memory": f"{wanted.memory_bytes}B",
        "queue": wanted.partition or None,
        ("account" if wanted.scheduler == "pbs" else "project"): wanted.account or None,
        "walltime": walltime,
        "job_extra_directives": list(wanted.directives),
        "job_script_prologue": list(wanted.prologue),
        "python": " ".join(python),
        "job_name": name,
        "log_directory": str(logs),
        "death_timeout": 120,
        "interface": wanted.interface or None,
        "worker_command": "stac2cube.places.worker",
        "worker_extra_args": ["--keys", str(keys), "--lifetime", f"{seconds - margin:.0f}s"],
    }


def _telling(base: Any, refusals: list[str]) -> Any:
    """A class of jobs that says why one was refused, which dask-jobqueue only logs."""

    class Told(base):  # type: ignore[misc] # dask-jobqueue has no types
        async def start(self) -> None:
            """Submit the job; one that is refused has no id."""
            try:
                await super().start()
            except (RuntimeError, ValueError) as error:
                refusals.append(" ".join(str(error).split()))
                self.job_id, self.status = "", Status.running

    return Told
