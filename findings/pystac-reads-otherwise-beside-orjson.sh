#!/bin/bash
# pystac reads the same Item otherwise as soon as some other package has brought orjson.
#
# Seen with pystac 1.15.2 and orjson 3.13.0 on Python 3.11.
# Expected: what an Item says does not depend on packages that are installed beside pystac. JSON sets no limit to whole
#           numbers, and Python holds all of them.
# Seen: without orjson a property of 21 digits is read exactly. With orjson it becomes a float of 16 digits without a word,
#       and the Item that is saved again holds the float. An Item that says NaN, as Python's own json writes it, is read
#       without orjson, and is an error with it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check pystac==1.15.2 pystac-core==1.15.2 || exit 2
cat >read.py <<'PYTHON'
import json
import sys

import pystac

item = {
    "type": "Feature", "stac_version": "1.1.0", "id": "one", "geometry": None, "links": [], "assets": {},
    "properties": {"datetime": "2024-06-01T10:00:00Z", "order": 123456789012345678901},
}
with open("exact.json", "w") as file:
    json.dump(item, file)
item["properties"]["order"] = float("nan")
with open("nan.json", "w") as file:
    json.dump(item, file)

read = pystac.Item.from_file("exact.json")
read.save_object(include_self_link=False, dest_href="again.json")
with open("again.json") as file:
    again = json.load(file)["properties"]["order"]
try:
    pystac.Item.from_file("nan.json")
    nan = "read"
except ValueError:
    nan = "an error"
print(f"{sys.argv[1]}: {read.properties['order']!r}, saved again {again!r}, NaN: {nan}")
PYTHON
"$python" read.py "without orjson" | tee without
"$python" -m pip install --quiet --disable-pip-version-check orjson==3.13.0 || exit 2
"$python" read.py "with orjson   " | tee with
grep -q ": 123456789012345678901, saved again 123456789012345678901, NaN: read" without || { echo "changed"; exit 1; }
grep -q ": 1.2345678901234568e+20, saved again 1.2345678901234568e+20, NaN: an error" with || { echo "changed"; exit 1; }
