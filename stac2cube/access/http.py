"""HTTP sessions whose keys go to one host, with retries and time limits; the next page of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

import requests
from pystac import Link
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import ProtocolError

from stac2cube.access.sign import asked_wait
from stac2cube.trust.address import NOBODY, Login, host_of, is_http, public, remember, same_origin
from stac2cube.trust.deadline import extend, within
from stac2cube.trust.text import unicode_only

MOST_EMPTY = 50
"""Pages without any item one after another: some servers pass over shards of theirs that hold nothing."""


def next_link(page: Mapping[str, Any], at: str) -> dict[str, Any] | None:
    """What a page says of the next one, in the form that pystac-client understands; None if it is the last.

    A link may be relative to the page (RFC 3986), name its method in small letters, leave it out where a body tells it,
    or say null for what it does not need; all that is taken for what it means (STAC API, item search, pagination).

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
        usual = "POST" if isinstance(link.get("body"), Mapping) else "GET"
        found |= {"href": urljoin(at, href), "method": str(link.get("method") or usual).upper()}
        for key in ("body", "headers"):
            if key in found and not isinstance(found[key], Mapping):
                raise APIError(f"the answer of {at} names a next page with a {key} that is none")
        if not found["href"].startswith(("http://", "https://")):
            raise APIError(f"the answer of {at} names a next page that is not of HTTP")
        return found
    return None


# Talking to a STAC API over HTTP: patient with a server under load, strict about what counts as an answer.
#
# What the server says decides nothing about this machine: links lead to addresses only, keys go to the catalog's own
# host only, and no answer is waited for longer than agreed.

TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection and for an answer."""

REFUSALS = 2
"""Repetitions where nobody answers at all: a wrong address should not take a minute to be told."""

LONGEST_WAIT = 120.0
"""Seconds: a server that asks for more patience than that is asked again earlier."""

PAGE_SECONDS = 115.0
"""Seconds that one answer is waited for, all tries together, besides what the server itself asks to wait."""


MOST_BYTES = 256 << 20
"""Bytes of one answer, unpacked: a page of 200 items has a few million."""


class _Measured:
    """The body of an answer, refused where it does not end.

    Args:
        raw: The body, as urllib3 gives it.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def stream(self, amount: int, decode_content: bool | None = None) -> Iterator[bytes]:
        """Its parts.

        Raises:
            ProtocolError: There are more than :data:`MOST_BYTES`.
        """
        size = 0
        for part in self._raw.stream(amount, decode_content=decode_content):
            size += len(part)
            if size > MOST_BYTES:
                raise ProtocolError(f"the answer is longer than {MOST_BYTES >> 20} MiB")
            yield part

    def __getattr__(self, name: str) -> Any:
        """Everything else is the body's own."""
        return getattr(self._raw, name)


class _Adapter(HTTPAdapter):
    """Answers whose bodies are :class:`_Measured`."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """An answer of requests from one of urllib3."""
        response: requests.Response = super().build_response(req, resp)
        response.raw = _Measured(response.raw)
        return response


class PatientRetry(Retry):
    """Repeats after 429 and 5xx, with exponential waits (1, 2, 4 ... s) or what ``Retry-After`` says."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Seconds that the server asks to wait, at most :data:`LONGEST_WAIT`; None if it says no time."""
        wait = asked_wait(response)
        return None if wait is None else min(wait, LONGEST_WAIT)

    def sleep_for_retry(self, response: BaseHTTPResponse) -> bool:
        """Wait as long as the server asks, which the deadline of the whole does not count."""
        extend(self.get_retry_after(response) or 0.0)
        return super().sleep_for_retry(response)


class _OnlyTo(AuthBase):
    """User and password for one host; for all others, none. That it is set keeps requests from reading ``.netrc``."""

    def __init__(self, login: Login, host: str) -> None:
        self._login, self._host = login, host

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add them where they belong."""
        url = str(request.url)
        pair = self._login.basic(url) if host_of(url) == self._host else None
        return HTTPBasicAuth(*pair)(request) if pair else request


class HostSession(requests.Session):
    """A session whose keys go to one host: they follow no redirect to another, and plain HTTP gets none.

    Args:
        url: An address of the host.
        login: User, password and keys of it.
        headers: Sent to the host only.
        retries: How often, and when, a request is repeated.
    """

    def __init__(
        self,
        url: str,
        login: Login = NOBODY,
        headers: Mapping[str, str] | None = None,
        retries: Retry | None = None,
    ) -> None:
        super().__init__()
        self.auth = _OnlyTo(login, host_of(url))
        self._url, self._private = url, dict(headers or {})
        remember(*self._private.values())
        self.headers.update(self._private)
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(max_retries=retries or 0))

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """What a redirect takes along: keys to the same host, scheme and port only; of ``.netrc``, nothing."""
        there = str(prepared_request.url)
        if same_origin(str(response.request.url), there) and same_origin(self._url, there):
            return
        for name in ("Authorization", "Cookie", *self._private):
            prepared_request.headers.pop(name, None)


class StrictIO(StacApiIO):
    """Pages of a search: none is taken for the last because it is empty, none for an answer that is not one.

    Args:
        retries: Repetitions after 429 and 5xx.
        url: Address of the catalog, which alone sees its keys.
        login: They.
    """

    def __init__(self, retries: int, url: str = "", login: Login = NOBODY) -> None:
        retry = PatientRetry(
            total=retries,
            connect=min(REFUSALS, retries),
            backoff_factor=1.0,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
        )
        super().__init__(timeout=TIMEOUT, max_retries=retry)
        self.login = login
        self.session = HostSession(url, login, retries=retry)

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Read an address; what is none, as a file of this machine, is refused.

        Raises:
            APIError: It is none, or the server answers an error.
        """
        href = source.to_dict()["href"] if isinstance(source, Link) else str(source)
        if not is_http(href):
            raise APIError(f"the catalog leads to {href!r}, which is no address of http or https")
        text: str = super().read_text(source, *args, **kwargs)
        return text

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """One answer, waited for :data:`PAGE_SECONDS` at most."""
        url = self.login.with_parameters(href)

        def ask() -> str:
            text: str = super(StrictIO, self).request(url, method, headers, parameters)
            return text

        try:
            return within(PAGE_SECONDS, ask, f"the answer of {host_of(href)}")
        except OSError as error:
            raise APIError(str(error)) from error

    def json_loads(self, txt: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Parse an answer.

        Raises:
            APIError: It is JSON, but not an object, or has too many levels.
        """
        try:
            value: Any = unicode_only(super().json_loads(txt, *args, **kwargs), txt)
        except RecursionError:
            raise APIError("the answer is JSON of more levels than can be read") from None
        if not isinstance(value, dict):
            raise APIError(f"the answer is no JSON object but {txt[:40]!r}")
        parsed: dict[str, Any] = value
        return parsed

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every page that holds something, following the links to the next.

        Addresses of next pages may be relative to the page that names them (RFC 3986).

        Raises:
            APIError: The server answers something else, or sends in circles.
        """
        asked, at, empty = set[str](), url, 0
        page = self.read_json(url, method=method, parameters=parameters)
        while True:
            if not isinstance(page.get("features"), list):
                raise APIError(f"the answer of {public(url)} is not a collection of items")
            if page["features"]:
                yield page
            empty = 0 if page["features"] else empty + 1
            if empty > MOST_EMPTY:
                raise APIError(f"{url} answers {empty} pages without an item, one after another, and names a next")
            following = next_link(page, at)
            if following is None:
                return
            if str(following) in asked:
                raise APIError(f"{public(url)} names the same next page twice")
            asked.add(str(following))
            at = following["href"]
            page = self.read_json(Link.from_dict(following), parameters=parameters or {})
