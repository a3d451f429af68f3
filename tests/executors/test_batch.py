"""Worker jobs of PBS and LSF: their scripts as text, and programs that stand in for qsub and bsub."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stac2cube.errors import BadInputError, PlaceError
from stac2cube.executors.jobqueue import batch_script
from stac2cube.executors.site import find_site
from stac2cube.executors.slurm import Slurm
from tests.servers.dask_gateway import CONFIGURATION

PLACE = Slurm(
    partition="long",
    account="eo",
    jobs=1,
    cores=4,
    memory="8GiB",
    walltime="1-02:30:00",
    directives=("-m n",),
    prologue=("module load python",),
    python="apptainer exec /p/s2c.sif python",
    interface="lo",
)

PBS = """#!/usr/bin/env bash

#PBS -N s2c-7
#PBS -q long
#PBS -A eo
#PBS -l select=1:ncpus=4:mem=8192MB
#PBS -l walltime=26:30:00
#PBS -e {logs}/
#PBS -o {logs}/
#PBS -m n
"""

LSF = """#!/usr/bin/env bash

#BSUB -J s2c-7
#BSUB -e {logs}/s2c-7-%J.err
#BSUB -o {logs}/s2c-7-%J.out
#BSUB -q long
#BSUB -P "eo"
#BSUB -n 4
#BSUB -R "span[hosts=1]"
#BSUB -M 8589935
#BSUB -W 26:30
#BSUB -m n
"""

WORKER = (
    "module load python\napptainer exec /p/s2c.sif python -m stac2cube.executors.worker tls://10.0.0.1:5 --name s2c-7 "
    "--nthreads 4 --memory-limit 8.00GiB --death-timeout 120 --keys /k --lifetime 95100s --interface lo\n"
)


@pytest.mark.parametrize(("scheduler", "header"), [("pbs", PBS), ("lsf", LSF)])
def test_the_script_of_a_worker(scheduler: str, header: str, tmp_path: Path) -> None:
    place = replace(PLACE, scheduler=scheduler)
    text = batch_script(place, "s2c-7", "tls://10.0.0.1:5", Path("/k"), tmp_path)
    assert text.replace("python -s -m", "python -m") == header.format(logs=tmp_path) + WORKER


@pytest.mark.parametrize("wrong", [{"partition": "my queue"}, {"python": "/opt/$HOME/python"}, {"account": "a;b"}])
def test_what_dask_jobqueue_would_write_without_quotes_is_refused(wrong: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="worker jobs of pbs take letters"):
        batch_script(replace(PLACE, scheduler="pbs", **wrong), "w", "tls://a:1", Path("/k"), tmp_path)
    with pytest.raises(BadInputError, match="worker jobs of lsf take letters"):
        batch_script(replace(PLACE, scheduler="lsf"), "w", "tls://a:1", Path("/k"), tmp_path / "my logs")


def test_a_site_says_its_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "ours.toml").write_text('[slurm]\nscheduler = "pbs"\npartition = "long"\n')
    assert find_site("ours").place().scheduler == "pbs"
    with pytest.raises(BadInputError, match="scheduler 'sge': one of slurm, pbs, lsf"):
        Slurm(scheduler="sge")


STAND_IN = {
    "pbs": ("qsub", 'bash "$1" >"$LOGS/log" 2>&1 </dev/null & echo "17.server"', "qdel"),
    "lsf": ("bsub", 'bash "$1" >"$LOGS/log" 2>&1 </dev/null & echo "Job <17> is submitted to queue <long>."', "bkill"),
}


@pytest.mark.parametrize("scheduler", STAND_IN)
def test_worker_jobs_make_blocks(scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, code, cancel = STAND_IN[scheduler]
    # dask-jobqueue removes the script when it is submitted; bsub reads it from its standard input.
    copied = 'cat "${1:--}" >"$LOGS/script"; set -- "$LOGS/script"; '
    for name, text in ((program, copied + code), (cancel, "true")):
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LOGS", str(tmp_path))
    place = Slurm(scheduler=scheduler, jobs=1, cores=1, memory="1GiB", logs=str(tmp_path / "logs"))
    with place.open() as executor:
        assert executor.submit(pow, 2, 5).result(120) == 32
    assert "stac2cube.executors.worker tls://" in (tmp_path / "script").read_text()
    assert not list((tmp_path / "logs").glob(".keys-*"))


def test_a_refusal_is_read_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qsub").write_text("#!/bin/sh\necho 'qsub: Unknown queue' >&2\nexit 1\n")
    (tmp_path / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    place = Slurm(scheduler="pbs", jobs=1, cores=1, memory="1GiB", logs=str(tmp_path / "logs"))
    begun = time.monotonic()
    with pytest.raises(PlaceError, match="qsub: Unknown queue"), place.open() as executor:
        executor.submit(pow, 2, 5).result(120)
    assert time.monotonic() - begun < 100
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PlaceError, match="there is no 'qsub' on PATH"), place.open():
        pass


def test_the_page_names_a_gateways_commands_as_the_one_of_the_tests_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gateway-and-cwl.md").read_text()
    for name in ("scheduler", "worker"):
        said = re.search(rf'c\.ClusterConfig\.{name}_cmd = \["python", ("-m", .*\])', page)
        assert said
        assert f"c.ClusterConfig.{name}_cmd = [{{python!r}}, {said[1]}" in CONFIGURATION
