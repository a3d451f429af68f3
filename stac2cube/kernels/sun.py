"""Where the sun stands."""

from __future__ import annotations

import math
from datetime import UTC, datetime


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
