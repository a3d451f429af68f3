"""Parts of files behind a network, by byte ranges over HTTP and S3, and the way to any file's parts.

Over a network obstore asks (Rust's object_store). It repeats twice by itself what a busy server refuses; whoever calls
decides about more. What it raises becomes an ``OSError`` that says the server's status in the words that GDAL uses, and
never the address, which may hold a signature.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import urllib3

from stac2cube.source.cog.header import NotForUsError, UnusualFileError
from stac2cube.source.cog.ranges import ChangedFileError, LocalParts, Parts, Span, State, together
from stac2cube.source.s3 import ELSEWHERE, code_in, is_true
from stac2cube.source.sign import Opening
from stac2cube.trust.deadline import left

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, HTTPStore, RetryConfig, S3Config, S3Store

GAP = 65_536
"""Bytes between two parts that are read with them rather than asked for apart."""

RANGES_AT_ONCE = 32
"""Requests in flight beyond the first of each band, over all that one process reads."""


def parts_of(way: Opening) -> Parts:
    """The file that an opening leads to.

    Raises:
        UnusualFileError: It lies where only GDAL reads, or obstore is not installed.
    """
    if not way.remote:
        return LocalParts(way.location)
    kind, _, rest = way.location.removeprefix("/").partition("/")
    try:
        if kind == "vsicurl":
            return _over_http(rest, way.settings)
        bucket, _, key = rest.partition("/")
        return RemoteParts(s3_store(bucket, way.settings), key)
    except ImportError as error:
        raise UnusualFileError("files behind a network need obstore: pip install 'stac2cube[fast]'") from error


@dataclass(frozen=True)
class RemoteParts:
    """A file behind a network.

    Attributes:
        store: Of obstore.
        key: Its name there.
    """

    store: HTTPStore | S3Store
    key: str

    def first(self, count: int) -> tuple[memoryview, State]:
        """See :class:`Parts`."""
        return self._get((0, count), "")

    def read(self, spans: Sequence[Span], state: State) -> list[memoryview]:
        """See :class:`Parts`."""

        def one(span: Span) -> memoryview:
            part, now = self._get(span, "" if state.etag.startswith("W/") else state.etag)
            state.check(now)
            return part

        def each(joined: Sequence[Span]) -> list[memoryview]:
            if len(joined) == 1:
                return [one(joined[0])]
            others = [_range_pool().submit(one, span) for span in joined[1:]]
            return [one(joined[0]), *(other.result() for other in others)]

        return together(spans, GAP, each)

    def _get(self, span: Span, etag: str) -> tuple[memoryview, State]:
        import obstore
        from obstore.exceptions import BaseError, NotSupportedError, PreconditionError

        if left() <= 0:
            raise OSError("it took too long")
        options: GetOptions = {"range": span}
        if etag:
            options["if_match"] = etag
        try:
            answer = obstore.get(self.store, self.key, options=options)
            meta = answer.meta
            modified = round(meta["last_modified"].timestamp()) * 1_000_000_000
            return memoryview(answer.bytes()), State(meta["size"], meta["e_tag"] or "", modified)
        except PreconditionError:
            raise ChangedFileError("it was changed after its header was read") from None
        except NotSupportedError:
            raise UnusualFileError("its server gave something else than the range it was asked for") from None
        except (BaseError, OSError) as error:
            if _UNUSUAL_ANSWER.search(str(error)):
                raise UnusualFileError("its server answers in a form that only GDAL reads") from None
            if (code := code_in(str(error))) in ELSEWHERE or _MOVED.search(str(error)):
                raise NotForUsError(f"its store sends elsewhere ({code or 'a redirect'}), where GDAL follows") from None
            # Not chained: the text of what obstore raised holds the whole address.
            raise OSError(_reason(error)) from None


_UNUSUAL_ANSWER = re.compile(r"Invalid last modified|Failed to parse value for|Received header containing non-ASCII")
"""What obstore says of headers that RFC 9110 allows and it does not read: dates of RFC 850 and asctime (5.6.7), ranges
of a file whose length is not told, and units in capitals (14.4). The file may be as good as any."""


def _reason(error: Exception) -> str:
    text = str(error)
    if status := _STATUS.search(text):
        return f"HTTP response code: {status[1]}" + (f" ({code})" if (code := code_in(text)) else "")
    return f"{type(error).__name__} while reading a byte range: {_innermost(text)}"


_STATUS = re.compile(r"status(?: code)?:? (\d{3})\b")
_MOVED = re.compile(r"status(?: code)?:? 30[1278]\b")


def _innermost(text: str) -> str:
    """What obstore says first, without addresses."""
    return re.sub(r"\S+://\S+", "the server", text.partition("\n")[0])


def refusal_of(way: Opening) -> str:
    """The code of the error by which S3 refuses a file, "" if it does not, or if that cannot be found out here."""
    try:
        parts_of(way).first(1)
    except UnusualFileError:
        return ""
    except OSError as error:
        found = re.search(r"\((\w+)\)$", str(error))
        return found[1] if found else ""
    return ""


@cache
def _range_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(RANGES_AT_ONCE, thread_name_prefix="range")


_ENCODED_RESERVED = re.compile(r"%(?:2[1246789ABCF]|3[ABD]|40|5[BD])", re.IGNORECASE)
"""Characters that mean something else where they are not encoded (RFC 3986, 2.2), but those that end a path."""


def _over_http(url: str, settings: Mapping[str, str]) -> RemoteParts:
    parts = urlsplit(url)
    key = unquote(parts.path).lstrip("/")
    if _ENCODED_RESERVED.search(parts.path):
        raise UnusualFileError("its address has encoded reserved characters, which obstore would decode")
    if "@" in parts.netloc or not key or any(part in ("", ".", "..") for part in key.split("/")):
        raise UnusualFileError("its address is unusual")
    query = f"?{parts.query}" if parts.query else ""
    token = settings.get("GDAL_HTTP_BEARER", "")
    return RemoteParts(_http_store(f"{parts.scheme}://{parts.netloc}/{query}", token), key)


_RETRIES: RetryConfig = {
    "max_retries": 2,
    "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=2)},
    # No request is repeated that has waited so long for an answer: whoever calls repeats it, in time.
    "retry_timeout": timedelta(seconds=20),
}
_CLIENT: ClientConfig = {"connect_timeout": "10s", "timeout": "45s"}


@lru_cache(maxsize=64)
def _http_store(base: str, token: str) -> HTTPStore:
    from obstore.store import HTTPStore

    options: ClientConfig = {**_CLIENT, "allow_http": base.startswith("http://")}
    if token:
        options["default_headers"] = {"Authorization": f"Bearer {token}"}
    return HTTPStore(base, client_options=options, retry_config=_RETRIES)


def s3_store(bucket: str, settings: Mapping[str, str], region: str = "") -> S3Store:
    """A bucket, as GDAL's settings open it.

    Args:
        bucket: Its name.
        settings: Of :func:`stac2cube.source.sign.access`; what they leave open the environment says.
        region: Where it lies, "" for where they say.

    Raises:
        NotForUsError: Nothing that can be read here says who reads, or where it is.
    """
    said = {name: os.environ[name] for name in _FROM_ENVIRONMENT if name in os.environ} | dict(settings)
    if region:
        said["AWS_REGION"] = region
    return _s3_store(bucket, tuple(sorted((name, text) for name, text in said.items() if text)))


@lru_cache(maxsize=64)
def _s3_store(bucket: str, settings: tuple[tuple[str, str], ...]) -> S3Store:
    from obstore.store import S3Store

    said = dict(settings)
    region, endpoint = said.get("AWS_REGION") or said.get("AWS_DEFAULT_REGION"), said.get("AWS_S3_ENDPOINT")
    if not (region or endpoint):
        raise NotForUsError("the region of its bucket is not known: set AWS_REGION")
    config: S3Config = {"region": region or "us-east-1"}
    if is_true(said.get("AWS_NO_SIGN_REQUEST", "NO")):
        config["skip_signature"] = True
    elif "AWS_SESSION_TOKEN" in said:
        # obstore follows redirects with all headers but Authorization: another host would see the session.
        raise UnusualFileError("keys of a session are left to GDAL, which takes them along no redirect")
    elif "AWS_ACCESS_KEY_ID" in said and "AWS_SECRET_ACCESS_KEY" in said:
        config["access_key_id"] = said["AWS_ACCESS_KEY_ID"]
        config["secret_access_key"] = said["AWS_SECRET_ACCESS_KEY"]
    else:
        raise NotForUsError("who reads it is said by a role, which boto3 or GDAL know how to become")
    if "AWS_REQUEST_PAYER" in said:
        config["request_payer"] = True
    if endpoint:
        scheme = "https" if is_true(said.get("AWS_HTTPS", "YES")) else "http"
        # GDAL asks by path for buckets whose name has a dot, since no certificate covers such hosts.
        by_host = is_true(said.get("AWS_VIRTUAL_HOSTING", "TRUE")) and "." not in bucket
        config["endpoint"] = f"{scheme}://{bucket}.{endpoint}" if by_host else f"{scheme}://{endpoint}"
        config["virtual_hosted_style_request"] = by_host
    options: ClientConfig = {**_CLIENT, "allow_http": config.get("endpoint", "").startswith("http://")}
    return S3Store(bucket, config=config, client_options=options, retry_config=_RETRIES)


def address_of_s3(way: Opening) -> str:
    """An address of HTTP(S) that opens a file of a bucket for some hours, for who fetches it whole.

    Raises:
        NotForUsError: See :func:`s3_store`.
    """
    import obstore

    bucket, _, key = way.location.removeprefix("/vsis3/").partition("/")
    endpoint = way.settings.get("AWS_S3_ENDPOINT", "")
    scheme = "https" if is_true(way.settings.get("AWS_HTTPS", "YES")) else "http"
    by_host = is_true(way.settings.get("AWS_VIRTUAL_HOSTING", "TRUE")) and "." not in bucket
    host = f"{bucket}.{endpoint or _AMAZON}" if by_host else f"{endpoint or _AMAZON}/{bucket}"
    if is_true(way.settings.get("AWS_NO_SIGN_REQUEST", "NO")):
        return f"{scheme}://{host}/{quote(key)}"
    store = s3_store(bucket, way.settings, _region_of(f"{scheme}://{host}"))
    address: str = obstore.sign(store, "GET", key, _OPEN_FOR)
    return address


_AMAZON = "s3.amazonaws.com"
_OPEN_FOR = timedelta(hours=6)


@lru_cache(maxsize=64)
def _region_of(bucket: str) -> str:
    """The region of a bucket, which S3 tells anybody (API reference, HeadBucket); "" if this one does not."""
    try:
        answer = urllib3.request("HEAD", f"{bucket}/", retries=False, redirect=False, timeout=10)
    except urllib3.exceptions.HTTPError:
        return ""
    said = str(answer.headers.get("x-amz-bucket-region") or "")
    return said if re.fullmatch(r"[a-z0-9\-]{1,40}", said) else ""


_FROM_ENVIRONMENT = (
    "AWS_NO_SIGN_REQUEST",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REQUEST_PAYER",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_S3_ENDPOINT",
    "AWS_HTTPS",
    "AWS_VIRTUAL_HOSTING",
)
"""What GDAL heeds, too."""
