"""Where a cube lies, drawn: on a globe that looks at it, and in a plan of its own grid. SVG, without any outside help.

Colours are classes (``sea``, ``land``, ``line``, ``here`` ...) that the page styles, for light and for dark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise

import numpy as np
from odc.geo import geom as odc_geom

from stac2cube.cube.spec import CubeSpec
from stac2cube.grid import Grid

RADIUS = 98.0
"""Of the globe, in units of its drawing, which is 200 wide."""

GRATICULE = 15
"""Degrees between the lines of the globe."""

STEP = 3.0
"""Degrees between points of a line at most, so that it bends with the globe."""


@cache
def _land() -> tuple[np.ndarray, ...]:
    """Rings of land, ``(points, 2)`` longitude and latitude each, with land on the right hand."""
    text = files("stac2cube.tables").joinpath("land.json").read_text()
    return tuple(np.array(ring, dtype="float64").reshape(-1, 2) / 10 for ring in json.loads(text)["rings"])


def globe(longitude: float, latitude: float, box: Sequence[float]) -> str:
    """An orthographic globe that looks at a point; a dot there, or the outline of what is too large for a dot.

    Formulas: Snyder, Map Projections, A Working Manual (USGS 1395, 1987), page 149.

    Args:
        longitude: Of the point, degrees.
        latitude: Of the point, degrees.
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


def plan(grid: Grid, area: Sequence[Sequence[tuple[float, float]]] = ()) -> str:
    """The grid seen from above: its outline, its files, the area that was asked for, and how long a kilometre is.

    Args:
        grid: The grid.
        area: Rings of the area, in units of the grid's CRS.
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
    """Rings of the area that a cube was asked for, in its CRS; none where it does not say."""
    area = spec.request.get("area")
    geometry = area.get("geometry") if isinstance(area, dict) else None
    if not geometry:
        return []
    outline = odc_geom.Geometry(geometry, "EPSG:4326").to_crs(spec.grid.crs).geom
    parts = [part for part in getattr(outline, "geoms", [outline]) if part.geom_type == "Polygon"]
    return [[(x, y) for x, y, *_ in part.exterior.coords] for part in parts]


def _scale_bar(grid: Grid, per_unit: float) -> tuple[float, str]:
    """Length of the bar as drawn, and what it stands for: 1, 2 or 5 times a power of ten of the CRS's unit."""
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
    """The same line with points at least every :data:`STEP` degrees; it goes the shorter way around the globe."""
    pieces = []
    for (west, south), (east, north) in pairwise(line):
        turn = (east - west + 180) % 360 - 180
        count = max(1, math.ceil(max(abs(turn), abs(north - south)) / STEP))
        part = np.arange(count) / count
        pieces.append(np.column_stack([west + part * turn, south + part * (north - south)]))
    return np.vstack([*pieces, line[-1:]])


def _seen(points: np.ndarray, at: tuple[float, float]) -> np.ndarray:
    """Points as the globe shows them, ``(points, 3)``: to the right, upwards, and towards us (negative: behind it)."""
    longitude, latitude = np.radians(points[:, 0] - at[0]), np.radians(points[:, 1])
    sine, cosine = math.sin(math.radians(at[1])), math.cos(math.radians(at[1]))
    right = np.cos(latitude) * np.sin(longitude)
    up = cosine * np.sin(latitude) - sine * np.cos(latitude) * np.cos(longitude)
    near = sine * np.sin(latitude) + cosine * np.cos(latitude) * np.cos(longitude)
    return np.column_stack([right, up, near])


def _visible(points: np.ndarray) -> list[np.ndarray]:
    """The stretches of a line before the horizon, each ending on it where the line goes on behind."""
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
    """Closed paths of what lies before the horizon, along which pieces that it cuts are joined."""
    paths, pieces = [], []
    for ring in rings:
        points = _seen(_dense(np.vstack([ring, ring[:1]])), at)
        before = points[:, 2] >= 0
        if before.all():
            paths.append(points)
        elif before.any():
            start = int(np.flatnonzero(~before)[0])  # where the ring is behind, so that no piece is cut in two
            pieces += _visible(np.vstack([points[start:-1], points[: start + 1]]))
    begins = np.array([math.atan2(piece[0, 1], piece[0, 0]) for piece in pieces])
    left = set(range(len(pieces)))
    while left:
        first = here = left.pop()
        path = [pieces[first]]
        while True:
            # Land is on the right: along the horizon it goes on clockwise, to where the next piece begins.
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
    """An open path of what lies before the horizon."""
    return "".join(f"M{_points(piece)}" for piece in _visible(_seen(line, at)))


def _points(points: np.ndarray) -> str:
    return "L".join(f"{right * RADIUS:.1f} {-up * RADIUS:.1f}" for right, up, _ in points)


def _degrees(at: tuple[float, float]) -> str:
    east, north = at
    return f"{abs(north):.2f}° {'N' if north >= 0 else 'S'}, {abs(east):.2f}° {'E' if east >= 0 else 'W'}"
