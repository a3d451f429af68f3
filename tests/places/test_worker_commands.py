"""The commands by which dask-jobqueue submits and cancels worker jobs."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from stac2cube.places.jobqueue import worker_command


def test_worker_jobs_do_not_inherit_the_job_of_their_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sbatch would take SLURM_MEM_PER_CPU and others of a job's variables for options of the new one."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1000")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    monkeypatch.setenv("OTHER", "kept")
    command = shlex.split(worker_command("printenv", ""))  # as dask-jobqueue splits it
    told = subprocess.run([*command, "--null"], check=True, capture_output=True, text=True).stdout
    seen = dict(line.split("=", 1) for line in told.split("\0") if line)
    assert not {"SLURM_JOB_ID", "SLURM_MEM_PER_CPU"} & seen.keys()
    assert seen["SLURM_CONF"] == "/etc/slurm/slurm.conf"
    assert seen["OTHER"] == "kept"


def test_the_cluster_is_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert shlex.split(worker_command("scancel", "far"))[-2:] == ["scancel", "--clusters=far"]
