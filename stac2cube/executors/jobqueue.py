"""Start, watch and close worker jobs of SLURM, PBS and LSF through dask-jobqueue."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

import dask
from distributed import Client, Security, Status, Worker

from stac2cube.errors import BadInputError, PlaceError, SlurmError
from stac2cube.executors.base import cores_of_task
from stac2cube.executors.dask import Keys, Watch, executor_of, own_address, quiet_dask
from stac2cube.executors.queue import (
    ENDED,
    PATIENCE,
    JobScript,
    duration_seconds,
    in_job,
    last_words,
    lets_in_no_more,
    python_words,
)
from stac2cube.executors.worker_jobs import WorkerJobs

# Worker jobs in operation: dask-jobqueue scales them, our queue submits them; lost and refused jobs are reported and
# replaced.
#
# Only documented parts of dask-jobqueue and distributed are used: ``SLURMCluster(job_cls=...)``; the methods
# ``job_script``, ``start`` and ``close`` of a job; ``workers``, ``scale`` and ``scheduler_info`` of a cluster. We write
# the job scripts, because dask-jobqueue writes folders, names and Python's path into scripts without quotes. A job
# that SLURM refuses must not end the cluster, as an error raised by ``start`` would.

# On import, dask-jobqueue writes a file of comments into the user's ~/.config/dask.
_home = dask.config.PATH
with TemporaryDirectory() as _elsewhere:
    dask.config.PATH = _elsewhere
    from dask_jobqueue import SLURMCluster
    from dask_jobqueue.slurm import SLURMJob
dask.config.PATH = _home

log = logging.getLogger(__name__)

LIVES = 3
"""Most replacements per job without any block being made: a job that dies at once will die again."""

GOODBYE = 15.0
"""Seconds a worker gets to end before its job is cancelled."""

AGAIN = 300.0
"""Seconds after which a job that SLURM refused is submitted again while others work: it may be below the limit now."""

ALONE = 30.0
"""The same while no other job is alive."""

_USUAL = ("", "None", "Priority", "Resources", "BeginTime", "Cleaning")
"""Reasons for which jobs wait at every site; others are logged, as a limit or a held job may need a person to act."""

HELD = "launch failed requeued held"
"""Reason of a job whose node could not start it, as after an error of the site's prolog. SLURM puts it back into the
queue and holds it, so it never starts by itself."""

REFUSALS = 10
"""Consecutive refusals by SLURM, with no job left, after which the build ends."""


@contextmanager
def open_jobs(wanted: WorkerJobs, name: str) -> Iterator[Executor]:
    """Submit worker jobs and watch them.

    Scheduler and workers accept only connections with a key that is made for this run. The workers find it in a
    private folder beside their logs, which is removed at the end.

    Args:
        wanted: Settings of the jobs.
        name: Prefix of their names in SLURM, followed by a number.

    Raises:
        BadInputError: A value cannot be written into a job script.
        SlurmError: SLURM refuses all jobs, or they keep dying.
    """
    logs = Path(wanted.logs).resolve()
    with quiet_dask(dashboard=wanted.dashboard), Keys.made().stored(logs) as keys:
        submissions = _Submissions(wanted, keys, logs)
        options = {"job_cls": _Job, "submissions": submissions, "job_name": name, **_size(wanted)}
        with (
            _cluster(SLURMCluster, wanted, name, submissions.security, options) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            if wanted.dashboard:
                log.info("dashboard: %s", client.dashboard_link)
            jobs = _Jobs(wanted, cluster, submissions, name)
            try:
                with executor_of(client) as executor:
                    jobs.begin()
                    with Watch(jobs.look).over(executor):
                        yield executor
            finally:
                jobs.end()
                client.close()  # before its scheduler ends: otherwise it logs a lost connection
                cluster.close(timeout=2 * GOODBYE)


def _security(keys: Path) -> Security:
    """TLS settings of scheduler and workers, from a folder with the run's certificate and key."""
    return Keys(str(keys / "certificate.pem"), str(keys / "key.pem")).security()


class _Submissions:
    """Submits worker jobs, and keeps SLURM's last refusal.

    Args:
        wanted: Settings of the jobs.
        keys: Folder of the run's certificate and key.
        logs: Folder for their logs, absolute.

    Attributes:
        keys: As above.
        security: TLS settings of scheduler and workers.
        refusal: SLURM's last refusal of a job; None once it accepted one.
        answered: Set when SLURM has accepted or refused the first job.
    """

    def __init__(self, wanted: WorkerJobs, keys: Path, logs: Path) -> None:
        self._wanted = wanted
        self.keys = keys
        self.security = _security(keys)
        self._logs = logs
        self.refusal: SlurmError | None = None
        self.answered = threading.Event()

    def script(self, scheduler: str, worker: str) -> JobScript:
        """The script of a worker's job.

        Raises:
            BadInputError: A value cannot be written into a job script.
        """
        return self._wanted.worker_script(worker, scheduler, self.keys, self._logs)

    def submit(self, scheduler: str, worker: str) -> str:
        """Submit the job of a worker; returns its id, "" if SLURM refused it."""
        try:
            job = self._wanted.queue.submit(self.script(scheduler, worker))
        except SlurmError as error:
            self.refusal, job = error, ""
        else:
            self.refusal = None
        self.answered.set()
        return job

    def end(self, job: str) -> None:
        """Let the worker of a job, which was asked to stop, end by itself (COMPLETED); otherwise cancel the job."""
        queue, give_up = self._wanted.queue, time.monotonic() + GOODBYE
        try:
            while set(states := set(queue.states([job]).values())) & {"RUNNING", "COMPLETING"}:
                if time.monotonic() > give_up:
                    break
                time.sleep(0.3)
            if states - ENDED:
                queue.cancel([job])
        except SlurmError as error:
            # Without its scheduler the worker ends by itself.
            log.warning("worker job %s may still wait or run: %s", job, error)


class _Job(SLURMJob):  # type: ignore[misc] # dask-jobqueue has no types
    """One worker job, as dask-jobqueue scales it."""

    def __init__(self, scheduler: Any = None, name: Any = None, *, submissions: _Submissions, **options: Any) -> None:
        super().__init__(scheduler=scheduler, name=name, **options)
        self._submissions = submissions

    def job_script(self) -> str:
        """The script that is submitted."""
        return self._submissions.script(str(self.scheduler), str(self.name)).text

    async def start(self) -> None:
        """Submit the job. A refused job has no id; it is submitted again later."""
        self.job_id = await asyncio.to_thread(self._submissions.submit, str(self.scheduler), str(self.name))
        self.status = Status.running

    async def close(self) -> None:
        """End the job."""
        if self.job_id and self.status != Status.closed:
            await asyncio.to_thread(self._submissions.end, self.job_id)
        self.status = Status.closed


def _cluster(kind: Any, wanted: WorkerJobs, name: str, security: Security, options: Mapping[str, Any]) -> Any:
    """A cluster of a class of dask-jobqueue, with the scheduler in this process.

    Args:
        kind: Class of dask-jobqueue.
        wanted: Settings of its worker jobs.
        name: Name of the cluster.
        security: TLS settings of scheduler and workers.
        options: Further arguments of the class.
    """
    host = own_address(wanted.interface)
    return kind(
        name=name,
        security=security,
        protocol="tls://",
        # Even without a dashboard Dask listens: on loopback, where the network does not reach it.
        scheduler_options={"host": host, "dashboard": wanted.dashboard, "dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.ERROR,
        **options,
    )


def _size(wanted: WorkerJobs) -> dict[str, Any]:
    """Resources of a job, as arguments of dask-jobqueue."""
    return {"cores": wanted.cores, "processes": 1, "memory": f"{wanted.memory_bytes}B"}


class _Jobs:
    """The worker jobs of a run.

    Args:
        wanted: Settings and number of the jobs.
        cluster: Scales the jobs.
        submissions: Submits the jobs.
        name: Name of the cluster, the prefix of the names of the jobs.
    """

    def __init__(self, wanted: WorkerJobs, cluster: SLURMCluster, submissions: _Submissions, name: str) -> None:
        self._wanted = wanted
        self._queue = wanted.queue
        self._cluster = cluster
        self._submissions = submissions
        self._name = name
        self._seen: set[str] = set()
        self._preempted: set[str] = set()
        self._said: set[str] = set()
        self._most = self._lost = self._refusals = 0
        self._next = 0.0
        self._helper: Worker | None = None

    def begin(self) -> None:
        """Submit the first job, whose refusal ends the build, then the others.

        Where SLURM refuses it because there are too many jobs, and this process itself runs in a job, this process
        starts a worker: the queue may be full of the jobs that wait for this one to end.

        Raises:
            SlurmError: SLURM refuses, with its message, or does not answer.
        """
        try:
            self._queue.test(self._submissions.script(self._cluster.scheduler_address, self._name))
            self._cluster.scale(jobs=1)
            if not self._submissions.answered.wait(2 * PATIENCE):
                raise SlurmError(f"sbatch did not answer within {2 * PATIENCE} s: is SLURM's controller up?")
            if self._submissions.refusal:
                raise self._submissions.refusal
        except SlurmError as error:
            on_node = in_job() and os.environ.get("SLURMD_NODENAME")  # not in salloc's shell on a login node
            if not (on_node and lets_in_no_more(str(error))):
                raise
            self._helper = self._cluster.sync(self._start_helper)
            self._once(f"no worker job is let in: this job makes blocks itself, and asks again: {error}", str(error))
        self._cluster.scale(jobs=self._wanted.jobs)
        log.info("submitting %d worker job(s) %s", self._wanted.jobs, self._name)

    def end(self) -> None:
        """End the worker in this process, if there is one."""
        if self._helper is not None:
            with suppress(OSError, TimeoutError):
                self._cluster.sync(self._helper.close)

    async def _start_helper(self) -> Worker:
        """Start a worker in this process, with the cores of its job; a second Python would need more memory."""
        helper: Worker = await Worker(
            self._cluster.scheduler_address,
            nthreads=cores_of_task(),
            name=f"{self._name}-here",
            memory_limit=0,  # SLURM limits the job; this process cannot be restarted
            security=self._submissions.security,
            local_directory=tempfile.gettempdir(),
            dashboard=False,
            dashboard_address="127.0.0.1:0",
        )
        return helper

    def look(self) -> str:
        """Replace lost jobs; returns why the work cannot go on, "" if it can.

        Raises:
            SlurmError: SLURM cannot be queried just now.
        """
        # One list for both calls: the jobs may change while SLURM answers.
        jobs = list(self._cluster.workers.values())
        self._miss(jobs)
        if self._cluster.scheduler_info["workers"]:
            self._lost = 0
        elif self._lost > LIVES * max(1, self._most):
            said = last_words(Path(self._wanted.logs).resolve(), f"{self._name}-*")
            return f"{self._lost} worker jobs ended without doing any work. Their last words: {said or 'none'}"
        return self._fill(jobs)

    def _miss(self, jobs: Sequence[_Job]) -> None:
        """Forget jobs that have ended."""
        self._seen |= {job.job_id for job in jobs if job.job_id}
        waiting = self._queue.waiting(self._seen)
        states = {job: state for job, (state, _) in waiting.items()}
        # A preempted job that SLURM requeues by itself comes back; otherwise its state stays PREEMPTED.
        preempted = {job for job in self._seen if states.get(job) == "PREEMPTED"}
        gone = {job for job in self._seen if states.get(job, "COMPLETED") in ENDED} - (preempted - self._preempted)
        self._preempted = preempted - gone
        # squeue writes spaces or underscores.
        held = {job for job, (state, reason) in waiting.items() if HELD in reason.replace("_", " ")} - gone
        if held:
            log.warning("worker job(s) %s: %s; they are cancelled and replaced", ", ".join(sorted(held)), HELD)
            self._queue.cancel(sorted(held))
            self._seen -= held
            self._lost += len(held)
            self._forget(held)
        if gone:
            self._seen -= gone
            self._lost += len(gone)
            log.warning("worker job(s) %s ended; they are replaced", ", ".join(sorted(gone)))
            self._forget(gone)
        for job, (state, reason) in waiting.items():
            if state == "PENDING" and job not in held and reason.strip("()") not in _USUAL:
                self._once(f"worker job {job} waits ({reason}); the build goes on with those that run", reason)

    def _fill(self, jobs: Sequence[_Job]) -> str:
        """Submit missing jobs, unless SLURM refused some just now; returns why the work cannot go on, "" if it can."""
        alive = len(self._seen)
        self._most = max(self._most, alive)
        refused = any(not job.job_id and job.status == Status.running for job in jobs)
        if refused and (error := self._submissions.refusal) and (alive or self._helper is None):
            let_in = f"{alive} of {self._wanted.jobs} worker jobs were let in"
            self._once(f"{let_in}, and the build goes on with them: {error}", str(error))
        now = time.monotonic()
        if alive:
            self._refusals = 0
        elif self._next:
            self._next = min(self._next, now + ALONE)
        if not refused:
            self._next = 0.0
        elif not self._next:
            self._next = now + (AGAIN if alive else ALONE)
            self._refusals += not alive and self._helper is None
            if self._refusals >= REFUSALS:
                return f"no worker job is left, and SLURM lets no other in: {self._submissions.refusal}"
        elif now >= self._next:
            self._next = 0.0
            self._forget({""})
        self._cluster.scale(jobs=self._wanted.jobs)
        return ""

    def _forget(self, jobs: set[str]) -> None:
        # The cluster notices the loss only of workers that it has seen. A job that was refused, or died before its
        # worker connected, is removed here, so that scale() makes another.
        connected = {worker["name"] for worker in self._cluster.scheduler_info["workers"].values()}
        for name, job in list(self._cluster.workers.items()):
            if job.job_id in jobs and job.status == Status.running and name not in connected:
                self._cluster.loop.add_callback(self._cluster.workers.pop, name, None)

    def _once(self, words: str, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            log.warning("%s", words)


# Worker jobs of PBS and LSF, written and submitted by dask-jobqueue; tested by their scripts, not on real clusters.


def _classes(scheduler: str) -> tuple[Any, Any]:
    """Dask-jobqueue's classes of clusters and of jobs."""
    # These imports come after ours above, which keeps dask-jobqueue from writing a file into the home.

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
        wanted: Settings of the jobs; its ``scheduler`` is PBS or LSF.
        name: Name of the jobs.

    Raises:
        BadInputError: A value cannot be written into dask-jobqueue's scripts.
        PlaceError: A job is refused, or the scheduler's programs do not exist.
    """
    clusters, jobs = _classes(wanted.scheduler)
    program = jobs.submit_command
    if which(program) is None:
        raise PlaceError(f"there is no {program!r} on PATH: run this where jobs can be submitted")
    logs = Path(wanted.logs).resolve()
    refusals: list[str] = []
    with quiet_dask(dashboard=wanted.dashboard), Keys.made().stored(logs) as keys:
        options = {"job_cls": _telling(jobs, refusals), **job_options(wanted, name, keys, logs)}
        with (
            _cluster(clusters, wanted, name, _security(keys), options) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):

            def look() -> str:
                # Submit ended jobs again.
                cluster.scale(jobs=wanted.jobs)
                return refusals[0] if refusals and not cluster.scheduler_info["workers"] else ""

            with executor_of(client) as executor, Watch(look, error=PlaceError).over(executor):
                yield executor


def batch_script(wanted: WorkerJobs, name: str, scheduler: str, keys: Path, logs: Path) -> str:
    """The script of a worker's job.

    Args:
        wanted: Settings of the job.
        name: Name of the job.
        scheduler: Address of Dask's scheduler.
        keys: Folder of the run's certificate and key.
        logs: Folder for logs, absolute.

    Raises:
        BadInputError: A value cannot be written into dask-jobqueue's scripts.
    """
    job = _classes(wanted.scheduler)[1](scheduler=scheduler, name=name, **job_options(wanted, name, keys, logs))
    return str(job.job_script())


def job_options(wanted: WorkerJobs, name: str, keys: Path, logs: Path) -> dict[str, Any]:
    """Arguments of dask-jobqueue's classes of jobs.

    Raises:
        BadInputError: A folder, name or Python has characters that dask-jobqueue would write without quotes.
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
        **_size(wanted),
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
        "worker_command": "stac2cube.executors.worker",
        "worker_extra_args": ["--keys", str(keys), "--lifetime", f"{seconds - margin:.0f}s"],
    }


def _telling(base: Any, refusals: list[str]) -> Any:
    """A class of jobs that records why one was refused, which dask-jobqueue only logs."""

    class Told(base):  # type: ignore[misc] # dask-jobqueue has no types
        async def start(self) -> None:
            """Submit the job; a refused job has no id."""
            try:
                await super().start()
            except (RuntimeError, ValueError) as error:
                refusals.append(" ".join(str(error).split()))
                self.job_id, self.status = "", Status.running

    return Told
