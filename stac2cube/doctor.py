"""Whether an HPC site can do what stac2cube needs: asked of SLURM, and tried out on two of its nodes."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from shutil import which
from typing import Any
from uuid import uuid4

from stac2cube.catalog import Catalog, catalogs
from stac2cube.cube.files import remove_tree
from stac2cube.errors import BadInputError, SlurmError
from stac2cube.limits import Room, rooms
from stac2cube.places.habits import habits, judged_software, software, working_memory_form
from stac2cube.places.queue import last_words
from stac2cube.places.script import Body, JobScript, job_script, python_words
from stac2cube.places.share import cores_of_task, memory_of_task
from stac2cube.places.slurm import Slurm
from stac2cube.places.worker_jobs import MEMORY_FORMS
from stac2cube.site import Site

ROUNDS = 20
"""Races that two nodes run for a lock."""

LATE = 60.0
"""Seconds between the clocks of two nodes from which on something is wrong: sealed steps and logs bear these times."""

FEW_INODES = 100_000
"""Files that a multi-year cube of one Sentinel-2 tile may need."""


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        ok: Whether it is well; None where it is a matter of taste or could not be tried.
        words: What was found, and what to do if it is not well.
    """

    name: str
    ok: bool | None
    words: str


def checks(site: Site, folder: Path, wait: float, found: dict[str, Any] | None = None) -> Iterator[Check]:
    """Examine a site, quick checks first.

    Args:
        site: The site.
        folder: On the file system that cubes shall lie on; must be seen by all nodes.
        wait: Seconds that the test jobs may wait in the queue.
        found: Gets the fields of the site's ``[slurm]`` that were found to be otherwise.

    Raises:
        BadInputError: The site's scheduler is another than SLURM.
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
    """What each of two nodes does: look around, and run races for locks with the other; writes ``probe-<rank>.json``.

    Args:
        folder: Shared by both.
        rank: 0 or 1.
    """
    (folder / f"here-{rank}").write_text(str(time.time()))
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
    (folder / f"late-{rank}").write_text(str(time.time()))
    _within(LATE, (folder / f"late-{1 - rank}").exists)
    late = time.time() - float((folder / f"late-{1 - rank}").read_text() or "nan") if other_seen else 0.0
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
    made.write_text(json.dumps(found))
    made.replace(folder / f"probe-{rank}.json")


def site_text(site: Site, found: Mapping[str, Any]) -> str:
    """A site file from what is known, to be edited.

    Args:
        site: What was known before.
        found: Fields of ``[slurm]`` that were found to be otherwise.
    """
    values = {**asdict(site.slurm), **found}
    del values["site"]  # the file's own name
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
        return ""  # the checks have said so


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
    """Whether sbatch takes the jobs if they ask for memory in another way."""

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
            time.sleep(2)  # the nodes' last words reach the log after the job's end
            late = f"job {job} did not start within {wait:.0f} s"
            why = last_words(shared, "log", 8) or (late if not ended else "no word")
            yield Check("two nodes", None if not ended else False, why)
            return
        told = [json.loads(file.read_text()) for file in files]
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
    # The two look at each other's files last, so that they come here at about the same time.
    yield Check("clocks", apart < LATE, f"{apart:.0f} s apart")
    common = sorted(set(one["interfaces"]) & set(other["interfaces"]) - {"lo"})
    addresses = ", ".join(f"{name} {one['interfaces'][name]}" for name in common)
    yield Check("interfaces", bool(common) or None, addresses or "none in common but lo")
    for name, problem in one["catalogs"].items():
        yield Check(f"catalog {name} from a node", None if problem else True, problem or "answers")


def _renames_seen(folder: Path, rank: int) -> bool:
    """Rank 0 replaces a file again and again; rank 1 must always read one whole version."""
    file, over = folder / "renamed", folder / "renamed-over"
    if rank == 0:
        for number in range(200):
            new = folder / ".renamed"
            new.write_text(f"{number:06d}" * 2000)
            new.replace(file)
        over.touch()
        return True
    if not _within(60, file.exists):
        return False
    while not over.exists():
        text = file.read_text()
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

    from stac2cube.source.http import HostSession

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
