"""The committer: the only one that changes what readers of a cube can see.

Append is one atomic rename. Shards wait in staging; :meth:`CubeWriter.commit` moves them into slots beyond the sealed
length, where no reader looks, writes coordinates and ledger, and then replaces the root ``zarr.json``. Whatever dies in
the middle leaves the old root in place, and what lies beyond its length is purged before its slot is used.

A change of the cube is begun once. Whatever ends it early (a full disk, an I/O error, Ctrl-C) ends the writer: it
commits nothing more and removes nothing. What is half done is put right by :meth:`CubeWriter.recover` of whoever opens
the cube for writing next.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stac2cube.cube import generation
from stac2cube.cube.commit import publish
from stac2cube.cube.creation import create_cube
from stac2cube.cube.files import DISK_ERRORS, cannot_be_written, remove_tree
from stac2cube.cube.folders import make_folder, open_folder, refuse_links_in_cube, require_renamable
from stac2cube.cube.ledger import SEALED, Entry, Ledger
from stac2cube.cube.lock import CubeLock, Owner, Verdict
from stac2cube.cube.points import passing
from stac2cube.cube.records import require_last_root
from stac2cube.cube.recovery import lost_steps, note_moving, recover
from stac2cube.cube.root import OWN, Root, read_root
from stac2cube.cube.slots import move_in, require_in_place, take_over, write_coordinates
from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.staging import StagedStep, Stager
from stac2cube.errors import CubeError


@dataclass(frozen=True)
class FinishedStep:
    """A staged step all of whose blocks are in, and what the ledger shall say of it."""

    staged: StagedStep
    entry: Entry


@contextmanager
def open_writer(
    path: Path, spec: CubeSpec, verdict: Verdict | None = None, owner: Owner | None = None
) -> Iterator[CubeWriter]:
    """Hold a cube for writing, creating it if there is none.

    Args:
        path: The cube.
        spec: What it must be; the guard compares it with what is there.
        verdict: See :class:`stac2cube.cube.lock.CubeLock`.
        owner: Who holds it, this process if None. What jobs of the owner's token staged earlier is kept, also when the
            block fails.

    Raises:
        CubeMismatchError: The cube is another one; nothing was changed.
        CubeLockedError: Somebody else writes it.
        BadInputError: The path holds something else or cannot be written.
    """
    path = path.resolve()  # a generation takes the place of the cube, not of a link to it
    if path.exists():
        refuse_links_in_cube(path)
        generation.require_present(path)
        # The guard comes before the lock: a refused run leaves not even a lock's trace.
        read_root(path).spec.require_same(spec, str(path))
    writer: CubeWriter | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with CubeLock(path, owner, verdict) as lock:
            generation.finish_swap(path)  # only now: what lies beside the cube may be another writer's work
            if not path.exists():
                create_cube(path, spec, lock)
            lock.acquire_inside()  # of a cube that a killed swap had left without a name
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
        # An error of another kind, unless it ended a change, is not of writing the cube: it keeps its own words.
        ended_a_change = writer is not None and not writer.sound
        if ended_a_change or isinstance(error, PermissionError) or error.errno in DISK_ERRORS:
            raise cannot_be_written(path, error) from error
        raise


class CubeWriter:
    """A cube held for writing. Made by :func:`open_writer`.

    Args:
        path: The cube.
        lock: Its lock, held.
        resumes: Whether what was staged under the lock's token outlives a failure, for another process of its owner.

    Attributes:
        path: The cube.
        root: As this writer left it, or found it.
        spec: What the cube is.
        stager: Makes staged steps of this writer's token.
        handed_over: Whether the lock was given to jobs.
        sound: False from the beginning of a change to its end, and for good once one failed: nothing more is committed.
    """

    def __init__(self, path: Path, lock: CubeLock, *, resumes: bool = False) -> None:
        self.path = path
        self.sound = True
        self._lock = lock
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
        """Leave the cube to jobs that will stage blocks and seal them, see :mod:`stac2cube.shares`."""
        make_folder(self.path, staging_folder(self.path, owner.token))
        self._lock.hand_over(owner)
        self.handed_over = True

    def clear_staging(self) -> None:
        """Remove what this writer's token staged; that of others is theirs."""
        remove_tree(self.stager.folder, below=self.path)
        with suppress(OSError), open_folder(self.path, self.path / OWN) as own:
            os.rmdir(self.stager.folder.parent.name, dir_fd=own)

    def recover(self) -> None:
        """Put right what whoever failed or died here left; see :mod:`stac2cube.cube.recovery`.

        Raises:
            CubeError: The root is older than the last commit: later steps would be removed.
        """
        require_last_root(self.path, self.root)
        recover(self.path, self.root, self.stager.folder, resumes=self._resumes)

    def lost_steps(self) -> list[str]:
        """Keys of sealed steps without their pixels; see :func:`stac2cube.cube.recovery.lost_steps`."""
        return lost_steps(self.path, self.root)

    def commit(
        self, finished: Sequence[FinishedStep], noted: Sequence[Entry] = (), request: Mapping[str, Any] | None = None
    ) -> Root:
        """Seal finished steps, and note those that failed or hold nothing, all or nothing.

        Args:
            finished: Steps whose every block is staged.
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
                move_in(self.path, step.staged, entry, self.spec)
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
        """Put new pixels and rows in the place of sealed steps, by a new generation of hard links.

        Args:
            finished: Slot -> the step that takes it.

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
        """Make the next generation of hard links and let it take the cube's place, all or nothing.

        Args:
            root: What it says of itself; generation and number of the commit follow the present ones.
            entries: Rows that it adds to the ledger.
            change: Called with its folder, to do what is new in it.
            what: Is new in it, and how many, for the history.
            parts: Ledger parts that it begins with; the present ones if None.

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
        """Let readers find the store of a sealed year.

        Args:
            year: UTC.
            store: Name of its folder among the cube's years; None takes the year back.
            steps: It holds, for the history.

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
        """Let a cube that was built beside this one take its place, as its next generation.

        Args:
            made: The other cube, complete, in the same folder; it is gone afterwards. Its recipe becomes this cube's,
                whose history goes on.

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
            # By links: whatever fails from here on, the other cube stays whole for the next try.
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
        """A change of the cube: begun once, under the lock; one that does not come to its end is the last.

        Raises:
            CubeError: One failed before.
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
        """Make a new root the cube's."""
        publish(self.path, root, entries, self._lock, before=self.root.ledger, request=request, changed=changed)
        self.root, self.spec = root, root.spec


def staging_folder(cube: Path, token: str) -> Path:
    """Where the owner of a token stages blocks."""
    return cube / OWN / "staging" / token
