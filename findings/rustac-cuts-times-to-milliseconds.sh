#!/bin/bash
# rustac cuts the times of items to milliseconds when it writes STAC GeoParquet, without a word.
#
# Seen with rustac 0.9.18, stac-geoparquet 0.8.3, pyarrow 26.0.1 on Python 3.11.
# Expected: what is written as STAC GeoParquet and read again is the same Item. Times of Landsat have microseconds, and
#           stac-geoparquet keeps them.
# Seen: rustac writes columns of milliseconds. `datetime`, `created` and `updated` come back changed, always to an earlier
#       time. So an Item that did not change looks newer in its API than in the table, and an interval that begins with
#       the Item's own time no longer holds it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check rustac==0.9.18 stac-geoparquet==0.8.3 pyarrow==26.0.1 || exit 2
"$python" -W ignore - <<'PYTHON'
import json

import pyarrow.parquet as pq
import rustac
from stac_geoparquet.arrow import parse_stac_ndjson_to_parquet

TIME = "2022-03-27T11:01:33.289703Z"
ring = [[9.0, 47.0], [10.0, 47.0], [10.0, 48.0], [9.0, 48.0], [9.0, 47.0]]
item = {
    "type": "Feature", "stac_version": "1.0.0", "id": "one", "collection": "one", "bbox": [9.0, 47.0, 10.0, 48.0],
    "geometry": {"type": "Polygon", "coordinates": [ring]}, "links": [],
    "properties": {"datetime": TIME, "created": TIME, "updated": TIME},
    "assets": {"red": {"href": "https://example.org/red.tif"}},
}
with open("items.ndjson", "w") as file:
    file.write(json.dumps(item) + "\n")
rustac.write_sync("rustac.parquet", [item])
parse_stac_ndjson_to_parquet("items.ndjson", "geoparquet.parquet")

found = {}
for name in ("rustac", "geoparquet"):
    table = pq.read_table(f"{name}.parquet")
    for key in ("datetime", "created", "updated"):
        found[name, key] = table[key].to_pylist()[0].strftime("%H:%M:%S.%f")
    print(f"{name}: datetime is {table.schema.field('datetime').type}, {found[name, 'datetime']}")
again = rustac.read_sync("rustac.parquet")["features"][0]["properties"]
print("written", TIME, "read again by rustac", again["datetime"], again["created"], again["updated"])
cut = all(found["rustac", key] == "11:01:33.289000" for key in ("datetime", "created", "updated"))
kept = all(found["geoparquet", key] == "11:01:33.289703" for key in ("datetime", "created", "updated"))
raise SystemExit(0 if cut and kept and "289703" not in json.dumps(again) else 1)
PYTHON
