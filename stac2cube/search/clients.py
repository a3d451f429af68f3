"""Items of a STAC API, of static catalogs and of single files, page by page."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote

from shapely import union_all
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from stac2cube.access.hrefs import absolute, is_relative, is_there, local_path
from stac2cube.errors import BadInputError, CatalogError
from stac2cube.model.catalog import is_index
from stac2cube.model.tables import config_folder
from stac2cube.search.index_files import Interval, foreign_items, is_ours, stored_items
from stac2cube.search.parsing import Notes
from stac2cube.trust.address import NOBODY, Login, has_secret, host_of, is_http, netrc_path, public
from stac2cube.trust.text import parse_json, shown

if TYPE_CHECKING:
    from pystac_client import Client

# Pages of a search: links to the next page, and when paging must end.

MOST_PAGES = 5_000
"""Most pages of one search: at 200 items each, a million items."""


MOST_BEYOND = 20_000
"""Items that are accepted beyond ten times the count of the server."""

MOST_REPEATED = 3
"""Most consecutive pages whose items were all returned before."""


def once(pages: Iterator[Mapping[str, Any]], notes: Notes) -> Iterator[Any]:
    """The items of pages, without repetitions; an item that was changed between two pages comes in both versions.

    Args:
        pages: Responses of a search, in order.
        notes: Records that there may be more items: the server counts more than it returned (``numberMatched``), or
            repeated some without a count. The latter happens with paging by position while items are added or removed.

    Raises:
        APIError: Pages repeat themselves, or do not end.
    """
    from pystac_client.exceptions import APIError

    seen: dict[tuple[str, str], int] = {}
    matched: int | None = None
    repeated = barren = 0
    for number, page in enumerate(pages, 1):
        matched = _matched(page, matched)
        fresh = 0
        for item in page["features"]:
            if isinstance(item, Mapping):
                key, version = (str(item.get("collection", "")), str(item.get("id"))), _version(item)
                if key in seen:
                    repeated += 1
                    if seen[key] == version:
                        continue
                else:
                    fresh += 1
                seen[key] = version
            else:
                fresh += 1
            yield item
        barren = 0 if fresh else barren + 1
        if barren >= MOST_REPEATED:
            if matched is not None and len(seen) >= matched:
                break  # all counted items were returned, and the server starts over
            raise APIError(f"its pages repeat themselves: {len(seen)} items came, and then no other")
        # Some servers estimate the count, badly for areas (pgSTAC), or count only the items of the page.
        if number >= MOST_PAGES or (matched is not None and len(seen) > 10 * matched + MOST_BEYOND):
            raise APIError(f"its pages do not end: {number} came, with {len(seen)} items")
    if matched is not None and len(seen) < matched:
        notes.incomplete = f"the server counts {matched} items and gave {len(seen)}"
    elif matched is None and repeated:
        notes.incomplete = f"the server gave {repeated} items twice, and does not say how many there are"


_CHANGING = ("datetime", "created", "updated", "s2:generation_time", "processing:datetime", "deprecated")
"""Properties by which versions of an item differ, see :func:`stac2cube.model.scene.version_of`."""


def _version(item: Mapping[str, Any]) -> int:
    """A number that is the same for the same version of an item; small, because a search keeps one for each item."""
    properties = item.get("properties")
    said = [properties.get(key) for key in _CHANGING] if isinstance(properties, Mapping) else []
    return hash(tuple(value if isinstance(value, (str, bool)) else None for value in said))


def _matched(page: Mapping[str, Any], before: int | None) -> int | None:
    """The number of items that the server counts; None if it reports none."""
    context = page.get("context")
    for said in (page.get("numberMatched"), context.get("matched") if isinstance(context, Mapping) else None):
        if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
            return said
    return before


# Items of a local source: a scene index, STAC GeoParquet, a file or folder of JSON items, a static catalog.

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ItemFilter:
    """Conditions that files can be filtered by before their items are read.

    Attributes:
        bounds: West, south, east, north of each part of an area; empty for everywhere.
        intervals: Pairs of first and last instant; empty for any time.
    """

    bounds: tuple[tuple[float, ...], ...] = ()
    intervals: tuple[Interval, ...] = ()


EVERYTHING = ItemFilter()


def items_of_path(path: Path, look: ItemFilter = EVERYTHING, notes: Notes | None = None) -> Iterator[Any]:
    """Every item of a local source, with absolute hrefs; values that are not items are yielded unchanged.

    Args:
        path: A scene index, a ``.parquet`` file of STAC GeoParquet, a JSON file (ItemCollection, list of items, item,
            static catalog or collection), or a folder: with a ``catalog.json``, ``collection.json`` or ``index.json``,
            else all items below it.
        look: Filter; items that certainly do not match may be left out.
        notes: Records files of a folder or static catalog that cannot be read. If None, the first of them is an error,
            and so is a value that is not an item.

    Raises:
        CatalogError: It is none of these, or holds no item.
    """
    if not path.exists():
        raise CatalogError(f"the catalog {path} does not exist")
    if is_index(path) or (path.suffix in _PARQUET and is_ours(path)):
        yield from stored_items(path, look.bounds, look.intervals)
        return
    found = False
    for item in _items(path, notes):
        found = True
        if notes is None and not (isinstance(item, dict) and {"id", "assets", "properties"} <= item.keys()):
            raise CatalogError(f"{path} holds something that is not a STAC item")
        yield item
    if not found:
        raise CatalogError(f"the catalog {path} holds no STAC item{_but(notes)}")


_PARQUET = (".parquet", ".geoparquet")
_LINES = (".ndjson", ".jsonl", ".geojsonl", ".ndgeojson")


def _but(notes: Notes | None) -> str:
    return f": {notes.incomplete}" if notes is not None and notes.incomplete else ""


def _items(path: Path, notes: Notes | None) -> Iterator[Any]:
    if path.is_dir():
        yield from _items_of_folder(path, notes)
    elif path.suffix in _PARQUET:
        yield from _items_of_parquet(path)
    elif path.suffix in _LINES:
        yield from _items_of_lines(path, notes)
    else:
        yield from _items_of_json(path, _read_json(path), notes)


def _items_of_lines(path: Path, notes: Notes | None) -> Iterator[Any]:
    """Items of newline-delimited JSON, one per line, as pgSTAC and rustac write it."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield from _noted(_items_of_line(path, number, line), notes)
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error


def _items_of_line(path: Path, number: int, line: bytes) -> Iterator[Any]:
    yield from _items_of_json(path, _parsed(line, f"line {number} of {path}"), None)


def _noted(values: Iterator[Any], notes: Notes | None) -> Iterator[Any]:
    """The values of one of several files or lines; an error is noted, or raised if there are no notes."""
    try:
        yield from values
    except CatalogError as error:
        if notes is None:
            raise
        notes.incomplete = notes.incomplete or str(error)


def _readable(path: Path, notes: Notes | None) -> Iterator[Any]:
    """The content of one file of several; see :func:`_noted`."""
    yield from _noted(map(_read_json, (path,)), notes)


def _items_of_folder(folder: Path, notes: Notes | None) -> Iterator[Any]:
    # `stac2cube download` leaves an index.json beside tables that are not catalogs.
    for name in ("catalog.json", "collection.json", "index.json"):
        if (folder / name).exists():
            yield from _items(folder / name, notes)
            return
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        if path.suffix in _PARQUET:
            yield from _noted(_items_of_parquet(path), notes)
        elif path.suffix in _LINES:
            yield from _noted(_items_of_lines(path, notes), notes)
        elif path.suffix in (".json", ".geojson"):
            for value in _readable(path, notes):
                if isinstance(value, dict) and value.get("type") in ("Feature", "FeatureCollection"):
                    yield from _items_of_json(path, value, notes)


def _items_of_parquet(path: Path) -> Iterator[Any]:
    if is_ours(path):
        yield from stored_items(path)
    else:
        yield from (_absolute_path(item, path) for item in foreign_items(path))


def _items_of_json(path: Path, value: Any, notes: Notes | None) -> Iterator[Any]:
    kind = value.get("type") if isinstance(value, dict) else "list"
    if kind == "Feature":
        yield _absolute_path(value, path)
    elif kind in ("FeatureCollection", "list"):
        items = value.get("features") if kind == "FeatureCollection" else value
        if not isinstance(items, list):
            raise CatalogError(f"{path} holds no list of STAC items")
        yield from (_absolute_path(item, path) for item in items)
    elif kind in ("Catalog", "Collection"):
        yield from _items_of_links(path, value, notes)
    else:
        raise CatalogError(f"{path} is neither a STAC item, a collection of items, nor a catalog")


def _items_of_links(start: Path, catalog: Mapping[str, Any], notes: Notes | None) -> Iterator[Any]:
    """Follow the item and child links of a static catalog on disk, each file once."""
    followed, waiting, broken = {start.resolve()}, _targets(start, catalog), []
    while waiting:
        target = waiting.pop(0)
        if target in followed:
            continue
        followed.add(target)
        if not (is_there(target) and target.is_file()):  # a pipe may never end
            broken.append(target)
            continue
        for value in _readable(target, notes):
            if isinstance(value, dict) and value.get("type") in ("Catalog", "Collection"):
                waiting = _targets(target, value) + waiting
            else:
                yield from _items_of_json(target, value, notes)
    if broken:
        words = f"{start}: {len(broken)} of {len(followed) - 1} links lead nowhere, as to {broken[0]}"
        if notes is None:
            log.warning("%s", words)
        else:
            notes.incomplete = notes.incomplete or words


def _targets(path: Path, catalog: Mapping[str, Any]) -> list[Path]:
    found = []
    for link in catalog.get("links") or ():
        href = link.get("href") if isinstance(link, Mapping) and link.get("rel") in ("item", "child") else None
        if isinstance(href, str) and href:
            found.append(_on_disk(href, path.resolve().parent))
    return found


def _on_disk(href: str, base: Path) -> Path:
    """The path of a reference (RFC 3986) relative to a folder: percent-encoded, or as file systems write it."""
    named = href.lower().startswith("file:") and local_path(href)
    plain = named or href
    path = Path(os.path.normpath(base / plain))
    if "%" in plain and not named and not is_there(path):
        return Path(os.path.normpath(base / unquote(plain)))
    return path


def _absolute_path(item: Any, path: Path) -> Any:
    """The item with absolute asset hrefs; relative ones are resolved against the file that holds the item.

    If no such file exists and the item's link ``self`` points to a server, they are resolved against that link.
    """
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(assets, dict):
        return item
    base, origin = path.resolve().parent, self_link(item)
    # A GeoParquet file may hold a column for every asset of any item, empty where an item lacks the asset.
    item["assets"] = {name: asset for name, asset in assets.items() if asset}
    for asset in item["assets"].values():
        href = asset.get("href") if isinstance(asset, dict) else None
        if is_relative(href):
            here = _on_disk(href, base)
            asset["href"] = absolute(href, origin) if origin and not is_there(here) else str(here)
    return item


def self_link(item: Mapping[str, Any]) -> str:
    """The address of an item by its link ``self``, if that is on a server; else ""."""
    for link in item.get("links") or () if isinstance(item.get("links"), list) else ():
        href = link.get("href") if isinstance(link, Mapping) and link.get("rel") == "self" else None
        if isinstance(href, str) and href.startswith(("http://", "https://")):
            return href
    return ""


def _read_json(path: Path) -> Any:
    try:
        return _parsed(path.read_bytes(), str(path))
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error


def _parsed(content: bytes, what: str) -> Any:
    try:
        return parse_json(content)
    except ValueError as error:  # also for text that is not Unicode, and numbers of thousands of digits
        raise CatalogError(f"{what} is not JSON: {error}") from error


# Items of a STAC API, through pystac-client, with paging and retries.

RETRIES = 6
"""Retries after 429 and 5xx, see :mod:`stac2cube.access.http`."""

PAGE = 200
"""Items requested per page."""

FEW = 50
"""Items requested per page of a server that refuses longer ones."""

_MOST_CORNERS = 500
"""Areas with more corners are sent as convex hulls, since servers refuse long requests; the response is filtered
here."""


def items_of_api(
    url: str,
    collections: Sequence[str],
    area: BaseGeometry,
    intervals: Sequence[tuple[datetime, datetime]],
    notes: Notes | None = None,
    login: Login = NOBODY,
) -> Iterator[Any]:
    """Items found by a STAC API, each once, with absolute hrefs; values that are not items are yielded unchanged.

    Args:
        url: Address of the API's landing page.
        collections: Ids of the collections to search.
        area: Geometry in WGS84.
        intervals: Pairs of first and last instant, UTC.
        login: User, password and keys, which are sent to the API's host only.
        notes: Records that there may be more items than those found.

    Raises:
        CatalogError: The API cannot be reached or responds with an error, after retries; or its pages do not end.
    """
    from pystac import STACError
    from pystac_client import Client
    from pystac_client.errors import ClientTypeError
    from pystac_client.exceptions import APIError
    from pystac_client.warnings import DoesNotConformTo
    from requests.exceptions import RequestException

    from stac2cube.access.http import StrictIO

    noted = Notes() if notes is None else notes
    try:
        client = Client.open(url, stac_io=StrictIO(RETRIES, url, login))
        asking = _Asking(client, collections, area)
        for first, last in intervals:
            for place in range(asking.count):
                pages = asking.pages(place, (first, last))
                yield from (_absolute_link(item, url) for item in once(pages, noted))
    except (ClientTypeError, DoesNotConformTo, STACError) as error:
        raise CatalogError(
            f"{url} is no STAC API that can be searched: {_first_line(error)}. Check the address"
        ) from error
    except (APIError, RequestException, ValueError) as error:  # ValueError: the response is not JSON
        raise refused(url, error) from None


class _Asking:
    """How a server is asked: by POST with the area, or by GET with its boxes where it knows only that.

    The STAC API specification asks servers for GET only, and lets them refuse pages that they call too long.

    Args:
        client: The server.
        collections: Ids of the collections to search.
        area: Geometry in WGS84.
    """

    def __init__(self, client: Client, collections: Sequence[str], area: BaseGeometry) -> None:
        methods = {str(link.extra_fields.get("method") or "").upper() for link in client.get_links("search")}
        self._client, self._collections, self._limit = client, list(collections), PAGE
        self._way: Literal["POST", "GET"] = "GET" if methods == {"GET"} else "POST"
        parts = list(getattr(area, "geoms", [area]))
        corners = sum(len(part.exterior.coords) for part in parts)
        # Hulls of the parts, not of the union: an area split at the antimeridian would span the globe.
        self._shape = area if corners <= _MOST_CORNERS else union_all([part.convex_hull for part in parts])
        west, _, east, _ = area.bounds
        sides = [[part for part in parts if (part.centroid.x < 0) is left] for left in (True, False)]
        self._boxes = [union_all(side).bounds for side in (sides if east - west > 180 else [parts]) if side]

    @property
    def count(self) -> int:
        """Number of searches for one interval: one, or one per box."""
        return len(self._boxes)

    def pages(self, place: int, interval: Interval) -> Iterator[Mapping[str, Any]]:
        """The pages of one of these searches.

        Raises:
            APIError: The server answers with an error.
        """
        from pystac_client.exceptions import APIError

        while place == 0 or self._way == "GET":
            try:
                pages = self._search(place, interval)
                first = next(pages, None)
            except APIError as error:
                status = getattr(error, "status_code", None)
                if self._way == "POST" and status in _NO_SUCH_WAY:
                    self._way = "GET"
                elif self._limit > FEW and status in _TOO_MANY and (status == 413 or "limit" in str(error).lower()):
                    self._limit = FEW
                else:
                    raise
                continue
            if first is not None:
                yield first
                yield from pages
            return

    def _search(self, place: int, interval: Interval) -> Iterator[Mapping[str, Any]]:
        by_post = self._way == "POST"
        search = self._client.search(
            method=self._way,
            collections=self._collections,
            intersects=mapping(self._shape) if by_post else None,
            bbox=None if by_post else self._boxes[place],
            datetime=interval,
            limit=self._limit,
        )
        pages: Iterator[Mapping[str, Any]] = search.pages_as_dicts()
        return pages


# Servers that only take GET list both ways, or POST, as it happens.
warnings.filterwarnings("ignore", "The requested method '[A-Z]+' is not advertised")

_NO_SUCH_WAY = (404, 405, 501)
"""Answers of servers that do not take POST."""

_TOO_MANY = (400, 413, 422)
"""Answers of servers to a page that they call too long."""


def refused(url: str, error: Exception) -> CatalogError:
    """The error for a catalog that does not respond; its message shortened and without keys."""
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        return CatalogError(
            f"the catalog at {url} refuses (status {status}): it wants a user and password, or a key, that it was not "
            f"given or does not take. Put a line `machine {host_of(url)} login USER password PASSWORD` into "
            f"{netrc_path()}, or the whole address, with user, password or key, as url of an entry of its own into "
            f"{config_folder() / 'catalogs.toml'}: both are kept from what is written"
        )
    return CatalogError(
        f"the catalog at {url} does not answer: {_first_line(error)}. Check address and network, or try later"
    )


def _absolute_link(item: Any, url: str) -> Any:
    """The item with absolute hrefs; relative ones are resolved against the item's own address (STAC, item links)."""
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(assets, dict):
        return item
    base = ""
    for asset in assets.values():
        href = asset.get("href") if isinstance(asset, dict) else None
        if is_relative(href):
            base = base or self_link(item) or item_url(url, str(item.get("collection")), str(item.get("id")))
            asset["href"] = absolute(href, base)
    return item


def item_url(url: str, collection: str, name: str) -> str:
    """The address of an item in an API (OGC API - Features, part 1)."""
    return f"{url.rstrip('/')}/collections/{quote(collection, safe='')}/items/{quote(name, safe='')}"


def is_gone(url: str, collection: str, name: str, login: Login = NOBODY) -> bool | None:
    """Whether an API no longer has an item: it responds 404 or 410, or marks the item as deprecated.

    Returns:
        None if unknown: the API cannot be reached, or responds with something else.
    """
    from pystac_client.exceptions import APIError
    from requests.exceptions import RequestException

    from stac2cube.access.http import StrictIO

    try:
        item = StrictIO(RETRIES, url, login).read_json(item_url(url, collection, name))
    except APIError as error:
        return True if getattr(error, "status_code", None) in (404, 410) else None
    except (RequestException, ValueError):
        return None
    properties = item.get("properties")
    if str(item.get("id")) != name or not isinstance(properties, dict):
        return None
    return properties.get("deprecated") is True


def _first_line(error: Exception) -> str:
    # For a failed connection only the underlying reason, without the retries and addresses around it.
    below = [one.args[0] for one in (error, error.__cause__, error.__context__) if one is not None and one.args]
    reasons = [reason for one in below if (reason := getattr(one, "reason", None))]
    text = str(reasons[0] if reasons else error).strip()
    return shown(text.splitlines()[0][:300]) if text else type(error).__name__


# A single STAC item: from a file, from a folder that a workflow staged, or from an address.


def read_item(where: str) -> dict[str, Any]:
    """Read a STAC item and make its hrefs absolute.

    Args:
        where: Address of the item; or path of its file, or of a file or folder that holds only this item, such as a
            static catalog.

    Raises:
        BadInputError: The source holds several items.
        CatalogError: It cannot be read, or is not an item.
    """
    if is_http(where):
        return _fetched(where)
    found = list(islice(items_of_path(Path(where)), 2))
    if len(found) > 1:
        raise BadInputError(f"{where} holds several items, among them {found[0]['id']} and {found[1]['id']}: name one")
    item: dict[str, Any] = found[0]
    return item


def _fetched(url: str) -> dict[str, Any]:
    from pystac_client.exceptions import APIError
    from requests.exceptions import RequestException

    from stac2cube.access.http import StrictIO

    plain = public(url)
    login = Login.of(url) if has_secret(url) else NOBODY
    try:
        item = StrictIO(RETRIES, plain, login).read_json(plain)
    except (APIError, RequestException, ValueError) as error:  # ValueError: the response is not JSON
        raise refused(plain, error) from None
    if item.get("type") != "Feature" or not isinstance(item.get("assets"), dict) or "properties" not in item:
        raise CatalogError(f"{plain} is no STAC item")
    for asset in item["assets"].values():
        if isinstance(asset, dict) and is_relative(asset.get("href")):
            asset["href"] = absolute(asset["href"], plain)
    return item
