"""HTTP sessions that send keys to one host only, with retries and time limits; paging of searches."""

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
from stac2cube.trust.text import parse_json

MOST_EMPTY = 50
"""Maximum number of consecutive pages without items: some servers return pages for their empty shards."""


def next_link(page: Mapping[str, Any], at: str) -> dict[str, Any] | None:
    """The link of a page to the next one, in the form that pystac-client accepts; None on the last page.

    A link may be relative to the page (RFC 3986), have its method in lower case, omit the method if it has a body, or
    have null for unused keys; all of this is normalised (STAC API, item search, pagination).

    Args:
        page: The answer.
        at: Address of the answer.

    Raises:
        APIError: The next page has no address, or one that is not HTTP.
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


# Requests to a STAC API over HTTP: patient with a server under load, strict about valid answers.
#
# Answers of the server are not trusted: links lead to addresses only, keys are sent to the catalog's own host only,
# and the wait for an answer is limited.

TIMEOUT = (10.0, 60.0)
"""Timeouts for a connection and for an answer, seconds."""

REFUSALS = 2
"""Repetitions if the server does not answer at all: a wrong address should be reported in less than a minute."""

LONGEST_WAIT = 120.0
"""Maximum wait, seconds: a server that asks for a longer one is queried earlier."""

PAGE_SECONDS = 115.0
"""Seconds to wait for one answer, all tries together, in addition to the wait that the server asks for."""


MOST_BYTES = 256 << 20
"""Maximum bytes of one answer, uncompressed: a page of 200 items has a few million."""


class _Measured:
    """The body of an answer, with a limit on its length.

    Args:
        raw: The body, from urllib3.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def stream(self, amount: int, decode_content: bool | None = None) -> Iterator[bytes]:
        """Iterate over the body.

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
        """Delegate everything else to the body."""
        return getattr(self._raw, name)


class _Adapter(HTTPAdapter):
    """Adapter for answers whose bodies are :class:`_Measured`."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Convert an answer of urllib3 to one of requests."""
        response: requests.Response = super().build_response(req, resp)
        response.raw = _Measured(response.raw)
        return response


class PatientRetry(Retry):
    """Repeats after 429 and 5xx, with exponential waits (1, 2, 4 ... s) or that of ``Retry-After``."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Seconds that the server asks to wait, at most :data:`LONGEST_WAIT`; None if it gives no time."""
        wait = asked_wait(response)
        return None if wait is None else min(wait, LONGEST_WAIT)

    def sleep_for_retry(self, response: BaseHTTPResponse) -> bool:
        """Wait as long as the server asks; the deadline of the request is extended by that time."""
        extend(self.get_retry_after(response) or 0.0)
        return super().sleep_for_retry(response)


class _OnlyTo(AuthBase):
    """User and password for one host, and for no other. Setting it prevents requests from reading ``.netrc``."""

    def __init__(self, login: Login, host: str) -> None:
        self._login, self._host = login, host

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add them if the host matches."""
        url = str(request.url)
        pair = self._login.basic(url) if host_of(url) == self._host else None
        return HTTPBasicAuth(*pair)(request) if pair else request


class HostSession(requests.Session):
    """A session that sends keys to one host only: not to other hosts after a redirect, and not over plain HTTP.

    Args:
        url: An address of the host.
        login: User, password and keys for it.
        headers: Sent to the host only.
        retries: Policy for repeated requests.
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

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Address of a redirect; a search that was sent by POST is sent on by POST.

        A browser would ask by GET after 301 and 302, without the body (RFC 9110, 15.4), and the server would answer a
        search without conditions. Servers behind a proxy often redirect from http to https.
        """
        target: str | None = super().get_redirect_target(resp)
        if target and resp.request.method == "POST":
            resp.status_code = _KEEPING.get(resp.status_code, resp.status_code)
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Remove keys on a redirect to another host, scheme or port; ``.netrc`` is not read."""
        there = str(prepared_request.url)
        if same_origin(str(response.request.url), there) and same_origin(self._url, there):
            return
        for name in ("Authorization", "Cookie", *self._private):
            prepared_request.headers.pop(name, None)


_KEEPING = {301: 308, 302: 307}
"""Status of a redirect -> the one that means the same and keeps method and body."""


class StrictIO(StacApiIO):
    """Pages of a search: an empty page is not treated as the last, an invalid answer not as a page.

    Args:
        retries: Repetitions after 429 and 5xx.
        url: Address of the catalog, the only one to receive its keys.
        login: The keys.
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
        """Read an address; refuse anything else, such as a local file.

        Raises:
            APIError: It is not an address of HTTP, or the server answers with an error.
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
        """Request one answer, within :data:`PAGE_SECONDS`."""
        url = self.login.with_parameters(href)

        def ask() -> str:
            text: str = super(StrictIO, self).request(url, method, headers, parameters)
            return text

        try:
            return within(PAGE_SECONDS, ask, f"the answer of {host_of(href)}")
        except OSError as error:
            raise APIError(str(error)) from error

    def json_loads(self, txt: str, *_args: Any, **_options: Any) -> dict[str, Any]:
        """Parse an answer, in the same way whether or not pystac finds orjson.

        Raises:
            APIError: It is JSON, but not an object.
            ValueError: It is not JSON, or nested too deeply.
        """
        value = parse_json(txt.removeprefix("\ufeff"))
        if not isinstance(value, dict):
            raise APIError(f"the answer is no JSON object but {txt[:40]!r}")
        return value

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every page with items, following the links to the next.

        Addresses of next pages may be relative to the page that names them (RFC 3986).

        Raises:
            APIError: The server answers something else, or the links form a loop.
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
