"""Keeping a cube on a cluster: a year sealed by worker jobs, and a site's limits, which its jobs find by themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from stac2cube.build.loop import build
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import verify
from stac2cube.maintain.seal_year import seal_year
from stac2cube.store.yearly_store import years_folder
from tests.build.toy import SPEC, Make, steps
from tests.slurm.cluster import Cluster, say, stac2cube


def files_of(years: Path) -> dict[str, bytes]:
    """All files of the stores, without the moment of making, which the root says."""
    files = {str(path.relative_to(years)): path.read_bytes() for path in years.rglob("*") if path.is_file()}
    for name in [name for name in files if name.count("/") == 1]:
        document = json.loads(files[name])
        del document["attributes"]["history"]
        files[name] = json.dumps(document).encode()
    return files


def test_worker_jobs_seal_the_year_that_threads_seal(cluster: Cluster) -> None:
    cube, twin = cluster.work / "toy.zarr", cluster.work / "twin" / "toy.zarr"
    build(cube, SPEC, steps(range(6)), Make(), Threads(2))
    shutil.copytree(cube, twin)
    by_threads = seal_year(twin, 2020, Threads(2))
    before = set(cluster.jobs("all", "s2c-workers"))
    words = ["seal-year", cube, "2020", "--place", "slurm", "--site", "example", "--json", "-q"]
    by_jobs = json.loads(stac2cube(*words, cwd=cluster.work).stdout)
    assert (by_jobs["made"], by_jobs["files"], by_jobs["size"]) == (True, by_threads.files, by_threads.size)
    assert len(set(cluster.jobs("all", "s2c-workers")) - before) == 2, "by two worker jobs"
    assert files_of(years_folder(cube)) == files_of(years_folder(twin)), "byte by byte"
    assert verify(cube) == []
    assert json.loads(stac2cube(*words, cwd=cluster.work).stdout)["made"] is False


def test_a_job_finds_the_limits_of_its_site_by_itself(cluster: Cluster) -> None:
    cube, config = cluster.work / "toy.zarr", cluster.work / "config"
    (config / "sites").mkdir(parents=True)
    name = say("scontrol", "show", "config").partition("ClusterName")[2].split()[1]
    (config / "sites" / "small.toml").write_text(f'cluster = "{name}"\n[limits]\nmax_files = 10\n')
    script = f"#!/bin/bash\nexport STAC2CUBE_CONFIG_DIR={config}\n"
    script += f"exec {sys.executable} -m tests.slurm.driver {cube} --steps 1 --place threads\n"
    job = subprocess.run(
        ["sbatch", "--parsable", f"--output={cluster.work}/log"],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    cluster.wait_state(job, "COMPLETED", "FAILED")
    assert "0 files and up to 18 more, where the site allows 10" in (cluster.work / "log").read_text()
    assert cluster.state(job) == "FAILED"
    assert not cube.exists()
