"""Worker processes of this machine, one GPU task at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stac2cube.errors import PlaceError
from stac2cube.executors.base import memory_of_task, usable_cores
from stac2cube.executors.queue import in_job
from stac2cube.executors.worker import MARGIN

# Turns at a GPU, so that many worker processes do not fill its memory at once.

AT_ONCE = 2
"""Processes that use the GPU of a node at the same time."""

_NAMES = 64
"""Names that are tried for the private folder."""


@contextmanager
def gpu_turn(folder: Path | None = None) -> Iterator[int]:
    """Wait for one of the node's turns, and hold it; a killed process gives it back.

    Args:
        folder: Where the turns are; a folder of this user's own below the node's temporary folder if None.

    Yields:
        Which turn.

    Raises:
        PlaceError: Other users took every name that such a folder could have.
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
    """A folder that is this user's alone, the same for all processes of the user on this node.

    Turns must have names that processes find without telling each other, so that ``tempfile.mkdtemp`` is no help. In a
    folder where everybody may write, another user may have made the folder, or a link, by that name: then the next name
    is taken.

    Args:
        base: Where; everybody may write there.

    Raises:
        PlaceError: All names are taken by others.
    """
    for number in range(_NAMES):
        path = base / f"stac2cube-{os.getuid()}-{number}"
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        state = path.lstat()
        if stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077:
            return path
    raise PlaceError(f"other users hold every name for a folder of yours in {base}: set TMPDIR to a folder of your own")


# The place for one machine with many cores: worker processes of a dask LocalCluster.

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
        """What a worker that keeps dying means."""
        from stac2cube.executors.dask import dead_worker

        return dead_worker(error, f"each worker process may use {self.memory} of memory", "fewer workers")
