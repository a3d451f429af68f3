"""Worker jobs on a SLURM cluster, or tasks inside the allocation of the present job."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from stac2cube.errors import BadInputError
from stac2cube.executors.base import hyperthreads, per_node
from stac2cube.executors.queue import TOKEN, in_job, last_words, memory_bytes, require_log_folder
from stac2cube.executors.worker import tls_settings
from stac2cube.executors.worker_jobs import WorkerJobs

if TYPE_CHECKING:
    from stac2cube.executors.dask import Keys


# The place inside one SLURM job of several tasks: srun starts a worker per task on the job's nodes.

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allocation:
    """Workers on the nodes of the job in which this process runs: no further job is submitted.

    Each worker determines on its node how much memory it may use, see
    :func:`stac2cube.executors.base.memory_of_task`.

    Attributes:
        tasks: Number of workers, one per task of the job.
        cores: Threads per worker, the job's cores per task.
        memory: Limit per worker as Dask writes it, ``"8GiB"``; "auto" for the memory that SLURM gives its task on its
            node, which is the most that any limit allows. Workers use at most nine tenths.
        interface: Network interface on which nodes reach each other. Default: that of the host name.
        dashboard: Whether Dask serves its dashboard, on loopback of the node on which this process runs.
    """

    tasks: int
    cores: int = 1
    memory: str = "auto"
    interface: str = ""
    dashboard: bool = False

    @classmethod
    def of_this_job(cls, interface: str = "", *, dashboard: bool = False) -> Allocation:
        """As many workers as the job has tasks, with the cores that SLURM gives each.

        Args:
            interface: See the class.
            dashboard: See the class.

        Raises:
            BadInputError: This process does not run in a SLURM job.
        """
        if not in_job():
            raise BadInputError("the place 'allocation' is for the inside of a SLURM job: use it in an sbatch script")
        cpus = per_node(os.environ.get("SLURM_JOB_CPUS_PER_NODE", "1"))
        nodes = _count("SLURM_JOB_NUM_NODES") or _count("SLURM_NNODES") or len(cpus)
        # As srun counts tasks: one per node by default.
        tasks = _count("SLURM_NTASKS") or nodes * (_count("SLURM_NTASKS_PER_NODE") or 1)
        each = per_node(os.environ.get("SLURM_TASKS_PER_NODE", "")) or [-(-tasks // nodes)] * nodes
        threads = hyperthreads(os.environ)
        fair = min((have // threads // max(1, takes) for have, takes in zip(cpus, each, strict=False)), default=1)
        return cls(tasks, _count("SLURM_CPUS_PER_TASK") or max(1, fair), interface=interface, dashboard=dashboard)

    @property
    def parallel(self) -> int:
        """Number of blocks processed at the same time."""
        return self.tasks * self.cores

    @property
    def on_cluster(self) -> bool:
        """Always True: this process runs in a job."""
        return True

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Start the workers as a job step, with the scheduler in this process; they end with the context.

        Raises:
            SlurmError: All workers are lost.
        """
        from distributed import Client

        from stac2cube.executors.dask import Keys, Watch, closed_scheduler, executor_of, own_address, quiet_dask

        keys = Keys.made()
        # The scheduler listens on an address that other nodes reach.
        host = own_address(self.interface)
        with (
            quiet_dask(dashboard=self.dashboard),
            TemporaryDirectory(prefix="stac2cube-") as logs,
            closed_scheduler(keys, host=host, dashboard=self.dashboard, n_workers=0) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            step = self._srun(cluster.scheduler_address, keys, Path(logs))
            watch = Watch(lambda: _lost(step, Path(logs)))
            try:
                with executor_of(client) as executor, watch.over(executor):
                    yield executor
            finally:
                _end(step)

    def explain(self, error: BaseException) -> str:
        """Explain the error of a worker that keeps dying."""
        from stac2cube.executors.dask import dead_worker

        limit = f"a task has its share of the job's memory for {self.cores} cores"
        return dead_worker(error, limit, "more with --mem-per-cpu in the job script")

    def _srun(self, address: str, keys: Keys, logs: Path) -> subprocess.Popen[bytes]:
        worker = [sys.executable, "-m", "stac2cube.executors.worker", address, "--threads", str(self.cores)]
        worker += [] if self.memory == "auto" else ["--memory", str(memory_bytes(self.memory))]
        worker += ["--interface", self.interface] if self.interface else []
        # --no-kill: a node that fails ends its own worker, not the others. --overlap: the first task shares its node
        # with this process. --export: needed in jobs submitted with --export=NONE. --output: one file, which srun
        # writes here; a file per task would be written on each node, where this folder may not exist.
        step = [
            "srun", f"--ntasks={self.tasks}", f"--cpus-per-task={self.cores}", "--no-kill", "--kill-on-bad-exit=0",
            "--overlap", "--mpi=none", "--export=ALL", f"--output={_pattern(logs)}/workers.log", "--label",
        ]  # fmt: skip
        log.info("starting %d worker(s) of %d core(s) in this job", self.tasks, self.cores)
        # The key is passed in the environment, which no other user can read, so no shared folder is needed.
        own = {name: value for name, value in os.environ.items() if name != TOKEN}
        environment = own | tls_settings(keys.certificate, keys.key)
        return subprocess.Popen([*step, *worker], stdin=subprocess.DEVNULL, env=environment)


def _pattern(folder: Path) -> str:
    """A folder in a file name pattern of srun, with its percent signs escaped."""
    return str(folder).replace("%", "%%")


def _count(name: str) -> int:
    said = os.environ.get(name, "")
    return int(said) if said.isdigit() else 0


def _lost(step: subprocess.Popen[bytes], logs: Path) -> str:
    code = step.poll()
    return "" if code is None else f"all workers of this job ended (srun: {code}): {last_words(logs, '*') or 'no word'}"


_ENDS = 20.0
"""Seconds that srun has to end by itself, and again when it is told to: it waits for nodes that may be lost."""


def _end(step: subprocess.Popen[bytes]) -> None:
    for stop in (step.terminate, step.kill):
        try:
            step.wait(timeout=_ENDS)
        except subprocess.TimeoutExpired:
            stop()
        else:
            return
    step.wait()


# The place on a cluster: every worker is a separate SLURM job.


@dataclass(frozen=True)
class Slurm(WorkerJobs):
    """Worker jobs on a SLURM cluster; usually read from a site file, see :func:`stac2cube.executors.site.find_site`.

    Its fields are those of :class:`~stac2cube.executors.worker_jobs.WorkerJobs`.
    """

    @property
    def parallel(self) -> int:
        """Number of blocks processed at the same time."""
        return self.jobs * self.cores

    @property
    def on_cluster(self) -> bool:
        """Always True: blocks are made in jobs, also when this process runs on a login node."""
        return True

    def require_logs(self) -> None:
        """Refuse a log folder in which SLURM cannot write; commands call this before they write anything.

        Raises:
            BadInputError: Its path has a backslash or a control character.
        """
        require_log_folder(Path(self.logs).absolute())

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Submit worker jobs, with the scheduler in this process; they end with the context.

        Raises:
            BadInputError: A folder or value of the site cannot be written into a job script, or several clusters are
                named.
            SlurmError: SLURM refuses all jobs, or they keep dying.
        """
        from stac2cube.executors.jobqueue import open_batch_jobs, open_jobs  # importing dask takes long

        by_slurm = self.scheduler == "slurm"
        here = replace(self, clusters=self.beside_this_job()) if by_slurm else self
        if by_slurm:
            self.require_logs()
        Path(self.logs).mkdir(parents=True, exist_ok=True)
        start = open_jobs if by_slurm else open_batch_jobs
        with start(here, f"s2c-workers-{os.getpid()}") as executor:
            yield executor

    def explain(self, error: BaseException) -> str:
        """Explain the error of a worker that keeps dying."""
        from stac2cube.executors.dask import dead_worker

        if self.takes_what_it_gets:
            said = ", ".join(self.directives) or f"memory_as = {self.memory_as}"
            return dead_worker(error, f"a job has what {said} gives {self.cores} cores", "more, or for fewer cores")
        more = f"more with memory = {2 * self.memory_bytes / 2**30:g}GiB, or for fewer cores per job"
        return dead_worker(error, f"a job has {self.memory} for {self.cores} cores", more)
