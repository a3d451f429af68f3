"""The same recipe by worker jobs, in one allocation, as a job array: the cube that threads make, and honest jobs."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.slurm.cluster import Cluster, jobs_of, say, stac2cube, wait_for

WAYS = {"slurm": (), "allocation": ("--place", "allocation"), "array": ("--array", "3")}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), ArchiveSpec(years=(2022, 2023), dates_per_year=4, tile_px=240))


def write_recipe(folder: Path, name: str, archive: Archive, time: str = "2022/2023", **words: str) -> Path:
    area = folder / "area.geojson"
    area.write_text(json.dumps(archive.area()))
    given = {"mission": "sentinel-2-l2a", "aoi": "area.geojson", "time": time, "bands": "[B04, B03, B02, B05, SCL]"}
    given |= {"catalog": str(archive.catalog("earth-search")), **words}
    lines = "\n".join(f"  {key}: {value}" for key, value in given.items())
    recipe = folder / f"{name}.yaml"
    recipe.write_text(f"cubes: {name}\nlayers:\n{lines}\nquicklook:\nreport:\n")
    return recipe


@pytest.fixture(scope="module")
def reference(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    stac2cube("run", write_recipe(folder, "threads", archive), "-q")
    return folder / "threads" / "layers.zarr"


def test_three_ways_make_the_cube_that_threads_make(cluster: Cluster, archive: Archive, reference: Path) -> None:
    recipes = {way: write_recipe(cluster.work, way, archive) for way in WAYS}
    jobs = {}
    for way, words in WAYS.items():
        # In a shell of its own that is gone when this returns.
        said = stac2cube("submit", recipes[way], "--site", "example", *words).stdout
        jobs[way] = jobs_of(said)
        assert cluster.state(jobs[way]["report"]) == "PENDING", "it returns before the jobs are done"
    assert list(jobs["slurm"]) == ["layers", "quicklook", "report"]
    assert list(jobs["array"]) == ["layers-share", "layers-seal", "quicklook", "report"]
    again = stac2cube("submit", recipes["slurm"], "--site", "example", check=False)
    assert again.returncode == 1
    assert any(job in again.stderr for job in jobs["slurm"].values()), "the second is refused with a job that is at it"
    cluster.wait_idle()
    for way in WAYS:
        folder = cluster.work / way
        cube = folder / "layers.zarr"
        logs = {log: log.read_text() for log in folder.glob("jobs/*/*.out")}
        assert differences(cube, reference) == [], (way, logs)
        entries = list(Ledger(cube, read_root(cube).ledger).entries().values())
        receipts = [receipt for entry in entries for receipt in entry.receipts]
        if way == "array":
            # By the other ways one worker may be through with so small a cube before the next is up: see test_place.
            assert len({receipt.host for receipt in receipts}) >= 2
        assert all(receipt.job for receipt in receipts), way
        assert {entry.properties["catalog"] for entry in entries} == {str(archive.catalog("earth-search"))}
        assert (folder / "quicklook.png").stat().st_size > 1000
        assert "<html" in (folder / "report.html").read_text()
        assert not [log for log, text in logs.items() if "\r" in text or "Traceback" in text], way
        if cluster.accounting:
            for name, job in jobs[way].items():
                assert cluster.accounted(job) == "COMPLETED", (way, name)
            (figures,) = json.loads(stac2cube("report", cube, "--json").stdout)
            used = figures["resources"]["accounts"]
            assert used, figures["resources"]["no_accounts"]
            assert {one["state"].split()[0] for one in used} <= {"COMPLETED", "CANCELLED"}, "workers are told to end"
            assert all(int(one["cpus"]) >= 1 and one["nodes"].startswith("node") for one in used)
        status = stac2cube("status", recipes[way]).stdout
        assert "steps            8" in status
        assert f"{len(receipts)} of {len(receipts)}" in status
        assert "quicklook" in stac2cube("logs", recipes[way]).stdout
    shares = {r.job for e in Ledger(cube, read_root(cube).ledger).entries().values() for r in e.receipts}
    assert len(shares) == 3, "each task of the array made blocks"


def test_an_array_extends_and_finds_nothing_more_to_do(cluster: Cluster, archive: Archive, reference: Path) -> None:
    recipe = write_recipe(cluster.work, "array", archive, time="2023")
    stac2cube("run", recipe, "-q", "--stage", "layers")
    recipe = write_recipe(cluster.work, "array", archive)
    jobs = jobs_of(stac2cube("submit", recipe, "--site", "example", "--array", "2", "--test").stdout)
    assert say("squeue", "-h", "-o", "%P", "-j", jobs["layers-share"]).split()[0] == "short", "--test"
    # On a busy machine the jobs may be through before the next program has started.
    say("scontrol", "hold", jobs["layers-seal"])
    held = stac2cube("run", recipe, "-q", "--stage", "layers", check=False)
    say("scontrol", "release", jobs["layers-seal"])
    assert (held.returncode, f"job {jobs['layers-seal']}" in held.stderr) == (1, True)
    cluster.wait_idle()
    assert differences(cluster.work / "array" / "layers.zarr", reference) == []
    assert "nothing to do" in stac2cube("submit", recipe, "--site", "example", "--array", "2").stdout
    told = stac2cube("submit", recipe, "--site", "example", "--array", "2", "--json").stdout
    assert json.loads(told) == {"jobs": {}, "logs": None}
    assert not say("squeue", "-h").strip()


def test_cancel_ends_the_jobs_and_submitting_again_goes_on(cluster: Cluster, archive: Archive, reference: Path) -> None:
    recipe = write_recipe(cluster.work, "cancelled", archive)
    jobs = jobs_of(stac2cube("submit", recipe, "--site", "example", "--array", "2").stdout)
    said = stac2cube("cancel", recipe).stdout
    assert all(job in said for job in jobs.values())
    cluster.wait_idle()
    assert "CANCELLED" in stac2cube("status", recipe).stdout
    # The claim of the cancelled jobs is dead: SLURM says so.
    told = json.loads(stac2cube("submit", recipe, "--site", "example", "--place", "threads", "--json").stdout)
    assert told["jobs"]["layers"] in say("squeue", "-h", "-o", "%i").split()
    assert Path(told["logs"]).is_dir()
    cluster.wait_idle()
    assert differences(cluster.work / "cancelled" / "layers.zarr", reference) == []


def test_a_job_that_stopped_at_its_deadline_has_itself_run_again(
    cluster: Cluster, archive: Archive, reference: Path
) -> None:
    sites = Path(os.environ["STAC2CUBE_CONFIG_DIR"]) / "sites"
    sites.mkdir(parents=True, exist_ok=True)
    # In its first life the job believes that it ends in a few seconds, or on a busy machine that it should have ended.
    late = cluster.work / "late"
    late.mkdir()
    (late / "squeue").write_text("#!/bin/sh\necho INVALID RUNNING\n")
    (late / "squeue").chmod(0o755)
    lies = f"export SLURM_JOB_END_TIME=$(($(date +%s) + 10)) PATH={late}:$PATH"
    short = f'[ -n "$SLURM_RESTART_COUNT" ] || {lies}'
    (sites / "hasty.toml").write_text(f'[slurm]\ncores = 1\nmemory = "1GiB"\nprologue = [{json.dumps(short)}]\n')
    recipe = write_recipe(cluster.work, "requeued", archive)
    job = jobs_of(stac2cube("submit", recipe, "--site", "hasty", "--place", "threads").stdout)["layers"]
    wait_for(lambda: "Restarts=1" in say("scontrol", "show", "job", job), 60, "the second life")
    cluster.wait_state(job, "PENDING")
    assert differences(cluster.work / "requeued" / "layers.zarr", reference), "it stopped before the end"
    # SLURM lets a requeued job wait for two minutes.
    time.sleep(2)
    say("scontrol", "update", f"JobId={job}", "StartTime=now")
    cluster.wait_idle()
    assert cluster.state(job) == "COMPLETED"
    log = next((cluster.work / "requeued" / "jobs").rglob("layers*.out")).read_text()
    assert f"job {job} asks SLURM to run it again" in log
    assert differences(cluster.work / "requeued" / "layers.zarr", reference) == []


def test_dry_run_shows_the_scripts_and_submits_nothing(cluster: Cluster, archive: Archive) -> None:
    recipe = write_recipe(cluster.work, "dry", archive)
    said = stac2cube("submit", recipe, "--site", "example", "--dry-run").stdout
    assert said.count("#!/bin/bash") == 3
    assert "#SBATCH --partition=normal" in said
    assert "to start at" in said, "SLURM was asked"
    assert not say("squeue", "-h", "--states=all", "--name=layers-dry").strip()
    assert not (cluster.work / "dry").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--site", "nowhere"), "unknown site 'nowhere'"),
        (("--site", "wrong-partition"), "sbatch: invalid partition specified: nonsense"),
        (("--site", "wrong-time"), "time limit is invalid"),
        (("--site", "wrong-account"), "Invalid account"),
        (("--site", "wrong-key"), "has no key 'colour'"),
    ],
)
def test_bad_input_is_one_line(cluster: Cluster, archive: Archive, words: tuple[str, ...], said: str) -> None:
    if "account" in words[1] and not cluster.accounting:
        pytest.skip("accounts are checked by slurmdbd, which is not installed: apt install slurmdbd mariadb-server")
    sites = Path(os.environ["STAC2CUBE_CONFIG_DIR"]) / "sites"
    sites.mkdir(parents=True, exist_ok=True)
    (sites / "wrong-partition.toml").write_text('[slurm]\npartition = "nonsense"\n')
    (sites / "wrong-time.toml").write_text('[slurm]\nwalltime = "30:00:00"\n')
    (sites / "wrong-account.toml").write_text('[slurm]\naccount = "nobody"\n')
    (sites / "wrong-key.toml").write_text('[slurm]\ncolour = "red"\n')
    recipe = write_recipe(cluster.work, "bad", archive)
    done = stac2cube("submit", recipe, *words, "-q", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("stac2cube: ")
    assert len(done.stderr.splitlines()) == 1
    assert said.lower() in done.stderr.lower()
    assert not list((cluster.work / "bad").glob("jobs/*"))
    assert not say("squeue", "-h").strip()


def test_where_sbatch_is_not_allowed_slurms_words_are_read(cluster: Cluster, archive: Archive) -> None:
    """A compute node of a site that forbids submitting there; an sbatch that refuses stands in for its plugin."""
    refusing = cluster.work / "bin" / "sbatch"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho 'sbatch: error: job submission from compute nodes is disabled' >&2\nexit 1\n")
    refusing.chmod(0o755)
    recipe = write_recipe(cluster.work, "refused", archive)
    path = f"{refusing.parent}:{os.environ['PATH']}"
    for words in (("submit", recipe), ("run", recipe, "--place", "slurm")):
        done = stac2cube(*words, "--site", "example", "-q", check=False, PATH=path)
        assert done.returncode == 1
        assert done.stderr == "stac2cube: sbatch: job submission from compute nodes is disabled\n"


def test_without_slurm_the_error_says_so(archive: Archive, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "look", archive)
    no_slurm = {"PATH": str(Path(sys.executable).parent)}
    done = stac2cube("submit", recipe, "--site", "example", "-q", check=False, **no_slurm)
    assert "there is no 'sbatch' on PATH" in done.stderr
