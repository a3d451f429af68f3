"""Places where blocks are made: the interface, threads of this process, and the resources of a task on its node."""

from __future__ import annotations

import math
import os
import re
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from stac2cube.errors import BadInputError
from stac2cube.executors.queue import in_job

# Cores and memory that a task of a SLURM job may use on its node, as SLURM and the kernel report them.

MIB = 2**20

GUARD_SCRIPT = (
    'In a script, call stac2cube below `if __name__ == "__main__":`, because each worker process imports the script; '
    "or use the place Threads"
)
"""What to do where worker processes do not start."""

_SPECIAL_STEPS = 0xFFFFFFF0
"""Step numbers from here on belong to special steps without tasks: batch, external, interactive, pending (slurm.h)."""


def cores_of_task(environment: Mapping[str, str] | None = None) -> int:
    """Cores that this process may use; never more than its job has on this node.

    Where SLURM binds tasks to cores, the affinity mask gives them; elsewhere SLURM's variables do. With
    ``--hint=nomultithread`` or ``--threads-per-core=1`` the hyperthreads of one core count once.
    """
    values = os.environ if environment is None else environment
    usable = os.sched_getaffinity(0)
    found = len(usable) // hyperthreads(values, usable)
    # Inside salloc a login node has a job's variables, but is not one of the job's nodes.
    on_node = _cpus_here(values) if values.get("SLURMD_NODENAME") else None
    if on_node is None:
        return max(1, found)
    if in_step(values):
        # SLURM_CPUS_PER_TASK counts cores where hyperthreads do not count, see --cpus-per-task in srun(1).
        per_task = _number(values.get("SLURM_CPUS_PER_TASK"))
        return max(1, min(found, per_task or on_node // tasks_here(values) // hyperthreads(values, usable)))
    return max(1, min(found, on_node // hyperthreads(values, usable)))


def hyperthreads(values: Mapping[str, str], usable: Set[int] | None = None) -> int:
    """Number of CPUs, as SLURM counts them, per core: 1 where each hyperthread may be used as a core.

    Args:
        values: SLURM's variables; ``--hint=nomultithread`` and ``--threads-per-core=1`` make a core count once.
        usable: CPUs that this process may use. Default: all in its affinity mask.
    """
    if values.get("SLURM_HINT") != "nomultithread" and values.get("SLURM_THREADS_PER_CORE") != "1":
        return 1
    cpus = usable or os.sched_getaffinity(0)
    return max(1, len(cpus) // len({_siblings(cpu) for cpu in cpus}))


def memory_of_task(
    environment: Mapping[str, str] | None = None,
    proc: Path = Path("/proc"),
    cgroups: Path = Path("/sys/fs/cgroup"),
) -> int:
    """Bytes that this task may use: the smallest limit, shared with the job's other tasks on this node.

    The limits are ``SLURM_MEM_PER_CPU``, ``SLURM_MEM_PER_NODE``, ``SLURM_MEM_PER_GPU``, the cgroups (version 1 and 2)
    of this process, ``RLIMIT_RSS``, and the node's memory in proportion to the job's share of its cores.

    Args:
        environment: Variables. Default: those of this process.
        proc: Mount point of procfs.
        cgroups: Mount point of control groups.
    """
    values = os.environ if environment is None else environment
    tasks = tasks_here(values)
    found = [limit // tasks for limit in _cgroup_limits(proc, cgroups)]
    if per_cpu := _mib(values.get("SLURM_MEM_PER_CPU")):
        found.append(per_cpu * MIB * cores_of_task(values))
    if per_node := _mib(values.get("SLURM_MEM_PER_NODE")):
        found.append(per_node * MIB // tasks)
    gpus = _number(values.get("SLURM_GPUS_ON_NODE"))
    if gpus and (per_gpu := _mib(values.get("SLURM_MEM_PER_GPU"))):
        found.append(per_gpu * MIB * gpus // tasks)
    soft = resource.getrlimit(resource.RLIMIT_RSS)[0]
    if soft != resource.RLIM_INFINITY:
        found.append(soft // tasks)
    node = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    of_node = _cpus_here(values) or os.cpu_count() or 1
    found.append(node * min(of_node, os.cpu_count() or 1) // (os.cpu_count() or 1) // tasks)
    return min(found)


def in_step(values: Mapping[str, str]) -> bool:
    """Whether srun started this process, beside other tasks.

    The shell of an interactive ``salloc`` is also a step, but like a batch script it has the job's whole share of the
    node, so it does not count here.
    """
    step = values.get("SLURM_STEP_ID") or ""
    return step.isdecimal() and int(step) < _SPECIAL_STEPS


def tasks_here(values: Mapping[str, str]) -> int:
    """Tasks of this step on this node; 1 in a batch script, which has the job's whole share of its node."""
    if not in_step(values):
        return 1
    said = values.get("SLURM_STEP_TASKS_PER_NODE") or values.get("SLURM_TASKS_PER_NODE") or "1"
    each = per_node(said)
    node = _number(values.get("SLURM_NODEID")) or 0
    return max(1, each[node] if node < len(each) else max(each, default=1))


def per_node(said: str) -> list[int]:
    """Expand SLURM's list of one number per node: ``"2(x3),1"`` is ``[2, 2, 2, 1]``."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", said)
    return [int(number) for number, times in found for _ in range(int(times or 1))]


def _cpus_here(values: Mapping[str, str]) -> int | None:
    """CPUs of the job on this node, as SLURM reports them; None if it does not."""
    if on_node := _number(values.get("SLURM_CPUS_ON_NODE")):
        return on_node
    each = per_node(values.get("SLURM_JOB_CPUS_PER_NODE") or "")
    node = _number(values.get("SLURM_NODEID")) or 0
    return each[node] if node < len(each) else min(each, default=None)


_NO_VALUE = 0xFFFFFFFE
"""From here on numbers of SLURM mean that there is none (NO_VAL and INFINITE of slurm.h)."""


def _number(said: str | None) -> int | None:
    number = int(said) if said and said.isdecimal() else _NO_VALUE
    return number if number < _NO_VALUE else None


def _mib(said: str | None) -> int | None:
    """MiB of a SLURM variable: a number of MiB, or with a unit as in ``--mem``; None if there is no limit."""
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", said or "", re.IGNORECASE)
    if not found:
        return None
    power = {"K": -1, "": 0, "M": 0, "G": 1, "T": 2}[found[2].upper()]
    return int(int(found[1]) * 1024**power) or None


def _siblings(cpu: int) -> str:
    """Text that is the same for all CPUs of one core."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="utf-8")
    except OSError:
        return str(cpu)  # the kernel does not report it


def _cgroup_limits(proc: Path, cgroups: Path) -> Iterator[int]:
    """Memory limits, in bytes, of the control groups of this process and of their parents."""
    for folder, unified in _cgroup_folders(proc, cgroups, "memory"):
        said = _read(folder / ("memory.max" if unified else "memory.limit_in_bytes"))
        # Version 1 writes the largest page-aligned number for "no limit".
        if said.isdigit() and int(said) < 2**60:
            yield int(said)


def _cgroup_quotas(proc: Path, cgroups: Path) -> Iterator[float]:
    """Numbers of CPUs whose time the control groups of this process and their parents may use."""
    for folder, unified in _cgroup_folders(proc, cgroups, "cpu"):
        files = ("cpu.max",) if unified else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        # Microseconds per period of so many; "max", or -1 in version 1, is no limit.
        quota, _, period = " ".join(_read(folder / file) for file in files).partition(" ")
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            yield int(quota) / int(period)


def _cgroup_folders(proc: Path, cgroups: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the control groups of this process and of their parents; and whether they are of version 2."""
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, kinds, path = line.split(":", 2)
        if not kinds:
            roots = (cgroups, cgroups / "unified")
        elif controller in kinds.split(","):
            roots = (cgroups / controller, cgroups / kinds)
        else:
            continue
        for root in roots:
            here = root / path.lstrip("/")
            for folder in (here, *here.parents):
                if not folder.is_relative_to(root):
                    break
                yield folder, not kinds


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


# The interface of a place: a standard executor, and the number of blocks that it processes at once.


class Place(Protocol):
    """Where blocks are made. A place is a frozen value; nothing is started before :meth:`open`."""

    @property
    def parallel(self) -> int:
        """Number of blocks processed at the same time."""
        ...

    @property
    def on_cluster(self) -> bool:
        """Whether blocks are made on the nodes of a cluster, wherever this process runs."""
        ...

    def open(self) -> AbstractContextManager[Executor]:
        """Start the workers; they are stopped when the context ends, also after an error."""
        ...

    def explain(self, error: BaseException) -> str:
        """Explanation and remedy for an error that is specific to this place; "" for any other error."""
        ...


def usable_cores(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Number of cores this process may use, which inside a job is fewer than the node has.

    A container (``docker run --cpus=2``, a Kubernetes pod) and a person on a login node (systemd's ``CPUQuota``) may
    have a part of the time of all cores: more blocks at once would only need more memory.

    Args:
        proc: Mount point of procfs.
        cgroups: Mount point of control groups.
    """
    return max(1, math.ceil(min([cores_of_task(), *_cgroup_quotas(proc, cgroups)])))


# The place for a laptop, a test, or one node: threads of this process.

LONGEST = 30.0
"""Seconds that running blocks have to end when the work ends by an error."""


@dataclass(frozen=True)
class Threads:
    """Threads of this process.

    Attributes:
        workers: Number of threads; all usable cores by default. Memory grows with it: one block per thread.
    """

    workers: int = field(default_factory=usable_cores)

    @property
    def parallel(self) -> int:
        """Number of blocks processed at the same time."""
        return self.workers

    @property
    def on_cluster(self) -> bool:
        """Whether this process runs inside a SLURM job."""
        return in_job()

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """A thread pool; blocks that have not begun when the context ends are dropped.

        After an error, running blocks are waited for no longer than :data:`LONGEST`: a second Ctrl-C can leave a
        future locked, and its block would never end. What such a block still writes belongs to a dead run, and is
        harmless.
        """
        threads: list[threading.Thread] = []
        pool = ThreadPoolExecutor(
            self.workers, thread_name_prefix="block", initializer=lambda: threads.append(threading.current_thread())
        )
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            until = time.monotonic() + LONGEST
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            raise
        pool.shutdown(wait=True, cancel_futures=True)

    def explain(self, error: BaseException) -> str:  # noqa: ARG002 - threads have no errors of their own
        """Threads have no errors of their own."""
        return ""


def place_or_threads(place: Place | None) -> Place:
    """The given place, or threads of this process if there is none.

    Raises:
        BadInputError: It is no place; the command line has names for places, Python has values.
    """
    if place is None:
        return Threads()
    if not hasattr(place, "parallel"):
        raise BadInputError(f"place should be a place such as stac2cube.Threads(4) or stac2cube.Local(), not {place!r}")
    return place
