"""The place for a laptop, a test, or one node: threads of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from stac2cube.places.place import usable_cores
from stac2cube.places.queue import in_job

LONGEST = 30.0
"""Seconds that blocks at hand have to end when the work ends by an error."""


@dataclass(frozen=True)
class Threads:
    """Threads of this process.

    Attributes:
        workers: How many; all usable cores by default. Memory grows with it: one block each.
    """

    workers: int = field(default_factory=usable_cores)

    @property
    def parallel(self) -> int:
        """Blocks worked on at the same time."""
        return self.workers

    @property
    def on_cluster(self) -> bool:
        """Whether this process runs inside a SLURM job."""
        return in_job()

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """A thread pool; what has not begun when the context ends is dropped.

        Where it ends by an error, blocks at hand are waited for no longer than :data:`LONGEST`: one whose future a
        second Ctrl-C left locked would never end. What such a block still writes is of a dead run, and harmless.
        """
        threads: list[threading.Thread] = []
        pool = ThreadPoolExecutor(
            self.workers, thread_name_prefix="block", initializer=lambda: threads.append(threading.current_thread())
        )
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            until = time.monotonic() + LONGEST
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            raise
        pool.shutdown(wait=True, cancel_futures=True)

    def explain(self, error: BaseException) -> str:  # noqa: ARG002 - threads have no errors of their own
        """Threads have no errors of their own."""
        return ""
