"""The simulated world: a landscape, its seasons, its clouds. Everything follows from a position, a day and a seed.

Positions are metres in UTM zone 32, whatever lattice asks, so that overlapping tiles agree on the ground. Reflectances
are of the order that textbooks give for crops, soil, forest, water and roofs; they are made up, not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""Reflectance bands of Sentinel-2 L2A in order of their number."""

_SPECTRA = {
    "crop": (0.02, 0.03, 0.06, 0.03, 0.09, 0.30, 0.38, 0.42, 0.43, 0.42, 0.20, 0.09),
    "soil": (0.07, 0.09, 0.12, 0.16, 0.18, 0.20, 0.22, 0.24, 0.25, 0.25, 0.33, 0.29),
    "dark_soil": (0.05, 0.06, 0.08, 0.10, 0.12, 0.13, 0.15, 0.17, 0.18, 0.18, 0.24, 0.21),
    "forest": (0.02, 0.02, 0.04, 0.02, 0.06, 0.18, 0.22, 0.24, 0.25, 0.24, 0.11, 0.05),
    "bare_forest": (0.04, 0.05, 0.06, 0.07, 0.09, 0.12, 0.14, 0.15, 0.16, 0.16, 0.17, 0.12),
    "meadow": (0.03, 0.04, 0.08, 0.05, 0.11, 0.26, 0.31, 0.34, 0.35, 0.34, 0.23, 0.12),
    "water": (0.06, 0.05, 0.04, 0.02, 0.015, 0.01, 0.01, 0.008, 0.007, 0.006, 0.004, 0.003),
    "roof": (0.12, 0.15, 0.17, 0.21, 0.22, 0.23, 0.24, 0.26, 0.26, 0.26, 0.29, 0.28),
    "road": (0.10, 0.11, 0.12, 0.13, 0.14, 0.14, 0.15, 0.16, 0.16, 0.16, 0.19, 0.18),
    "cloud": (0.62, 0.63, 0.62, 0.63, 0.64, 0.65, 0.65, 0.66, 0.66, 0.60, 0.42, 0.32),
}


@dataclass(frozen=True)
class Sky:
    """The weather of one overpass.

    Attributes:
        seed: Decides where the clouds are.
        cover: Fraction of the sky under cloud, 0 to 1.
        sun_azimuth: Degrees clockwise from north.
        sun_elevation: Degrees.
        height: Height of the clouds above ground, metres.
    """

    seed: int
    cover: float
    sun_azimuth: float
    sun_elevation: float
    height: float = 700.0


@dataclass(frozen=True)
class Truth:
    """What was really there, on one lattice of shape ``(rows, columns)``.

    Attributes:
        reflectance: Surface seen through clouds and in their shadow, per band, float32.
        clear: Surface without any cloud, per band, float32.
        cloud: Opacity of cloud, 0 to 1, float32.
        shadow: Depth of cloud shadow, 0 to 1, float32.
        water: True on water.
        green: Fraction of green vegetation, float32.
    """

    reflectance: dict[str, np.ndarray]
    clear: dict[str, np.ndarray]
    cloud: np.ndarray
    shadow: np.ndarray
    water: np.ndarray
    green: np.ndarray


_TILE = 256
"""Edge of the squares worked on at a time: what lies between positions and pixels stays in the processor's cache."""


def look(x: np.ndarray, y: np.ndarray, day_of_year: int, sky: Sky, seed: int) -> Truth:
    """The world at positions ``x``, ``y`` (metres, both of shape ``(rows, columns)``) on a day, under a sky."""

    def empty() -> np.ndarray:
        return np.empty(x.shape, "float32")

    clear = {band: empty() for band in BANDS}
    seen = {band: empty() for band in BANDS} if sky.cover > 0 else clear
    whole = Truth(seen, clear, empty(), empty(), np.empty(x.shape, bool), empty())
    for tile in _tiles(x.shape):
        part = _look(x[tile], y[tile], day_of_year, sky, seed)
        for band in BANDS:
            whole.clear[band][tile] = part.clear[band]
            whole.reflectance[band][tile] = part.reflectance[band]
        whole.cloud[tile], whole.shadow[tile] = part.cloud, part.shadow
        whole.water[tile], whole.green[tile] = part.water, part.green
    return whole


def clouds(x: np.ndarray, y: np.ndarray, sky: Sky) -> np.ndarray:
    """The opacity of the clouds alone, float32, as :func:`look` has it."""
    opacity = np.empty(x.shape, "float32")
    for tile in _tiles(x.shape):
        opacity[tile] = _clouds(x[tile], y[tile], sky)
    return opacity


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for top, left in np.ndindex(-(-shape[0] // _TILE), -(-shape[1] // _TILE)):
        yield slice(top * _TILE, (top + 1) * _TILE), slice(left * _TILE, (left + 1) * _TILE)


def _look(x: np.ndarray, y: np.ndarray, day_of_year: int, sky: Sky, seed: int) -> Truth:
    parts, green = _cover(x, y, day_of_year, seed)
    texture = 1 + 0.35 * (_fractal(x, y, 90.0, seed + 1, 4) - 0.5)
    cloud = _clouds(x, y, sky)
    relief = _fractal(x, y, 400.0, sky.seed + 50, 4) if sky.cover > 0 else np.zeros(x.shape)
    shift = sky.height / math.tan(math.radians(sky.sun_elevation))
    azimuth = math.radians(sky.sun_azimuth)
    # The shadow at a place is cast by the cloud that stands towards the sun from it.
    shadow = _clouds(x + shift * math.sin(azimuth), y + shift * math.cos(azimuth), sky) * (1 - cloud)
    clear, seen = {}, {}
    for place, band in enumerate(BANDS):
        ground = sum(weight * _SPECTRA[name][place] for name, weight in parts.items()) * texture
        clear[band] = ground.astype("float32")
        if sky.cover > 0:
            lit = ground * (1 - 0.6 * shadow)
            bright = _SPECTRA["cloud"][place] * (0.7 + 0.6 * relief)
            seen[band] = (lit * (1 - cloud) + bright * cloud).astype("float32")
    water = parts["water"] > 0.5
    return Truth(
        seen or clear, clear, cloud.astype("float32"), shadow.astype("float32"), water, green.astype("float32")
    )


def _cover(x: np.ndarray, y: np.ndarray, day: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Weight of each kind of ground, summing to 1, and the green fraction."""
    summer = 0.5 - 0.5 * math.cos(2 * math.pi * (day - 20) / 365)  # 0 in late January, 1 in late July
    crop, tone = _fields(x, y, day, seed)
    hills = _fractal(x, y, 1500.0, seed + 3, 5)
    forest = _step(hills, 0.58, 0.59)
    meadow = _step(hills, 0.55, 0.56) * (1 - forest)
    course = 900 * np.sin(x / 1500) + 260 * np.sin(x / 410 + 1) + 5_262_600
    river = _step(70 + 25 * np.sin(x / 700) - np.abs(y - course), -6, 6)
    lake = _step(1 - np.hypot((x - 725_400) / 620, (y - 5_264_300) / 380), -0.015, 0.015)
    water = np.maximum(river, lake)
    town, road = _town(x, y, seed)
    dry = 1 - water
    parts = {"water": water, "roof": town * dry, "road": road * (1 - town) * dry}
    rest = np.clip(1 - sum(parts.values()), 0, 1)
    parts |= {
        "forest": rest * forest * (0.45 + 0.55 * summer),
        "bare_forest": rest * forest * (0.55 - 0.55 * summer),
        "meadow": rest * meadow * (0.5 + 0.5 * summer),
        "crop": rest * (1 - forest - meadow) * crop,
    }
    bare = np.clip(1 - sum(parts.values()), 0, 1)
    parts |= {"soil": bare * tone, "dark_soil": bare * (1 - tone)}
    return parts, parts["forest"] + parts["meadow"] + parts["crop"]


def _fields(x: np.ndarray, y: np.ndarray, day: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Green fraction and lightness of the soil: parcels with crisp edges, each with its own crop calendar."""
    angle = 0.35
    u = x * math.cos(angle) + y * math.sin(angle)
    v = -x * math.sin(angle) + y * math.cos(angle)
    row = np.floor(v / 260)
    column = np.floor((u + 140 * _hash(row, row * 0, seed + 5)) / (90 + 170 * _hash(row, row * 0 + 1, seed + 6)))
    crop = _hash(column, row, seed + 7)
    peak = np.where(crop < 0.35, 135, np.where(crop < 0.7, 215, 175))  # winter cereal, maize, grassland
    width = np.where(crop < 0.35, 45, np.where(crop < 0.7, 40, 95))
    return 0.05 + 0.9 * np.exp(-(((day - peak) / width) ** 2)), _hash(column, row, seed + 9)


def _town(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Roofs and streets."""
    density = np.exp(-(((x - 722_300) / 520) ** 2) - ((y - 5_263_900) / 430) ** 2)
    density += 0.8 * np.exp(-(((x - 727_000) / 260) ** 2) - ((y - 5_261_700) / 260) ** 2)
    house = _hash(np.floor(x / 30), np.floor(y / 30), seed + 8)
    roof = ((density > 0.35) & (house < 0.30 + 0.45 * density)).astype(float)
    highway = np.abs(y - 5_264_900 + 0.42 * (x - 722_300) - 120 * np.sin(x / 900))
    lanes = np.minimum(np.abs((x + 0.3 * y) % 1400 - 700), np.abs((y - 0.3 * x) % 1700 - 850))
    street = np.where(density > 0.3, np.minimum(np.abs(x % 130 - 65), np.abs(y % 130 - 65)), 1e3)
    road = np.maximum.reduce([_step(14 - highway, -3, 3), _step(6 - lanes, -3, 3) * 0.8, _step(8 - street, -3, 3)])
    return roof * (road < 0.5), road


def _clouds(x: np.ndarray, y: np.ndarray, sky: Sky) -> np.ndarray:
    """Opacity of the cloud above each place: soft blobs of several sizes."""
    if sky.cover <= 0:
        return np.zeros(x.shape)
    field = _fractal(x, y, 1300.0, sky.seed, 6)
    threshold = 0.5 + _SPREAD * NormalDist().inv_cdf(1 - min(sky.cover, 0.99))
    return _step(field, threshold - 0.05, threshold + 0.05)


_SPREAD = 0.115
"""Standard deviation of :func:`_fractal`, measured; with it a threshold leaves about the cover asked for."""


def _fractal(x: np.ndarray, y: np.ndarray, size: float, seed: int, octaves: int) -> np.ndarray:
    """Noise, around 0.5, of a given largest grain in metres and finer ones down to ``size / 2 ** (octaves - 1)``."""
    layers = [0.55**octave * _noise(x, y, size / 2**octave, seed * 31 + octave) for octave in range(octaves)]
    total: np.ndarray = np.sum(layers, axis=0) / sum(0.55**octave for octave in range(octaves))
    return total


def _noise(x: np.ndarray, y: np.ndarray, size: float, seed: int) -> np.ndarray:
    """Smooth noise, 0 to 1, of one grain in metres: random values on a lattice, blended between.

    The lattice is turned by an angle of its own, so that grains laid over each other do not line up with the axes.
    """
    angle = 2.4 * seed
    along = (x * math.cos(angle) + y * math.sin(angle)) / size
    across = (y * math.cos(angle) - x * math.sin(angle)) / size
    column, row = np.floor(along), np.floor(across)
    u, v = along - column, across - row
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    # Values are drawn once per knot of the lattice, not four times per pixel.
    left, top = column.min(), row.min()
    knots = np.meshgrid(np.arange(left, column.max() + 2), np.arange(top, row.max() + 2))
    drawn = _hash(*knots, seed)
    # A knot and its neighbours as places in one long row, which is quicker than by row and column.
    wide, knot = drawn.shape[1], ((row - top) * drawn.shape[1] + (column - left)).astype("intp")
    low = drawn.ravel().take(knot) * (1 - u) + drawn.ravel()[1:].take(knot) * u
    high = drawn.ravel()[wide:].take(knot) * (1 - u) + drawn.ravel()[wide + 1 :].take(knot) * u
    blended: np.ndarray = low * (1 - v) + high * v
    return blended


def _hash(column: np.ndarray, row: np.ndarray, seed: int) -> np.ndarray:
    """A random number, 0 to 1, for each cell of a lattice: integers mixed by multiplication and shifts."""
    mixed = column.astype("int64").astype("uint64") * np.uint64(0x9E3779B97F4A7C15)
    mixed = mixed ^ (row.astype("int64").astype("uint64") * np.uint64(0xC2B2AE3D27D4EB4F))
    mixed = mixed ^ np.uint64((seed * 0x165667B19E3779F9) % 2**64)
    for shift, factor in ((31, 0xBF58476D1CE4E5B9), (29, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(32))) >> np.uint64(11)).astype("float64") / 2**53


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
