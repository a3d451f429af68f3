"""Whoever has to stop, stops in time and goes on later: at a job's deadline, when asked to, and never in silence."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from stac2cube.build.plan import BuildOptions
from stac2cube.build.scheduler import FAREWELL
from stac2cube.cli import cli
from stac2cube.datasets.files import Making
from stac2cube.datasets.rules import SampleRequest, SampleRules
from stac2cube.datasets.samples import run_samples
from stac2cube.errors import BadInputError, IncompleteError, SlurmError
from stac2cube.executors.base import Threads
from stac2cube.model.query import Query
from stac2cube.progress import Progress


def slowly(what: str, out: Path) -> None:
    time.sleep(0.2)
    out.write_text(what)


def failing(error: Exception) -> Callable[[str, Path], None]:
    def fail(what: str, out: Path) -> None:
        if what == "3":
            raise error
        out.write_text(what)

    return fail


def wanted(folder: Path, count: int = 12) -> dict[Path, str]:
    return {folder / f"{number}": str(number) for number in range(count)}


def test_no_part_is_begun_that_cannot_be_finished_before_the_deadline(tmp_path: Path) -> None:
    end = time.time() + FAREWELL + 2.4
    assert not Making(Threads(1), options=BuildOptions(deadline=end)).make(wanted(tmp_path, 24), slowly)
    # On a quiet machine at the end less the farewell; a busy one takes longer for a part than for any before it.
    assert time.time() < end - FAREWELL / 2
    made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert 2 <= len(made) < 24
    assert Making(Threads(4)).make(wanted(tmp_path, 24), slowly)
    assert len(list(tmp_path.iterdir())) == 24
    assert {path: path.stat().st_mtime_ns for path in made} == made, "what was made is not made again"


def test_who_is_asked_to_stop_hands_out_no_more(tmp_path: Path) -> None:
    options = BuildOptions()

    class Asking(Progress):
        def advance(self) -> None:
            options.stop.set()

    assert not Making(Threads(1), Asking(), options).make(wanted(tmp_path), slowly)
    assert 1 <= len(list(tmp_path.iterdir())) < 4


def test_every_failure_is_named_and_the_others_are_made(tmp_path: Path) -> None:
    with pytest.raises(
        IncompleteError, match=r"1 of 12 failed, run again to try them: 3: a fault of the program, .*KeyError: 'odd'"
    ):
        Making(Threads(2)).make(wanted(tmp_path), failing(KeyError("odd")))
    assert len(list(tmp_path.iterdir())) == 11
    with pytest.raises(BadInputError, match="No space left on device: make room and run again"):
        Making(Threads(2)).make(wanted(tmp_path), failing(OSError(errno.ENOSPC, "No space left on device")))


@dataclass(frozen=True)
class Lost(Threads):
    """A place whose workers go away: what waits is cancelled, and it says why when it closes, as those on dask do."""

    says: str = "all workers of this job ended"

    @contextmanager
    def open(self) -> Iterator[Executor]:
        try:
            with super().open() as pool:
                yield Cancelling(pool)
        except CancelledError as error:
            raise SlurmError(self.says) from error


class Cancelling(Executor):
    """Does one task and cancels the others."""

    def __init__(self, pool: Executor) -> None:
        self._pool, self._first = pool, True

    def submit(self, task: Callable, *arguments: object) -> Future:
        if self._first:
            self._first = False
            return self._pool.submit(task, *arguments)
        future: Future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_lost_place_is_no_stop(source: str, tmp_path: Path) -> None:
    with pytest.raises(SlurmError, match="all workers of this job ended"):
        Making(Lost(1)).make(wanted(tmp_path), slowly)
    rules = SampleRules(bands=("B02",), target="B11")
    with pytest.raises(SlurmError, match="all workers of this job ended"):
        run_samples(SampleRequest(Query(catalog=source)), tmp_path / "set", rules, Lost(1))
    assert run_samples(SampleRequest(Query(catalog=source)), tmp_path / "set", rules, Threads(1)).exit_code == 0


def test_commands_near_the_end_of_their_job_end_with_10_and_go_on(
    cube: Path, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = {
        "stats": ["statistics", str(cube), str(tmp_path / "stats"), "-q"],
        "set": ["patches", str(cube), str(tmp_path / "set"), "--size", "64", "-q"],
        "samples": ["samples", source, str(tmp_path / "samples"), "--bands", "B02", "-q"],
    }
    for command in commands.values():
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(time.time() + FAREWELL / 2))
        run = CliRunner().invoke(cli, command, standalone_mode=False)
        assert (run.exception, run.return_value) == (None, 10), run.output
        assert "run the same command again to continue" in run.output
        monkeypatch.delenv("SLURM_JOB_END_TIME")
        run = CliRunner().invoke(cli, command, standalone_mode=False)
        assert (run.exception, run.return_value) == (None, 0), run.output
