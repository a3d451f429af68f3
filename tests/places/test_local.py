"""Worker processes on this machine."""

from __future__ import annotations

from stac2cube.places.local import Local
from tests.places.paging import ARRAY, pages_cleared


def test_workers_use_the_memory_of_arrays_again() -> None:
    with Local(workers=1).open() as executor:
        cleared = executor.submit(pages_cleared).result(60)
    assert cleared < ARRAY, "an array's pages at most, not fifty times as many"
