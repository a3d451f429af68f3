"""Figures of the report: map, shifts, super-resolution."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from odc.geo import geom as odc_geom

from stac2cube.errors import BadInputError
from stac2cube.export.animation import Frames, write_gif
from stac2cube.export.pictures import with_titles
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.grid import Grid
from stac2cube.store.ledger import Entry, Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import open_cube
from stac2cube.views.render import rgb_layers_of, stretched, white_of

# Maps of a cube's location: a globe centred on it, and a plan of its grid. SVG without external resources.
#
# Colours are classes (``sea``, ``land``, ``line``, ``here`` ...) that the page styles, for light and dark mode.

RADIUS = 98.0
"""Radius of the globe, in units of its drawing, which is 200 wide."""

GRATICULE = 15
"""Degrees between the lines of the globe."""

STEP = 3.0
"""Largest distance of points of a line, degrees, so that it follows the curvature of the globe."""


@cache
def _land() -> tuple[np.ndarray, ...]:
    """Rings of land, ``(points, 2)`` longitude and latitude each, with land on the right of the line."""
    text = files("stac2cube.tables").joinpath("land.json").read_text(encoding="utf-8")
    return tuple(np.array(ring, dtype="float64").reshape(-1, 2) / 10 for ring in json.loads(text)["rings"])


def globe(longitude: float, latitude: float, box: Sequence[float]) -> str:
    """Draw an orthographic globe centred on a point, with a dot there, or the outline of a box too large for a dot.

    Formulas: Snyder, Map Projections, A Working Manual (USGS 1395, 1987), page 149.

    Args:
        longitude: Longitude of the point, degrees.
        latitude: Latitude of the point, degrees.
        box: West, south, east, north of the cube, degrees.
    """
    at = (longitude, latitude)
    land = _filled(_land(), at)
    lines = "".join(_stroked(line, at) for line in _graticule())
    west, south, east, north = box
    edges = np.array([(west, south), (east, south), (east, north), (west, north), (west, south)])
    outline = _stroked(_dense(edges), at)
    large = max(north - south, (east - west) * math.cos(math.radians(latitude))) > 4
    mark = f'<path class="here-line" d="{outline}"/>' if large else '<circle class="here" r="5"/>'
    ring = "" if large else '<circle class="here-ring" r="11"/>'
    return (
        f'<svg class="globe" viewBox="-100 -100 200 200" role="img" aria-label="Globe, seen from above {_degrees(at)}">'
        f'<circle class="sea" r="{RADIUS}"/><path class="land" d="{land}"/><path class="line" d="{lines}"/>'
        f'<circle class="rim" r="{RADIUS}"/>{ring}{mark}</svg>'
    )


def draw_plan(grid: Grid, area: Sequence[Sequence[tuple[float, float]]] = ()) -> str:
    """Draw a plan of the grid: its outline, its files, the requested area, and a scale bar.

    Args:
        grid: The grid.
        area: Rings of the requested area, in units of the grid's CRS.
    """
    rows, columns = grid.shape
    size = 200.0
    scale = size / max(rows, columns)
    width, height = columns * scale, rows * scale
    west, north = grid.origin
    vertical = "".join(f"M{x * scale:.1f} 0V{height:.1f}" for x in range(grid.shard[1], columns, grid.shard[1]))
    horizontal = "".join(f"M0 {y * scale:.1f}H{width:.1f}" for y in range(grid.shard[0], rows, grid.shard[0]))
    per_unit = scale / grid.resolution
    asked = "".join(
        "M" + "L".join(f"{(x - west) * per_unit:.1f} {(north - y) * per_unit:.1f}" for x, y in ring) + "Z"
        for ring in area
    )
    bar, words = _scale_bar(grid, per_unit)
    return (
        f'<svg class="plan" viewBox="-2 -2 {size + 4:g} {height + 22:.1f}" role="img" aria-label="Plan of the grid, '
        f'{columns} by {rows} pixels; the scale bar is {words}"><rect class="sheet" width="{width:.1f}" '
        f'height="{height:.1f}"/><path class="line" d="{vertical}{horizontal}"/><path class="asked" d="{asked}"/>'
        f'<rect class="frame" width="{width:.1f}" height="{height:.1f}"/><path class="bar" d="M0 {height + 8:.1f}v4'
        f'h{bar:.1f}v-4"/><text x="{bar + 5:.1f}" y="{height + 14:.1f}">{words}</text></svg>'
    )


def rings_of(spec: CubeSpec) -> list[list[tuple[float, float]]]:
    """Rings of the requested area of a cube, in its CRS; empty if it is not stored."""
    area = spec.request.get("area")
    geometry = area.get("geometry") if isinstance(area, dict) else None
    if not geometry:
        return []
    outline = odc_geom.Geometry(geometry, "EPSG:4326").to_crs(spec.grid.crs).geom
    parts = [part for part in getattr(outline, "geoms", [outline]) if part.geom_type == "Polygon"]
    return [[(x, y) for x, y, *_ in part.exterior.coords] for part in parts]


def _scale_bar(grid: Grid, per_unit: float) -> tuple[float, str]:
    """Length of the bar in the drawing, and its label: 1, 2 or 5 times a power of ten of the CRS's unit."""
    projected = bool(grid.geobox.crs and grid.geobox.crs.projected)
    longest = grid.shape[1] * grid.resolution * 0.5
    power = 10.0 ** math.floor(math.log10(longest))
    length = next(step * power for step in (5, 2, 1) if step * power <= longest)
    words = f"{length:g}°" if not projected else f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return length * per_unit, words


def _graticule() -> list[np.ndarray]:
    meridian, parallel = np.arange(-90, 91, 3.0), np.arange(-180, 181, 3.0)
    lines = [np.column_stack([np.full_like(meridian, at), meridian]) for at in range(-180, 180, GRATICULE)]
    return lines + [np.column_stack([parallel, np.full_like(parallel, at)]) for at in range(-75, 90, GRATICULE)]


def _dense(line: np.ndarray) -> np.ndarray:
    """Densify a line to points at least every :data:`STEP` degrees; it takes the shorter way around the globe."""
    pieces = []
    for (west, south), (east, north) in pairwise(line):
        turn = (east - west + 180) % 360 - 180
        count = max(1, math.ceil(max(abs(turn), abs(north - south)) / STEP))
        part = np.arange(count) / count
        pieces.append(np.column_stack([west + part * turn, south + part * (north - south)]))
    return np.vstack([*pieces, line[-1:]])


def _seen(points: np.ndarray, at: tuple[float, float]) -> np.ndarray:
    """Project points, ``(points, 3)``: to the right, upwards, and towards the viewer (negative: behind the globe)."""
    longitude, latitude = np.radians(points[:, 0] - at[0]), np.radians(points[:, 1])
    sine, cosine = math.sin(math.radians(at[1])), math.cos(math.radians(at[1]))
    right = np.cos(latitude) * np.sin(longitude)
    up = cosine * np.sin(latitude) - sine * np.cos(latitude) * np.cos(longitude)
    near = sine * np.sin(latitude) + cosine * np.cos(latitude) * np.cos(longitude)
    return np.column_stack([right, up, near])


def _visible(points: np.ndarray) -> list[np.ndarray]:
    """The parts of a line in front of the horizon, each ending on it where the line continues behind."""
    before = points[:, 2] >= 0
    runs = np.split(np.arange(len(points)), np.flatnonzero(np.diff(before)) + 1)
    found = []
    for run in (run for run in runs if before[run[0]]):
        ends = [_on_horizon(points[run[0] - 1], points[run[0]])] if run[0] > 0 else []
        more = [_on_horizon(points[run[-1]], points[run[-1] + 1])] if run[-1] + 1 < len(points) else []
        found.append(np.vstack([*ends, points[run], *more]))
    return found


def _on_horizon(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    between = one + (other - one) * one[2] / (one[2] - other[2])
    met: np.ndarray = between / np.hypot(between[0], between[1])
    return met


def _filled(rings: Sequence[np.ndarray], at: tuple[float, float]) -> str:
    """Closed paths of rings in front of the horizon; pieces that it cuts are joined along it."""
    paths, pieces = [], []
    for ring in rings:
        points = _seen(_dense(np.vstack([ring, ring[:1]])), at)
        before = points[:, 2] >= 0
        if before.all():
            paths.append(points)
        elif before.any():
            start = int(np.flatnonzero(~before)[0])  # start behind the horizon, so that no piece is cut in two
            pieces += _visible(np.vstack([points[start:-1], points[: start + 1]]))
    begins = np.array([math.atan2(piece[0, 1], piece[0, 0]) for piece in pieces])
    left = set(range(len(pieces)))
    while left:
        first = here = left.pop()
        path = [pieces[first]]
        while True:
            # Land is on the right: follow the horizon clockwise to the start of the next piece.
            end = math.atan2(pieces[here][-1, 1], pieces[here][-1, 0])
            turns = (end - begins) % (2 * math.pi)
            here = int(np.argmin(turns))
            steps = np.arange(0.0, turns[here], math.radians(STEP))
            path.append(np.column_stack([np.cos(end - steps), np.sin(end - steps), 0 * steps]))
            if here == first or here not in left:
                break
            left.discard(here)
            path.append(pieces[here])
        paths.append(np.vstack(path))
    return "".join(f"M{_points(path)}Z" for path in paths)


def _stroked(line: np.ndarray, at: tuple[float, float]) -> str:
    """Open paths of a line in front of the horizon."""
    return "".join(f"M{_points(piece)}" for piece in _visible(_seen(line, at)))


def _points(points: np.ndarray) -> str:
    return "L".join(f"{right * RADIUS:.1f} {-up * RADIUS:.1f}" for right, up, _ in points)


def _degrees(at: tuple[float, float]) -> str:
    east, north = at
    return f"{abs(north):.2f}° {'N' if north >= 0 else 'S'}, {abs(east):.2f}° {'E' if east >= 0 else 'W'}"


# Figures of shifts: over time, per window relative to the scene, and the series before and after.

CROP = 100
"""Edge of the pixels shown before and after."""

ENLARGED = 3
"""Edge of a shown pixel."""

MOST = 16
"""Largest number of scenes shown before and after."""


def shift_series(scenes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Dots over time for the shifts of a series; None if none was measured.

    Args:
        scenes: ``scenes`` in the shifts of :func:`stac2cube.export.report.figures_of`.

    Returns:
        The limit of the axis in metres, and per scene its position in time (percent) and, per axis, the heights
        (percent, from below) of the measured and of the remaining shift.
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
    """Draw the shifts of windows relative to their scene, medians over time, as SVG; None if they were not kept.

    Args:
        cube: A co-registered cube.

    Returns:
        The drawing, the length in metres of an arrow of 18 units (a window is 20 wide), and the largest shift.

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
    """Write a GIF of the middle of the area, scene by scene: before co-registration on the left, after it on the right.

    Args:
        cube: A co-registered cube whose cube of layers still exists.
        out: Path of the file, or a file object.

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
    """Median over the first axis, NaN where there are no values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle: np.ndarray = np.nanmedian(values, axis=0)
    return middle


def _found(row: Entry) -> bool:
    return row.properties["found_x"] is not None


# Figures of a super-resolved cube: the same place as measured, and on the finer grid.

PAIR_CROP = 80
"""Edge of the shown place, pixels of 10 m."""

DATES = 3
"""Largest number of dates shown: the clearest."""


@dataclass(frozen=True)
class BeforeAfter:
    """Pictures of the same place in both resolutions.

    Attributes:
        day: Date of the step.
        coarse: As measured, ``(rows, columns, 3)`` float32, 0 to 1.
        fine: On the finer grid, with the same stretch.
        pixel: Edge of a pixel of the finer grid, units of the grid.
    """

    day: str
    coarse: np.ndarray
    fine: np.ndarray
    pixel: float


def pairs_of(cube: Path) -> list[BeforeAfter]:
    """Pictures of the middle of the area on the clearest dates.

    Args:
        cube: A super-resolved cube whose cube of layers still exists.

    Raises:
        BadInputError: The cube is not super-resolved, has no step, or its cube of layers was removed.
    """
    spec = read_root(cube).spec
    if spec.stage != "superres":
        raise BadInputError(f"{cube} is not super-resolved")
    parent = Path(spec.request["layers"])
    if not (parent / "zarr.json").exists():
        raise BadInputError(f"{parent}, from which {cube} was made, is not there any more")
    fine, coarse = open_cube(cube, chunks=None), open_cube(parent, chunks=None)
    # With a target of 10 m only the bands of 20 m become finer: show these.
    bands = rgb_layers_of(coarse, "true") if spec.recipe["superres"]["target"] != 10 else ["B12", "B11", "B8A"]
    if fine.sizes["time"] == 0:
        raise BadInputError(f"{cube} has no step to show yet")
    shown = fine.valid_fraction.values * (1 - np.nan_to_num(fine.get("cloud_fraction", fine.valid_fraction * 0).values))
    chosen = np.sort(np.argsort(-shown, kind="stable")[:DATES])
    scale = round(coarse.x.diff("x").values[0] / fine.x.diff("x").values[0])
    top, left = (max(0, (coarse.sizes[name] - PAIR_CROP) // 2) for name in ("y", "x"))
    pairs = []
    for place in chosen:
        pictures = []
        for dataset, by in ((coarse, 1), (fine, scale)):
            step = list(dataset.scene.values).index(fine.scene.values[place])
            window = {"y": slice(top * by, (top + PAIR_CROP) * by), "x": slice(left * by, (left + PAIR_CROP) * by)}
            part = dataset[bands].isel({"time": step, **window})
            pictures.append(np.stack([part[band].values for band in bands], axis=-1).astype("float32"))
        white = white_of(pictures[0][None])
        measured, finer = (stretched(picture[None], white)[0] for picture in pictures)
        pairs.append(BeforeAfter(str(fine.time.values[place])[:10], measured, finer, spec.grid.resolution))
    return pairs
