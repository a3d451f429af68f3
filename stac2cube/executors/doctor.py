"""Checks whether an HPC site can run stac2cube, with SLURM's answers and trials on its nodes; text of a bug report."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from shutil import disk_usage, which
from typing import Any
from uuid import uuid4

from stac2cube.errors import BadInputError, CubeError, SlurmError
from stac2cube.executors.base import cores_of_task, memory_of_task
from stac2cube.executors.queue import (
    LATE,
    Body,
    JobScript,
    Queue,
    duration_seconds,
    job_script,
    last_words,
    python_words,
)
from stac2cube.executors.site import Room, Site, rooms, user_name
from stac2cube.executors.slurm import Slurm
from stac2cube.executors.worker_jobs import MEMORY_FORMS
from stac2cube.model.catalog import Catalog, catalogs
from stac2cube.store.files import remove_tree
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.trust.address import is_secret_name, public_text, redacted, remember
from stac2cube.trust.text import printable
from stac2cube.version import __version__

# Content of a bug report: versions, the newest rows of a ledger, the ends of logs, and no secret.

ROWS = 10
"""Number of newest rows of a ledger in a bug report."""

LINES = 40
"""Number of lines at the end of each log in a bug report."""

_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASS|PWD|AUTH|BEARER|COOKIE|HTTP_HEADERS|^CDSE_USERNAME$")
"""Environment variables whose values are left out of bug reports."""

_VALUE = re.compile(
    r"(?i)(\b[\w-]*(?:authorization|password|passwd|secret|token|api[-_]?key|access[-_]?key|bearer)[\w-]*[\"']?\s*[:=]\s*)[^\n]+"
)
"""The text after a word for a secret in a log, to the end of the line."""


def bug_report(cube: Path | None = None, logs: Sequence[Path] = ()) -> str:
    """Facts about this installation, and about a cube, as text for a bug report.

    Keys, passwords and signatures are replaced by ``***`` or left out: those in addresses, those in the environment,
    and those after a word such as ``token=`` in a log. The home folder is written as ``~``.

    Args:
        cube: The cube that shows the fault; None for the installation alone.
        logs: Log files, of which the last :data:`LINES` lines are shown.

    Returns:
        Several sections, each under a line ``== NAME``.
    """
    for name, value in os.environ.items():
        if is_secret_name(name) or _SECRET_VARIABLE.search(name):
            remember(value)
    sections = {"versions": _versions(), "environment": _environment()}
    if cube is not None:
        sections |= {"cube": _of_cube(cube)}
    sections |= {f"log {log}": "\n".join(_last_lines(log)) for log in logs}
    text = "\n".join(f"== {name}\n{words}\n" for name, words in sections.items())
    lines = [_VALUE.sub(r"\1***", public_text(line)) for line in text.splitlines()]
    return printable(redacted("\n".join(lines)).replace(str(Path.home()), "~"), lines=True)


def _versions() -> str:
    """Versions of stac2cube, Python, the system, and all declared dependencies of stac2cube."""
    from rasterio import __gdal_version__, __proj_version__

    lines = [f"stac2cube {__version__}", f"Python {platform.python_version()} on {platform.platform()}"]
    lines.append(f"{' '.join(platform.libc_ver())}; GDAL {__gdal_version__}, PROJ {__proj_version__} of rasterio")
    try:
        needed = requires("stac2cube") or []
    except PackageNotFoundError:
        return "\n".join([*lines, "stac2cube is not installed as a package"])
    # Extras too: torch, arosics and others affect the results of stages.
    names = sorted({found[0] for one in needed if (found := re.match(r"[\w.-]+", one))}, key=str.lower)
    for name in names:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name} is not installed")
    return "\n".join(lines)


def _environment() -> str:
    """Names of relevant variables; values only of those that hold no secret and are short."""
    names = [
        name
        for name in sorted(os.environ)
        if name.startswith(("STAC2CUBE_", "GDAL_", "PROJ_", "AWS_", "CDSE_", "SLURM_"))
    ]
    shown = ("STAC2CUBE_", "SLURM_JOB_ID", "SLURM_CLUSTER_NAME")
    lines = [f"{name}={os.environ[name]}" if name.startswith(shown) else f"{name} is set" for name in names]
    return "\n".join(lines) or "no variable of stac2cube, GDAL, PROJ, AWS, CDSE or SLURM is set"


def _of_cube(cube: Path) -> str:
    """Root and newest rows of a cube, or the reason why they cannot be read."""
    try:
        root = read_root(cube)
        rows = list(Ledger(cube, root.ledger).entries(whole=False).values())
    except (CubeError, OSError) as error:
        return f"{cube}: {error}"
    own = {name: value for name, value in root.own.items() if name not in ("checksums", "ledger")}
    counts = Counter(row.status for row in rows)
    lines = [str(cube), json.dumps(own, indent=1, default=str), f"rows: {dict(counts)}"]
    lines += [
        f"{row.commit:>5} {row.key} {row.status} {row.reason} {json.dumps(row.properties, default=str)}"
        for row in sorted(rows, key=lambda row: row.commit)[-ROWS:]
    ]
    return "\n".join(lines)


def _last_lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]


# Properties of a cluster, by its configuration and on its nodes: limits, memory, hyperthreads, software.

Finding = tuple[str, bool | None, str]
"""The subject; whether it is well, None where nothing needs mending; the finding, and what to do."""

CHAIN = 3
"""Number of jobs of a usual recipe besides its worker jobs."""


def habits(place: Slurm) -> Iterator[Finding]:
    """Settings of SLURM that affect the jobs of a place; those that SLURM does not report are left out.

    Args:
        place: The place that submits the jobs.
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
    """Software and permissions of this node: versions, folders for temporary files, home, umask."""
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
    """Findings about the software of nodes, from the results of :func:`software` there."""
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
    """The first form of memory request that sbatch accepts, the place's own before the others; "" if none.

    Args:
        place: The place that submits the jobs.
        takes: Whether sbatch accepts a job, by the form of its memory request.
    """
    order = (place.memory_as, "mem", "mem-per-cpu", "none", "all")
    return next((form for form in order if takes.get(form)), "")


def _limits(queue: Queue, place: Slurm, config: dict[str, str]) -> Finding:
    mine = ["where", f"user={user_name()}"]
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
    """Pairs of ``Name = value`` and ``Name=value`` in output of scontrol."""
    return dict(re.findall(r"(\w+)[ \t]*=[ \t]*(\S*)", text))


def _umask() -> int:
    """The umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# Checks of an HPC site: by queries to SLURM, and by trials on two of its nodes.

ROUNDS = 20
"""Number of races for a lock between two nodes."""

LATEST = 60.0
"""Difference, in seconds, between the clocks of two nodes that is an error: sealed steps and logs hold these times."""

FEW_INODES = 100_000
"""Files that a multi-year cube of one Sentinel-2 tile may need."""


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: Subject of the check.
        ok: Whether it is well; None where it is a matter of taste or could not be tried.
        words: The finding, and what to do if it is not well.
    """

    name: str
    ok: bool | None
    words: str


def checks(site: Site, folder: Path, wait: float, found: dict[str, Any] | None = None) -> Iterator[Check]:
    """Examine a site, quick checks first.

    Args:
        site: The site.
        folder: Folder on the file system for the cubes; all nodes must see it.
        wait: Seconds that the test jobs may wait in the queue.
        found: Receives the fields of the site's ``[slurm]`` that should have other values.

    Raises:
        BadInputError: The site's scheduler is not SLURM.
    """
    found = {} if found is None else found
    if site.slurm.scheduler != "slurm":
        raise BadInputError(f"doctor examines sites with SLURM, and {site.name} has {site.slurm.scheduler}")
    lacking = [program for program in ("sbatch", "squeue", "scancel", "scontrol") if which(program) is None]
    yield Check(
        "commands",
        not lacking,
        f"not on PATH: {', '.join(lacking)}" if lacking else "sbatch, squeue, scancel, scontrol",
    )
    if lacking:
        return
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    profiles = {"worker jobs": site.place(), "--test": site.place(test=True), "gpu": site.place(gpu=True)}
    for name, place in profiles.items():
        tried = _tried(f"sbatch takes {name}", partial(_tested, place, folder))
        if tried.ok is False and name == "worker jobs":
            tried = _otherwise(place, folder, tried, found)
        yield tried
    yield from (Check(*finding) for finding in habits(site.place()))
    yield _tried("submit and cancel", partial(_submitted_and_cancelled, site.place(), folder))
    for room in rooms(folder):
        yield _room(room)
    yield _tried("keys stay private", partial(_private, folder))
    yield from _on_two_nodes(replace(site.place(test=bool(site.test)), **found), folder, wait, found)


def probe(folder: Path, rank: int) -> None:
    """Examine one of two nodes and run races for locks with the other; writes ``probe-<rank>.json``.

    Args:
        folder: Folder shared by both nodes.
        rank: 0 or 1.
    """
    (folder / f"here-{rank}").write_text(str(time.time()), encoding="utf-8")
    other_seen = _within(60, (folder / f"here-{1 - rank}").exists)
    won = []
    for number in range(ROUNDS if other_seen else 0):
        (folder / f"ready-{number}-{rank}").touch()
        _within(30, (folder / f"ready-{number}-{1 - rank}").exists)
        try:
            (folder / f"lock-{number}").mkdir()
            won.append(number)
        except FileExistsError:
            pass
    renamed = _renames_seen(folder, rank) if other_seen else False
    (folder / f"late-{rank}").write_text(str(time.time()), encoding="utf-8")
    _within(LATEST, (folder / f"late-{1 - rank}").exists)
    late = (
        time.time() - float((folder / f"late-{1 - rank}").read_text(encoding="utf-8") or "nan") if other_seen else 0.0
    )
    found = {
        **software(),
        "late": late,
        "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "other_seen": other_seen,
        "won": won,
        "renamed": renamed,
        "interfaces": _interfaces(),
        "cores": cores_of_task(),
        "memory": memory_of_task(),
        "clock": time.time(),
        "jpeg2000": _jpeg2000(),
        "sbatch": which("sbatch") is not None,
        "catalogs": {name: _reachable(catalog) for name, catalog in catalogs().items()},
    }
    made = folder / f".probe-{rank}"
    made.write_text(json.dumps(found), encoding="utf-8")
    made.replace(folder / f"probe-{rank}.json")


def site_text(site: Site, found: Mapping[str, Any]) -> str:
    """Text of a site file from the known settings, to be edited.

    Args:
        site: The present settings.
        found: Fields of ``[slurm]`` with the values that were found instead.
    """
    values = {**asdict(site.slurm), **found}
    del values["site"]  # it is the name of the file
    lines = [f"title = {json.dumps(site.title)}", f"cluster = {json.dumps(_cluster(site))}", "", "[slurm]"]
    lines += [
        f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value)}" for name, value in values.items()
    ]
    for part, changes in (("test", site.test), ("gpu", site.gpu), ("limits", asdict(site.limits))):
        lines += ["", f"[{part}]"]
        lines += [f"{n} = {json.dumps(list(v) if isinstance(v, tuple) else v)}" for n, v in changes.items()]
    return "\n".join(lines) + "\n"


def _cluster(site: Site) -> str:
    try:
        return site.cluster or site.slurm.queue.name()
    except SlurmError:
        return ""  # the checks have reported it


def _job(place: Slurm, folder: Path, words: Sequence[str], *options: str, log: str = "/dev/null") -> JobScript:
    needs = place.memory_options(place.memory_bytes // 2**20, 1)
    name = f"stac2cube-doctor-{uuid4().hex[:8]}"
    return job_script("doctor", name, [*place.header(name, needs), *options], Body(place.prologue, words), folder, log)


def _tried(name: str, action: Callable[[], str]) -> Check:
    try:
        return Check(name, True, action())
    except (SlurmError, BadInputError) as error:
        return Check(name, False, str(error))


def _tested(place: Slurm, folder: Path) -> str:
    return place.queue.test(_job(place, folder, ["true"], "--ntasks=1"))


def _submitted_and_cancelled(place: Slurm, folder: Path) -> str:
    job = place.queue.submit(_job(place, folder, ["sleep", "60"], "--ntasks=1", "--hold"))
    try:
        known = place.queue.states([job])
    finally:
        place.queue.cancel([job])
    if not known:
        raise SlurmError(f"job {job} was submitted, but squeue does not know it: is 'clusters' of the site right?")
    return f"job {job}"


def _private(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix=".stac2cube-doctor-", dir=folder))
    try:
        if own.stat().st_mode & 0o077:
            raise BadInputError(f"{folder} keeps no permissions: name another folder as `logs` of the site")
    finally:
        own.rmdir()
    return "a folder is closed to others, as the key of worker jobs needs"


def _room(room: Room) -> Check:
    size = "no limit of bytes" if room.size is None else f"{room.size / 2**30:.0f} GiB"
    files = "no limit of files known" if room.files is None else f"{room.files} files"
    enough = room.files is None or room.files > FEW_INODES
    advice = "" if enough else f"; a cube of years may need {FEW_INODES}: a larger quota, or another folder"
    return Check("room for cubes", enough, f"{size} and {files} left by {room.source}{advice}")


def _otherwise(place: Slurm, folder: Path, refused: Check, found: dict[str, Any]) -> Check:
    """Try whether sbatch accepts the jobs with another form of memory request."""

    def takes(form: str) -> bool:
        try:
            _tested(replace(place, memory_as=form), folder)
        except (SlurmError, BadInputError):
            return False
        return True

    forms = {form: takes(form) for form in MEMORY_FORMS if form not in (place.memory_as, "mem-per-gpu")}
    if form := working_memory_form(place, forms):
        found["memory_as"] = form
        return replace(refused, words=f"{refused.words}. It takes them with memory_as = {json.dumps(form)}")
    return refused


def _on_two_nodes(place: Slurm, folder: Path, wait: float, found: dict[str, Any]) -> Iterator[Check]:
    shared = (folder / f".stac2cube-doctor-{uuid4().hex[:8]}").resolve()
    shared.mkdir(parents=True)
    program = python_words(place.python, "-m", "stac2cube", "doctor", "--probe", str(shared))
    command = ["srun", "--mpi=none", *program]
    two = replace(place, cores=1)
    try:
        job = two.queue.submit(_job(two, shared, command, "--nodes=2", "--ntasks-per-node=1", "--ntasks=2", log="log"))
        files = [shared / f"probe-{rank}.json" for rank in (0, 1)]
        ended = _within(
            wait, lambda: all(file.exists() for file in files) or not two.queue.states([job]) or _failed(two, job)
        )
        if not all(file.exists() for file in files):
            two.queue.cancel([job])
            time.sleep(2)  # the nodes' last output reaches the log after the job's end
            late = f"job {job} did not start within {wait:.0f} s"
            why = last_words(shared, "log", 8) or (late if not ended else "no word")
            yield Check("two nodes", None if not ended else False, why)
            return
        told = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        yield from _judged(told)
        yield from (Check(*finding) for finding in judged_software(told))
        common = set(told[0]["interfaces"]) & set(told[1]["interfaces"]) - {"lo"}
        if len(common) == 1:
            (found["interface"],) = common
    except SlurmError as error:
        yield Check("two nodes", False, str(error))
    finally:
        time.sleep(0.5)
        remove_tree(shared)


def _failed(place: Slurm, job: str) -> bool:
    return place.queue.states([job]).get(job) in ("FAILED", "CANCELLED", "TIMEOUT", "COMPLETED", "NODE_FAIL")


def _judged(found: list[dict[str, Any]]) -> Iterator[Check]:
    one, other = found
    nodes = f"{one['node']} and {other['node']}"
    yield Check("shared folder", one["other_seen"] and other["other_seen"], f"seen from {nodes}")
    both, either = set(one["won"]) & set(other["won"]), set(one["won"]) | set(other["won"])
    fair = not both and len(either) == ROUNDS
    words = f"{ROUNDS} races: {len(one['won'])} to {len(other['won'])}" + (
        f", {len(both)} won by both!" if both else ""
    )
    yield Check("mkdir is exclusive", fair, words)
    yield Check("rename is atomic", one["renamed"] and other["renamed"], "a file is old or new, never a part of either")
    for what, present in (("jpeg2000", "GDAL reads JPEG 2000"), ("sbatch", "sbatch is there for --place slurm")):
        well = one[what] and other[what]
        needed = what == "jpeg2000"
        yield Check(f"{what} on nodes", well if needed or well else None, present if well else f"not: {present}")
    shares = "; ".join(f"{of['node']}: {of['cores']} cores, {of['memory'] // 2**20} MiB" for of in found)
    yield Check("a task's share", True, shares)
    apart = abs(one["clock"] - other["clock"])
    # Both nodes read their clocks just after they have seen each other's last file.
    yield Check("clocks", apart < LATEST, f"{apart:.0f} s apart")
    common = sorted(set(one["interfaces"]) & set(other["interfaces"]) - {"lo"})
    addresses = ", ".join(f"{name} {one['interfaces'][name]}" for name in common)
    yield Check("interfaces", bool(common) or None, addresses or "none in common but lo")
    for name, problem in one["catalogs"].items():
        yield Check(f"catalog {name} from a node", None if problem else True, problem or "answers")


def _renames_seen(folder: Path, rank: int) -> bool:
    """Whether renames are atomic: rank 0 replaces a file repeatedly; rank 1 must always read one whole version."""
    file, over = folder / "renamed", folder / "renamed-over"
    if rank == 0:
        for number in range(200):
            new = folder / ".renamed"
            new.write_text(f"{number:06d}" * 2000, encoding="utf-8")
            new.replace(file)
        over.touch()
        return True
    if not _within(60, file.exists):
        return False
    while not over.exists():
        text = file.read_text(encoding="utf-8")
        if text != text[:6] * 2000:
            return False
    return True


def _interfaces() -> dict[str, str]:
    import psutil

    return {
        name: address.address
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family == socket.AF_INET
    }


def _jpeg2000() -> bool:
    from rasterio.env import Env

    with Env() as env:
        return any("JP2" in name for name in env.drivers())


def _reachable(catalog: Catalog) -> str:
    import requests

    from stac2cube.access.http import HostSession

    if catalog.roots and not any(Path(root).is_dir() for root in catalog.roots):
        return f"its archive {', '.join(catalog.roots)} is not mounted"
    try:
        with HostSession(catalog.url, catalog.login) as session:
            session.get(catalog.login.with_parameters(catalog.url), timeout=10).raise_for_status()
    except requests.RequestException as error:
        return f"cannot be reached: {type(error).__name__}; `stac2cube stage` searches on the login node"
    return ""


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + seconds
    while not true():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True
