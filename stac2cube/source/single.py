"""One STAC item by itself: from a file, from a folder that a workflow staged, or from an address."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from stac2cube.errors import BadInputError, CatalogError
from stac2cube.source.api import RETRIES, refused
from stac2cube.source.hrefs import absolute, is_relative
from stac2cube.source.local import items_of_path
from stac2cube.trust.address import has_secret, is_http, public
from stac2cube.trust.login import NOBODY, Login


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

    from stac2cube.source.http import StrictIO

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
