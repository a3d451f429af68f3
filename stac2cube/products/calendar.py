"""What a cube holds, day by day over its years."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from stac2cube.cube.ledger import EMPTY, FAILED, SEALED, Entry, Ledger
from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError

MONTHS = "JFMAMJJASOND"

_MIDDLES = tuple(15 + 30.44 * month for month in range(12))


def draw_calendar(cube: Path, out: Path | BinaryIO) -> None:
    """A PNG: a line per year, a mark per scene; dark where it was clear, crosses where a scene failed.

    Args:
        cube: The cube.
        out: Where.

    Raises:
        BadInputError: It has no scene yet.
    """
    from matplotlib.figure import Figure

    rows = list(Ledger(cube, read_root(cube).ledger).entries(whole=False).values())
    if not rows:
        raise BadInputError(f"{cube} has no scene yet")
    years = sorted({row.time.year for row in rows})
    figure = Figure(figsize=(10, 0.9 + 0.32 * len(years)), layout="constrained")
    axis = figure.subplots()
    sealed = [row for row in rows if row.status == SEALED]
    marks = axis.scatter(
        *_places(sealed),
        c=[row.cloud_percent or 0.0 for row in sealed],
        vmin=0,
        vmax=100,
        cmap="YlGnBu_r",
        marker="|",
        s=140,
    )
    for status, mark, colour, name in (
        (FAILED, "x", "tab:red", "failed"),
        (EMPTY, ".", "grey", "nothing over the area"),
    ):
        others = [row for row in rows if row.status == status]
        if others:
            axis.scatter(*_places(others), marker=mark, color=colour, s=24, label=name)
    if len(sealed) < len(rows):
        axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, 1.25), ncols=2, frameon=False)
    axis.set_yticks(years)
    axis.set_ylim(years[-1] + 0.6, years[0] - 0.6)
    axis.set_xlim(0, 367)
    axis.set_xticks(_MIDDLES, MONTHS)
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", linewidth=0.4)
    if sealed:
        figure.colorbar(marks, ax=axis, label="cloud, %", pad=0.01)
    figure.savefig(out, dpi=110, format="png")


def _places(rows: Sequence[Entry]) -> tuple[list[int], list[int]]:
    return [row.time.timetuple().tm_yday for row in rows], [row.time.year for row in rows]
