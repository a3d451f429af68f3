"""Write a cube: open it, recover from an interrupted writer, commit steps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.errors import BadInputError, CubeError
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.store import generation
from stac2cube.store.creation import create_cube
from stac2cube.store.files import (
    DISK_ERRORS,
    Listings,
    cannot_be_written,
    make_folder,
    move,
    open_folder,
    passing,
    read_plain,
    refuse_links_in_cube,
    remove_file,
    remove_tree,
    require_renamable,
    sync_folder,
    write_partial,
    write_whole,
)
from stac2cube.store.ledger import SEALED, Entry, Ledger
from stac2cube.store.lock import CubeLock, Owner, Verdict
from stac2cube.store.metadata import COORDINATE_CHUNK, OWN, Root, read_root
from stac2cube.store.records import require_last_root, with_checksums
from stac2cube.store.staging import StagedStep, Stager, shard_file

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer

# A commit: the ledger's rows, the history and the root, in this order; the root by one atomic rename.


def publish(
    cube: Path,
    root: Root,
    entries: Sequence[Entry],
    lock: CubeLock,
    *,
    before: Sequence[str],
    request: Mapping[str, Any] | None = None,
    changed: Mapping[str, int] | None = None,
) -> None:
    """Commit a new root, all or nothing.

    Args:
        cube: The cube, or its next generation.
        root: The new root; its ledger parts, author and changes are set here.
        entries: Rows to add to the ledger.
        lock: Lock of the cube, held.
        before: Ledger parts to start from.
        request: New defaults for the next update, None to keep the old.
        changed: Changes and their counts, for the history; counted from the rows if None.

    Raises:
        CubeLockedError: The lock was taken away; nothing was changed.
    """
    parts = Ledger(cube, before).write(_placed(entries, root.spec), root.commit)
    passing("commit.ledger-written")
    counts = _counted(entries) if changed is None else dict(changed)
    root.own.update({"ledger": list(parts), "by": str(lock.owner), "changed": counts})
    if request is not None:
        root.own["spec"] = replace(root.spec, request=request).to_json()
    content = with_checksums(cube, root).to_bytes()
    history = cube / OWN / "history"
    make_folder(cube, history)
    write_whole(history / f"{root.commit:06d}.json", content, below=cube)
    passing("commit.history-written")
    waiting = write_partial(cube / "zarr.json", content)
    passing("commit.root-written")
    lock.require_held()
    waiting.replace(cube / "zarr.json")
    sync_folder(cube)
    passing("commit.root-replaced")
    lead_arrays(cube, root)
    passing("commit.arrays-replaced")


def lead_arrays(cube: Path, root: Root) -> None:
    """Make the per-array metadata match the root, for readers that open one array alone."""
    for path, metadata in root.strayed(cube).items():
        write_whole(path, metadata, below=cube)


def _placed(entries: Sequence[Entry], spec: CubeSpec) -> Sequence[Entry]:
    """Rows with a geometry, as a STAC item needs one: that of the grid where the stage gives none."""
    if all(entry.footprint for entry in entries):
        return entries
    whole = spec.grid.geobox.footprint("EPSG:4326").json
    return [entry if entry.footprint else replace(entry, footprint=whole) for entry in entries]


def _counted(entries: Sequence[Entry]) -> dict[str, int]:
    """Number of rows of each status."""
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.status] = counts.get(entry.status, 0) + 1
    return counts


# Moving a step into its slot: its files under the arrays, its time and key in the coordinates.


def filled_layers(entry: Entry) -> set[str]:
    """Layers of a step that have files, by its receipts: an all-fill layer has none."""
    return {shard.layer for receipt in entry.receipts for shard in receipt.shards if shard.size}


def move_step_in(cube: Path, staged: StagedStep, entry: Entry, spec: CubeSpec) -> None:
    """Move a staged step into its slot: one rename per layer that has files; nothing is removed.

    Raises:
        CubeError: A layer with files by its receipts has none in staging, or the slot is taken.
    """
    filled = filled_layers(entry)
    for layer in spec.layers:
        source, target = staged.layer_folder(layer.name), cube / layer.name / "c" / str(entry.slot)
        if layer.name in filled and not source.exists():
            raise CubeError(f"{cube}: {entry.key} has no files of {layer.name} in staging; it is not sealed. Run again")
        if target.exists():
            raise CubeError(f"{target} is there although no step has this slot; {entry.key} is not sealed. Run again")
        if layer.name in filled:
            make_folder(cube, target.parent)
            move(_common(source, target), source, target)
            sync_folder(target.parent)
        passing("commit.layer-moved")


def _common(source: Path, target: Path) -> Path:
    """The folder that contains both: the cube, or that of the cube and its next generation."""
    return Path(os.path.commonpath([source, target]))


def take_over(generation: Path, staged: StagedStep, entry: Entry, spec: CubeSpec) -> None:
    """Move a staged step into a slot of another step, in a generation that is being filled.

    The files of the other step there are links: the present generation keeps its own.

    Raises:
        CubeError: A layer with files by its receipts has none in staging.
    """
    for layer in spec.layers:
        remove_tree(generation / layer.name / "c" / str(entry.slot), below=generation)
    move_step_in(generation, staged, entry, spec)


def require_in_place(cube: Path, entries: Sequence[Entry]) -> None:
    """Check that every file in the receipts of some steps is in its slot, with its size.

    Raises:
        CubeError: A file is missing or differs; the root must not name these steps.
    """
    for entry in entries:
        for shard in (shard for receipt in entry.receipts for shard in receipt.shards if shard.size):
            path = shard_file(cube / shard.layer / "c" / str(entry.slot), shard.tile)
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                size = 0
            if size != shard.size:
                raise CubeError(
                    f"{path} has {size} bytes instead of {shard.size}; {entry.key} is not sealed. Run again"
                )


def write_coordinates(cube: Path, root: Root, entries: Sequence[Entry]) -> None:
    """Write time and scene key of some slots; each chunk file is replaced as a whole."""
    by_chunk: dict[int, list[Entry]] = {}
    for entry in entries:
        by_chunk.setdefault(int(entry.slot or 0) // COORDINATE_CHUNK, []).append(entry)
    for name in ("time", "scene"):
        metadata = json.loads(root.growing()[name])
        for chunk, members in by_chunk.items():
            content = _chunk_with(cube / name, metadata, chunk, {int(e.slot or 0): _value(e, name) for e in members})
            path = cube / name / "c" / str(chunk)
            make_folder(cube, path.parent)
            write_whole(path, content, below=cube)


def write_values(store: Path, entries: Sequence[Entry]) -> None:
    """Write time and scene key of all steps of a new store, in order."""
    import zarr
    from zarr.storage import LocalStore

    for name in ("time", "scene"):
        array = zarr.open_array(LocalStore(store / name), mode="r+")
        array[:] = np.array([_value(entry, name) for entry in entries], dtype=object if name == "scene" else "int64")


def _value(entry: Entry, name: str) -> Any:
    return np.datetime64(entry.time.replace(tzinfo=None), "us").astype("int64") if name == "time" else entry.key


def _chunk_with(folder: Path, metadata: dict[str, Any], chunk: int, values: Mapping[int, Any]) -> bytes:
    """The bytes of one chunk of a coordinate with some values set; encoded by zarr itself."""
    import zarr
    from zarr.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    make = default_buffer_prototype().buffer.from_bytes
    end = max(max(values) + 1, metadata["shape"][0])
    files: dict[str, Buffer] = {"zarr.json": make(json.dumps(metadata | {"shape": [end]}).encode())}
    key = f"c/{chunk}"
    if metadata["shape"][0] > chunk * COORDINATE_CHUNK:
        files[key] = make(read_plain(folder / key))
    array = zarr.open_array(MemoryStore(files), mode="r+")
    for slot, value in values.items():
        array[slot] = value
    return files[key].to_bytes()


# Opening a cube for writing repairs what the previous writer left: dead, or after a failed change.

_MOVING = "moving.json"
"""File in a staging folder: the slots to which its steps are being moved."""


def recover(cube: Path, root: Root, staging: Path, listings: Listings, *, resumes: bool) -> None:
    """Remove dead staging, half-written files, and slots that are not sealed; make arrays match the root.

    Args:
        cube: The cube, whose lock is held.
        root: Its root.
        staging: Folder of this writer's token.
        listings: Listings of the cube's folders.
        resumes: Whether staged files there come from an earlier process of the same owner, and stay.
    """
    if resumes:
        _give_back(cube, staging, root.steps, root.spec)
    for folder in (cube / OWN / "staging").glob("*"):
        if folder != staging:
            remove_tree(folder, below=cube)
    nodes = [cube / name for name in root.growing()]
    axes = [cube / name / "c" for name in ("time", "scene")]
    for folder in (cube, cube / OWN, cube / OWN / "ledger", cube / OWN / "history", *nodes, *axes):
        for name in listings.names(folder):
            if name.startswith(".") and name.endswith(".partial"):
                remove_file(cube, folder / name)
    sealed = set(map(str, range(root.steps)))
    for layer in root.spec.layers:
        chunks = cube / layer.name / "c"
        for name in listings.names(chunks):
            if name not in sealed and name.isdecimal() and int(name) >= root.steps:
                remove_tree(chunks / str(int(name)), below=cube)
    lead_arrays(cube, root)


def lost_steps(cube: Path, root: Root, listings: Listings) -> list[str]:
    """Keys of sealed steps with a layer that has no file at all although its receipts name some.

    A commit that failed in version 0.1.0 could leave such steps. Only folders are listed; `verify` checks every file.

    Args:
        cube: The cube.
        root: Its root.
        listings: Listings of the cube's folders.

    Raises:
        CubeError: A part of the ledger is not there or cannot be read.
    """
    whole = set(map(str, range(root.steps)))
    lacking = {
        layer.name: set(map(int, whole.difference(listings.names(cube / layer.name / "c"))))
        for layer in root.spec.layers
    }
    some = set[int]().union(*lacking.values())
    if not some:
        return []
    ledger = Ledger(cube, root.ledger)
    keys = [key for key, row in ledger.sealed(whole=False).items() if row.slot in some]
    rows = ledger.entries(keys=keys)
    return [key for key, row in rows.items() if any(row.slot in lacking[name] for name in filled_layers(row))]


def note_moving(cube: Path, staging: Path, entries: Sequence[Entry]) -> None:
    """Record the slots to which staged steps are about to be moved, so that a later process can undo it."""
    slots = {str(entry.slot): entry.key for entry in entries}
    write_whole(staging / _MOVING, json.dumps(slots).encode(), below=cube)


def _give_back(cube: Path, staging: Path, steps: int, spec: CubeSpec) -> None:
    """Move steps back to staging that a run moved to slots but did not seal.

    Args:
        cube: The cube.
        staging: Folder of the run.
        steps: Number of sealed steps.
        spec: Spec of the cube.
    """
    note = staging / _MOVING
    if not note.exists():
        return
    for slot, key in json.loads(read_plain(note)).items():
        for layer in spec.layers if int(slot) >= steps else ():
            source, target = StagedStep(staging / key).layer_folder(layer.name), cube / layer.name / "c" / slot
            if target.exists() and not source.exists():
                make_folder(cube, source.parent)
                move(cube, target, source)
                sync_folder(source.parent)


# The committer: only it changes what readers of a cube can see.
#
# Append is one atomic rename. Shards wait in staging; :meth:`CubeWriter.commit` moves them into slots beyond the
# sealed length, where no reader looks, writes coordinates and ledger, and then replaces the root ``zarr.json``.
# If it dies in the middle, the old root is still in place, and everything beyond its length is removed before its slot
# is used.
#
# A change is begun once. Anything that interrupts it (a full disk, an I/O error, Ctrl-C) ends the writer: it commits
# and removes nothing more. :meth:`CubeWriter.recover` repairs the half-done change when the cube is next opened for
# writing.


@dataclass(frozen=True)
class FinishedStep:
    """A staged step with all its blocks, and its row for the ledger."""

    staged: StagedStep
    entry: Entry


def _require_no_home(path: Path) -> None:
    """Refuse to make a folder called ``~``, which one day is removed together with the home.

    Raises:
        BadInputError: The first folder of the path that would be made has such a name.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    if made and made[-1] != path and made[-1].name.startswith("~"):
        raise BadInputError(
            f"{path}: a folder called {made[-1].name} would be made; only shells fill in a home: write the whole path"
        )


@contextmanager
def open_writer(
    path: Path, spec: CubeSpec, verdict: Verdict | None = None, owner: Owner | None = None
) -> Iterator[CubeWriter]:
    """Lock a cube for writing, and create it if there is none.

    Args:
        path: The cube.
        spec: The expected spec; compared with that of an existing cube.
        verdict: See :class:`stac2cube.store.lock.CubeLock`.
        owner: Owner of the lock, this process if None. Files staged earlier by jobs with the owner's token are kept,
            also if the block fails.

    Raises:
        CubeMismatchError: The cube has another spec; nothing was changed.
        CubeLockedError: Another process writes it.
        BadInputError: The path holds something else or cannot be written.
    """
    _require_no_home(path)
    path = path.resolve()  # a generation replaces the cube, not a link to it
    if path.exists():
        refuse_links_in_cube(path)
        generation.require_present(path)
        # The spec is compared before locking: a refused run leaves no trace, not even of a lock.
        read_root(path).spec.require_same(spec, str(path))
    writer: CubeWriter | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with CubeLock(path, owner, verdict) as lock:
            generation.finish_swap(path)  # only now: folders beside the cube may be in use by another writer
            if not path.exists():
                create_cube(path, spec, lock)
            lock.acquire_inside()  # for a cube that a killed swap had left without its name
            writer = CubeWriter(path, lock, resumes=owner is not None)
            writer.root.spec.require_same(spec, str(path))
            writer.recover()
            try:
                yield writer
            except BaseException:
                if writer.sound and owner is None:
                    writer.clear_staging()
                raise
            if not writer.handed_over:
                writer.clear_staging()
    except OSError as error:
        # Other errors that did not end a change do not come from writing the cube: they keep their messages.
        ended_a_change = writer is not None and not writer.sound
        if ended_a_change or isinstance(error, PermissionError) or error.errno in DISK_ERRORS:
            raise cannot_be_written(path, error) from error
        raise


class CubeWriter:
    """A cube locked for writing. Created by :func:`open_writer`.

    Args:
        path: The cube.
        lock: Its lock, held.
        resumes: Whether files staged under the lock's token survive a failure, for another process of its owner.

    Attributes:
        path: The cube.
        root: The root as found, or as last written by this writer.
        spec: Spec of the cube.
        stager: Prepares staged steps under this writer's token.
        handed_over: Whether the lock was passed to jobs.
        sound: False during a change, and permanently after a failed one: nothing more is committed then.
    """

    def __init__(self, path: Path, lock: CubeLock, *, resumes: bool = False) -> None:
        self.path = path
        self.sound = True
        self._lock = lock
        self._listings = Listings()
        self._resumes = resumes
        self.root = read_root(path)
        self.spec = self.root.spec
        self.stager = Stager(staging_folder(path, lock.owner.token), self.spec)
        self.handed_over = False

    @property
    def ledger(self) -> Ledger:
        """The ledger of the present state."""
        return Ledger(self.path, self.root.ledger)

    def hand_over(self, owner: Owner) -> None:
        """Leave the cube to jobs that stage blocks and seal them, see :mod:`stac2cube.build.array_job`."""
        make_folder(self.path, staging_folder(self.path, owner.token))
        self._lock.hand_over(owner)
        self.handed_over = True

    def clear_staging(self) -> None:
        """Remove files staged under this writer's token; those of others stay."""
        remove_tree(self.stager.folder, below=self.path)
        with suppress(OSError), open_folder(self.path, self.path / OWN) as own:
            os.rmdir(self.stager.folder.parent.name, dir_fd=own)

    def recover(self) -> None:
        """Repair the leftovers of a writer that failed or died; see :mod:`stac2cube.store.writer`.

        Raises:
            CubeError: The root is older than the last commit: later steps would be removed.
        """
        require_last_root(self.path, self.root, self._listings)
        recover(self.path, self.root, self.stager.folder, self._listings, resumes=self._resumes)

    def lost_steps(self) -> list[str]:
        """Keys of sealed steps without their pixels; see :func:`stac2cube.store.writer.lost_steps`."""
        lost = lost_steps(self.path, self.root, self._listings)
        self._listings.forget()  # last use; the names of a large cube take megabytes
        return lost

    def commit(
        self, finished: Sequence[FinishedStep], noted: Sequence[Entry] = (), request: Mapping[str, Any] | None = None
    ) -> Root:
        """Seal finished steps, and record those that failed or are empty, all or nothing.

        Args:
            finished: Steps with all blocks staged.
            noted: Rows that take no slot.
            request: New defaults for the next update, None to keep the old.

        Returns:
            The new root.
        """
        with self._change():
            passing("commit.begin")
            first = self.root.steps
            steps = first + len(finished)
            entries = [
                replace(step.entry, status=SEALED, slot=slot, commit=self.root.commit + 1)
                for slot, step in enumerate(finished, start=first)
            ]
            if self._resumes and entries:
                note_moving(self.path, self.stager.folder, entries)
            for entry, step in zip(entries, finished, strict=True):
                move_step_in(self.path, step.staged, entry, self.spec)
                passing("commit.step-moved")
            write_coordinates(self.path, self.root, entries)
            passing("commit.coordinates-written")
            require_in_place(self.path, entries)
            others = [replace(entry, slot=None, commit=self.root.commit + 1) for entry in noted]
            self._publish(self.root.following(steps), [*entries, *others], request)
            for step in finished:
                remove_tree(step.staged.folder, below=self.path)
            passing("commit.done")
        return self.root

    def replace(self, finished: Mapping[int, FinishedStep]) -> Root:
        """Replace pixels and rows of sealed steps, by a new generation of hard links.

        Args:
            finished: Slot -> its new step.

        Returns:
            The new root.
        """
        for slot in finished:
            if not 0 <= slot < self.root.steps:
                raise CubeError(f"{self.path} has no step in slot {slot}")
        number = self.root.commit + 1
        entries = {
            slot: replace(step.entry, status=SEALED, slot=slot, commit=number) for slot, step in finished.items()
        }

        def change(new: Path) -> None:
            for slot, step in finished.items():
                take_over(new, step.staged, entries[slot], self.spec)
            write_coordinates(new, self.root, list(entries.values()))
            require_in_place(new, list(entries.values()))

        root, what = self.root.following(self.root.steps), {"made anew": len(entries)}
        return self.regenerate(root, list(entries.values()), change, what=what)

    def regenerate(
        self,
        root: Root,
        entries: Sequence[Entry],
        change: Callable[[Path], None],
        *,
        what: Mapping[str, int],
        parts: Sequence[str] | None = None,
    ) -> Root:
        """Make the next generation of hard links and swap it in, all or nothing.

        Args:
            root: Its root; generation and number of the commit follow the present ones.
            entries: Rows to add to the ledger.
            change: Called with its folder, to change it.
            what: Changes and their counts, for the history.
            parts: Ledger parts to start from; the present ones if None.

        Returns:
            The new root.
        """
        require_renamable(self.path, "this")
        number, made = self.root.commit + 1, self.root.generation + 1
        before = list(self.root.ledger if parts is None else parts)

        def whole(new: Path) -> None:
            change(new)
            following = root.following(root.steps, generation=made, commit=number)
            publish(new, following, entries, self._lock, before=before, changed=what)

        with self._change():
            generation.swap_in(self.path, whole)
            self.root = read_root(self.path)
            self.spec = self.root.spec
        return self.root

    def name_year(self, year: int, store: str | None, steps: int) -> Root:
        """Add or remove the store of a sealed year, for readers.

        Args:
            year: Year, UTC.
            store: Name of its folder among the cube's years; None removes the year.
            steps: Number of its steps, for the history.

        Returns:
            The new root.
        """
        years = {str(known): name for known, name in {**self.root.years, year: store}.items() if name}
        root = self.root.following(self.root.steps, years=years)
        what = {f"steps of {year} sealed deep": steps} if store else {f"store of {year} forgotten": 1}
        with self._change():
            self._publish(root, (), changed=what)
            passing("year.sealed")
        return self.root

    def succeed(self, made: Path) -> Root:
        """Replace this cube by one that was built beside it, as its next generation.

        Args:
            made: The other cube, complete, in the same folder; it is removed afterwards. This cube takes over its
                recipe and keeps its own history.

        Returns:
            The new root.
        """
        number, successor = self.root.commit + 1, read_root(made)
        rows = Ledger(made, successor.ledger).entries().values()
        entries = [replace(row, commit=number) for row in rows]

        def change(new: Path) -> None:
            for old in new.iterdir():
                if old.name != OWN:
                    remove_tree(old) if old.is_dir() else old.unlink()
            # By links: if anything fails from here on, the other cube is still complete for the next try.
            for part in made.iterdir():
                if part.is_dir() and part.name != OWN:
                    generation.link_tree(part, new / part.name)
            os.link(made / "zarr.json", new / "zarr.json")
            require_in_place(new, [entry for entry in entries if entry.status == SEALED])

        root = self.regenerate(successor, entries, change, what={"made by another recipe": len(entries)}, parts=())
        remove_tree(made)
        return root

    @contextmanager
    def _change(self) -> Iterator[None]:
        """A change of the cube, under the lock; after one that fails there can be no other.

        Raises:
            CubeError: An earlier change failed.
            CubeLockedError: The lock was taken away; nothing was changed.
        """
        if not self.sound:
            raise CubeError(
                f"{self.path}: writing it failed before, so this run commits nothing more. What was sealed is safe; "
                "run again to go on: what was left half done is put right then"
            )
        self.sound = False
        self._lock.require_held()
        yield
        self.sound = True

    def _publish(
        self,
        root: Root,
        entries: Sequence[Entry],
        request: Mapping[str, Any] | None = None,
        changed: Mapping[str, int] | None = None,
    ) -> None:
        """Commit a new root of the cube."""
        publish(self.path, root, entries, self._lock, before=self.root.ledger, request=request, changed=changed)
        self.root, self.spec = root, root.spec


def staging_folder(cube: Path, token: str) -> Path:
    """The folder in which the owner of a token stages blocks."""
    return cube / OWN / "staging" / token
