"""One writer per cube: a lock that says who holds it, and that a dead holder cannot keep.

The lock is a folder beside the cube with the owner's card inside. It is made under another name and renamed into place:
a rename onto a folder that is not empty fails, on local disks and on parallel file systems alike, so there is never a
lock without a card. It ends when its card is removed. The card's name is its owner's token: of several who saw a dead
holder only one removes its card, and none of them that of who came after it. (File locks are not used: on some parallel
file systems they hold on one node only.)
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from stac2cube.cube.files import remove_tree, write_whole
from stac2cube.cube.root import now_text
from stac2cube.errors import CubeLockedError

_NAMELESS = 20
"""Looks at a lock without a readable card, until it is taken for one that stays so."""

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
        )

    @classmethod
    def of_jobs(cls, token: str, job: str, cluster: str = "") -> Owner:
        """Jobs that make a cube together and run on any node: the life of ``job`` is that of all of them."""
        nowhere = {"host": "", "boot": "", "namespace": "", "pid": 0, "started": ""}
        who = {"since": now_text(), "job": job, "cluster": cluster, "user": _user()}
        return cls(token=token, **who, **nowhere)  # type: ignore[arg-type]

    def __str__(self) -> str:
        user = f" of {self.user}" if self.user else ""
        if not self.host:
            return f"job {self.job}{user} and those before it, since {self.since}"
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid}{user} on {self.host}{job}, since {self.since}"


class CubeLock:
    """Held while a cube is written; a context manager.

    Args:
        cube: Path of the cube.
        owner: Who wants it.
        verdict: Asked about a holder whose life cannot be judged from this node, for example by asking SLURM.
    """

    def __init__(self, cube: Path, owner: Owner | None = None, verdict: Verdict | None = None) -> None:
        self.folder = lock_folder(cube)
        self.cube = cube
        self.owner = owner or Owner.here()
        self._verdict = verdict

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, also from a holder that is known to be dead.

        Raises:
            CubeLockedError: Somebody alive, or of unknown state, holds it.
        """
        nameless = 0
        while not self._try():
            if self._is_ours():
                return  # by another process of the same owner
            holder = read_owner(self.cube)
            if holder is None:
                nameless += 1
                time.sleep(0.05)  # it may have been given back this moment
                if nameless == _NAMELESS:
                    raise CubeLockedError(
                        f"{self.cube}: its lock {self.folder} does not say whose it is. If nobody writes the cube: "
                        f"stac2cube unlock {self.cube} --force"
                    )
                continue
            alive = judge(holder)
            if alive is None and self._verdict is not None:
                alive = self._verdict(holder)
            if alive is not False:
                doubt = "" if alive else " (whether it still runs cannot be told from here)"
                raise CubeLockedError(
                    f"{self.cube} is being written by {holder}{doubt}. Wait for it; if you know that it is dead: "
                    f"stac2cube unlock {self.cube} --force"
                )
            self._remove_card(holder.token)

    def require_held(self) -> None:
        """Check that nobody took the lock away; called before each commit.

        Raises:
            CubeLockedError: Somebody else holds it now, or nobody.
        """
        if not self._is_ours():
            taker = read_owner(self.cube) or "somebody"
            raise CubeLockedError(f"{self.cube}: the lock was taken away by {taker}; nothing was committed")

    def release(self) -> None:
        """Give the lock back; harmless when it is not ours."""
        holder = read_owner(self.cube)
        if holder is not None and (holder.token, holder.pid) == (self.owner.token, self.owner.pid):
            self._remove_card(holder.token)

    def hand_over(self, owner: Owner) -> None:
        """Let somebody else hold the lock from now on.

        Raises:
            CubeLockedError: It is not ours to give.
        """
        self.require_held()
        made = self._made(owner)
        (made / _card_name(owner.token)).rename(self.folder / _card_name(owner.token))
        remove_tree(made)
        self._remove_card(self.owner.token)

    def _try(self) -> bool:
        made = self._made(self.owner)
        try:
            made.rename(self.folder)
        except OSError as error:
            remove_tree(made)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        return True

    def _is_ours(self) -> bool:
        return (self.folder / _card_name(self.owner.token)).exists()

    def _made(self, owner: Owner) -> Path:
        """A lock of an owner, under a name that nobody looks at."""
        made = self.folder.with_name(f"{self.folder.name}.{uuid4().hex[:8]}")
        made.mkdir(parents=True)
        try:
            write_whole(made / _card_name(owner.token), json.dumps(asdict(owner), indent=1).encode())
        except OSError:
            remove_tree(made)
            raise
        return made

    def _remove_card(self, token: str) -> None:
        """End the hold of an owner, and of no other."""
        (self.folder / _card_name(token)).unlink(missing_ok=True)
        with suppress(OSError):  # the next one is in already
            self.folder.rmdir()


def lock_folder(cube: Path) -> Path:
    """Where the lock of a cube lies: beside it, because a new generation replaces the cube's own folder."""
    cube = cube.resolve()  # who comes by a link meets the same lock
    return cube.with_name(f".{cube.name}.lock")


def read_owner(cube: Path) -> Owner | None:
    """Who holds the lock of a cube; None if nobody does, or its card cannot be read."""
    folder = lock_folder(cube)
    try:
        cards = sorted(path for path in folder.iterdir() if fnmatch(path.name, _card_name("*")))
        return Owner(**json.loads(cards[0].read_text())) if cards else None
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def force_unlock(cube: Path) -> Owner | None:
    """Take the lock away from whoever holds it; for people who know that the holder is dead."""
    holder = read_owner(cube)
    remove_tree(lock_folder(cube))
    return holder


def judge(holder: Owner) -> bool | None:
    """Whether a holder lives, as far as this node can know; None where it cannot."""
    here = Owner.here(holder.token)
    if holder.host != here.host:
        return None
    if holder.boot != here.boot:
        return False
    if holder.namespace != here.namespace:
        return None
    return _started(holder.pid) == holder.started


def _card_name(token: str) -> str:
    return f"owner-{token}.json"


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


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot (field 22 of /proc/pid/stat), None if it has ended."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    # A zombie has ended; only its parent has not looked yet.
    return fields[19] if fields and fields[0] not in "ZX" else None
