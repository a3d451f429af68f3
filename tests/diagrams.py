"""Diagrams of the docs: ``python -m tests.diagrams docs/images`` draws all of them as SVG.

They are text and boxes, written without a library, so that the files are the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tests.house import rooms

PAPER, INK, LINE = "#ffffff", "#1d2b2f", "#55727a"
KEPT, NEW, HIDDEN, WARN = "#d7ece8", "#fde9b8", "#eceff1", "#f8d7d0"


@dataclass(frozen=True)
class Box:
    """A box with lines of text; the first is bold.

    Attributes:
        x: Left edge, px.
        y: Upper edge, px.
        width: Width, px.
        height: Height, px.
        lines: What stands in it.
        fill: Its colour.
    """

    x: float
    y: float
    width: float
    height: float
    lines: Sequence[str]
    fill: str = KEPT

    def svg(self) -> str:
        """As SVG."""
        middle, step = self.x + self.width / 2, 16
        top = self.y + self.height / 2 - step * (len(self.lines) - 1) / 2 + 4
        words = "".join(
            f'<text x="{middle:g}" y="{top + step * at:g}" text-anchor="middle"{_bold(at == 0)}>{escape(line)}</text>\n'
            for at, line in enumerate(self.lines)
        )
        return (
            f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{self.height:g}" rx="6" '
            f'fill="{self.fill}" stroke="{LINE}"/>\n{words}'
        )


def arrow(points: Sequence[tuple[float, float]], words: str = "", at: tuple[float, float] | None = None) -> str:
    """A line with a head, and words beside it."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    line = f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.5" marker-end="url(#head)"/>\n'
    if not words:
        return line
    (x0, y0), (x1, y1) = points[0], points[-1]
    x, y = at or ((x0 + x1) / 2 + 6, (y0 + y1) / 2 - 4)
    return line + label(x, y, words)


def label(x: float, y: float, words: str, *, bold: bool = False, anchor: str = "start") -> str:
    """Words by themselves."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{_bold(bold)}>{escape(words)}</text>\n'


def _bold(wanted: bool) -> str:
    return ' font-weight="bold"' if wanted else ""


def drawing(width: int, height: int, parts: Iterable[str]) -> str:
    """An SVG file."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">\n'
        f'<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>\n{"".join(parts)}</svg>\n'
    )


def commit_protocol() -> str:
    """How a step becomes visible."""
    steps = [
        Box(20, 60, 170, 70, ["1 staging", "workers write whole", "files, then sync them"], HIDDEN),
        Box(230, 60, 170, 70, ["2 move in", "rename each layer into", "the next free slot"], HIDDEN),
        Box(440, 60, 170, 70, ["3 ledger", "write coordinates,", "ledger part, history"], HIDDEN),
        Box(650, 60, 170, 70, ["4 the commit", "replace zarr.json", "by one rename"], NEW),
    ]
    return drawing(
        840,
        240,
        [
            label(20, 30, "A commit: nothing is visible before the one rename in step 4", bold=True),
            *(box.svg() for box in steps),
            *(arrow([(x, 95), (x + 36, 95)]) for x in (192, 402, 612)),
            Box(20, 170, 590, 44, ["a reader sees the old cube", "a kill loses only unfinished work"], KEPT).svg(),
            Box(650, 170, 170, 44, ["a reader sees", "the new cube"], KEPT).svg(),
            arrow([(735, 132), (735, 166)]),
        ],
    )


def cube_on_disk() -> str:
    """What lies in and beside a cube."""
    inside = [
        Box(40, 70, 300, 44, ["zarr.json", "committed steps, parts of the ledger"], NEW),
        Box(40, 126, 300, 44, ["B04/c/SLOT/ROW/COLUMN", "one shard: a layer, a step, 2048 x 2048 pixels"], KEPT),
        Box(40, 182, 300, 44, ["time  scene  x  y  spatial_ref", "coordinates and grid mapping"], KEPT),
        Box(40, 238, 300, 44, [".stac2cube/ledger/*.parquet", "a row per step: items, checksums, status"], KEPT),
        Box(40, 294, 300, 44, [".stac2cube/history/", "zarr.json as each commit left it"], KEPT),
        Box(40, 350, 300, 44, [".stac2cube/lock/", "while somebody writes"], HIDDEN),
    ]
    beside = [
        Box(420, 70, 320, 44, [".lech.zarr.generations/", "earlier versions, for seven days"], HIDDEN),
        Box(420, 126, 320, 44, ["lech.zarr.years/", "sealed years: files deep in time"], KEPT),
        Box(420, 182, 320, 44, ["lech.zarr.overviews/", "pixels 2, 4, 8 times as large"], KEPT),
        Box(420, 238, 320, 44, ["clouds.zarr  monthly.zarr  ...", "derived cubes, each a cube of its own"], KEPT),
    ]
    frame = f'<rect x="20" y="44" width="340" height="366" rx="8" fill="none" stroke="{LINE}"/>\n'
    return drawing(
        760,
        430,
        [
            label(20, 30, "lech.zarr/", bold=True),
            label(420, 56, "beside it", bold=True),
            frame,
            *(box.svg() for box in [*inside, *beside]),
        ],
    )


def update_timeline() -> str:
    """What an update does, along time."""
    parts = [label(20, 28, "An update adds exactly what is missing, wherever in time it lies", bold=True)]
    rows = [
        ("catalog", [(2018, KEPT), (2019, KEPT), (2020, KEPT), (2021, KEPT), (2022, KEPT)]),
        ("cube before", [(2019, KEPT), (2020, KEPT), (2021, KEPT)]),
        ("update --time 2018/2022", [(2018, NEW), (2020.5, NEW), (2022, NEW)]),
        ("cube after", [(2018, NEW), (2019, KEPT), (2020, KEPT), (2020.5, NEW), (2021, KEPT), (2022, NEW)]),
    ]
    for row, (name, years) in enumerate(rows):
        y = 50 + 50 * row
        parts.append(label(20, y + 21, name))
        for year, fill in years:
            late = year == 2020.5
            x = 200 + (year - 2018) * 120
            width = 50 if late else 58
            parts.append(Box(x, y, width, 34, ["late" if late else f"{year:g}"], fill).svg())
    parts.append(
        label(200, 268, "On disk, new steps take the next free slots; open_cube sorts by time, tidy sorts on disk.")
    )
    return drawing(780, 285, parts)


def catalog_decision() -> str:
    """Which catalog `auto` is."""
    boxes = [
        Box(20, 50, 200, 44, ["--catalog NAME given?"], NEW),
        Box(20, 130, 200, 44, ["blocks are made on", "nodes of a cluster?"], NEW),
        Box(20, 210, 200, 56, ["is the archive of a catalog", "mounted, and can one", "asset be opened?"], NEW),
        Box(360, 50, 300, 44, ["that catalog"], KEPT),
        Box(360, 130, 300, 44, ["the first open catalog", "that carries the mission"], KEPT),
        Box(360, 216, 300, 44, ["the catalog of the site"], KEPT),
        Box(
            20,
            320,
            640,
            40,
            ["one line in the log says which catalog and why; the ledger keeps it for every step"],
            HIDDEN,
        ),
    ]
    return drawing(
        680,
        380,
        [
            label(20, 28, "Which catalog is used", bold=True),
            *(box.svg() for box in boxes),
            arrow([(222, 72), (356, 72)], "yes", (232, 68)),
            arrow([(222, 152), (356, 152)], "no", (232, 148)),
            arrow([(222, 238), (356, 238)], "yes", (232, 234)),
            arrow([(120, 96), (120, 126)], "no"),
            arrow([(120, 176), (120, 206)], "yes"),
            arrow([(120, 268), (120, 290), (300, 290), (300, 166), (356, 166)], "no", (126, 285)),
        ],
    )


def architecture() -> str:
    """Rooms by floor. The imports between them are on the page as text."""
    floors = rooms.floors()
    parts = [label(20, 28, "Rooms: a room imports from lower floors only", bold=True)]
    for at, names in enumerate(floors):
        y = 46 + 44 * at
        parts.append(label(20, y + 22, f"floor {len(floors) - at}"))
        width = 120
        parts += [Box(90 + (width + 12) * place, y, width, 32, [name]).svg() for place, name in enumerate(names)]
    return drawing(90 + 132 * max(len(names) for names in floors) + 8, 60 + 44 * len(floors), parts)


DRAWINGS = {
    "commit-protocol.svg": commit_protocol,
    "cube-on-disk.svg": cube_on_disk,
    "update-timeline.svg": update_timeline,
    "catalog-decision.svg": catalog_decision,
    "rooms.svg": architecture,
}


def main() -> None:
    """Draw all."""
    for name, draw in DRAWINGS.items():
        (Path(sys.argv[1]) / name).write_text(draw())


if __name__ == "__main__":
    main()
