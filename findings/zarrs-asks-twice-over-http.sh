#!/usr/bin/env bash
# zarrs, registered as zarr's codec pipeline to read faster, asks an HTTP server twice for every chunk.
#
# Versions: zarr 3.1.6, zarrs 0.2.3, obstore 0.12.1, numpy 2.2.6; Python 3.11 or later.
#
# Expected: the pipeline of zarrs reads chunks with as many requests as zarr's own pipeline, one GET for each chunk that
# a selection touches, since it is the same store and only the decoding is done in Rust.
# Seen: with zarr.storage.ObjectStore over obstore's HTTPStore, zarrs sends a HEAD and a GET for each chunk. Over a
# network with latency the time of reading doubles, and so does what a server counts; from a disk nobody notices.
#
# Exit status 0 while that is so, 1 if it changes, 2 if the packages cannot be installed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet zarr==3.1.6 zarrs==0.2.3 obstore==0.12.1 numpy==2.2.6 || exit 2
cat > "$folder/ask.py" <<'PY'
import re, sys, threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import obstore.store
import zarr
import zarrs  # noqa: F401 - registers its pipeline
from zarr.storage import ObjectStore

folder = Path(sys.argv[1])
written = np.arange(400 * 400, dtype="uint16").reshape(400, 400)
array = zarr.create_array(folder / "a.zarr", shape=written.shape, chunks=(100, 100), dtype="uint16")
array[...] = written
asked = Counter()


class Files(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.give(False)

    def do_GET(self):
        self.give(True)

    def give(self, body):
        path = folder / self.path.lstrip("/")
        if "/c/" in self.path:
            asked[self.command] += 1
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content, status = path.read_bytes(), 200
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = int(found[1]), min(int(found[2]), len(content) - 1)
            whole, content, status = len(content), content[first : last + 1], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/a.zarr"
found = {}
for name, settings in (("zarr", {}), ("zarrs", {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})):
    with zarr.config.set(settings):
        store = ObjectStore(obstore.store.HTTPStore(url, client_options={"allow_http": True}), read_only=True)
        opened = zarr.open_array(store, mode="r", zarr_format=3)
        asked.clear()
        assert (opened[...] == written).all()
        found[name] = dict(asked)
        print(f"{name}: {found[name]} for 16 chunks")
sys.exit(0 if found == {"zarr": {"GET": 16}, "zarrs": {"HEAD": 16, "GET": 16}} else 1)
PY
"$folder/venv/bin/python" "$folder/ask.py" "$folder"
