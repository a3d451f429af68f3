"""A cube built by a job array: each job makes its share of the blocks, a last one seals the steps.

All jobs share the cube's lock. They write shards into the staging folder of their common token, and one file of
receipts per job. They communicate through shared files only, so a lost job costs only its own blocks.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stac2cube.build.loop import CommitSink, OpenStep, run_blocks
from stac2cube.build.plan import BuildOptions, Step, Summary, Task, known_entries, plan
from stac2cube.build.scheduler import Failures, Scheduler
from stac2cube.errors import CubeLockedError
from stac2cube.executors.base import Place
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.grid import Tile
from stac2cube.progress import Progress
from stac2cube.store.files import DISK_ERRORS, cannot_be_written, sync_folder
from stac2cube.store.lock import Owner, read_owner
from stac2cube.store.metadata import read_root
from stac2cube.store.staging import Receipt, Shard, StagedStep, Stager, shard_file
from stac2cube.store.writer import open_writer, staging_folder

log = logging.getLogger(__name__)

Receipts = dict[tuple[str, Tile], Receipt]
"""Receipts by step key and tile."""


@dataclass(frozen=True)
class ArrayLease:
    """The joint lock of some jobs on a cube.

    Attributes:
        job: The job that will seal; the cube belongs to the jobs as long as SLURM lists it.
        cluster: Name of its cluster.
    """

    job: str
    cluster: str = ""

    @property
    def owner(self) -> Owner:
        """The owner of the lock."""
        return Owner.of_jobs(f"jobs-{self.cluster}-{self.job}", self.job, self.cluster)


def lease_cube(path: Path, spec: CubeSpec, claim: ArrayLease, options: BuildOptions | None = None) -> None:
    """Lock a cube for some jobs, and create it if there is none.

    Raises:
        CubeMismatchError: The cube was made with other options; nothing was changed.
        CubeLockedError: Another process writes it.
        BadInputError: The path cannot be written.
    """
    with open_writer(path, spec, (options or BuildOptions()).verdict) as writer:
        writer.hand_over(claim.owner)


def build_part(
    path: Path,
    steps: Sequence[Step],
    task: Task,
    place: Place,
    claim: ArrayLease,
    share: tuple[int, int],
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Make one job's share of the blocks that a cube lacks; nothing is sealed yet.

    Args:
        path: The cube, claimed.
        steps: All steps wanted, the same in every job.
        task: Makes one block.
        place: Where the work runs.
        claim: The lock of the jobs.
        share: Number of the share, counted from 0, and number of shares.
        options: Options of the build.
        progress: Receives every finished block.

    Returns:
        A summary with failures and the stopped state only.

    Raises:
        CubeLockedError: The cube is not, or no longer, held by these jobs.
    """
    options, progress = options or BuildOptions(), progress or Progress()
    begun = time.monotonic()
    recorder = ReceiptSink(path, claim, share[0])
    todo = _share_of(plan(steps, known_entries(path, steps)).todo, share, recorder.made())
    summary = Summary()
    count = sum(len(step.tiles) for step in todo)
    log.info("share %d of %d: %d blocks to make", share[0] + 1, share[1], count)
    if todo:
        scheduler = Scheduler(place, options, progress)
        try:
            with place.open() as executor, progress.over(count):
                run_blocks(todo, task, executor, recorder, scheduler)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise cannot_be_written(path, error) from error
        summary.stopped = scheduler.stopped and recorder.received_count < count
    summary.failed = recorder.failures
    summary.seconds = time.monotonic() - begun
    return summary


def seal_parts(
    path: Path, spec: CubeSpec, steps: Sequence[Step], claim: ArrayLease, options: BuildOptions | None = None
) -> Summary:
    """Seal the steps whose blocks are all made, and release the cube.

    Steps that lack blocks, because a job was lost or ran out of time, are left to the next run. If sealing fails,
    the jobs' files stay until another process writes the cube, so sealing can be repeated.

    Raises:
        CubeLockedError: The cube is not, or no longer, held by these jobs.
    """
    begun = time.monotonic()
    held = read_owner(path) is not None
    if held or not staging_folder(path, claim.owner.token).exists():
        if not held and (done := _complete(path, steps)):
            return done
        _require_ours(path, claim)  # otherwise an earlier try to seal failed, and no other writer came since
    with open_writer(path, spec, (options or BuildOptions()).verdict, claim.owner) as writer:
        known = known_entries(path, steps)
        work = plan(steps, known)
        summary = work.summary()
        sealer = CommitSink(writer, summary, known, spec.request, {})
        (receipts, failures), told = _gathered(writer.stager.folder), Failures()
        for step in work.todo:
            key = step.entry.key
            made = OpenStep(step, StagedStep(writer.stager.folder / key))
            made.receipts = [
                receipts[key, tile]
                for tile in step.tiles
                if (key, tile) in receipts and not _lacking(made.staged, receipts[key, tile])
            ]
            if key in failures and len(made.receipts) < len(step.tiles):
                told.tell(key, failures[key])
                sealer.failed(step, failures[key])
            else:
                sealer.received(made)
        told.close()
        sealer.end()
        lacking = len(work.todo) - sealer.settled
        summary.stopped = lacking > 0
        if lacking:
            log.warning("%d step(s) lack blocks of jobs that were lost: the next run makes them", lacking)
    summary.seconds = time.monotonic() - begun
    return summary


class ReceiptSink:
    """Records the results of this job's workers in a file of its own."""

    def __init__(self, path: Path, claim: ArrayLease, number: int) -> None:
        self._path = path
        self._claim = claim
        _require_ours(path, claim)
        self.spec = read_root(path).spec
        folder = staging_folder(path, claim.owner.token)
        self._stager = Stager(folder, self.spec)
        self._file = folder / f"share-{number:04d}.jsonl"
        self.failures: dict[str, str] = {}
        self.received_count = 0

    def made(self) -> set[tuple[str, Tile]]:
        """Blocks made by an earlier start of this job."""
        return set(_read(self._file)[0])

    def begin(self, step: Step) -> OpenStep:
        """Start a step whose blocks are about to be submitted."""
        return OpenStep(step, self._stager.step(step.entry.key))

    def received(self, step: OpenStep) -> None:
        """Record a receipt durably."""
        _require_ours(self._path, self._claim)
        self.received_count += 1
        self._write({"key": step.step.entry.key, "receipt": asdict(step.receipts[-1])})

    def failed(self, step: Step, reason: str) -> None:
        """Record a failure."""
        self.failures[step.entry.key] = reason
        self._write({"key": step.entry.key, "failure": reason})

    def end(self) -> None:
        """Do nothing: results are recorded as they arrive."""

    def _write(self, line: dict[str, object]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            # A new line first: an earlier start of this job may have died in the middle of a line.
            file.write("\n" + json.dumps(line))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._file.parent)


def _lacking(staged: StagedStep, receipt: Receipt) -> bool:
    """Whether files named in a receipt are missing from staging; its block is then treated as not made."""
    files = [shard_file(staged.layer_folder(shard.layer), receipt.tile) for shard in receipt.shards if shard.size]
    lacking = [file for file in files if not file.exists()]
    for file in lacking:
        log.warning("%s is not there although a job wrote it", file)
    return bool(lacking)


def _complete(path: Path, steps: Sequence[Step]) -> Summary | None:
    """The summary of a cube that has all steps; None for others.

    A sealing job that is killed between the release of the cube and its own end may be started again.
    """
    work = plan(steps, known_entries(path, steps))
    if work.todo:
        return None
    log.info("all steps are sealed already: an earlier start of this job had done its work")
    return work.summary()


def _require_ours(path: Path, claim: ArrayLease) -> None:
    holder = read_owner(path)
    if holder is None or holder.token != claim.owner.token:
        raise CubeLockedError(
            f"{path} is not held by job {claim.job} but by {holder or 'nobody'}: these jobs came too late, or their "
            "cube was taken over. Submit again"
        )


def _share_of(steps: Sequence[Step], share: tuple[int, int], made: set[tuple[str, Tile]]) -> list[Step]:
    """Every n-th block, so that neighbours in time and space are spread over the jobs."""
    number, of = share
    mine, count = [], 0
    for step in steps:
        # Steps without blocks are settled when sealing.
        tiles = [tile for place, tile in enumerate(step.tiles, count) if place % of == number]
        count += len(step.tiles)
        tiles = [tile for tile in tiles if (step.entry.key, tile) not in made]
        if tiles:
            mine.append(replace(step, tiles=tuple(tiles)))
    return mine


def _gathered(folder: Path) -> tuple[Receipts, dict[str, str]]:
    receipts: Receipts = {}
    failures: dict[str, str] = {}
    for file in sorted(folder.glob("share-*.jsonl")):
        some, wrong = _read(file)
        receipts |= some
        failures |= wrong
    return receipts, failures


def _read(file: Path) -> tuple[Receipts, dict[str, str]]:
    receipts: Receipts = {}
    failures: dict[str, str] = {}
    for line in _lines(file):
        if "failure" in line:
            failures[line["key"]] = line["failure"]
            continue
        values = line["receipt"]
        shards = tuple(Shard(**{**shard, "tile": tuple(shard["tile"])}) for shard in values["shards"])
        receipt = Receipt(**{**values, "tile": tuple(values["tile"]), "shards": shards})
        receipts[line["key"], receipt.tile] = receipt
    return receipts, failures


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.exists():
        return
    for line in filter(None, file.read_text(encoding="utf-8").splitlines()):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            log.warning("%s holds half a line: its job died while writing it", file)
