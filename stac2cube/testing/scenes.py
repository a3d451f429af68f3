"""The simulated world and the overpasses that observe it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
from affine import Affine
from pyproj import Transformer

# The simulated world: a landscape, its seasons, its clouds. Everything is determined by position, day and seed.
#
# Positions are metres in UTM zone 32 for every lattice, so that overlapping tiles agree on the ground. Reflectances are
# of the order given in textbooks for crops, soil, forest, water and roofs; they are invented, not measured.

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
        seed: Determines the positions of the clouds.
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
class SurfaceTruth:
    """The true surface, on one lattice of shape ``(rows, columns)``.

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
"""Edge of the squares processed at a time, pixels: intermediate arrays stay in the processor's cache."""


def view_surface(x: np.ndarray, y: np.ndarray, day_of_year: int, sky: Sky, seed: int) -> SurfaceTruth:
    """The world at positions ``x``, ``y`` (metres, both of shape ``(rows, columns)``) on a day, under a sky."""

    def empty() -> np.ndarray:
        return np.empty(x.shape, "float32")

    clear = {band: empty() for band in BANDS}
    seen = {band: empty() for band in BANDS} if sky.cover > 0 else clear
    whole = SurfaceTruth(seen, clear, empty(), empty(), np.empty(x.shape, bool), empty())
    for tile in _tiles(x.shape):
        part = _look(x[tile], y[tile], day_of_year, sky, seed)
        for band in BANDS:
            whole.clear[band][tile] = part.clear[band]
            whole.reflectance[band][tile] = part.reflectance[band]
        whole.cloud[tile], whole.shadow[tile] = part.cloud, part.shadow
        whole.water[tile], whole.green[tile] = part.water, part.green
    return whole


def clouds(x: np.ndarray, y: np.ndarray, sky: Sky) -> np.ndarray:
    """Opacity of the clouds alone, float32, as in :func:`view_surface`."""
    opacity = np.empty(x.shape, "float32")
    for tile in _tiles(x.shape):
        opacity[tile] = _clouds(x[tile], y[tile], sky)
    return opacity


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for top, left in np.ndindex(-(-shape[0] // _TILE), -(-shape[1] // _TILE)):
        yield slice(top * _TILE, (top + 1) * _TILE), slice(left * _TILE, (left + 1) * _TILE)


def _look(x: np.ndarray, y: np.ndarray, day_of_year: int, sky: Sky, seed: int) -> SurfaceTruth:
    parts, green = _cover(x, y, day_of_year, seed)
    texture = 1 + 0.35 * (_fractal(x, y, 90.0, seed + 1, 4) - 0.5)
    cloud = _clouds(x, y, sky)
    relief = _fractal(x, y, 400.0, sky.seed + 50, 4) if sky.cover > 0 else np.zeros(x.shape)
    shift = sky.height / math.tan(math.radians(sky.sun_elevation))
    azimuth = math.radians(sky.sun_azimuth)
    # The shadow at a position is cast by the cloud in the direction of the sun.
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
    return SurfaceTruth(
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
    """Green fraction and lightness of the soil: parcels with sharp edges, each with its own crop calendar."""
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
    """Opacity of the cloud above each position: soft blobs of several sizes."""
    if sky.cover <= 0:
        return np.zeros(x.shape)
    field = _fractal(x, y, 1300.0, sky.seed, 6)
    threshold = 0.5 + _SPREAD * NormalDist().inv_cdf(1 - min(sky.cover, 0.99))
    return _step(field, threshold - 0.05, threshold + 0.05)


_SPREAD = 0.115
"""Standard deviation of :func:`_fractal`, measured; from it follows the threshold that gives a cloud cover."""


def _fractal(x: np.ndarray, y: np.ndarray, size: float, seed: int, octaves: int) -> np.ndarray:
    """Noise, around 0.5, of a given largest grain in metres and finer ones down to ``size / 2 ** (octaves - 1)``."""
    layers = [0.55**octave * _noise(x, y, size / 2**octave, seed * 31 + octave) for octave in range(octaves)]
    total: np.ndarray = np.sum(layers, axis=0) / sum(0.55**octave for octave in range(octaves))
    return total


def _noise(x: np.ndarray, y: np.ndarray, size: float, seed: int) -> np.ndarray:
    """Smooth noise, 0 to 1, of one grain in metres: random values on a lattice, blended between.

    The lattice is rotated by an angle that depends on the seed, so that overlaid grains do not align with the axes.
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
    # A knot and its neighbours as indices into a flat array, which is faster than by row and column.
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


# Overpasses and granules: times of the simulated satellites, tiles, processing baselines.

WORLD = "EPSG:32632"
"""CRS in which the world is described."""

CORNER = (720_000, 5_266_500)
"""Upper left corner of the first tile in that CRS, metres."""

SATURATED = 65535
OFFSET = 1000
"""Counts that baselines from 04.00 on add (ESA, January 2022)."""


@dataclass(frozen=True)
class Tile:
    """A granule's lattice: a smaller version of an MGRS tile.

    Attributes:
        code: MGRS-like code, ``"32TPT"``.
        epsg: UTM zone.
        origin: x and y of the upper left corner, metres, multiples of 60.
        pixels: 10 m pixels per edge.
    """

    code: str
    epsg: int
    origin: tuple[int, int]
    pixels: int

    def transform(self, gsd: int) -> Affine:
        """Affine transform of the lattice with a pixel size of 10, 20 or 60 m."""
        return Affine(gsd, 0, self.origin[0], 0, -gsd, self.origin[1])

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """World positions of the 10 m pixel centres, two arrays ``(rows, columns)``."""
        steps = 10 * (np.arange(self.pixels) + 0.5)
        x, y = np.meshgrid(self.origin[0] + steps, self.origin[1] - steps)
        if f"EPSG:{self.epsg}" != WORLD:
            x, y = Transformer.from_crs(self.epsg, WORLD, always_xy=True).transform(x, y)
        return x, y


def tiles(pixels: int) -> tuple[Tile, Tile, Tile]:
    """Two tiles that overlap in zone 32, and one in zone 33 that overlaps the second on the ground."""
    overlap = 60 * math.ceil(pixels / 8 / 6)
    first = Tile("32TPT", 32632, CORNER, pixels)
    second = Tile("32TQT", 32632, (first.origin[0] + 10 * pixels - overlap, first.origin[1]), pixels)
    inside = (second.origin[0] + 6 * pixels, second.origin[1])
    x, y = Transformer.from_crs(WORLD, 32633, always_xy=True).transform(*inside)
    return first, second, Tile("33TTN", 32633, (60 * round(x / 60), 60 * round(y / 60)), pixels)


@dataclass(frozen=True)
class Overpass:
    """One passage of one satellite.

    Attributes:
        time: Start of the datatake, UTC.
        platform: ``"sentinel-2a"``.
        orbit: Relative orbit.
        baseline: Processing baseline of the first products.
        sky: The weather.
        swath_edge: Whether the swath ends within the tiles.
    """

    time: datetime
    platform: str
    orbit: int
    baseline: str
    sky: Sky
    swath_edge: bool

    @property
    def unit(self) -> str:
        """Short name of the platform, ``"S2A"``."""
        return f"S2{self.platform[-1].upper()}"

    @property
    def absolute_orbit(self) -> int:
        """Orbits since launch: consistent with the date, and with the relative orbit within the cycle of 143.

        Counted from real passages: Sentinel-2A's orbit 24558 of 5 March 2020 was R108, 2B's 17394 of 5 July 2020 R065.
        """
        known = {
            "sentinel-2a": (24558, 108, datetime(2020, 3, 5, 10, 30, tzinfo=UTC)),
            "sentinel-2b": (17394, 65, datetime(2020, 7, 5, 10, 16, tzinfo=UTC)),
        }
        number, orbit, when = known[self.platform]
        flown = number + round((self.time - when) / timedelta(days=10) * 143)
        return flown + (self.orbit - orbit - (flown - number)) % 143

    def reprocessed(self, baseline: str) -> Overpass:
        """The same passage in a later processing baseline."""
        return replace(self, baseline=baseline)


def overpasses(years: tuple[int, ...], per_year: int, cloud: float, seed: int) -> list[Overpass]:
    """Passages spread over the seasons, satellites and orbits in turn; every third is clear."""
    passages: list[Overpass] = []
    for year in years:
        for number in range(per_year):
            place = len(passages)
            day = int(18 + 347 * number / per_year)
            time = datetime(year, 1, 1, 10, 20 + 10 * (place % 2), 31, 24_000, tzinfo=UTC) + timedelta(days=day)
            summer = 0.5 - 0.5 * math.cos(2 * math.pi * (day - 20) / 365)
            # The first of a year is cloudy and not all summer ones are, so that a demo has something to show.
            cover = 0.0 if place % 3 == 2 else cloud * (0.6 + 0.8 * ((place * 7 + seed) % 5) / 4)
            passages.append(
                Overpass(
                    time=time,
                    platform="sentinel-2a" if place % 2 == 0 else "sentinel-2b",
                    orbit=65 if place % 2 == 0 else 108,
                    baseline=_baseline_of(time),
                    sky=Sky(seed * 1000 + place * 17, cover, 160.0 + 6 * (place % 2), 20.0 + 42 * summer),
                    swath_edge=place % 2 == 1,
                )
            )
    return passages


def _baseline_of(time: datetime) -> str:
    """The baseline of ESA's ground segment on a date (roughly: 04.00 began on 25 January 2022)."""
    for since, baseline in (
        (datetime(2023, 12, 13, tzinfo=UTC), "05.10"),
        (datetime(2022, 12, 6, tzinfo=UTC), "05.09"),
    ):
        if time >= since:
            return baseline
    return "04.00" if time >= datetime(2022, 1, 25, tzinfo=UTC) else "03.01"


@dataclass(frozen=True)
class GranuleImage:
    """Contents of a granule's files, and the true surface.

    Attributes:
        truth: The world on the tile's 10 m lattice.
        valid: True within the swath, ``(rows, columns)``.
        reflectance: Per band at its own pixel size: float32, as found by the processor, NaN outside the swath. A few
            single pixels are slightly negative and a few glints far above 1, as in real products.
        scl: Scene classes at 20 m, uint8, 0 outside the swath.
        aot: Aerosol optical thickness at 10 m, counts of 0.001, 0 outside the swath.
        wvp: Water vapour at 10 m, counts of 0.001 cm, 0 outside the swath.
    """

    truth: SurfaceTruth
    valid: np.ndarray
    reflectance: dict[str, np.ndarray]
    scl: np.ndarray
    aot: np.ndarray
    wvp: np.ndarray


GSD = dict.fromkeys(("B02", "B03", "B04", "B08", "AOT", "WVP"), 10)
GSD |= dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 20) | dict.fromkeys(("B01", "B09"), 60)
"""Pixel size of each band, metres."""


def image(tile: Tile, overpass: Overpass, seed: int) -> GranuleImage:
    """Simulate the image of a tile."""
    x, y = tile.centres()
    truth = view_surface(x, y, overpass.time.timetuple().tm_yday, overpass.sky, seed)
    # The swath's western edge runs obliquely over the middle of the first tile.
    edge = CORNER[0] + 3.125 * tile.pixels + 0.25 * (CORNER[1] - y)
    valid = x > edge if overpass.swath_edge else np.ones(x.shape, bool)
    sharp = {band: values.astype("float64") for band, values in truth.reflectance.items()}
    dark, glint = _grid_points(x, y, 3), _grid_points(x, y, 47)
    for band, values in sharp.items():
        values[dark] = -0.0042
        values[glint] = 6.8 if band in ("B02", "B03") else 1.2
    reflectance = {}
    for band, values in sharp.items():
        factor = GSD[band] // 10
        reflectance[band] = np.where(_all(valid, factor), _mean(values, factor), np.nan).astype("float32")
    scl = np.where(_all(valid, 2), _classes(truth), 0).astype("uint8")
    # Both are smooth: as in ESA's processor, they are computed at 20 m, and repeated at 10 m.
    haze = np.where(scl > 0, 120 + 80 * _mean(truth.cloud, 2), 0)
    vapour = np.where(scl > 0, 1500 + 400 * np.sin(_mean(x + 2 * y, 2) / 9000), 0)
    return GranuleImage(
        truth, valid, reflectance, scl, *(_doubled(np.round(v).astype("uint16")) for v in (haze, vapour))
    )


def counts(reflectance: np.ndarray, baseline: str) -> np.ndarray:
    """Counts as ESA's processor writes them: 0 without data, else round(reflectance * 10000) + offset since 04.00."""
    offset = OFFSET if float(baseline) >= 4 else 0
    numbers = np.round(np.nan_to_num(reflectance).astype("float64") * 10_000) + offset
    return np.where(np.isnan(reflectance), 0, np.clip(numbers, 1, SATURATED)).astype("uint16")


def simulated_footprint(tile: Tile, valid: np.ndarray) -> dict[str, Any]:
    """Outline of the valid pixels: each row's first and last, which is exact for an oblique swath edge."""
    rows = np.flatnonzero(valid.any(axis=1))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, 25).astype(int))]
    left = [(int(valid[row].argmax()), int(row)) for row in rows]
    right = [(int(valid.shape[1] - valid[row][::-1].argmax()), int(row)) for row in rows]
    last = int(rows[-1]) + 1
    ring = [*left, (left[-1][0], last), (right[-1][0], last), *right[::-1], left[0]]
    x, y = tile.origin
    corners = [(float(x + 10 * column), float(y - 10 * row)) for column, row in ring]
    return {"type": "Polygon", "coordinates": [lonlat(tile.epsg, corners)]}


def lonlat(epsg: int, corners: list[tuple[float, float]]) -> list[list[float]]:
    """Points in WGS84, rounded to a centimetre."""
    project = Transformer.from_crs(epsg, 4326, always_xy=True)
    return [[round(value, 7) for value in project.transform(x, y)] for x, y in corners]


def _grid_points(x: np.ndarray, y: np.ndarray, phase: int) -> np.ndarray:
    """True at about one 10 m pixel in 7,000, at the same positions on the ground for all tiles of the zone."""
    points: np.ndarray = (np.floor(x / 10) % 89 == phase) & (np.floor(y / 10) % 79 == phase)
    return points


def _classes(truth: SurfaceTruth) -> np.ndarray:
    """Scene classes at 20 m as Sen2Cor numbers them."""
    cloud, shadow, green = _mean(truth.cloud, 2), _mean(truth.shadow, 2), _mean(truth.green, 2)
    water = _mean(truth.water.astype(float), 2) > 0.5
    ground = np.where(water, 6, np.where(green > 0.4, 4, 5))
    shaded = np.where(shadow > 0.3, 3, ground)
    classes: np.ndarray = np.select([cloud > 0.5, cloud > 0.2, cloud > 0.05], [9, 8, 7], shaded)
    return classes


def _mean(values: np.ndarray, factor: int) -> np.ndarray:
    rows, columns = values.shape
    blocks = values.reshape(rows // factor, factor, columns // factor, factor)
    mean: np.ndarray = blocks.mean(axis=(1, 3))
    return mean


def _doubled(values: np.ndarray) -> np.ndarray:
    return values.repeat(2, axis=0).repeat(2, axis=1)


def _all(valid: np.ndarray, factor: int) -> np.ndarray:
    whole: np.ndarray = _mean(valid.astype("float32"), factor) == 1
    return whole
