"""Items of a local source: a scene index, STAC GeoParquet, a file or folder of JSON items, a static catalog."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stac2cube.catalog import is_index
from stac2cube.errors import CatalogError
from stac2cube.source.indexed import Interval, is_ours, stored_items

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """What is looked for, as far as files can tell without their items being read.

    Attributes:
        bounds: West, south, east, north of the parts of an area; everywhere if none is given.
        intervals: First and last instant of each; always if none is given.
    """

    bounds: tuple[tuple[float, ...], ...] = ()
    intervals: tuple[Interval, ...] = ()


EVERYTHING = Look()


def items_of_path(path: Path, look: Look = EVERYTHING) -> Iterator[dict[str, Any]]:
    """Every item of a local source, with absolute hrefs.

    Args:
        path: A scene index, a ``.parquet`` file of STAC GeoParquet, a JSON file (ItemCollection, list of items, item,
            static catalog or collection), or a folder: with a ``catalog.json``, ``collection.json`` or ``index.json``,
            else all items below it.
        look: Items that certainly lie elsewhere or in another time may be left out.

    Raises:
        CatalogError: It is none of these, or holds no item.
    """
    if not path.exists():
        raise CatalogError(f"the catalog {path} does not exist")
    if is_index(path) or (path.suffix in _PARQUET and is_ours(path)):
        yield from stored_items(path, look.bounds, look.intervals)
        return
    found = False
    for item in _items(path):
        found = True
        yield item
    if not found:
        raise CatalogError(f"the catalog {path} holds no STAC item")


_PARQUET = (".parquet", ".geoparquet")


def _items(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_dir():
        yield from _items_of_folder(path)
    elif path.suffix in _PARQUET:
        yield from _items_of_parquet(path)
    else:
        yield from _items_of_json(path, _read_json(path))


def _items_of_folder(folder: Path) -> Iterator[dict[str, Any]]:
    # An index.json is what `stac2cube download` leaves, beside tables that are no catalogs.
    for name in ("catalog.json", "collection.json", "index.json"):
        if (folder / name).exists():
            yield from _items(folder / name)
            return
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        if path.suffix in _PARQUET:
            yield from _items_of_parquet(path)
        elif path.suffix in (".json", ".geojson"):
            value = _read_json(path)
            if isinstance(value, dict) and value.get("type") in ("Feature", "FeatureCollection"):
                yield from _items_of_json(path, value)


def _items_of_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import rustac

    if is_ours(path):
        yield from stored_items(path)
        return
    try:
        collection = rustac.read_sync(str(path.resolve()))
    except rustac.RustacError as error:
        raise CatalogError(f"{path} is not STAC GeoParquet: {error}") from error
    yield from (_absolute(item, path) for item in collection["features"])


def _items_of_json(path: Path, value: Any) -> Iterator[dict[str, Any]]:
    kind = value.get("type") if isinstance(value, dict) else "list"
    if kind == "Feature":
        yield _absolute(value, path)
    elif kind in ("FeatureCollection", "list"):
        items = value.get("features") if kind == "FeatureCollection" else value
        if not isinstance(items, list):
            raise CatalogError(f"{path} holds no list of STAC items")
        yield from (_absolute(item, path) for item in items)
    elif kind in ("Catalog", "Collection"):
        yield from _items_of_links(path, value)
    else:
        raise CatalogError(f"{path} is neither a STAC item, a collection of items, nor a catalog")


def _items_of_links(start: Path, catalog: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Follow the links of a static catalog on disk, items and children alike, each file once."""
    followed, waiting, broken = {start.resolve()}, _targets(start, catalog), []
    while waiting:
        target = waiting.pop(0)
        if target in followed:
            continue
        followed.add(target)
        if not target.is_file():  # nor a pipe, of which nobody knows whether it ends
            broken.append(target)
            continue
        value = _read_json(target)
        if isinstance(value, dict) and value.get("type") in ("Catalog", "Collection"):
            waiting = _targets(target, value) + waiting
        else:
            yield from _items_of_json(target, value)
    if broken:
        log.warning("%s: %d of %d links lead nowhere, as to %s", start, len(broken), len(followed) - 1, broken[0])


def _targets(path: Path, catalog: Mapping[str, Any]) -> list[Path]:
    links = [
        link["href"] for link in catalog.get("links", ()) if link.get("rel") in ("item", "child") and link.get("href")
    ]
    return [Path(os.path.normpath(path.resolve().parent / str(href).removeprefix("file://"))) for href in links]


def _absolute(item: Any, path: Path) -> dict[str, Any]:
    """The item with asset hrefs that hold from anywhere: relative ones are meant from the file that holds the item."""
    if not isinstance(item, dict) or not {"id", "assets", "properties"} <= item.keys():
        raise CatalogError(f"{path} holds something that is not a STAC item")
    base = path.resolve().parent
    # A GeoParquet file may hold a column per asset of all its items, empty where an item lacks the asset.
    item["assets"] = {name: asset for name, asset in item["assets"].items() if asset and asset.get("href")}
    for asset in item["assets"].values():
        href = asset["href"]
        if isinstance(href, str) and is_relative(href):
            asset["href"] = os.path.normpath(base / href)
    return item


def is_relative(href: str) -> bool:
    """Whether an href is meant from the file that holds it; no text of another kind, as an inline VRT, is one."""
    try:
        return not urlsplit(href).scheme and not href.startswith(("/", "<", "{"))
    except ValueError:
        return False


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path} is not JSON: {error}") from error
