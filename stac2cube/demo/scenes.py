"""Overpasses and granules: when the simulated satellites pass, over which tiles, processed by which baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from affine import Affine
from pyproj import Transformer

from stac2cube.demo.surface import Sky, Truth, look

WORLD = "EPSG:32632"
"""CRS in which the world is described."""

CORNER = (720_000, 5_266_500)
"""Upper left corner of the first tile in that CRS, metres."""

SATURATED = 65535
OFFSET = 1000
"""Counts that baselines from 04.00 on add (ESA, January 2022)."""


@dataclass(frozen=True)
class Tile:
    """A granule's lattice: a smaller sister of an MGRS tile.

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
        baseline: Processing baseline of the products first made.
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
        """``"S2A"``."""
        return f"S2{self.platform[-1].upper()}"

    @property
    def absolute_orbit(self) -> int:
        """Orbits since launch: of the right order for the date, and of the cycle's 143 the one that is flown.

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
            # The first of a year is cloudy and the summer ones are not all, so that a demo has something to show.
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
class Image:
    """What a granule's files hold, and the truth behind them.

    Attributes:
        truth: The world on the tile's 10 m lattice.
        valid: True within the swath, ``(rows, columns)``.
        reflectance: Per band at its own pixel size: float32, what the processor found, NaN outside the swath. A few
            single pixels are slightly negative and a few glints far above 1, as in real products.
        scl: Scene classes at 20 m, uint8, 0 outside the swath.
        aot: Aerosol optical thickness at 10 m, counts of 0.001, 0 outside the swath.
        wvp: Water vapour at 10 m, counts of 0.001 cm, 0 outside the swath.
    """

    truth: Truth
    valid: np.ndarray
    reflectance: dict[str, np.ndarray]
    scl: np.ndarray
    aot: np.ndarray
    wvp: np.ndarray


GSD = dict.fromkeys(("B02", "B03", "B04", "B08", "AOT", "WVP"), 10)
GSD |= dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 20) | dict.fromkeys(("B01", "B09"), 60)
"""Pixel size of each band, metres."""


def image(tile: Tile, overpass: Overpass, seed: int) -> Image:
    """Take the picture of a tile."""
    x, y = tile.centres()
    truth = look(x, y, overpass.time.timetuple().tm_yday, overpass.sky, seed)
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
    # Both are smooth: like the processor, they are computed at 20 m, and repeated at 10 m.
    haze = np.where(scl > 0, 120 + 80 * _mean(truth.cloud, 2), 0)
    vapour = np.where(scl > 0, 1500 + 400 * np.sin(_mean(x + 2 * y, 2) / 9000), 0)
    return Image(truth, valid, reflectance, scl, *(_doubled(np.round(v).astype("uint16")) for v in (haze, vapour)))


def counts(reflectance: np.ndarray, baseline: str) -> np.ndarray:
    """What ESA's processor writes: 0 without data, else round(reflectance * 10000) plus the offset since 04.00."""
    offset = OFFSET if float(baseline) >= 4 else 0
    numbers = np.round(np.nan_to_num(reflectance).astype("float64") * 10_000) + offset
    return np.where(np.isnan(reflectance), 0, np.clip(numbers, 1, SATURATED)).astype("uint16")


def footprint_of(tile: Tile, valid: np.ndarray) -> dict[str, Any]:
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
    """True at about one 10 m pixel in 7,000, the same places on the ground whichever tile of the zone looks."""
    points: np.ndarray = (np.floor(x / 10) % 89 == phase) & (np.floor(y / 10) % 79 == phase)
    return points


def _classes(truth: Truth) -> np.ndarray:
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
