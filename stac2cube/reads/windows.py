"""Many small windows of many scenes: those near each other are read together, once per scene, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

import numpy as np
from odc.geo.geobox import GeoBox

from stac2cube.errors import ReadError
from stac2cube.flow import Flow
from stac2cube.places.place import usable_cores
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress
from stac2cube.reads.selection import Selection
from stac2cube.scene import Scene
from stac2cube.source.touching import sorted_once, touching_pairs
from stac2cube.work import Orders

Window = tuple[slice, slice]
"""Rows and columns of a grid."""

CELL = 512
"""Windows whose middles lie in the same square of so many pixels are read together: images come in tiles of about
this size, of which a part costs as much as the whole."""

LARGEST = 4096
"""Pixels along an edge of what is read together; a window that is larger is read alone."""

T = TypeVar("T")


def groups_of(windows: Sequence[Window]) -> list[tuple[Window, list[int]]]:
    """Windows near each other: what covers them, and their places in the sequence."""
    cells: dict[tuple[int, ...], list[int]] = {}
    for place, window in enumerate(windows):
        middle = tuple((part.start + part.stop) // 2 // CELL for part in window)
        alone = max(part.stop - part.start for part in window) > LARGEST
        cells.setdefault((*middle, place) if alone else middle, []).append(place)
    return [(_around([windows[place] for place in members]), members) for _, members in sorted(cells.items())]


def _around(windows: Sequence[Window]) -> Window:
    rows, columns = zip(*windows, strict=True)
    return tuple(slice(min(p.start for p in parts), max(p.stop for p in parts)) for parts in (rows, columns))  # type: ignore[return-value]


Pixels = dict[str, np.ndarray]
"""Stored numbers per layer, ``(rows, columns)``."""


def read_windows(
    selection: Selection,
    windows: Sequence[Window],
    make: Callable[[Scene, int, Pixels], T],
    progress: Progress | None = None,
) -> list[T]:
    """What a function makes of every window of every scene that can touch it, in order of time, then of windows.

    Args:
        selection: What is read.
        windows: Windows of its grid.
        make: Takes the scene, the place of the window in the sequence, and its pixels.
        progress: Told of every block.

    Raises:
        ReadError: A scene has a problem, or an asset is missing or cannot be read.
    """
    for scene in selection.scenes:
        if scene.problem:
            raise ReadError(scene.problem)
    groups = groups_of(windows)
    geoboxes = [selection.grid.geobox[window] for window, _ in groups]
    granules = [granule for scene in selection.scenes for granule in scene.granules]
    owners = np.repeat(np.arange(len(selection.scenes)), [len(scene.granules) for scene in selection.scenes])
    near, places = touching_pairs(granules, geoboxes)
    pairs = sorted_once(owners[places] * len(groups) + near)
    jobs = list(zip((pairs // len(groups)).tolist(), (pairs % len(groups)).tolist(), strict=True))

    def work(job: tuple[int, int]) -> list[tuple[int, int, T]]:
        scene, (around, members) = selection.scenes[job[0]], groups[job[1]]
        pixels = selection.task.read(scene, geoboxes[job[1]])
        return [(job[0], place, make(scene, place, _cut(pixels, around, windows[place]))) for place in members]

    flow = Flow(Threads(2 * usable_cores()), Orders(), progress or Progress())  # they wait for the network, mostly
    made: list[tuple[int, int, T]] = []
    with (
        flow.progress.over(len(jobs)),
        flow.place.open() as pool,
        closing(flow.handed_out(iter(jobs), lambda job: pool.submit(work, job))) as coming,
    ):
        for _, future in coming:
            made += future.result()
            flow.progress.advance()
    return [value for _, _, value in sorted(made, key=lambda entry: entry[:2])]


def _cut(pixels: Pixels, around: Window, window: Window) -> Pixels:
    part = tuple(
        slice(wanted.start - whole.start, wanted.stop - whole.start)
        for wanted, whole in zip(window, around, strict=True)
    )
    return {name: layer[part] for name, layer in pixels.items()}


def geobox_of(selection: Selection, window: Window) -> GeoBox:
    """The lattice of a window."""
    return selection.grid.geobox[window]
