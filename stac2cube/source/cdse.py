"""The Copernicus Data Space as a place to fetch files from: its tokens, and its catalogue of files.

Sources: its documentation (documentation.dataspace.copernicus.eu), "Access token" and "Refresh token" of the identity
service, and "OData": ``Products`` with ``$filter``, and ``Nodes`` with ``$value``, which give files of a product.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from stac2cube.errors import CatalogError, ReadError
from stac2cube.source.sign import given_token
from stac2cube.trust.address import may_see_keys
from stac2cube.trust.deadline import TooSlowError, within
from stac2cube.trust.text import remember

TIMEOUT = urllib3.Timeout(connect=10, read=30)

ANSWER = 35.0
"""Seconds that one answer of the service is waited for."""

EARLY = 30.0
"""Seconds before its end at which a token counts as over: a request may wait that long before it is looked at."""


@dataclass(frozen=True)
class Service:
    """Addresses of the Copernicus Data Space.

    Attributes:
        identity: Where tokens are given.
        catalogue: OData to search.
        download: OData to fetch from.
        trusted: Hosts, and those below them, that may see a token. No redirect leads it elsewhere.
    """

    identity: str = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
    catalogue: str = "https://catalogue.dataspace.copernicus.eu/odata/v1"
    download: str = "https://download.dataspace.copernicus.eu/odata/v1"
    trusted: tuple[str, ...] = ("dataspace.copernicus.eu",)

    def may_see_token(self, url: str) -> bool:
        """Whether a token may be sent to an address: to its hosts only, over HTTPS (or on this machine)."""
        return may_see_keys(url, self.trusted)


CDSE = Service()


@dataclass
class Tokens:
    """Tokens that are always good: asked for with name and password, renewed before they end; safe among threads.

    Name and password are ``CDSE_USERNAME`` and ``CDSE_PASSWORD`` of the environment. Without them a token of the
    environment is used (:func:`stac2cube.source.sign.given_token`), which somebody else has to renew.

    Attributes:
        service: Where they come from.
    """

    service: Service = CDSE
    _access: str = field(default="", repr=False)
    _refresh: str = field(default="", repr=False)
    _until: float = 0.0
    _refresh_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=TIMEOUT))

    def token(self, refused: str = "") -> str:
        """A token.

        Args:
            refused: One that a server did not take: another is asked for.

        Raises:
            ReadError: There are no credentials, or they are not taken.
        """
        with self._lock:
            if not os.environ.get("CDSE_USERNAME") or not os.environ.get("CDSE_PASSWORD"):
                return self._given(refused)
            if not self._access or self._access == refused or time.monotonic() > self._until - EARLY:
                self._renew()
            return self._access

    def _given(self, refused: str) -> str:
        token = given_token()
        if not token:
            raise ReadError(
                "the Copernicus Data Space gives files to those it knows: set CDSE_USERNAME and CDSE_PASSWORD, or "
                "CDSE_ACCESS_TOKEN, or CDSE_TOKEN_FILE to a file that holds a token"
            )
        if token == refused:
            raise ReadError(
                "the Copernicus Data Space does not take the token it was given: it may have ended after its ten "
                "minutes; with CDSE_USERNAME and CDSE_PASSWORD tokens are renewed"
            )
        return token

    def _renew(self) -> None:
        asked = {"client_id": "cdse-public", "grant_type": "password"}
        asked |= {"username": os.environ["CDSE_USERNAME"], "password": os.environ["CDSE_PASSWORD"]}
        answer = None
        if self._refresh and time.monotonic() < self._refresh_until - EARLY:
            answer = self._ask(
                {"client_id": "cdse-public", "grant_type": "refresh_token", "refresh_token": self._refresh}
            )
        answer = answer or self._ask(asked)
        if answer is None:
            raise ReadError("the Copernicus Data Space does not take CDSE_USERNAME and CDSE_PASSWORD")
        now = time.monotonic()
        remember(str(answer["access_token"]), str(answer.get("refresh_token", "")), os.environ["CDSE_PASSWORD"])
        self._access, self._until = str(answer["access_token"]), now + float(answer.get("expires_in", 600))
        self._refresh = str(answer.get("refresh_token", ""))
        self._refresh_until = now + float(answer.get("refresh_expires_in", 0))

    def _ask(self, words: Mapping[str, str]) -> dict[str, Any] | None:
        """The answer; None if the words are not taken. Neither they nor the answer are ever part of a message."""
        body = urlencode(words).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            for wait in (1.0, 4.0, None):
                response = within(
                    ANSWER,
                    lambda: self._http.request("POST", self.service.identity, body=body, headers=kind, redirect=False),
                    "a token",
                )
                if response.status == 200:
                    value = json.loads(response.data)
                    return value if "access_token" in value else None
                if response.status in (400, 401, 403):
                    return None
                if wait is None:
                    break
                asked = asked_wait(response)
                time.sleep(min(wait if asked is None else asked, 60.0))
        except (urllib3.exceptions.HTTPError, ValueError, TooSlowError) as error:
            raise ReadError(f"{self.service.identity} does not answer: {type(error).__name__}") from None
        raise ReadError(f"{self.service.identity} answers {response.status}; try again later")


def asked_wait(response: urllib3.BaseHTTPResponse) -> float | None:
    """Seconds that a server asks to wait, as a number or a date; None if it does not, or says neither."""
    try:
        return urllib3.Retry().get_retry_after(response)
    except urllib3.exceptions.InvalidHeader:
        return None


def repaired(url: str) -> str:
    """An address of a file without nodes that have no name, as recorded items of the catalogue have them."""
    return url.replace("/Nodes()", "")


def node_url(service: Service, product: str, local_path: str) -> str:
    """The address of a file of a product.

    Args:
        service: The service.
        product: The product's id.
        local_path: Path of the file, from the product's folder on: ``"S2A_....SAFE/MTD_MSIL1C.xml"``.
    """
    nodes = "/".join(f"Nodes({quote(part)})" for part in local_path.split("/") if part)
    return f"{service.download}/Products({product})/{nodes}/$value"


def product_id(service: Service, name: str) -> str:
    """The id by which OData calls a product.

    Args:
        service: The service.
        name: ``"S2A_....SAFE"``.

    Raises:
        CatalogError: The service does not answer.
        ReadError: It has no such product, or not at hand.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.\-]+", name):
        raise ReadError(f"{name!r} is no name of a product")
    url = f"{service.catalogue}/Products?" + urlencode({"$filter": f"Name eq '{name}'"}, quote_via=quote)
    http = urllib3.PoolManager(
        retries=urllib3.Retry(4, connect=1, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
    )
    try:
        response = within(2 * ANSWER, lambda: http.request("GET", url, timeout=TIMEOUT), "the answer")
        found: Sequence[Mapping[str, Any]] = json.loads(response.data)["value"] if response.status == 200 else ()
    except (urllib3.exceptions.HTTPError, ValueError, KeyError, TooSlowError) as error:
        raise CatalogError(f"{service.catalogue} does not answer: {type(error).__name__}") from None
    if not found:
        raise ReadError(f"the Copernicus Data Space has no product {name} (status {response.status})")
    if found[0].get("Online") is False:
        raise ReadError(f"the Copernicus Data Space has {name} in its archive only: order it there first")
    return str(found[0]["Id"])
