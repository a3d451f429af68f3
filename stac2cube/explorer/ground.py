"""What the map is drawn from: outlines of land."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import shapely


@cache
def land() -> str:
    """Land as JSON: ``{"rings": [[lon, lat, lon, lat, ...], ...]}``, to be filled by the even-odd rule.

    It is what odc-geo's outline of the oceans leaves, some 4000 corners around the world: for orientation only.
    """
    from odc.geo.data import ocean_geom

    everywhere = shapely.box(-180, -85.06, 180, 85.06)  # the part of the globe that Mercator shows
    found = everywhere.difference(ocean_geom().geom)
    rings = [_flat(ring) for part in shapely.get_parts(found) for ring in (part.exterior, *part.interiors)]
    return json.dumps({"rings": rings}, separators=(",", ":"))


def _flat(ring: Any) -> list[float]:
    return [round(float(number), 2) for number in shapely.get_coordinates(ring).ravel()]
