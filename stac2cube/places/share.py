"""What a task of a SLURM job may use on its node: cores and memory, from what SLURM and the kernel say."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

MIB = 2**20


def cores_of_task(environment: Mapping[str, str] | None = None) -> int:
    """Cores that this process may use; never more than its job has on this node.

    The affinity mask tells where SLURM binds tasks to cores. Where it does not, its variables tell. With
    ``--hint=nomultithread`` or ``--threads-per-core=1`` the hyperthreads of one core count once.
    """
    values = os.environ if environment is None else environment
    usable = os.sched_getaffinity(0)
    single = values.get("SLURM_HINT") == "nomultithread" or values.get("SLURM_THREADS_PER_CORE") == "1"
    found = _whole_cores(usable) if single else len(usable)
    # On a login node inside salloc there is a job, but no node of it here.
    on_node = _number(values.get("SLURM_CPUS_ON_NODE")) if values.get("SLURMD_NODENAME") else None
    if on_node is None:
        return found
    if in_step(values):
        on_node = _number(values.get("SLURM_CPUS_PER_TASK")) or on_node // tasks_here(values)
    return max(1, min(found, on_node))


def memory_of_task(
    environment: Mapping[str, str] | None = None,
    proc: Path = Path("/proc"),
    cgroups: Path = Path("/sys/fs/cgroup"),
) -> int:
    """Bytes that this task may use: the least of all that limits it, shared with the job's other tasks on this node.

    What limits it: ``SLURM_MEM_PER_CPU``, ``SLURM_MEM_PER_NODE``, ``SLURM_MEM_PER_GPU``, the cgroups (version 1 and 2)
    it runs in, ``RLIMIT_RSS``, and the share of the node's memory that its cores are of the node's cores.

    Args:
        environment: Variables; this process's own if None.
        proc: Where the kernel tells of processes.
        cgroups: Where control groups are mounted.
    """
    values = os.environ if environment is None else environment
    tasks = tasks_here(values)
    found = [limit // tasks for limit in _cgroup_limits(proc, cgroups)]
    if per_cpu := _number(values.get("SLURM_MEM_PER_CPU")):
        found.append(per_cpu * MIB * cores_of_task(values))
    if per_node := _number(values.get("SLURM_MEM_PER_NODE")):
        found.append(per_node * MIB // tasks)
    gpus = _number(values.get("SLURM_GPUS_ON_NODE"))
    if gpus and (per_gpu := _number(values.get("SLURM_MEM_PER_GPU"))):
        found.append(per_gpu * MIB * gpus // tasks)
    soft = resource.getrlimit(resource.RLIMIT_RSS)[0]
    if soft != resource.RLIM_INFINITY:
        found.append(soft // tasks)
    node = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    of_node = _number(values.get("SLURM_CPUS_ON_NODE")) or os.cpu_count() or 1
    found.append(node * min(of_node, os.cpu_count() or 1) // (os.cpu_count() or 1) // tasks)
    return min(found)


def in_step(values: Mapping[str, str]) -> bool:
    """Whether this process was started by srun, beside other tasks."""
    return (values.get("SLURM_STEP_ID") or "").isdigit()


def tasks_here(values: Mapping[str, str]) -> int:
    """Tasks of this step on this node; 1 in a batch script, which has the job's share of its node for itself."""
    if not in_step(values):
        return 1
    said = values.get("SLURM_STEP_TASKS_PER_NODE") or values.get("SLURM_TASKS_PER_NODE") or "1"
    each = per_node(said)
    node = _number(values.get("SLURM_NODEID")) or 0
    return max(1, each[node] if node < len(each) else max(each, default=1))


def per_node(said: str) -> list[int]:
    """A number for each node, as SLURM abbreviates them: ``"2(x3),1"`` is ``[2, 2, 2, 1]``."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", said)
    return [int(number) for number, times in found for _ in range(int(times or 1))]


def _number(said: str | None) -> int | None:
    return int(said) if said and said.isdigit() else None


def _whole_cores(usable: set[int]) -> int:
    siblings = set()
    for core in usable:
        try:
            siblings.add(Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text())
        except OSError:
            siblings.add(str(core))  # the kernel does not tell
    return len(siblings)


def _cgroup_limits(proc: Path, cgroups: Path) -> Iterator[int]:
    """Memory limits, bytes, of the control groups of this process and of those around them."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if not kinds:
            roots, file = (cgroups, cgroups / "unified"), "memory.max"
        elif "memory" in kinds.split(","):
            roots, file = (cgroups / "memory", cgroups / kinds), "memory.limit_in_bytes"
        else:
            continue
        for root in roots:
            here = root / path.lstrip("/")
            for folder in (here, *here.parents):
                if not folder.is_relative_to(root):
                    break
                try:
                    said = (folder / file).read_text().strip()
                except OSError:
                    continue
                # Version 1 writes the largest page-aligned number for "no limit".
                if said.isdigit() and int(said) < 2**60:
                    yield int(said)
