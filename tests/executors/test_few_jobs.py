"""Chains and arrays of jobs where fewer are let in; a stand-in for sbatch counts them as SLURM does."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed.core import Status

from stac2cube.cli import jobs as job_commands
from stac2cube.errors import SlurmError
from stac2cube.executors import jobqueue
from stac2cube.executors.jobs import ArrayJobs, Submission, submissions, submit_array, submit_chain
from stac2cube.executors.queue import Body, JobScript, Queue, job_script
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


@pytest.mark.parametrize("said", ["launch failed requeued held", "(launch_failed_requeued_held)"])
def test_a_worker_job_that_slurm_holds_after_a_failed_start_is_replaced(
    said: str, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = {name: SimpleNamespace(job_id=name, status=Status.running) for name in ("1", "2")}
    states = {"1": ("RUNNING", "None"), "2": ("PENDING", said)}
    cancelled: list[str] = []
    queue = SimpleNamespace(waiting=lambda seen: {job: states[job] for job in seen}, cancel=cancelled.extend)
    scaled: list[list[str]] = []
    cluster = SimpleNamespace(
        workers=jobs,
        scale=lambda jobs: scaled.append(sorted(cluster.workers)),
        scheduler_info={"workers": {"first": {"name": "1"}}},
        loop=SimpleNamespace(add_callback=lambda call, *words: call(*words)),
    )
    wanted = SimpleNamespace(queue=queue, jobs=2, logs="logs")
    assert jobqueue._Jobs(wanted, cluster, SimpleNamespace(refusal=None), "run").look() == ""
    assert cancelled == ["2"]
    assert scaled == [["1"]], "the next one is submitted in its place"
    assert [words for words in caplog.messages if "replaced" in words] == [
        "worker job(s) 2: launch failed requeued held; they are cancelled and replaced"
    ]


run_commands = import_module("stac2cube.cli.run")  # the package has a command of that name

SCONTROL = """#!/usr/bin/env bash
[[ $1 == --oneliner ]] && echo "JobId=7 JobName=x JobState=$STATE Reason=$REASON Restarts=0" && exit
echo "scontrol $*" >>said
[[ -z $REFUSED ]] || { echo "slurm_requeue error: $REFUSED" >&2; exit 1; }
"""


@pytest.mark.parametrize(
    ("asked", "state", "reason", "refused", "count", "progressed", "requeued"),
    [
        (False, "RUNNING", "None", "", "", False, True),
        (True, "RUNNING", "None", "", "", True, True),  # scancel --signal=TERM
        (True, "COMPLETING", "TimeLimit", "", "", True, True),
        (True, "COMPLETING", "None", "", "", True, False),  # scancel, or preempted
        (True, "CANCELLED", "None", "", "", True, False),
        (False, "RUNNING", "None", "Requested operation is presently disabled", "", True, True),
        (False, "RUNNING", "None", "", "1", False, True),
        (False, "RUNNING", "None", "", "2", False, False),
        (False, "RUNNING", "None", "", "2", True, True),
    ],
)
def test_a_job_that_stopped_is_requeued_unless_somebody_ended_it_or_it_comes_no_further(
    limited: Path, monkeypatch: pytest.MonkeyPatch, asked: bool, state: str, reason: str, refused: str, count: str,
    progressed: bool, requeued: bool,
) -> None:  # fmt: skip
    (limited / "scontrol").write_text(SCONTROL)
    words = {"STATE": state, "REASON": reason, "REFUSED": refused, "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": count}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(run_commands, "was_asked_to_stop", lambda: asked)
    assert run_commands.leave(10, "requeue", progressed=progressed) == 10
    said = (limited / "said").read_text() if (limited / "said").exists() else ""
    assert said == ("scontrol requeue 7\n" if requeued else "")
    assert run_commands.leave(10, "stop") == 10
    assert run_commands.leave(2, "requeue") == 2


def test_a_job_asks_again_to_be_requeued_while_the_controller_of_slurm_restarts(
    limited: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    busy = "slurm_requeue error: Unable to contact slurm controller (connect failure)"
    (limited / "scontrol").write_text(
        f'#!/bin/sh\necho "$*" >>said\n[ "$(wc -l <said)" -gt 2 ] || {{ echo "{busy}" >&2; exit 1; }}\n'
    )
    monkeypatch.setattr(run_commands, "BUSY_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(run_commands, "was_asked_to_stop", lambda: False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert run_commands.leave(10, "requeue") == 10
    assert (limited / "said").read_text() == "requeue 7\n" * 3
    assert "is not requeued" not in caplog.text
    monkeypatch.setattr(run_commands, "BUSY_PAUSES", ())
    (limited / "said").unlink()
    assert run_commands.leave(10, "requeue") == 10
    assert "is not requeued: scontrol: " in caplog.text


def test_submissions_of_moved_and_copied_folders_and_half_files(
    limited: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = limited / "cubes" / "jobs" / "20260101-000000"
    folder.mkdir(parents=True)
    made = Submission.now(folder, Path("r.yaml"), "example", "", {"layers": "7"})
    assert submissions(limited / "cubes") == [made]
    copied = limited / "copy"
    shutil.copytree(limited / "cubes", copied)
    assert submissions(copied) == [], "its jobs and logs are the original's"
    (limited / "cubes").rename(limited / "moved")
    (moved,) = submissions(limited / "moved")
    assert moved.folder == limited / "moved" / "jobs" / folder.name
    for number, text in enumerate(("", '{"folder": "/', "[]", '{"folder": 5}', json.dumps({"folder": "/no"}))):
        half = limited / "moved" / "jobs" / f"20260102-00000{number}"
        half.mkdir()
        (half / "submission.json").write_text(text)
    assert submissions(limited / "moved") == [moved]
    assert caplog.text.count("cannot be read, and its jobs are not known") == 5
    # A folder that somebody else owns ends no command.
    monkeypatch.setattr(Submission, "alive", lambda _: False)
    monkeypatch.setattr(job_commands, "submissions", lambda _: [moved, moved])

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(job_commands.shutil, "rmtree", refuse)
    job_commands.remove_old(limited / "moved", 1)
    assert "cannot be removed: Permission denied" in caplog.text


def test_progress_and_logs_that_cannot_be_read_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk or a crash leaves half a file, and another member of the group keeps logs to himself."""
    made = Submission(tmp_path, "r.yaml", "example", "", {"layers": "7"}, "")
    (tmp_path / "progress.0.json").write_text('{"total": 4, "done": 1, "begun": 10.0, "now": 20.0}')
    (tmp_path / "layers-7.out").write_text("stac2cube: no room\n")
    for number, text in enumerate(("", '{"total": 4', "[]", '{"total": 4}'), 1):
        (tmp_path / f"progress.{number}.json").write_text(text)
    (tmp_path / "layers-8.out").mkdir()
    assert made.progress() == {"total": 4, "done": 1, "seconds_per_block": 10, "left": 30}
    assert made.last_error() == "stac2cube: no room"
    assert caplog.text.count("its blocks are not counted") == 4
    assert "layers-8.out cannot be read" in caplog.text


def test_a_job_whose_submission_was_interrupted_does_not_stay(limited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (limited / "squeue").write_text("#!/bin/sh\necho 7 /f\n")
    (limited / "squeue").chmod(0o755)
    (limited / "queue").write_text("7\n8\n")
    real = Queue._run

    def run(queue: Queue, program: str, *words: object) -> object:
        if program == "sbatch":
            raise KeyboardInterrupt
        return real(queue, program, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(Queue, "_run", run)
    with pytest.raises(KeyboardInterrupt):
        Queue().submit(script("x"))
    assert (limited / "queue").read_text() == "8\n"


def test_jobs_that_cannot_be_written_down_are_cancelled(limited: Path) -> None:
    (limited / "queue").write_text("7\n8\n")
    with pytest.raises(OSError, match="No such file"):
        Submission.now(limited / "gone", Path("r.yaml"), "example", "", {"a": "7", "b": "8"})
    assert (limited / "queue").read_text() == ""
