"""Habits of sites, on the one-machine cluster: limits, talking wrappers, folders' names, memory in all forms."""

from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest
from distributed import get_worker

from stac2cube.build.loop import build
from stac2cube.errors import SlurmError
from stac2cube.executors.base import Threads
from stac2cube.executors.queue import Body, Queue, job_script
from stac2cube.executors.slurm import Slurm
from stac2cube.store.reader import differences
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.build.toy import SPEC, Make, steps
from tests.slurm.cluster import Cluster, jobs_of, say, stac2cube, wait_for
from tests.slurm.test_ways import write_recipe

PLACE = Slurm(jobs=2, cores=1, memory="1GiB", walltime="00:10:00")

WAYS = {
    "my project": (),
    "anna's 100%j": ("--place", "allocation"),
    'a "q" %A': ("--place", "threads"),
    "#1 $HOME ; & é": ("--array", "2"),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), ArchiveSpec(years=(2023,), dates_per_year=3, tile_px=96))


@contextmanager
def limited(**limits: int) -> Iterator[None]:
    """A limit of the user's association, while the context lasts."""
    user = say("id", "-un").strip()
    words = ["sacctmgr", "-i", "-Q", "modify", "user", "where", f"name={user}", "set"]
    say(*words, *(f"{name}={value}" for name, value in limits.items()))
    try:
        # The controller is told by slurmdbd, a moment later.
        wait_for(lambda: all(str(value) in said_limit(user, name) for name, value in limits.items()), 20, "the limit")
        yield
    finally:
        say(*words, *(f"{name}=-1" for name in limits))


def said_limit(user: str, name: str) -> str:
    found = re.findall(rf"{name}=(\S+)", say("scontrol", "show", "assoc_mgr", f"users={user}", "flags=assoc"))
    return " ".join(value.partition("(")[0] for value in found)


def only_layers(recipe: Path) -> Path:
    recipe.write_text(recipe.read_text().replace("quicklook:\nreport:\n", ""))
    return recipe


def needs_accounting(cluster: Cluster) -> None:
    if not cluster.accounting:
        pytest.skip("limits are kept by slurmdbd, which is not installed: apt install slurmdbd mariadb-server")


def test_fewer_jobs_than_wished_build_the_cube_and_it_is_said_once(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    needs_accounting(cluster)
    with limited(MaxSubmitJobs=2):
        summary = build(cluster.work / "toy.zarr", SPEC, steps(range(4)), Make(1), replace(PLACE, jobs=4))
    assert (len(summary.sealed), summary.exit_code) == (4, 0)
    said = [record.getMessage() for record in caplog.records if "were let in" in record.getMessage()]
    assert len(said) == 1
    assert "2 of 4 worker jobs were let in" in said[0]
    assert "MaxSubmitJob" in said[0]
    # dask itself tells at the level INFO, with a traceback, that a connection was closed.
    assert not [record for record in caplog.records if record.exc_info and record.levelno > logging.INFO]


def test_jobs_that_wait_for_a_limit_do_not_hold_up_the_others(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    needs_accounting(cluster)
    with limited(MaxJobs=1):
        summary = build(cluster.work / "toy.zarr", SPEC, steps(range(4)), Make(0.4), replace(PLACE, jobs=3))
    assert (len(summary.sealed), summary.exit_code) == (4, 0)
    assert len([record for record in caplog.records if "AssocMaxJobsLimit" in record.getMessage()]) == 1


def test_fewer_jobs_than_entries_and_none_for_workers(cluster: Cluster, archive: Archive) -> None:
    """One job may be in the queue: it makes all entries, and, no worker job being let in, the blocks as well."""
    needs_accounting(cluster)
    recipe = write_recipe(cluster.work, "alone", archive, time="2023")
    recipe.write_text(recipe.read_text().replace("report:\n", ""))
    with limited(MaxSubmitJobs=1):
        done = stac2cube("submit", recipe, "--site", "example", "-q")
        assert "one job makes all of them" in done.stderr
        assert "MaxSubmitJob" in done.stderr
        (job,) = jobs_of(done.stdout).values()
        cluster.wait_idle()
    log = next(recipe.parent.glob("alone/jobs/*/entries*.out")).read_text()
    assert cluster.state(job) == "COMPLETED", log
    assert log.count("no worker job is let in: this job makes blocks itself") == 1
    assert "Traceback" not in log
    assert (recipe.parent / "alone" / "quicklook.png").exists()
    stac2cube("run", write_recipe(cluster.work, "threads", archive, time="2023"), "-q", "--stage", "layers")
    cubes = [cluster.work / name / "layers.zarr" for name in ("alone", "threads")]
    assert differences(*cubes) == []


@pytest.mark.soak
def test_fewer_jobs_than_tasks_of_an_array(cluster: Cluster, archive: Archive) -> None:
    needs_accounting(cluster)
    recipe = write_recipe(cluster.work, "few", archive, time="2023")
    with limited(MaxSubmitJobs=4):
        done = stac2cube("submit", recipe, "--site", "example", "--array", "8", "-q")
        # One that seals, one for quicklook and report together, two tasks.
        assert "2 of 8 tasks, 1 after them" in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        jobs = jobs_of(done.stdout)
        assert list(jobs) == ["layers-share", "layers-seal", "entries"]
        cluster.wait_idle()
    assert [cluster.state(job) for job in (jobs["layers-seal"], jobs["entries"])] == ["COMPLETED"] * 2
    assert "steps            3" in stac2cube("status", recipe).stdout
    assert (recipe.parent / "few" / "report.html").exists()
    refused = stac2cube("submit", recipe, "--site", "example", "--array", "8", "-q", "--set", "layers.time=2022/2023")
    assert "nothing to do" in refused.stdout


def test_no_job_let_in_ends_the_build_with_slurms_words(cluster: Cluster, archive: Archive) -> None:
    needs_accounting(cluster)
    recipe = write_recipe(cluster.work, "none", archive, time="2023")
    with limited(MaxSubmitJobs=1):
        held = say("sbatch", "--parsable", "--hold", "--mem=100M", "--wrap=true", "--output=/dev/null").strip()
        for words in (("submit", recipe), ("run", recipe, "--place", "slurm", "--stage", "layers")):
            done = stac2cube(*words, "--site", "example", "-q", check=False)
            assert done.returncode == 1
            assert "MaxSubmitJob" in done.stderr, done.stderr
            assert len(done.stderr.splitlines()) == 1
        assert say("squeue", "-h", "-o", "%i").split() == [held]


def test_folders_of_any_name_by_every_way(cluster: Cluster, archive: Archive) -> None:
    recipes = {}
    for name, words in WAYS.items():
        folder = cluster.work / name
        folder.mkdir()
        recipes[name] = only_layers(write_recipe(folder, "cubes 1%", archive, time="2023"))
        assert jobs_of(stac2cube("submit", recipes[name], "--site", "example", *words, cwd=folder).stdout)
    bad = cluster.work / "back\\slash"
    bad.mkdir()
    refused = stac2cube("submit", write_recipe(bad, "c", archive), "--site", "example", check=False)
    assert (refused.returncode, list((bad / "c").glob("*"))) == (1, [])
    assert "backslash" in refused.stderr
    words = ["--mission", "sentinel-2-l2a", "--aoi", "11.97,47.48,11.98,47.49", "--time", "2023", "--catalog", "x.json"]
    refused = stac2cube("layers", "l.zarr", *words, "--place", "slurm", "--site", "example", check=False, cwd=bad)
    assert (refused.returncode, "backslash" in refused.stderr) == (1, True)
    assert not list(bad.glob("*.zarr")), "nothing was written"
    reference = cluster.work / "plain"
    reference.mkdir()
    stac2cube("run", write_recipe(reference, "c", archive, time="2023"), "-q", "--stage", "layers")
    cluster.wait_idle()
    for name, recipe in recipes.items():
        cube = recipe.parent / "cubes 1%" / "layers.zarr"
        logs = {log.name: log.read_text() for log in recipe.parent.glob("cubes 1%/jobs/*/*.out")}
        assert logs, name
        assert differences(cube, reference / "c" / "layers.zarr") == [], (name, logs)
        assert "cubes" in stac2cube("logs", recipe).stdout
        left = [path for path in recipe.parent.rglob("*") if ".keys-" in str(path) or path.suffix in (".pem", ".err")]
        assert not left


def test_worker_jobs_keep_their_key_to_their_owner(cluster: Cluster) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    logs = cluster.work / "logs"
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for folder in (cluster.work, cluster.work.parent):
        folder.chmod(0o755)
    with replace(PLACE, jobs=1, logs=str(logs)).open() as executor:
        assert executor.submit(os.getuid).result(120) == 0
        (keys,) = logs.glob(".keys-*")
        assert stat.S_IMODE(keys.stat().st_mode) == 0o700
        for path in (keys, keys / "key.pem"):
            done = subprocess.run([*other, "cat", path], capture_output=True, check=False)
            assert b"Permission denied" in done.stderr
        address = executor.submit(lambda: get_worker().scheduler.address).result(60)
        assert address.startswith("tls://")
        code = "import sys; from distributed import Client; print(Client(sys.argv[1], timeout=5).run_on_scheduler(int))"
        plain = address.replace("tls", "tcp")
        done = subprocess.run([*other, sys.executable, "-c", code, plain], capture_output=True, check=False, cwd="/")
        assert done.returncode != 0
    assert not list(logs.glob(".keys-*"))


def memory_limit() -> int:
    return int(get_worker().memory_manager.memory_limit)


@pytest.mark.parametrize(
    ("words", "mib"),
    [
        ({"memory_as": "mem-per-cpu"}, 1024),
        # DefMemPerCPU of the cluster is 500 MB.
        ({"memory_as": "none"}, 500),
        ({"directives": ("--mem-per-cpu=700M",)}, 700),
    ],
)
def test_a_worker_keeps_to_the_memory_that_slurm_gives_its_job(
    cluster: Cluster, words: dict[str, object], mib: int
) -> None:
    with replace(PLACE, jobs=1, logs=str(cluster.work / "logs"), **words).open() as executor:
        found = executor.submit(memory_limit).result(120)
    assert 0.85 * mib * 2**20 < found <= mib * 2**20 * 0.9


def test_directives_of_sites_reach_slurm(cluster: Cluster) -> None:
    directives = ("--nice=7", "--comment=a project's 'own'", "--mail-type=NONE", "--constraint=cpu", "--no-requeue")
    place = replace(PLACE, jobs=1, logs=str(cluster.work / "logs"), directives=directives)
    with place.open() as executor:
        job = executor.submit(os.getenv, "SLURM_JOB_ID").result(120)
        shown = say("scontrol", "show", "job", job)
    assert "Nice=7" in shown
    assert "Features=cpu" in shown
    assert "Requeue=0" in shown
    assert "a project's 'own'" in shown


WRAPPERS = {
    "a banner around": 'echo "Welcome in 2026"; echo 2026; "$REAL" "$@"; echo "4711 hours left"',
    "parsable ignored": 'for w; do shift; [ "$w" = --parsable ] || set -- "$@" "$w"; done; "$REAL" "$@"',
    "a cluster named": 'echo "Submitted batch job $("$REAL" "$@") on cluster c"',
    "the id in a sentence": 'echo "Your job has the number <$("$REAL" "$@")>, good luck"',
}


@pytest.mark.parametrize("habit", WRAPPERS)
def test_an_sbatch_that_talks_is_understood(cluster: Cluster, habit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped(cluster, WRAPPERS[habit], monkeypatch)
    script = job_script("x", "talk-1", ["--job-name=talk-1", "--mem=100M"], Body((), ["sleep", "5"]), cluster.work)
    job = Queue().submit(script)
    assert cluster.state(job) in ("PENDING", "RUNNING")
    assert say("squeue", "-h", "-o", "%i").split() == [job]


TWICE = 's=$(cat); for i in 1 2; do "$REAL" "$@" <<<"$s" >/dev/null; done; echo "done, have fun"'


def test_nothing_stays_submitted_where_no_id_is_to_be_had(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped(cluster, TWICE, monkeypatch)
    script = job_script("x", "talk-2", ["--job-name=talk-2", "--mem=100M"], Body((), ["sleep", "30"]), cluster.work)
    with pytest.raises(SlurmError, match=r"names no job.*cancelled what had been submitted.*done, have fun"):
        Queue().submit(script)
    cluster.wait_idle(30)


def test_a_refusal_after_a_banner_is_shown_with_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped(cluster, 'echo "Quota: 3 of 4 used"; exec "$REAL" --partition=nonsense "$@"', monkeypatch)
    script = job_script("x", "talk-3", ["--job-name=talk-3", "--mem=100M"], Body((), ["true"]), cluster.work)
    with pytest.raises(SlurmError, match=r"Quota: 3 of 4 used.*invalid partition specified: nonsense"):
        Queue().submit(script)


def wrapped(cluster: Cluster, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a site's own sbatch before SLURM's."""
    program = cluster.work / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(f"#!/usr/bin/env bash\nREAL={which('sbatch')}\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_a_persons_own_job_gives_each_worker_its_share(cluster: Cluster) -> None:
    code = """
from stac2cube.executors.slurm import Allocation
from tests.slurm.test_sites import memory_limit
place = Allocation.of_this_job()
with place.open() as executor:
    print(place.tasks, place.cores, executor.submit(memory_limit).result(120) // 2**20)
"""
    (cluster.work / "own.py").write_text(code)
    for options, share in ((["--mem=1200M"], 600), (["--mem-per-cpu=450M"], 450)):
        words = ["sbatch", "--parsable", "--nodes=1", "--ntasks=2", *options, "--output=own-%j.out"]
        job = say(*words, f"--wrap=exec '{sys.executable}' own.py").strip()
        cluster.wait_state(job, "COMPLETED", "FAILED", seconds=120)
        log = (cluster.work / f"own-{job}.out").read_text()
        tasks, cores, mib = map(int, re.findall(r"^(\d+) (\d+) (\d+)$", log, re.MULTILINE)[0])
        assert (tasks, cores) == (2, 1)
        assert 0.85 * share < mib <= 0.9 * share, log


def test_threads_of_a_job_are_as_many_as_its_cores(cluster: Cluster) -> None:
    code = "from stac2cube.executors.base import Threads; print(Threads().workers)"
    assert say("srun", "-Q", "--mem=500M", "-n1", "-c1", sys.executable, "-c", code).strip() == "1"
    assert Threads().workers >= 1
