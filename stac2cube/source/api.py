"""Items of a STAC API, through pystac-client: paged, patient with a server under load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from shapely import union_all
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import CatalogError
from stac2cube.source.hrefs import absolute, is_relative
from stac2cube.source.local import self_link
from stac2cube.source.paging import once
from stac2cube.source.parsing import Notes
from stac2cube.table import config_folder
from stac2cube.trust.address import host_of
from stac2cube.trust.login import NOBODY, Login, netrc_path
from stac2cube.trust.text import shown

RETRIES = 6
"""Repetitions after 429 and 5xx, see :mod:`stac2cube.source.http`."""

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

    from stac2cube.source.http import StrictIO

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
            yield from (_absolute(item, url) for item in once(search.pages_as_dicts(), noted))
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


def _absolute(item: Any, url: str) -> Any:
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

    from stac2cube.source.http import StrictIO

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
