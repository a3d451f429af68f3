"""One folder that is a lock: made under another name and renamed into place, with the card of its owner inside."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from uuid import uuid4

from stac2cube.cube.files import read_plain, remove_tree, write_whole
from stac2cube.cube.folders import move, open_folder, remove_file
from stac2cube.cube.owner import Owner

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
            os.mkdir(made.name, dir_fd=parent)
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
