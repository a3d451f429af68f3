"""A catalog that is not a friend: a server in this process, and items that try what they can; all of it harmless."""

from __future__ import annotations

import json
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

Json = dict[str, Any]

ORIGIN, EDGE = (600_000.0, 5_300_040.0), 60
AOI = "10.3355,47.8455,10.3415,47.8495"
SECRET = 777
"""Counts of the private image: found in a result, they were read."""
WORDS = "the private text of this test"

GOOD = "S2A_32TPT_20230714_0_L2A"
"""The item that is a friend's."""


def tif(path: Path, value: int, tags: Mapping[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"driver": "GTiff", "count": 1, "dtype": "uint16", "crs": "EPSG:32632", "nodata": 0}
    with rasterio.open(path, "w", width=EDGE, height=EDGE, transform=from_origin(*ORIGIN, 10, 10), **about) as file:
        file.write(np.full((EDGE, EDGE), value, "uint16"), 1)
        if tags:
            file.update_tags(ns="OVERVIEWS", **tags)
    return path


def outline() -> Json:
    (x, y), to = ORIGIN, Transformer.from_crs(32632, 4326, always_xy=True)
    edge = EDGE * 10
    ring = [(x, y), (x + edge, y), (x + edge, y - edge), (x, y - edge), (x, y)]
    return {"type": "Polygon", "coordinates": [[list(to.transform(*point)) for point in ring]]}


def item(name: str, href: object, day: int = 14, **more: Any) -> Json:
    """An item in the form of Earth Search, of its own day, with one band."""
    when = f"2023-{1 + day // 28:02d}-{1 + day % 28:02d}"
    short = when.replace("-", "")
    bands = [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}]
    properties = {
        "datetime": f"{when}T10:27:47Z",
        "platform": "sentinel-2a",
        "proj:epsg": 32632,
        "grid:code": "MGRS-32TPT",
        "s2:processing_baseline": "05.09",
        "eo:cloud_cover": 5.0,
        "s2:product_uri": f"S2A_MSIL2A_{short}T102031_N0509_R065_T32TPT_{short}T200000.SAFE",
        "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_2APS_{short}T200000_S{short}T102231_N05.09",
    }
    geometry = outline()
    places = np.asarray(geometry["coordinates"][0])
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": geometry,
        "bbox": [*map(float, places.min(axis=0)), *map(float, places.max(axis=0))],
        "links": [],
        "properties": properties | more.pop("properties", {}),
        "assets": {"red": {"href": href, "type": "image/tiff", "roles": ["data"], "raster:bands": bands}} | more,
    }


@dataclass
class Server:
    """A STAC API, and files beside it.

    Attributes:
        url: Its address.
        items: What a search finds.
        files: Path -> content, or a function that answers by itself.
        log: Method, path and headers of every request.
        change: Changes the answer of a search.
        landing: Changes the landing page.
        needs: User and password, as the header has them; "" for none.
    """

    url: str = ""
    items: list[Json] = field(default_factory=list)
    files: dict[str, bytes | Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    change: Callable[[Json], Json] = field(default=lambda page: page)
    landing: Callable[[Json], Json] = field(default=lambda page: page)
    needs: str = ""

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    def saw(self, text: str) -> list[str]:
        """Requests that brought a text."""
        return [f"{method} {path}" for method, path, headers in self.log if text in json.dumps(headers) + path]


class _Handler(BaseHTTPRequestHandler):
    state: Server
    protocol_version = "HTTP/1.1"

    def work(self) -> None:
        state = self.state
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        state.log.append((self.command, self.path, dict(self.headers)))
        path = urlsplit(self.path).path
        if path.startswith("/api") and state.needs and state.needs not in self.headers.get("Authorization", ""):
            self.answer(401, b'{"detail": "who are you?"}')
        elif path.rstrip("/") == "/api":
            self.json(state.landing(self.about()))
        elif path == "/api/search":
            wanted = json.loads(body) if body else {}
            here = set(wanted.get("collections") or ["sentinel-2-l2a"])
            found = [one for one in state.items if one.get("collection") in here]
            self.json(state.change({"type": "FeatureCollection", "features": found, "links": []}))
        elif path in state.files:
            content = state.files[path]
            if callable(content):
                content(self)
            else:
                self.part(content)
        else:
            self.answer(404, b"{}")

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = work  # noqa: N815

    def about(self) -> Json:
        url = self.state.api
        links = [{"rel": rel, "href": url} for rel in ("self", "root")]
        links.append({"rel": "search", "type": "application/geo+json", "href": f"{url}/search", "method": "POST"})
        conforms = [f"https://api.stacspec.org/v1.0.0/{part}" for part in ("core", "item-search")]
        return {
            "type": "Catalog",
            "id": "t",
            "description": "t",
            "stac_version": "1.0.0",
            "links": links,
            "conformsTo": conforms,
        }

    def json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/geo+json"})

    def part(self, content: bytes) -> None:
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            self.answer(200, content, {"Accept-Ranges": "bytes"})
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        self.answer(206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    def answer(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:  # type: ignore[override]
        """Whoever was left behind has gone."""


@contextmanager
def serving() -> Iterator[Server]:
    state = Server()
    server = _Quiet(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def redirect(location: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers by leading elsewhere."""
    return lambda handler: handler.answer(302, b"", {"Location": location})  # type: ignore[attr-defined]


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, without an end; of the range that is asked for, because GDAL gives up at once otherwise."""
    ranged = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range") or "")
    first, last = map(int, ranged.groups()) if ranged else (0, 99_999)
    handler.send_response(206 if ranged else 200)
    if ranged:
        handler.send_header("Content-Range", f"bytes {first}-{last}/1000000")
    handler.send_header("Content-Length", str(last - first + 1))
    handler.end_headers()
    try:
        for _ in range(600):
            handler.wfile.write(b"I")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        return


def stall(_: BaseHTTPRequestHandler) -> None:
    """No answer."""
    time.sleep(60)


def private_files(folder: Path) -> Path:
    """What nobody asked for: an image, a text, an archive, metadata, a virtual raster, a pipe."""
    import os

    image = tif(folder / "image.tif", SECRET)
    (folder / "note.txt").write_text(WORDS)
    stolen = {"type": "FeatureCollection", "features": [item("stolen", str(image))], "links": []}
    (folder / "items.json").write_text(json.dumps(stolen))
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(image, "image.tif")
    (folder / "image.vrt").write_text(vrt(image))
    os.mkfifo(folder / "pipe.tif")
    return image


def vrt(image: Path) -> str:
    return (
        f'<VRTDataset rasterXSize="{EDGE}" rasterYSize="{EDGE}"><SRS>EPSG:32632</SRS><GeoTransform>{ORIGIN[0]},10,0,'
        f'{ORIGIN[1]},0,-10</GeoTransform><VRTRasterBand dataType="UInt16" band="1"><NoDataValue>0</NoDataValue>'
        f"<SimpleSource><SourceFilename>{image}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )


def hrefs(private: Path, server: Server) -> dict[str, object]:
    """Hrefs of all kinds that lead, or try to lead, to files of this machine."""
    image, folder = private / "image.tif", private
    up = "../" * 30
    return {
        "file": f"file://{image}",
        "file in capitals": f"FILE://{image}",
        "file of localhost": f"file://localhost{image}",
        "file with one slash": f"file:{image}",
        "encoded": f"file://{folder}/%69mage.tif",
        "path": str(image),
        "relative": f"{up}{image}",
        "path with blanks": f"  {image}",
        "two slashes": f"/{image}",
        "dots": f"/tmp/..{image}",
        "archive": f"/vsizip/{folder}/a.zip/image.tif",
        "archive in capitals": f"/VSIZIP/{folder}/a.zip/image.tif",
        "archive by scheme": f"zip://{folder}/a.zip!image.tif",
        "archive over": f"zip+file://{folder}/a.zip!image.tif",
        "curl": f"/vsicurl/file://{image}",
        "curl with options": f"/vsicurl?url=file://{image}",
        "part of a file": f"/vsisubfile/0_100000,{image}",
        "sparse": f"/vsisparse/{image}",
        "standard input": "/vsistdin/",
        "memory": "/vsimem/x.tif",
        "device": "/dev/zero",
        "process": "/proc/self/environ",
        "pipe": str(folder / "pipe.tif"),
        "inline": vrt(image),
        "inline with blanks": f"\n  {vrt(image)}",
        "vrt by scheme": f"vrt://{image}",
        "vrt file": str(folder / "image.vrt"),
        "connection": f"GTIFF_DIR:1:{image}",
        "netcdf": f"NETCDF:{image}:x",
        "json": json.dumps({"type": "gdal_streamed_alg", "command_line": f"gdal raster read {image}"}),
        "wms": "<GDAL_WMS><Service name='TMS'><ServerUrl>file:///</ServerUrl></Service></GDAL_WMS>",
        "drive": "C:\\image.tif",
        "share": "\\\\server\\share\\image.tif",
        "ftp": "ftp://example.org/image.tif",
        "data": "data:image/tiff;base64,SUkqAA==",
        "bucket of nothing": "s3:///image.tif",
        "bucket with a path": "s3://a b/image.tif",
        "no host": f"http://{image}",
        "brackets": "http://[::1/image.tif",
        "line feed": f"{server.url}/f/good.tif\nfile://{image}",
        "escape": f"{server.url}/f/\x1b]0;owned\x07.tif",
        "number": 5,
        "nothing": None,
        "object": {"href": str(image)},
        "endless": "http://example.org/" + "a" * 100_000,
        # Answers of the server that name files of this machine.
        "served vrt": f"{server.url}/f/image.vrt",
        "served vrt as tif": f"{server.url}/f/vrt.tif",
        "served with overviews": f"{server.url}/f/overviews.tif",
        "served redirect": f"{server.url}/f/redirect.tif",
    }


def serve_files(private: Path, server: Server, folder: Path) -> None:
    """Files behind the hrefs that lead to the server."""
    image = private / "image.tif"
    server.files["/f/good.tif"] = tif(folder / "good.tif", 1500).read_bytes()
    server.files["/f/image.vrt"] = server.files["/f/vrt.tif"] = vrt(image).encode()
    evil = tif(folder / "evil.tif", 1500, {"OVERVIEW_FILE": str(image)})
    server.files["/f/overviews.tif"] = evil.read_bytes()
    server.files["/f/redirect.tif"] = redirect(f"file://{image}")


def ids(private: Path) -> Sequence[str]:
    """Ids that are no names of files."""
    return (
        "../../outside",
        str(private / "absolute"),
        "..",
        "",
        "CON",
        "nul.tif",
        "a" * 400,
        "with/slash",
        "with\\backslash",
        "trailing.",
        "\x1b[31mred\x1b[0m",
        "line\nbreak",
        "carriage\rreturn",
        "\u202egnp.exe",
        "\x9b31m",
        "=cmd|' /C calc'!A0",
        "<script>alert(1)</script>",
        "{{ 7 * 7 }}",
        "%n%s%x",
        "[bold]x[/nonsense]",
        "~root",
        "$(id)",
        "ÄÖÜ-ß",
        "index.json",
        "files.csv",
        "names.json",
        "S2A_32TPT_A",
        "s2a_32tpt_a",
    )


def hostile_items(private: Path, server: Server) -> list[Json]:
    """A friend's item, and every bad href and id in an item of its own day."""
    good = f"{server.url}/f/good.tif"
    found = [item(GOOD, good)]
    found += [item(f"bad_{n}", href, 100 + n) for n, href in enumerate(hrefs(private, server).values())]
    found += [item(name, good, 200 + n) for n, name in enumerate(ids(private))]
    note = f"file://{private}/note.txt"
    found.append(
        item("metadata", good, 250, product_metadata={"href": note}, properties={"s2:processing_baseline": ""})
    )
    found.append(item("pipe_of_metadata", good, 251, product_metadata={"href": f"{private}/pipe.tif"}))
    found.append(item("self", good, 252) | {"links": [{"rel": "self", "href": f"file://{private}/x\x1b[31m.json"}]})
    return found
