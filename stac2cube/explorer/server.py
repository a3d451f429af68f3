"""The server of the explore page: loopback only, behind a secret."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from functools import cache
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import shapely

from stac2cube.errors import BadInputError, Stac2cubeError


@cache
def land() -> str:
    """Land as a GeoJSON geometry in degrees.

    It is the complement of odc-geo's outline of the oceans, with some 4000 vertices worldwide: for orientation only.
    """
    from odc.geo.data import ocean_geom

    everywhere = shapely.box(-180, -85.06, 180, 85.06)  # the part of the globe that Mercator shows
    outline: str = shapely.to_geojson(shapely.set_precision(everywhere.difference(ocean_geom().geom), 0.01))
    return outline


# The server of the page: loopback only, behind a secret.

log = logging.getLogger(__name__)

LARGEST = 64 * 2**20
"""Largest request, bytes; a file of areas must fit."""

LOOK_AGAIN = 15
"""Seconds after which a browser reloads a live page."""

_HERE = ("127.0.0.1", "localhost", "::1")

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Handler of a request of the page: JSON object -> JSON object."""


class Server(ThreadingHTTPServer):
    """Serves the page and answers its requests.

    Args:
        port: Port on the loopback; any free port if 0.
        secret: First part of every path.
        answers: Request name -> handler.
        behind: Address of a proxy, "" if there is none: its host name is accepted, too.
        tiles: Address of map tiles, "" for none.
        draw: Makes a single document that is served instead of the page, for every request.

    Raises:
        BadInputError: The port is in use.
    """

    daemon_threads = True

    def __init__(
        self,
        port: int,
        secret: str,
        answers: Mapping[str, Answer],
        behind: str,
        tiles: str,
        draw: Callable[[], bytes] | None = None,
    ) -> None:
        self.secret = secret
        self.answers = answers
        self.draw = draw
        self.hosts = {*_HERE, *([urlsplit(behind).hostname or behind] if behind else [])}
        self.policy = _policy(behind, tiles) + ("; style-src 'unsafe-inline'; script-src 'none'" if draw else "")
        self.page = {} if draw else _page_files()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise BadInputError(f"port {port} cannot be had ({error.strerror}): say another, or none") from error


def _page_files() -> dict[str, bytes]:
    """Contents of the page's files by relative path. Leaflet's folder includes its licence."""
    page = files("stac2cube.explorer").joinpath("page")
    leaflet = {f"leaflet/{entry.name}": entry.read_bytes() for entry in page.joinpath("leaflet").iterdir()}
    return leaflet | {entry.name: entry.read_bytes() for entry in page.iterdir() if entry.is_file()}


class _RefusedError(Exception):
    """A request is refused; with status and reason."""

    def __init__(self, status: HTTPStatus, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """Handler of one HTTP request."""

    server: Server
    timeout = 60  # a connection serves one request (HTTP/1.0), so that no connection outlives the page
    server_version, sys_version = "stac2cube", ""

    def do_GET(self) -> None:
        """Serve a file of the page."""
        try:
            name = self._asked_for() or "index.html"
            if self.server.draw is not None and name == "index.html":
                self._send(HTTPStatus.OK, self._drawn(self.server.draw), "text/html")
            elif name == "land.json":
                self._send(HTTPStatus.OK, land().encode(), "application/json")
            elif name in self.server.page:
                kind = _KINDS.get(name[name.rfind(".") :], "application/octet-stream")
                self._send(HTTPStatus.OK, self.server.page[name], kind)
            else:
                raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing of that name")
        except _RefusedError as error:
            self._refuse(error)

    def do_POST(self) -> None:
        """Answer a request of the page."""
        try:
            answer = self._answer()
        except _RefusedError as error:
            self._refuse(error)
        else:
            self._send(HTTPStatus.OK, json.dumps(answer).encode(), "application/json")

    def _drawn(self, draw: Callable[[], bytes]) -> bytes:
        try:
            return draw()
        except (Stac2cubeError, OSError) as error:  # moved, or being changed: the next reload may succeed
            raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error

    def _answer(self) -> Mapping[str, Any]:
        name = self._asked_for()
        if name not in self.server.answers:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such question")
        # Pages of other origins can send forms, but this content type needs a CORS preflight, which is not answered.
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "questions are JSON")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LARGEST // 2**20} MiB can be taken")
        try:
            said = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"this is no JSON: {error}") from error
        if not isinstance(said, dict):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "a question is a JSON object")
        try:
            return self.server.answers[name](said)
        except Stac2cubeError as error:
            raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        except OSError as error:  # the disk is full, or the folder was removed
            raise _RefusedError(HTTPStatus.INSUFFICIENT_STORAGE, f"nothing was written: {error}") from error

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Log requests for debugging, without the secret."""
        log.debug("%s", (format % args).replace(self.server.secret, "SECRET"))

    def _asked_for(self) -> str:
        """The path after the secret.

        Raises:
            _RefusedError: The request is not from the page.
        """
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        origin = self.headers.get("Origin")
        if host not in self.server.hosts:
            # A foreign host name that resolves to this machine (DNS rebinding).
            raise _RefusedError(HTTPStatus.FORBIDDEN, "not by this name")
        if origin is not None and urlsplit(origin).hostname not in self.server.hosts:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "not from there")
        secret, slash, name = urlsplit(self.path).path.lstrip("/").partition("/")
        if not slash or not compare_digest(secret.encode(), self.server.secret.encode()):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "the address holds a secret: take it whole as it was printed")
        return name

    def _refuse(self, error: _RefusedError) -> None:
        self._send(error.status, json.dumps({"problem": str(error)}).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": self.server.policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            **({"Refresh": str(LOOK_AGAIN)} if self.server.draw is not None else {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _policy(behind: str, tiles: str) -> str:
    """Content security policy: sources that the page may load, and origins that may frame it (notebooks, the proxy)."""
    pictures = f" {_origin(tiles)}" if tiles else ""
    frames = f" {_origin(behind)}" if behind else ""
    local = "http://localhost:* http://127.0.0.1:*"
    return f"default-src 'self'; img-src 'self' data:{pictures}; frame-ancestors 'self' {local}{frames}"


def _origin(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInputError(f"{address!r} is no address that begins with http:// or https://")
    return f"{parts.scheme}://{parts.netloc}"


class LocalPage:
    """A page that a thread serves at an address with a secret; anyone with the address may use it.

    It ends with :meth:`stop`, or at the end of its ``with`` block.

    Args:
        port: Port of this machine; any free port if 0.
        answers: Request name -> handler.
        behind: Address at which a proxy shows the page, "" if there is none.
        tiles: Address of map tiles, "" for none.
        draw: Makes a single document that is served instead of the page, for every request.

    Raises:
        BadInputError: The port is in use, or an address is invalid.
    """

    def __init__(
        self,
        port: int,
        answers: Mapping[str, Answer],
        behind: str,
        tiles: str = "",
        draw: Callable[[], bytes] | None = None,
    ) -> None:
        secret = secrets.token_urlsafe(24)
        self._server = Server(port, secret, answers, behind, tiles, draw)
        self._thread = threading.Thread(target=self._server.serve_forever, name="stac2cube page", daemon=True)
        self._thread.start()
        base = behind.rstrip("/") or f"http://127.0.0.1:{self.port}"
        self.url = f"{base}/{secret}/"
        """Address of the page; anyone with the address may use it."""

    @property
    def port(self) -> int:
        """Port of this machine."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """End the page."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class LivePage(LocalPage):
    """A local page that shows a status; it is rendered for each request, and accepts no input.

    Args:
        draw: Makes the page, HTML without scripts.
        port: Port of this machine; any free port if 0.
        behind: Address at which a proxy shows the page, "" if there is none.

    Raises:
        BadInputError: The port is in use, or an address is invalid.
    """

    def __init__(self, draw: Callable[[], bytes], port: int = 0, behind: str = "") -> None:
        super().__init__(port, {}, behind, draw=draw)
