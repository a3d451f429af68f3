"""The end of the one loop: finished steps are sealed, often, so that a kill loses little."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stac2cube.cube.ledger import EMPTY, FAILED, Entry
from stac2cube.cube.rearrange import arrange
from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.writer import CubeWriter, FinishedStep
from stac2cube.filling import OpenStep
from stac2cube.progress import counted
from stac2cube.work import Step, Summary

log = logging.getLogger(__name__)

SEAL_STEPS = 8
"""Finished steps that wait at most for a commit."""

SEAL_SECONDS = 20.0
"""Time a finished step waits at most, so that a kill loses little."""


class Sealer:
    """Gathers finished steps and commits them often.

    Args:
        writer: The cube, held.
        summary: Told what was done.
        known: The ledger's rows of the steps, by key.
        request: Defaults for the next update, written with the first commit.
        slots: Slots of sealed steps to be replaced, by key.
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
        """What the cube is."""
        return self.writer.spec

    def begin(self, step: Step) -> OpenStep:
        """A step of which blocks are about to be handed out; one that no block touches is empty at once."""
        begun = OpenStep(step, self.writer.stager.step(step.entry.key))
        if not step.tiles:
            self.received(begun)
        return begun

    def received(self, step: OpenStep) -> None:
        """A receipt was added to a step: if it was the last, the step waits for the next commit."""
        if len(step.receipts) < len(step.step.tiles):
            return
        self.settled += 1
        # What a task found of a step is said once, as the step's.
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
        """A step failed: recorded, unless that is no news."""
        self.settled += 1
        self._summary.failed[step.entry.key] = reason
        old = self._known.get(step.entry.key)
        if step.entry.key in self._slots or (old and (old.status, old.reason) == (FAILED, reason)):
            return  # a sealed step stays what it is; the same failure again is no news
        self._noted.append(replace(step.entry, status=FAILED, reason=reason))

    def seal(self) -> None:
        """Commit what is ready. What is handed to a commit is never handed to another, however it ends."""
        ready, noted = self._ready, self._noted
        self._ready, self._noted = [], []
        if ready or noted or dict(self.writer.spec.request) != dict(self._request):
            self.writer.commit(ready, noted, self._request)
            self._summary.sealed += [step.entry.key for step in ready]
            log.info("sealed %s of %s, commit %d", counted(len(ready), "step"), self._name, self.writer.root.commit)
        self._since = time.monotonic()

    def end(self) -> None:
        """Commit what is ready, and swap in what was made anew; nothing after a commit that failed."""
        if not self.writer.sound:
            return
        self.seal()
        self._renew()

    def _renew(self) -> None:
        """Swap in what replaces sealed steps: once, at the end, because staging goes with the old generation.

        Steps that were made anew and hold nothing any more lose their slots.
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
    """A step made anew: the ledger keeps the ids of the items that it was made from before."""
    before = {*old.properties.get("replaced_items", ()), *old.items} - set(entry.items)
    return replace(entry, properties={**entry.properties, "replaced_items": sorted(before)}) if before else entry


def _measured(entry: Entry, spec: CubeSpec) -> dict[str, float]:
    """What the blocks of a step tell of it as a whole: valid pixels per pixel of the grid, and the task's own means."""
    valid: dict[str, int] = {}
    sums: dict[str, tuple[float, float]] = {}
    for receipt in entry.receipts:
        for shard in receipt.shards:
            valid[shard.layer] = valid.get(shard.layer, 0) + shard.valid
        for name, (total, weight) in receipt.means.items():
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + total, before[1] + weight)
    pixels = spec.grid.shape[0] * spec.grid.shape[1]
    means = {name: round(total / weight, 6) for name, (total, weight) in sums.items() if weight}
    return {"valid_fraction": round(max(valid.values(), default=0) / pixels, 6), **means}
