"""A cube given to others: as a static STAC catalog, or into a STAC API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stac2cube.cube.files import write_whole
from stac2cube.errors import CatalogError
from stac2cube.products.stac import collection_of, items_of

PAGE = 500
"""Items of which ids are asked for at a time."""


def write_stac(cube: Path, out: Path, href: str = "") -> Path:
    """Write a static catalog: ``collection.json`` and an Item per step, linked to each other.

    Items of steps that the cube has no more are taken away.

    Args:
        cube: The cube.
        out: The folder; files of the same names are replaced.
        href: Where people find the cube; its own path if "".

    Returns:
        The Collection's file.

    Raises:
        CubeError: Not a cube.
        BadInputError: It has no step yet.
    """
    collection = collection_of(cube, href)
    target = out / "collection.json"
    (out / "items").mkdir(parents=True, exist_ok=True)
    old = {path.name for path in (out / "items").glob("*.json")}
    for item in items_of(cube, href):
        name = f"{item['id']}.json"
        write_whole(out / "items" / name, json.dumps(item, indent=1).encode())
        collection["links"].append({"rel": "item", "href": f"./items/{name}", "type": "application/geo+json"})
        old.discard(name)
    collection["links"].append({"rel": "root", "href": "./collection.json", "type": "application/json"})
    write_whole(target, json.dumps(collection, indent=1).encode())
    for name in old:
        (out / "items" / name).unlink()
    return target


def post_stac(cube: Path, api: str, href: str = "", headers: Mapping[str, str] | None = None) -> int:
    """Put a cube into a STAC API that has the transaction extension; what is there already is replaced.

    Items of this very cube, by its address, whose steps it has no more are taken away.

    Args:
        cube: The cube.
        api: Landing page of the API.
        href: Where people find the cube; its own path if "".
        headers: Sent along, a token for example.

    Returns:
        Number of Items.

    Raises:
        CatalogError: The API cannot be reached, or refuses.
        BadInputError: The cube has no step yet.
    """
    import requests

    collection = collection_of(cube, href)
    base, put_there = f"{api.rstrip('/')}/collections", set()
    with requests.Session() as session:
        session.headers.update(headers or {})

        def ask(method: str, url: str, body: Mapping[str, Any] | None = None) -> requests.Response:
            try:
                answer = session.request(method, url, json=body, timeout=60)
                if method == "POST" and answer.status_code == 409:
                    answer = session.put(f"{url}/{body['id'] if body else ''}", json=body, timeout=60)
            except requests.RequestException as error:
                raise CatalogError(f"{api} cannot be reached: {error}") from error
            if not answer.ok:
                what = body["id"] if body else f"{method} {url}"
                raise CatalogError(f"{api} refuses {what}: {answer.status_code} {answer.text[:200]}")
            return answer

        ask("POST", base, collection)
        items = f"{base}/{collection['id']}/items"
        for item in items_of(cube, href):
            links = [link for link in item["links"] if link["rel"] == "derived_from"]
            ask("POST", items, {**item, "links": links})
            put_there.add(item["id"])
        for name in _items_about(collection["assets"]["cube"]["href"], items, ask) - put_there:
            ask("DELETE", f"{items}/{name}")
    return len(put_there)


def _items_about(href: str, items: str, ask: Callable[..., Any]) -> set[str]:
    """Ids of the Items of a Collection that are steps of the cube at an address: all its pages are looked through.

    Raises:
        CatalogError: Its pages lead to another server, to which what is sent along must not go.
    """
    found: set[str] = set()
    page: str | None = f"{items}?limit={PAGE}"
    while page is not None:
        if urlsplit(page).netloc != urlsplit(items).netloc:
            raise CatalogError(f"{items} goes on at another server, {page}: what is there no more stays")
        answer = ask("GET", page).json()
        found |= {item["id"] for item in answer["features"] if item["assets"].get("cube", {}).get("href") == href}
        page = next((link["href"] for link in answer.get("links", ()) if link["rel"] == "next"), None)
    return found
