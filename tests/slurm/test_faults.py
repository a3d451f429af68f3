"""Faults of a cluster, each first seen in SLURM's own state; the same command again ends with the right cube."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stac2cube.build.array_job import ArrayLease, lease_cube, seal_parts
from stac2cube.build.loop import build
from stac2cube.executors.base import Threads
from stac2cube.store.lock import read_owner
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from tests.build.toy import SPEC, Make, steps
from tests.executors.scenario import staged
from tests.slurm.cluster import SCRIPT, Cluster, say, wait_for

STEPS = 6


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cube = tmp_path_factory.mktemp("reference") / "toy.zarr"
    build(cube, SPEC, steps(range(STEPS)), Make(), Threads(2))
    return cube


def command(cube: Path, *words: object) -> list[str]:
    return [sys.executable, "-m", "tests.slurm.driver", str(cube), "--steps", str(STEPS), *map(str, words)]


@contextmanager
def driving(cube: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A controller outside any job, its workers being jobs."""
    process = subprocess.Popen(command(cube, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def sbatch(cluster: Cluster, words: list[str], *options: str) -> str:
    """A controller inside a job."""
    script = f"#!/bin/bash\nexec {' '.join(words)}\n"
    given = ["--parsable", "--mem=1000M", "--open-mode=append", f"--output={cluster.work}/job-%j.out", *options]
    done = subprocess.run(["sbatch", *given], input=script, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def sealed(cube: Path) -> int:
    return read_root(cube).steps if (cube / "zarr.json").exists() else 0


def blocks_staged(cube: Path) -> bool:
    return any("/c/0/" in str(path) for path in staged(cube))


def shares_begun(cube: Path) -> int:
    return sum(path.name.startswith("share-") for path in staged(cube))


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return said


def rerun(cube: Path) -> None:
    """The same command again, in threads: a place changes no pixel."""
    assert subprocess.run(command(cube, "--place", "threads", "--pause", 0), check=False).returncode == 0


def test_a_worker_cancelled_in_the_middle_of_a_block_is_replaced(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    with driving(cube) as process:
        wait_for(lambda: blocks_staged(cube), 60, "blocks")
        victim = cluster.jobs(name="s2c-workers")[0]
        say("scancel", "--signal=KILL", "--full", victim)
        cluster.wait_state(victim, "CANCELLED", "FAILED", "COMPLETED")
        # SLURM's controller is restarted meanwhile: the workers live on.
        pid = int((cluster.folder / "run" / "slurmctld.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: "DOWN" in say("scontrol", "ping", check=False), 20, "the controller's end")
        say("/usr/sbin/slurmctld")
        wait_for(lambda: "UP" in say("scontrol", "ping", check=False), 20, "the controller")
        said = finish(process)
    assert "they are replaced" in said
    assert differences(cube, reference) == []


def test_all_workers_lost(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    with driving(cube) as process:
        wait_for(lambda: blocks_staged(cube), 60, "blocks")
        victims = cluster.jobs(name="s2c-workers")
        say("scancel", *victims)
        for victim in victims:
            cluster.wait_state(victim, "CANCELLED")
        finish(process)
    assert differences(cube, reference) == []


def test_a_node_goes_down(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    with driving(cube) as process:
        wait_for(lambda: blocks_staged(cube), 60, "blocks")
        victim = cluster.jobs(name="s2c-workers")[0]
        node = cluster.node_of(victim)
        say("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        assert "State=DOWN" in say("scontrol", "show", "node", node)
        cluster.wait_state(victim, "PENDING", "NODE_FAIL")
        finish(process)
    assert differences(cube, reference) == []


def test_the_controller_dies_and_its_workers_go(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    with driving(cube) as process:
        wait_for(lambda: blocks_staged(cube), 60, "blocks")
        jobs = cluster.jobs(name="s2c-workers")
        process.send_signal(signal.SIGKILL)
        process.wait()
    for job in jobs:
        cluster.wait_state(job, "COMPLETED", "CANCELLED", "FAILED", seconds=90)
    assert differences(cube, reference), "it was killed before the end"
    rerun(cube)
    assert differences(cube, reference) == []


def test_preempted_and_requeued_the_job_goes_on(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    words = command(cube, "--place", "threads", "--pause", 0.25)
    job = sbatch(cluster, words, "--partition=preemptible", "--nodelist=node1", "--requeue", "--cpus-per-task=2")
    wait_for(lambda: blocks_staged(cube), 60, "blocks")
    pusher = say("sbatch", "--parsable", "--nodelist=node1", "--cpus-per-task=2", "--wrap=sleep 2").strip()
    cluster.wait_state(job, "PENDING")
    assert "Restarts=1" in say("scontrol", "show", "job", job)
    cluster.wait_state(pusher, "COMPLETED")
    say("scontrol", "update", f"JobId={job}", "StartTime=now")
    cluster.wait_state(job, "COMPLETED")
    assert differences(cube, reference) == []


@pytest.mark.parametrize(
    ("said", "again"),
    [
        (("scancel",), False),
        pytest.param(("scancel", "--signal=TERM", "--full"), True, marks=pytest.mark.soak),
        (("scontrol", "requeue"), True),
    ],
)
def test_a_job_of_threads_that_somebody_ends_runs_again_only_if_it_was_not_cancelled(
    cluster: Cluster, reference: Path, said: tuple[str, ...], again: bool
) -> None:
    cube = cluster.work / "toy.zarr"
    words = command(cube, "--place", "threads", "--pause", 0.5, "--on-deadline", "requeue")
    job = sbatch(cluster, words, "--requeue")
    wait_for(lambda: len(list((cube / ".stac2cube" / "staging").glob("*/*"))) > 2, 180, "two steps made")
    say(*said, job)
    if again:
        wait_for(lambda: "Restarts=1" in say("scontrol", "show", "job", job), 180, "the second life")
        cluster.wait_state(job, "PENDING")
        say("scontrol", "update", f"JobId={job}", "StartTime=now")
        ended = cluster.wait_state(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
        assert ended == "COMPLETED", (cluster.work / f"job-{job}.out").read_text()
    else:
        cluster.wait_state(job, "CANCELLED")
        assert sealed(cube) < STEPS
        rerun(cube)
    assert "Restarts=2" not in say("scontrol", "show", "job", job)
    assert differences(cube, reference) == []


def test_a_job_stops_in_time_before_its_limit_and_the_next_goes_on(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    words = command(cube, "--place", "threads", "--pause", 1)
    job = sbatch(cluster, words, "--time=1")  # 54 s of work, 60 s of time of which some are kept for sealing
    state = cluster.wait_state(job, "FAILED", "COMPLETED", "TIMEOUT", seconds=100)
    log = (cluster.work / f"job-{job}.out").read_text()
    assert state == "FAILED", log
    assert "ExitCode=10:0" in say("scontrol", "show", "job", job)
    assert "no further blocks are begun" in log
    assert 1 <= sealed(cube) < STEPS
    rerun(cube)
    assert differences(cube, reference) == []


def test_a_signal_seals_what_is_there(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    job = sbatch(cluster, command(cube, "--place", "threads", "--pause", 0.5))
    wait_for(lambda: len(list((cube / ".stac2cube" / "staging").glob("*/*"))) > 2, 60, "two steps made")
    say("scancel", "--signal=USR1", "--batch", job)
    cluster.wait_state(job, "FAILED")
    assert "ExitCode=10:0" in say("scontrol", "show", "job", job)
    assert 1 <= sealed(cube) < STEPS
    rerun(cube)
    assert differences(cube, reference) == []


def test_the_second_writer_is_refused_with_the_job_that_holds_the_cube(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    words = command(cube, "--place", "threads", "--pause", 0.3)
    first = sbatch(cluster, words, "--nodelist=node1")
    wait_for(lambda: blocks_staged(cube), 60, "blocks")
    second = sbatch(cluster, words, "--nodelist=node2")
    cluster.wait_state(second, "FAILED")
    assert f"job {first}" in (cluster.work / f"job-{second}.out").read_text()
    # A dead holder on another node is recognised by asking SLURM.
    os.kill(read_owner(cube).pid, signal.SIGKILL)
    cluster.wait_state(first, "FAILED", "CANCELLED")
    assert (cluster.work / f".{cube.name}.lock").exists(), "it died with the lock"
    third = sbatch(cluster, words, "--nodelist=node2")
    cluster.wait_state(third, "COMPLETED")
    assert f"job {first}, which held the cube, is gone" in (cluster.work / f"job-{third}.out").read_text()
    assert differences(cube, reference) == []


def test_a_lost_array_task_is_built_by_the_next_run(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    sealing = say("sbatch", "--parsable", "--hold", "--mem=100M", "--wrap=true", f"--output={os.devnull}").strip()
    claim = ArrayLease(sealing, re.search(r"ClusterName\s*=\s*(\S+)", say("scontrol", "show", "config"))[1])
    lease_cube(cube, SPEC, claim)
    words = [sys.executable, "-m", "tests.slurm.share", str(cube), sealing, claim.cluster, str(STEPS)]
    array = sbatch(cluster, words, "--array=0-2")
    wait_for(lambda: shares_begun(cube) == 3, 60, "three shares at work")
    say("scancel", f"{array}_1")
    assert wait_for(lambda: cluster.state(f"{array}_1") == "CANCELLED", 30, "the lost task")
    cluster.wait_state(f"{array}_0", "COMPLETED")
    cluster.wait_state(f"{array}_2", "COMPLETED")
    summary = seal_parts(cube, SPEC, steps(range(STEPS)), claim)
    assert summary.exit_code == 10
    assert differences(cube, reference)
    rerun(cube)
    assert differences(cube, reference) == []


def test_a_block_that_needs_more_memory_than_its_job_has(cluster: Cluster) -> None:
    cube = cluster.work / "toy.zarr"
    with driving(cube, "--steps", 1, "--jobs", 1, "--memory", "512MiB", "--hoard", 1500) as process:
        said, _ = process.communicate(timeout=900)
    assert process.returncode == 2, said
    assert "most likely because it needs more memory: a job has 512MiB for 1 cores" in said
    assert "memory = 1GiB" in said
    assert sealed(cube) == 0


@pytest.mark.soak
def test_a_job_killed_at_its_limit(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    words = command(cube, "--place", "threads", "--pause", 2.5, "--no-deadline")
    job = sbatch(cluster, words, "--time=1")
    # Its SIGTERM stops it as any signal does; should it not listen, SIGKILL follows.
    state = cluster.wait_state(job, "TIMEOUT", "FAILED", seconds=150)
    assert state == "TIMEOUT"
    assert sealed(cube) < STEPS
    rerun(cube)
    assert differences(cube, reference) == []


@pytest.mark.soak
def test_workers_leave_in_time_before_their_limit_and_are_replaced(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    with driving(cube, "--pause", 2, "--walltime", "1") as process:  # 108 s of work for two workers of a minute
        said = finish(process)
    assert "they are replaced" in said
    assert differences(cube, reference) == []
    first = sorted(cluster.jobs("COMPLETED", name="s2c-workers"), key=int)
    assert len(first) >= 3, "they were told to go, and ended well"
    assert not cluster.jobs("TIMEOUT", name="s2c-workers")


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give nodes networks of their own")
def test_a_node_loses_its_network(running_cluster: Cluster, reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not below /tmp, of which each node of such a cluster has its own.
    folder = Path(tempfile.mkdtemp(prefix="s2c", dir="/var/tmp"))
    folder.chmod(0o755)
    say(SCRIPT, "up", "--networks", "--no-accounting", folder / "n")
    monkeypatch.setenv("SLURM_CONF", str(folder / "n" / "etc" / "slurm.conf"))
    cluster = Cluster(folder / "n", folder, accounting=False)
    cube = folder / "toy.zarr"
    try:
        # The controller is a job on node1; what is cut is another node.
        job = sbatch(
            cluster, command(cube, "--pause", 1, "--interface", "eth0"), "--nodelist=node1", "--cpus-per-task=2"
        )
        wait_for(lambda: blocks_staged(cube), 60, "blocks")
        node = next(cluster.node_of(worker) for worker in cluster.jobs(name="s2c-workers"))
        assert node != "node1"
        say(SCRIPT, "node-down", node, folder / "n")
        wait_for(lambda: "State=DOWN" in say("scontrol", "show", "node", node), 90, "the node's end")
        cluster.wait_state(job, "COMPLETED", seconds=200)
        assert differences(cube, reference) == []
    finally:
        say(SCRIPT, "down", folder / "n", check=False)
        shutil.rmtree(folder, ignore_errors=True)
