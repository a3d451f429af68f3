"""The build loop: blocks go to an executor, receipts come back, finished steps are committed."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from stac2cube.build.plan import Block, BuildOptions, Measured, Step, Summary, Task, known_entries, plan
from stac2cube.build.scheduler import Beginning, Failures, Scheduler, fault_of, framed, last_frame
from stac2cube.build.status import require_room
from stac2cube.errors import ProgramError, Stac2cubeError
from stac2cube.executors.base import Place
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.grid import Tile
from stac2cube.progress import Progress, counted
from stac2cube.store.files import require_renamable
from stac2cube.store.ledger import EMPTY, FAILED, Entry
from stac2cube.store.metadata import read_root
from stac2cube.store.repair import arrange
from stac2cube.store.staging import Receipt, StagedStep, write_block
from stac2cube.store.writer import CubeWriter, FinishedStep, open_writer

# The core of the build loop: blocks are submitted to an executor, receipts go to a sink.


class OpenStep:
    """A step whose blocks are being made.

    Attributes:
        step: The step.
        staged: Folder of its shards.
        receipts: Receipts of the blocks made so far.
        failure: Reason of its failure, "" if it did not fail.
    """

    def __init__(self, step: Step, staged: StagedStep) -> None:
        self.step = step
        self.staged = staged
        self.receipts: list[Receipt] = []
        self.failure = ""


class Sink(Protocol):
    """Receives the results of the workers."""

    @property
    def spec(self) -> CubeSpec:
        """The spec of the cube."""
        ...

    def begin(self, step: Step) -> OpenStep:
        """Start a step whose blocks are about to be submitted."""
        ...

    def received(self, step: OpenStep) -> None:
        """Handle a new receipt of a step."""
        ...

    def failed(self, step: Step, reason: str) -> None:
        """Handle the failure of a step; called once per step."""
        ...

    def end(self) -> None:
        """Finish, because no more results will come; does nothing if the sink itself has failed."""
        ...


def run_blocks(steps: Sequence[Step], task: Task, executor: Executor, gatherer: Sink, scheduler: Scheduler) -> None:
    """Submit blocks, a bounded number at a time, and collect receipts until all steps are settled or the build ends.

    Raises:
        ProgramError: The first blocks of several steps all ended in the same fault of the program.
        BaseException: Any other reason for an early end. Steps finished before are sealed, unless sealing itself
            failed.
    """
    spec = replace(gatherer.spec, recipe={}, request={})  # workers need grid and layers only

    def submit(block: tuple[OpenStep, Tile]) -> Future[Receipt]:
        step, tile = block
        return executor.submit(_make_block, task, step.step.payload, spec, step.staged, tile)

    failures, beginning = Failures(), Beginning()
    try:
        with closing(scheduler.handed_out(_blocks(steps, gatherer), submit)) as coming:
            for (step, _), future in coming:
                reason = _settle(future, step, gatherer, scheduler, failures)
                error = future.exception()
                if beginning.hopeless(step.step.entry.key, fault_of(error) if error else ""):
                    raise ProgramError(
                        f"all blocks so far failed with the same error, the others are not tried: {reason}"
                    )
    except BaseException:
        try:
            gatherer.end()
        except (Stac2cubeError, OSError) as error:
            # The first error is the cause; this one is usually a consequence.
            log.warning("what was finished could not be sealed: %s", error)
        raise
    finally:
        failures.close()
    gatherer.end()


def _blocks(steps: Sequence[Step], gatherer: Sink) -> Iterator[tuple[OpenStep, Tile]]:
    """Every block to make, step by step; a failed step yields no more blocks."""
    for step in steps:
        begun = gatherer.begin(step)
        for tile in step.tiles:
            if begun.failure:
                break
            yield begun, tile


def _settle(future: Future[Receipt], step: OpenStep, gatherer: Sink, scheduler: Scheduler, failures: Failures) -> str:
    """Handle the result of a block; returns the reason of its failure, "" if it did not fail."""
    if not (reason := scheduler.failure(future)):
        receipt = future.result()
        scheduler.made(receipt.seconds)
        step.receipts.append(receipt)
        gatherer.received(step)
        return ""
    scheduler.progress.advance()
    if not step.failure:
        step.failure = reason
        error = future.exception()
        failures.tell(step.step.entry.key, reason, last_frame(error) if error else "")
        gatherer.failed(step.step, reason)
    return reason


def _make_block(task: Task, payload: Any, spec: CubeSpec, staged: StagedStep, tile: Tile) -> Receipt:
    """Make the pixels of one block and stage them; runs on a worker."""
    begun = time.perf_counter()
    with framed():
        pixels = task(payload, Block(spec.grid, tile))
        shards = write_block(staged, spec, tile, pixels)
    return Receipt(
        tile=tile,
        shards=shards,
        seconds=round(time.perf_counter() - begun, 3),
        host=os.environ.get("SLURMD_NODENAME", "") or socket.gethostname(),
        job=os.environ.get("SLURM_JOB_ID", ""),
        means=pixels.means if isinstance(pixels, Measured) else {},
        facts=pixels.facts if isinstance(pixels, Measured) else {},
    )


# Sealing of finished steps, often, so that a kill loses little.

SEAL_STEPS = 8
"""Maximum number of finished steps that wait for a commit."""

SEAL_SECONDS = 20.0
"""Maximum time that a finished step waits for a commit, so that a kill loses little."""


class CommitSink:
    """Gathers finished steps and commits them often.

    Args:
        writer: The writer of the cube.
        summary: Receives what was done.
        known: The ledger's rows of the steps, by key.
        request: Defaults for the next update, written with the first commit.
        slots: Slots of sealed steps to replace, by key.
    """

    def __init__(
        self,
        writer: CubeWriter,
        summary: Summary,
        known: Mapping[str, Entry],
        request: Mapping[str, Any],
        slots: Mapping[str, int],
    ) -> None:
        self.writer = writer
        self._summary = summary
        self._known = known
        self._request = request
        self._slots = slots
        self._ready: list[FinishedStep] = []
        self._renewed: dict[int, FinishedStep] = {}
        self._noted: list[Entry] = []
        self._emptied: dict[str, Entry] = {}
        self._since = time.monotonic()
        self.settled = 0

    @property
    def spec(self) -> CubeSpec:
        """The spec of the cube."""
        return self.writer.spec

    def begin(self, step: Step) -> OpenStep:
        """Start a step whose blocks are about to be submitted; a step without blocks is finished as empty."""
        begun = OpenStep(step, self.writer.stager.step(step.entry.key))
        if not step.tiles:
            self.received(begun)
        return begun

    def received(self, step: OpenStep) -> None:
        """Handle a new receipt of a step: after the last one, the step waits for the next commit."""
        if len(step.receipts) < len(step.step.tiles):
            return
        self.settled += 1
        # Facts of a step are stored once, in its properties.
        facts = {name: value for receipt in step.receipts for name, value in receipt.facts.items()}
        receipts = (replace(receipt, facts={}) for receipt in step.receipts)
        entry = replace(step.step.entry, receipts=tuple(sorted(receipts, key=lambda r: r.tile)))
        entry = replace(entry, properties={**entry.properties, **_measured(entry, self.spec), **facts})
        if any(shard.valid for receipt in entry.receipts for shard in receipt.shards):
            finished = FinishedStep(step.staged, entry)
            if entry.key in self._slots:
                entry = _remembering(entry, self._known[entry.key])
                self._renewed[self._slots[entry.key]] = FinishedStep(step.staged, entry)
            else:
                self._ready.append(finished)
        else:
            entry = replace(entry, status=EMPTY, reason=entry.reason or "no valid pixel over the area")
            self._summary.empty[entry.key] = entry.reason
            if entry.key in self._slots:
                self._emptied[entry.key] = _remembering(entry, self._known[entry.key])
            else:
                self._noted.append(entry)
        if len(self._ready) >= SEAL_STEPS or time.monotonic() - self._since > SEAL_SECONDS:
            self.seal()

    @property
    def _name(self) -> str:
        return self.writer.path.name

    def failed(self, step: Step, reason: str) -> None:
        """Record a failed step, unless the ledger has the same failure."""
        self.settled += 1
        self._summary.failed[step.entry.key] = reason
        old = self._known.get(step.entry.key)
        if step.entry.key in self._slots or (old and (old.status, old.reason) == (FAILED, reason)):
            return  # a sealed step stays as it is; the same failure is recorded already
        self._noted.append(replace(step.entry, status=FAILED, reason=reason))

    def seal(self) -> None:
        """Commit what is ready. Steps passed to a commit are never passed to another, even if it fails."""
        ready, noted = self._ready, self._noted
        self._ready, self._noted = [], []
        if ready or noted or dict(self.writer.spec.request) != dict(self._request):
            self.writer.commit(ready, noted, self._request)
            self._summary.sealed += [step.entry.key for step in ready]
            log.info("sealed %s of %s, commit %d", counted(len(ready), "step"), self._name, self.writer.root.commit)
        self._since = time.monotonic()

    def end(self) -> None:
        """Commit what is ready, and swap in rebuilt steps; does nothing after a failed commit."""
        if not self.writer.sound:
            return
        self.seal()
        self._renew()

    def _renew(self) -> None:
        """Swap in replacements of sealed steps: once, at the end, because staging goes with the old generation.

        Rebuilt steps that are empty now lose their slots.
        """
        renewed, self._renewed = self._renewed, {}
        emptied, self._emptied = self._emptied, {}
        if renewed:
            self.writer.replace(renewed)
            self._summary.replaced += [step.entry.key for step in renewed.values()]
            generation = self.writer.root.generation
            log.info("replaced %s of %s, generation %d", counted(len(renewed), "step"), self._name, generation)
        if emptied:
            kept = [key for key in self.writer.ledger.sealed(whole=False) if key not in emptied]
            arrange(self.writer, kept, list(emptied.values()))
            generation = self.writer.root.generation
            log.info("took %s out of %s, generation %d", counted(len(emptied), "step"), self._name, generation)


def _remembering(entry: Entry, old: Entry) -> Entry:
    """The entry of a rebuilt step, with the ids of the items that it was made from before."""
    before = {*old.properties.get("replaced_items", ()), *old.items} - set(entry.items)
    return replace(entry, properties={**entry.properties, "replaced_items": sorted(before)}) if before else entry


def _measured(entry: Entry, spec: CubeSpec) -> dict[str, float]:
    """Properties of a step from all its blocks: fraction of valid pixels in the grid, and the means of the task."""
    valid: dict[str, int] = {}
    sums: dict[str, tuple[float, float]] = {}
    for receipt in entry.receipts:
        for shard in receipt.shards:
            valid[shard.layer] = valid.get(shard.layer, 0) + shard.valid
        for name, (total, weight) in receipt.means.items():
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + total, before[1] + weight)
    pixels = spec.grid.shape[0] * spec.grid.shape[1]
    # Beside floats, whole numbers are counts of observations, which say 0 where there is no data.
    floats = {layer.name for layer in spec.layers if math.isnan(layer.fill)}
    valid = {name: count for name, count in valid.items() if name in floats or not floats}
    means = {name: round(total / weight, 6) for name, (total, weight) in sums.items() if weight}
    return {"valid_fraction": round(max(valid.values(), default=0) / pixels, 6), **means}


# The build loop, for any place: plan, fill, seal.

log = logging.getLogger(__name__)


def build(
    path: Path,
    spec: CubeSpec,
    steps: Sequence[Step],
    task: Task,
    place: Place,
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Make the steps that a cube lacks and seal them; create the cube if there is none.

    Args:
        path: The cube.
        spec: The expected spec.
        steps: All steps wanted; steps already present are not changed.
        task: Makes one block.
        place: Where the work runs.
        options: Options of the build.
        progress: Receives every finished block.

    Raises:
        CubeMismatchError: The cube was made with other options; nothing was changed.
        CubeLockedError: Another process writes it.
        BadInputError: The path cannot be written, the cube would exceed its limits, or the disk is full; sealed steps
            stay.
    """
    options, progress = options or BuildOptions(), progress or Progress()
    begun = time.monotonic()
    before = read_root(path) if path.exists() else None
    known = known_entries(path, steps, before) if before else {}
    first = plan(steps, known, options.again)
    if options.superseded == "replace" and first.superseded:
        require_renamable(path, "replacing steps")
    require_room(path, spec, first, options, place)
    with open_writer(path, spec, options.verdict) as writer:
        if before is None or writer.root.document != before.document:  # created or changed before it was locked
            known = known_entries(path, steps, writer.root)
        lost = writer.lost_steps()
        work = plan(steps, known, {*options.again, *lost})
        _tell_of_lost(path, lost, steps)
        renewed = [
            (slot, step) for slot, step in work.superseded if options.superseded == "replace" or step.entry.key in lost
        ]
        summary = work.summary()
        slots = {step.entry.key: slot for slot, step in renewed}
        todo = [*work.todo, *(step for _, step in renewed)]
        if todo:
            sealer = CommitSink(writer, summary, known, spec.request, slots)
            scheduler = Scheduler(place, options, progress)
            with place.open() as executor, progress.over(sum(len(step.tiles) for step in todo)):
                run_blocks(todo, task, executor, sealer, scheduler)
            summary.stopped = scheduler.stopped and sealer.settled < len(todo)
        elif dict(writer.spec.request) != dict(spec.request):
            writer.commit((), (), spec.request)
    summary.seconds = time.monotonic() - begun
    return summary


def _tell_of_lost(path: Path, lost: Sequence[str], steps: Sequence[Step]) -> None:
    """Warn about sealed steps without their pixels: those that are wanted are rebuilt, the others need a repair."""
    wanted = {step.entry.key for step in steps}
    again, others = [key for key in lost if key in wanted], [key for key in lost if key not in wanted]
    if again:
        log.warning("%s: %s sealed without pixels are rebuilt: %s", path, counted(len(again), "step"), ", ".join(again))
    if others:
        log.warning(
            "%s: %s sealed have lost their pixels: stac2cube verify %s --repair",
            path,
            counted(len(others), "step"),
            path,
        )
