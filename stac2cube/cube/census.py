"""Everything that lies in a cube, looked at without following a link or waiting at a pipe."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from stac2cube.cube.root import OWN

KINDS = {
    "missing": "a file of pixels is not there: its pixels read as no data",
    "corrupt": "a file of pixels has other bytes than were written",
    "orphan": "a file of pixels that belongs to no step",
    "stray": "a file or folder that is no part of a cube",
    "metadata": "an array's own metadata do not follow the root",
    "coordinate": "x, y, grid mapping, time or scene key are not what grid and ledger have",
    "ledger": "a part of the ledger is not there or cannot be read",
    "history": "what an earlier commit left is not there or not whole: one cannot go back to it",
    "root": "the root is lost, changed, or older than the last commit",
    "link": "a symbolic link, which no command that writes follows",
    "mode": "its owner may not read it",
    "year": "the store of a sealed year is not what was sealed; its steps are whole in the cube",
}
"""What can be wrong, by name."""


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        kind: Name of :data:`KINDS`.
        path: Where, within the cube.
        key: Of the step it harms, "" if none.
        what: In words.
    """

    kind: str
    path: str
    key: str
    what: str


@dataclass
class Census:
    """What lies in a cube, by path within it.

    Attributes:
        files: Plain files.
        others: Pipes, sockets and devices.
        folders: Folders.
        found: Links, and what its owner may not read.
    """

    files: dict[str, os.stat_result] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    found: list[Damage] = field(default_factory=list)


def take_census(store: Path) -> Census:
    """Look at all names in a cube or the store of a year, but for those of a run that writes."""
    census, pending = Census(), [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(store / folder) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if not _of_a_run(folder, entry.name) and _note(census, entry, path):
                        pending.append(path)
        except PermissionError as error:
            census.found.append(Damage("mode", folder, "", f"cannot be listed: {error.strerror}"))
    return census


def strays(census: Census, expected: set[str], layers: set[str]) -> list[Damage]:
    """What lies in a store and is no part of it; of a strange folder, the folder alone.

    Args:
        census: What lies there.
        expected: Paths of all files that may be there.
        layers: Names of the layers: what is strange among their chunks is told file by file.
    """
    known = {parent for path in expected for parent in _parents(path)} | {OWN}
    known |= {f"{OWN}/ledger", f"{OWN}/history"}
    found: dict[str, Damage] = {}
    for path in sorted(({*census.files, *census.others} - expected) | census.folders):
        parts = path.split("/")
        if len(parts) > 2 and parts[0] in layers and parts[1] == "c":
            if path not in census.folders:
                found[path] = Damage("orphan", path, "", KINDS["orphan"])
            continue
        if path in census.folders and path in known:
            continue
        top = next((parent for parent in (*_parents(path), path) if parent not in known), path)
        if not any(parent in found for parent in _parents(top)):
            found[top] = Damage("stray", top, "", KINDS["stray"])
    return list(found.values())


def _note(census: Census, entry: os.DirEntry[str], path: str) -> bool:
    """Write an entry down; whether it is a folder that can be looked into."""
    if entry.is_symlink():
        census.found.append(Damage("link", path, "", f"{KINDS['link']}: it points to {os.readlink(entry.path)!r}"))  # noqa: PTH115
        return False
    state = entry.stat(follow_symlinks=False)
    if stat.S_ISDIR(state.st_mode):
        census.folders.add(path)
        wanted = stat.S_IRUSR | stat.S_IXUSR
    elif stat.S_ISREG(state.st_mode):
        census.files[path] = state
        wanted = stat.S_IRUSR
    else:
        census.others.add(path)
        return False
    if state.st_mode & wanted != wanted:
        census.found.append(Damage("mode", path, "", f"{KINDS['mode']}: mode {stat.filemode(state.st_mode)}"))
    return stat.S_ISDIR(state.st_mode)


def _of_a_run(folder: str, name: str) -> bool:
    """Whether a name belongs to a run that writes now, or to one that died: the next writer cleans up after it."""
    if folder == OWN:
        return name in ("staging", "trash", "lock", "put-away") or name.startswith("lock.")
    # What a network file system keeps of a file that is removed while somebody has it open.
    return name.startswith(".nfs") or (name.startswith(".") and name.endswith(".partial"))


def _parents(path: str) -> list[str]:
    """The folders above a path, from the top."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
