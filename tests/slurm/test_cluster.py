"""The one-machine cluster itself, the scripts to copy, and the doctor."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.slurm.cluster import REPOSITORY, SCRIPT, Cluster, jobs_of, say, stac2cube
from tests.slurm.test_ways import write_recipe


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    spec = ArchiveSpec(years=(2023,), dates_per_year=4, tile_px=120, catalogs=("earth-search", "terrabyte"), jp2=True)
    return simulate(tmp_path_factory.mktemp("archive"), spec)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="s2c"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_partitions_nodes_and_stub_gpus(cluster: Cluster) -> None:
    assert set(say("sinfo", "-h", "-o", "%R").split()) == {"normal", "short", "preemptible", "gpu"}
    assert say("sinfo", "-h", "-N", "-p", "normal", "-o", "%N").split() == ["node1", "node2", "node3", "node4"]
    assert say("srun", "-Q", "-p", "gpu", "--gres=gpu:1", "printenv", "CUDA_VISIBLE_DEVICES").strip() == "0"
    hosts = say("srun", "-Q", "-N4", "-n4", "--ntasks-per-node=1", "printenv", "SLURMD_NODENAME").split()
    assert sorted(hosts) == ["node1", "node2", "node3", "node4"]
    assert "already" in say(SCRIPT, "up", cluster.folder, check=False)


def test_a_second_cluster_of_another_user_runs_at_the_same_time(cluster: Cluster, elsewhere: Path) -> None:
    # Newer SLURMs run for everybody but nobody.
    other = pwd.getpwnam("daemon").pw_uid
    as_other = ["setpriv", f"--reuid={other}", f"--regid={other}", "--clear-groups"] if os.geteuid() == 0 else []
    own = elsewhere / "own"
    try:
        up = say(*as_other, SCRIPT, "up", "--no-accounting", own, HOME=str(elsewhere))
        assert "4 nodes are idle" in up
        conf = str(own / "etc" / "slurm.conf")
        assert "slurmctld runs" in say(*as_other, SCRIPT, "status", own)
        job = say(*as_other, "srun", "-Q", "--chdir=/", "id", "-u", SLURM_CONF=conf).strip()
        assert job == str(other if as_other else os.geteuid())
        assert say("srun", "-Q", "printenv", "SLURMD_NODENAME").startswith("node"), "the first one still runs"
    finally:
        say(*as_other, SCRIPT, "down", own, check=False)
    assert "slurmctld does not run" in say(SCRIPT, "status", own, check=False)


def test_the_doctor_finds_the_site_well(cluster: Cluster) -> None:
    said = stac2cube("doctor", "--site", "example", "--folder", cluster.work, "--write", "mine").stdout
    lines = {line[4:44].strip(): line for line in said.splitlines()}
    for check in (
        "commands",
        "submit and cancel",
        "shared folder",
        "mkdir is exclusive",
        "jpeg2000 on nodes",
        "keys stay private",
        "clocks",
        "a task's share",
    ):
        assert lines[check].startswith(" ok"), said
    assert "NO" not in [line[1:3] for line in said.splitlines()]
    assert "node1" in lines["shared folder"]
    mine = stac2cube("sites", "mine").stdout
    assert "partition   normal\n" in mine
    assert "cluster     c\n" in mine, "SLURM's name of it, by which jobs find their site"
    assert not list(cluster.work.glob(".stac2cube-doctor*")), "it leaves nothing behind"
    again = stac2cube("doctor", "--site", "example", "--folder", cluster.work, "--write", "mine", check=False)
    assert "exists already" in again.stderr


def test_the_doctor_finds_a_node_that_does_not_see_the_folder(cluster: Cluster) -> None:
    sites = Path(os.environ["STAC2CUBE_CONFIG_DIR"]) / "sites"
    sites.mkdir(parents=True, exist_ok=True)
    (sites / "ill.toml").write_text('[slurm]\npartition = "nonsense"\nmemory = "1GiB"\npython = "/no/python"\n')
    done = stac2cube("doctor", "--site", "ill", "--folder", cluster.work, check=False)
    assert done.returncode == 1
    assert "invalid partition specified: nonsense" in done.stdout
    (sites / "ill.toml").write_text('[slurm]\npartition = "normal"\nmemory = "1GiB"\npython = "/no/python"\n')
    done = stac2cube("doctor", "--site", "ill", "--folder", cluster.work, check=False)
    assert "execve(): /no/python" in " ".join(done.stdout.split()), done.stdout


def test_inside_a_job_the_sites_own_catalog_is_used(
    cluster: Cluster, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same recipe from a shell and in a job: another catalog, the same scenes, and the ledger says which."""
    config = cluster.work / "config"
    config.mkdir()
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(config))
    (config / "catalogs.toml").write_text(
        f'[terrabyte]\ntitle = "site"\nurl = "{archive.catalog("terrabyte")}"\nlocal_root = "{archive.root}"\n'
        f'[earth-search]\ntitle = "open"\nurl = "{archive.catalog("earth-search")}"\n'
    )
    found = {}
    for name in ("shell", "job"):
        recipe = write_recipe(cluster.work, name, archive, catalog="auto", time="2023")
        if name == "shell":
            stac2cube("run", recipe, "-q")
        else:
            stac2cube("submit", recipe, "--site", "example", "--place", "threads")
            cluster.wait_idle()
        cube = cluster.work / name / "layers.zarr"
        entries = Ledger(cube, read_root(cube).ledger).entries()
        found[name] = (set(entries), {entry.properties["catalog"] for entry in entries.values()})
    assert found["shell"][1] == {"earth-search"}
    assert found["job"][1] == {"terrabyte"}
    assert found["shell"][0] == found["job"][0]
    log = next((cluster.work / "job" / "jobs").rglob("layers*.out")).read_text()
    assert log.count("catalog terrabyte: the archive") == 1, "one line says which and why"


def test_the_scripts_to_copy(cluster: Cluster, archive: Archive) -> None:
    recipe = write_recipe(cluster.work, "recipe", archive, time="2023")
    small = ["--cpus-per-task=1", "--mem=1000M", "--time=10"]
    words = {
        "OUT": str(cluster.work / "plain.zarr"),
        "AOI": str(cluster.work / "area.geojson"),
        "TIME": "2023",
        "BANDS": "B04,B03,B02,B05,SCL",
        "CATALOG": str(archive.catalog("earth-search")),
        "ARCHIVE": str(cluster.work),
        "SINCE": "2023-01-01",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    plain = say("sbatch", "--parsable", *small, REPOSITORY / "slurm" / "build_cube.sbatch", **words).strip()
    cluster.wait_state(plain, "COMPLETED", "FAILED")
    log = next(cluster.work.glob(f"build-cube-{plain}.out")).read_text()
    assert cluster.state(plain) == "COMPLETED", log

    update = say("sbatch", "--parsable", *small, REPOSITORY / "slurm" / "update_archive.sbatch", **words).strip()
    cluster.wait_state(update, "COMPLETED", "FAILED")
    log = next(cluster.work.glob(f"update-archive-{update}.out")).read_text()
    assert cluster.state(update) == "COMPLETED", log
    assert "4 were present" in log

    edited = (
        (REPOSITORY / "slurm" / "array.sbatch")
        .read_text()
        .replace("--cpus-per-task=4 --mem=8G --time=04:00:00", "--mem=1000M --time=10")
    )
    (cluster.work / "array.sbatch").write_text(edited)
    said = say("bash", cluster.work / "array.sbatch", recipe, "2", **words)
    assert "sealed by" in said
    cluster.wait_idle()
    assert differences(cluster.work / "recipe" / "layers.zarr", cluster.work / "plain.zarr") == []


def test_jobs_of_reads_what_submit_prints() -> None:
    assert jobs_of("layers-share   job 12\nlogs in x\n") == {"layers-share": "12"}
