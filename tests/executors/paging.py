"""Whether a worker uses the memory of arrays again, or gets it from the system anew for each."""

from __future__ import annotations

import os
import resource

import numpy as np

ARRAY = 8 * 2**20 // os.sysconf("SC_PAGE_SIZE")
"""Pages of one array."""


def pages_cleared() -> int:
    """By the system, for arrays of 8 MiB that come and go."""
    for _ in range(3):
        np.ones(2**20)  # what is used again is there by now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones(2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
