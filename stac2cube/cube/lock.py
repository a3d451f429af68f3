"""One writer per cube: a lock that says who holds it, and that a dead holder cannot keep.

A lock is a folder with the owner's card inside. It is made under another name and renamed into place: a rename onto a
folder that is not empty fails, on local disks and on parallel file systems alike, so there is never a lock without a
card. It ends when its card is removed. The card's name is its owner's token: of several who saw a dead holder only one
removes its card, and none of them that of who came after it. (File locks are not used: on some parallel file systems
they hold on one node only.)

A cube has two such folders, and its writer holds both. The one inside the cube is the lock: whoever writes the cube,
by whatever path, mount or container, meets it. A new generation takes it along, as a hard link. The one beside the cube
keeps writers of version 0.1.0 out, which know no other, and holds while a cube is being created or is away between two
renames; where the cube is a mount point in a folder that cannot be written, it is left out.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from stac2cube.cube.door import Door
from stac2cube.cube.files import remove_tree
from stac2cube.cube.folders import is_mount_point, real_folder
from stac2cube.cube.generation import next_folder
from stac2cube.cube.owner import BEAT, Owner, Verdict, judge
from stac2cube.cube.root import OWN
from stac2cube.errors import BadInputError, CubeLockedError

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
