"""A build of the toy cube as a program of its own, for jobs and for being killed.

python -m tests.slurm.driver CUBE [--steps 6] [--pause 0.3] [--place slurm|allocation|gateway|threads] ...
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions
from stac2cube.cli.run import begin_command, leave, stoppable
from stac2cube.errors import Stac2cubeError
from stac2cube.executors.base import Threads
from stac2cube.executors.gateway import Gateway
from stac2cube.executors.queue import job_end
from stac2cube.executors.slurm import Allocation, Slurm
from stac2cube.progress import LineProgress
from tests.build.toy import SPEC, Make, steps
from tests.slurm.hoard import Hoard


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("cube", type=Path)
    words.add_argument("--steps", type=int, default=6)
    words.add_argument("--pause", type=float, default=0.3)
    words.add_argument("--place", default="slurm")
    words.add_argument("--jobs", type=int, default=2)
    words.add_argument("--partition", default="normal")
    words.add_argument("--walltime", default="00:10:00")
    words.add_argument("--memory", default="1GiB")
    words.add_argument("--interface", default="")
    words.add_argument("--hoard", type=int, default=0, help="MiB that each block takes")
    words.add_argument("--no-deadline", action="store_true")
    words.add_argument("--on-deadline", default="stop")
    given = words.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    begin_command()
    place = Threads(1)
    if given.place == "allocation":
        place = Allocation.of_this_job()
    elif given.place == "gateway":
        place = Gateway(workers=given.jobs)
    elif given.place == "slurm":
        place = Slurm(
            partition=given.partition,
            jobs=given.jobs,
            cores=1,
            memory=given.memory,
            walltime=given.walltime,
            interface=given.interface,
            logs=str(given.cube.parent / "logs"),
        )
    task = Hoard(given.pause, megabytes=given.hoard) if given.hoard else Make(given.pause)
    try:
        with stoppable() as stop:
            options = BuildOptions(stop=stop, deadline=None if given.no_deadline else job_end())
            summary = build(
                given.cube, SPEC, steps(range(given.steps)), task, place, options=options, progress=LineProgress()
            )
    except Stac2cubeError as error:
        print(f"stac2cube: {error}", file=sys.stderr)
        return 1
    print(f"sealed {len(summary.sealed)} present {len(summary.present)} failed {summary.failed}")
    return leave(summary.exit_code, given.on_deadline, progressed=bool(summary.sealed))


if __name__ == "__main__":
    sys.exit(main())
