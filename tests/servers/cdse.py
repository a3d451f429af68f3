"""A server that behaves like the Copernicus Data Space: tokens that end, a STAC API, OData, ranges, throttling.

What its answers look like is taken from the service's public documentation (identity service: access and refresh
tokens; OData: ``Products`` with ``$filter``, ``Nodes`` with ``$value``) and, for STAC, from a recorded answer; nothing
of OData is recorded. Items are given as the catalog gives them: S3 addresses with HTTPS as the alternate, sizes,
multihashes, and the node without a name that recorded items have in the addresses of granules' metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

from stac2cube.access.sign import Service
from stac2cube.model.catalog import Catalog

Json = dict[str, Any]
HASHES = {"sha3_256": "1620", "md5": "d50110"}
"""Both that recorded items have, and how their multihashes begin."""


@dataclass
class DataSpace:
    """What a test sees of the server, and how it tells it to behave.

    Attributes:
        url: Its address.
        items: What the STAC API has.
        files: Path from the product's folder on -> content.
        password: The one that is taken.
        uses: Requests that a token is good for; then it has ended.
        refresh: Whether refresh tokens are taken.
        faults: Part of a path -> what befalls the next requests for it: a status, ``"cut"`` (half of the body),
            ``"spoiled"`` (a byte is wrong), ``"page"`` (a web page), ``"whole"`` (a range is ignored), ``"busy"``
            (429 with Retry-After).
        ranges: ``Range`` headers that came.
        seen: Kind of request -> how many.
        strangers: Requests to another host that brought a token.
        redirect: Whether files are given by another host.
        most: Largest number of files given at the same time.
    """

    url: str = ""
    items: list[Json] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    password: str = "secret"
    uses: int = 1000
    refresh: bool = True
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    strangers: int = 0
    redirect: bool = False
    most: int = 0
    at_once: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    refreshers: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def service(self) -> Service:
        """Its addresses."""
        host = self.url.replace("127.0.0.1", "localhost")
        return Service(f"{host}/token", f"{host}/odata/v1", f"{host}/odata/v1", ("localhost",))

    @property
    def stac(self) -> str:
        return f"{self.url}/stac"

    def add(
        self, item: Mapping[str, Any], files: Mapping[str, tuple[str, bytes]], lonely: tuple[str, ...] = ()
    ) -> None:
        """Give an item in the catalog's shape.

        Args:
            item: With the assets' other facts, if any.
            files: Asset -> path within the product, and content.
            lonely: Assets without the HTTPS way.
        """
        product = f"{item['id']}.SAFE"
        assets = {}
        for place, (key, (path, content)) in enumerate(sorted(files.items())):
            whole = f"{product}/{path}"
            self.files[whole] = content
            nodes = [f"Nodes({part})" for part in whole.split("/")]
            if key == "granule_metadata":
                nodes.insert(1, "Nodes()")
            kind = sorted(HASHES)[place % 2]
            asset = {
                "href": f"s3://eodata/Sentinel-2/MSI/{whole}",
                "file:size": len(content),
                "file:checksum": HASHES[kind] + hashlib.new(kind, content).hexdigest(),
                "file:local_path": whole,
                "auth:refs": ["s3"],
                "alternate": {
                    "https": {
                        "href": f"{self.service.download}/Products({number_of(product)})/{'/'.join(nodes)}/$value",
                        "auth:refs": ["oidc"],
                    }
                },
            }
            if key in lonely:
                del asset["alternate"]
            assets[key] = {**item["assets"].get(key, {}), **asset}
        self.items.append({**item, "assets": assets})

    def fault_for(self, path: str) -> int | str | None:
        with self.lock:
            for part, faults in self.faults.items():
                if part in path and faults:
                    return faults.pop(0)
        return None


def number_of(product: str) -> str:
    """The id that OData gives a product."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, product))


@contextmanager
def data_space() -> Iterator[DataSpace]:
    state = DataSpace()
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@contextmanager
def data_space_as_catalog(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[DataSpace]:
    """The server, known as the catalog of that name to somebody whose account, and nothing else, it has."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "CDSE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CDSE_USERNAME", "me")
    monkeypatch.setenv("CDSE_PASSWORD", "secret")
    monkeypatch.setenv("HOME", str(home))
    with data_space() as server:
        known = Catalog("cdse", "like it", server.stac, signer="cdse", like="cdse")
        monkeypatch.setattr("stac2cube.model.catalog.catalogs", lambda: {"cdse": known})
        monkeypatch.setattr("stac2cube.search.items.catalogs", lambda: {"cdse": known})
        monkeypatch.setattr("stac2cube.access.sign.CDSE", server.service)
        yield server


class _Handler(BaseHTTPRequestHandler):
    state: DataSpace
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path.startswith("/token"):
            self.give_token({name: values[0] for name, values in parse_qs(body).items()})
        else:
            self.count("search")
            wanted = json.loads(body)
            found = [item for item in self.state.items if item["collection"] in wanted["collections"]]
            self.json({"type": "FeatureCollection", "features": found, "links": []})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/stac"):
            self.json(self.landing())
        elif path.endswith("/Products"):
            self.products()
        elif path.startswith("/odata") and path.endswith("/$value"):
            self.node(path)
        else:
            self.reply(404, b"{}", {})

    def landing(self) -> Json:
        conforms = [f"https://api.stacspec.org/v1.0.0/{part}" for part in ("core", "item-search")]
        links = [{"rel": rel, "href": self.state.stac} for rel in ("self", "root")]
        links.append(
            {"rel": "search", "href": f"{self.state.stac}/search", "method": "POST", "type": "application/geo+json"}
        )
        about = {"type": "Catalog", "id": "cdse", "stac_version": "1.1.0", "description": "like it"}
        return {**about, "conformsTo": conforms, "links": links}

    def give_token(self, words: dict[str, str]) -> None:
        state = self.state
        self.count(words["grant_type"])
        good = words["client_id"] == "cdse-public"
        if words["grant_type"] == "password":
            good &= words["password"] == state.password
        else:
            good &= state.refresh and words["refresh_token"] in state.refreshers
        if not good:
            self.json({"error": "invalid_grant", "error_description": "Invalid user credentials"}, 401)
            return
        token, again = uuid.uuid4().hex, uuid.uuid4().hex
        with state.lock:
            state.tokens[token] = state.uses
            state.refreshers.add(again)
        self.json({"access_token": token, "expires_in": 600, "refresh_expires_in": 3600, "refresh_token": again})

    def products(self) -> None:
        self.count("products")
        asked = parse_qs(urlsplit(self.path).query)["$filter"][0]
        name = re.fullmatch(r"Name eq '(.+)'", asked)[1]
        there = any(path.startswith(f"{name}/") for path in self.state.files)
        about = {"Id": number_of(name), "Name": name, "Online": "offline" not in name, "ContentLength": 1}
        self.json({"@odata.context": "$metadata#Products", "value": [about] if there else []})

    def node(self, path: str) -> None:
        state = self.state
        host = (self.headers.get("Host") or "").partition(":")[0]
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if host == "127.0.0.1":  # the other host, which gives files by an address that is good by itself
            state.strangers += bool(token)
            self.file(path)
            return
        with state.lock:
            left = state.tokens.get(token, 0)
            if left:
                state.tokens[token] = left - 1
        if not left:
            self.count("refused")
            self.json({"detail": "Expired signature"}, 401)
        elif state.redirect:
            self.reply(302, b"", {"Location": f"{state.url}{quote(path, safe='/()$')}"})
        else:
            self.file(path)

    def file(self, path: str) -> None:
        state = self.state
        self.count("file")
        fault = state.fault_for(path)
        product, *nodes = re.findall(r"(?:Products|Nodes)\((.*?)\)", path)
        content = state.files.get("/".join(nodes))
        if fault == "busy":
            self.reply(429, b'{"detail": "Too many requests"}', {"Retry-After": "0"})
        elif fault == "soon":
            self.reply(429, b"{}", {"Retry-After": "soon"})
        elif isinstance(fault, int):
            self.reply(fault, b"{}", {})
        elif fault == "page":
            self.reply(200, b"<html>sign in</html>", {"Content-Type": "text/html; charset=utf-8"})
        elif content is None or "" in nodes or product != number_of(nodes[0]):
            self.reply(404, b'{"detail": "not found"}', {})
        else:
            self.content(content, fault)

    def content(self, content: bytes, fault: int | str | None) -> None:
        if fault == "spoiled":
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = self.headers.get("Range")
        if asked:
            self.state.ranges.append(asked)
        first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and fault != "whole" else 0
        if first >= len(content):
            self.reply(416, b"", {})
            return
        headers = {"Content-Type": "application/octet-stream"}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        with self.state.lock:
            self.state.at_once += 1
            self.state.most = max(self.state.most, self.state.at_once)
        try:
            self.reply(206 if first else 200, content[first:], headers, cut=fault == "cut")
        finally:
            with self.state.lock:
                self.state.at_once -= 1

    def count(self, kind: str) -> None:
        with self.state.lock:
            self.state.seen[kind] += 1

    def json(self, value: Json, status: int = 200) -> None:
        self.reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(self, status: int, content: bytes, headers: Mapping[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""
