"""How blocks, and other work, are handed out: how many at a time, and when no more."""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from stac2cube.cube.files import DISK_ERRORS
from stac2cube.errors import BadInputError, CubeError
from stac2cube.faults import framed, told
from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.trust.text import shown
from stac2cube.work import Orders

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")

IN_FLIGHT = 300
"""Blocks handed out at most at a time: enough to keep a cluster busy, few enough to keep its scheduler small."""

FAREWELL = 20.0
"""Seconds kept before a deadline to seal what is finished and close the place."""

RECENT = 50
"""Blocks whose times tell how long the next ones will take."""


class Flow:
    """The flow of blocks of one build.

    Args:
        place: Where they are made.
        orders: When to stop.
        progress: Told of every block.
    """

    def __init__(self, place: Place, orders: Orders, progress: Progress) -> None:
        self.place = place
        self.progress = progress
        self._orders = orders
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._late = False

    @property
    def dropping(self) -> bool:
        """Whether the blocks at hand are to be dropped: somebody asked for it, or the deadline is there."""
        late = self._orders.deadline is not None and time.time() > self._orders.deadline - FAREWELL
        return late or self._orders.stop.is_set()

    @property
    def stopped(self) -> bool:
        """Whether no more blocks are handed out."""
        return self._late or self.dropping

    def wants_more(self, pending: int) -> bool:
        """Whether to hand out another block while so many are not yet back."""
        if self.stopped or pending >= min(IN_FLIGHT, 2 * self.place.parallel + 2):
            return False
        if self._orders.deadline is not None and self._recent:
            # It waits for those before it; none is expected to take much longer than the slowest of late.
            needed = (pending / self.place.parallel + 1) * max(self._recent) * 1.2 + FAREWELL
            self._late = time.time() + needed > self._orders.deadline
            if self._late:
                left = self._orders.deadline - time.time()
                log.warning("%.0f s are left: no further blocks are begun, what is finished is sealed", left)
        return not self._late

    def handed_out(
        self, jobs: Iterator[Job], submit: Callable[[Job], Future[Result]]
    ) -> Generator[tuple[Job, Future[Result]]]:
        """Hand out jobs while the flow wants more, and give back each with its finished future.

        What was dropped because the flow is :attr:`dropping` does not come back. Close it (``contextlib.closing``) if
        it may be left early: what is not yet begun is then cancelled.

        Args:
            jobs: Taken one by one, each only when it is handed out.
            submit: Hands one to an executor.

        Raises:
            CancelledError: Somebody else cancelled a job: the place is lost, and says why when it closes.
        """
        pending: dict[Future[Result], Job] = {}
        # Not concurrent.futures.wait: a second Ctrl-C in it can leave a future locked for good, and its worker waiting.
        finished: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
        exhausted = False
        try:
            while pending or not exhausted:
                while not exhausted and self.wants_more(len(pending)):
                    try:
                        job = next(jobs)
                    except StopIteration:
                        exhausted = True
                    else:
                        future = submit(job)
                        pending[future] = job
                        future.add_done_callback(finished.put)
                exhausted = exhausted or self.stopped
                if self.dropping:
                    for future in pending:
                        future.cancel()
                for future in _come(finished) if pending else ():
                    job = pending.pop(future)
                    if not _cancelled(future):
                        yield job, future
                    elif not self.dropping:
                        raise CancelledError
        finally:
            for future in pending:
                future.cancel()

    def failure(self, future: Future[Any]) -> str:
        """Why a finished job failed, see :meth:`reason`; "" if it did not.

        Raises:
            CubeError: What would fail every other job alike.
            BadInputError: The same.
            OSError: The disk is full, or is read only.
        """
        error = future.exception()
        if error is None:
            return ""
        spoils_all = isinstance(error, (CubeError, BadInputError))
        if (
            spoils_all
            or not isinstance(error, Exception)
            or (isinstance(error, OSError) and error.errno in DISK_ERRORS)
        ):
            raise error
        return self.reason(error)

    def reason(self, error: Exception) -> str:
        """Why a block failed, for the ledger and for people: errors that are not ours come with their kind."""
        return shown(self.place.explain(error) or told(error))

    def made(self, seconds: float) -> None:
        """A block came back that took so long."""
        self._recent.append(seconds)
        self.progress.advance()


def timed(task: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Runs on a worker: what a task gives, and the seconds it took, from which a flow tells what can still be done."""
    begun = time.perf_counter()
    with framed():
        return task(*arguments), time.perf_counter() - begun


def _cancelled(future: Future[Any]) -> bool:
    # Of dask, futures may be cancelled or end in the error of that name.
    return future.cancelled() or isinstance(future.exception(), CancelledError)


def _come(finished: queue.SimpleQueue[Future[Result]]) -> list[Future[Result]]:
    """The futures that finished meanwhile; waits a second for the first."""
    come: list[Future[Result]] = []
    with suppress(queue.Empty):
        come.append(finished.get(timeout=1.0))
        while True:
            come.append(finished.get_nowait())
    return come
