"""One writer per cube: a lock that names its owner and expires with it."""

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

# The holder of a lock, and whether it is alive, as far as this node can determine. Unknown is treated as alive.

BEAT = 60.0
"""Seconds between two heartbeats of a holder."""

SILENCE = 900.0
"""Seconds without a heartbeat after which a holder from an earlier boot of this same machine is dead."""


Verdict = Callable[["Owner"], bool | None]
"""Decides whether an owner is alive: True, False, or None for "cannot know"."""


@dataclass(frozen=True)
class Owner:
    """The holder of a lock, with enough detail for another node to decide whether it is alive."""

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
        """This process. Processes of one submission share a token and count as one owner.

        A shell of ``salloc`` on a login node has the variables of a job, but does not end with it, so it names none.
        """
        on_node = bool(environment.get("SLURMD_NODENAME"))
        return cls(
            token=token or uuid4().hex,
            host=socket.gethostname(),
            boot=_read("/proc/sys/kernel/random/boot_id"),
            namespace=_namespace(),
            pid=os.getpid(),
            started=_started(os.getpid()) or "",
            since=now_text(),
            job=environment.get("SLURM_JOB_ID", "") if on_node else "",
            cluster=environment.get("SLURM_CLUSTER_NAME", ""),
            restarts=environment.get("SLURM_RESTART_COUNT", ""),
            user=_user(),
            machine=_machine(),
        )

    @classmethod
    def of_jobs(cls, token: str, job: str, cluster: str = "") -> Owner:
        """Jobs that build a cube together on any nodes: all of them are alive as long as ``job`` is."""
        nowhere = {"host": "", "boot": "", "namespace": "", "pid": 0, "started": ""}
        who = {"since": now_text(), "job": job, "cluster": cluster, "user": _user()}
        return cls(token=token, **who, **nowhere)  # type: ignore[arg-type]

    @classmethod
    def from_card(cls, content: bytes) -> Owner:
        """The owner in a card; keys that a later version may add are ignored.

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
        """The card's content: the keys of version 0.1.0, which can read it, plus the machine after the host name.

        No host has such a name, so version 0.1.0, which compares names, considers no holder dead.
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
    """Whether a holder is alive, as far as this node can determine; None if it cannot.

    A process that is gone from this boot of this machine is dead. A holder from another boot is dead only if the
    machine has the same id (names alone are shared by images and containers), and if it has been silent for
    :data:`SILENCE`: a living twin of this machine would give heartbeats.

    Args:
        holder: The holder.
        silent: Seconds since its last heartbeat, by the clock of the file system.
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
    """Whether a process with this start time is running."""
    if _read(f"/proc/{pid}/stat"):
        return _started(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    return None  # it exists, but /proc does not show it: hidepid, or no /proc at all


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container users may have no name
        return str(os.getuid())


def _machine() -> str:
    """A short hash of machine-id(5), which must not be published itself; "" if there is none."""
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


# One folder that is a lock: created under another name and renamed into place, with the card of its owner inside.

_LEFT_OVER = 3600.0
"""Seconds after which a lock that was created but never renamed into place is attributed to a killed process."""


class Door:
    """One folder that is a lock.

    Args:
        folder: The folder; the lock is free if it does not exist.
        below: No link is followed between this folder and ``folder``; its own parent if None.
    """

    def __init__(self, folder: Path, below: Path | None = None) -> None:
        self.folder = folder
        self._below = below or folder.parent

    def card(self, token: str) -> Path:
        """Path of the card of an owner."""
        return self.folder / f"owner-{token}.json"

    def has(self, token: str) -> bool:
        """Whether an owner's card is in the folder."""
        return self.card(token).exists()

    def read(self, token: str) -> Owner | None:
        """The owner in a card; None if the card is not there or cannot be read."""
        try:
            return _owner_of(self.card(token))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def holder(self) -> Owner | None:
        """The holder of the lock; None if the lock is free or the card cannot be read."""
        try:
            cards = sorted(name for name in os.listdir(self.folder) if fnmatch(name, "owner-*.json"))  # noqa: PTH208
            return _owner_of(self.folder / cards[0]) if cards else None
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def take(self, owner: Owner) -> float | None:
        """Create the lock, unless it is held.

        Returns:
            None if it was created, else the time of the file system, in seconds since 1970.
        """
        made = self._made(owner)
        now = made.stat().st_mtime
        try:
            move(self._below, made, self.folder)
        except OSError as error:
            remove_tree(made, below=self._below)
            # ENOENT: the holder removed it as a leftover.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
            return now
        return None

    def add(self, owner: Owner) -> None:
        """Add the card of another owner beside ours."""
        made = self._made(owner)
        move(self._below, made / self.card(owner.token).name, self.card(owner.token))
        remove_tree(made, below=self._below)

    def remove(self, token: str) -> None:
        """Remove the card of one owner, and the lock if no other card is left."""
        remove_file(self._below, self.card(token))
        with suppress(OSError), open_folder(self._below, self.folder.parent) as parent:
            os.rmdir(self.folder.name, dir_fd=parent)  # fails if the next owner is in already

    def silence(self, token: str, now: float) -> float:
        """Seconds since an owner's last heartbeat; 0 if unknown."""
        try:
            return max(0.0, now - self.card(token).stat().st_mtime)
        except OSError:
            return 0.0

    def remove_left_over(self) -> None:
        """Remove locks that killed processes created but did not rename into place; only for the holder of the lock."""
        for path in self.folder.parent.glob(f"{self.folder.name}.????????"):
            with suppress(OSError):
                if self.folder.stat().st_mtime - path.stat().st_mtime > _LEFT_OVER:
                    remove_tree(path, below=self._below)

    def _made(self, owner: Owner) -> Path:
        """Create a lock of an owner under a temporary name."""
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
    """Read the owner in a card.

    Raises:
        ValueError: The file is not a card, or is a pipe or a link.
    """
    try:
        return Owner.from_card(read_plain(card))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP):
            raise ValueError(f"{card} is no plain file") from error
        raise


# One writer per cube: a lock that names its holder, and that expires with it.
#
# A lock is a folder with the owner's card inside. It is created under another name and renamed into place: a rename to
# a folder that is not empty fails, on local disks and on parallel file systems alike, so there is never a lock without
# a card. It ends when its card is removed. The name of the card is its owner's token: of several processes that find a
# dead holder only one removes its card, and none removes that of a successor. (File locks are not used: on some
# parallel file systems they hold on one node only.)
#
# A cube has two such folders, and its writer holds both. The one inside the cube is the actual lock: every writer of
# the cube, by any path, mount or container, finds it. A new generation includes it, as a hard link. The one beside the
# cube keeps out writers of version 0.1.0, which use no other, and holds while a cube is being created or is absent
# between two renames. It is left out if the cube is a mount point in a folder that is not writable.

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
"""The lock inside another folder of stac2cube."""

_NAMELESS = 20
"""Number of attempts at a lock without a readable card before it is considered permanent."""

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class CubeLock:
    """Held while a cube, or another folder of stac2cube, is written; a context manager.

    Args:
        cube: Path of the cube.
        owner: The owner to lock for.
        verdict: Called for a holder whose state cannot be determined on this node, for example to query SLURM.
        inside: Path of the inner lock, relative to the cube; it is taken only if its parent folder exists.
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
        """Take the lock, also from a holder known to be dead; inside the cube only if the cube exists.

        Raises:
            CubeLockedError: A holder that is alive, or of unknown state, has it.
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
            CubeLockedError: A holder that is alive, or of unknown state, has it.
        """
        if self._inside in self._held or not self._inside.folder.parent.is_dir():
            return
        self._take(self._inside)
        self._inside.remove_left_over()

    def enter(self, making: Path) -> None:
        """Lock a cube that is being created under another name, so that it is locked when it is renamed."""
        door = Door(making / self._inside.folder.relative_to(self.cube.resolve()), making)
        door.take(self.owner)
        self._held.append(self._inside)

    def require_held(self) -> None:
        """Check that the lock was not taken away; called before each commit.

        Raises:
            CubeLockedError: Another owner, or none, holds it now.
        """
        if not self._held or not all(door.has(self.owner.token) for door in self._held):
            taker = read_owner(self.cube)
            by = "somebody" if taker is None or taker.token == self.owner.token else taker
            raise CubeLockedError(f"{self.cube}: the lock was taken away by {by}; nothing was committed")

    def release(self) -> None:
        """Release the lock; does nothing if it is not ours."""
        if self._beat is not None:
            self._beat.stop()
            self._beat = None
        # If a swap of generations failed half-way, the next one becomes the cube later, with the lock inside.
        for door in (self._inside, self._beside, self._inside_next):
            card = door.read(self.owner.token)
            if card is not None and card.pid == self.owner.pid:
                with suppress(BadInputError):  # a folder on the path became a link
                    door.remove(self.owner.token)
        self._held.clear()

    def hand_over(self, owner: Owner) -> None:
        """Pass the lock to another owner.

        Raises:
            CubeLockedError: It is not held by us.
        """
        self.require_held()
        # A lock beside a mount point is visible in this mount only and may outlive it: it is not passed on.
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
                time.sleep(0.05)  # it may have been released just now
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
        """Whether a holder died while it handed the lock over to us: then the other door has both cards."""
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
    """Heartbeat: keeps the cards of a holder younger than a minute or two.

    Args:
        cards: The cards; some may not exist.
    """

    def __init__(self, cards: list[Path]) -> None:
        super().__init__(name="stac2cube-lock", daemon=True)
        self._cards = cards
        self._ended = threading.Event()

    def run(self) -> None:
        """Touch the cards until stopped."""
        while not self._ended.wait(BEAT):
            for card in self._cards:
                with suppress(OSError):  # generations may just be changing places
                    os.utime(card)

    def stop(self) -> None:
        """Stop the heartbeat."""
        self._ended.set()


def lock_folder(cube: Path) -> Path:
    """Path of the lock beside a cube."""
    cube = cube.resolve()  # writers that use a link find the same lock
    return cube.with_name(f".{cube.name}.lock")


def lock_folders(cube: Path) -> tuple[Path, ...]:
    """Possible paths of the locks of a cube, or of another folder of stac2cube: inside it and beside it."""
    return (*(cube.resolve() / inside for inside in (IN_CUBE, IN_FOLDER)), lock_folder(cube))


def is_locked(cube: Path) -> bool:
    """Whether a cube has a holder, alive or dead."""
    return any(folder.exists() for folder in lock_folders(cube))


def read_owner(cube: Path) -> Owner | None:
    """The holder of the lock of a cube; None if there is none, or its card cannot be read."""
    owners = (Door(folder).holder() for folder in lock_folders(cube))
    return next((owner for owner in owners if owner is not None), None)


def force_unlock(cube: Path) -> Owner | None:
    """Remove the lock of any holder; for users who know that the holder is dead.

    Raises:
        BadInputError: A lock is a symbolic link; remove it by hand.
    """
    holder = read_owner(cube)
    for folder in lock_folders(cube):
        remove_tree(folder)
    return holder
