"""One task of a job array that builds the toy cube: python -m tests.slurm.share CUBE SEALING-JOB CLUSTER STEPS."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stac2cube.build.array_job import ArrayLease, build_part
from stac2cube.executors.base import Threads
from tests.build.toy import Make, steps

if __name__ == "__main__":
    cube, sealing, cluster, count = sys.argv[1:]
    number, many = (int(os.environ[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "COUNT"))
    claim = ArrayLease(sealing, cluster)
    summary = build_part(Path(cube), steps(range(int(count))), Make(0.3), Threads(1), claim, (number, many))
    sys.exit(summary.exit_code)
