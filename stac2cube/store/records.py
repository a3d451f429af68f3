"""The metadata files of commits, and a census of everything in a cube."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stac2cube.errors import CubeError
from stac2cube.store.files import Listings, read_plain
from stac2cube.store.generation import generations_folder
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import OWN, Root, read_root
from stac2cube.store.staging import checksum, shard_file

# Everything in a cube, listed without following a link or blocking on a pipe.

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
"""Kinds of damage, by name."""


@dataclass(frozen=True)
class Damage:
    """One damage.

    Attributes:
        kind: Name from :data:`KINDS`.
        path: Its path within the cube.
        key: Key of the affected step, "" if none.
        what: Description.
    """

    kind: str
    path: str
    key: str
    what: str


@dataclass
class Census:
    """The content of a cube, by path within it.

    Attributes:
        files: Regular files.
        others: Pipes, sockets and devices.
        folders: Folders.
        found: Links, and everything that its owner may not read.
    """

    files: dict[str, os.stat_result] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    found: list[Damage] = field(default_factory=list)


SIDECAR = ".aux.xml"
"""Suffix of GDAL's sidecar files (gdal.org, PAM)."""


def take_census(store: Path) -> Census:
    """List all names in a cube or the store of a year, except those of a running writer."""
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


def stray_files(census: Census, expected: set[str], layers: set[str]) -> list[Damage]:
    """Files in a store that are not part of it; for an unknown folder, the folder only.

    Files in which GDAL, and so QGIS, keeps statistics beside an opened file are harmless and left out.

    Args:
        census: The content of the store.
        expected: Paths of all files that may be there.
        layers: Names of the layers: unexpected files among their chunks are reported one by one.
    """
    known = {parent for path in expected for parent in _parents(path)} | {OWN}
    known |= {f"{OWN}/ledger", f"{OWN}/history"}
    found: dict[str, Damage] = {}
    for path in sorted(({*census.files, *census.others} - expected) | census.folders):
        parts = path.split("/")
        if path in census.files and path.endswith(SIDECAR):
            continue
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
    """Record an entry; returns whether it is a folder to descend into."""
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
    """Whether a name belongs to a running or dead run: the next writer cleans up after it."""
    if folder == OWN and (name in ("staging", "trash", "lock", "put-away") or name.startswith("lock.")):
        return True
    # Network file systems keep such names for files that are removed while open.
    return name.startswith(".nfs") or (name.startswith(".") and name.endswith(".partial"))


def _parents(path: str) -> list[str]:
    """The folders above a path, from the top."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


# Metadata files of commits: root, history and ledger. Whether they are complete, and sources to restore lost ones.

SUMS = "checksums"
"""Attribute of a root with the CRC-32C of the ledger parts that it names, and its own under :data:`SELF`. Cubes
of version 0.1.0 have none before their next commit."""

SELF = "zarr.json"

_WRONG = (OSError, ValueError, KeyError, TypeError, AttributeError, CubeError)
"""Errors raised by an invalid root."""


def with_checksums(cube: Path, root: Root) -> Root:
    """A root with the checksums of the ledger parts that it names, and its own; checksums of other parts are dropped.

    Args:
        cube: The cube with the ledger.
        root: The root, complete except for the checksums.
    """
    known = root.own.get(SUMS, {})
    sums = {part: known.get(part) or checksum(read_plain(_ledger(cube) / part)) for part in root.ledger}
    root.own[SUMS] = sums
    root.own[SUMS] = {**sums, SELF: _checksum_of(root.document)}
    return root


@dataclass(frozen=True)
class RootState:
    """A cube's root and its damage.

    Attributes:
        root: The root; None if it is lost or not trustworthy.
        found: Its damage.
    """

    root: Root | None
    found: tuple[Damage, ...] = ()


def look_at_root(cube: Path) -> RootState:
    """Read a cube's root, and compare it with the history.

    Raises:
        CubeError: Not a cube, or one of a newer version.
    """
    numbers = commits_in_history(cube)
    try:
        document = json.loads(read_plain(cube / SELF))
        root = Root(document)
        commit, _ = root.commit, (root.spec, root.steps, root.ledger, root.years, root.generation)
    except _WRONG as error:
        if not numbers:
            read_root(cube)  # raises with the reason
        return _refused(cube, f"it cannot be read ({' '.join(str(error).split())[:80] or type(error).__name__})")
    read_root(cube)
    if whole(document) is False:
        return _refused(cube, f"it is not what commit {commit} wrote: its checksum is another")
    if numbers and is_older(cube, root, numbers[-1]):
        return _refused(cube, f"it is that of commit {commit}, and the last was {numbers[-1]}")
    written = _history_of(cube, commit)
    if written is not None and whole(written) is None and whole(document) is None and written != document:
        before = _history_of(cube, commit - 1) or {}
        if _agree(written, before) >= _agree(document, before):
            return _refused(cube, f"it is not what commit {commit} wrote: {', '.join(_differing(written, document))}")
    grid = {"spatial:transform": list(root.spec.grid.transform), "spatial:shape": list(root.spec.grid.shape)}
    lies = [name for name, value in grid.items() if document["attributes"].get(name) != value]
    if lies:
        return _refused(cube, f"{', '.join(lies)} are not those of its grid")
    return RootState(read_root(cube))


def is_older(cube: Path, root: Root, newest: int) -> bool:
    """Whether a root belongs to an earlier commit and was put in the place of a later one.

    A commit that was killed before it replaced the root also leaves a newer history, by one commit. But then the
    arrays' own metadata, which are written after the root, have no more steps than the root.

    Args:
        cube: The cube.
        root: Its root.
        newest: Number of the last commit in its history.
    """
    if newest <= root.commit:
        return False
    return newest > root.commit + 1 or any(_steps_in(cube / name) > root.steps for name in root.growing())


def require_last_root(cube: Path, root: Root, listings: Listings | None = None) -> None:
    """Refuse to write a cube whose root is older than its last commit: the later steps would be removed.

    Args:
        cube: The cube.
        root: Its root.
        listings: Listings of the cube's folders.

    Raises:
        CubeError: It is older; nothing was changed.
    """
    numbers = commits_in_history(cube, listings)
    if numbers and is_older(cube, root, numbers[-1]):
        raise CubeError(
            f"{cube} has the root of commit {root.commit}, and its last commit was {numbers[-1]}: an older "
            f"zarr.json was put back. Nothing was changed. `stac2cube verify {cube} --repair` puts the last one back; "
            f"after that, `stac2cube rollback {cube} {root.commit}` goes back and loses nothing"
        )


def best_root(cube: Path) -> tuple[bytes, Root] | None:
    """The newest root in the history with all its files; else the newest with a complete ledger; else None.

    Args:
        cube: A cube whose own root is not trustworthy.
    """
    candidates = []
    for number in reversed(commits_in_history(cube)):
        file = _history(cube) / f"{number:06d}.json"
        try:
            content = read_plain(file)
            root = Root(json.loads(content))
            if root.commit != number or whole(root.document) is False or list(lost_parts(cube, root)):
                continue
            if _all_there(cube, root):
                return content, root
            if all(_steps_in(cube / name) == root.steps for name in root.growing()):
                candidates.append((content, root))
        except _WRONG:
            continue
    return candidates[0] if candidates else None


def last_whole_commit(cube: Path) -> int | None:
    """Number of the last earlier commit whose root and ledger are intact, None if there is none."""
    for number in reversed(commits_in_history(cube)):
        document = _history_of(cube, number)
        if document is not None and whole(document) is not False and not list(lost_parts(cube, Root(document))):
            return number
    return None


def lost_parts(cube: Path, root: Root) -> Iterator[Damage]:
    """Ledger parts named by a root that are missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sums = root.own.get(SUMS, {})
    for part in root.ledger:
        path = f"{OWN}/ledger/{part}"
        try:
            content = read_plain(cube / path)
            if part in sums and checksum(content) != sums[part]:
                raise ValueError("its checksum is another")
            pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
            Ledger(cube, [part]).entries()
        except (OSError, CubeError, ValueError, KeyError, pa.ArrowException) as error:
            why = error.__cause__ or error
            yield Damage("ledger", path, "", f"cannot be read: {' '.join(str(why).split())[:120]}")


def look_at_history(cube: Path, root: Root, census: Census, *, deep: bool) -> Iterator[Damage]:
    """Lost or damaged files of earlier commits: their roots, and the ledger parts that these name.

    Args:
        cube: The cube.
        root: Its root, which is sound.
        census: The content of the cube.
        deep: Read every file; else only check that it exists.
    """
    seen: set[str] = set(root.ledger)
    for number in range(root.commit, 0, -1):
        path = f"{OWN}/history/{number:06d}.json"
        if path not in census.files:
            yield Damage("history", path, "", f"commit {number}: lost")
            continue
        document = _history_of(cube, number) if deep else {}
        same = number != root.commit or document == json.loads((cube / SELF).read_bytes()) if deep else True
        if document is None or not same or (deep and whole(document) is False):
            yield Damage("history", path, "", f"commit {number}: not what was written")
            continue
        own = document.get("attributes", {}).get("stac2cube", {})
        for part in (part for part in own.get("ledger", ()) if part not in seen):
            seen.add(part)
            if why := _wrong_part(cube, part, own.get(SUMS, {}), census):
                what = f"{why}: one cannot go back to commit {number}, nor compare it"
                yield Damage("history", f"{OWN}/ledger/{part}", "", what)


def files_of_commits(root: Root, census: Census) -> set[str]:
    """Paths of existing files of the history and the ledger, including those of a commit that died."""
    numbers = range(1, root.commit + 2)
    known = {f"{OWN}/{place}" for n in numbers for place in (f"history/{n:06d}.json", f"ledger/{n:06d}.parquet")}
    return known & (census.files.keys() | census.others | census.folders)


def found_in_old_generations(cube: Path, path: str) -> bytes | None:
    """A lost file of an earlier commit, from an old generation that has it intact.

    Args:
        cube: The cube.
        path: Path of the file within the cube.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = generations_folder(cube)
    own = [old for old in folder.iterdir() if old.name.isdigit()] if folder.is_dir() else []
    for old in sorted(own, reverse=True):
        try:
            content = read_plain(old / path)
            if path.endswith(".json"):
                document = json.loads(content)
                number = int(Path(path).stem)
                if Root(document).commit == number and whole(document) is not False:
                    return content
            else:
                pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
                return content
        except (*_WRONG, pa.ArrowException):
            continue
    return None


def commits_in_history(cube: Path, listings: Listings | None = None) -> list[int]:
    """Numbers of the commits with a root in the history, ascending.

    Args:
        cube: The cube.
        listings: Listings of the cube's folders.
    """
    names = (listings or Listings()).names(_history(cube))
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def whole(document: Mapping[str, Any]) -> bool | None:
    """Whether a root matches the checksum that it contains; None if it has none, as in version 0.1.0."""
    try:
        said = document["attributes"]["stac2cube"].get(SUMS, {}).get(SELF)
    except (KeyError, TypeError, AttributeError):
        return False
    return None if said is None else bool(said == _checksum_of(document))


def _checksum_of(document: Mapping[str, Any]) -> str:
    """The checksum of a root without its own checksum, independent of the order of its keys."""
    attributes = document["attributes"]
    sums = {name: value for name, value in attributes["stac2cube"].get(SUMS, {}).items() if name != SELF}
    own = {**attributes["stac2cube"], SUMS: sums}
    return checksum(json.dumps({**document, "attributes": {**attributes, "stac2cube": own}}, sort_keys=True).encode())


def _refused(cube: Path, why: str) -> RootState:
    best = best_root(cube)
    offer = (
        f"the history has that of commit {best[1].commit}, with {best[1].steps} steps: --repair puts it back"
        if best
        else "and no root of the history can be put back: restore zarr.json from a backup"
    )
    return RootState(None, (Damage("root", SELF, "", f"{why}; {offer}"),))


def _all_there(cube: Path, root: Root) -> bool:
    rows = Ledger(cube, root.ledger).sealed()
    shards = ((row.slot, shard) for row in rows.values() for receipt in row.receipts for shard in receipt.shards)
    files = ((shard_file(cube / s.layer / "c" / str(slot), s.tile), s.size) for slot, s in shards if s.size)
    return len(rows) == root.steps and all(path.is_file() and path.stat().st_size == size for path, size in files)


def _wrong_part(cube: Path, part: str, sums: Mapping[str, str], census: Census) -> str:
    """The damage of a ledger part of an earlier commit, "" if none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = f"{OWN}/ledger/{part}"
    if path not in census.files:
        return "lost"
    try:
        content = read_plain(cube / path)
        if part in sums:
            return "" if checksum(content) == sums[part] else "its checksum is another"
        pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        return f"cannot be read ({' '.join(str(error).split())[:80]})"
    return ""


def _history_of(cube: Path, number: int) -> dict[str, Any] | None:
    """The root written by a commit, None if it is missing or not a root of that commit."""
    try:
        document: dict[str, Any] = json.loads(read_plain(_history(cube) / f"{number:06d}.json"))
        return document if Root(document).commit == number else None
    except _WRONG:
        return None


def _steps_in(array: Path) -> int:
    """Steps of an array by its own metadata, 0 if these cannot be read."""
    try:
        return int(json.loads(read_plain(array / "zarr.json"))["shape"][0])
    except (*_WRONG, IndexError):
        return 0


def _agree(document: Mapping[str, Any], before: Mapping[str, Any]) -> int:
    """Number of attributes that a root shares with the one before it."""
    theirs = before.get("attributes", {})
    return sum(theirs.get(name) == value for name, value in document["attributes"].items())


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Sequence[str]:
    names = sorted({*one["attributes"], *other["attributes"]})
    found = [f"attribute {name}" for name in names if one["attributes"].get(name) != other["attributes"].get(name)]
    return found or ["metadata of its arrays"]


def _history(cube: Path) -> Path:
    return cube / OWN / "history"


def _ledger(cube: Path) -> Path:
    return cube / OWN / "ledger"
