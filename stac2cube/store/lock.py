"""One writer per cube: a lock that names its owner and that a dead owner does not keep."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pwd
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from stac2cube.errors import BadInputError, CubeLockedError
from stac2cube.store.files import (
    is_mount_point,
    mkdir_in,
    move,
    open_folder,
    read_plain,
    real_folder,
    remove_file,
    remove_tree,
    write_whole,
)
from stac2cube.store.metadata import OWN, next_folder, now_text

# Who holds a lock, and whether the holder still lives, as far as this node can know. Unknown counts as alive.

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


# One folder that is a lock: made under another name and renamed into place, with the card of its owner inside.

_LEFT_OVER = 3600.0
"""Seconds after which a lock that was made and never renamed into place is taken for a killed process's."""


class Door:
    """One folder that is a lock.

    Args:
        folder: The folder; nobody holds the lock if it is not there.
        below: Between this folder and that one no link is followed; its own parent if None.
    """

    def __init__(self, folder: Path, below: Path | None = None) -> None:
        self.folder = folder
        self._below = below or folder.parent

    def card(self, token: str) -> Path:
        """Where the card of an owner lies."""
        return self.folder / f"owner-{token}.json"

    def has(self, token: str) -> bool:
        """Whether an owner's card is in."""
        return self.card(token).exists()

    def read(self, token: str) -> Owner | None:
        """An owner as its card tells; None if it is not there or cannot be read."""
        try:
            return _owner_of(self.card(token))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def holder(self) -> Owner | None:
        """Who holds the lock; None if nobody does, or the card cannot be read."""
        try:
            cards = sorted(name for name in os.listdir(self.folder) if fnmatch(name, "owner-*.json"))  # noqa: PTH208
            return _owner_of(self.folder / cards[0]) if cards else None
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def take(self, owner: Owner) -> float | None:
        """Make the lock, unless somebody holds it.

        Returns:
            None when it was made, else the time of the file system, in seconds since 1970.
        """
        made = self._made(owner)
        now = made.stat().st_mtime
        try:
            move(self._below, made, self.folder)
        except OSError as error:
            remove_tree(made, below=self._below)
            # ENOENT: whoever holds it cleaned up what seemed left over.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
            return now
        return None

    def add(self, owner: Owner) -> None:
        """Put the card of another owner in beside ours."""
        made = self._made(owner)
        move(self._below, made / self.card(owner.token).name, self.card(owner.token))
        remove_tree(made, below=self._below)

    def remove(self, token: str) -> None:
        """End the hold of an owner, and of no other."""
        remove_file(self._below, self.card(token))
        with suppress(OSError), open_folder(self._below, self.folder.parent) as parent:
            os.rmdir(self.folder.name, dir_fd=parent)  # or the next one is in already

    def silence(self, token: str, now: float) -> float:
        """Seconds since an owner's last sign of life; 0 where that cannot be told."""
        try:
            return max(0.0, now - self.card(token).stat().st_mtime)
        except OSError:
            return 0.0

    def remove_left_over(self) -> None:
        """Remove what killed processes made and did not rename into place; only who holds the lock may."""
        for path in self.folder.parent.glob(f"{self.folder.name}.????????"):
            with suppress(OSError):
                if self.folder.stat().st_mtime - path.stat().st_mtime > _LEFT_OVER:
                    remove_tree(path, below=self._below)

    def _made(self, owner: Owner) -> Path:
        """A lock of an owner, under a name that nobody looks at."""
        made = self.folder.with_name(f"{self.folder.name}.{uuid4().hex[:8]}")
        with open_folder(self._below, made.parent) as parent:
            mkdir_in(made, parent)
        try:
            write_whole(made / self.card(owner.token).name, owner.to_card(), below=self._below)
        except BaseException:
            remove_tree(made, below=self._below)
            raise
        return made


def _owner_of(card: Path) -> Owner:
    """An owner as a card tells.

    Raises:
        ValueError: It is none; nor is a pipe or a link, whoever put it there.
    """
    try:
        return Owner.from_card(read_plain(card))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP):
            raise ValueError(f"{card} is no plain file") from error
        raise


# One writer per cube: a lock that says who holds it, and that a dead holder cannot keep.
#
# A lock is a folder with the owner's card inside. It is made under another name and renamed into place: a rename onto
# a folder that is not empty fails, on local disks and on parallel file systems alike, so there is never a lock without
# a card. It ends when its card is removed. The card's name is its owner's token: of several who saw a dead holder only
# one removes its card, and none of them that of who came after it. (File locks are not used: on some parallel file
# systems they hold on one node only.)
#
# A cube has two such folders, and its writer holds both. The one inside the cube is the lock: whoever writes the cube,
# by whatever path, mount or container, meets it. A new generation takes it along, as a hard link. The one beside the
# cube keeps writers of version 0.1.0 out, which know no other, and holds while a cube is being created or is away
# between two renames; where the cube is a mount point in a folder that cannot be written, it is left out.

__all__ = [
    "IN_CUBE",
    "IN_FOLDER",
    "CubeLock",
    "Owner",
    "Verdict",
    "force_unlock",
    "is_locked",
    "judge",
    "lock_folder",
    "lock_folders",
    "read_owner",
]

IN_CUBE = f"{OWN}/lock"
"""The lock inside a cube."""

IN_FOLDER = ".lock"
"""The lock inside another folder of ours."""

_NAMELESS = 20
"""Looks at a lock without a readable card, until it is taken for one that stays so."""

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class CubeLock:
    """Held while a cube, or another folder of ours, is written; a context manager.

    Args:
        cube: Path of the cube.
        owner: Who wants it.
        verdict: Asked about a holder whose life cannot be judged from this node, for example by asking SLURM.
        inside: Where the lock inside lies, relative to the cube; its parent folder must be there for it to be taken.
    """

    def __init__(
        self,
        cube: Path,
        owner: Owner | None = None,
        verdict: Verdict | None = None,
        inside: str = IN_CUBE,
    ) -> None:
        self.cube = cube
        self.owner = owner or Owner.here()
        self._verdict = verdict
        self._beside = Door(lock_folder(cube))
        self._inside = Door(cube.resolve() / inside, cube.resolve())
        following = next_folder(cube.resolve())
        self._inside_next = Door(following / inside, following)
        self._held: list[Door] = []
        self._mounted = False
        self._beat: _Beat | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, also from a holder that is known to be dead; inside the cube only if the cube is there.

        Raises:
            CubeLockedError: Somebody alive, or of unknown state, holds it.
            BadInputError: A lock is a symbolic link.
        """
        self._mounted = is_mount_point(self.cube)
        try:
            self._take(self._beside)
        except OSError as error:
            if not self._mounted or error.errno not in _NOT_WRITABLE:
                raise
        try:
            self.acquire_inside()
        except BaseException:
            self.release()
            raise
        if self._beat is None and self.owner.pid == os.getpid():
            self._beat = _Beat([door.card(self.owner.token) for door in (self._inside, self._beside)])
            self._beat.start()

    def acquire_inside(self) -> None:
        """Take the lock inside a cube that was created, or renamed back into place, since :meth:`acquire`.

        Raises:
            CubeLockedError: Somebody alive, or of unknown state, holds it.
        """
        if self._inside in self._held or not self._inside.folder.parent.is_dir():
            return
        self._take(self._inside)
        self._inside.remove_left_over()

    def enter(self, making: Path) -> None:
        """Hold a cube that is being created under another name, so that it is locked when it gets its own."""
        door = Door(making / self._inside.folder.relative_to(self.cube.resolve()), making)
        door.take(self.owner)
        self._held.append(self._inside)

    def require_held(self) -> None:
        """Check that nobody took the lock away; called before each commit.

        Raises:
            CubeLockedError: Somebody else holds it now, or nobody.
        """
        if not self._held or not all(door.has(self.owner.token) for door in self._held):
            taker = read_owner(self.cube)
            by = "somebody" if taker is None or taker.token == self.owner.token else taker
            raise CubeLockedError(f"{self.cube}: the lock was taken away by {by}; nothing was committed")

    def release(self) -> None:
        """Give the lock back; harmless when it is not ours."""
        if self._beat is not None:
            self._beat.stop()
            self._beat = None
        # Where a swap of generations failed half-way, the next one takes the cube's place later, with the lock inside.
        for door in (self._inside, self._beside, self._inside_next):
            card = door.read(self.owner.token)
            if card is not None and card.pid == self.owner.pid:
                with suppress(BadInputError):  # a folder on the way became a link
                    door.remove(self.owner.token)
        self._held.clear()

    def hand_over(self, owner: Owner) -> None:
        """Let somebody else hold the lock from now on.

        Raises:
            CubeLockedError: It is not ours to give.
        """
        self.require_held()
        # A lock beside a mount point is seen by those of this mount only, and may outlive it: it is given to nobody.
        given = [door for door in (self._inside, self._beside) if door in self._held]
        given = [door for door in given if door is not self._beside or not self._mounted]
        for door in given:
            door.add(owner)
        for door in list(self._held):
            door.remove(self.owner.token)
        self._held.clear()

    def _take(self, door: Door) -> None:
        nameless = 0
        real_folder(door.folder)
        while (now := door.take(self.owner)) is not None:
            if door.has(self.owner.token):
                break  # held by another process of the same owner
            holder = door.holder()
            if holder is None:
                nameless += 1
                time.sleep(0.05)  # it may have been given back this moment
                if nameless == _NAMELESS:
                    raise CubeLockedError(
                        f"{self.cube}: its lock {door.folder} does not say whose it is. If nobody writes the cube: "
                        f"stac2cube unlock {self.cube} --force"
                    )
                continue
            if not self._was_given_by(holder):
                self._require_dead(holder, door.silence(holder.token, now))
            door.remove(holder.token)
        self._held.append(door)

    def _was_given_by(self, holder: Owner) -> bool:
        """Whether a holder died while it handed the lock over to us: then another door has both cards."""
        return any(door.has(holder.token) and door.has(self.owner.token) for door in (self._inside, self._beside))

    def _require_dead(self, holder: Owner, silent: float) -> None:
        alive = judge(holder, silent)
        if alive is None and self._verdict is not None:
            alive = self._verdict(holder)
        if alive is False:
            return
        doubt = ""
        if not alive:
            doubt = " (whether it still runs cannot be told from here"
            doubt += f"; its last sign of life is {silent:.0f} s old)" if holder.machine else ")"
        raise CubeLockedError(
            f"{self.cube} is being written by {holder}{doubt}. Wait for it; if you know that it is dead, or this is a "
            f"copy of the cube that it writes: stac2cube unlock {self.cube} --force"
        )


class _Beat(threading.Thread):
    """Gives signs of life: the cards of a holder are never older than a minute, or two.

    Args:
        cards: The cards, some of which may not be there.
    """

    def __init__(self, cards: list[Path]) -> None:
        super().__init__(name="stac2cube-lock", daemon=True)
        self._cards = cards
        self._ended = threading.Event()

    def run(self) -> None:
        """Touch the cards until told to stop."""
        while not self._ended.wait(BEAT):
            for card in self._cards:
                with suppress(OSError):  # generations may be on their way from one place to the other
                    os.utime(card)

    def stop(self) -> None:
        """No more signs."""
        self._ended.set()


def lock_folder(cube: Path) -> Path:
    """Where the lock beside a cube lies."""
    cube = cube.resolve()  # who comes by a link meets the same lock
    return cube.with_name(f".{cube.name}.lock")


def lock_folders(cube: Path) -> tuple[Path, ...]:
    """Where the locks of a cube, or of another folder of ours, may lie: inside it and beside it."""
    return (*(cube.resolve() / inside for inside in (IN_CUBE, IN_FOLDER)), lock_folder(cube))


def is_locked(cube: Path) -> bool:
    """Whether somebody, who may be dead, holds a cube."""
    return any(folder.exists() for folder in lock_folders(cube))


def read_owner(cube: Path) -> Owner | None:
    """Who holds the lock of a cube; None if nobody does, or its card cannot be read."""
    owners = (Door(folder).holder() for folder in lock_folders(cube))
    return next((owner for owner in owners if owner is not None), None)


def force_unlock(cube: Path) -> Owner | None:
    """Take the lock away from whoever holds it; for people who know that the holder is dead.

    Raises:
        BadInputError: A lock is a symbolic link; remove it by hand.
    """
    holder = read_owner(cube)
    for folder in lock_folders(cube):
        remove_tree(folder)
    return holder
