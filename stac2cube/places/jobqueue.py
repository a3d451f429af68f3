"""dask-jobqueue, with what a shared cluster needs set right."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import dask
from distributed import Client, Status

from stac2cube.errors import SlurmError
from stac2cube.places.dasking import MALLOC, Watch, quiet_dask, send_home
from stac2cube.places.queue import ENDED, Queue, duration_seconds, last_words, without_job
from stac2cube.places.worker_jobs import WorkerJobs

# On import dask-jobqueue puts a file of comments into the user's ~/.config/dask.
_home = dask.config.PATH
with TemporaryDirectory() as _elsewhere:
    dask.config.PATH = _elsewhere
    from dask_jobqueue import SLURMCluster
    from dask_jobqueue.slurm import SLURMJob
dask.config.PATH = _home

log = logging.getLogger(__name__)

LIVES = 3
"""Times each job may be replaced at most without any block being made: a job that dies at once will die again."""

GOODBYE = 15.0
"""Seconds a worker gets to end before its job is cancelled."""


@contextmanager
def open_jobs(wanted: WorkerJobs, name: str) -> Iterator[Executor]:
    """Submit worker jobs and watch over them.

    Raises:
        SlurmError: SLURM refuses the jobs, or they keep dying.
    """
    with quiet_dask():
        cluster = _cluster(wanted, name)
        try:
            wanted.queue.test(cluster.job_script())
        except SlurmError:
            cluster.close()
            raise
        with Client(cluster, set_as_default=False) as client:
            jobs = _Jobs(wanted, cluster, name)
            executor = client.get_executor(pure=False)
            try:
                cluster.scale(jobs=wanted.jobs)
                log.info("submitted %d worker job(s) %s", wanted.jobs, name)
                with Watch(jobs.look).over(executor):
                    yield executor
            finally:
                executor.shutdown(wait=False)
                send_home(client)
                cluster.close(timeout=30)


class _Jobs:
    """The worker jobs of an open cluster."""

    def __init__(self, wanted: WorkerJobs, cluster: SLURMCluster, name: str) -> None:
        self._wanted = wanted
        self._cluster = cluster
        self._name = name
        self._lost = 0
        self._seen: set[str] = set()

    def look(self) -> str:
        """Replace lost jobs; why the work cannot go on, if so."""
        self._seen |= {job.job_id for job in list(self._cluster.workers.values()) if job.job_id}
        states = self._wanted.queue.states(self._seen)
        # A job that is preempted or whose node fails is requeued by SLURM itself, and comes back by itself.
        gone = {job for job in self._seen if states.get(job, "COMPLETED") in ENDED - {"PREEMPTED"}}
        if gone:
            self._seen -= gone
            self._lost += len(gone)
            log.warning("worker job(s) %s ended; they are replaced", ", ".join(sorted(gone)))
            self._forget(gone)
        if self._cluster.scheduler_info["workers"]:
            self._lost = 0
        elif self._lost > LIVES * self._wanted.jobs:
            said = last_words(Path(self._wanted.logs), f"{self._name}-*")
            return f"{self._lost} worker jobs ended without doing any work. Their last words: {said or 'none'}"
        self._cluster.scale(jobs=self._wanted.jobs)
        return ""

    def _forget(self, gone: set[str]) -> None:
        # The scheduler misses only workers that it has seen: a job that died before is forgotten here, so that scale()
        # makes another.
        connected = {worker["name"] for worker in self._cluster.scheduler_info["workers"].values()}
        for name, job in list(self._cluster.workers.items()):
            if job.job_id in gone and name not in connected:
                self._cluster.loop.add_callback(self._cluster.workers.pop, name, None)


def _states(queue: Queue, jobs: list[str]) -> dict[str, str]:
    """States of jobs; of a queue that cannot be asked just now, nothing."""
    try:
        return queue.states(jobs)
    except SlurmError as error:
        log.warning("%s", error)
        return {}


def _cluster(wanted: WorkerJobs, name: str) -> SLURMCluster:
    seconds = duration_seconds(wanted.walltime) or 0.0
    # Workers leave before they are killed, not all at the same moment.
    margin = max(30.0, min(300.0, seconds / 10))
    lifetime = ["--lifetime", f"{seconds - margin:.0f}s", "--lifetime-stagger", f"{margin / 3:.0f}s"]
    return SLURMCluster(
        job_cls=_job_class(wanted),
        cores=wanted.cores,
        processes=1,
        memory=f"{int(wanted.memory_bytes * 0.9)}B",
        job_cpu=wanted.cores,
        job_mem=f"{wanted.memory_bytes // 2**20}M",
        queue=wanted.partition or None,
        account=wanted.account or None,
        walltime=wanted.walltime,
        job_extra_directives=["--nodes=1", "--requeue", "--open-mode=append", *_extra(wanted)],
        # Nodes do not have this process's settings of dask.
        job_script_prologue=[*(f"export {name}={size}" for name, size in MALLOC.items()), *wanted.prologue],
        python=wanted.python or None,
        interface=wanted.interface or None,
        local_directory="${TMPDIR:-/tmp}",
        log_directory=wanted.logs,
        job_name=name,
        name=name,
        worker_extra_args=lifetime,
        death_timeout=120,
        scheduler_options={"dashboard_address": ":0"},
        silence_logs=logging.ERROR,
    )


def _extra(wanted: WorkerJobs) -> list[str]:
    return [*([f"--clusters={wanted.clusters}"] if wanted.clusters else []), *wanted.directives]


def worker_command(command: str, clusters: str) -> str:
    """A command of SLURM as dask-jobqueue runs it: without the variables of the driver's own job.

    Sbatch would take them for options. dask-jobqueue splits the text as a shell does, and has no public way to give a
    command an environment; env has.

    Args:
        command: ``"sbatch"`` or ``"scancel"``.
        clusters: Clusters of a federation that it is meant for, "" for the own one.
    """
    own = sorted(os.environ.keys() - without_job().keys())
    return shlex.join(
        ["env", *(f"--unset={name}" for name in own), command, *([f"--clusters={clusters}"] if clusters else [])]
    )


def _job_class(wanted: WorkerJobs) -> type[SLURMJob]:
    """A SLURMJob that names the cluster to scancel too, and does not hand on what describes the driver's own job."""

    class Job(SLURMJob):  # type: ignore[misc] # dask-jobqueue has no types
        submit_command = worker_command("sbatch", wanted.clusters)
        cancel_command = worker_command("scancel", wanted.clusters)

        async def close(self) -> None:
            """Let a worker that was told to go end its job by itself, so that it is COMPLETED and not CANCELLED."""
            give_up = time.monotonic() + GOODBYE
            while time.monotonic() < give_up:
                states = await asyncio.to_thread(_states, wanted.queue, [self.job_id])
                if not set(states.values()) & {"RUNNING", "COMPLETING"}:
                    break
                await asyncio.sleep(0.3)
            if set(states.values()) - ENDED:
                await super().close()
            self.status = Status.closed

    return Job
