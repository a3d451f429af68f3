"""Which patches there are: every window of every place and time, looked at once, with what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.cube.files import write_whole
from stac2cube.errors import BadInputError
from stac2cube.training.frames import Frame, Pixels, Source
from stac2cube.training.patch_rules import PatchRules
from stac2cube.training.splits import Splits, ground_bounds


@dataclass(frozen=True)
class Stack:
    """Frames of one place that make patches together.

    Attributes:
        frames: Oldest first, :attr:`PatchRules.stack` of them.
    """

    frames: tuple[Frame, ...]

    @property
    def key(self) -> str:
        """Unique in its source, and fit for a file name: without dots, which WebDataset takes for the end of a key."""
        first, last = self.frames[0], self.frames[-1]
        named = f"{first.place}_{first.key}" if first is last else f"{first.place}_{first.key}_to_{last.key}"
        return named.replace(".", "-").replace("/", "-")

    def read(self, rows: slice, columns: slice) -> Pixels:
        """A window of all frames, time before the other dimensions of :class:`stac2cube.training.frames.Pixels`.

        Raises:
            ReadError: A file is gone or damaged.
        """
        parts = [frame.pixels.read(rows, columns) for frame in self.frames]
        labels, cloudy = [part.labels for part in parts], [part.cloudy for part in parts]
        return Pixels(
            np.stack([part.values for part in parts]),
            None if any(label is None for label in labels) else np.stack(labels),  # type: ignore[arg-type]
            None if any(cloud is None for cloud in cloudy) else np.stack(cloudy),  # type: ignore[arg-type]
        )


def stacks_of(source: Source, rules: PatchRules) -> list[Stack]:
    """Frames gathered: each place's, in order of time, so many at a time; what is left over at the end makes none.

    With a split by time a stack never mixes the times of two splits: each split's frames are gathered apart.

    Raises:
        BadInputError: No place has frames enough, or is large enough for a patch.
    """
    made = []
    for _, group in groupby(source.frames, key=lambda frame: frame.place):
        frames = list(group)
        for chosen in _by_split(frames, rules.splits):
            whole = len(chosen) - len(chosen) % rules.stack
            made += [Stack(tuple(chosen[at : at + rules.stack])) for at in range(0, whole, rules.stack)]
    large = [stack for stack in made if min(stack.frames[0].shape) >= rules.size]
    if not large:
        raise BadInputError(
            f"{source.name} has no place with {rules.stack} frame(s) of {rules.size} x {rules.size} pixels or more"
        )
    return large


def windows(shape: tuple[int, int], rules: PatchRules) -> Iterator[tuple[int, int]]:
    """Upper left pixels of all patches that lie wholly within a frame, row by row."""
    return (
        (row, column)
        for row in range(0, shape[0] - rules.size + 1, rules.step)
        for column in range(0, shape[1] - rules.size + 1, rules.step)
    )


@dataclass(frozen=True)
class Scan:
    """What a worker needs to look at a stack.

    Attributes:
        stack: The stack.
        rules: How it is cut.
        ignore: The label that counts for nothing.
    """

    stack: Stack
    rules: PatchRules
    ignore: int

    def __str__(self) -> str:
        return self.stack.key


def scan(what: Scan, out: Path) -> None:
    """Look at every patch of a stack and write what is in it: a JSON list of rows, one per patch."""
    rows = []
    for row in range(0, what.stack.frames[0].shape[0] - what.rules.size + 1, what.rules.step):
        rows += _row_of_patches(what, row)
    _place(what, rows)
    write_whole(out, json.dumps(rows).encode())


def _row_of_patches(what: Scan, row: int) -> list[dict[str, Any]]:
    """All patches whose upper edge is one row, read in one go: memory is one row of patches."""
    size, columns = what.rules.size, what.stack.frames[0].shape[1]
    pixels = what.stack.read(slice(row, row + size), slice(0, columns))
    found = []
    for column in range(0, columns - size + 1, what.rules.step):
        part = slice(column, column + size)
        valid = np.isfinite(pixels.values[..., part]).all(axis=1)
        patch: dict[str, Any] = {"row": row, "column": column, "valid": float(valid.mean())}
        if pixels.cloudy is not None:
            patch["cloud"] = float(pixels.cloudy[..., part].mean())
        if pixels.labels is not None:
            classes, counts = np.unique(pixels.labels[..., part], return_counts=True)
            counted = dict(zip(classes.tolist(), counts.tolist(), strict=True))
            patch["ignore"] = counted.pop(what.ignore, 0) / valid.size
            patch["classes"] = counted
        found.append(patch)
    return found


def _place(what: Scan, rows: Sequence[dict[str, Any]]) -> None:
    """Say of patches where they lie, when, and whose they are."""
    geobox, rules, frames = what.stack.frames[0].geobox, what.rules, what.stack.frames
    a, _, left, _, e, top, *_ = geobox.transform
    boxes = []
    for patch in rows:
        west, north = left + a * patch["column"], top + e * patch["row"]
        boxes.append((west, north + e * rules.size, west + a * rules.size, north))
    degrees = ground_bounds(str(geobox.crs), boxes)
    by_time = rules.splits.of_times([frame.time for frame in frames])
    for patch, box, around in zip(rows, boxes, degrees, strict=True):
        split = rules.splits.of_ground(around)
        patch |= {
            "id": f"{what.stack.key}_{patch['row']:05d}_{patch['column']:05d}",
            "place": frames[0].place,
            "frames": [frame.key for frame in frames],
            "times": [frame.time.isoformat() for frame in frames],
            "crs": str(geobox.crs),
            "bounds": box,
            "split": split if split in by_time else "",
        }


def _by_split(frames: Sequence[Frame], splits: Splits) -> list[list[Frame]]:
    if not splits.times:
        return [list(frames)]
    periods = splits.periods()
    return [[frame for frame in frames if frame.time in period] for period in periods.values()]
