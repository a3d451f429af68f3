"""Faults of the program in blocks: named as such, told once, and no reason to try every block of a long build."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Summary
from stac2cube.build.scheduler import Beginning, fault_of
from stac2cube.errors import IncompleteError, ProgramError, ReadError
from stac2cube.executors.base import Place, Threads
from stac2cube.executors.local import Local
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.build.toy import SPEC, Make, steps


@dataclass(frozen=True)
class Mistaken(Make):
    """A task with a mistake in it, from the so-manieth step on."""

    first: int = 0
    error: type[Exception] = AttributeError

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        if number < self.first:
            return super().__call__(number, block)
        if self.error is AttributeError:
            return number.value  # type: ignore[attr-defined]
        raise self.error("what went wrong")


@pytest.mark.parametrize("place", [Threads(2), pytest.param(Local(workers=1), marks=pytest.mark.soak)], ids=repr)
def test_a_build_of_which_all_ends_in_one_fault_of_the_program_stops_early(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cube = tmp_path / "toy.zarr"
    with pytest.raises(ProgramError, match="fault of the program, not of the data: AttributeError") as caught:
        build(cube, SPEC, steps(range(60)), Mistaken(), place)
    assert isinstance(caught.value, IncompleteError), "exit code 2"
    for words in ("'int' object has no attribute 'value'", "tests/build/test_faults.py:", "in __call__", "README.md"):
        assert words in str(caught.value)
    rows = Ledger(cube, read_root(cube).ledger).entries(whole=False)
    assert 3 <= len(rows) < 45, "the others were not tried"
    assert {row.status for row in rows.values()} == {"failed"}
    told = [record for record in caplog.records if "failed: a fault" in record.message]
    assert len([record for record in told if record.levelno >= logging.WARNING]) == 1, "said once"
    assert f"{len(rows)} steps failed alike" in caplog.text
    assert build(cube, SPEC, steps(range(3)), Make(), Threads(2)).exit_code == 0


def mixed(tmp_path: Path, task: Mistaken, count: int) -> Summary:
    return build(tmp_path / "toy.zarr", SPEC, steps(range(count)), task, Threads(2))


def test_one_step_that_could_be_made_lets_the_others_be_tried(tmp_path: Path) -> None:
    summary = mixed(tmp_path, Mistaken(first=1), 40)
    assert (len(summary.sealed), len(summary.failed), summary.exit_code) == (1, 39, 2)
    assert [line for line in summary.failures() if line.startswith("39 steps: a fault of the program")]


def test_an_outage_is_no_fault_of_the_program(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for error in (ReadError, ConnectionError, TimeoutError):
        summary = mixed(tmp_path, Mistaken(error=error), 40)
        assert (len(summary.failed), summary.exit_code) == (40, 2)
        assert "fault of the program" not in "".join(summary.failed.values())
    assert "tests/build/test_faults.py" in caplog.text, "where it came from stands in the log"


def test_what_is_no_fault_of_the_program() -> None:
    assert fault_of(TypeError("x"))
    assert not any(fault_of(error) for error in (ModuleNotFoundError("torch"), ReadError("x"), OSError(5, "x")))


def test_a_few_steps_or_different_faults_are_not_enough_to_stop() -> None:
    one, other = Beginning(), Beginning()
    assert not any(one.hopeless(f"step {number % 2}", "TypeError at x") for number in range(100))
    assert one.hopeless("a third", "TypeError at x")
    assert not any(other.hopeless(f"step {number}", f"TypeError at {number % 2}") for number in range(100))
