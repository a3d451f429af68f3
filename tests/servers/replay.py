"""A server that gives recorded answers of a real STAC API again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.servers.ports import LOCALHOST


@contextmanager
def replayed(folder: Path, first: str) -> Iterator[str]:
    """Serve a folder of recordings on this machine.

    Args:
        folder: Holds ``requests.jsonl`` and the answers it names.
        first: Answer to a search that names no page. A search that names one gets the page recorded for it.

    Yields:
        URL of the landing page. Links in the answers lead there, too.
    """
    records = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    landing = next(record["uri"] for record in records if record["file"] == "landing.json")
    plain = {urlsplit(record["uri"]).path: record for record in records if record["method"] == "GET"}
    pages = {record["body"].get("next"): record for record in records if record["method"] == "POST"}
    pages[None] = next(record for record in records if record["file"] == first)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._give(plain.get(urlsplit(self.path).path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._give(pages.get(body.get("next")))

        def _give(self, record: dict[str, Any] | None) -> None:
            text = (folder / record["file"]).read_text() if record else '{"code": "NotFound"}'
            content = text.replace(landing, url).encode()
            self.send_response(record["status"] if record else 404)
            self.send_header("Content-Type", "application/geo+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Keep the terminal quiet."""

    with ThreadingHTTPServer((LOCALHOST, 0), Handler) as server:
        url = f"http://{LOCALHOST}:{server.server_address[1]}{urlsplit(landing).path}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.shutdown()
            thread.join()
