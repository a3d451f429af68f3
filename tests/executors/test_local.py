"""Worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from pathlib import Path

import dask
import pytest
from distributed import LocalCluster

from stac2cube.executors.local import Local
from tests.executors.paging import ARRAY, pages_cleared


def test_workers_use_the_memory_of_arrays_again() -> None:
    with Local(workers=1).open() as executor:
        cleared = executor.submit(pages_cleared).result(60)
    assert cleared < 4 * ARRAY, "the pages of a few arrays at most, not of fifty"


def end_once(mark: Path) -> int:
    """End the worker's process the first time; its number the second time."""
    if not mark.exists():
        mark.touch()
        os._exit(9)
    return os.getpid()


def opened(worker: int, content: bytes, mark: Path) -> int:
    """Called where a result is unpacked: the first time, its worker dies, and unpacking takes a little longer."""
    if os.getpid() != worker and not mark.exists():
        mark.touch()
        os.kill(worker, signal.SIGKILL)
        time.sleep(1)
    return len(content)


class Large:
    """A result that is unpacked in a thread of its own, because of its size."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return opened, (os.getpid(), b"x" * 20_000_000, self.mark)


def large(mark: Path) -> Large:
    """A result; made again, it takes longer."""
    if mark.exists():
        time.sleep(3)
    return Large(mark)


def test_a_result_that_came_is_kept_when_its_worker_is_lost(tmp_path: Path) -> None:
    with Local(workers=2).open() as executor:
        assert executor.submit(large, tmp_path / "mark").result(120) == 20_000_000
    assert (tmp_path / "mark").exists()


def test_calls_are_cancelled_one_by_one_and_all_together() -> None:
    with Local(workers=1).open() as executor:
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(120)
        calls = [executor.submit(time.sleep, 60) for _ in range(4)]
        assert calls[3].cancel()
        executor.shutdown(wait=False)
        for call in calls:
            with pytest.raises(CancelledError):
                call.result(60)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(os.getpid)


def test_a_script_that_its_worker_processes_cannot_import_is_explained(tmp_path: Path) -> None:
    """Without a guard each worker process begins the script anew, and may start no process itself."""
    script = tmp_path / "script.py"
    script.write_text("import stac2cube\nwith stac2cube.Local(1).open():\n    pass\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("stac2cube.errors.PlaceError: the worker processes do not start: ")
    assert 'call stac2cube below `if __name__ == "__main__":`' in last


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
