#!/bin/bash
# pystac-client ends a search at the first page without items, even if that page names a next one.
#
# Seen with pystac-client 0.9.1 and pystac 1.15.2 on Python 3.11.
# Expected: a search goes on as long as pages have a link `next` (STAC API 1.0, item search, paging). Servers that look through
#           one part of their store per page give pages without items that name a next page.
# Seen: items() and pages() end at such a page without a word. matched() still gives the number of all items, so only who
#       compares both sees that items are missing. If the first page is empty, the search finds nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check pystac-client==0.9.1 pystac==1.15.2 || exit 2
"$python" -W ignore - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pystac_client

PAGES = []
ASKED = []

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlparse(self.path)
        if url.path == "/":
            conforms = [f"https://api.stacspec.org/v1.0.0/{name}" for name in ("core", "item-search")]
            links = [{"rel": "self", "href": HOST}, {"rel": "search", "href": f"{HOST}/search", "method": "GET"}]
            answer = {"type": "Catalog", "stac_version": "1.0.0", "id": "one", "description": "one", "conformsTo": conforms,
                      "links": links}
        else:
            number = int(parse_qs(url.query).get("page", ["0"])[0])
            ASKED.append(number)
            links = [{"rel": "next", "href": f"{HOST}/search?page={number + 1}"}] if number + 1 < len(PAGES) else []
            answer = {"type": "FeatureCollection", "features": [item(name) for name in PAGES[number]], "links": links,
                      "numberMatched": sum(map(len, PAGES))}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def item(name):
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": None, "links": [], "assets": {},
            "properties": {"datetime": "2024-06-01T10:00:00Z"}}

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
HOST = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()

def search(*pages):
    PAGES[:], ASKED[:] = pages, []
    found = pystac_client.Client.open(HOST).search(method="GET")
    ids = [one.id for one in found.items()]
    asked = list(ASKED)
    print(f"pages {list(map(len, pages))}: matched() {found.matched()}, items() {ids}, pages asked for {asked}")
    return ids, asked

assert search(["a", "b"], ["c"]) == (["a", "b", "c"], [0, 1])
middle = search(["a", "b"], [], ["c"])
first = search([], ["a", "b", "c"])
assert middle == (["a", "b"], [0, 1]) and first == ([], [0]), "the behaviour has changed"
PYTHON
