"""The middle of the one loop: blocks are handed to an executor, receipts come back to whoever gathers them."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol

from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.staging import Receipt, StagedStep, write_block
from stac2cube.errors import ProgramError, Stac2cubeError
from stac2cube.faults import Beginning, Failures, fault_of, framed, last_frame
from stac2cube.flow import Flow
from stac2cube.grid import Tile
from stac2cube.work import Block, Measured, Step, Task

log = logging.getLogger(__name__)


class OpenStep:
    """A step whose blocks are being made.

    Attributes:
        step: The step.
        staged: Where its shards gather.
        receipts: Of the blocks made so far.
        failure: Why it failed, "" if it did not.
    """

    def __init__(self, step: Step, staged: StagedStep) -> None:
        self.step = step
        self.staged = staged
        self.receipts: list[Receipt] = []
        self.failure = ""


class Gatherer(Protocol):
    """Who takes what comes back from the workers."""

    @property
    def spec(self) -> CubeSpec:
        """What the cube is."""
        ...

    def begin(self, step: Step) -> OpenStep:
        """A step of which blocks are about to be handed out."""
        ...

    def received(self, step: OpenStep) -> None:
        """A receipt was added to a step."""
        ...

    def failed(self, step: Step, reason: str) -> None:
        """A block of a step could not be made; told once per step."""
        ...

    def end(self) -> None:
        """No more will come, whatever the reason: a failure of its own among them, after which it does nothing."""
        ...


def fill(steps: Sequence[Step], task: Task, executor: Executor, gatherer: Gatherer, flow: Flow) -> None:
    """Hand out blocks, at most so many at a time, and gather receipts until all steps are settled or the flow ends.

    Raises:
        ProgramError: The first blocks of several steps all ended in the same fault of the program.
        BaseException: Whatever else ended it early. What was finished before is sealed, unless it was sealing that
            failed.
    """
    spec = replace(gatherer.spec, recipe={}, request={})  # workers need the layout only

    def submit(block: tuple[OpenStep, Tile]) -> Future[Receipt]:
        step, tile = block
        return executor.submit(_make_block, task, step.step.payload, spec, step.staged, tile)

    failures, beginning = Failures(), Beginning()
    try:
        with closing(flow.handed_out(_blocks(steps, gatherer), submit)) as coming:
            for (step, _), future in coming:
                reason = _settle(future, step, gatherer, flow, failures)
                error = future.exception()
                if beginning.hopeless(step.step.entry.key, fault_of(error) if error else ""):
                    raise ProgramError(f"all blocks so far ended alike, the others are not tried: {reason}")
    except BaseException:
        try:
            gatherer.end()
        except (Stac2cubeError, OSError) as error:
            # The first error is the reason; this one is most often its echo.
            log.warning("what was finished could not be sealed: %s", error)
        raise
    finally:
        failures.close()
    gatherer.end()


def _blocks(steps: Sequence[Step], gatherer: Gatherer) -> Iterator[tuple[OpenStep, Tile]]:
    """Every block to make, step by step; a step that failed gives no further ones."""
    for step in steps:
        begun = gatherer.begin(step)
        for tile in step.tiles:
            if begun.failure:
                break
            yield begun, tile


def _settle(future: Future[Receipt], step: OpenStep, gatherer: Gatherer, flow: Flow, failures: Failures) -> str:
    """Gather what came of a block; why it failed, "" if it did not."""
    if not (reason := flow.failure(future)):
        receipt = future.result()
        flow.made(receipt.seconds)
        step.receipts.append(receipt)
        gatherer.received(step)
        return ""
    flow.progress.advance()
    if not step.failure:
        step.failure = reason
        error = future.exception()
        failures.tell(step.step.entry.key, reason, last_frame(error) if error else "")
        gatherer.failed(step.step, reason)
    return reason


def _make_block(task: Task, payload: Any, spec: CubeSpec, staged: StagedStep, tile: Tile) -> Receipt:
    """Runs on a worker: make the pixels of one block and stage them."""
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
