"""What every place offers: a standard executor, and how many blocks it works on at once."""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Protocol

from stac2cube.places.share import cores_of_task


class Place(Protocol):
    """Where blocks are made. A place is a frozen value; nothing is started before :meth:`open`."""

    @property
    def parallel(self) -> int:
        """Blocks worked on at the same time."""
        ...

    @property
    def on_cluster(self) -> bool:
        """Whether blocks are made on the nodes of a cluster, wherever this process runs."""
        ...

    def open(self) -> AbstractContextManager[Executor]:
        """Start whatever is needed; it is stopped when the context ends, also after an error."""
        ...

    def explain(self, error: BaseException) -> str:
        """What an error of this place's own means for a person and what to do; "" for any other error."""
        ...


def usable_cores() -> int:
    """Cores this process may use, which inside a job is fewer than the node has."""
    return cores_of_task()
