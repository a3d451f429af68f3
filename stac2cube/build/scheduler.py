"""Hand out blocks, a bounded number at a time; errors of blocks, each reported once."""

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

# Errors of blocks: which are faults of the program and not of the data, where they came from, each told once.

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
"""What Python raises at a mistake in code. Whatever data, network and disk can do comes as an error of another kind."""

REPORT = 'report it as README.md says in "Report a fault"'

FIRST = 32
"""Blocks that tell, if all of them end in the same fault, that the others will too ..."""

OF_STEPS = 3
"""... if they are of so many steps at least: a single scene may be odd."""

_AT = "at "


@contextmanager
def framed() -> Iterator[None]:
    """Runs on a worker: an error remembers the last frame of its traceback, which does not travel with it."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{_AT}{_frame(error)}")
        raise


def last_frame(error: BaseException) -> str:
    """Where an error came from: ``"stac2cube/clouds/model.py:12 in opened"``; "" if that is not known."""
    notes = [note.removeprefix(_AT) for note in getattr(error, "__notes__", ()) if note.startswith(_AT)]
    return notes[0] if notes else _frame(error)


def fault_of(error: BaseException) -> str:
    """Kind and place of an error if it is a fault of the program, "" if it is not; alike for alike faults."""
    # A library that is not installed is no mistake in code; neither are our own errors.
    ours = type(error).__module__.startswith("stac2cube")
    if ours or isinstance(error, ModuleNotFoundError) or not isinstance(error, PROGRAM_ERRORS):
        return ""
    return f"{type(error).__name__} at {last_frame(error)}"


def told(error: Exception) -> str:
    """An error as a reason, for the ledger and for people: those that are not ours come with their kind."""
    if type(error).__module__.startswith("stac2cube"):
        return str(error)
    reason = f"{type(error).__name__}: {error}"
    return (
        f"a fault of the program, not of the data: {reason} ({last_frame(error)}); {REPORT}"
        if fault_of(error)
        else reason
    )


class Failures:
    """Why steps failed: the first of those that failed alike is told of at once, the others as a number at the end."""

    def __init__(self) -> None:
        self._alike: dict[str, int] = {}

    def tell(self, key: str, reason: str, where: str = "") -> None:
        """A step failed.

        Args:
            key: Its key.
            reason: Why.
            where: Last frame of the traceback; "" if it is said already, or is of no use.
        """
        count = self._alike[reason] = self._alike.get(reason, 0) + 1
        at = f" ({where})" if where and where not in reason else ""
        log.log(logging.WARNING if count == 1 else logging.DEBUG, "%s failed: %s%s", key, reason, at)

    def close(self) -> None:
        """No more will fail."""
        for reason, count in self._alike.items():
            if count > 1:
                log.warning("%d steps failed alike: %s", count, reason)


class Beginning:
    """Looks at the first blocks of a build: whether all of them end in the same fault of the program."""

    def __init__(self) -> None:
        self._faults: set[str] = set()
        self._steps: set[str] = set()
        self._blocks = 0

    def hopeless(self, key: str, fault: str) -> bool:
        """A block ended; whether that was the last needed to know that no other will end better.

        Args:
            key: Of its step.
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


# How blocks, and other work, are handed out: how many at a time, and when no more.

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")

IN_FLIGHT = 300
"""Blocks handed out at most at a time: enough to keep a cluster busy, few enough to keep its scheduler small."""

FAREWELL = 20.0
"""Seconds kept before a deadline to seal what is finished and close the place."""

RECENT = 50
"""Blocks whose times tell how long the next ones will take."""


class Scheduler:
    """The flow of blocks of one build.

    Args:
        place: Where they are made.
        options: When to stop.
        progress: Told of every block.
    """

    def __init__(self, place: Place, options: BuildOptions, progress: Progress) -> None:
        self.place = place
        self.progress = progress
        self._options = options
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._late = False

    @property
    def dropping(self) -> bool:
        """Whether the blocks at hand are to be dropped: somebody asked for it, or the deadline is there."""
        late = self._options.deadline is not None and time.time() > self._options.deadline - FAREWELL
        return late or self._options.stop.is_set()

    @property
    def stopped(self) -> bool:
        """Whether no more blocks are handed out."""
        return self._late or self.dropping

    def wants_more(self, pending: int) -> bool:
        """Whether to hand out another block while so many are not yet back."""
        if self.stopped or pending >= min(IN_FLIGHT, 2 * self.place.parallel + 2):
            return False
        if self._options.deadline is not None and self._recent:
            # It waits for those before it; none is expected to take much longer than the slowest of late.
            needed = (pending / self.place.parallel + 1) * max(self._recent) * 1.2 + FAREWELL
            self._late = time.time() + needed > self._options.deadline
            if self._late:
                left = self._options.deadline - time.time()
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
