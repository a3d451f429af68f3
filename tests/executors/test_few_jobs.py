"""Chains and arrays of jobs where fewer are let in; a stand-in for sbatch counts them as SLURM does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed.core import Status

from stac2cube.errors import SlurmError
from stac2cube.executors import jobqueue
from stac2cube.executors.jobs import ArrayJobs, submit_array, submit_chain
from stac2cube.executors.queue import Body, JobScript, job_script
from stac2cube.executors.slurm import Slurm

SBATCH = """#!/usr/bin/env bash
# $LIMIT jobs may be in the queue; each task of an array counts.
text=$(cat)
[[ $text =~ --array=0-([0-9]+) ]] && many=$((BASH_REMATCH[1] + 1)) || many=1
have=$(cat queue 2>/dev/null | wc -l)
if ((have + many > LIMIT)); then
    echo "sbatch: error: AssocMaxSubmitJobLimit" >&2
    echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2
    exit 1
fi
id=$((1 + $(cat last 2>/dev/null || echo 0))); echo $id >last
for ((n = 0; n < many; n++)); do echo $id >>queue; done
echo "$* $(grep -o 'job-name=[^ ]*' <<<"$text")" >>said
echo $id
"""

SCANCEL = """#!/usr/bin/env bash
for id; do sed -i "/^$id$/d" queue; done
"""


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, code in (("sbatch", SBATCH), ("scancel", SCANCEL), ("scontrol", "#!/bin/sh\necho scontrol $* >>said\n")):
        (tmp_path / name).write_text(code)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(name: str, *options: str) -> JobScript:
    return job_script(name, name, [f"--job-name={name}", *options], Body((), ["true"]), Path("/f"))


def submitted(folder: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> dict[str, str]:
    monkeypatch.setenv("LIMIT", str(limit))
    jobs = ArrayJobs(
        seal=script("seal"),
        share_for=lambda sealing, tasks: script("share", f"--array=0-{tasks - 1}"),
        claim=lambda sealing: (folder / "claims").open("a").write(f"{sealing}\n") and None,
        tasks=8,
        rest=[script("a"), script("b")],
        rest_in_one=[script("entries")],
    )
    return submit_array(Slurm(), jobs, folder)


@pytest.mark.parametrize(
    ("limit", "names", "tasks"),
    [
        (11, ["share", "seal", "a", "b"], 8),
        (10, ["share", "seal", "entries"], 8),
        (9, ["share", "seal", "entries"], 4),
        (4, ["share", "seal", "entries"], 2),
        (3, ["share", "seal", "entries"], 1),
    ],
)
def test_an_array_of_as_many_tasks_as_are_let_in(
    limited: Path, monkeypatch: pytest.MonkeyPatch, limit: int, names: list[str], tasks: int
) -> None:
    jobs = submitted(limited, monkeypatch, limit)
    assert list(jobs) == names
    queue = (limited / "queue").read_text().split()
    assert queue.count(jobs["share"]) == tasks
    assert set(queue) == set(jobs.values()), "what was submitted for other tries is cancelled"
    assert (limited / "claims").read_text().split() == [jobs["seal"]], "the cube is claimed once, when all are let in"
    said = (limited / "said").read_text().splitlines()
    ends = [line for line in said if line.startswith("scontrol")]
    assert ends == [
        f"scontrol update JobId={jobs['seal']} Dependency=afterany:{jobs['share']}",
        f"scontrol release {jobs['seal']}",
        f"scontrol release {jobs['share']}",
    ]


def test_where_none_is_let_in_nothing_stays(limited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SlurmError, match="AssocMaxSubmitJobLimit"):
        submitted(limited, monkeypatch, 2)
    assert (limited / "queue").read_text() == ""
    assert not (limited / "claims").exists()
    with pytest.raises(SlurmError, match="AssocMaxSubmitJobLimit"):
        submit_chain(Slurm(), [script("a"), script("b"), script("c")], limited)
    assert (limited / "queue").read_text() == ""


def test_jobs_let_in_are_counted_at_one_moment(caplog: pytest.LogCaptureFixture) -> None:
    """SLURM answers for the second and the third job while the queue is asked about the first."""
    jobs = {"first": SimpleNamespace(job_id="1", status=Status.running)}
    later = {
        "second": SimpleNamespace(job_id="2", status=Status.running),
        "third": SimpleNamespace(job_id="", status=Status.running),
    }

    def waiting(seen: set[str]) -> dict[str, tuple[str, str]]:
        found = dict.fromkeys(seen, ("RUNNING", "None"))
        jobs.update(later)
        return found

    cluster = SimpleNamespace(workers=jobs, scale=lambda jobs: None, scheduler_info={"workers": {"first": {}}})
    wanted = SimpleNamespace(queue=SimpleNamespace(waiting=waiting), jobs=3, logs="logs")
    worker_jobs = jobqueue._Jobs(wanted, cluster, SimpleNamespace(refusal=SlurmError("MaxSubmitJobs")), "run")
    assert (worker_jobs.look(), caplog.messages) == ("", [])
    assert worker_jobs.look() == ""
    assert worker_jobs.look() == ""
    assert [words for words in caplog.messages if "let in" in words] == [
        "2 of 3 worker jobs were let in, and the build goes on with them: MaxSubmitJobs"
    ]
