"""The globe shows land where land is, as PROJ sees it, from wherever one looks."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from pyproj import Proj
from shapely import Polygon, contains_xy, get_coordinates

from stac2cube.export.report_figures import RADIUS, draw_plan, globe
from stac2cube.model.grid import Grid

LAND = {
    "Bavaria": (11.5, 48.5),
    "Sahara": (10.0, 23.0),
    "Kansas": (-98.0, 38.5),
    "Siberia": (105.0, 62.0),
    "Amazonas": (-62.0, -5.0),
    "Outback": (134.0, -25.0),
    "South Pole": (0.0, -89.0),
    "Greenland": (-40.0, 72.0),
    "Chukotka": (178.0, 67.5),
}
SEA = {
    "Atlantic": (-35.0, 30.0),
    "Pacific": (-150.0, 0.0),
    "Indian Ocean": (80.0, -25.0),
    "North Pole": (0.0, 89.0),
    "Caspian Sea": (51.0, 41.5),
    "Southern Ocean": (-120.0, -62.0),
    "Mediterranean": (18.0, 35.0),
}
VIEWS = [(12, 47.5), (-100, 40), (134, -25), (178, -18), (-60, -80), (30, 88), (-150, 0), (95, 10), (-0.1, 0.1)]


def polygons(path: str) -> list[Polygon]:
    """Closed parts of an SVG path as shapes, y up."""
    found = []
    for part in re.findall(r"M([^MZ]+)Z", path):
        numbers = np.array([pair.split() for pair in part.split("L")], dtype="float64")
        if len(numbers) > 3:
            found.append(Polygon(numbers * (1, -1)).buffer(0))
    return found


@pytest.mark.parametrize("at", VIEWS)
def test_land_and_sea_are_where_they_are(at: tuple[float, float]) -> None:
    root = ElementTree.fromstring(globe(*at, (at[0], at[1], at[0] + 0.1, at[1] + 0.1)))
    land = polygons(next(node for node in root if node.get("class") == "land").get("d", ""))
    seen = Proj(proj="ortho", R=1, lon_0=at[0], lat_0=at[1])
    looked_at = 0
    for places, on_land in ((LAND, True), (SEA, False)):
        for name, place in places.items():
            x, y = seen(*place)
            if np.isfinite(x) and np.hypot(x, y) < 0.98:  # at the very rim all is narrow
                inside = sum(bool(contains_xy(shape, x * RADIUS, y * RADIUS)) for shape in land) % 2 == 1
                assert inside == on_land, f"{name} seen from {at}"
                looked_at += 1
    assert looked_at >= 4
    assert np.hypot(*get_coordinates(land).T).max() < RADIUS + 0.1


def test_a_large_cube_is_an_outline_and_a_small_one_a_dot() -> None:
    assert 'class="here-line"' in globe(10, 50, (0, 40, 20, 60))
    assert '<circle class="here"' in globe(10, 50, (10, 50, 10.1, 50.1))


def test_the_plan_keeps_proportions() -> None:
    grid = Grid("EPSG:32632", 10.0, (500000.0, 5000000.0), (2000, 5000), shard=(2048, 2048))
    drawn = draw_plan(grid, [[(500000.0, 5000000.0), (550000.0, 5000000.0), (550000.0, 4980000.0)]])
    frame = next(node for node in ElementTree.fromstring(drawn) if node.get("class") == "frame")
    assert (frame.get("width"), frame.get("height")) == ("200.0", "80.0")
    assert 'd="M81.9 0V80.0M163.8 0V80.0"' in drawn, "where one file ends and the next begins"
    assert 'd="M0.0 0.0L200.0 0.0L200.0 80.0Z"' in drawn
    assert "h80.0" in drawn
    assert ">20 km<" in drawn
