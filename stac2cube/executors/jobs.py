"""Jobs of a recipe: submitted, examined, cancelled. No process stays running where this is called."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from stac2cube.errors import BadInputError, SlurmError
from stac2cube.executors.queue import (
    ENDED,
    Body,
    JobScript,
    Queue,
    job_script,
    lets_in_no_more,
    python_words,
    safe_job_name,
)
from stac2cube.executors.slurm import Slurm
from stac2cube.executors.worker import ONE_THREAD
from stac2cube.store.files import write_whole
from stac2cube.trust.address import has_secret
from stac2cube.trust.text import parse_json

log = logging.getLogger(__name__)

Way = Literal["slurm", "allocation", "threads"]
"""How a job's blocks are made: by separate worker jobs, by workers in the job's own tasks, by its threads."""

CONTROLLER_MEMORY = 4 * 2**30
"""Bytes for a job that only distributes blocks: the search result of a tile over ten years needs about one GiB."""


@dataclass(frozen=True)
class Submission:
    """Jobs submitted together for one recipe.

    Attributes:
        folder: Present folder of their scripts, logs and progress files.
        recipe: Path of the recipe.
        site: Name of the site.
        clusters: Name for ``--clusters``, "" where there is one.
        jobs: Name and id of each job.
        made: Time of submission.
    """

    folder: Path
    recipe: str
    site: str
    clusters: str
    jobs: Mapping[str, str]
    made: str

    @property
    def queue(self) -> Queue:
        """The queue that holds them."""
        return Queue(self.clusters)

    @classmethod
    def now(cls, folder: Path, recipe: Path, site: str, clusters: str, jobs: Mapping[str, str]) -> Submission:
        """Record jobs that were just submitted in a file beside their logs.

        Raises:
            OSError: The file cannot be written. The jobs are cancelled, because no command would find them.
        """
        made = cls(folder, str(recipe), site, clusters, dict(jobs), datetime.now(UTC).isoformat(timespec="seconds"))
        content = asdict(made) | {"folder": str(folder)}
        try:
            write_whole(folder / "submission.json", json.dumps(content, indent=1).encode())
        except OSError:
            made.queue.cancel(jobs.values())
            raise
        return made

    @classmethod
    def read(cls, file: Path) -> Submission | None:
        """Read the record of a submission; None if it cannot be read, or was copied together with its folder.

        Args:
            file: The file. Its present folder is used, because the folder of the cubes may have been moved.
        """
        try:
            content = parse_json(file.read_text(encoding="utf-8"))
            there = Path(content["folder"])
            jobs = {str(name): str(job) for name, job in content["jobs"].items()}
            texts = [str(content[name]) for name in ("recipe", "site", "clusters", "made")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s cannot be read, and its jobs are not known: %r", file, error)
            return None
        if there.exists() and not there.samefile(file.parent):
            return None  # its jobs, scripts and logs are the original's
        recipe, site, clusters, made = texts
        return cls(file.parent, recipe, site, clusters, jobs, made)

    def states(self) -> dict[str, str]:
        """State of each job (of each task of an array) by name and id; ``"ENDED"`` if SLURM has no record of it.

        Raises:
            SlurmError: SLURM cannot be queried.
        """
        known = self.queue.states(self.jobs.values())
        remembered = {task.partition("_")[0] for task in known}
        known |= self.queue.final_states(job for job in self.jobs.values() if job not in remembered)
        found: dict[str, str] = {}
        for name, job in self.jobs.items():
            own = {task: state for task, state in known.items() if task == job or task.startswith(f"{job}_")}
            found |= {f"{name} {task}": state for task, state in (own or {job: "ENDED"}).items()}
        return found

    def alive(self) -> bool:
        """Whether any of its jobs is waiting or running."""
        return any(state not in {*ENDED, "ENDED"} for state in self.states().values())

    def cancel(self) -> None:
        """Cancel the jobs that have not ended.

        Raises:
            SlurmError: SLURM refuses.
        """
        states = self.queue.states(self.jobs.values())
        self.queue.cancel(sorted({task.partition("_")[0] for task, state in states.items() if state not in ENDED}))

    def logs(self) -> list[Path]:
        """Log files, oldest first."""
        return sorted(self.folder.glob("*.out"), key=lambda path: path.stat().st_mtime)

    def progress(self) -> dict[str, float] | None:
        """Blocks made, seconds per block and seconds left, over all its jobs; None before any began."""
        parts = [part for file in self.folder.glob("progress*.json") if (part := _progress_in(file))]
        if not parts:
            return None
        total, done = (sum(part[what] for part in parts) for what in ("total", "done"))
        passed = max(part["now"] for part in parts) - min(part["begun"] for part in parts)
        left = passed / done * (total - done) if done else float("nan")
        return {
            "total": total,
            "done": done,
            "seconds_per_block": passed / done if done else float("nan"),
            "left": left,
        }

    def last_error(self) -> str:
        """The last line of the newest logs that reports a failure, "" if there is none."""
        for file in reversed(self.logs()):
            try:
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError as error:  # that of another member of the group, who may read it alone
                log.warning("%s cannot be read: %s", file, error.strerror)
                continue
            found = [
                line for line in lines if line.startswith(("stac2cube:", "slurmstepd", "failed:")) or "Error" in line
            ]
            if found:
                return found[-1]
        return ""


def _progress_in(file: Path) -> dict[str, float]:
    """Numbers in a file of :class:`~stac2cube.progress.FileProgress`; none if a full disk or a crash damaged it."""
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        return {name: float(content[name]) for name in ("total", "done", "begun", "now")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read, and its blocks are not counted: %r", file, error)
        return {}


def new_submission_folder(cubes: Path) -> Path:
    """Make a folder for the scripts, logs and progress files of jobs to be submitted."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for number in range(100):
        folder = cubes / "jobs" / (f"{stamp}-{number}" if number else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise BadInputError(f"{cubes / 'jobs'} holds a hundred submissions of this second")


def submissions(cubes: Path) -> list[Submission]:
    """Submissions for the cubes of a folder, oldest first; those that cannot be read are named in the log."""
    files = sorted((cubes / "jobs").glob("*/submission.json"))
    return [one for file in files if (one := Submission.read(file)) is not None]


def require_none_alive(cubes: Path) -> None:
    """Refuse a second submission for the same cubes while jobs of the first wait or run.

    Raises:
        BadInputError: Such jobs exist; the message names them.
    """
    earlier = submissions(cubes)
    for clusters in sorted({submission.clusters for submission in earlier}):
        # One query for the submissions of years: a job that SLURM has forgotten has ended.
        jobs = {job: name for one in earlier if one.clusters == clusters for name, job in one.jobs.items()}
        states = Queue(clusters).states(jobs)
        alive = {task: state for task, state in states.items() if state not in ENDED}
        if alive:
            listed = ", ".join(f"{jobs[task.partition('_')[0]]} {task} ({state})" for task, state in alive.items())
            raise BadInputError(
                f"{cubes} is being built already by {listed}: wait for it, or `stac2cube cancel {cubes}` first"
            )


def script(
    place: Slurm, name: str, command: Sequence[str], folder: Path, *, way: Way = "threads", extra: Sequence[str] = ()
) -> JobScript:
    """A job script.

    Args:
        place: Settings of the site.
        name: What the job does.
        command: Words after ``stac2cube``.
        folder: Folder for its log.
        way: How its blocks are made, which decides the resources it needs.
        extra: Further sbatch options.

    Raises:
        BadInputError: A value holds a newline or another control character.
    """
    if any(has_secret(word) for word in command):
        raise BadInputError(
            "an address among the words of a job holds a user, password or key, and a job script is a file that others "
            "may read: make the address, with what it holds, the url of an entry of catalogs.toml, and say its name"
        )
    cubes = folder.parents[1].name
    # The log of an array's task has the number of the task in its name.
    log = "%x-%A_%a.out" if any(option.startswith("--array") for option in extra) else "%x-%j.out"
    called = f"{name}-{cubes}"
    options = [*place.header(called, [*_needs(place, way), *place.again_options()]), *extra]
    # The job processes as many blocks at once as it has cores: libraries start no further threads.
    words = python_words(place.python, "-m", "stac2cube", *command)
    awaits = [Path(word) for word in command[1:2] if word.startswith(f"{folder}/")]  # the recipe
    body = Body(place.prologue, words, [(name, "1") for name in ONE_THREAD], awaits)
    return job_script(name, called, options, body, folder, log)


def _needs(place: Slurm, way: Way) -> list[str]:
    mib = place.memory_bytes // 2**20
    if way == "allocation":
        by_core = "mem-per-cpu" if place.memory_as == "mem" else ""
        needed = place.memory_options(mib, place.cores, by_core)
        return [f"--ntasks={place.jobs}", f"--cpus-per-task={place.cores}", *needed]
    cores = 1 if way == "slurm" else place.cores
    memory = min(mib, CONTROLLER_MEMORY // 2**20) if way == "slurm" else mib
    return ["--nodes=1", "--ntasks=1", f"--cpus-per-task={cores}", *place.memory_options(memory, cores)]


def submit_chain(
    place: Slurm, scripts: Sequence[JobScript], folder: Path, after: str = ""
) -> tuple[dict[str, str], str]:
    """Submit jobs one after the other: each begins when the one before has ended, successfully or not.

    A stage follows the steps that its parent has sealed, so a failed step does not stop the chain.

    Args:
        place: Settings of the site.
        scripts: Scripts in order.
        folder: Folder in which the scripts are kept.
        after: Id of the job that precedes the first.

    Returns:
        Job ids by name; and the cluster on which they are, where the site names several and sbatch chose one.

    Raises:
        SlurmError: SLURM refuses a job; those before it are cancelled.
    """
    jobs: dict[str, str] = {}
    queue = place.queue
    with _all_or_none(jobs) as queues:
        for job in scripts:
            queues.append(queue)
            options = [f"--dependency=afterany:{after}"] if after else []
            after, cluster = _submit(queue, job, folder, options)
            jobs[job.name] = after
            # Dependencies work only within one cluster.
            queue = Queue(cluster) if cluster and "," in queue.clusters else queue
    return jobs, queue.clusters


@dataclass(frozen=True)
class ArrayJobs:
    """A job array, the job that seals its steps, and the jobs that follow.

    Attributes:
        seal: Script of the sealing job.
        share_for: Makes the array's script, given the id of the sealing job and the number of tasks.
        claim: Locks the cube for the sealing job, given its id.
        tasks: Desired number of tasks.
        rest: Scripts of the jobs after the sealing job.
        rest_in_one: The script of one job that does the work of all of `rest`.
    """

    seal: JobScript
    share_for: Callable[[str, int], JobScript]
    claim: Callable[[str], None]
    tasks: int
    rest: Sequence[JobScript] = ()
    rest_in_one: Sequence[JobScript] = ()


def require_one_cluster(place: Slurm) -> None:
    """Refuse sites at which no job array can be submitted.

    Args:
        place: Settings of the site.

    Raises:
        BadInputError: The site names several clusters.
    """
    if "," in place.queue.clusters:
        raise BadInputError(f"a job array needs one cluster, not {place.queue.clusters}: name one in the site file")


def submit_array(place: Slurm, wanted: ArrayJobs, folder: Path) -> dict[str, str]:
    """Submit a job array and the jobs that follow it; fewer jobs where SLURM's limits require it.

    Args:
        place: Settings of the site.
        wanted: The jobs.
        folder: Folder in which the scripts are kept.

    Returns:
        Job ids by name: the array, the sealing job, those that follow.

    Raises:
        BadInputError: The site names several clusters.
        SlurmError: SLURM refuses even an array of one task.
        CubeLockedError: Another process holds the cube; no job stays submitted.
    """
    require_one_cluster(place)
    tries = [(wanted.tasks, wanted.rest)]
    tries += [(wanted.tasks, wanted.rest_in_one)] if len(wanted.rest) > 1 else []
    tries += [(wanted.tasks >> half, wanted.rest_in_one) for half in range(1, wanted.tasks.bit_length())]
    for tasks, rest in tries:
        try:
            jobs = _submit_array(place, wanted, folder, tasks, rest)
        except SlurmError as error:
            if (tasks, rest) == tries[-1] or not lets_in_no_more(str(error)):
                raise
            refusal = error
            continue
        if (tasks, rest) != tries[0]:
            log.warning(
                "SLURM accepts fewer jobs: %d of %d tasks, %d after them: %s", tasks, wanted.tasks, len(rest), refusal
            )
        return jobs
    raise AssertionError("the last try returns or raises")


def _submit_array(
    place: Slurm, wanted: ArrayJobs, folder: Path, tasks: int, rest: Sequence[JobScript]
) -> dict[str, str]:
    """Submit all jobs or none. The first two are held, so that the cube is locked before the first share can run."""
    queue = place.queue
    jobs: dict[str, str] = {}
    with _all_or_none(jobs) as queues:
        queues.append(queue)
        sealing, _ = _submit(queue, wanted.seal, folder, ["--hold"])
        jobs[wanted.seal.name] = sealing
        share = wanted.share_for(sealing, tasks)
        array, _ = _submit(queue, share, folder, ["--hold"])
        jobs[share.name] = array
        after, _ = submit_chain(place, rest, folder, sealing)
        jobs |= after
        wanted.claim(sealing)
        queue.call("scontrol", ["update", f"JobId={sealing}", f"Dependency=afterany:{array}"])
        for held in (sealing, array):
            queue.call("scontrol", ["release", held])
    return {share.name: array, wanted.seal.name: sealing, **after}


def _submit(queue: Queue, job: JobScript, folder: Path, options: Sequence[str] = ()) -> tuple[str, str]:
    (folder / f"{safe_job_name(job.name)}.sbatch").write_text(job.text, encoding="utf-8")
    return queue.submitted(job, options)


@contextmanager
def _all_or_none(jobs: Mapping[str, str]) -> Iterator[list[Queue]]:
    """Cancel the jobs submitted so far, on the queue appended last, if a later one cannot be submitted."""
    queues: list[Queue] = []
    try:
        yield queues
    except BaseException:
        if jobs:
            queues[-1].cancel(jobs.values())
        raise
