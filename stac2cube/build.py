"""The one loop that fills what the ledger lacks, wherever it is told to run: plan, fill, seal."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from stac2cube.cube.files import DISK_ERRORS
from stac2cube.cube.ledger import EMPTY, FAILED, Entry
from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.staging import Receipt, StagedStep, write_block
from stac2cube.cube.writer import CubeWriter, FinishedStep, open_writer
from stac2cube.errors import BadInputError, CubeError
from stac2cube.flow import Flow
from stac2cube.grid import Tile
from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.work import Block, Orders, Step, Summary, Task, known_entries, plan

log = logging.getLogger(__name__)

SEAL_STEPS = 8
"""Finished steps that wait at most for a commit."""

SEAL_SECONDS = 20.0
"""Time a finished step waits at most, so that a kill loses little."""


def build(
    path: Path,
    spec: CubeSpec,
    steps: Sequence[Step],
    task: Task,
    place: Place,
    *,
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Make the steps that a cube lacks and seal them, creating the cube if there is none.

    Args:
        path: The cube.
        spec: What it must be.
        steps: All steps wanted; those present are left alone.
        task: Makes one block.
        place: Where blocks are made.
        orders: How to behave.
        progress: Told of every block.

    Raises:
        CubeMismatchError: The cube was made otherwise; nothing was changed.
        CubeLockedError: Somebody else is writing it.
        BadInputError: The path cannot be written, or the disk is full; what was sealed stays.
    """
    orders, progress = orders or Orders(), progress or Progress()
    begun = time.monotonic()
    with open_writer(path, spec, orders.verdict) as writer:
        known = known_entries(path, steps)
        work = plan(steps, known)
        summary = Summary(present=list(work.present), superseded=[step.entry.key for _, step in work.superseded])
        todo = list(work.todo)
        slots = {}
        if orders.superseded == "replace":
            slots = {step.entry.key: slot for slot, step in work.superseded}
            todo += [step for _, step in work.superseded]
        if todo:
            sealer = _Sealer(writer, summary, known, spec.request, slots)
            flow = Flow(place, orders, progress)
            with place.open() as executor, progress.over(sum(len(step.tiles) for step in todo)):
                _fill(todo, task, executor, sealer, flow)
            summary.stopped = flow.stopped and sealer.settled < len(todo)
        elif dict(writer.spec.request) != dict(spec.request):
            writer.commit((), (), spec.request)
    summary.seconds = time.monotonic() - begun
    return summary


class _Open:
    """A step whose blocks are being made."""

    def __init__(self, step: Step, staged: StagedStep) -> None:
        self.step = step
        self.staged = staged
        self.receipts: list[Receipt] = []
        self.failure = ""

    @property
    def settled(self) -> bool:
        return len(self.receipts) == len(self.step.tiles)


class _Sealer:
    """Gathers finished steps and commits them often."""

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
        self._since = time.monotonic()
        self.settled = 0

    def finished(self, open_step: _Open) -> None:
        self.settled += 1
        entry = replace(open_step.step.entry, receipts=tuple(sorted(open_step.receipts, key=lambda r: r.tile)))
        if any(shard.valid for receipt in entry.receipts for shard in receipt.shards):
            step = FinishedStep(open_step.staged, entry)
            if entry.key in self._slots:
                self._renewed[self._slots[entry.key]] = step
            else:
                self._ready.append(step)
        else:
            self._noted.append(replace(entry, status=EMPTY, reason="no valid pixel over the area"))
            self._summary.empty.append(entry.key)
        if len(self._ready) >= SEAL_STEPS or time.monotonic() - self._since > SEAL_SECONDS:
            self.seal()

    def failed(self, step: Step, reason: str) -> None:
        self.settled += 1
        log.warning("%s failed: %s", step.entry.key, reason)
        self._summary.failed[step.entry.key] = reason
        old = self._known.get(step.entry.key)
        if step.entry.key in self._slots or (old and (old.status, old.reason) == (FAILED, reason)):
            return  # a sealed step stays what it is; the same failure again is no news
        self._noted.append(replace(step.entry, status=FAILED, reason=reason))

    def seal(self) -> None:
        """Commit what is ready."""
        if self._ready or self._noted or dict(self.writer.spec.request) != dict(self._request):
            self.writer.commit(self._ready, self._noted, self._request)
            self._summary.sealed += [step.entry.key for step in self._ready]
            log.info("sealed %d step(s), commit %d", len(self._ready), self.writer.root.commit)
        self._ready, self._noted = [], []
        self._since = time.monotonic()

    def renew(self) -> None:
        """Swap in what replaces sealed steps: once, at the end, because staging goes with the old generation."""
        if self._renewed:
            self.writer.replace(self._renewed)
            self._summary.replaced += [step.entry.key for step in self._renewed.values()]
            log.info("replaced %d step(s), generation %d", len(self._renewed), self.writer.root.generation)


def _fill(steps: Sequence[Step], task: Task, executor: Executor, sealer: _Sealer, flow: Flow) -> None:
    """Hand out blocks, at most so many at a time, and gather receipts until all steps are settled."""
    spec = replace(sealer.writer.spec, recipe={}, request={})  # workers need the layout only
    pending: dict[Future[Receipt], tuple[_Open, Tile]] = {}
    waiting = _blocks(steps, sealer)
    try:
        exhausted = False
        while pending or not exhausted:
            while not exhausted and flow.wants_more(len(pending)):
                following = next(waiting, None)
                if following is None:
                    exhausted = True
                    break
                open_step, tile = following
                future = executor.submit(_make_block, task, open_step.step.payload, spec, open_step.staged, tile)
                pending[future] = (open_step, tile)
            if flow.stopped:
                exhausted = True
            if flow.dropping:
                for future in pending:
                    future.cancel()
            done, _ = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                open_step, _tile = pending.pop(future)
                _settle(future, open_step, sealer, flow)
    finally:
        for future in pending:
            future.cancel()
        sealer.seal()
        sealer.renew()


def _blocks(steps: Sequence[Step], sealer: _Sealer) -> Iterator[tuple[_Open, Tile]]:
    """Every block to make, step by step; a step that failed gives no further ones."""
    for step in steps:
        open_step = _Open(step, sealer.writer.stager.step(step.entry.key))
        if not step.tiles:
            sealer.finished(open_step)
        for tile in step.tiles:
            if open_step.failure:
                break
            yield open_step, tile


def _settle(future: Future[Receipt], open_step: _Open, sealer: _Sealer, flow: Flow) -> None:
    try:
        receipt = future.result()
        open_step.receipts.append(receipt)
        flow.made(receipt.seconds)
    except CancelledError:
        if not flow.dropping:
            raise  # not by us: the place is lost, and says why when it closes
    except (CubeError, BadInputError):
        raise  # the stage itself is wrong: every other block would fail alike
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        _fail(open_step, sealer, error, flow)
    except Exception as error:  # noqa: BLE001 - whatever a block dies of is recorded, and the others go on
        _fail(open_step, sealer, error, flow)
    else:
        if open_step.settled:
            sealer.finished(open_step)


def _fail(open_step: _Open, sealer: _Sealer, error: Exception, flow: Flow) -> None:
    flow.progress.advance()
    if not open_step.failure:
        known = type(error).__module__.startswith("stac2cube")
        open_step.failure = flow.explain(error) or (str(error) if known else f"{type(error).__name__}: {error}")
        sealer.failed(open_step.step, open_step.failure)


def _make_block(task: Task, payload: Any, spec: CubeSpec, staged: StagedStep, tile: Tile) -> Receipt:
    """Runs on a worker: make the pixels of one block and stage them."""
    begun = time.perf_counter()
    shards = write_block(staged, spec, tile, task(payload, Block(spec.grid, tile)))
    return Receipt(
        tile=tile,
        shards=shards,
        seconds=round(time.perf_counter() - begun, 3),
        host=os.environ.get("SLURMD_NODENAME", "") or socket.gethostname(),
        job=os.environ.get("SLURM_JOB_ID", ""),
    )
