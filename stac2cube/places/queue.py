"""The queue: what SLURM is told and asked, through its own commands and with its own words for what is wrong."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from stac2cube.errors import BadInputError, SlurmError
from stac2cube.places.answer import in_one_line, is_plain, job_in
from stac2cube.places.script import JobScript

log = logging.getLogger(__name__)

KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")
"""The only SLURM_* variables that are a person's settings; all others describe the job in which they are found, and
would bend a job submitted from there (``SLURM_MEM_PER_CPU`` against ``--mem``, array numbers, node lists)."""

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"}
    | {"NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"}
)
"""States of ``squeue(1)`` after which no process of a job runs."""

PATIENCE = 60
"""Seconds after which a command that does not answer is given up; without its controller squeue takes 9 s to say so."""


@dataclass(frozen=True)
class Queue:
    """A SLURM queue.

    Attributes:
        clusters: Name for ``--clusters``; "" for the cluster that the commands know by themselves.
    """

    clusters: str = ""

    def call(self, program: str, arguments: Sequence[str] = (), *, text: str | None = None) -> str:
        """What a SLURM command prints.

        Args:
            program: ``sbatch``, ``squeue`` and so on.
            arguments: Its arguments, without ``--clusters``.
            text: Its standard input.

        Raises:
            SlurmError: The command is not there, fails, or does not answer.
        """
        require_program(program)
        done = self._run(program, arguments, text)
        if done.returncode != 0:
            raise SlurmError(f"{program}: {_own_words(done.stderr) or f'exit code {done.returncode}'}")
        # --test-only answers on standard error.
        return done.stdout or done.stderr

    def submit(self, script: JobScript, arguments: Sequence[str] = ()) -> str:
        """Submit a job script; its job id.

        Raises:
            SlurmError: SLURM refuses, in its own words; or its answer names no job, and nothing stays submitted.
        """
        return self.submitted(script, arguments)[0]

    def submitted(self, script: JobScript, arguments: Sequence[str] = ()) -> tuple[str, str]:
        """Submit a job script; its job id, and the cluster if the answer names it.

        Raises:
            SlurmError: SLURM refuses, in its own words; or its answer names no job, and nothing stays submitted.
        """
        require_program("sbatch")
        try:
            done = self._run("sbatch", ["--parsable", *arguments], script.text)
        except SlurmError:
            # It may have been taken all the same, a moment before or after.
            with suppress(SlurmError):
                self.cancel(self.alike(script))
            raise
        if done.returncode == 0 and is_plain(done.stdout):
            return job_in(done.stdout)
        words = in_one_line(f"{done.stdout}\n{_own_words(done.stderr)}")
        job, cluster = job_in(done.stdout)
        if done.returncode != 0 and not done.stdout.strip():
            raise SlurmError(f"sbatch: {words or f'exit code {done.returncode}'}")
        # An sbatch that talks: SLURM is asked what it has really submitted.
        there = Queue(cluster) if cluster and "," in self.clusters else self
        try:
            known = there.alike(script) or there.alike(script, ended=True)
        except SlurmError as error:
            known, words = [], f"{words} ({error})"
        if done.returncode == 0 and (job in known or (job and not known)):
            log.info("sbatch said: %s", words)
            return job, cluster
        if done.returncode == 0 and len(known) == 1:
            log.info("sbatch said: %s", words)
            return known[0], cluster
        there.cancel(known)
        gone = f"; cancelled what had been submitted: {', '.join(known)}" if known else ""
        if done.returncode != 0:
            raise SlurmError(f"sbatch: {words}{gone}")
        raise SlurmError(f"sbatch's answer names no job, so that it could not be followed{gone}. It said: {words}")

    def alike(self, script: JobScript, *, ended: bool = False) -> list[str]:
        """Ids of one's own jobs of a script's name and folder; of an array, its one id.

        Args:
            script: The script.
            ended: Also those that have ended, as long as SLURM remembers them.
        """
        words = ["--noheader", f"--name={script.job_name}", f"--user={os.getuid()}", "--format=%F %Z"]
        lines = self.call("squeue", [*words, *(["--states=all"] if ended else [])])
        pairs = (line.strip().partition(" ") for line in lines.splitlines())
        return sorted({job for job, _, folder in pairs if folder.strip() == str(script.folder).strip()})

    def test(self, script: JobScript, arguments: Sequence[str] = ()) -> str:
        """Ask whether SLURM would take a job script, and when it could start; nothing is submitted.

        Raises:
            SlurmError: It would not, in its own words.
        """
        said = self.call("sbatch", ["--test-only", *arguments], text=script.text)
        return _own_words(said)

    def states(self, jobs: Iterable[str]) -> dict[str, str]:
        """State of each job that SLURM still knows, by job id; of an array, of each task (``"7_3"``).

        Raises:
            SlurmError: SLURM cannot be asked.
        """
        return {job: state for job, (state, _) in self.waiting(jobs).items()}

    def waiting(self, jobs: Iterable[str]) -> dict[str, tuple[str, str]]:
        """State and reason (``"AssocMaxJobsLimit"``, "None") of each job that SLURM still knows.

        Raises:
            SlurmError: SLURM cannot be asked.
        """
        wanted = ",".join(jobs)
        if not wanted:
            return {}
        words = ["--noheader", "--states=all", "--array", f"--jobs={wanted}", "--format=%i %T %r"]
        try:
            lines = self.call("squeue", words).splitlines()
        except SlurmError as error:
            if "Invalid job id" in str(error):
                return {}
            raise
        # Not what a site's own squeue says beside: "7", "7_3", "7_[1-3]", of heterogeneous jobs "7+1".
        asked = {re.split(r"[_+]", job)[0] for job in wanted.split(",")}
        found = (re.match(r"\s*((\d+)(?:[_+]\S+)?)\s+([A-Z_]+)\s*(.*)", line) for line in lines)
        return {row[1]: (row[3], row[4].strip()) for row in found if row and row[2] in asked}

    def final_states(self, jobs: Iterable[str]) -> dict[str, str]:
        """State of jobs that SLURM itself has forgotten, from its accounting; empty on a cluster that keeps none."""
        wanted = ",".join(jobs)
        if not wanted:
            return {}
        try:
            lines = self.call("sacct", ["-X", "-n", "-P", f"--jobs={wanted}", "--format=JobID,State"])
        except SlurmError:
            return {}
        pairs = (line.partition("|") for line in lines.splitlines() if re.match(r"\d\S*\|[A-Z]", line))
        return {job: state.split()[0] for job, _, state in pairs}

    def usage(self, jobs: Iterable[str]) -> list[dict[str, str]]:
        """What jobs used, from SLURM's accounting: name, state, elapsed and CPU time, CPUs, most memory, nodes.

        Raises:
            SlurmError: The cluster keeps no accounts, or SLURM is not there.
        """
        wanted = ",".join(jobs)
        if not wanted:
            return []
        names = ("job", "name", "state", "elapsed", "cpu", "cpus", "memory", "nodes")
        columns = "JobID,JobName,State,Elapsed,TotalCPU,AllocCPUS,MaxRSS,NodeList"
        lines = self.call("sacct", ["-n", "-P", "--units=M", f"--jobs={wanted}", f"--format={columns}"]).splitlines()
        rows = [dict(zip(names, line.split("|"), strict=True)) for line in lines if line.count("|") == len(names) - 1]
        found = {row["job"]: row for row in rows if "." not in row["job"]}
        for row in rows:  # only the steps of a job, "7.batch" or "7.0", know how much memory it took
            whole = found.get(row["job"].partition(".")[0])
            if whole is not None and float(row["memory"].rstrip("M") or 0) > float(whole["memory"].rstrip("M") or 0):
                whole["memory"] = row["memory"]
        return list(found.values())

    def cancel(self, jobs: Iterable[str]) -> None:
        """Cancel jobs; those that have ended already are left alone.

        Raises:
            SlurmError: SLURM refuses.
        """
        wanted = list(jobs)
        if wanted:
            self.call("scancel", wanted)

    def job(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says; empty when SLURM no longer knows the job. Of an array: its first live task.

        Raises:
            SlurmError: SLURM cannot be asked.
        """
        try:
            lines = self.call("scontrol", ["--oneliner", "show", "job", job]).splitlines()
        except SlurmError as error:
            if "Invalid job id" in str(error):
                return {}
            raise
        tasks = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if "JobId=" in line]
        live = [task for task in tasks if task.get("JobState") not in ENDED]
        return (live or tasks or [{}])[0]

    def _run(self, program: str, arguments: Sequence[str], text: str | None) -> subprocess.CompletedProcess[str]:
        command = [program, *([f"--clusters={self.clusters}"] if self.clusters else []), *arguments]
        try:
            return subprocess.run(
                command,
                input=text,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=PATIENCE,
                env=without_job(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SlurmError(f"{program} did not answer within {PATIENCE} s: is SLURM's controller up?") from error

    def name(self) -> str:
        """Name of the cluster the commands talk to.

        Raises:
            SlurmError: SLURM cannot be asked.
        """
        if self.clusters:
            return self.clusters
        found = re.search(r"^ClusterName\s*=\s*(\S+)", self.call("scontrol", ["show", "config"]), re.MULTILINE)
        return found[1] if found else ""


def require_program(program: str) -> None:
    """See that one of SLURM's commands is there.

    Raises:
        SlurmError: It is not.
    """
    if which(program) is None:
        raise SlurmError(
            f"there is no {program!r} on PATH: SLURM's commands are found on login nodes (module load slurm_setup "
            "or alike), and on compute nodes only where the site allows it"
        )


def without_job(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what describes the job in which this process runs; see :data:`KEPT`."""
    values = os.environ if environment is None else environment
    return {name: value for name, value in values.items() if not name.startswith("SLURM") or name in KEPT}


def in_job(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process runs inside a SLURM job."""
    return bool((os.environ if environment is None else environment).get("SLURM_JOB_ID"))


def job_end(environment: Mapping[str, str] | None = None) -> float | None:
    """When the job of this process will be killed, seconds since 1970; None outside a job and where nobody can tell.

    SLURM 23.02 and later say it in ``SLURM_JOB_END_TIME``; earlier ones are asked for the time left.
    """
    values = os.environ if environment is None else environment
    if end := values.get("SLURM_JOB_END_TIME"):
        return float(end)
    if not (job := values.get("SLURM_JOB_ID")):
        return None
    now = time.time()
    try:
        left = Queue().call("squeue", ["--noheader", f"--jobs={job}", "--format=%L"])
    except SlurmError:
        return None
    # A site's own squeue may say more: a year in a banner is no time with a colon, as squeue writes it.
    found = [seconds for line in left.splitlines() if ":" in line and (seconds := duration_seconds(line.strip()))]
    return now + found[-1] if found else None


def duration_seconds(text: str) -> float | None:
    """Seconds of a SLURM time: minutes, ``m:s``, ``h:m:s``, ``d-h``, ``d-h:m``, ``d-h:m:s``; None if it is none.

    The forms are those of ``--time`` in sbatch(1).
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        return None
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, minutes, seconds = 0, *[*numbers, 0][:2]
    return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def memory_bytes(text: str) -> int:
    """Bytes of ``"8GiB"``, ``"500 MB"``, ``"16G"``.

    Raises:
        BadInputError: It cannot be understood.
    """
    units = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number = text.strip().rstrip("iBKMGTkmgtb").strip()
    unit = text.strip()[len(number) :].strip().upper().replace("IB", "").removesuffix("B")
    try:
        return int(float(number) * units[unit])
    except (ValueError, KeyError) as error:
        raise BadInputError(f"memory {text!r}: write a number and a unit, as in 8GiB") from error


def last_words(folder: Path, pattern: str, lines: int = 3) -> str:
    """The end of the newest log file of that pattern that says anything; "" if there is none."""
    logs = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    for log in reversed(logs):
        said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if said:
            return " | ".join(said[-lines:])
    return ""


def _own_words(said: str) -> str:
    """SLURM's message without the name of the program before it, on one line."""
    lines = [re.sub(r"^\w+: (error: )?", "", line).strip() for line in said.splitlines()]
    return "; ".join(line for line in lines if line)
