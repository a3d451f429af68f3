"""What all places on dask share: settings, a closed scheduler, the watch over workers, and what their errors mean."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from typing import Any

import dask
from distributed import Client, KilledWorker, LocalCluster

from stac2cube.errors import PlaceError, SlurmError
from stac2cube.places.keys import Keys
from stac2cube.places.worker import MALLOC

log = logging.getLogger(__name__)

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

NO_PAGES: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
"""No pages over HTTP, which ask nobody for a key; dask listens for them all the same, on loopback."""


@contextmanager
def quiet_dask(*, dashboard: bool = False) -> Iterator[None]:
    """Dask as blocks need it, while the context lasts.

    Args:
        dashboard: Whether dask may show pages.
    """
    with dask.config.set(SETTINGS if dashboard else {**SETTINGS, **NO_PAGES}):
        yield


@contextmanager
def closed_scheduler(
    keys: Keys, *, host: str = "127.0.0.1", dashboard: bool = False, **workers: Any
) -> Iterator[LocalCluster]:
    """A scheduler in this process that talks to those alone who have the run's key, and its workers on this machine.

    Both end with the context. Dask asks a worker process to end, kills it after four seconds, and waits a few more. On
    a machine too busy even for that, the work is done all the same, and only a warning is logged.

    Args:
        keys: The run's.
        host: Address on which it listens.
        dashboard: Whether it shows pages, on loopback: whoever is logged in on this machine can look at them.
        workers: What LocalCluster takes for workers; ``n_workers=0`` for none here.
    """
    cluster = LocalCluster(
        host=host,
        protocol="tls://",
        security=keys.security(),
        # Even without pages dask listens; not where others on the network come by.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": dashboard},
        silence_logs=logging.ERROR,
        **workers,
    )
    try:
        yield cluster
    finally:
        try:
            cluster.close()
        except TimeoutError:
            log.warning("dask's worker processes were killed, and the machine is too busy to see them end at once")


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
        pause = 0.0
        while not self._over.wait(pause):
            pause = self._seconds
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
