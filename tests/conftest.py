from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.servers.fixtures"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background shell lets its children ignore Ctrl-C, and theirs; programs that the tests start are to hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
