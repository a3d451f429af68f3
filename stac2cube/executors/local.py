"""Worker processes of this machine, one GPU task at a time."""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stac2cube.errors import PlaceError
from stac2cube.executors.base import GUARD_SCRIPT, memory_of_task, usable_cores
from stac2cube.executors.queue import in_job
from stac2cube.executors.worker import MARGIN

# Limits the processes that use a GPU at the same time, so that many workers do not fill its memory.

AT_ONCE = 2
"""Number of processes that use the GPU of a node at the same time."""

_NAMES = 64
"""Number of names that are tried for the private folder."""


@contextmanager
def gpu_turn(folder: Path | None = None) -> Iterator[int]:
    """Wait for one of the node's turns at the GPU and hold it; the turn of a killed process is free again.

    Args:
        folder: Folder of the lock files. Default: a private folder of this user in the node's temporary folder.

    Yields:
        Number of the turn.

    Raises:
        PlaceError: Other users took all names that the private folder could have.
    """
    own = f"gpu-{os.environ.get('CUDA_VISIBLE_DEVICES', '0').replace(',', '-').replace('/', '-')}"
    root = folder or private_folder(Path(tempfile.gettempdir()))
    while True:
        for turn in range(AT_ONCE):
            handle = os.open(root / f"{own}-{turn}", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            try:
                yield turn
            finally:
                os.close(handle)
            return
        time.sleep(0.05)


def private_folder(base: Path) -> Path:
    """A private folder of this user, the same for all processes of the user on this node.

    Processes must find the lock files by name without communicating, so ``tempfile.mkdtemp`` cannot be used. In a
    world-writable folder another user may have made a folder or a link of that name: then the next name is tried.

    Args:
        base: A world-writable folder.

    Raises:
        PlaceError: Other users took all names.
    """
    for number in range(_NAMES):
        path = base / f"stac2cube-{os.getuid()}-{number}"
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        state = path.lstat()
        if stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077:
            return path
    raise PlaceError(f"other users hold every name for a folder of yours in {base}: set TMPDIR to a folder of your own")


# The place for one machine with many cores: worker processes of a Dask LocalCluster.

log = logging.getLogger(__name__)

# The nanny restarts a process that ended. If that takes longer than this, Dask counts the worker as lost, closes the
# nanny and starts no other: with the 2 s of the other places a busy machine was left without workers and hung.
RESTARTS = {"distributed.deploy.lost-worker-timeout": "1 day"}


def _check_script() -> None:
    """Check that a new process can import the script that runs here.

    Dask up to 2026.3 starts a worker process that cannot again and again, without end.

    Raises:
        PlaceError: It cannot; most often because the script calls stac2cube without a guard.
    """
    child, script = sys.modules.get("__mp_main__"), sys.modules["__main__"]
    importing = child is not None and child is not script  # this is such a process, and may start no other
    if not importing and getattr(script, "__spec__", None) is None and hasattr(script, "__file__"):
        process = multiprocessing.get_context("spawn").Process(target=int)
        process.start()
        process.join()
        importing = process.exitcode != 0
    if importing:
        raise PlaceError(f"the worker processes do not start: a new process cannot import the script. {GUARD_SCRIPT}")


@dataclass(frozen=True)
class Local:
    """Worker processes on this machine.

    Attributes:
        workers: Number of processes; all usable cores by default.
        threads: Threads per process.
        memory: Limit per process as Dask writes it (``"4GiB"``), or "auto" for an equal share of nine tenths of the
            machine's memory; inside a job, of the memory that SLURM gives it.
        dashboard: Whether Dask serves its dashboard, on loopback; all users of this machine can see it.
    """

    workers: int = field(default_factory=usable_cores)
    threads: int = 1
    memory: str = "auto"
    dashboard: bool = False

    @property
    def parallel(self) -> int:
        """Number of blocks processed at the same time."""
        return self.workers * self.threads

    @property
    def on_cluster(self) -> bool:
        """Whether this process runs inside a SLURM job."""
        return in_job()

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """A cluster with its scheduler in this process; workers end with the context.

        Other users of this machine cannot connect: connections need a key that is made here and kept in memory.

        Raises:
            PlaceError: The worker processes do not start.
        """
        _check_script()
        import dask
        from distributed import Client

        from stac2cube.executors.dask import ClusterExecutor, Keys, closed_scheduler, quiet_dask

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
            yield ClusterExecutor(client)

    def explain(self, error: BaseException) -> str:
        """Explain the error of a worker that keeps dying."""
        from stac2cube.executors.dask import dead_worker

        return dead_worker(error, f"each worker process may use {self.memory} of memory", "fewer workers")
