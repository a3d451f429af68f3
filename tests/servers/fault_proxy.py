"""A reverse proxy that misbehaves on request."""

from __future__ import annotations

import http.client
import threading
import time
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.servers.ports import LOCALHOST

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te", "trailer"}


@dataclass(frozen=True)
class Fault:
    """What befalls one request instead of, or on its way to, a proper answer.

    Attributes:
        status: Answer with this status and a page of HTML; 0 passes the request on.
        retry_after: Value of the ``Retry-After`` header, seconds, or None.
        drop: Close the connection without an answer.
        cut: Send the true answer's head and half its body, then close the connection.
        delay: Seconds to wait first.
    """

    status: int = 0
    retry_after: int | None = None
    drop: bool = False
    cut: bool = False
    delay: float = 0.0


@dataclass(frozen=True)
class Seen:
    """One request that came: when (``time.monotonic``), what, and the status it got (0: none)."""

    at: float
    method: str
    path: str
    status: int


class FaultProxy:
    """Hands requests on to ``target``; faults given to :meth:`inject` befall the next ones, one each, in order.

    The ``Host`` header is kept, so that links in the answers lead through the proxy, too.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or LOCALHOST, parts.port or 80)
        self._faults: deque[Fault] = deque()
        self._path = ""
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._server = ThreadingHTTPServer((LOCALHOST, 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOCALHOST}:{self._server.server_address[1]}"

    @property
    def seen(self) -> tuple[Seen, ...]:
        """Requests so far, in the order in which they were answered."""
        with self._lock:
            return tuple(self._seen)

    def inject(self, *faults: Fault, path: str = "") -> None:
        """Let these befall the next requests whose path holds ``path``; what was still waiting is forgotten."""
        with self._lock:
            self._faults, self._path = deque(faults), path

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self, path: str) -> Fault:
        """The fault for a request that just came."""
        with self._lock:
            return self._faults.popleft() if self._faults and self._path in path else Fault()

    def note(self, method: str, path: str, status: int) -> None:
        """Keep a record of a request."""
        with self._lock:
            self._seen.append(Seen(time.monotonic(), method, path, status))

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> tuple[int, Any, bytes]:
        """The true answer: status, headers, body."""
        connection = http.client.HTTPConnection(*self._target, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            fault = proxy.next_fault(self.path)
            time.sleep(fault.delay)
            if fault.drop:
                proxy.note(self.command, self.path, 0)
                self.close_connection = True
                return
            if fault.status:
                page = b"<html><body>not now</body></html>"
                wait = [] if fault.retry_after is None else [("Retry-After", str(fault.retry_after))]
                status, headers, content = fault.status, [("Content-Type", "text/html"), *wait], page
            else:
                given = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
                status, headers, content = proxy.ask(self.command, self.path, given, body)
            proxy.note(self.command, self.path, status)
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if fault.cut:
                content = content[: len(content) // 2]
                self.close_connection = True
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_HEAD = do_OPTIONS = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Keep the terminal quiet."""

    return Handler
