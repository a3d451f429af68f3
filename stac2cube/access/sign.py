"""Signed addresses: Planetary Computer, the Copernicus Data Space, S3, bearer tokens; and how assets are opened."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import urllib3

from stac2cube.access.hrefs import require_plain_file
from stac2cube.access.s3 import keys, section_of, store_settings
from stac2cube.errors import CatalogError, ReadError
from stac2cube.model.scene import AssetRef, is_zarr_array
from stac2cube.trust.address import expanded, host_of, is_private_way, may_see_keys, netrc_of, remember, without_queries
from stac2cube.trust.deadline import TooSlowError, within

# Late signing: an href is signed on the worker, at the moment of reading, and the signature is discarded afterwards.


@dataclass(frozen=True)
class Opening:
    """How an asset is opened.

    Attributes:
        location: Name that GDAL opens.
        settings: GDAL's settings for it; they may hold secrets.
        remote: Whether it is accessed over a network.
    """

    location: str
    settings: Mapping[str, str] = field(repr=False)
    remote: bool


def opening(asset: AssetRef, signer: str) -> Opening:
    """How to open an asset with the available credentials, which are looked up and signed now.

    The Copernicus Data Space is read by S3 if there are keys for it; else by HTTPS if there is a token, which is sent
    only to hosts that may receive it (see :attr:`stac2cube.model.scene.AssetRef.alternate`). An href signed by its
    catalog is used unchanged.

    Raises:
        ReadError: See :func:`readable` and :func:`access`; or it is not a regular file.
    """
    if signer == "cdse" and asset.alternate and not _cdse_keys() and (token := given_token()):
        bearer = {"GDAL_HTTP_AUTH": "BEARER", "GDAL_HTTP_BEARER": token}
        return Opening(f"/vsicurl/{asset.alternate}", bearer, True)
    if not is_remote(asset.href):
        path = readable(asset.href, signer)
        if not path.startswith("/vsi") and not is_zarr_array(asset.href):
            require_plain_file(path)
        return Opening(path, {}, False)
    own = signer == "planetary-computer" and _is_blob(asset.href)
    location = readable(asset.href if own or not asset.signed else asset.signed, signer)
    return Opening(location, _known_to(asset) | access(asset.href, signer), True)


_TELLING = ("GDAL_HTTP_USERPWD", "GDAL_HTTP_AUTH", "GDAL_HTTP_BEARER", "GDAL_HTTP_SSLCERT", "GDAL_HTTP_SSLKEY")
"""Settings of the environment with credentials for GDAL (GDAL, "Configuration options", HTTP). libcurl does not send
them to another host after a redirect. That does not hold for further headers and cookies, which are never sent, see
:data:`stac2cube.pixels.gdal.SILENT`."""


def _known_to(asset: AssetRef) -> dict[str, str]:
    """GDAL's settings with credentials for a server, if its catalog's entry allows it to receive keys."""
    if not asset.keys:
        return {}
    settings = {name: os.environ[name] for name in _TELLING if name in os.environ}
    headers = os.environ.get("GDAL_HTTP_HEADERS", "")
    names = re.findall(r"(?:^|[\n,])\s*([\w-]+)\s*:", headers)
    if [name.lower() for name in names] == ["authorization"]:
        settings["GDAL_HTTP_HEADERS"] = headers
    # GDAL does not look into .netrc itself: along a redirect it would send the entry of that host, or the default one.
    if "GDAL_HTTP_USERPWD" not in settings and (pair := netrc_of(host_of(asset.href))):
        settings["GDAL_HTTP_USERPWD"] = ":".join(pair)
    if "GDAL_HTTP_USERPWD" in settings:
        settings.setdefault("GDAL_HTTP_AUTH", "BASIC")
    return settings


def forget(signer: str) -> None:
    """Discard signatures that a server refused, so that the next try requests a new one."""
    if signer == "planetary-computer":
        from planetary_computer import sas

        sas.TOKEN_CACHE.clear()


def readable(href: str, signer: str) -> str:
    """An href in the form that GDAL opens.

    Args:
        href: A path, ``file://``, ``http(s)://`` or ``s3://``.
        signer: ``"none"`` or ``"planetary-computer"`` (which signs its own blob storage only).

    Raises:
        ReadError: Signing needs a package that is not installed, or fails.
    """
    parts = urlsplit(href)
    if parts.scheme == "file":
        return unquote(parts.path)
    if parts.scheme == "s3":
        return f"/vsis3/{parts.netloc}{parts.path}"
    if parts.scheme in ("http", "https"):
        signed = _signed(href) if signer == "planetary-computer" and _is_blob(href) else href
        return f"/vsicurl/{_UNSAFE.sub(lambda found: quote(found[0], safe=''), signed)}"
    return href


_UNSAFE = re.compile(r"[ \"<>\\^`{|}]")
"""Characters that an address may hold only if they are encoded (RFC 3986, 2); libcurl refuses blanks."""


def is_remote(href: str) -> bool:
    """Whether an href is read over a network."""
    return urlsplit(href).scheme in ("http", "https", "s3")


def access(href: str, signer: str = "none") -> dict[str, str]:
    """GDAL's settings to open a store: an s3 bucket is read anonymously unless the user has credentials for AWS.

    Keys, profile, role and endpoint are those of the user, see :mod:`stac2cube.access.s3`; keys are passed to the
    reader only.

    Args:
        href: Unsigned.
        signer: ``"requester-pays"`` for buckets whose readers pay; ``"cdse"`` for the Copernicus Data Space.

    Raises:
        ReadError: Credentials are needed and there are none; the message explains what to set.
    """
    if urlsplit(href).scheme != "s3":
        return {}
    if signer == "cdse":
        return _cdse()
    return store_settings(pays=signer == "requester-pays")


_ENDPOINT = "eodata.dataspace.copernicus.eu"
_SCHEME = "YES"
"""Whether HTTPS is used; a test server uses HTTP."""


def _cdse() -> dict[str, str]:
    """Settings for the S3 of the Copernicus Data Space (documentation.dataspace.copernicus.eu, APIs, S3)."""
    store = {"AWS_S3_ENDPOINT": _ENDPOINT, "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_HTTPS": _SCHEME}
    if found := _cdse_keys():
        # Other AWS variables of the environment (token, anonymous, requester pays) belong to other keys.
        return {**store, **found, "AWS_SESSION_TOKEN": "", "AWS_NO_SIGN_REQUEST": "NO", "AWS_REQUEST_PAYER": ""}
    # AWS keys may belong to another service: they are used only together with the endpoint that is set beside them.
    if os.environ.get("AWS_S3_ENDPOINT") and (os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_PROFILE")):
        return {**store, **{name: os.environ[name] for name in store if name in os.environ}, **keys()}
    raise ReadError(
        "the Copernicus Data Space wants S3 keys: set CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY, or write a section "
        "[cdse] with aws_access_key_id and aws_secret_access_key into ~/.aws/credentials; or set CDSE_ACCESS_TOKEN, or "
        "CDSE_TOKEN_FILE to a file that holds one, for hosts of that service. AWS_ACCESS_KEY_ID is used where "
        "AWS_S3_ENDPOINT names this service"
    )


def _cdse_keys() -> dict[str, str]:
    """S3 keys from the environment or the AWS credentials file; empty if there are none."""
    key, secret = os.environ.get("CDSE_S3_ACCESS_KEY"), os.environ.get("CDSE_S3_SECRET_KEY")
    if not (key and secret):
        said = section_of("cdse")
        key, secret = said.get("aws_access_key_id"), said.get("aws_secret_access_key")
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret} if key and secret else {}


def given_token() -> str:
    """An access token for the Copernicus Data Space, "" if there is none.

    It is read anew each time because it lives for ten minutes; another program keeps its file up to date. The file
    holds the token alone, or the answer of the identity service (JSON with ``access_token``).
    """
    token = _found_token()
    remember(token)
    return token


def _found_token() -> str:
    if token := os.environ.get("CDSE_ACCESS_TOKEN"):
        return token
    path = os.environ.get("CDSE_TOKEN_FILE")
    if not path:
        return ""
    try:
        text = expanded(path).read_text(encoding="utf-8").strip()
        return str(json.loads(text)["access_token"]) if text.startswith("{") else text
    except (OSError, ValueError, KeyError) as error:
        raise ReadError(f"CDSE_TOKEN_FILE {path} holds no token: {type(error).__name__}") from None


def unsigned(text: str) -> str:
    """A text without possible secrets in its addresses: everything after a question mark, names and passwords."""
    return without_queries(text)


class _Unsigned(logging.Filter):
    """Removes signatures from log records; drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = unsigned(record.getMessage()), ()
        return True


# GDAL warns about every repeated request with the full address, and rasterio passes that on to its loggers.
for _name in ("rasterio._env", "rasterio._err", "rasterio._base", "rasterio._io"):
    logging.getLogger(_name).addFilter(_Unsigned())


_BLOBS = ".blob.core.windows.net"

SIGNING = 60.0
"""Maximum wait for a signature, all tries together, seconds."""


def _is_blob(href: str) -> bool:
    """Whether an address may be a store of the Planetary Computer, over a connection that others cannot read."""
    return urlsplit(href).netloc.rpartition("@")[2].lower().endswith(_BLOBS) and is_private_way(href)


def _signed(href: str) -> str:
    try:
        import planetary_computer
    except ImportError:
        raise ReadError("Planetary Computer assets need to be signed: pip install 'stac2cube[pc]'") from None
    from requests import RequestException

    try:
        return within(SIGNING, lambda: str(planetary_computer.sign_url(href)), "a signature of Planetary Computer")
    except TooSlowError as error:
        raise ReadError(str(error)) from None
    except RequestException as error:
        if getattr(error.response, "status_code", None) == 404:
            return href  # a store of somebody else, for which it has no keys
        # The error's own text may hold a token, so it is not passed on.
        raise ReadError(f"Planetary Computer gave no signature for {href}: {type(error).__name__}") from None
    except (ValueError, TypeError, KeyError) as error:  # the address names no container, or the answer is no signature
        raise ReadError(f"{href} cannot be signed for Planetary Computer: {type(error).__name__}") from None


# The Copernicus Data Space as a source of files: its tokens, and its catalogue of files.
#
# Sources: its documentation (documentation.dataspace.copernicus.eu), "Access token" and "Refresh token" of the
# identity service, and "OData": ``Products`` with ``$filter``, and ``Nodes`` with ``$value``, which return files of a
# product.

TIMEOUT = urllib3.Timeout(connect=10, read=30)

ANSWER = 35.0
"""Maximum wait for one answer of the service, seconds."""

EARLY = 30.0
"""Seconds before its end at which a token is treated as expired: a request may wait that long before it is checked."""


@dataclass(frozen=True)
class Service:
    """Addresses of the Copernicus Data Space.

    Attributes:
        identity: Address that issues tokens.
        catalogue: OData to search.
        download: OData to download from.
        trusted: Hosts, including subdomains, that may receive a token. No redirect leads it elsewhere.
    """

    identity: str = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
    catalogue: str = "https://catalogue.dataspace.copernicus.eu/odata/v1"
    download: str = "https://download.dataspace.copernicus.eu/odata/v1"
    trusted: tuple[str, ...] = ("dataspace.copernicus.eu",)

    def may_see_token(self, url: str) -> bool:
        """Whether a token may be sent to an address: only to the trusted hosts, over HTTPS (or on this machine)."""
        return may_see_keys(url, self.trusted)


CDSE = Service()


@dataclass
class Tokens:
    """Valid tokens: requested with name and password, renewed before they expire; thread-safe.

    Name and password are ``CDSE_USERNAME`` and ``CDSE_PASSWORD`` of the environment. Without them a token of the
    environment is used (:func:`stac2cube.access.sign.given_token`), which another program has to renew.

    Attributes:
        service: The service that issues them.
    """

    service: Service = CDSE
    _access: str = field(default="", repr=False)
    _refresh: str = field(default="", repr=False)
    _until: float = 0.0
    _refresh_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=TIMEOUT))

    def token(self, refused: str = "") -> str:
        """Get a token.

        Args:
            refused: A token that a server refused: another one is requested.

        Raises:
            ReadError: There are no credentials, or they are refused.
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
        """The answer to a token request; None if the credentials are refused. Neither is ever part of a message."""
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
    """Seconds that a server asks to wait, as a number or a date; None if it gives neither."""
    try:
        return urllib3.Retry().get_retry_after(response)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):  # the latter of a year beyond the calendar
        return None


def repaired(url: str) -> str:
    """An address of a file without empty nodes, which occur in recorded items of the catalogue."""
    return url.replace("/Nodes()", "")


def node_url(service: Service, product: str, local_path: str) -> str:
    """The address of a file of a product.

    Args:
        service: The service.
        product: The product's id.
        local_path: Path of the file, starting with the product's folder: ``"S2A_....SAFE/MTD_MSIL1C.xml"``.
    """
    nodes = "/".join(f"Nodes({quote(part)})" for part in local_path.split("/") if part)
    return f"{service.download}/Products({product})/{nodes}/$value"


def product_id(service: Service, name: str) -> str:
    """The OData id of a product.

    Args:
        service: The service.
        name: ``"S2A_....SAFE"``.

    Raises:
        CatalogError: The service does not answer.
        ReadError: It has no such product, or only in its archive.
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
