"""What a cluster says of its habits, by its configuration and on its nodes: limits, memory, hyperthreads, software."""

from __future__ import annotations

import os
import platform
import pwd
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage, which
from typing import Any

from stac2cube.errors import SlurmError
from stac2cube.places.queue import Queue, duration_seconds
from stac2cube.places.script import LATE
from stac2cube.places.slurm import Slurm
from stac2cube.version import __version__

Finding = tuple[str, bool | None, str]
"""What was looked at; whether it is well, None where there is nothing to mend; what was found, and what to do."""

CHAIN = 3
"""Jobs of a usual recipe beside its worker jobs."""


def habits(place: Slurm) -> Iterator[Finding]:
    """What SLURM says of itself that concerns the jobs of a place; what it does not tell is left out.

    Args:
        place: Where the jobs would go.
    """
    queue = place.queue
    config = _pairs(_said(queue, "scontrol", "show", "config"))
    partition = _pairs(_said(queue, "scontrol", "show", "partition", place.partition)) if place.partition else {}
    yield "SLURM", True, _version(queue)
    yield _limits(queue, place, config)
    yield _memory(place, config | {name: value for name, value in partition.items() if value != "UNLIMITED"})
    if config.get("JobRequeue") == "0" and not any(one.startswith("--no-requeue") for one in place.directives):
        yield (
            "requeueing",
            None,
            "off unless asked for, as stac2cube does; --no-requeue in `directives` if it is refused",
        )
    longest = duration_seconds(partition.get("MaxTime", ""))
    wanted = duration_seconds(place.walltime) or 0.0
    if longest is not None:
        fits = wanted <= longest
        yield "time limit", fits, f"{partition['MaxTime']} at most in {place.partition}, walltime = {place.walltime}"
    yield _threads(queue, place)
    yield _maintenance(queue, wanted)
    scron = which("scrontab") is not None and "enable" in config.get("ScronParameters", "")
    yield (
        "runs by a clock",
        None,
        "scrontab is there" if scron else "no scrontab; cron on a login node, if it is there",
    )


def software() -> dict[str, Any]:
    """What a job finds on its node: versions, folders for temporary files, home, permissions."""
    temporary, home = Path(tempfile.gettempdir()), Path.home()
    return {
        "python": platform.python_version(),
        "stac2cube": __version__,
        "libc": " ".join(platform.libc_ver()),
        "tmpdir": os.environ.get("TMPDIR", ""),
        "temporary": str(temporary),
        "temporary_bytes": disk_usage(temporary).free,
        "home_writable": os.access(home, os.W_OK),
        "umask": oct(_umask()),
    }


def judged_software(found: list[dict[str, Any]]) -> Iterator[Finding]:
    """What is to be said of what nodes have told, see :func:`software`."""
    here = software()
    for name in ("stac2cube", "python", "libc"):
        values = sorted({of[name] for of in found})
        well = values == [here[name]] or (None if name != "stac2cube" else False)
        words = f"{', '.join(values)} on nodes, {here[name]} here"
        yield (f"{name} on nodes", well, words if well else f"{words}: say `python` of the site")
    lost = [of["tmpdir"] for of in found if of["tmpdir"] and of["tmpdir"] != of["temporary"]]
    words = "; ".join(f"{of['node']}: {of['temporary']}, {of['temporary_bytes'] / 2**30:.0f} GiB" for of in found)
    gone = f"; TMPDIR = {lost[0]} cannot be used there: set it in `prologue`" if lost else ""
    yield ("temporary folder", None if lost else True, f"{words}{gone}")
    home = all(of["home_writable"] for of in found)
    yield ("home on nodes", True if home else None, "can be written" if home else "read-only, which jobs bear")
    yield ("umask on nodes", True, ", ".join(sorted({of["umask"] for of in found})))
    late = max(of["late"] for of in found)
    yield ("files appear", late < LATE, f"within {max(0.0, late):.1f} s on the other node; jobs wait {LATE:.0f} s")


def working_memory_form(place: Slurm, takes: dict[str, bool]) -> str:
    """The first way of asking for memory that sbatch takes, the place's own before the others; "" if none.

    Args:
        place: Where the jobs would go.
        takes: Whether sbatch takes a job, by the form in which it asks.
    """
    order = (place.memory_as, "mem", "mem-per-cpu", "none", "all")
    return next((form for form in order if takes.get(form)), "")


def _limits(queue: Queue, place: Slurm, config: dict[str, str]) -> Finding:
    mine = ["where", f"user={pwd.getpwuid(os.getuid()).pw_name}"]
    words = ["--noheader", "--parsable2", "show", "assoc", *mine, "format=Account,MaxJobs,MaxSubmit"]
    lines = _said(queue, "sacctmgr", *words).splitlines()
    rows = [line.split("|") for line in lines if line.count("|") == 2]
    least = min((int(row[2]) for row in rows if row[2].isdigit()), default=None)
    said = f"MaxArraySize {config.get('MaxArraySize', '?')}, MaxJobCount {config.get('MaxJobCount', '?')}"
    if least is None:
        return "jobs at a time", None, f"no MaxSubmitJobs of yours is known; {said}"
    enough = least >= place.jobs + CHAIN
    advice = "" if enough else f"; jobs = {max(1, least - CHAIN)} would leave room for the {CHAIN} of a recipe"
    return "jobs at a time", None if not enough else True, f"MaxSubmitJobs {least}, jobs = {place.jobs}{advice}; {said}"


def _memory(place: Slurm, config: dict[str, str]) -> Finding:
    names = ("DefMemPerCPU", "DefMemPerNode", "MaxMemPerCPU", "MaxMemPerNode")
    said = ", ".join(f"{name} {config[name]}" for name in names if config.get(name, "UNLIMITED").isdigit())
    kept = "MEMORY" in config.get("SelectTypeParameters", "").upper()
    if not kept:
        return (
            "memory",
            None,
            f"SLURM counts no memory (SelectTypeParameters); {said or 'no defaults'}",
        )
    return "memory", True, f"{said or 'no defaults and no most'}; asked for as {place.memory_as}"


def _threads(queue: Queue, place: Slurm) -> Finding:
    words = ["--noheader", *([f"--partition={place.partition}"] if place.partition else []), "--format=%z %G"]
    lines = _said(queue, "sinfo", *words).splitlines()
    shapes = {found[0] for line in lines if (found := re.match(r"\d+\+?:\d+\+?:(\d+)", line))}
    if any(int(shape.rpartition(":")[2]) > 1 for shape in shapes):
        advice = 'directives = ["--hint=nomultithread"] gives whole cores'
        return "hyperthreads", None, f"sockets:cores:threads {', '.join(sorted(shapes))}; {advice}"
    alike = "" if len(shapes) < 2 else "; nodes differ: workers have `cores` on each"
    return "hyperthreads", True, f"none: sockets:cores:threads {', '.join(sorted(shapes)) or '?'}{alike}"


def _maintenance(queue: Queue, wanted: float) -> Finding:
    said = _said(queue, "scontrol", "--oneliner", "show", "reservation")
    planned = [_pairs(line) for line in said.splitlines() if "MAINT" in line]
    if not planned:
        return "maintenance", True, "none is planned"
    first = min(one.get("StartTime", "?") for one in planned)
    hours = f"a walltime of {wanted / 3600:g} h waits until after it where it does not fit before"
    return "maintenance", None, f"from {first}; {hours}"


def _version(queue: Queue) -> str:
    said = _said(queue, "sbatch", "--version").strip()
    number = re.search(r"slurm\S*\s+[\d.]+\S*", said)
    return f"{number[0] if number else said or '?'}{'; sbatch says more than that' if chr(10) in said else ''}"


def _said(queue: Queue, program: str, *words: str) -> str:
    try:
        return queue.call(program, words)
    except SlurmError:
        return ""


def _pairs(text: str) -> dict[str, str]:
    """``Name = value`` and ``Name=value`` of scontrol."""
    return dict(re.findall(r"(\w+)[ \t]*=[ \t]*(\S*)", text))


def _umask() -> int:
    """The umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
