"""The one-machine cluster as tests use it: started once, its nodes mended after each test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests import waiting

T = TypeVar("T")

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "slurm" / "cluster"


def why_not() -> str:
    """Why no SLURM can be had here, "" if it can."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    lacking = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name, path=path) is None]
    return f"SLURM is not installed here (no {', '.join(lacking)}): apt install slurm-wlm munge" if lacking else ""


def can_account() -> bool:
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return all(shutil.which(name, path=path) for name in ("slurmdbd", "mariadbd"))


def say(*command: object, check: bool = True, **environment: str) -> str:
    """What a command prints, both streams."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Cluster:
    """A running cluster; ``SLURM_CONF`` points to it.

    Attributes:
        folder: Its own.
        work: A folder that every node sees.
        accounting: Whether sacct works.
    """

    folder: Path
    work: Path
    accounting: bool

    def state(self, job: str) -> str:
        found = say("squeue", "-h", "--states=all", "-j", job, "-o", "%T", check=False).split()
        return found[0] if found else ""

    def wait_state(self, job: str, *states: str, seconds: float = 60) -> str:
        return wait_for(lambda: (now := self.state(job)) in states and now, seconds, f"job {job} {states}")

    def jobs(self, state: str = "RUNNING", name: str = "") -> list[str]:
        lines = say("squeue", "-h", "--array", f"--states={state}", "-o", "%i %j").splitlines()
        return [line.split()[0] for line in lines if name in line]

    def node_of(self, job: str) -> str:
        return say("squeue", "-h", "-j", job, "-o", "%N").strip()

    def wait_idle(self, seconds: float = 240) -> None:
        """Until no job waits or runs."""
        wait_for(lambda: not say("squeue", "-h").strip(), seconds, "an empty queue")

    def accounted(self, job: str) -> str:
        """Final state of a job as sacct tells; it lags behind a little."""

        def final() -> str:
            line = say("sacct", "-X", "-n", "-P", "-D", "-j", job, "-o", "State").splitlines()
            return line[-1] if line and line[-1] not in ("RUNNING", "PENDING", "") else ""

        return wait_for(final, 20, f"sacct of {job}")

    def mend(self) -> None:
        """Cancel everything and bring every node back."""
        say("scancel", "--user", str(os.getuid()), check=False)
        for node in ("node1", "node2", "node3", "node4"):
            if re.search(r"State=(DOWN|DRAIN)", say("scontrol", "show", "node", node)):
                say("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self.wait_idle(120)


def wait_for(look: Callable[[], T], seconds: float, what: str) -> T:
    """What ``look`` gives once it is true; the seconds are a quiet machine's, a busy one gets six times as many."""
    return waiting.wait_for(look, what, 6 * seconds)


def stac2cube(
    *words: object, check: bool = True, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as people do."""
    done = subprocess.run(
        [sys.executable, "-m", "stac2cube", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | environment,
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done


def jobs_of(said: str) -> dict[str, str]:
    """Job ids by name, as ``submit`` prints them."""
    return dict(re.findall(r"^(\S+)\s+job (\d+)$", said, re.MULTILINE))


def start(*words: Sequence[str]) -> None:
    say(SCRIPT, *words)
