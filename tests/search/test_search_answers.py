"""What a STAC API may answer: nonsense is never taken for "nothing there", an empty page never for the last."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from shapely import union_all
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from stac2cube.access import http
from stac2cube.errors import CatalogError
from stac2cube.model.scene import time_of
from stac2cube.search import clients as paging
from stac2cube.search.clients import items_of_api
from stac2cube.search.parsing import Notes

Json = dict[str, Any]
CONFORMS = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
Answer = tuple[int, dict[str, str], Any]
AREA = box(9, 47, 10, 48)


class Server:
    """Answers what a test says: the landing page, then each search in turn, the last one again and again."""

    def __init__(self) -> None:
        self.searches: list[Answer] = []
        self.bodies: list[Json] = []
        self.queries: list[dict[str, list[str]]] = []
        self.by_get: list[Answer] = []
        self.landing: Any = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path != "/search":
                    return self.answer(200, {}, server.landing)
                server.queries.append(parse_qs(parts.query))
                return self.answer(*server.by_get[min(len(server.queries), len(server.by_get)) - 1])

            def do_POST(self) -> None:
                server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(*server.searches[min(len(server.bodies), len(server.searches)) - 1])

            def answer(self, status: int, headers: dict[str, str], value: Any) -> None:
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
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

    def found(self, notes: Notes | None = None, area: BaseGeometry = AREA) -> list[Any]:
        first, last = (
            time_of({"id": "", "properties": {"datetime": f"20{year}-01-01T00:00:00Z"}}) for year in (20, 21)
        )
        return list(items_of_api(self.url, ["c"], area, [(first, last)], notes))

    def find(self, notes: Notes | None = None) -> list[str]:
        return [item["id"] for item in self.found(notes)]


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


@pytest.mark.parametrize(
    "change",
    [
        {"href": "/search"},
        {"href": "./search"},
        {"href": "search?x=1"},
        {"method": "post"},
        {"method": None},
        {"merge": True, "headers": None},
        {"title": None, "type": None},
    ],
    ids=str,
)
def test_ways_to_name_the_next_page(server: Server, change: Json) -> None:
    first = server.page(["a"], "1")
    first[2]["links"][0].update(change)
    first[2]["links"] = [None, "x", {"rel": "self"}, *first[2]["links"]]
    server.searches = [first, server.page(["b"])]
    assert server.find() == ["a", "b"]
    assert server.bodies[1]["token"] == "1"


@pytest.mark.parametrize("links", [None, "next", {}, [None], [{"rel": "self"}], [{}]])
def test_links_that_name_no_next_page(server: Server, links: Any) -> None:
    status, headers, page = server.page(["a"])
    server.searches = [(status, headers, page | {"links": links})]
    assert server.find() == ["a"]


@pytest.mark.parametrize(
    "odd", [{"href": None}, {"href": 5}, {"href": "file:///etc/passwd"}, {"body": "text"}], ids=str
)
def test_a_next_page_that_is_none_is_named(server: Server, odd: Json) -> None:
    first = server.page(["a"], "1")
    first[2]["links"][0].update(odd)
    server.searches = [first, server.page(["b"])]
    with pytest.raises(CatalogError, match="next page"):
        server.find()


def endless(server: Server, pages: Iterator[Answer]) -> None:
    """Let each search be answered by the next of some pages."""

    class Pages(list[Answer]):
        def __len__(self) -> int:
            return 1 << 40

        def __getitem__(self, _: Any) -> Any:
            return next(pages)

    server.searches = Pages()


def test_a_server_that_repeats_itself_comes_to_an_end(server: Server) -> None:
    endless(server, (server.page(["a", "b"], str(number)) for number in count()))
    with pytest.raises(CatalogError, match="its pages repeat themselves: 2 items came"):
        server.find()
    assert len(server.bodies) < 10


def test_one_that_repeats_itself_after_all_it_counts_has_told_all(server: Server) -> None:
    def pages() -> Iterator[Answer]:
        for number in count():
            status, headers, page = server.page(["a", "b"], str(number))
            yield status, headers, page | {"numberMatched": 2}

    notes = Notes()
    endless(server, pages())
    assert server.find(notes) == ["a", "b"]
    assert notes.incomplete == ""


def test_empty_pages_without_end_come_to_an_end(server: Server) -> None:
    endless(server, (server.page([], str(number)) for number in count()))
    with pytest.raises(CatalogError, match="pages without an item"):
        server.find()


def test_invented_items_without_end_come_to_an_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MOST_PAGES", 40)
    endless(server, (server.page([f"i{number}"], str(number)) for number in count()))
    with pytest.raises(CatalogError, match="its pages do not end: 40 came"):
        server.find()


def test_a_server_that_gives_fewer_than_it_counts_is_told(server: Server) -> None:
    for matched, got, incomplete in (
        (2, ["a", "b"], ""),
        (5, ["a", "b"], "counts 5 items and gave 2"),
        ("x", ["a"], ""),
    ):
        status, headers, page = server.page(got)
        server.searches = [(status, headers, page | {"numberMatched": matched})]
        notes = Notes()
        assert server.find(notes) == got
        assert incomplete in notes.incomplete
        assert bool(notes.incomplete) is bool(incomplete)
    server.bodies.clear()
    server.searches = [server.page(["a", "b"], "1"), server.page(["b", "c"])]
    notes = Notes()
    assert server.find(notes) == ["a", "b", "c"]
    assert notes.incomplete == "the server gave 1 items twice, and does not say how many there are"


def test_a_count_much_too_low_is_an_estimate(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    status, headers, page = server.page([f"i{number}" for number in range(3000)])
    server.searches = [(status, headers, page | {"numberMatched": 200})]
    assert len(server.find()) == 3000
    monkeypatch.setattr(paging, "MOST_BEYOND", 500)
    with pytest.raises(CatalogError, match="do not end"):
        server.find()


def test_features_that_are_none_are_handed_on_to_be_named(server: Server) -> None:
    status, headers, page = server.page(["a"])
    server.searches = [(status, headers, page | {"features": [None, "x", *page["features"], {"id": 5}]})]
    assert server.found() == [None, "x", *page["features"], {"id": 5}]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 10**30, "a half: \ud800"], ids=ascii)
def test_an_item_with_what_strict_parsers_refuse_stops_no_search(server: Server, odd: Any) -> None:
    status, headers, page = server.page(["a", "b"])
    page["features"][0]["properties"]["odd"] = odd
    server.searches = [(status, headers, page)]
    assert server.find() == ["a", "b"]


def test_an_answer_that_is_nested_too_deeply_is_named(server: Server) -> None:
    server.searches = [(200, {}, b"[" * 100_000)]
    with pytest.raises(CatalogError, match=server.url):
        server.find()


def test_relative_addresses_are_meant_from_the_item(server: Server) -> None:
    status, headers, page = server.page(["a b", "c"])
    first, second = page["features"]
    first["assets"] = {"B04": {"href": "./x y.tif"}, "B08": {"href": "https://host/y.tif"}, "none": {"href": None}}
    second["assets"] = {"B04": {"href": "../../files/z%20.tif?v=1"}}
    second["links"] = [{"rel": "self", "href": "https://elsewhere/a/b/c.json"}]
    server.searches = [(status, headers, page)]
    found = server.found()
    assert found[0]["assets"]["B04"]["href"] == f"{server.url}/collections/c/items/x y.tif"
    assert found[0]["assets"]["B08"]["href"] == "https://host/y.tif"
    assert found[1]["assets"]["B04"]["href"] == "https://elsewhere/files/z%20.tif?v=1"


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_that_takes_no_post_is_asked_by_get(server: Server, status: int) -> None:
    server.searches = [(status, {}, {"code": "MethodNotAllowed"})]
    first = server.page(["a"])
    first[2]["links"] = [{"rel": "next", "href": "search?token=1"}]
    server.by_get = [first, server.page(["b"])]
    assert server.find() == ["a", "b"]
    assert server.queries[0]["collections"] == ["c"]
    assert server.queries[0]["bbox"] == ["9.0,47.0,10.0,48.0"]
    assert "datetime" in server.queries[0]
    assert server.queries[1] == {"token": ["1"]}
    assert len(server.bodies) == 1


def test_a_server_that_links_to_get_alone_is_never_asked_by_post(server: Server) -> None:
    server.landing["links"][1]["method"] = "GET"
    server.by_get = [server.page(["a"])]
    assert server.find() == ["a"]
    assert not server.bodies


def test_by_get_both_sides_of_the_antimeridian_are_boxes_of_their_own(server: Server) -> None:
    server.landing["links"][1]["method"] = "GET"
    server.by_get = [server.page(["west"]), server.page(["east"])]
    both = union_all([box(179, 1, 180, 2), box(-180, 1, -179, 2)])
    assert {item["id"] for item in server.found(area=both)} == {"west", "east"}
    assert sorted(query["bbox"] for query in server.queries) == [["-180.0,1.0,-179.0,2.0"], ["179.0,1.0,180.0,2.0"]]


@pytest.mark.parametrize(
    ("status", "said"),
    [(400, "limit must be <= 100"), (422, {"detail": [{"loc": ["body", "limit"]}]}), (413, "too large")],
    ids=str,
)
def test_a_server_that_refuses_long_pages_is_asked_for_short_ones(server: Server, status: int, said: Any) -> None:
    server.searches = [(status, {}, {"description": said}), server.page(["a"], "1"), server.page(["b"])]
    assert server.find() == ["a", "b"]
    assert [body.get("limit") for body in server.bodies] == [200, 50, 50]


def test_a_server_that_refuses_any_page_is_named(server: Server) -> None:
    server.searches = [(400, {}, {"description": "the limit of your account"})]
    with pytest.raises(CatalogError, match="the limit of your account"):
        server.find()
    assert len(server.bodies) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirected_search_keeps_its_conditions(server: Server, status: int) -> None:
    server.searches = [(status, {"Location": "/search"}, {}), server.page(["a"])]
    server.by_get = [server.page(["of anything"])]
    assert server.find() == ["a"]
    assert server.bodies[1] == server.bodies[0]


def test_an_item_that_changes_between_two_pages_comes_in_both_versions(server: Server) -> None:
    first, second, third = server.page(["a", "b"], "1"), server.page(["a", "b"], "2"), server.page(["b"])
    second[2]["features"][0]["properties"] = {"updated": "2020-05-01T00:00:00Z"}
    server.searches = [first, second, third]
    found = [(item["id"], item["properties"].get("updated")) for item in server.found()]
    assert found == [("a", None), ("b", None), ("a", "2020-05-01T00:00:00Z")]


def test_an_answer_may_begin_with_a_mark_of_its_byte_order(server: Server) -> None:
    status, headers, page = server.page(["a"])
    server.searches = [(status, headers, b"\xef\xbb\xbf" + json.dumps(page).encode())]
    assert server.find() == ["a"]


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


@pytest.mark.parametrize("said", ["soon", "-5", "0.01", ""])
def test_a_wait_that_is_none_is_not_the_end(server: Server, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.PatientRetry, "get_backoff_time", lambda self: 0.01)
    server.searches = [(503, {"Retry-After": said}, {}), server.page(["a"])]
    assert server.find() == ["a"]
