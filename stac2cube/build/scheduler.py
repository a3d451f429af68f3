"""Submit blocks, a bounded number at a time; errors of blocks, each reported once."""

from __future__ import annotations

import logging
import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from stac2cube.build.plan import BuildOptions
from stac2cube.errors import BadInputError, CubeError
from stac2cube.executors.base import Place
from stac2cube.progress import Progress
from stac2cube.store.files import DISK_ERRORS
from stac2cube.trust.text import shown

# Errors of blocks: faults of the program as opposed to the data, their origin, and reporting each once.

PROGRAM_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    TypeError,
)
"""Python errors caused by mistakes in code. Problems of data, network and disk raise other types."""

REPORT = 'report it as README.md says in "Report a fault"'

FIRST = 32
"""Number of blocks after which a common fault of all of them is expected in all others too ..."""

OF_STEPS = 3
"""... if they belong to at least this number of steps: a single scene may be odd."""

_AT = "at "


@contextmanager
def framed() -> Iterator[None]:
    """Runs on a worker: attach the last frame of the traceback to an error, because tracebacks are not pickled."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{_AT}{_frame(error)}")
        raise


def last_frame(error: BaseException) -> str:
    """Origin of an error: ``"stac2cube/clouds/model.py:12 in opened"``; "" if unknown."""
    notes = [note.removeprefix(_AT) for note in getattr(error, "__notes__", ()) if note.startswith(_AT)]
    return notes[0] if notes else _frame(error)


def fault_of(error: BaseException) -> str:
    """Type and origin of an error if it is a fault of the program, else ""; equal for equal faults."""
    # A missing library is no mistake in code; neither are stac2cube's own errors.
    ours = type(error).__module__.startswith("stac2cube")
    if ours or isinstance(error, ModuleNotFoundError) or not isinstance(error, PROGRAM_ERRORS):
        return ""
    return f"{type(error).__name__} at {last_frame(error)}"


def told(error: Exception) -> str:
    """An error as a reason, for the ledger and for users; errors of others are shown with their type."""
    if type(error).__module__.startswith("stac2cube"):
        return str(error)
    reason = f"{type(error).__name__}: {error}"
    return (
        f"a fault of the program, not of the data: {reason} ({last_frame(error)}); {REPORT}"
        if fault_of(error)
        else reason
    )


class Failures:
    """Reports why steps failed: the first of each reason at once, the others as a number at the end."""

    def __init__(self) -> None:
        self._alike: dict[str, int] = {}

    def tell(self, key: str, reason: str, where: str = "") -> None:
        """Report a failed step.

        Args:
            key: Its key.
            reason: Reason of the failure.
            where: Last frame of the traceback; "" if it is in the reason already, or of no use.
        """
        count = self._alike[reason] = self._alike.get(reason, 0) + 1
        at = f" ({where})" if where and where not in reason else ""
        log.log(logging.WARNING if count == 1 else logging.DEBUG, "%s failed: %s%s", key, reason, at)

    def close(self) -> None:
        """Report the numbers at the end."""
        for reason, count in self._alike.items():
            if count > 1:
                log.warning("%d steps failed alike: %s", count, reason)


class Beginning:
    """Checks whether the first blocks of a build all end in the same fault of the program."""

    def __init__(self) -> None:
        self._faults: set[str] = set()
        self._steps: set[str] = set()
        self._blocks = 0

    def hopeless(self, key: str, fault: str) -> bool:
        """Count a block; returns whether all other blocks can be expected to fail alike.

        Args:
            key: Key of its step.
            fault: See :func:`fault_of`; "" if it was made, or failed for another reason.
        """
        self._blocks += 1
        self._faults.add(fault)
        self._steps.add(key)
        enough = self._blocks >= FIRST and len(self._steps) >= OF_STEPS
        return enough and "" not in self._faults and len(self._faults) == 1


def _frame(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    file = "/".join(Path(frames[-1].filename).parts[-3:])
    return f"{file}:{frames[-1].lineno} in {frames[-1].name}"


# Submission of blocks and other work: how many at a time, and when to stop.

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")

IN_FLIGHT = 300
"""Maximum number of submitted blocks: enough to keep a cluster busy, few enough to keep its scheduler small."""

FAREWELL = 20.0
"""Seconds reserved before a deadline to seal finished steps and close the place."""

RECENT = 50
"""Number of recent blocks whose times predict those of the next."""


class Scheduler:
    """The flow of blocks of one build.

    Args:
        place: Where the work runs.
        options: Options of the build, with its end.
        progress: Receives every finished block.
    """

    def __init__(self, place: Place, options: BuildOptions, progress: Progress) -> None:
        self.place = place
        self.progress = progress
        self._options = options
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._late = False

    @property
    def dropping(self) -> bool:
        """Whether to drop pending blocks: on request, or because the deadline is near."""
        late = self._options.deadline is not None and time.time() > self._options.deadline - FAREWELL
        return late or self._options.stop.is_set()

    @property
    def stopped(self) -> bool:
        """Whether no more blocks are submitted."""
        return self._late or self.dropping

    def wants_more(self, pending: int) -> bool:
        """Whether to submit another block while this number is pending."""
        if self.stopped or pending >= min(IN_FLIGHT, 2 * self.place.parallel + 2):
            return False
        if self._options.deadline is not None and self._recent:
            # It waits for the pending ones; none is expected to take much longer than the slowest recent one.
            needed = (pending / self.place.parallel + 1) * max(self._recent) * 1.2 + FAREWELL
            self._late = time.time() + needed > self._options.deadline
            if self._late:
                left = self._options.deadline - time.time()
                log.warning("%.0f s are left: no further blocks are begun, what is finished is sealed", left)
        return not self._late

    def handed_out(
        self, jobs: Iterator[Job], submit: Callable[[Job], Future[Result]]
    ) -> Generator[tuple[Job, Future[Result]]]:
        """Submit jobs while the flow wants more, and yield each with its finished future.

        Jobs that are dropped because the flow is :attr:`dropping` are not yielded. Close the generator
        (``contextlib.closing``) if it may be left early: jobs that have not started are then cancelled.

        Args:
            jobs: Consumed one by one, each only when it is submitted.
            submit: Submits a job to an executor.

        Raises:
            CancelledError: A job was cancelled from elsewhere: the place is lost, and reports why when it closes.
        """
        pending: dict[Future[Result], Job] = {}
        # Not concurrent.futures.wait: a second Ctrl-C in it can leave a future locked forever, and its worker waiting.
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
        """Reason of a job's failure, see :meth:`reason`; "" if it did not fail.

        Raises:
            CubeError: An error that would make every other job fail too.
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
        """Reason of a block's failure, for the ledger and for users; errors of others are shown with their type."""
        return shown(self.place.explain(error) or told(error))

    def made(self, seconds: float) -> None:
        """Record the time of a finished block."""
        self._recent.append(seconds)
        self.progress.advance()


def timed(task: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """Run a task on a worker; returns its result and duration in seconds, from which a flow predicts the next ones."""
    begun = time.perf_counter()
    with framed():
        return task(*arguments), time.perf_counter() - begun


def _cancelled(future: Future[Any]) -> bool:
    # With dask, futures may be cancelled or end in the error of that name.
    return future.cancelled() or isinstance(future.exception(), CancelledError)


def _come(finished: queue.SimpleQueue[Future[Result]]) -> list[Future[Result]]:
    """The futures that have finished; waits up to a second for the first."""
    come: list[Future[Result]] = []
    with suppress(queue.Empty):
        come.append(finished.get(timeout=1.0))
        while True:
            come.append(finished.get_nowait())
    return come
