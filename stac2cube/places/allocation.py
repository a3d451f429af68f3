"""The place inside one SLURM job of several tasks: a worker per task, started by srun on the job's own nodes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from stac2cube.errors import BadInputError
from stac2cube.places.queue import in_job, last_words

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allocation:
    """Workers on the nodes of the job in which this process runs: no further job is submitted.

    Attributes:
        tasks: Workers, one per task of the job.
        cores: Threads per worker, the job's cores per task.
        memory: Limit per worker as dask writes it, "auto" for none of its own.
        interface: Network interface on which nodes reach each other; what the host name means if "".
    """

    tasks: int
    cores: int = 1
    memory: str = "auto"
    interface: str = ""

    @classmethod
    def of_this_job(cls, interface: str = "") -> Allocation:
        """As many workers as the job has tasks, with the cores and memory that SLURM gives each.

        Raises:
            BadInputError: This process does not run in a SLURM job.
        """
        if not in_job():
            raise BadInputError("the place 'allocation' is for the inside of a SLURM job: use it in an sbatch script")
        tasks = int(os.environ.get("SLURM_NTASKS", "1"))
        cores = int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))
        per_core = os.environ.get("SLURM_MEM_PER_CPU")
        memory = f"{int(int(per_core) * cores * 0.9)}MiB" if per_core else "auto"
        return cls(tasks, cores, memory, interface)

    @property
    def parallel(self) -> int:
        """Blocks worked on at the same time."""
        return self.tasks * self.cores

    @property
    def on_cluster(self) -> bool:
        """Always: it is a job."""
        return True

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Start the workers as a job step, with the scheduler in this process; they end with the context.

        Raises:
            SlurmError: Every worker is lost.
        """
        from distributed import Client, LocalCluster
        from distributed.utils import get_ip, get_ip_interface

        from stac2cube.places.dasking import Watch, quiet_dask, send_home

        # An address that other nodes reach: LocalCluster by itself listens on 127.0.0.1.
        host = get_ip_interface(self.interface) if self.interface else get_ip()
        with quiet_dask(), TemporaryDirectory(prefix="stac2cube-") as logs:
            cluster = LocalCluster(n_workers=0, host=host, dashboard_address=":0", silence_logs=logging.ERROR)
            with Client(cluster, set_as_default=False) as client:
                step = self._srun(cluster.scheduler_address, Path(logs))
                executor = client.get_executor(pure=False)
                try:
                    with Watch(lambda: _lost(step, Path(logs))).over(executor):
                        yield executor
                finally:
                    executor.shutdown(wait=False)
                    send_home(client)
                    _end(step)
                    cluster.close(timeout=30)

    def explain(self, error: BaseException) -> str:
        """What a worker that keeps dying means."""
        from stac2cube.places.dasking import dead_worker

        return dead_worker(
            error, f"a task has {self.memory} for {self.cores} cores", "more with --mem-per-cpu in the job script"
        )

    def _srun(self, address: str, logs: Path) -> subprocess.Popen[bytes]:
        from stac2cube.places.dasking import MALLOC

        limits = ["--memory-limit", self.memory, "--nthreads", str(self.cores), "--nworkers", "1"]
        network = ["--interface", self.interface] if self.interface else []
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, *limits, *network]
        options = ["--no-dashboard", "--death-timeout", "120", "--local-directory", os.environ.get("TMPDIR", "/tmp")]
        # --no-kill: a node that fails takes its own worker along, not the others. --overlap: the first task shares its
        # node with this process.
        step = [
            "srun", f"--ntasks={self.tasks}", f"--cpus-per-task={self.cores}", "--no-kill", "--kill-on-bad-exit=0",
            "--overlap", "--mpi=none", f"--output={logs}/worker-%t.log",
        ]  # fmt: skip
        log.info("starting %d worker(s) of %d core(s) in this job", self.tasks, self.cores)
        environment = {name: str(size) for name, size in MALLOC.items()} | os.environ
        return subprocess.Popen([*step, *worker, *options], stdin=subprocess.DEVNULL, env=environment)


def _lost(step: subprocess.Popen[bytes], logs: Path) -> str:
    code = step.poll()
    return "" if code is None else f"all workers of this job ended (srun: {code}): {last_words(logs, '*') or 'no word'}"


def _end(step: subprocess.Popen[bytes]) -> None:
    try:
        step.wait(timeout=20)
    except subprocess.TimeoutExpired:
        step.terminate()
        step.wait()
