"""Patches: every window of every frame, scanned, chosen and split."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from shapely import MultiPolygon, box

from stac2cube.datasets.frames import Frame, FrameSet, FrameWindow
from stac2cube.datasets.patch_rules import PatchQuality, PatchRules, Splits, drawn_order, ground_bounds
from stac2cube.errors import BadInputError
from stac2cube.store.files import write_whole

# The choice of patches, their positions in shards, and the table of all patches with their status.

TRAIN = "train"
"""The split that balance may thin; the others serve evaluation and keep the real class frequencies."""

KEPT = "kept"


def choose_patches(rows: Iterable[Mapping[str, Any]], rules: PatchRules) -> pd.DataFrame:
    """Choose patches, and assign them to shards.

    Args:
        rows: As written by :func:`stac2cube.datasets.patches.scan`.
        rules: How they are chosen.

    Returns:
        One row per patch, sorted by id. ``status`` is ``"kept"`` or why it is not; kept ones have ``split``, ``shard``
        (number within the split) and ``at`` (position within the shard).

    Raises:
        BadInputError: A rule needs clouds or labels that are unknown.
    """
    table = pd.DataFrame(list(rows))
    for name in ("cloud", "ignore", "classes"):
        if name not in table:
            table[name] = None
    table = table.sort_values("id", ignore_index=True)
    _refuse_unknown(table, rules.good)
    table["majority"] = [_majority(classes) for classes in table["classes"]]
    table["status"] = [_verdict(patch, rules.good) for patch in table.to_dict("records")]
    if rules.good.balance is not None:
        _thin(table, rules)
    _deal_out(table, rules)
    return table


def plain(value: Any) -> Any:
    """A cell of the table for JSON: NaN, which pandas uses for missing values, becomes None."""
    return None if isinstance(value, float) and math.isnan(value) else value


def as_geoparquet(table: pd.DataFrame) -> bytes:
    """The table as GeoParquet, patches as WGS84 outlines; the same table gives the same bytes."""
    columns = table.drop(columns=["bounds", "classes"]).copy()
    west, south, east, north = zip(*table["bounds"], strict=True)
    for name, edge in zip(("west", "south", "east", "north"), (west, south, east, north), strict=True):
        columns[name] = edge
    columns["classes"] = [json.dumps(classes or {}, sort_keys=True) for classes in table["classes"]]
    for name in ("cloud", "ignore", "majority"):
        columns[name] = pd.to_numeric(columns[name]).astype("float64" if name != "majority" else "Int64")
    out = io.BytesIO()
    gpd.GeoDataFrame(columns, geometry=outlines_of(table), crs="EPSG:4326").to_parquet(out, index=False)
    return out.getvalue()


def counts_of(table: pd.DataFrame) -> dict[str, Any]:
    """How many patches were kept per split, and why others were not."""
    kept = table[table["status"] == KEPT]
    return {
        "kept": {str(name): int(count) for name, count in kept["split"].value_counts(sort=False).sort_index().items()},
        "left out": {
            str(why): int(count)
            for why, count in table["status"].value_counts(sort=False).sort_index().items()
            if why != KEPT
        },
    }


def _refuse_unknown(table: pd.DataFrame, good: PatchQuality) -> None:
    if good.max_cloud < 1 and table["cloud"].isna().any():
        raise BadInputError("max_cloud: nothing is known of clouds here: give the clouds cube, or leave it at 1")
    wants_labels = good.max_ignore < 1 or good.max_share < 1 or good.balance is not None
    if wants_labels and table["classes"].isna().any():
        raise BadInputError("max_ignore, max_share and balance want labels, and there are none here")


def _majority(classes: Any) -> int | None:
    """The class with most pixels; the smallest number among equals."""
    if not isinstance(classes, dict) or not classes:
        return None
    return min((-count, int(number)) for number, count in classes.items())[1]


def _verdict(patch: Mapping[str, Any], good: PatchQuality) -> str:
    if not patch["split"]:
        return "between splits"
    if patch["valid"] < good.min_valid:
        return "too little valid"
    if patch["cloud"] is not None and patch["cloud"] > good.max_cloud:
        return "too much cloud"
    if isinstance(patch["classes"], dict):
        if patch["ignore"] > good.max_ignore:
            return "too little labelled"
        labelled = sum(patch["classes"].values())
        if labelled and max(patch["classes"].values()) / labelled > good.max_share:
            return "one class alone"
    return KEPT


def _thin(table: pd.DataFrame, rules: PatchRules) -> None:
    """Limit the number of patches per majority class by the rule ``balance``; the seed chooses them."""
    taught = table[(table["status"] == KEPT) & (table["split"] == TRAIN)]
    sizes = taught["majority"].value_counts()
    if sizes.empty:
        return
    assert rules.good.balance is not None
    most = int(sizes.min() * rules.good.balance)
    for _, group in taught.groupby("majority"):
        order = drawn_order(rules.seed, group["id"].tolist())
        table.loc[group.index[order[most:]], "status"] = "too many of its class"


def _deal_out(table: pd.DataFrame, rules: PatchRules) -> None:
    """Shuffle each split by the seed and divide it into shards."""
    table["shard"] = pd.array([None] * len(table), dtype="Int64")
    table["at"] = pd.array([None] * len(table), dtype="Int64")
    for _, group in table[table["status"] == KEPT].groupby("split"):
        order = drawn_order(rules.seed, group["id"].tolist())
        numbers = np.arange(len(group))
        table.loc[group.index[order], "shard"] = numbers // rules.per_shard
        table.loc[group.index[order], "at"] = numbers % rules.per_shard


def outlines_of(table: pd.DataFrame) -> list[Any]:
    """Where the patches of a table lie: WGS84 polygons, those across the antimeridian in two halves.

    Args:
        table: ``crs`` and ``bounds`` (west, south, east, north in that CRS) of each patch, numbered from 0.
    """
    outlines: list[Any] = [None] * len(table)
    for crs, group in table.groupby("crs"):
        for place, (west, south, east, north) in zip(
            group.index, ground_bounds(str(crs), list(group["bounds"])), strict=True
        ):
            halves = [box(west, south, 180, north), box(-180, south, east, north)]
            outlines[place] = box(west, south, east, north) if west <= east else MultiPolygon(halves)
    return outlines


# The scan of all patches: every window of every place and time is read once for its statistics.


@dataclass(frozen=True)
class Stack:
    """Frames of one place that form patches together.

    Attributes:
        frames: Oldest first, :attr:`PatchRules.stack` of them.
    """

    frames: tuple[Frame, ...]

    @property
    def key(self) -> str:
        """Unique in its source, usable as a file name: without dots, which WebDataset treats as the end of a key."""
        first, last = self.frames[0], self.frames[-1]
        named = f"{first.place}_{first.key}" if first is last else f"{first.place}_{first.key}_to_{last.key}"
        return named.replace(".", "-").replace("/", "-")

    def read(self, rows: slice, columns: slice) -> FrameWindow:
        """A window of all frames, time before the other dimensions of :class:`stac2cube.datasets.frames.FrameWindow`.

        Raises:
            ReadError: A file is missing or damaged.
        """
        parts = [frame.pixels.read(rows, columns) for frame in self.frames]
        labels, cloudy = [part.labels for part in parts], [part.cloudy for part in parts]
        return FrameWindow(
            np.stack([part.values for part in parts]),
            None if any(label is None for label in labels) else np.stack(labels),  # type: ignore[arg-type]
            None if any(cloud is None for cloud in cloudy) else np.stack(cloudy),  # type: ignore[arg-type]
        )


def stacks_of(source: FrameSet, rules: PatchRules) -> list[Stack]:
    """Group the frames of each place in order of time, ``rules.stack`` at a time; leftover frames are not used.

    With a split by time, a stack never mixes the times of two splits: the frames of each split are grouped separately.

    Raises:
        BadInputError: No place has enough frames, or is large enough for a patch.
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


def patch_windows(shape: tuple[int, int], rules: PatchRules) -> Iterator[tuple[int, int]]:
    """Upper left pixels of all patches that are completely within a frame, row by row."""
    return (
        (row, column)
        for row in range(0, shape[0] - rules.size + 1, rules.step)
        for column in range(0, shape[1] - rules.size + 1, rules.step)
    )


@dataclass(frozen=True)
class Scan:
    """Task of a worker: the scan of one stack.

    Attributes:
        stack: The stack.
        rules: Rules of the patches.
        ignore: The class that is ignored.
    """

    stack: Stack
    rules: PatchRules
    ignore: int

    def __str__(self) -> str:
        return self.stack.key


def scan(what: Scan, out: Path) -> None:
    """Read every patch of a stack and write its statistics: a JSON list of rows, one per patch."""
    rows = []
    for row in range(0, what.stack.frames[0].shape[0] - what.rules.size + 1, what.rules.step):
        rows += _row_of_patches(what, row)
    _place(what, rows)
    write_whole(out, json.dumps(rows).encode())


def _row_of_patches(what: Scan, row: int) -> list[dict[str, Any]]:
    """All patches with the same upper edge, in one read: memory is one row of patches."""
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
    """Add location, times and split to the rows of patches."""
    geobox, rules, frames = what.stack.frames[0].geobox, what.rules, what.stack.frames
    a, _, left, _, e, top, *_ = geobox.transform
    boxes = []
    for patch in rows:
        west, north = left + a * patch["column"], top + e * patch["row"]
        boxes.append((west, north + e * rules.size, west + a * rules.size, north))
    degrees = ground_bounds(str(geobox.crs), boxes)
    by_time = rules.splits.of_times([frame.time for frame in frames])
    for patch, bounds, around in zip(rows, boxes, degrees, strict=True):
        split = rules.splits.of_ground(around)
        patch |= {
            "id": f"{what.stack.key}_{patch['row']:05d}_{patch['column']:05d}",
            "place": frames[0].place,
            "frames": [frame.key for frame in frames],
            "times": [frame.time.isoformat() for frame in frames],
            "crs": str(geobox.crs),
            "bounds": bounds,
            "split": split if split in by_time else "",
        }


def _by_split(frames: Sequence[Frame], splits: Splits) -> list[list[Frame]]:
    if not splits.times:
        return [list(frames)]
    periods = splits.periods()
    return [[frame for frame in frames if frame.time in period] for period in periods.values()]
