"""The place Slurm, driven from Python as on a login node: its worker jobs make the cube that threads make."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stac2cube.build.loop import build
from stac2cube.errors import BadInputError, SlurmError
from stac2cube.executors.base import Threads
from stac2cube.executors.queue import memory_bytes
from stac2cube.executors.slurm import Slurm
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from tests.build.toy import SPEC, Make, steps
from tests.executors import scenario
from tests.executors.paging import ARRAY, pages_cleared
from tests.slurm.cluster import Cluster, say

PLACE = Slurm(jobs=2, cores=1, memory="1GiB", walltime="00:10:00")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cube = tmp_path_factory.mktemp("reference") / "toy.zarr"
    build(cube, SPEC, steps(range(4)), Make(), Threads(2))
    return cube


def receipts(cube: Path):
    entries = Ledger(cube, read_root(cube).ledger).entries().values()
    return [receipt for entry in entries for receipt in entry.receipts]


def test_workers_use_the_memory_of_arrays_again(cluster: Cluster) -> None:
    with replace(PLACE, jobs=1, logs=str(cluster.work / "logs")).open() as executor:
        cleared = executor.submit(pages_cleared).result(120)
    assert cleared < ARRAY, "an array's pages at most, not fifty times as many"


def test_worker_jobs_on_several_nodes_make_the_same_cube(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    # As in a session inside an array task of another job: none of this may reach the workers.
    leaks = {"SLURM_JOB_ID": "999", "SLURM_ARRAY_TASK_ID": "7", "SLURM_MEM_PER_CPU": "100"}
    os.environ |= leaks
    try:
        summary = build(cube, SPEC, steps(range(4)), Make(pause=0.15), PLACE)
    finally:
        for name in leaks:
            del os.environ[name]
    assert (len(summary.sealed), summary.exit_code) == (4, 0)
    assert differences(cube, reference) == []
    made = receipts(cube)
    nodes = {receipt.host for receipt in made}
    assert len(nodes) >= 2
    assert nodes <= {"node1", "node2", "node3", "node4"}
    jobs = {receipt.job for receipt in made}
    assert len(jobs) == 2
    assert "999" not in jobs
    for job in jobs:
        assert cluster.state(job) == "COMPLETED", "workers end by themselves"
        if cluster.accounting:
            assert cluster.accounted(job) == "COMPLETED"
    assert not (Path.home() / ".config" / "dask").exists(), "dask-jobqueue left no file in the home"

    before = say("squeue", "-h", "--states=all")
    assert len(build(cube, SPEC, steps(range(4)), Make(), PLACE).present) == 4
    assert say("squeue", "-h", "--states=all") == before, "nothing to do opens no cluster"


def test_worker_jobs_bring_the_scenario_of_all_places_to_the_same_end(cluster: Cluster) -> None:
    archive = scenario.archive_at(cluster.work / "archive")
    for name, place in (("threads", Threads(2)), ("jobs", replace(PLACE, jobs=1))):
        scenario.make(cluster.work / name, archive, place)
    scenario.assert_same(cluster.work / "jobs", cluster.work / "threads")


def test_tasks_of_one_job_on_several_nodes_make_the_same_cube(cluster: Cluster, reference: Path) -> None:
    cube = cluster.work / "toy.zarr"
    words = [sys.executable, "-m", "tests.slurm.driver", str(cube), "--steps", "4", "--place", "allocation"]
    script = f"#!/bin/bash\nexec {' '.join(words)} --pause 0.2\n"
    options = ["--parsable", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--mem-per-cpu=900M"]
    job = subprocess.run(
        ["sbatch", *options, f"--output={cluster.work}/log"], input=script, capture_output=True, text=True, check=True
    ).stdout.strip()
    cluster.wait_state(job, "COMPLETED", "FAILED")
    log = (cluster.work / "log").read_text()
    assert cluster.state(job) == "COMPLETED", log
    assert "Traceback" not in log
    assert differences(cube, reference) == []
    made = receipts(cube)
    assert {receipt.job for receipt in made} == {job}
    assert len({receipt.host for receipt in made}) >= 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"partition": "nonsense"}, "invalid partition specified: nonsense"),
        ({"walltime": "10:00:00"}, "time limit is invalid"),
        ({"memory": "100GiB"}, "Memory specification can not be satisfied|node configuration is not available"),
        ({"account": "nobody"}, "Invalid account"),
        ({"clusters": "elsewhere"}, "elsewhere"),
    ],
)
def test_a_refusal_is_read_at_once_in_slurms_words(
    cluster: Cluster, wrong: dict[str, str], words: str, tmp_path: Path
) -> None:
    if "account" in wrong and not cluster.accounting:
        pytest.skip("accounts are checked by slurmdbd, which is not installed: apt install slurmdbd mariadb-server")
    begun = time.monotonic()
    with pytest.raises(SlurmError, match=words):
        build(tmp_path / "toy.zarr", SPEC, steps(range(2)), Make(), replace(PLACE, **wrong))
    assert time.monotonic() - begun < 300, "it did not wait for workers"
    assert not say("squeue", "-h").strip()


def test_workers_that_die_at_once_end_the_build_with_their_last_words(cluster: Cluster) -> None:
    broken = replace(PLACE, jobs=1, prologue=("echo the module is not there >&2; exit 3",))
    with pytest.raises(SlurmError, match=r"ended without doing any work.*the module is not there"):
        build(cluster.work / "toy.zarr", SPEC, steps(range(2)), Make(), broken)


def test_without_slurm_the_error_says_where_to_find_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match=r"no 'sbatch' on PATH.*login node"):
        build(tmp_path / "toy.zarr", SPEC, steps(range(2)), Make(), PLACE)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"jobs": 0}, "at least 1"), ({"walltime": "soon"}, "walltime 'soon'"), ({"memory": "8 bananas"}, "8 bananas")],
)
def test_a_field_that_makes_no_sense(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        Slurm(**wrong)


def test_memory_words() -> None:
    sizes = {"8GiB": 8 * 2**30, "500 MB": 500 * 2**20, "16G": 16 * 2**30, "1.5GiB": 3 * 2**29, "2048": 2048}
    assert {text: memory_bytes(text) for text in sizes} == sizes
