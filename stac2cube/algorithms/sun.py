"""Where the sun stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from pyproj import CRS, Transformer


def sun_at(time: datetime, longitude: float, latitude: float) -> tuple[float, float]:
    """Azimuth, clockwise from north, and elevation of the sun, degrees, to about 0.1 degrees without refraction.

    The low-accuracy formulas of Meeus, Astronomical Algorithms, chapter 25, as NOAA's solar calculator uses them.

    Args:
        time: With a time zone.
        longitude: Degrees east.
        latitude: Degrees north.
    """
    days = (time.astimezone(UTC) - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400
    century = days / 36525
    mean_longitude = math.radians(280.46646 + 36000.76983 * century)
    anomaly = math.radians(357.52911 + 35999.05029 * century)
    centre = math.radians((1.914602 - 0.004817 * century) * math.sin(anomaly) + 0.019993 * math.sin(2 * anomaly))
    ecliptic = mean_longitude + centre
    obliquity = math.radians(23.439291 - 0.0130042 * century)
    declination = math.asin(math.sin(obliquity) * math.sin(ecliptic))
    ascension = math.atan2(math.cos(obliquity) * math.sin(ecliptic), math.cos(ecliptic))
    sidereal = math.radians(280.46061837 + 360.98564736629 * days + longitude)
    hour, north = sidereal - ascension, math.radians(latitude)
    elevation = math.asin(
        math.sin(north) * math.sin(declination) + math.cos(north) * math.cos(declination) * math.cos(hour)
    )
    azimuth = math.atan2(-math.sin(hour), math.tan(declination) * math.cos(north) - math.sin(north) * math.cos(hour))
    return math.degrees(azimuth) % 360, math.degrees(elevation)


@dataclass(frozen=True)
class SunAngles:
    """Where the sun stands over an area: one pair of angles, or a coarse grid of them.

    Attributes:
        crs: CRS whose north azimuths are counted from, and of the positions below.
        corner: x and y of the first value.
        step: Distance of the values, units of the CRS.
        azimuth: ``(rows, columns)`` degrees clockwise from the CRS's north, rows running south; ``(1, 1)`` for one.
        elevation: Same shape, degrees above the horizon.
    """

    crs: str
    corner: tuple[float, float]
    step: float
    azimuth: np.ndarray
    elevation: np.ndarray

    @classmethod
    def everywhere(cls, azimuth: float, elevation: float, crs: str) -> SunAngles:
        """One pair of angles."""
        return cls(crs, (0.0, 0.0), 1.0, np.array([[azimuth]]), np.array([[elevation]]))

    def at(self, x: float, y: float, crs: str) -> tuple[float, float]:
        """Azimuth, clockwise from the north of another CRS's grid, and elevation at a position in it, degrees."""
        from scipy import ndimage

        there = Transformer.from_crs(crs, self.crs, always_xy=True)
        east, north = there.transform(x, y)
        place = [[(self.corner[1] - north) / self.step], [(east - self.corner[0]) / self.step]]
        directions = [
            ndimage.map_coordinates(part(np.radians(self.azimuth)), place, order=1, mode="nearest")[0]
            for part in (np.sin, np.cos)
        ]
        elevation = float(ndimage.map_coordinates(self.elevation, place, order=1, mode="nearest")[0])
        azimuth = math.atan2(*directions)
        # A step towards the sun, seen in the other CRS.
        geographic = CRS(self.crs).is_geographic
        length = 1e-3 if geographic else 100.0
        widening = 1 / math.cos(math.radians(north)) if geographic else 1.0
        towards = (east + length * math.sin(azimuth) * widening, north + length * math.cos(azimuth))
        back = Transformer.from_crs(self.crs, crs, always_xy=True)
        (x0, y0), (x1, y1) = back.transform(east, north), back.transform(*towards)
        return math.degrees(math.atan2(x1 - x0, y1 - y0)) % 360, elevation
