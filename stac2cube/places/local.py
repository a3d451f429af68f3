"""The place for one machine with many cores: worker processes of a dask LocalCluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field

from stac2cube.places.place import usable_cores
from stac2cube.places.queue import in_job


@dataclass(frozen=True)
class Local:
    """Worker processes on this machine.

    Attributes:
        workers: Processes; all usable cores by default.
        threads: Threads per process.
        memory: Limit per process as dask writes it (``"4GiB"``), or "auto" for a fair share of the machine.
    """

    workers: int = field(default_factory=usable_cores)
    threads: int = 1
    memory: str = "auto"

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
        """A cluster with its scheduler in this process; workers end with the context."""
        from distributed import Client, LocalCluster

        from stac2cube.places.dasking import quiet_dask

        with (
            quiet_dask(),
            LocalCluster(
                n_workers=self.workers,
                threads_per_worker=self.threads,
                memory_limit=self.memory,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.ERROR,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client.get_executor(pure=False)

    def explain(self, error: BaseException) -> str:
        """What a worker that keeps dying means."""
        from stac2cube.places.dasking import dead_worker

        return dead_worker(error, f"each worker process may use {self.memory} of memory", "fewer workers")
