"""One STAC item by itself: from a file, from a folder that a workflow staged, or from an address."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from stac2cube.errors import BadInputError, CatalogError
from stac2cube.source.api import RETRIES
from stac2cube.source.local import items_of_path


def read_item(where: str) -> dict[str, Any]:
    """A STAC item with hrefs that hold from anywhere.

    Args:
        where: Address of the item; or path of its file, or of a file or folder that holds it and no other, such as a
            static catalog.

    Raises:
        BadInputError: There are several items.
        CatalogError: It cannot be read, or is none.
    """
    if where.startswith(("http://", "https://")):
        return _fetched(where)
    found = list(islice(items_of_path(Path(where)), 2))
    if len(found) > 1:
        raise BadInputError(f"{where} holds several items, among them {found[0]['id']} and {found[1]['id']}: name one")
    item: dict[str, Any] = found[0]
    return item


def _fetched(url: str) -> dict[str, Any]:
    from pystac_client.exceptions import APIError
    from requests.exceptions import RequestException

    from stac2cube.source.http import StrictIO

    try:
        item = StrictIO(RETRIES).read_json(url)
    except (APIError, RequestException, ValueError) as error:  # a ValueError is an answer that is no JSON
        raise CatalogError(f"the item {url} cannot be had: {str(error).splitlines()[0][:300]}") from error
    if item.get("type") != "Feature" or not isinstance(item.get("assets"), dict) or "properties" not in item:
        raise CatalogError(f"{url} is no STAC item")
    for asset in item["assets"].values():
        asset["href"] = urljoin(url, asset["href"])
    return item
