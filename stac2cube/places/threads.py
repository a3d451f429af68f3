"""The place for a laptop, a test, or one node: threads of this process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from stac2cube.places.place import usable_cores
from stac2cube.places.queue import in_job


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
        """A thread pool; what has not begun when the context ends is dropped."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="block")
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def explain(self, error: BaseException) -> str:  # noqa: ARG002 - threads have no errors of their own
        """Threads have no errors of their own."""
        return ""
