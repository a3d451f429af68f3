"""The short set of `make fast`: every line of its list stands for tests that are there."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import FAST, named_fast

TESTS = Path(__file__).parents[1]


def test_every_line_names_tests_that_are_there() -> None:
    assert len(named_fast()) == len(set(named_fast()))
    for name in named_fast():
        path, _, test = name.partition("::")
        assert (TESTS / path).exists(), f"{FAST.name}: {name}"
        function = test.partition("[")[0]
        assert not test or f"\ndef {function}(" in (TESTS / path).read_text(), f"{FAST.name}: {name}"


def test_it_touches_every_room() -> None:
    rooms = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    # Recorded material and timings are left to longer runs.
    touched = {name.partition("/")[0] for name in named_fast()}
    assert rooms - touched == {"real", "bench"}, f"{FAST.name} lacks something quick of these"
