"""Items of a STAC API, of static catalogs and of single files, page by page."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
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
from stac2cube.trust.text import shown, unicode_only

# Pages of a search: how they name the next, and when they have told enough or nonsense.

MOST_PAGES = 5_000
"""Pages of one search: at 200 items each, a million."""


MOST_BEYOND = 20_000
"""Items that may come beyond ten times what the server counts."""

MOST_REPEATED = 3
"""Pages one after another that hold items, and none that was not there before."""


def once(pages: Iterator[Mapping[str, Any]], notes: Notes) -> Iterator[Any]:
    """The items of pages, each once.

    Args:
        pages: Answers of a search, one after another.
        notes: Told if there may be more items: the server counts more than it gave (``numberMatched``), or it repeated
            some without counting, as happens where it pages by place while items are added or removed.

    Raises:
        APIError: Pages repeat themselves, or do not end.
    """
    from pystac_client.exceptions import APIError

    seen: set[tuple[str, str]] = set()
    matched: int | None = None
    repeated = barren = 0
    for number, page in enumerate(pages, 1):
        matched = _matched(page, matched)
        fresh = 0
        for item in page["features"]:
            key = (str(item.get("collection", "")), str(item.get("id"))) if isinstance(item, Mapping) else None
            if key is not None and key in seen:
                repeated += 1
                continue
            if key is not None:
                seen.add(key)
            fresh += 1
            yield item
        barren = 0 if fresh else barren + 1
        if barren >= MOST_REPEATED:
            if matched is not None and len(seen) >= matched:
                break  # it has given all that it counts, and begins anew
            raise APIError(f"its pages repeat themselves: {len(seen)} items came, and then no other")
        # Some servers estimate how many there are, and so do badly for areas (pgSTAC), or count the page alone.
        if number >= MOST_PAGES or (matched is not None and len(seen) > 10 * matched + MOST_BEYOND):
            raise APIError(f"its pages do not end: {number} came, with {len(seen)} items")
    if matched is not None and len(seen) < matched:
        notes.incomplete = f"the server counts {matched} items and gave {len(seen)}"
    elif matched is None and repeated:
        notes.incomplete = f"the server gave {repeated} items twice, and does not say how many there are"


def _matched(page: Mapping[str, Any], before: int | None) -> int | None:
    """How many items the server counts; None if it does not say."""
    context = page.get("context")
    for said in (page.get("numberMatched"), context.get("matched") if isinstance(context, Mapping) else None):
        if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
            return said
    return before


# Items of a local source: a scene index, STAC GeoParquet, a file or folder of JSON items, a static catalog.

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ItemFilter:
    """What is looked for, as far as files can tell without their items being read.

    Attributes:
        bounds: West, south, east, north of the parts of an area; everywhere if none is given.
        intervals: First and last instant of each; always if none is given.
    """

    bounds: tuple[tuple[float, ...], ...] = ()
    intervals: tuple[Interval, ...] = ()


EVERYTHING = ItemFilter()


def items_of_path(path: Path, look: ItemFilter = EVERYTHING, notes: Notes | None = None) -> Iterator[Any]:
    """Every item of a local source, with absolute hrefs; and what stands in the place of one, as it is.

    Args:
        path: A scene index, a ``.parquet`` file of STAC GeoParquet, a JSON file (ItemCollection, list of items, item,
            static catalog or collection), or a folder: with a ``catalog.json``, ``collection.json`` or ``index.json``,
            else all items below it.
        look: Items that certainly lie elsewhere or in another time may be left out.
        notes: Told of files of a folder or static catalog that cannot be read. If None, the first one is an error, and
            so is what is not an item.

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
    """One item a line, as pgSTAC and rustac write them (newline-delimited JSON)."""
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
    """What one of several files or lines gives; without notes, one that cannot be read is an error."""
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
    # An index.json is what `stac2cube download` leaves, beside tables that are no catalogs.
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
    """Follow the links of a static catalog on disk, items and children alike, each file once."""
    followed, waiting, broken = {start.resolve()}, _targets(start, catalog), []
    while waiting:
        target = waiting.pop(0)
        if target in followed:
            continue
        followed.add(target)
        if not (is_there(target) and target.is_file()):  # nor a pipe, of which nobody knows whether it ends
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
    """Where a reference of RFC 3986 leads from a folder: percent-encoded, or as file systems write it."""
    named = href.lower().startswith("file:") and local_path(href)
    plain = named or href
    path = Path(os.path.normpath(base / plain))
    if "%" in plain and not named and not is_there(path):
        return Path(os.path.normpath(base / unquote(plain)))
    return path


def _absolute_path(item: Any, path: Path) -> Any:
    """The item with asset hrefs that hold from anywhere: relative ones are meant from the file that holds the item.

    Where there is no such file, and the item says by its link ``self`` that it comes from a server, they are meant from
    there.
    """
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(assets, dict):
        return item
    base, origin = path.resolve().parent, self_link(item)
    # A GeoParquet file may hold a column per asset of all its items, empty where an item lacks the asset.
    item["assets"] = {name: asset for name, asset in assets.items() if asset}
    for asset in item["assets"].values():
        href = asset.get("href") if isinstance(asset, dict) else None
        if is_relative(href):
            here = _on_disk(href, base)
            asset["href"] = absolute(href, origin) if origin and not is_there(here) else str(here)
    return item


def self_link(item: Mapping[str, Any]) -> str:
    """Where an item says that it comes from, if that is a server; "" else."""
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
        return unicode_only(json.loads(content), content)
    except (ValueError, RecursionError) as error:  # also what is not Unicode, and numbers of thousands of digits
        raise CatalogError(f"{what} is not JSON: {error}") from error


# Items of a STAC API, through pystac-client: paged, patient with a server under load.

RETRIES = 6
"""Repetitions after 429 and 5xx, see :mod:`stac2cube.access.http`."""

PAGE = 200
"""Items asked for per page."""

_MOST_CORNERS = 500
"""An area with more corners is sent as its convex hull, since servers refuse long ones; the answer is filtered here."""


def items_of_api(
    url: str,
    collections: Sequence[str],
    area: BaseGeometry,
    intervals: Sequence[tuple[datetime, datetime]],
    notes: Notes | None = None,
    login: Login = NOBODY,
) -> Iterator[Any]:
    """Items that a STAC API finds, each once, with absolute hrefs; and what stands in the place of one, as it is.

    Args:
        url: Address of the API's landing page.
        collections: Ids to look in.
        area: WGS84.
        intervals: First and last instant of each, UTC.
        login: User, password and keys, which its host alone sees.
        notes: Told if there may be more items than those that were found.

    Raises:
        CatalogError: The API cannot be reached or answers an error, after retries; or its pages do not end.
    """
    from pystac import STACError
    from pystac_client import Client
    from pystac_client.errors import ClientTypeError
    from pystac_client.exceptions import APIError
    from pystac_client.warnings import DoesNotConformTo
    from requests.exceptions import RequestException

    from stac2cube.access.http import StrictIO

    parts = getattr(area, "geoms", [area])
    corners = sum(len(part.exterior.coords) for part in parts)
    # Hulls of the parts, not of the whole: an area split at the antimeridian would span the globe.
    shape = area if corners <= _MOST_CORNERS else union_all([part.convex_hull for part in parts])
    noted = Notes() if notes is None else notes
    try:
        client = Client.open(url, stac_io=StrictIO(RETRIES, url, login))
        for first, last in intervals:
            search = client.search(
                collections=list(collections), intersects=mapping(shape), datetime=(first, last), limit=PAGE
            )
            yield from (_absolute_link(item, url) for item in once(search.pages_as_dicts(), noted))
    except (ClientTypeError, DoesNotConformTo, STACError) as error:
        raise CatalogError(
            f"{url} is no STAC API that can be searched: {_first_line(error)}. Check the address"
        ) from error
    except (APIError, RequestException, ValueError) as error:  # a ValueError is an answer that is no JSON
        raise refused(url, error) from None


def refused(url: str, error: Exception) -> CatalogError:
    """What is said of a catalog that gives no answer; its own words shortened, without keys."""
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
    """The item with absolute hrefs: relative ones are meant from where the item itself lies (STAC, item links)."""
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
    """Where an API has an item (OGC API - Features, part 1)."""
    return f"{url.rstrip('/')}/collections/{quote(collection, safe='')}/items/{quote(name, safe='')}"


def is_gone(url: str, collection: str, name: str, login: Login = NOBODY) -> bool | None:
    """Whether an API says of an item that it does not have it any more: by 404, by 410, or by calling it deprecated.

    Returns:
        None if it says nothing: it cannot be reached, or answers something else.
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
    # Of a connection that failed what lies below: the reason, without the tries and addresses around it.
    below = [one.args[0] for one in (error, error.__cause__, error.__context__) if one is not None and one.args]
    reasons = [reason for one in below if (reason := getattr(one, "reason", None))]
    text = str(reasons[0] if reasons else error).strip()
    return shown(text.splitlines()[0][:300]) if text else type(error).__name__


# One STAC item by itself: from a file, from a folder that a workflow staged, or from an address.


def read_item(where: str) -> dict[str, Any]:
    """A STAC item with hrefs that hold from anywhere.

    Args:
        where: Address of the item; or path of its file, or of a file or folder that holds it and no other, such as a
            static catalog.

    Raises:
        BadInputError: There are several items.
        CatalogError: It cannot be read, or is none.
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
    except (APIError, RequestException, ValueError) as error:  # a ValueError is an answer that is no JSON
        raise refused(plain, error) from None
    if item.get("type") != "Feature" or not isinstance(item.get("assets"), dict) or "properties" not in item:
        raise CatalogError(f"{plain} is no STAC item")
    for asset in item["assets"].values():
        if isinstance(asset, dict) and is_relative(asset.get("href")):
            asset["href"] = absolute(asset["href"], plain)
    return item
