"""The one loop that fills what the ledger lacks, wherever it is told to run: plan, fill, seal."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from stac2cube.cube.folders import require_renamable
from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.writer import open_writer
from stac2cube.filling import fill
from stac2cube.flow import Flow
from stac2cube.growth import require_room
from stac2cube.places.place import Place
from stac2cube.progress import Progress, counted
from stac2cube.sealer import Sealer
from stac2cube.work import Orders, Step, Summary, Task, known_entries, plan

log = logging.getLogger(__name__)


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
        BadInputError: The path cannot be written, the cube would outgrow its limits, or the disk is full; what was
            sealed stays.
    """
    orders, progress = orders or Orders(), progress or Progress()
    begun = time.monotonic()
    first = plan(steps, known_entries(path, steps), orders.again)
    if orders.superseded == "replace" and first.superseded:
        require_renamable(path, "replacing steps")
    require_room(path, spec, first, orders, place)
    with open_writer(path, spec, orders.verdict) as writer:
        known, lost = known_entries(path, steps), writer.lost_steps()
        work = plan(steps, known, {*orders.again, *lost})
        _tell_of_lost(path, lost, steps)
        renewed = [
            (slot, step) for slot, step in work.superseded if orders.superseded == "replace" or step.entry.key in lost
        ]
        summary = Summary(present=list(work.present), superseded=[step.entry.key for _, step in work.superseded])
        slots = {step.entry.key: slot for slot, step in renewed}
        todo = [*work.todo, *(step for _, step in renewed)]
        if todo:
            sealer = Sealer(writer, summary, known, spec.request, slots)
            flow = Flow(place, orders, progress)
            with place.open() as executor, progress.over(sum(len(step.tiles) for step in todo)):
                fill(todo, task, executor, sealer, flow)
            summary.stopped = flow.stopped and sealer.settled < len(todo)
        elif dict(writer.spec.request) != dict(spec.request):
            writer.commit((), (), spec.request)
    summary.seconds = time.monotonic() - begun
    return summary


def _tell_of_lost(path: Path, lost: Sequence[str], steps: Sequence[Step]) -> None:
    """Sealed steps without their pixels are made anew where they are wanted; of the others people are told."""
    wanted = {step.entry.key for step in steps}
    again, others = [key for key in lost if key in wanted], [key for key in lost if key not in wanted]
    if again:
        log.warning(
            "%s: %s sealed without pixels are made anew: %s", path, counted(len(again), "step"), ", ".join(again)
        )
    if others:
        log.warning(
            "%s: %s sealed have lost their pixels: stac2cube verify %s --repair",
            path,
            counted(len(others), "step"),
            path,
        )
