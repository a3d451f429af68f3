"""Talking to a STAC API over HTTP: patient with a server under load, strict about what counts as an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from urllib3 import BaseHTTPResponse, Retry

from stac2cube.source.paging import MOST_EMPTY, next_link
from stac2cube.source.parsing import unicode_only

TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection and for an answer."""

REFUSALS = 2
"""Repetitions where nobody answers at all: a wrong address should not take a minute to be told."""

LONGEST_WAIT = 120.0
"""Seconds: a server that asks for more patience than that is asked again earlier."""


class PatientRetry(Retry):
    """Repeats after 429 and 5xx, with exponential waits (1, 2, 4 ... s) or what ``Retry-After`` says."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Seconds that the server asks to wait, at most :data:`LONGEST_WAIT`."""
        wait = super().get_retry_after(response)
        return None if wait is None else min(wait, LONGEST_WAIT)


class StrictIO(StacApiIO):
    """Pages of a search: none is taken for the last because it is empty, none for an answer that is not one."""

    def __init__(self, retries: int) -> None:
        retry = PatientRetry(
            total=retries,
            connect=min(REFUSALS, retries),
            backoff_factor=1.0,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
        )
        super().__init__(timeout=TIMEOUT, max_retries=retry)

    def json_loads(self, txt: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Parse an answer.

        Raises:
            APIError: It is JSON, but not an object.
        """
        value: Any = super().json_loads(txt, *args, **kwargs)
        if not isinstance(value, dict):
            raise APIError(f"the answer is no JSON object but {txt[:40]!r}")
        parsed: dict[str, Any] = unicode_only(value, txt)
        return parsed

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every page that holds something, following the links to the next.

        Addresses of next pages may be relative to the page that names them (RFC 3986).

        Raises:
            APIError: The server answers something else, or sends in circles.
        """
        from pystac import Link

        asked, at, empty = set[str](), url, 0
        page = self.read_json(url, method=method, parameters=parameters)
        while True:
            if not isinstance(page.get("features"), list):
                raise APIError(f"the answer of {url} is not a collection of items")
            if page["features"]:
                yield page
            empty = 0 if page["features"] else empty + 1
            if empty > MOST_EMPTY:
                raise APIError(f"{url} answers {empty} pages without an item, one after another, and names a next")
            following = next_link(page, at)
            if following is None:
                return
            if str(following) in asked:
                raise APIError(f"{url} names the same next page twice")
            asked.add(str(following))
            at = following["href"]
            page = self.read_json(Link.from_dict(following), parameters=parameters or {})
