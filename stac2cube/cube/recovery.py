"""Whoever opens a cube for writing puts right what the one before left: dead, or after a change that failed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from stac2cube.cube.commit import lead_arrays
from stac2cube.cube.files import read_plain, remove_tree, sync_folder, write_whole
from stac2cube.cube.folders import make_folder, move, remove_file
from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.root import OWN, Root
from stac2cube.cube.slots import filled_layers
from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.staging import StagedStep

_MOVING = "moving.json"
"""In a folder of staging: the slots that its steps are being moved to."""


def recover(cube: Path, root: Root, staging: Path, *, resumes: bool) -> None:
    """Remove dead staging, files half written, and slots that are not sealed; let arrays follow the root.

    Args:
        cube: The cube, whose lock is held.
        root: Its root.
        staging: Folder of this writer's token.
        resumes: Whether what is staged there is from an earlier process of the same owner, and stays.
    """
    if resumes:
        _give_back(cube, staging, root.steps, root.spec)
    for folder in (cube / OWN / "staging").glob("*"):
        if folder != staging:
            remove_tree(folder, below=cube)
    nodes = [cube / name for name in root.growing()]
    axes = [cube / name / "c" for name in ("time", "scene")]
    for folder in (cube, *(cube / OWN / name for name in ("ledger", "history")), *nodes, *axes):
        for partial in folder.glob(".*.partial"):
            remove_file(cube, partial)
    for layer in root.spec.layers:
        for slot in _slots(cube, layer.name):
            if slot >= root.steps:
                remove_tree(cube / layer.name / "c" / str(slot), below=cube)
    lead_arrays(cube, root)


def lost_steps(cube: Path, root: Root) -> list[str]:
    """Keys of sealed steps of which a layer has no file at all although its receipts name some.

    A commit that failed in version 0.1.0 could leave them. Only folders are listed: `verify` looks at every file.

    Raises:
        CubeError: A part of the ledger is not there or cannot be read.
    """
    whole = set(range(root.steps))
    lacking = {layer.name: whole - set(_slots(cube, layer.name)) for layer in root.spec.layers}
    some = set[int]().union(*lacking.values())
    if not some:
        return []
    ledger = Ledger(cube, root.ledger)
    keys = [key for key, row in ledger.sealed(whole=False).items() if row.slot in some]
    rows = ledger.entries(keys=keys)
    return [key for key, row in rows.items() if any(row.slot in lacking[name] for name in filled_layers(row))]


def note_moving(cube: Path, staging: Path, entries: Sequence[Entry]) -> None:
    """Write down to which slots staged steps are about to be moved, so that a later process can undo it."""
    slots = {str(entry.slot): entry.key for entry in entries}
    write_whole(staging / _MOVING, json.dumps(slots).encode(), below=cube)


def _give_back(cube: Path, staging: Path, steps: int, spec: CubeSpec) -> None:
    """Move steps back to staging that a run moved to slots and did not seal.

    Args:
        cube: The cube.
        staging: Folder of the run.
        steps: That are sealed.
        spec: Of the cube.
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


def _slots(cube: Path, layer: str) -> list[int]:
    """Slots of which a layer has a folder."""
    chunks = cube / layer / "c"
    return [int(name) for name in os.listdir(chunks) if name.isdigit()] if chunks.is_dir() else []  # noqa: PTH208 - thousands of names
