"""What all places on dask share: settings, the watch over workers, and what their errors mean."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress

import dask
from distributed import Client, KilledWorker

from stac2cube.errors import PlaceError, SlurmError

log = logging.getLogger(__name__)

MALLOC = {"MALLOC_MMAP_THRESHOLD_": 2**25, "MALLOC_TRIM_THRESHOLD_": 2**27}
"""Environment of worker processes, bytes, see mallopt(3): the memory of arrays up to 32 MiB is used again, as glibc
comes to do by itself. Dask lets workers give back all beyond 64 KiB whenever an array is freed, and the system then
clears every page anew for the next one: blocks of super-resolution took twice as long."""

SETTINGS = {
    **{f"distributed.nanny.pre-spawn-environ.{name}": size for name, size in MALLOC.items()},
    # A block is written and gone: nothing is ever worth spilling to disk.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # A worker that is silent for so long is given up, also when its node has lost the network and nothing was closed.
    "distributed.scheduler.worker-ttl": "60s",
    # So soon a worker that was lost may be replaced.
    "distributed.deploy.lost-worker-timeout": "2s",
    "distributed.comm.timeouts.connect": "60s",
}


@contextmanager
def quiet_dask() -> Iterator[None]:
    """Dask as blocks need it, while the context lasts."""
    with dask.config.set(SETTINGS):
        yield


class Watch:
    """Looks after the workers of a cluster, and says so when they cannot be had.

    Args:
        look: Called every few seconds; replaces what is lost. What it returns is why the work cannot go on, if so.
        seconds: How often.
        error: What is raised then.
    """

    def __init__(
        self, look: Callable[[], str], seconds: float = 3.0, error: Callable[[str], PlaceError] = SlurmError
    ) -> None:
        self.failure = ""
        self._look = look
        self._seconds = seconds
        self._error = error
        self._over = threading.Event()

    @contextmanager
    def over(self, executor: Executor) -> Iterator[None]:
        """Watch while the context lasts: when the work cannot go on, what waits is cancelled and the reason raised.

        Raises:
            PlaceError: Why the work could not go on.
        """
        thread = threading.Thread(target=self._run, args=(executor,), name="watch", daemon=True)
        thread.start()
        try:
            yield
        except Exception:
            if not self.failure:
                raise
        finally:
            self._over.set()
            thread.join()
        if self.failure:
            raise self._error(self.failure)

    def _run(self, executor: Executor) -> None:
        while not self._over.wait(self._seconds):
            try:
                self.failure = self._look()
            except PlaceError as error:
                # The controller may be restarting: the workers live on, and it is asked again.
                log.warning("%s", error)
                continue
            if self.failure:
                executor.shutdown(wait=False)
                return


def send_home(client: Client) -> None:
    """Tell workers to end by themselves.

    Args:
        client: Whose futures have been cancelled or gathered: a worker that holds results is not let go.
    """
    with suppress(OSError, TimeoutError):
        client.retire_workers(close_workers=True, remove=True)


def dead_worker(error: BaseException, limit: str, remedy: str) -> str:
    """What it means that a block killed its workers; "" for any other error."""
    if not isinstance(error, KilledWorker):
        return ""
    return (
        f"the block's worker died {error.allowed_failures + 1} times, most likely because it needs more memory: "
        f"{limit}. Ask for {remedy}."
    )
