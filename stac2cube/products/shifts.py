"""Shifts at a glance: where each scene lay, how single windows lie beside their scene, the series before and after."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.reader import open_cube
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec
from stac2cube.errors import BadInputError
from stac2cube.kernels.colour import stretched, white_of
from stac2cube.products.animation import write_gif
from stac2cube.products.frames import Frames
from stac2cube.products.quicklook import with_titles

CROP = 100
"""Edge of the pixels shown before and after."""

ENLARGED = 3
"""Edge of a shown pixel."""

MOST = 16
"""Scenes shown before and after at most."""


def shift_series(scenes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Dots over time for the shifts of a series; None where none was measured.

    Args:
        scenes: Of the shifts of :func:`stac2cube.products.figures.figures_of`.

    Returns:
        The reach of the axis in metres, and per scene its place in time (percent) and, per axis, where from below
        (percent) what was found and what is left of it lies.
    """
    measured = [scene for scene in scenes if None not in scene["found"]]
    if not measured:
        return None
    times = np.array([np.datetime64(scene["time"]) for scene in measured]).astype("int64")
    span = max(times.max() - times.min(), 1)
    found = np.array([scene["found"] for scene in measured], dtype="float64")
    left = found - np.array([scene["applied"] for scene in measured], dtype="float64")
    largest = max(1.1 * float(np.abs([found, left]).max()), 0.1)
    reach = next(step * 10.0**power for power in range(-1, 6) for step in (1, 2, 5) if step * 10.0**power >= largest)
    dots = [
        {
            "place": round(100 * float(time - times.min()) / span, 2),
            "words": f"{scene['time'][:10]}: found {x:+.2f} m east, {y:+.2f} m north; {scene['became']}",
            "found": [round(50 + 50 * value / reach, 2) for value in (x, y)],
            "left": [round(50 + 50 * value / reach, 2) for value in rest],
        }
        for scene, time, (x, y), rest in zip(measured, times, found.tolist(), left.tolist(), strict=True)
    ]
    return {"reach": reach, "first": measured[0]["time"][:10], "last": measured[-1]["time"][:10], "dots": dots}


def shift_field(cube: Path) -> dict[str, Any] | None:
    """How windows lie beside their scene, medians over time, as SVG; None where that was not kept or is nothing.

    Args:
        cube: A co-registered cube.

    Returns:
        The drawing, and the length in metres that a tenth of its width stands for.

    Raises:
        BadInputError: The cube is not co-registered.
    """
    spec, rows = _coregistered(cube)
    shifts = Path(spec.request.get("shifts", ""))
    if not (shifts / "zarr.json").exists():
        return None
    windows = open_cube(shifts, chunks=None)
    taken = [place for place, key in enumerate(windows.scene.values) if key in rows and _found(rows[key])]
    if not taken:
        return None
    left = []
    for name in ("x", "y"):
        scene = np.array([rows[windows.scene.values[place]].properties[f"found_{name}"] for place in taken])
        left.append(_median(windows[f"shift_{name}"].values[taken] - scene[:, None, None]))
    known = np.isfinite(left[0]) & np.isfinite(left[1])
    if not known.any():
        return None
    columns, rows_ = np.meshgrid(np.arange(known.shape[1]), np.arange(known.shape[0]))
    width, height = 20.0 * known.shape[1], 20.0 * known.shape[0]
    largest = float(np.hypot(left[0][known], left[1][known]).max())
    tenth = next(step * 10.0**power for power in range(-2, 6) for step in (1, 2, 5) if step * 10.0**power >= largest)
    per_metre = 18.0 / tenth
    paths = []
    for x, y, dx, dy in zip(columns[known], rows_[known], left[0][known], left[1][known], strict=True):
        at = (20 * x + 10, 20 * y + 10)
        paths.append(f"M{at[0]:g} {at[1]:g}l{dx * per_metre:.2f} {-dy * per_metre:.2f}")
    dots = "".join(
        f'<circle class="foot" cx="{20 * x + 10}" cy="{20 * y + 10}" r="1.6"/>'
        for x, y in zip(columns[known], rows_[known], strict=True)
    )
    drawing = (
        f'<svg class="field" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="Arrows: how windows lie beside '
        f'their scene"><rect class="sheet" width="{width:g}" height="{height:g}"/><path class="arrow" '
        f'd="{"".join(paths)}"/>{dots}</svg>'
    )
    return {"drawing": drawing, "metres": tenth, "largest": round(largest, 2)}


def draw_before_after(cube: Path, out: Path | BinaryIO) -> None:
    """A GIF: the middle of the area, scene by scene, as it lay on the left and as it lies now on the right.

    Args:
        cube: A co-registered cube whose layers are still there.
        out: Where.

    Raises:
        BadInputError: The cube is not co-registered, or no scene of it was moved.
    """
    spec, rows = _coregistered(cube)
    moved = [key for key, row in rows.items() if row.properties["shift_accepted"]]
    chosen = (
        [moved[place] for place in np.unique(np.linspace(0, len(moved) - 1, MOST).round().astype(int))] if moved else []
    )
    if not any((rows[key].properties["shift_x"], rows[key].properties["shift_y"]) != (0.0, 0.0) for key in chosen):
        raise BadInputError(f"no scene of {cube} was moved")
    band = spec.recipe["shifts"]["band"]
    pictures = []
    for path in (Path(spec.request["layers"]), cube):
        dataset = open_cube(path, chunks=None).set_index(time="scene")
        top, left = (max(0, (size - CROP) // 2) for size in spec.grid.shape)
        part = dataset[band].sel(time=chosen).isel(y=slice(top, top + CROP), x=slice(left, left + CROP))
        pictures.append(part.values.astype("float32"))
    both = np.concatenate([pictures[0], np.full_like(pictures[0][:, :, :2], np.nan), pictures[1]], axis=2)
    colours = np.repeat(both[..., None], 3, axis=-1)
    shown = stretched(colours, white_of(colours)).repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    titles = tuple(f"{rows[key].time:%Y-%m-%d}   before | after" for key in chosen)
    write_gif(with_titles(Frames(titles, np.rint(255 * shown).astype("uint8"))), out)


def _coregistered(cube: Path) -> tuple[CubeSpec, dict[str, Entry]]:
    root = read_root(cube)
    if root.spec.stage != "coregistered":
        raise BadInputError(f"{cube} is not co-registered")
    return root.spec, Ledger(cube, root.ledger).sealed(whole=False)


def _median(values: np.ndarray) -> np.ndarray:
    """Over the first axis, NaN where there is nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle: np.ndarray = np.nanmedian(values, axis=0)
    return middle


def _found(row: Entry) -> bool:
    return row.properties["found_x"] is not None
