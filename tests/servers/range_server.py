"""A real HTTP/1.1 server of a folder with byte ranges, for assets: counts what is asked, can be slow, can fail."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@dataclass
class RangeServer:
    """What a test sees of the server.

    Attributes:
        folder: What is served.
        url: Its address.
        latency: Seconds that every answer waits.
        requests: Method and path of every request.
        signed: The headers of each that say who asks: ``Authorization`` and those that begin with ``x-amz-``.
        sent: Bytes of bodies sent.
        faults: Answers given instead of the file, one per request to a path that contains the key: a status number,
            ``"html"`` for a web page with status 200, ``"drop"`` for a body cut off in the middle, ``"short"`` for half
            of what was asked for, ``"pass"`` for the file after all.
    """

    folder: Path
    url: str = ""
    latency: float = 0.0
    requests: list[str] = field(default_factory=list)
    signed: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_for(self, path: str) -> int | str | None:
        with self.lock:
            for part, faults in self.faults.items():
                if part in path and faults:
                    return faults.pop(0)
        return None


@contextmanager
def serving(folder: Path, latency: float = 0.0) -> Iterator[RangeServer]:
    state = RangeServer(folder, latency=latency)
    handler = type("Handler", (_Handler,), {"state": state})
    server = _Server(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # http.server listens for five at a time; who comes sixth waits a second for the kernel to ask again.
    request_queue_size = 256


class _Handler(BaseHTTPRequestHandler):
    state: RangeServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        state, name = self.state, unquote(self.path.partition("?")[0]).lstrip("/")
        with state.lock:
            state.requests.append(f"{self.command} /{name}")
            names = [
                header.lower() for header in self.headers if header.lower().startswith(("authorization", "x-amz-"))
            ]
            state.signed.append({header: self.headers[header] for header in names})
        time.sleep(state.latency)
        fault = state.fault_for(self.path)
        if isinstance(fault, int):
            self.reply(fault, b"busy", {"Retry-After": "0"}, body=body)
        elif fault == "html":
            self.reply(200, b"<html><body>Please sign in</body></html>", {"Content-Type": "text/html"}, body=body)
        elif not (state.folder / name).is_file():
            self.reply(404, b"not found", {}, body=body)
        else:
            self.send_file(state.folder / name, body=body, fault=fault)

    def send_file(self, path: Path, *, body: bool, fault: int | str | None) -> None:
        status = path.stat()
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        if self.headers.get("If-Match", etag) != etag:
            self.reply(412, b"changed", {}, body=body)
            return
        content = path.read_bytes()
        first, last, code = 0, len(content) - 1, 200
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            start, end = match.groups()
            first = int(start) if start else max(0, len(content) - int(end))
            last = min(int(end), last) if start and end else last
            code = 206
        if fault == "short":
            last = (first + last) // 2
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "ETag": etag,
            "Last-Modified": self.date_time_string(int(status.st_mtime)),
        }
        if code == 206:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.reply(code, content[first : last + 1], headers, body=body, drop=fault == "drop")

    def reply(self, status: int, content: bytes, headers: dict[str, str], *, body: bool, drop: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            sent = content[: len(content) // 2] if drop else content
            with self.state.lock:  # before the client can know, so that a test never counts too early
                self.state.sent += len(sent)
            self.wfile.write(sent)
        if drop:
            self.close_connection = True
            self.connection.close()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""
