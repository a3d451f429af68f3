#!/bin/bash
# obstore refuses whole files for headers that HTTP allows.
#
# Versions: obstore 0.12.1 (object_store of Rust), Python 3.11, Linux.
# Expected: HTTPStore.get gives the bytes of a file whatever valid form its headers have. RFC 9110, 5.6.7: "a recipient
#   that parses a timestamp value in an HTTP field MUST accept all three HTTP-date formats", among them RFC 850 and
#   asctime. 14.4: Content-Range may say "*" for a length that is not known. 14.1: range units are case-insensitive.
# Seen: a Last-Modified of RFC 850 or asctime, a Content-Range "bytes 0-3/*", and a unit "Bytes" are each an error
#   (GenericError); the bytes are not to be had, though curl, GDAL, requests and browsers read them.
# Exits 0 while it is as seen, 1 if it changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install obstore==0.12.1
cat > "$folder/try.py" <<'PYTHON'
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore
from obstore.store import HTTPStore

PLAIN = {"Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT", "Content-Range": "bytes 0-3/8"}
FORMS = {
    "IMF-fixdate": {},
    "RFC 850": {"Last-Modified": "Sunday, 06-Nov-94 08:49:37 GMT"},
    "asctime": {"Last-Modified": "Sun Nov  6 08:49:37 1994"},
    "length not known": {"Content-Range": "bytes 0-3/*"},
    "unit in capitals": {"Content-Range": "Bytes 0-3/8"},
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        form = FORMS[list(FORMS)[int(self.path.strip("/"))]]
        self.send_response(206)
        for name, value in {**PLAIN, **form, "Content-Length": "4"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"TEST")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = HTTPStore(f"http://127.0.0.1:{server.server_port}/", client_options={"allow_http": True},
                  retry_config={"max_retries": 0})
refused = []
for number, form in enumerate(FORMS):
    try:
        print(f"{form:18} {bytes(obstore.get(store, str(number), options={'range': (0, 4)}).bytes())!r}")
    except Exception as error:
        refused.append(form)
        print(f"{form:18} {type(error).__name__}: {str(error).splitlines()[0][:150]}")
sys.exit(refused != list(FORMS)[1:])
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
