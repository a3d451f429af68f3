#!/bin/bash
# `rustac serve` answers a search with a filter with no items and no error.
#
# Seen with rustac 0.9.18, pystac 1.15.2 on Python 3.11.
# Expected: a server without the filter extension refuses `filter` (400), or ignores it and returns all items; clients read an
#           empty FeatureCollection as "there is nothing".
# Seen: a POST search without a filter gives all items. With `filter` in CQL2-JSON, which every item fulfils, or with
#       `query`, the answer is 200 with no features.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check rustac==0.9.18 pystac==1.15.2 || exit 2
"$python" -W ignore - <<'PYTHON'
import datetime
import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pystac

box = [11.0, 47.0, 11.1, 47.1]
ring = [[11.0, 47.0], [11.1, 47.0], [11.1, 47.1], [11.0, 47.1], [11.0, 47.0]]
extent = pystac.Extent(pystac.SpatialExtent([box]), pystac.TemporalExtent([[datetime.datetime(2024, 1, 1), None]]))
collection = pystac.Collection("scenes", "scenes", extent, href="./collection.json")
items = []
for day in range(1, 6):
    at = datetime.datetime(2024, 6, day, tzinfo=datetime.timezone.utc)
    item = pystac.Item(f"scene-{day}", {"type": "Polygon", "coordinates": [ring]}, box, at, {"eo:cloud_cover": 10.0 * day})
    items.append({**item.to_dict(include_self_link=False), "collection": "scenes", "links": []})
Path("collection.json").write_text(json.dumps({**collection.to_dict(include_self_link=False), "links": []}))
Path("items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
server = subprocess.Popen(["venv/bin/rustac", "serve", "-a", "127.0.0.1:7829", "collection.json", "items.json"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def search(**body):
    ask = urllib.request.Request("http://127.0.0.1:7829/search", json.dumps({"collections": ["scenes"], **body}).encode(),
                                 {"Content-Type": "application/json"})
    with urllib.request.urlopen(ask, timeout=10) as answer:
        return answer.status, len(json.load(answer)["features"])

try:
    for _ in range(100):
        try:
            search()
            break
        except OSError:
            time.sleep(0.1)
    plain = search()
    below = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 100]}
    filtered = search(**{"filter-lang": "cql2-json", "filter": below})
    queried = search(query={"eo:cloud_cover": {"lt": 100}})
finally:
    server.terminate()
print("status and items without a filter:      ", plain)
print("filter eo:cloud_cover < 100 (CQL2-JSON):", filtered)
print("query eo:cloud_cover lt 100:            ", queried)
assert plain == (200, 5) and filtered == (200, 0) and queried == (200, 0), "the behaviour has changed"
PYTHON
