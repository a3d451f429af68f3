"""Worker processes on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import dask
import pytest
from distributed import LocalCluster

from stac2cube.executors.local import Local
from tests.executors.paging import ARRAY, pages_cleared


def test_workers_use_the_memory_of_arrays_again() -> None:
    with Local(workers=1).open() as executor:
        cleared = executor.submit(pages_cleared).result(60)
    assert cleared < ARRAY, "an array's pages at most, not fifty times as many"


def end_once(mark: Path) -> int:
    """End the worker's process the first time; its number the second time."""
    if not mark.exists():
        mark.touch()
        os._exit(9)
    return os.getpid()


def test_a_worker_that_is_slow_to_come_back_is_waited_for(tmp_path: Path) -> None:
    """On a busy machine a process takes longer to start than other places wait for one that is lost."""
    slow = {"distributed.worker.preload": ["import time; time.sleep(3)"]}
    with dask.config.set(slow), Local(workers=1).open() as executor:
        assert executor.submit(end_once, tmp_path / "mark").result(120) != os.getpid()
    assert (tmp_path / "mark").exists()


def test_workers_that_are_slow_to_end_fail_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As dask ends where a killed process is not seen to end in time."""
    close = LocalCluster.close

    def late(cluster: LocalCluster) -> None:
        close(cluster)
        raise TimeoutError

    monkeypatch.setattr(LocalCluster, "close", late)
    with Local(workers=1).open() as executor:
        assert executor.submit(os.getpid).result(120) != os.getpid()
    assert "too busy" in caplog.text
