"""The place for one machine with many cores: worker processes of a dask LocalCluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from stac2cube.places.place import usable_cores
from stac2cube.places.queue import in_job
from stac2cube.places.share import memory_of_task
from stac2cube.places.worker import MARGIN

log = logging.getLogger(__name__)

# A process that ended is started again by its nanny. When that takes longer than this, dask counts it as lost, closes
# the nanny and starts no other: with the 2 s of the other places a busy machine had no worker left and waited for ever.
RESTARTS = {"distributed.deploy.lost-worker-timeout": "1 day"}


@dataclass(frozen=True)
class Local:
    """Worker processes on this machine.

    Attributes:
        workers: Processes; all usable cores by default.
        threads: Threads per process.
        memory: Limit per process as dask writes it (``"4GiB"``), or "auto" for a fair share of nine tenths of the
            machine, inside a job of what SLURM gives it.
        dashboard: Whether dask shows its pages, on loopback; whoever is logged in on this machine can look at them.
    """

    workers: int = field(default_factory=usable_cores)
    threads: int = 1
    memory: str = "auto"
    dashboard: bool = False

    @property
    def parallel(self) -> int:
        """Blocks worked on at the same time."""
        return self.workers * self.threads

    @property
    def on_cluster(self) -> bool:
        """Whether this process runs inside a SLURM job."""
        return in_job()

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """A cluster with its scheduler in this process; workers end with the context.

        Nobody else on this machine can talk to them: they ask for a key that is made here and kept in memory.
        """
        import dask
        from distributed import Client

        from stac2cube.places.dasking import closed_scheduler, quiet_dask
        from stac2cube.places.keys import Keys

        workers: dict[str, Any] = {"n_workers": self.workers, "threads_per_worker": self.threads}
        auto = int(MARGIN * memory_of_task()) // self.workers
        workers["memory_limit"] = auto if self.memory == "auto" else self.memory
        with (
            quiet_dask(dashboard=self.dashboard),
            dask.config.set(RESTARTS),
            closed_scheduler(Keys.made(), dashboard=self.dashboard, **workers) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            if self.dashboard:
                log.info("dashboard: %s", client.dashboard_link)
            yield client.get_executor(pure=False)

    def explain(self, error: BaseException) -> str:
        """What a worker that keeps dying means."""
        from stac2cube.places.dasking import dead_worker

        return dead_worker(error, f"each worker process may use {self.memory} of memory", "fewer workers")
