from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["tests.servers.fixtures"]

FAST = Path(__file__).with_name("fast.txt")

# Hypothesis fails a test of which one example takes 0.2 s by the clock; on a busy machine anything may.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background shell lets its children ignore Ctrl-C, and theirs; programs that the tests start are to hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


try:
    ctypes.CDLL("libgomp.so.1")
except OSError:
    # Its wheel brings no OpenMP: tests of it skip as where it is not installed, in place of failing to be collected.
    sys.modules["lightgbm"] = None  # type: ignore[assignment]


def named_fast() -> list[str]:
    """Folders, files and tests of the short set."""
    return [line for line in FAST.read_text().splitlines() if line and not line.startswith("#")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the short set: a folder, a file, a test, or a test with one of its parameters."""
    named = named_fast()
    for item in items:
        where = item.nodeid.removeprefix("tests/")
        ends = {where, where.partition("[")[0], where.partition("::")[0]}
        if any(name in ends or (name.endswith("/") and where.startswith(name)) for name in named):
            item.add_marker(pytest.mark.fast)


@pytest.fixture
def as_user() -> Iterator[None]:
    """Run as somebody whom file permissions bind: root would be let through everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
