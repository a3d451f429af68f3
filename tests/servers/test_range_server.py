"""The range server itself: what other tests rely on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.servers.range_server import RangeServer, serving

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    (tmp_path / "sub folder").mkdir()
    (tmp_path / "sub folder/a.bin").write_bytes(CONTENT)
    with serving(tmp_path) as running:
        yield running


def get(server: RangeServer, span: str = "", path: str = "/sub%20folder/a.bin?sig=x") -> requests.Response:
    return requests.get(server.url + path, headers={"Range": f"bytes={span}"} if span else {}, timeout=60)


@pytest.mark.parametrize(
    ("span", "wanted", "header"),
    [
        ("0-9", CONTENT[:10], "bytes 0-9/1024"),
        ("1000-5000", CONTENT[1000:], "bytes 1000-1023/1024"),
        ("1000-", CONTENT[1000:], "bytes 1000-1023/1024"),
        ("-24", CONTENT[-24:], "bytes 1000-1023/1024"),
    ],
)
def test_ranges(server: RangeServer, span: str, wanted: bytes, header: str) -> None:
    answer = get(server, span)
    assert (answer.status_code, answer.content, answer.headers["Content-Range"]) == (206, wanted, header)
    assert server.sent == len(wanted)


def test_whole_files_heads_and_counters(server: RangeServer) -> None:
    assert get(server).content == CONTENT
    head = requests.head(f"{server.url}/sub folder/a.bin", timeout=60)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "1024", b"")
    assert get(server, path="/none").status_code == 404
    assert server.requests == ["GET /sub folder/a.bin", "HEAD /sub folder/a.bin", "GET /none"]


def test_faults_happen_once_each_and_in_order(server: RangeServer) -> None:
    server.faults["a.bin"] = [503, "pass", 429, "html", "drop"]
    assert get(server).status_code == 503
    assert get(server).content == CONTENT
    busy = get(server)
    assert (busy.status_code, busy.headers["Retry-After"]) == (429, "0")
    page = get(server)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        get(server)
    assert get(server).content == CONTENT


def test_it_can_be_slow(server: RangeServer) -> None:
    server.latency = 0.1
    began = time.monotonic()
    get(server, "0-9")
    assert time.monotonic() - began >= 0.1
