"""A cube given to others: as a static STAC catalog, or into a STAC API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stac2cube.cube.files import write_whole
from stac2cube.errors import CatalogError
from stac2cube.products.stac import collection_of, items_of


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
    base, count = f"{api.rstrip('/')}/collections", 0
    with requests.Session() as session:
        session.headers.update(headers or {})

        def put(url: str, name: str, body: Mapping[str, Any]) -> None:
            try:
                answer = session.post(url, json=body, timeout=60)
                if answer.status_code == 409:
                    answer = session.put(f"{url}/{name}", json=body, timeout=60)
            except requests.RequestException as error:
                raise CatalogError(f"{api} cannot be reached: {error}") from error
            if not answer.ok:
                raise CatalogError(f"{api} refuses {name}: {answer.status_code} {answer.text[:200]}")

        put(base, collection["id"], collection)
        for item in items_of(cube, href):
            links = [link for link in item["links"] if link["rel"] == "derived_from"]
            put(f"{base}/{collection['id']}/items", item["id"], {**item, "links": links})
            count += 1
    return count
