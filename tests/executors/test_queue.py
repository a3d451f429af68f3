"""What is understood of SLURM's words without a SLURM."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stac2cube.build.plan import BuildOptions
from stac2cube.build.scheduler import FAREWELL, Scheduler
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Threads
from stac2cube.executors.queue import (
    Body,
    Queue,
    duration_seconds,
    in_job,
    job_end,
    job_is_alive,
    job_script,
    last_words,
    memory_bytes,
    share_of_array,
    without_job,
)
from stac2cube.executors.site import find_site, site_names
from stac2cube.progress import Progress
from stac2cube.store.lock import Owner


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129600), ("1-0:30", 88200), ("2-01:02:03", 176523)],
)
def test_times_as_sbatch_writes_them(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "UNLIMITED", "1h", "INVALID"])
def test_what_is_no_time(text: str) -> None:
    assert duration_seconds(text) is None


def test_only_settings_are_handed_on() -> None:
    settings = {"SLURM_CONF": "c", "SLURM_CLUSTERS": "x", "SLURM_CONF_SERVER": "host:6817", "SLURM_SACK_SOCKET": "/s"}
    job = {"SLURM_JOB_ID": "1", "SLURMD_NODENAME": "n"}
    assert without_job(job | settings | {"A": "b"}) == settings | {"A": "b"}


def test_a_token_identifies_its_owner_outside_jobs_only() -> None:
    token = {"SLURM_JWT": "t"}
    assert without_job(token) == token
    assert without_job(token | {"SLURM_JOB_ID": "1"}) == {}


def test_a_persons_own_defaults_do_not_overrule_a_script_or_hide_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sbatch", "squeue"):
        (tmp_path / name).write_text(
            f"#!/bin/sh\ncat >/dev/null; env | grep -E '^(SBATCH|SQUEUE|SCANCEL)_' | sort >{name}.said; echo 7\n"
        )
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    overruled = ("PARTITION", "TIMELIMIT", "MEM_PER_NODE", "JOB_NAME", "OUTPUT", "ARRAY_INX", "WAIT")
    for name in (*overruled, "ACCOUNT", "EXPORT"):
        monkeypatch.setenv(f"SBATCH_{name}", "theirs")
    for name in ("SQUEUE_USERS", "SQUEUE_PARTITION", "SQUEUE_FORMAT2", "SCANCEL_INTERACTIVE"):
        monkeypatch.setenv(name, "theirs")
    options = ["--job-name=x", "--partition=p", "--time=10", "--mem-per-cpu=1G"]
    assert Queue().submit(job_script("x", "x", options, Body((), ["true"]), tmp_path)) == "7"
    assert (tmp_path / "sbatch.said").read_text().split() == ["SBATCH_ACCOUNT=theirs", "SBATCH_EXPORT=theirs"]
    assert Queue().states(["7"]) == {}
    assert "SQUEUE" not in (tmp_path / "squeue.said").read_text()


def test_the_end_of_a_job() -> None:
    assert job_end({"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": "1700000000"}) == 1700000000
    assert job_end({}) is None
    assert in_job({"SLURM_JOB_ID": "1"})
    assert not in_job({})


@pytest.mark.parametrize("said", ["UNLIMITED", "0", "nan", "inf", "-1", "4294967294x", " "])
def test_an_end_that_is_no_time_is_asked_for(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 1-00:00:00\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    end = job_end({"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": said})
    assert end is not None
    assert 86000 < end - time.time() <= 86400
    assert job_end({"SLURM_JOB_END_TIME": said}) is None


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("echo 1:00:00 RUNNING", 3600),  # the limit was extended
        ("echo INVALID RUNNING", -1),  # it runs beyond its limit (OverTimeLimit)
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", None),  # SLURM forgot it
        ("true", None),  # it has ended
        ("echo 'Unable to contact slurm controller' >&2; exit 1", -1),
    ],
)
def test_an_end_that_is_over_is_asked_for(
    said: str, left: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell of an ``salloc`` on a login node goes on after its job, with the variables of that job."""
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{said}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    now = time.time()
    end = job_end({"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": f"{now - 1:.0f}"})
    assert end is None if left is None else end == pytest.approx(now + left, abs=60)


@pytest.mark.parametrize("text", ["inf", "1e999GiB", "nan", "-8GiB", "GiB", "", "8 GiB of it"])
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(BadInputError, match="write a number and a unit"):
        memory_bytes(text)


def task(number: int, least: int, most: int, count: int, step: str = "") -> dict[str, str]:
    said = {"ID": number, "MIN": least, "MAX": most, "COUNT": count}
    found = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in said.items()}
    return found | ({"SLURM_ARRAY_TASK_STEP": step} if step else {})


def test_every_share_of_an_array_is_made_once_or_the_array_is_refused() -> None:
    assert [share_of_array(None, None, task(n, 3, 6, 4)) for n in range(3, 7)] == [(n, 4) for n in range(4)]
    assert [share_of_array(None, None, task(n, 0, 14, 8, "2")) for n in range(0, 16, 2)] == [(n, 8) for n in range(8)]
    assert share_of_array(1, 4, {}) == (1, 4)
    for odd in (task(1, 1, 7, 3, "1"), task(7, 1, 7, 3, "1"), task(3, 1, 7, 3)):
        with pytest.raises(BadInputError, match="should follow each other"):
            share_of_array(None, None, odd)
    with pytest.raises(BadInputError, match="shares are counted from 0"):
        share_of_array(4, 4, {})
    with pytest.raises(BadInputError, match="run this in a job array"):
        share_of_array(None, None, {"SLURM_ARRAY_TASK_ID": "4294967294x"})


def test_a_squeue_that_talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "squeue"
    program.write_text(
        "#!/bin/sh\necho 'Welcome to 2026'; echo 2026; echo 'CLUSTER: c'; echo '3 RUNNING jobs'\n"
        "case \"$*\" in *%L*) echo 1:30;; *%Z*) echo '17 /some/folder';;\n"
        "*) echo '17 RUNNING None'; echo '18_[2-3%2] PENDING AssocMaxJobsLimit'; echo '19+1 PENDING Priority';; esac\n"
        "echo '2026 is over soon'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert Queue().states(["17", "18", "19"]) == {"17": "RUNNING", "18_[2-3%2]": "PENDING", "19+1": "PENDING"}
    assert Queue().waiting(["18"])["18_[2-3%2]"] == ("PENDING", "AssocMaxJobsLimit")
    script = job_script("x", "x", [], Body((), ["true"]), Path("/some/folder"))
    assert Queue().alike(script) == ["17"]
    end = job_end({"SLURM_JOB_ID": "17"})
    assert end is not None
    assert 60 < end - time.time() <= 90


def test_last_words(tmp_path: Path) -> None:
    assert last_words(tmp_path, "*") == ""
    (tmp_path / "a.out").write_text("one\n\ntwo\nthree\nfour\n")
    (tmp_path / "b.out").write_text("\n")
    assert last_words(tmp_path, "*.out", 2) == "three | four"


def test_blocks_are_begun_only_if_they_can_be_finished() -> None:
    def flow(left: float) -> Scheduler:
        return Scheduler(Threads(2), BuildOptions(deadline=time.time() + left), Progress())

    slow = flow(FAREWELL + 25)
    assert slow.wants_more(0), "nothing is known yet"
    slow.made(10)
    assert slow.wants_more(0), "one more round of ten seconds fits"
    assert not slow.wants_more(4), "but not behind two others"
    assert slow.stopped
    assert not slow.dropping, "what was begun is finished"
    over = flow(FAREWELL - 1)
    assert over.dropping
    assert not Scheduler(Threads(2), BuildOptions(), Progress()).stopped


def test_a_holder_without_a_job_is_unknown_and_a_former_life_of_ours_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Owner.here()
    assert job_is_alive(here) is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    in_job_12 = {"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "n"}
    assert job_is_alive(Owner.here(environment=in_job_12)) is False
    assert job_is_alive(Owner.here(environment={**in_job_12, "SLURM_RESTART_COUNT": "1"})) is None
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "here")
    elsewhere = {**in_job_12, "SLURM_CLUSTER_NAME": "elsewhere"}
    assert job_is_alive(Owner.here(environment=elsewhere)) is None, "the number is that of another cluster's job"
    assert job_is_alive(Owner.of_jobs("token", "13")) is None, "of which cluster is not known"


def test_a_shell_of_salloc_on_a_login_node_does_not_end_with_its_job() -> None:
    """Its job is gone, and its processes still write."""
    holder = Owner.here(environment={"SLURM_JOB_ID": "12", "SLURM_CLUSTER_NAME": "here"})
    assert holder.job == ""
    assert job_is_alive(holder) is None


def test_every_site_file_can_be_read() -> None:
    for name in site_names():
        site = find_site(name)
        assert site.title
        for place in (site.place(), site.place(test=True), site.place(gpu=True)):
            assert place.parallel >= 1
    terrabyte = find_site("terrabyte")
    assert "--clusters=hpda2" in terrabyte.slurm.header("x")
    assert "--gres=gpu:1" in terrabyte.place(gpu=True).header("x")


def test_a_persons_own_site_file_adds_to_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "terrabyte.toml").write_text('[slurm]\naccount = "mine"\n')
    site = find_site("terrabyte").slurm
    assert (site.account, site.partition) == ("mine", "hpda2_compute")
