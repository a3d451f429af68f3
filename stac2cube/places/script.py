"""Job scripts: how one is written, and the one way in which values come into it."""

from __future__ import annotations

import re
import shlex
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stac2cube.errors import BadInputError

LATE = 60
"""Seconds for which a job waits for a file that its node does not see yet: NFS keeps what it knows of a folder for up
to a minute (acdirmax in nfs(5))."""

_MODULES = (
    "if ! type module >/dev/null 2>&1; then",
    "    for script in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do [ -r $script ] && . $script; done",
    "fi",
)
"""The shell of a job that was submitted without its person's environment does not know ``module`` yet."""

_CONTROL = ("Cc", "Zl", "Zp")
"""Unicode categories of control characters and of line and paragraph separators."""


@dataclass(frozen=True)
class JobScript:
    """A job script.

    Attributes:
        name: What it does: ``"layers"``, ``"layers-share"``.
        text: For sbatch.
        job_name: SLURM's name of the job.
        folder: Working folder of the job, absolute, in which its log lies. With the job's name it tells the job from
            all others of the same person.
    """

    name: str
    text: str
    job_name: str
    folder: Path


@dataclass(frozen=True)
class Body:
    """What a job does.

    Attributes:
        prologue: Shell lines before the program, code that the site's owner wrote.
        words: The program and its arguments.
        environment: Set before the prologue, which may set it otherwise.
        awaits: Files that have to be there; on file systems that keep what they know of a folder for a while they may
            appear late on another node.
    """

    prologue: Sequence[str]
    words: Sequence[str]
    environment: Sequence[tuple[str, str]] = ()
    awaits: Sequence[Path] = ()

    def lines(self, folder: Path) -> list[str]:
        """Lines of shell that run it in a folder.

        Raises:
            BadInputError: A value holds a control character.
        """
        return [
            f"cd {quoted(str(folder))}",
            *(f"export {name}={quoted(value)}" for name, value in self.environment),
            *(_MODULES if any(re.search(r"\b(module|ml)\b", line) for line in self.prologue) else ()),
            *self.prologue,
            *(line for path in self.awaits for line in _awaited(path)),
            # In the place of the shell, so that signals for the job reach it.
            " ".join(["exec", *map(quoted, self.words)]),
        ]


def _awaited(path: Path) -> list[str]:
    """Lines of shell that wait for a file; reading its folder makes the node ask the server again."""
    file, folder = quoted(str(path)), quoted(str(path.parent))
    return [
        f"for second in {{1..{LATE}}}; do",
        f"    [ -e {file} ] && break",
        f"    echo {quoted(f'waiting for {path}, which this node does not see yet')} >&2",
        f"    sleep 1; ls {folder} >/dev/null 2>&1",
        "done",
    ]


def python_words(python: str, *words: str) -> list[str]:
    """A program of Python as a job runs it.

    Args:
        python: Python on the nodes; the one that runs now if "". Words of a shell, where it is started by something
            else (``"apptainer exec stac2cube.sif python"``), unless there is a file of that name.
        words: ``"-m"``, a module, and its arguments.

    Raises:
        BadInputError: Its quotes are not closed.
    """
    try:
        program = shlex.split(python) if python and not Path(python).exists() else [python or sys.executable]
    except ValueError as error:
        raise BadInputError(f"python {python!r}: {error}") from error
    # Without a person's own packages where this process runs without them.
    return [*program, *(["-s"] if sys.flags.no_user_site else []), *words]


def job_script(
    name: str, job_name: str, options: Sequence[str], body: Body, folder: Path, log: str = "%x-%j.out"
) -> JobScript:
    """A job script.

    Nothing in a folder's name is taken for one of sbatch's patterns (``%j``). A backslash switches these off, and SLURM
    drops it from the name: a folder with one is refused.

    Args:
        name: What it does.
        job_name: What SLURM calls the job; what is unsafe in file names is replaced.
        options: Of sbatch, that name among them: ``"--time=10"``, ``"--exclusive"``, ``"-C haswell"``. Later ones win.
        body: What it does.
        folder: For its log, absolute; need not exist yet.
        log: File name pattern of sbatch(1), or an absolute path.

    Raises:
        BadInputError: A value holds a control character, or the folder a backslash.
    """
    require_log_folder(folder)
    called = safe_name(job_name)
    output = log if log.startswith("/") else f"{str(folder).replace('%', '%%')}/{log}"
    header = [*options, f"--chdir={folder}", f"--output={output}"]
    lines = ["#!/bin/bash", *(f"#SBATCH {directive(option)}" for option in header), *body.lines(Path.cwd())]
    return JobScript(name, "\n".join(lines) + "\n", called, folder)


def require_log_folder(folder: Path) -> None:
    """Refuse a folder whose name SLURM would not write as it is.

    Raises:
        BadInputError: It has a backslash, or a control character.
    """
    require_plain(str(folder))
    if "\\" in str(folder):
        raise BadInputError(
            f"{folder}: SLURM writes no logs into a folder with a backslash in its name; choose another"
        )


def quoted(value: str) -> str:
    """A value as one word, for the shell and for sbatch's own reader of ``#SBATCH`` lines alike.

    Between double quotes both take the character behind a backslash as it is; sbatch does so between single quotes
    too, where the shell does not.

    Args:
        value: Anything: a path, a name, a number.

    Raises:
        BadInputError: It holds a newline or another control character.
    """
    require_plain(value)
    if re.fullmatch(r"[\w@%+=:,./-]+", value, re.ASCII):
        return value
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def directive(option: str) -> str:
    """An option of sbatch as it stands behind ``#SBATCH``.

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
    """Refuse a value with control characters: no honest path or name has them, and each is a way into a script.

    Raises:
        BadInputError: It holds one.
    """
    if any(unicodedata.category(character) in _CONTROL for character in value):
        raise BadInputError(f"{value!r} holds a newline or another control character: SLURM jobs take no such name")


def safe_name(name: str) -> str:
    """A name of letters, digits and ``._+-`` alone, for jobs and their files: ``"Zürich 1%"`` is ``"Zurich_1_"``."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^\w.+-]", "_", plain, flags=re.ASCII) or "_"
