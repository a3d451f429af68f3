"""Who holds a lock, and whether the holder still lives, as far as this node can know. Unknown counts as alive."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

from stac2cube.cube.root import now_text

BEAT = 60.0
"""Seconds between two signs of life of a holder."""

SILENCE = 900.0
"""Seconds without a sign of life after which the holder of an earlier boot of this very machine is dead."""


Verdict = Callable[["Owner"], bool | None]
"""Asks whether an owner still lives: True, False, or None for "cannot know"."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock, as precisely as a stranger on another node needs to decide whether the holder lives."""

    token: str
    host: str
    boot: str
    namespace: str
    pid: int
    started: str
    since: str
    job: str = ""
    cluster: str = ""
    restarts: str = ""
    user: str = ""
    machine: str = ""

    @classmethod
    def here(cls, token: str | None = None, environment: Mapping[str, str] = os.environ) -> Owner:
        """This process. Processes of one submission share a token and count as one owner."""
        return cls(
            token=token or uuid4().hex,
            host=socket.gethostname(),
            boot=_read("/proc/sys/kernel/random/boot_id"),
            namespace=_namespace(),
            pid=os.getpid(),
            started=_started(os.getpid()) or "",
            since=now_text(),
            job=environment.get("SLURM_JOB_ID", ""),
            cluster=environment.get("SLURM_CLUSTER_NAME", ""),
            restarts=environment.get("SLURM_RESTART_COUNT", ""),
            user=_user(),
            machine=_machine(),
        )

    @classmethod
    def of_jobs(cls, token: str, job: str, cluster: str = "") -> Owner:
        """Jobs that make a cube together and run on any node: the life of ``job`` is that of all of them."""
        nowhere = {"host": "", "boot": "", "namespace": "", "pid": 0, "started": ""}
        who = {"since": now_text(), "job": job, "cluster": cluster, "user": _user()}
        return cls(token=token, **who, **nowhere)  # type: ignore[arg-type]

    @classmethod
    def from_card(cls, content: bytes) -> Owner:
        """The owner that a card names; keys that a later version may add are passed over.

        Raises:
            ValueError: Not a card.
        """
        card = json.loads(content)
        if not isinstance(card, dict):
            raise ValueError("a card is a JSON object")
        known = {field.name for field in fields(cls)} - {"machine"}
        values: dict[str, Any] = {name: value for name, value in card.items() if name in known}
        try:
            values["host"], _, values["machine"] = str(values["host"]).partition("/")
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"a card lacks {error}") from error

    def to_card(self) -> bytes:
        """The card's content: the keys of version 0.1.0, which can read it, with the machine behind the host's name.

        No host has such a name: a program of version 0.1.0, which goes by names, takes no holder for dead.
        """
        card = asdict(self)
        machine = card.pop("machine")
        if self.host and machine:
            card["host"] = f"{self.host}/{machine}"
        return json.dumps(card, indent=1).encode()

    def __str__(self) -> str:
        user = f" of {self.user}" if self.user else ""
        if not self.host:
            return f"job {self.job}{user} and those before it, since {self.since}"
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid}{user} on {self.host}{job}, since {self.since}"


def judge(holder: Owner, silent: float = 0.0) -> bool | None:
    """Whether a holder lives, as far as this node can know; None where it cannot.

    A process that is gone from this boot of this machine is dead. The holder of another boot is dead only if the
    machine is the same by its id, not by its name alone, which images and containers share, and if it has been silent
    for :data:`SILENCE`: a twin of this machine that lives gives signs of life.

    Args:
        holder: The holder.
        silent: Seconds since its last sign of life, by the clock of the file system.
    """
    here = Owner.here(holder.token)
    if not holder.host or holder.host != here.host or not holder.boot or not here.boot:
        return None
    if holder.boot != here.boot:
        same = bool(holder.machine) and holder.machine == here.machine
        return False if same and silent > SILENCE else None
    if not holder.namespace or holder.namespace != here.namespace:
        return None
    return _runs(holder.pid, holder.started)


def _runs(pid: int, started: str) -> bool | None:
    """Whether a process runs that was started then."""
    if _read(f"/proc/{pid}/stat"):
        return _started(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    return None  # it is there, and /proc does not show it: hidepid, or no /proc at all


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container users may have no name
        return str(os.getuid())


def _machine() -> str:
    """A short text that follows from machine-id(5), which is not to be published itself; "" where there is none."""
    known = _read("/etc/machine-id") or _read("/var/lib/dbus/machine-id")
    return hashlib.blake2b(known.encode(), digest_size=6, person=b"stac2cube").hexdigest() if known else ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot (field 22 of /proc/pid/stat), None if it has ended."""
    fields_of = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields_of[19] if fields_of and fields_of[0] not in "ZX" else None
