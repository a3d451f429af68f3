"""Items of a local source: a scene index, STAC GeoParquet, a file or folder of JSON items, a static catalog."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from stac2cube.catalog import is_index
from stac2cube.errors import CatalogError
from stac2cube.source.foreign import foreign_items
from stac2cube.source.hrefs import absolute, is_relative, is_there, local_path
from stac2cube.source.indexed import Interval, is_ours, stored_items
from stac2cube.source.parsing import Notes, unicode_only

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


def items_of_path(path: Path, look: Look = EVERYTHING, notes: Notes | None = None) -> Iterator[Any]:
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
        yield from _items_of_lines(path)
    else:
        yield from _items_of_json(path, _read_json(path), notes)


def _items_of_lines(path: Path) -> Iterator[Any]:
    """One item a line, as pgSTAC and rustac write them (newline-delimited JSON)."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield from _items_of_json(path, _parsed(line, f"line {number} of {path}"), None)


def _readable(path: Path, notes: Notes | None) -> Iterator[Any]:
    """The content of one file of several; without notes, one that cannot be read is an error."""
    try:
        yield _read_json(path)
    except CatalogError as error:
        if notes is None:
            raise
        notes.incomplete = notes.incomplete or str(error)


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
            yield from _items_of_parquet(path)
        elif path.suffix in _LINES:
            yield from _items_of_lines(path)
        elif path.suffix in (".json", ".geojson"):
            for value in _readable(path, notes):
                if isinstance(value, dict) and value.get("type") in ("Feature", "FeatureCollection"):
                    yield from _items_of_json(path, value, notes)


def _items_of_parquet(path: Path) -> Iterator[Any]:
    if is_ours(path):
        yield from stored_items(path)
    else:
        yield from (_absolute(item, path) for item in foreign_items(path))


def _items_of_json(path: Path, value: Any, notes: Notes | None) -> Iterator[Any]:
    kind = value.get("type") if isinstance(value, dict) else "list"
    if kind == "Feature":
        yield _absolute(value, path)
    elif kind in ("FeatureCollection", "list"):
        items = value.get("features") if kind == "FeatureCollection" else value
        if not isinstance(items, list):
            raise CatalogError(f"{path} holds no list of STAC items")
        yield from (_absolute(item, path) for item in items)
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


def _absolute(item: Any, path: Path) -> Any:
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
