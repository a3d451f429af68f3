"""What a cube holds, in figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from stac2cube.build.plan import PARENT, outdated
from stac2cube.build.size_estimate import Size, by_year, per_year, size_of, size_of_years
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.store.ledger import EMPTY, FAILED, SEALED, Entry, Ledger
from stac2cube.store.lock import read_owner
from stac2cube.store.metadata import OWN, read_root
from stac2cube.store.yearly_store import YearState, year_states


@dataclass(frozen=True)
class CubeStatus:
    """What a cube holds.

    Attributes:
        path: The cube.
        stage: What made it.
        layers: Names of its layers.
        crs: CRS of its grid.
        resolution: Pixel edge, units of the CRS.
        shape: Rows and columns.
        steps: Sealed time steps.
        first: Time of the earliest step, None for an empty cube.
        last: Time of the latest step.
        empty: Scenes without a time step: without valid pixels over the area, or excluded by the options.
        failed: Key and reason of attempts that failed.
        commit: Number of the last commit.
        generation: How often it was rebuilt.
        files: Files of pixels.
        size: Their bytes.
        seconds_per_step: Time that workers needed for a step, all its blocks together, on average.
        writer: Who is writing it now, "" if nobody.
        made_from: The parent cube, "" if there is none.
        lacking: Number of steps of the parent that this cube does not have.
        stale: Keys of steps that were rebuilt in the parent since.
        by_year: Steps, files and bytes of every year (UTC).
        year_more: Steps, files and bytes of a further year, estimated from the last one.
        sealed_years: State of the sealed years, see :mod:`stac2cube.store.yearly_store`.
        deep: Files and bytes of the sealed years, in addition to the cube's own.
    """

    path: str
    stage: str
    layers: tuple[str, ...]
    crs: str
    resolution: float
    shape: tuple[int, int]
    steps: int
    first: datetime | None
    last: datetime | None
    empty: int
    failed: dict[str, str]
    commit: int
    generation: int
    files: int
    size: int
    seconds_per_step: float
    writer: str
    made_from: str = ""
    lacking: int = 0
    stale: tuple[str, ...] = ()
    by_year: Mapping[int, Size] = field(default_factory=dict)
    year_more: Size = field(default_factory=Size)
    sealed_years: tuple[YearState, ...] = ()
    deep: Size = field(default_factory=Size)


def cube_status(path: str | Path) -> CubeStatus:
    """Look at a cube without opening its pixels.

    Args:
        path: The cube.

    Returns:
        Steps, files, bytes, failures and the writer of the cube.

    Raises:
        CubeError: Not a cube.
    """
    cube = Path(path)
    root = read_root(cube)
    rows = Ledger(cube, root.ledger).entries()
    sealed = [entry for entry in rows.values() if entry.status == SEALED]
    load = size_of(sealed)
    owner = read_owner(cube)
    grid = root.spec.grid
    return CubeStatus(
        path=str(cube),
        stage=root.spec.stage,
        layers=tuple(layer.name for layer in root.spec.layers),
        crs=grid.crs,
        resolution=grid.resolution,
        shape=grid.shape,
        steps=root.steps,
        first=sealed[0].time if sealed else None,
        last=sealed[-1].time if sealed else None,
        empty=sum(entry.status == EMPTY for entry in rows.values()),
        failed={key: entry.reason for key, entry in rows.items() if entry.status == FAILED},
        commit=root.commit,
        generation=root.generation,
        files=load.files,
        size=load.size,
        seconds_per_step=round(
            sum(receipt.seconds for entry in sealed for receipt in entry.receipts) / max(len(sealed), 1), 3
        ),
        writer=str(owner) if owner else "",
        by_year=by_year(sealed),
        year_more=per_year([entry.time for entry in sealed], load),
        sealed_years=tuple(year_states(cube, root, rows)),
        deep=size_of_years(cube),
        **_behind(root.spec, rows),
    )


def _behind(spec: CubeSpec, rows: Mapping[str, Entry]) -> dict[str, Any]:
    """How a cube that was made from another stands to it."""
    parent = Path(spec.request.get("layers", ""))
    if not spec.request.get("layers"):
        return {}
    if spec.stage == "composite":  # whose steps are periods, not scenes
        return {"made_from": str(parent)}
    if not (parent / "zarr.json").exists():
        return {"made_from": f"{parent} (not there any more)"}
    theirs = Ledger(parent, read_root(parent).ledger).entries(whole=False)
    sealed = {key: row for key, row in theirs.items() if row.status == SEALED}
    wanted = {key: {f"{PARENT}{part}": version for part, version in row.parts.items()} for key, row in sealed.items()}
    have = {key: row for key, row in rows.items() if row.status != FAILED}
    return {
        "made_from": str(parent),
        "lacking": sum(key not in have for key in sealed),
        "stale": tuple(key for key in sealed if key in have and outdated(have[key].parts, wanted[key])),
    }


@dataclass(frozen=True)
class Commit:
    """One line of a cube's history."""

    number: int
    made: str
    by: str
    steps: int
    generation: int
    changed: dict[str, int]


def cube_history(path: str | Path) -> list[Commit]:
    """Every commit of a cube, oldest first.

    Raises:
        CubeError: Not a cube.
    """
    cube = Path(path)
    latest = read_root(cube).commit
    commits = []
    for file in sorted((cube / OWN / "history").glob("*.json")):
        root = read_root(cube, file)
        if root.commit <= latest:  # a later one was written by a process that died before its root was replaced
            own = root.own
            commits.append(
                Commit(root.commit, own["made"], own["by"], root.steps, root.generation, dict(own["changed"]))
            )
    return commits
