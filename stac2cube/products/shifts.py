"""Shifts at a glance: what was found and what is left, and the series before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CROP = 100
"""Edge of the pixels shown before and after."""

ENLARGED = 3
"""Edge of a shown pixel."""

MOST = 16
"""Scenes shown before and after at most."""


def draw_shifts(cube: Path, out: Path | BinaryIO) -> None:
    """A PNG: the shift of every scene over time, and what is left of it window by window.

    Args:
        cube: A co-registered cube.
        out: Where.

    Raises:
        BadInputError: The cube is not co-registered.
    """
    from matplotlib.figure import Figure

    spec, rows = _coregistered(cube)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    series, field = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_series(series, list(rows.values()))
    shifts = Path(spec.request.get("shifts", ""))
    if (shifts / "zarr.json").exists():
        _draw_field(field, shifts, rows, spec.grid.resolution)
    else:
        field.set_axis_off()
    figure.savefig(out, dpi=110, format="png")


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


def _draw_series(axis: Axes, rows: list[Entry]) -> None:
    for name, colour in (("x", "tab:blue"), ("y", "tab:orange")):
        found = [row for row in rows if row.properties[f"found_{name}"] is not None]
        times: list[Any] = [row.time for row in found]
        values = [row.properties[f"found_{name}"] for row in found]
        axis.plot(times, values, "o", color=colour, label=f"found, {name}", markersize=4)
        left = [value - row.properties[f"shift_{name}"] for value, row in zip(values, found, strict=True)]
        axis.plot(times, left, "_", color=colour, label=f"left, {name}")
    rejected: list[Any] = [row.time for row in rows if not row.properties["shift_accepted"]]
    if rejected:
        axis.plot(rejected, [0.0] * len(rejected), "x", color="grey", label="not measured")
    axis.axhline(0, color="grey", linewidth=0.6)
    axis.set_ylabel("shift, m")
    axis.set_title("Every scene", fontsize=9)
    axis.tick_params(axis="x", rotation=30, labelsize=8)
    axis.legend(fontsize=7, ncols=2)


def _draw_field(axis: Axes, shifts: Path, rows: dict[str, Entry], resolution: float) -> None:
    windows = open_cube(shifts, chunks=None)
    taken = [place for place, key in enumerate(windows.scene.values) if key in rows and _found(rows[key])]
    left = []
    for name in ("x", "y"):
        scene = np.array([rows[windows.scene.values[place]].properties[f"found_{name}"] for place in taken])
        measured = windows[f"shift_{name}"].values[taken]
        left.append(_median(measured - scene[:, None, None]))
    if not taken or not np.isfinite(left[0]).any():
        axis.set_axis_off()
        return
    x, y = np.meshgrid(windows.x.values / 1000, windows.y.values / 1000)
    arrows = axis.quiver(x, y, left[0], left[1], angles="xy", scale=8 * resolution, width=0.005)
    axis.quiverkey(
        arrows, 0.85, 1.03, resolution / 2, f"{resolution / 2:g} m", labelpos="E", fontproperties={"size": 7}
    )
    axis.set_aspect("equal")
    axis.set_title("Windows beside their scene, medians", fontsize=9, loc="left")
    axis.tick_params(labelsize=7)
    axis.set_xlabel("x, km", fontsize=8)


def _median(values: np.ndarray) -> np.ndarray:
    """Over the first axis, NaN where there is nothing."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle: np.ndarray = np.nanmedian(values, axis=0)
    return middle


def _found(row: Entry) -> bool:
    return row.properties["found_x"] is not None
