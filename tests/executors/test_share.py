"""What a task may use, from what SLURM's variables and the kernel's files say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stac2cube.executors import base as share
from stac2cube.executors import slurm
from stac2cube.executors.base import MIB, cores_of_task, memory_of_task, per_node, tasks_here, usable_cores
from stac2cube.executors.slurm import Allocation

STEP = {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURMD_NODENAME": "n", "SLURM_NODEID": "0"}


def memory(tmp_path: Path, **values: str) -> int:
    """What a task may use where no control group says anything."""
    return memory_of_task(values, tmp_path, tmp_path)


def test_numbers_by_node() -> None:
    assert per_node("2(x3),1") == [2, 2, 2, 1]
    assert per_node("4") == [4]
    assert tasks_here(STEP | {"SLURM_STEP_TASKS_PER_NODE": "2(x2),1", "SLURM_NODEID": "2"}) == 1
    assert tasks_here({"SLURM_TASKS_PER_NODE": "4"}) == 1, "a batch script is one process"


@pytest.mark.parametrize(
    ("words", "mib"),
    [
        ({"SLURM_MEM_PER_NODE": "900"}, 900),
        ({**STEP, "SLURM_MEM_PER_NODE": "900", "SLURM_TASKS_PER_NODE": "3"}, 300),
        ({**STEP, "SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "1"}, 100),
        ({"SLURM_MEM_PER_GPU": "400", "SLURM_GPUS_ON_NODE": "2"}, 800),
        ({"SLURM_MEM_PER_NODE": "1G"}, 1024),
        ({"SLURM_MEM_PER_GPU": "300M", "SLURM_GPUS_ON_NODE": "1"}, 300),
        # The shell of an interactive salloc is a step that is none of tasks.
        ({"SLURM_STEP_ID": "4294967290", "SLURM_MEM_PER_NODE": "900", "SLURM_TASKS_PER_NODE": "3"}, 900),
    ],
)
def test_memory_as_slurm_says(tmp_path: Path, words: dict[str, str], mib: int) -> None:
    assert memory(tmp_path, **words) == mib * MIB


def test_without_a_word_it_is_the_share_of_the_node_never_all_of_it(tmp_path: Path) -> None:
    node = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = os.cpu_count()
    for zero in ({}, {"SLURM_MEM_PER_NODE": "0"}):
        two = memory(tmp_path, **STEP, **zero, SLURM_TASKS_PER_NODE="2", SLURM_CPUS_ON_NODE=str(cores))
        assert two == node // 2
    assert memory(tmp_path, SLURM_CPUS_ON_NODE="1") == node // cores


@pytest.mark.parametrize("mounted", ["", "unified"])
def test_cgroups_of_version_2(tmp_path: Path, mounted: str) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/job_1/step_0/task_0\n")
    job = tmp_path / mounted / "job_1"
    (job / "step_0" / "task_0").mkdir(parents=True)
    (job / "memory.max").write_text(f"{700 * MIB}\n")
    (job / "step_0" / "memory.max").write_text("max\n")
    assert memory(tmp_path) == 700 * MIB
    assert memory(tmp_path, **STEP, SLURM_TASKS_PER_NODE="7") == 100 * MIB


def test_cgroups_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("5:cpuset:/x\n4:memory:/slurm/uid_0/job_1/step_batch\n0::/\n")
    job = tmp_path / "memory" / "slurm" / "uid_0" / "job_1"
    job.mkdir(parents=True)
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (job / "memory.limit_in_bytes").write_text(f"{600 * MIB}\n")
    assert memory(tmp_path) == 600 * MIB


@pytest.mark.parametrize(("said", "cores"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("", 8)])
@pytest.mark.parametrize("unified", [True, False])
def test_a_quota_of_cpu_time_is_so_many_cores(
    unified: bool, said: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container started with ``--cpus=2`` on a machine with more cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/\n" if unified else "3:cpu,cpuacct:/docker/7\n0::/\n")
    quota, _, period = said.partition(" ")
    files = {"cpu.max": said} if unified else {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period}
    group = tmp_path if unified else tmp_path / "cpu,cpuacct"  # the container sees its own group as the root
    group.mkdir(exist_ok=True)
    for name, text in files.items():
        (group / name).write_text(f"{text.replace('max', 'max' if unified else '-1')}\n")
    assert usable_cores(tmp_path, tmp_path) == cores


def test_the_limit_of_resident_memory_counts(tmp_path: Path) -> None:
    code = f"import pathlib, stac2cube.executors.base as s; p = pathlib.Path({str(tmp_path)!r})"
    code += "; print(s.memory_of_task({}, p, p))"
    limited = ["bash", "-c", 'ulimit -m 512000 && exec "$@"', "bash"]
    said = subprocess.run([*limited, sys.executable, "-c", code], capture_output=True, check=True)
    assert int(said.stdout) == 512000 * 1024


def test_cores_are_never_more_than_the_job_has() -> None:
    all_here = len(os.sched_getaffinity(0))
    assert cores_of_task({}) == all_here
    assert cores_of_task({"SLURMD_NODENAME": "n", "SLURM_CPUS_ON_NODE": "1"}) == 1
    assert cores_of_task({"SLURM_CPUS_ON_NODE": "1"}) == all_here, "salloc's shell on a login node"
    assert cores_of_task(STEP | {"SLURM_CPUS_ON_NODE": "2", "SLURM_TASKS_PER_NODE": "2"}) == 1
    assert cores_of_task(STEP | {"SLURM_CPUS_ON_NODE": "2", "SLURM_CPUS_PER_TASK": "1"}) == 1
    assert 1 <= cores_of_task({"SLURM_HINT": "nomultithread"}) <= all_here
    # Where neither CPUS_ON_NODE nor CPUS_PER_TASK is told: by the list of nodes.
    listed = {"SLURMD_NODENAME": "n", "SLURM_JOB_CPUS_PER_NODE": "2(x3),1"}
    assert cores_of_task(listed | {"SLURM_NODEID": "3"}) == 1
    assert cores_of_task(listed | {"SLURM_NODEID": "0"}) == min(2, all_here)
    assert cores_of_task(listed | {"SLURM_NODEID": "7"}) == 1, "an unknown node has what the smallest has"


@pytest.mark.parametrize("said", ["4294967294", "18446744073709551614", "\u00b2", "(null)", "N/A", "-1"])
def test_numbers_that_mean_none_limit_nothing(said: str) -> None:
    job = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n", "SLURM_STEP_ID": "0", "SLURM_CPUS_ON_NODE": "1"}
    assert cores_of_task(job | {"SLURM_CPUS_PER_TASK": said}) == cores_of_task(job)
    assert cores_of_task({**job, "SLURM_CPUS_ON_NODE": said}) >= 1
    assert memory_of_task(job | {"SLURM_NODEID": said, "SLURM_GPUS_ON_NODE": said}) > 2**20


def test_a_step_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_ENDS", 0.2)
    deaf = subprocess.Popen(["bash", "-c", "trap '' TERM; echo x; exec sleep 600"], stdout=subprocess.PIPE)
    assert deaf.stdout is not None
    deaf.stdout.readline()
    slurm._end(deaf)
    assert deaf.returncode == -9
    deaf.stdout.close()


def test_hyperthreads_count_once_where_slurm_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(128)))
    monkeypatch.setattr(share, "_siblings", lambda cpu: str(cpu % 64))
    whole = {"SLURMD_NODENAME": "n", "SLURM_CPUS_ON_NODE": "128", "SLURM_JOB_ID": "1"}
    assert cores_of_task(whole) == 128
    for single in ({"SLURM_HINT": "nomultithread"}, {"SLURM_THREADS_PER_CORE": "1"}):
        assert cores_of_task(whole | single) == 64
        # Four cores of a node that binds nobody: eight CPUs are counted.
        assert cores_of_task(whole | single | {"SLURM_CPUS_ON_NODE": "8"}) == 4
        step = STEP | whole | single | {"SLURM_CPUS_ON_NODE": "8"}
        assert cores_of_task(step | {"SLURM_CPUS_PER_TASK": "4"}) == 4
        assert cores_of_task(step | {"SLURM_TASKS_PER_NODE": "2"}) == 2
        for name, value in (
            whole | single | {"SLURM_JOB_CPUS_PER_NODE": "128(x2)", "SLURM_JOB_NUM_NODES": "2"}
        ).items():
            monkeypatch.setenv(name, value)
        place = Allocation.of_this_job()
        assert (place.tasks, place.cores) == (2, 64), "srun gives no task more cores than the node has"
        for name in single:
            monkeypatch.delenv(name)


@pytest.mark.parametrize("bound", [1, 2])
def test_a_worker_has_no_more_threads_than_it_is_bound_to(tmp_path: Path, bound: int) -> None:
    """A worker that asks for four cores, on a node where SLURM binds it to fewer; dask is not started."""
    if len(os.sched_getaffinity(0)) < bound:
        pytest.skip("this machine has fewer cores")
    cores = sorted(os.sched_getaffinity(0))[:bound]
    code = f"""
import os, sys
os.sched_setaffinity(0, {cores})
os.execve = lambda program, command, environment: print(
    command[command.index("--nthreads") + 1], environment["OMP_NUM_THREADS"], environment["RAYON_NUM_THREADS"])
sys.argv = ["worker", "tls://nobody:1", "--threads", "4"]
from stac2cube.executors.worker import main
main()
"""
    environment = os.environ | {"OMP_NUM_THREADS": "64", "RAYON_NUM_THREADS": "64"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [str(bound), "1", str(bound)]
    assert f"this task has {bound} of the 4 cores asked for" in done.stderr


@pytest.mark.parametrize(
    ("words", "tasks", "cores"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_CPUS_PER_TASK": "2", "SLURM_JOB_CPUS_PER_NODE": "8"}, 4, 2),
        # Whole nodes, and nothing said of tasks: one each, with all that the smallest has.
        ({"SLURM_JOB_NUM_NODES": "3", "SLURM_JOB_CPUS_PER_NODE": "64(x2),32", "SLURM_TASKS_PER_NODE": "1(x3)"}, 3, 32),
        ({"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_CPUS_PER_NODE": "4(x2)"}, 4, 2),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_CPUS_PER_NODE": "2(x3),1", "SLURM_TASKS_PER_NODE": "1(x4)"}, 4, 1),
        ({"SLURM_NTASKS": "7", "SLURM_JOB_CPUS_PER_NODE": "2(x3),1", "SLURM_TASKS_PER_NODE": "2(x3),1"}, 7, 1),
        ({"SLURM_NTASKS": "3", "SLURM_JOB_CPUS_PER_NODE": "2", "SLURM_TASKS_PER_NODE": "3"}, 3, 1),
        ({}, 1, 1),
    ],
)
def test_workers_of_a_job_as_people_ask_for_it(
    monkeypatch: pytest.MonkeyPatch, words: dict[str, str], tasks: int, cores: int
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in ({"SLURM_JOB_ID": "1"} | words).items():
        monkeypatch.setenv(name, value)
    place = Allocation.of_this_job()
    assert (place.tasks, place.cores) == (tasks, cores)
