"""What the doctor makes of a cluster's own words; programs stand in for SLURM's, at a site with other habits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stac2cube.errors import BadInputError, SlurmError
from stac2cube.executors import doctor
from stac2cube.executors.doctor import Check, Finding, habits, judged_software, site_text, software, working_memory_form
from stac2cube.executors.site import find_site
from stac2cube.executors.slurm import Slurm

CONFIG = """Configuration data as of 2026-11-29T20:00:00
DefMemPerNode           = UNLIMITED
DefMemPerCPU            = 1900
JobRequeue              = 0
MaxArraySize            = 101
MaxJobCount             = 10000
ScronParameters         = enable
SelectTypeParameters    = CR_CORE_MEMORY
SlurmctldPrologFlags    =
"""

PARTITION = "PartitionName=long AllowGroups=ALL MaxNodes=UNLIMITED MaxTime=00:30:00 DefMemPerCPU=1900 MaxMemPerCPU=2000"

MAINTENANCE = (
    "ReservationName=m StartTime=2026-12-01T06:00:00 EndTime=2026-12-01T18:00:00 Flags=MAINT,SPEC_NODES State=INACTIVE"
)

PROGRAMS = {
    "scontrol": f"""case "$*" in
        *config*) echo '{CONFIG}';;
        *partition*) echo '{PARTITION}';;
        *) echo '{MAINTENANCE}';;
    esac""",
    "sacctmgr": 'echo "science||4"; echo "other|2|30"',
    "sinfo": 'echo "2:64:2 (null)"; echo "2:48:2 gpu:4"',
    "sbatch": 'echo "Welcome!"; echo "slurm 24.11.5"',
}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site of programs alone."""
    for name, code in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def by_name(place: Slurm) -> dict[str, Finding]:
    return {finding[0]: finding for finding in habits(place)}


def test_what_a_cluster_says_of_its_habits(elsewhere: Path) -> None:
    place = Slurm(partition="long", jobs=20, walltime="02:00:00", memory_as="none")
    found = by_name(place)
    assert found["SLURM"][2] == "slurm 24.11.5; sbatch says more than that"
    assert "MaxSubmitJobs 4, jobs = 20; jobs = 1 would leave room" in found["jobs at a time"][2]
    assert "MaxArraySize 101" in found["jobs at a time"][2]
    assert found["memory"][1:] == (True, "DefMemPerCPU 1900, MaxMemPerCPU 2000; asked for as none")
    assert found["time limit"][1] is False
    assert "00:30:00 at most in long" in found["time limit"][2]
    assert "2:48:2, 2:64:2" in found["hyperthreads"][2]
    assert "--hint=nomultithread" in found["hyperthreads"][2]
    assert found["maintenance"][1] is None
    assert "2026-12-01T06:00:00" in found["maintenance"][2]
    known = "scrontab is there" if shutil.which("scrontab") else "no scrontab"  # newer releases of Debian have it
    assert found["runs by a clock"][2].startswith(known)
    assert found["requeueing"][1] is None
    within = by_name(replace(place, walltime="00:20:00", jobs=1, directives=("--no-requeue",)))
    assert (within["time limit"][1], within["jobs at a time"][1]) == (True, True)
    assert "requeueing" not in within


def test_a_cluster_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert all(ok is not False for _, ok, _ in habits(Slurm())), "what is not known is no fault"


def test_the_form_in_which_memory_may_be_asked_for_comes_into_the_site_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tested(place: Slurm, folder: Path) -> str:
        if place.memory_as in ("mem", "all"):
            raise SlurmError("sbatch: --mem is not allowed here, use --mem-per-cpu")
        return "to start at once"

    monkeypatch.setattr(doctor, "_tested", tested)
    monkeypatch.setattr(doctor, "habits", lambda place: ())
    monkeypatch.setattr(doctor, "_submitted_and_cancelled", lambda place, folder: "job 1")
    monkeypatch.setattr(doctor, "_on_two_nodes", lambda *_: ())
    monkeypatch.setattr(doctor, "which", lambda program: program)
    found: dict[str, object] = {}
    told = {check.name: check for check in doctor.checks(find_site("example"), tmp_path, 1, found)}
    refused = told["sbatch takes worker jobs"]
    assert refused.ok is False
    assert refused.words.endswith('use --mem-per-cpu. It takes them with memory_as = "mem-per-cpu"')
    assert found == {"memory_as": "mem-per-cpu"}
    assert 'memory_as = "mem-per-cpu"\n' in site_text(find_site("example"), found)
    assert working_memory_form(Slurm(memory_as="none"), {"mem": False, "none": False}) == ""


def test_nodes_with_other_software(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = software() | {"node": "n1", "late": 0.1}
    assert all(ok for _, ok, _ in judged_software([alike, alike]) if ok is not None)
    other = alike | {
        "stac2cube": "0.0.1",
        "libc": "glibc 2.17",
        "tmpdir": "/gone",
        "home_writable": False,
        "late": 75.0,
    }
    told = {name: Check(name, ok, words) for name, ok, words in judged_software([alike, other])}
    assert told["stac2cube on nodes"].ok is False
    assert "glibc 2.17" in told["libc on nodes"].words
    assert "TMPDIR = /gone cannot be used" in told["temporary folder"].words
    assert told["home on nodes"].words == "read-only, which jobs bear"
    assert told["files appear"].ok is False


def test_a_site_of_another_scheduler_is_not_examined(tmp_path: Path) -> None:
    site = find_site("example")
    with pytest.raises(BadInputError, match="examines sites with SLURM"):
        next(doctor.checks(replace(site, slurm=replace(site.slurm, scheduler="pbs")), tmp_path, 1))
