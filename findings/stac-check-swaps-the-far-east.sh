#!/bin/bash
# stac-check calls longitude and latitude swapped for every correct geometry beyond 90 degrees east or west, and for no swapped one.
#
# Seen with stac-check 1.14.0 on Python 3.11.
# Expected: advice about the order of coordinates for geometries whose order is wrong, and none for those whose order is right.
# Seen: its test for "likely in the correct order" is the wrong way round: places in Australia, Japan and on the west coast of America,
#       in correct GeoJSON, get the advice "Geometry coordinates may be in the wrong order"; a swapped place in Europe gets none.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check stac-check==1.14.0 || exit 2
"$python" -W ignore - <<'PYTHON'
import json

from stac_check.lint import Linter


def advice(name, first, second):
    """Of an Item around a place: its order is right if longitude comes first."""
    box = [first - 0.1, second - 0.1, first + 0.1, second + 0.1]
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "bbox": box, "links": [], "assets": {},
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"datetime": "2024-06-01T10:00:00Z"},
    }
    with open(f"{name}.json", "w") as file:
        json.dump(item, file)
    return "geometry_coordinates_order" in Linter(f"{name}.json").create_best_practices_dict()


right = {name: advice(name, *place) for name, place in {
    "sydney": (151.2, -33.9), "tokyo": (139.7, 35.7), "seattle": (-122.3, 47.6), "munich": (11.6, 48.1)}.items()}
swapped = advice("munich-swapped", 48.1, 11.6)
print("called swapped, though right:", right)
print("called swapped, and swapped: ", swapped)
assert right == {"sydney": True, "tokyo": True, "seattle": True, "munich": False}, "the behaviour has changed"
assert not swapped, "the behaviour has changed"
PYTHON
