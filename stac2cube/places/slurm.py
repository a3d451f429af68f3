"""The place on a cluster: every worker is a SLURM job of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from stac2cube.places.script import require_log_folder
from stac2cube.places.worker_jobs import WorkerJobs


@dataclass(frozen=True)
class Slurm(WorkerJobs):
    """Worker jobs on a SLURM cluster; usually read from a site file, see :func:`stac2cube.site.find_site`.

    Its fields are those of :class:`~stac2cube.places.worker_jobs.WorkerJobs`.
    """

    @property
    def parallel(self) -> int:
        """Blocks worked on at the same time."""
        return self.jobs * self.cores

    @property
    def on_cluster(self) -> bool:
        """Always: blocks are made in jobs, also when this process runs on a login node."""
        return True

    def require_logs(self) -> None:
        """Refuse a folder for logs in which SLURM writes none; commands ask this before they write anything.

        Raises:
            BadInputError: It has a backslash or a control character in its path.
        """
        require_log_folder(Path(self.logs).absolute())

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Submit worker jobs, with the scheduler in this process; they end with the context.

        Raises:
            BadInputError: A folder or a value of the site can stand in no job script, or names several clusters.
            SlurmError: SLURM refuses all jobs, or they keep dying.
        """
        from stac2cube.places.jobqueue import open_jobs  # dask is heavy

        if self.scheduler != "slurm":
            from stac2cube.places.batch import open_batch_jobs

            Path(self.logs).mkdir(parents=True, exist_ok=True)
            with open_batch_jobs(self, f"s2c-workers-{os.getpid()}") as executor:
                yield executor
            return
        here = replace(self, clusters=self.beside_this_job())
        self.require_logs()
        Path(self.logs).mkdir(parents=True, exist_ok=True)
        with open_jobs(here, f"s2c-workers-{os.getpid()}") as executor:
            yield executor

    def explain(self, error: BaseException) -> str:
        """What a worker that keeps dying means."""
        from stac2cube.places.dasking import dead_worker

        if self.takes_what_it_gets:
            said = ", ".join(self.directives) or f"memory_as = {self.memory_as}"
            return dead_worker(error, f"a job has what {said} gives {self.cores} cores", "more, or for fewer cores")
        more = f"more with memory = {2 * self.memory_bytes / 2**30:g}GiB, or for fewer cores per job"
        return dead_worker(error, f"a job has {self.memory} for {self.cores} cores", more)
