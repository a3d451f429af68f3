"""SLURM: job scripts with quoted values, answers of sbatch, states and limits of jobs, owners of locks."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from stac2cube.errors import BadInputError, SlurmError

if TYPE_CHECKING:
    from stac2cube.store.lock import Owner


# Job scripts: their text, and the quoting of all values in them.

LATE = 60
"""Seconds for which a job waits for a file that its node does not see yet: NFS caches the content of a folder for up to
a minute (acdirmax in nfs(5))."""

_MODULES = (
    "if ! type module >/dev/null 2>&1; then",
    "    for script in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do [ -r $script ] && . $script; done",
    "fi",
)
"""Shell lines that define ``module``, which is missing in a job submitted without its user's environment."""

_CONTROL = ("Cc", "Zl", "Zp")
"""Unicode categories of control characters and of line and paragraph separators."""


@dataclass(frozen=True)
class JobScript:
    """A job script.

    Attributes:
        name: Kind of job: ``"layers"``, ``"layers-share"``.
        text: Text for sbatch.
        job_name: SLURM's name of the job.
        folder: Working folder of the job, absolute, which holds its log. Together with the job's name it identifies
            the job among all others of the same user.
    """

    name: str
    text: str
    job_name: str
    folder: Path


@dataclass(frozen=True)
class Body:
    """The commands of a job.

    Attributes:
        prologue: Shell lines before the program, code that the site's owner wrote.
        words: The program and its arguments.
        environment: Variables set before the prologue, which may change them.
        awaits: Files that must exist before the program starts; they may appear late on another node where the file
            system caches the content of folders.
    """

    prologue: Sequence[str]
    words: Sequence[str]
    environment: Sequence[tuple[str, str]] = ()
    awaits: Sequence[Path] = ()

    def lines(self, folder: Path) -> list[str]:
        """Shell lines that run the commands in a folder.

        Raises:
            BadInputError: A value holds a control character.
        """
        return [
            f"cd {quoted(str(folder))}",
            *(f"export {name}={quoted(value)}" for name, value in self.environment),
            *(_MODULES if any(re.search(r"\b(module|ml)\b", line) for line in self.prologue) else ()),
            *self.prologue,
            *(line for path in self.awaits for line in _awaited(path)),
            # exec replaces the shell, so that signals for the job reach the program.
            " ".join(["exec", *map(quoted, self.words)]),
        ]


def _awaited(path: Path) -> list[str]:
    """Shell lines that wait for a file; listing its folder makes the node ask the file server again."""
    file, folder = quoted(str(path)), quoted(str(path.parent))
    return [
        f"for second in {{1..{LATE}}}; do",
        f"    [ -e {file} ] && break",
        f"    echo {quoted(f'waiting for {path}, which this node does not see yet')} >&2",
        f"    sleep 1; ls {folder} >/dev/null 2>&1",
        "done",
    ]


def python_words(python: str, *words: str) -> list[str]:
    """Command line of a Python program in a job.

    Args:
        python: Python on the nodes. Default: the one that runs now. If there is no file of that name, it is split as
            shell words (``"apptainer exec stac2cube.sif python"``).
        words: ``"-m"``, a module, and its arguments.

    Raises:
        BadInputError: `python` has an unclosed quote.
    """
    try:
        program = shlex.split(python) if python and not os.path.exists(python) else [python or sys.executable]  # noqa: PTH110 - words may be longer than a name
    except ValueError as error:
        raise BadInputError(f"python {python!r}: {error}") from error
    # Without the user's site packages where this process runs without them.
    return [*program, *(["-s"] if sys.flags.no_user_site else []), *words]


def job_script(
    name: str, job_name: str, options: Sequence[str], body: Body, folder: Path, log: str = "%x-%j.out"
) -> JobScript:
    """Write a job script.

    sbatch's patterns (``%j``) in a folder's name are escaped. A backslash would switch patterns off, and SLURM drops it
    from the name: a folder with one is refused.

    Args:
        name: Kind of job.
        job_name: SLURM's name of the job; characters that are unsafe in file names are replaced.
        options: Options of sbatch, the job name among them: ``"--time=10"``, ``"--exclusive"``, ``"-C haswell"``.
            Later ones win.
        body: Commands of the job.
        folder: Folder for its log, absolute; need not exist yet.
        log: File name pattern of sbatch(1), or an absolute path.

    Raises:
        BadInputError: A value holds a control character, or the folder a backslash.
    """
    require_log_folder(folder)
    called = safe_job_name(job_name)
    output = log if log.startswith("/") else f"{str(folder).replace('%', '%%')}/{log}"
    header = [*options, f"--chdir={folder}", f"--output={output}"]
    lines = ["#!/bin/bash", *(f"#SBATCH {directive(option)}" for option in header), *body.lines(Path.cwd())]
    return JobScript(name, "\n".join(lines) + "\n", called, folder)


def require_log_folder(folder: Path) -> None:
    """Refuse a folder whose name SLURM would change.

    Raises:
        BadInputError: It has a backslash, or a control character.
    """
    require_plain(str(folder))
    if "\\" in str(folder):
        raise BadInputError(
            f"{folder}: SLURM writes no logs into a folder with a backslash in its name; choose another"
        )


def quoted(value: str) -> str:
    """Quote a value as one word, for both the shell and sbatch's parser of ``#SBATCH`` lines.

    Between double quotes both take the character after a backslash literally; between single quotes sbatch does so
    too, but the shell does not.

    Args:
        value: Any text: a path, a name, a number.

    Raises:
        BadInputError: It holds a newline or another control character.
    """
    require_plain(value)
    if re.fullmatch(r"[\w@%+=:,./-]+", value, re.ASCII):
        return value
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def directive(option: str) -> str:
    """Quote an option of sbatch for a ``#SBATCH`` line.

    Args:
        option: ``"--comment=two words"``, whose value may have quotes around it already; or words, ``"-C haswell"``.

    Raises:
        BadInputError: It holds a control character.
    """
    name, equals, value = option.partition("=")
    if not equals or " " in name:
        return " ".join(map(quoted, option.split(" "))) if option else ""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return f"{quoted(name)}={quoted(value)}" if value else f"{quoted(name)}="


def require_plain(value: str) -> None:
    """Refuse a value with control characters: no regular path or name has them, and they allow injection into scripts.

    Raises:
        BadInputError: It holds one.
    """
    if any(unicodedata.category(character) in _CONTROL for character in value):
        raise BadInputError(f"{value!r} holds a newline or another control character: SLURM jobs take no such name")


def safe_job_name(name: str) -> str:
    """Replace all but letters, digits and ``._+-`` in a name of a job: ``"Zürich 1%"`` becomes ``"Zurich_1_"``."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^\w.+-]", "_", plain, flags=re.ASCII) or "_"


# Answers of sbatch, also at sites whose own sbatch prints more than SLURM's: banners, advice, the id in a sentence.

_SENTENCE = re.compile(r"\bSubmitted batch job (\d+)(?: on cluster (\S+))?")
_PARSABLE = re.compile(r"(\d+)(?:;([\w.-]+))?")
_LIMIT = re.compile(r"\b(?:Assoc|QOS)\w*Limit\b")
_TOO_MANY = re.compile(
    r"violates accounting/QOS policy|Invalid job array specification|MaxJobCount|MaxSubmit|too many jobs|job limit",
    re.IGNORECASE,
)


def job_in(said: str) -> tuple[str, str]:
    """Job id and cluster in an answer of sbatch, "" for what is missing.

    The sentence of SLURM's own sbatch has precedence over a line that is a number, which a banner may have too; a line
    of ``--parsable`` with the cluster has precedence over one without.

    Args:
        said: Standard output.
    """
    sentences = {(found[1], found[2] or "") for found in _SENTENCE.finditer(said)}
    lines = [found for line in said.splitlines() if (found := _PARSABLE.fullmatch(line.strip()))]
    named = {(found[1], found[2]) for found in lines if found[2]}
    bare = {(found[1], "") for found in lines if not found[2]}
    for kind in (sentences, named, bare):
        if kind:
            return next(iter(kind)) if len(kind) == 1 else ("", "")
    return "", ""


def is_plain(said: str) -> bool:
    """Whether an answer is the output of ``sbatch --parsable`` alone."""
    return _PARSABLE.fullmatch(said.strip()) is not None


def in_one_line(said: str) -> str:
    """Join an answer into one line, without control characters."""
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in said.splitlines())
    return "; ".join(filter(None, lines))


def lets_in_no_more(said: str) -> bool:
    """Whether sbatch refused a job because of too many jobs or a too large array, so that fewer may be accepted.

    Args:
        said: The message of sbatch, or of a site's own submit plugin. A limit that SLURM names
            (``"AssocMaxSubmitJobLimit"``) has precedence over the sentence that it writes for all limits.
    """
    named = _LIMIT.findall(said)
    return any("Submit" in limit for limit in named) if named else _TOO_MANY.search(said) is not None


# The queue: SLURM's commands and their error messages.

log = logging.getLogger(__name__)

KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_SACK_SOCKET")
"""The SLURM_* variables that are a user's settings, beside :data:`TOKEN`. All others describe the job that has them,
and would affect a job submitted from there (``SLURM_MEM_PER_CPU`` against ``--mem``, array numbers, node lists)."""

TOKEN = "SLURM_JWT"
"""Identifies a person where there is no munge (slurm.schedmd.com/jwt.html). Inside a job it is mostly too old."""

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"}
    | {"NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"}
)
"""States of ``squeue(1)`` after which no process of a job runs."""

PATIENCE = 60
"""Seconds after which a command that does not answer is given up; without its controller squeue takes 9 s to fail."""


@dataclass(frozen=True)
class Queue:
    """A SLURM queue.

    Attributes:
        clusters: Name for ``--clusters``; "" for the default cluster of the commands.
    """

    clusters: str = ""

    def call(self, program: str, arguments: Sequence[str] = (), *, text: str | None = None) -> str:
        """Run a SLURM command; returns its output.

        Args:
            program: ``sbatch``, ``squeue`` and so on.
            arguments: Its arguments, without ``--clusters``.
            text: Its standard input.

        Raises:
            SlurmError: The command does not exist, fails, or does not answer.
        """
        require_program(program)
        done = self._run(program, arguments, text)
        if done.returncode != 0:
            raise SlurmError(f"{program}: {_own_words(done.stderr) or f'exit code {done.returncode}'}")
        # --test-only answers on standard error.
        return done.stdout or done.stderr

    def submit(self, script: JobScript, arguments: Sequence[str] = ()) -> str:
        """Submit a job script; returns its job id.

        Raises:
            SlurmError: SLURM refuses, with its message; or its answer names no job, and no job stays submitted.
        """
        return self.submitted(script, arguments)[0]

    def submitted(self, script: JobScript, arguments: Sequence[str] = ()) -> tuple[str, str]:
        """Submit a job script; returns its job id, and the cluster if the answer names it.

        Raises:
            SlurmError: SLURM refuses, with its message; or its answer names no job, and no job stays submitted.
        """
        require_program("sbatch")
        try:
            done = self._run("sbatch", ["--parsable", *arguments], script.text)
        except (SlurmError, KeyboardInterrupt):
            # SLURM may have accepted the job all the same.
            with suppress(SlurmError):
                self.cancel(self.alike(script))
            raise
        if done.returncode == 0 and is_plain(done.stdout):
            return job_in(done.stdout)
        words = in_one_line(f"{done.stdout}\n{_own_words(done.stderr)}")
        job, cluster = job_in(done.stdout)
        if done.returncode != 0 and not done.stdout.strip():
            raise SlurmError(f"sbatch: {words or f'exit code {done.returncode}'}")
        # sbatch prints more than SLURM's: squeue shows which jobs were really submitted.
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
        """Ids of the user's own jobs with the name and folder of a script; an array has one id.

        Args:
            script: The script.
            ended: Include jobs that have ended, as long as SLURM has a record of them.
        """
        words = ["--noheader", f"--name={script.job_name}", f"--user={os.getuid()}", "--format=%F %Z"]
        lines = self.call("squeue", [*words, *(["--states=all"] if ended else [])])
        pairs = (line.strip().partition(" ") for line in lines.splitlines())
        return sorted({job for job, _, folder in pairs if folder.strip() == str(script.folder).strip()})

    def test(self, script: JobScript, arguments: Sequence[str] = ()) -> str:
        """Ask whether SLURM would accept a job script, and when it could start; nothing is submitted.

        Raises:
            SlurmError: SLURM would refuse it; with its message.
        """
        said = self.call("sbatch", ["--test-only", *arguments], text=script.text)
        return _own_words(said)

    def states(self, jobs: Iterable[str]) -> dict[str, str]:
        """State of each job of which SLURM has a record, by job id; of each task of an array (``"7_3"``).

        Raises:
            SlurmError: SLURM cannot be queried.
        """
        return {job: state for job, (state, _) in self.waiting(jobs).items()}

    def waiting(self, jobs: Iterable[str]) -> dict[str, tuple[str, str]]:
        """State and reason (``"AssocMaxJobsLimit"``, "None") of each job of which SLURM has a record.

        Raises:
            SlurmError: SLURM cannot be queried.
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
        # Skip other output of a site's own squeue. Ids are "7", "7_3", "7_[1-3]", and "7+1" of heterogeneous jobs.
        asked = {re.split(r"[_+]", job)[0] for job in wanted.split(",")}
        found = (re.match(r"\s*((\d+)(?:[_+]\S+)?)\s+([A-Z_]+)\s*(.*)", line) for line in lines)
        return {row[1]: (row[3], row[4].strip()) for row in found if row and row[2] in asked}

    def final_states(self, jobs: Iterable[str]) -> dict[str, str]:
        """State of jobs that squeue no longer lists, from SLURM's accounting; empty on a cluster without accounting."""
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
        """Resources used by jobs, from SLURM's accounting: name, state, elapsed and CPU time, CPUs, peak memory, nodes.

        Raises:
            SlurmError: The cluster has no accounting, or SLURM is not installed.
        """
        wanted = ",".join(jobs)
        if not wanted:
            return []
        names = ("job", "name", "state", "elapsed", "cpu", "cpus", "memory", "nodes")
        columns = "JobID,JobName,State,Elapsed,TotalCPU,AllocCPUS,MaxRSS,NodeList"
        lines = self.call("sacct", ["-n", "-P", "--units=M", f"--jobs={wanted}", f"--format={columns}"]).splitlines()
        rows = [dict(zip(names, line.split("|"), strict=True)) for line in lines if line.count("|") == len(names) - 1]
        found = {row["job"]: row for row in rows if "." not in row["job"]}
        for row in rows:  # only the steps of a job, "7.batch" or "7.0", have the memory it used
            whole = found.get(row["job"].partition(".")[0])
            if whole is not None and float(row["memory"].rstrip("M") or 0) > float(whole["memory"].rstrip("M") or 0):
                whole["memory"] = row["memory"]
        return list(found.values())

    def cancel(self, jobs: Iterable[str]) -> None:
        """Cancel jobs; those that have ended already are ignored.

        Raises:
            SlurmError: SLURM refuses.
        """
        wanted = list(jobs)
        if wanted:
            self.call("scancel", wanted)

    def job(self, job: str) -> dict[str, str]:
        """Fields of ``scontrol show job``, of an array those of its first live task; empty without a record of the job.

        Raises:
            SlurmError: SLURM cannot be queried.
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
                input=text or "",  # none asks a terminal
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=PATIENCE,
                env=without_defaults(without_job(), text or ""),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SlurmError(f"{program} did not answer within {PATIENCE} s: is SLURM's controller up?") from error

    def name(self) -> str:
        """Name of the cluster that the commands address.

        Raises:
            SlurmError: SLURM cannot be queried.
        """
        if self.clusters:
            return self.clusters
        found = re.search(r"^ClusterName\s*=\s*(\S+)", self.call("scontrol", ["show", "config"]), re.MULTILINE)
        return found[1] if found else ""


def require_program(program: str) -> None:
    """Refuse to go on without one of SLURM's commands.

    Raises:
        SlurmError: It is not on PATH.
    """
    if which(program) is None:
        raise SlurmError(
            f"there is no {program!r} on PATH: SLURM's commands are found on login nodes (module load slurm_setup "
            "or alike), and on compute nodes only where the site allows it"
        )


def without_job(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without the variables that describe the job in which this process runs; see :data:`KEPT`."""
    values = os.environ if environment is None else environment
    kept = KEPT if in_job(values) else (*KEPT, TOKEN)
    return {name: value for name, value in values.items() if not name.startswith("SLURM") or name in kept}


_OPTIONS = {"timelimit": "time", "mem-per-node": "mem", "mem-per-cpu": "mem", "mem-per-gpu": "mem"}
"""Variables of sbatch with other names than their options; options of memory exclude each other."""

_NEVER = frozenset({"ARRAY_INX", "WAIT", "WRAP", "TEST_ONLY"})
"""Variables of sbatch that would change what the job is, or make sbatch wait for its end."""


def without_defaults(environment: Mapping[str, str], script: str) -> dict[str, str]:
    """An environment without the user's defaults for SLURM's commands that would change the job or the output.

    ``SBATCH_*`` variables override the ``#SBATCH`` lines of a script (sbatch(1)), so only those for options that the
    script does not set are kept. ``SQUEUE_*``, ``SACCT_*`` and the like could hide jobs or ask a question.

    Args:
        environment: Variables.
        script: Text of the job script that is submitted, "" for other commands.
    """
    said = set(re.findall(r"^#SBATCH \"?--([a-z-]+)", script, re.MULTILINE))
    said |= {"mem"} if any(option.startswith("mem-per-") for option in said) else set()

    def stays(name: str) -> bool:
        program, _, rest = name.partition("_")
        if program != "SBATCH":
            return program not in ("SQUEUE", "SACCT", "SCANCEL", "SCONTROL")
        option = rest.lower().replace("_", "-")
        return rest not in _NEVER and _OPTIONS.get(option, option) not in said

    return {name: value for name, value in environment.items() if stays(name)}


def in_job(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process runs inside a SLURM job."""
    return bool((os.environ if environment is None else environment).get("SLURM_JOB_ID"))


def share_of_array(number: int | None, of: int | None, environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Index and number of the shares of a job array's task; ``--array=0-14:2`` has eight shares.

    Args:
        number: Index of the share, from 0; that of the array's task if None.
        of: Number of shares; that of the array's tasks if None.
        environment: Environment variables; those of this process if None.

    Returns:
        Index of the share, from 0, and number of shares.

    Raises:
        BadInputError: This is not a task of an array, or the array has gaps (``--array=1,5``).
    """
    values = os.environ if environment is None else environment

    def said(name: str) -> int:
        value = values.get(f"SLURM_ARRAY_TASK_{name}", "")
        if not value.isdecimal():
            raise BadInputError("give --number and --of, or run this in a job array (sbatch --array=0-7)")
        return int(value)

    step = values.get("SLURM_ARRAY_TASK_STEP", "1")
    by = int(step) if step.isdecimal() and int(step) else 1
    which = (said("ID") - said("MIN")) // by if number is None else number
    many = said("COUNT") if of is None else of
    last = values.get("SLURM_ARRAY_TASK_MAX", "") if number is None and of is None else ""
    if which >= many or (last.isdecimal() and (int(last) - said("MIN")) // by + 1 != many):
        raise BadInputError(
            f"share {which} of {many}: shares are counted from 0, and the numbers of an array's tasks should follow "
            "each other (sbatch --array=0-7); else give --number and --of"
        )
    return which, many


def job_end(environment: Mapping[str, str] | None = None) -> float | None:
    """When the job of this process will be killed, in seconds since 1970; None outside a job and where it is unknown.

    SLURM 23.02 and later set ``SLURM_JOB_END_TIME``; otherwise, and if that time is over, squeue is queried: the limit
    may have been extended, or the job be gone and its variables left in a shell of ``salloc``.
    """
    values = os.environ if environment is None else environment
    said, now, job = values.get("SLURM_JOB_END_TIME", ""), time.time(), values.get("SLURM_JOB_ID")
    # For a job without a time limit, or behind a site's wrapper, this may be a word or 0.
    end = (float(said) or None) if re.fullmatch(r"\d+(\.\d+)?", said) else None
    if not job or (end is not None and end > now):
        return end
    try:
        left = Queue().call("squeue", ["--noheader", f"--jobs={job}", "--format=%L %T"])
    except SlurmError as error:
        if end is None or "Invalid job id" not in str(error):
            return end
        left = ""
    # A site's own squeue may print more: a year in a banner has no colon, unlike the times that squeue writes.
    rows = [words for line in left.splitlines() if (words := line.split())]
    found = [seconds for first, *_ in rows if ":" in first and (seconds := duration_seconds(first))]
    if found:
        return now + found[-1]
    if end is None or any({"RUNNING", "COMPLETING"} & {*words} for words in rows):
        return end
    log.info("job %s is over: its time limit does not count, though its variables are set here", job)
    return None


def duration_seconds(text: str) -> float | None:
    """Seconds of a SLURM time: minutes, ``m:s``, ``h:m:s``, ``d-h``, ``d-h:m``, ``d-h:m:s``; None if it is not a time.

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
    """Parse an amount of memory, ``"8GiB"``, ``"500 MB"`` or ``"16G"``, into bytes.

    Raises:
        BadInputError: The text is malformed.
    """
    units = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number = text.strip().rstrip("iBKMGTkmgtb").strip()
    unit = text.strip()[len(number) :].strip().upper().replace("IB", "").removesuffix("B")
    try:
        size = int(float(number) * units[unit])
        if size < 0:
            raise ValueError("it is negative")
        return size
    except (ValueError, KeyError, OverflowError) as error:
        raise BadInputError(f"memory {text!r}: write a number and a unit, as in 8GiB") from error


def last_words(folder: Path, pattern: str, lines: int = 3) -> str:
    """The last lines of the newest non-empty log file that matches a pattern; "" if there is none."""
    logs = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    for log in reversed(logs):
        said = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        if said:
            return " | ".join(said[-lines:])
    return ""


def _own_words(said: str) -> str:
    """SLURM's message without the program's name, on one line."""
    return "; ".join(filter(None, (re.sub(r"^\w+: (error: )?", "", line).strip() for line in said.splitlines())))


# Whether the job that holds a cube still runs, queried from SLURM where this node cannot tell.


def job_is_alive(holder: Owner) -> bool | None:
    """Whether the job of a holder still runs, or will run: True, False, or None if unknown.

    Args:
        holder: Owner of a lock, whose process is not on this node.
    """
    if not holder.job:
        return None
    ours = os.environ.get("SLURM_CLUSTER_NAME", "")
    if holder.job == os.environ.get("SLURM_JOB_ID") and holder.cluster in ("", ours):
        # The same job held it before it was requeued, unless the holder is another process of the present run.
        return None if holder.restarts == os.environ.get("SLURM_RESTART_COUNT", "") else False
    if not holder.cluster:
        return None  # clusters that share a file system may use the same job ids
    try:
        own = Queue()
        queue = own if holder.cluster == own.name() else Queue(holder.cluster)
        job = queue.job(holder.job)
    except SlurmError as error:
        log.warning("cannot ask whether job %s still runs: %s", holder.job, error)
        return None
    if not job or job["JobState"] in ENDED:
        log.warning("job %s, which held the cube, is gone: taking over", holder.job)
        return False
    # If it was requeued since, the process that held the lock has ended, and the job will acquire the lock again.
    return job.get("Restarts", "0") == (holder.restarts or "0")
