"""What a STAC API may answer: nonsense is never taken for "nothing there", an empty page never for the last."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from shapely.geometry import box

from stac2cube.errors import CatalogError
from stac2cube.source import http
from stac2cube.source.api import items_of_api
from stac2cube.source.identity import time_of

Json = dict[str, Any]
CONFORMS = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
Answer = tuple[int, dict[str, str], Any]


class Server:
    """Answers what a test says: the landing page, then each search in turn, the last one again and again."""

    def __init__(self) -> None:
        self.searches: list[Answer] = []
        self.bodies: list[Json] = []
        self.landing: Any = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {}, server.landing)

            def do_POST(self) -> None:
                server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(*server.searches[min(len(server.bodies), len(server.searches)) - 1])

            def answer(self, status: int, headers: dict[str, str], value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body))}.items():
                    self.send_header(name, text)
                for name, text in headers.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.landing = {
            "type": "Catalog",
            "id": "c",
            "stac_version": "1.0.0",
            "description": "d",
            "conformsTo": CONFORMS,
            "links": [
                {"rel": "self", "href": self.url},
                {"rel": "search", "href": f"{self.url}/search", "method": "POST", "type": "application/geo+json"},
            ],
        }

    def page(self, ids: list[str], token: str = "") -> Answer:
        features = [{"type": "Feature", "id": name, "collection": "c", "properties": {}, "assets": {}} for name in ids]
        following = {"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": {"token": token}}
        links = [following | {"merge": True}] if token else []
        return 200, {}, {"type": "FeatureCollection", "features": features, "links": links}

    def find(self) -> list[str]:
        first, last = (
            time_of({"id": "", "properties": {"datetime": f"20{year}-01-01T00:00:00Z"}}) for year in (20, 21)
        )
        return [item["id"] for item in items_of_api(self.url, ["c"], box(9, 47, 10, 48), [(first, last)])]


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield running
    running.http.shutdown()
    running.http.server_close()


def test_an_empty_page_is_not_the_last(server: Server) -> None:
    server.searches = [server.page(["a"], "1"), server.page([], "2"), server.page(["b", "a"])]
    assert server.find() == ["a", "b"]
    assert [body.get("token") for body in server.bodies] == [None, "1", "2"]
    assert all(body["intersects"]["type"] == "Polygon" and body["collections"] == ["c"] for body in server.bodies)


@pytest.mark.parametrize("nonsense", [{}, [], None, "hello", {"features": None}, {"error": "later"}])
@pytest.mark.parametrize("page", [0, 1], ids=["first page", "second page"])
def test_nonsense_is_no_empty_answer(server: Server, nonsense: Any, page: int) -> None:
    server.searches = [*[server.page(["a"], "1")][:page], (200, {}, nonsense)]
    with pytest.raises(CatalogError, match=server.url) as caught:
        server.find()
    assert "\n" not in str(caught.value)


def test_pages_in_a_circle_end(server: Server) -> None:
    server.searches = [server.page(["a"], "1")]
    with pytest.raises(CatalogError, match="the same next page twice"):
        server.find()


@pytest.mark.parametrize(
    "change",
    [
        lambda landing: {"hello": 1},
        lambda landing: [],
        lambda landing: None,
        lambda landing: landing | {"conformsTo": []},
        lambda landing: landing | {"type": "Collection"},
    ],
    ids=["other JSON", "a list", "null", "cannot be searched", "a collection"],
)
def test_a_landing_page_that_is_none_is_named(server: Server, change: Callable[[Json], Any]) -> None:
    server.landing = change(server.landing)
    with pytest.raises(CatalogError, match=server.url) as caught:
        server.find()
    assert "\n" not in str(caught.value)


def test_a_server_cannot_make_us_wait_for_hours(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.2)
    server.searches = [(503, {"Retry-After": "7200"}, {}), server.page(["a"])]
    begun = time.monotonic()
    assert server.find() == ["a"]
    assert 0.2 <= time.monotonic() - begun < 600, "not two hours"
