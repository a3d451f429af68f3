"""Builds the toy cube in a process of its own, to be killed by the tests: ``python -m tests.build.builder CUBE PLACE N``."""

from __future__ import annotations

import sys
from pathlib import Path

from stac2cube.build import build
from stac2cube.places.local import Local
from stac2cube.places.threads import Threads
from tests.build.toy import SPEC, Make, steps


def main(cube: str, place: str, count: str, pause: str = "0.004") -> None:
    where = Local(workers=2) if place == "local" else Threads(2)
    summary = build(Path(cube), SPEC, steps(range(int(count))), Make(float(pause)), where)
    sys.exit(summary.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
