"""Waiting for processes, servers and jobs: long enough for a machine that others keep busy, and saying what for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 900.0
"""Seconds after which something is taken to hang: ten times what the longest wait takes on a quiet machine."""


def wait_for(look: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """What ``look`` gives once it is true.

    Args:
        look: Called ten times a second.
        what: The words of the failure: what was waited for.
        seconds: When to give up.
    """
    give_up = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < give_up, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.1)
    return found
