"""Items of a STAC API, through pystac-client: paged, patient with a server under load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from shapely import union_all
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import CatalogError

TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection and for an answer."""

RETRIES = 6
"""Repetitions after 429 and 5xx, with exponential waits (1, 2, 4 ... s) or what ``Retry-After`` says."""

REFUSALS = 2
"""Repetitions where nobody answers at all: a wrong address should not take a minute to be told."""

PAGE = 200
"""Items asked for per page."""

_MOST_CORNERS = 500
"""An area with more corners is sent as its convex hull, since servers refuse long ones; the answer is filtered here."""


def items_of_api(
    url: str, collections: Sequence[str], area: BaseGeometry, intervals: Sequence[tuple[datetime, datetime]]
) -> Iterator[dict[str, Any]]:
    """Items that a STAC API finds, each once.

    Args:
        url: Address of the API's landing page.
        collections: Ids to look in.
        area: WGS84.
        intervals: First and last instant of each, UTC.

    Raises:
        CatalogError: The API cannot be reached or answers an error, after retries.
    """
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO
    from requests.exceptions import RequestException
    from urllib3 import Retry

    retry = Retry(
        total=RETRIES,
        connect=REFUSALS,
        backoff_factor=1.0,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
    )
    parts = getattr(area, "geoms", [area])
    corners = sum(len(part.exterior.coords) for part in parts)
    # Hulls of the parts, not of the whole: an area split at the antimeridian would span the globe.
    shape = area if corners <= _MOST_CORNERS else union_all([part.convex_hull for part in parts])
    seen: set[tuple[str, str]] = set()
    try:
        client = Client.open(url, stac_io=StacApiIO(timeout=TIMEOUT, max_retries=retry))
        for first, last in intervals:
            search = client.search(
                collections=list(collections), intersects=mapping(shape), datetime=(first, last), limit=PAGE
            )
            for item in search.items_as_dicts():
                key = (item.get("collection", ""), item["id"])
                if key not in seen:
                    seen.add(key)
                    yield item
    except (APIError, RequestException, ValueError) as error:  # a ValueError is an answer that is no JSON
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise CatalogError(
            f"the catalog at {url} does not answer: {reason}. Check the address and the network, or try later"
        ) from error
