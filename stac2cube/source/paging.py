"""Pages of a search: how they name the next, and when they have told enough or nonsense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

from pystac_client.exceptions import APIError

from stac2cube.source.parsing import Notes

MOST_PAGES = 5_000
"""Pages of one search: at 200 items each, a million."""

MOST_EMPTY = 50
"""Pages without any item one after another: some servers pass over shards of theirs that hold nothing."""

MOST_REPEATED = 3
"""Pages one after another that hold items, and none that was not there before."""


def next_link(page: Mapping[str, Any], at: str) -> dict[str, Any] | None:
    """What a page says of the next one, in the form that pystac-client understands; None if it is the last.

    A link may be relative to the page (RFC 3986), name its method in small letters, or say null for what it does not
    need; all that is taken for what it means (STAC API, item search, pagination).

    Args:
        page: The answer.
        at: Its address.

    Raises:
        APIError: The next page has no address, or not one of HTTP.
    """
    links = page.get("links")
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, Mapping) or link.get("rel") != "next":
            continue
        href = link.get("href")
        if not isinstance(href, str) or not href:
            raise APIError(f"the answer of {at} names a next page without an address")
        found = {key: value for key, value in link.items() if value is not None}
        found |= {"href": urljoin(at, href), "method": str(link.get("method") or "GET").upper()}
        for key in ("body", "headers"):
            if key in found and not isinstance(found[key], Mapping):
                raise APIError(f"the answer of {at} names a next page with a {key} that is none")
        if not found["href"].startswith(("http://", "https://")):
            raise APIError(f"the answer of {at} names a next page that is not of HTTP")
        return found
    return None


def once(pages: Iterator[Mapping[str, Any]], notes: Notes) -> Iterator[Any]:
    """The items of pages, each once.

    Args:
        pages: Answers of a search, one after another.
        notes: Told if there may be more items: the server counts more than it gave (``numberMatched``), or it repeated
            some without counting, as happens where it pages by place while items are added or removed.

    Raises:
        APIError: Pages repeat themselves, or do not end.
    """
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
        # Some servers estimate how many there are, so that twice as many are no nonsense yet.
        if number >= MOST_PAGES or (matched is not None and len(seen) > 2 * matched + 1000):
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
