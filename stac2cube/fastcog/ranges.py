"""Read byte ranges of local and remote files with few requests."""

from __future__ import annotations

import os
import re
import threading
from base64 import b64encode
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

import urllib3

from stac2cube.access.s3 import ELSEWHERE, code_in, is_true
from stac2cube.access.sign import Opening, opening
from stac2cube.errors import Stac2cubeError
from stac2cube.fastcog.header import HEAD_BYTES, CogHeader, NotForUsError, UnusualFileError, read_header
from stac2cube.model.scene import AssetRef
from stac2cube.trust.deadline import left

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, HTTPStore, RetryConfig, S3Config, S3Store


# Parts of files: adjacent parts are read together, all from one state of the file; here from a disk, below remote.

GAP = 4096
"""Bytes between two parts of a local file up to which they are read together."""

LONGEST = 16 << 20
"""Most bytes of one request, unless a single tile is larger."""

Span = tuple[int, int]
"""First byte, and the byte after the last."""


class ChangedFileError(Stac2cubeError):
    """A file changed after its header was read."""


class TooLargeError(OSError):
    """A file has more bytes than its content can have."""


@dataclass(frozen=True)
class State:
    """State of a file, by which changes are detected; 0 or "" for unknown values.

    Attributes:
        size: Size in bytes.
        etag: The server's ETag of this state.
        modified: Time of the last change, nanoseconds since 1970.
    """

    size: int
    etag: str
    modified: int

    @property
    def is_certain(self) -> bool:
        """Whether a change that keeps the size would be detected."""
        return bool(self.size and (self.etag or self.modified))

    def check(self, now: State) -> None:
        """Compare with the current state, as far as both are known.

        Raises:
            ChangedFileError: They differ.
        """
        pairs = (self.size, now.size), (self.etag, now.etag), (self.modified, now.modified)
        if any(before and after and before != after for before, after in pairs):
            raise ChangedFileError("it was changed after its header was read")


class Parts(Protocol):
    """A file that is read in parts."""

    def first(self, count: int) -> tuple[memoryview, State]:
        """The first bytes, fewer at the end of the file, and the current state."""
        ...

    def read(self, spans: Sequence[Span], state: State) -> list[memoryview]:
        """Read parts of the file; they are valid until this thread reads again.

        Raises:
            ChangedFileError: The file is no longer in that state.
            OSError: It cannot be read.
        """
        ...


def is_fickle(parts: Parts) -> bool:
    """Whether a server returns other marks at each request for the same content, as some replicas do.

    Three consecutive requests of the same first bytes are made.
    """
    looks = [parts.first(_FIRST) for _ in range(3)]
    contents, states = [bytes(content) for content, _ in looks], [state for _, state in looks]
    same = contents[0] == contents[1] == contents[2] and len({state.size for state in states}) == 1
    return same and (states[0] != states[1] or states[1] != states[2])


_FIRST = 4096
"""Bytes that are compared: a TIFF's header has the positions of its tiles, which change if it is rewritten."""


def header_reader(parts: Parts, count: int) -> tuple[Callable[[int, int], bytes], State]:
    """A reader for parsers of headers, with the first bytes cached, and the current state.

    Args:
        parts: The file.
        count: Bytes that are requested first, once.

    Returns:
        A function that returns the bytes from a first to before a last, fewer at the end of the file; and the state.

    Raises:
        OSError: It cannot be read.
    """
    head, state = parts.first(count)

    def read(first: int, last: int) -> bytes:
        if last <= len(head) or first == 0:
            return bytes(head[first:last])
        last = min(last, state.size)
        return bytes(parts.read([(first, last)], state)[0]) if first < last else b""

    return read, state


@dataclass(frozen=True)
class LocalParts:
    """A file on a disk.

    Attributes:
        path: Its path.
    """

    path: str

    def first(self, count: int) -> tuple[memoryview, State]:
        """See :class:`Parts`."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            return memoryview(os.pread(handle, count, 0)), _state_of(handle)
        finally:
            os.close(handle)

    def read(self, spans: Sequence[Span], state: State) -> list[memoryview]:
        """See :class:`Parts`."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            state.check(_state_of(handle))

            return together(spans, GAP, lambda joined: _into_memory(handle, joined))
        finally:
            os.close(handle)


def _into_memory(handle: int, spans: Sequence[Span]) -> list[memoryview]:
    """Read spans into memory that the thread reuses between files: new memory must be cleared."""
    size = sum(last - first for first, last in spans)
    memory = memoryview(_memory.most) if size <= _KEPT else memoryview(bytearray(size))
    parts = []
    for first, last in spans:
        part, memory = memory[: last - first], memory[last - first :]
        parts.append(part[: os.preadv(handle, [part], first)])
    return parts


_KEPT = 8 << 20
"""Bytes of memory that a thread reuses: the tiles of a block of one band."""


class _Memory(threading.local):
    def __init__(self) -> None:
        self.most = bytearray(_KEPT)


_memory = _Memory()


def _state_of(handle: int) -> State:
    status = os.fstat(handle)
    return State(status.st_size, "", status.st_mtime_ns)


def together(spans: Sequence[Span], gap: int, read: Callable[[Sequence[Span]], list[memoryview]]) -> list[memoryview]:
    """Read spans, joining those close to each other.

    Args:
        spans: Spans in any order.
        gap: Bytes between two spans up to which they are joined.
        read: Reads spans.

    Returns:
        The bytes of each span.

    Raises:
        OSError: The file ends before a span does.
    """
    joined: list[Span] = []
    for first, last in sorted(spans):
        if joined and first - joined[-1][1] <= gap and last - joined[-1][0] <= LONGEST:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    contents = read(joined)
    for (first, last), content in zip(joined, contents, strict=True):
        if len(content) != last - first:
            raise OSError(f"{len(content)} bytes came of {last - first} asked for")
    starts = [first for first, _ in joined]
    found = []
    for first, last in spans:
        place = bisect_right(starts, first) - 1
        found.append(contents[place][first - starts[place] : last - starts[place]])
    return found


# Parts of remote files, by byte ranges over HTTP and S3, and the choice between local and remote parts.
#
# Remote requests are made by obstore (Rust's object_store). It retries twice when a busy server refuses; the caller
# decides about more retries. Its exceptions become an ``OSError`` that gives the server's status in GDAL's words, and
# never the address, which may hold a signature.

REMOTE_GAP = 65_536
"""Bytes between two parts of a remote file up to which they are read together."""

RANGES_AT_ONCE = 32
"""Requests in flight beyond the first of each band, over all reading of one process."""


def remote_file(way: Opening) -> Parts:
    """The file for an opening.

    Raises:
        UnusualFileError: Only GDAL can read from there, or obstore is not installed.
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
    """A remote file.

    Attributes:
        store: Store of obstore.
        key: Key of the file in the store.
    """

    store: HTTPStore | S3Store
    key: str

    def first(self, count: int) -> tuple[memoryview, State]:
        """See :class:`Parts`."""
        return self._get({"range": (0, count)})

    def whole(self, most: int) -> tuple[memoryview, State]:
        """Read a whole file, and its state.

        Args:
            most: Largest size allowed, in bytes.

        Raises:
            FileNotFoundError: It does not exist.
            OSError: It cannot be read, or is larger.
            UnusualFileError: See :func:`remote_file`.
        """
        return self._get({}, most)

    def last(self, count: int) -> tuple[memoryview, State]:
        """Read the last bytes of a file, and its state; raises as :meth:`whole`."""
        return self._get({"range": {"suffix": count}})

    def read(self, spans: Sequence[Span], state: State) -> list[memoryview]:
        """See :class:`Parts`."""

        def one(span: Span) -> memoryview:
            options: GetOptions = {"range": span}
            if state.etag and not state.etag.startswith("W/"):
                options["if_match"] = state.etag
            part, now = self._get(options)
            state.check(now)
            return part

        def each(joined: Sequence[Span]) -> list[memoryview]:
            if len(joined) == 1:
                return [one(joined[0])]
            others = [_range_pool().submit(one, span) for span in joined[1:]]
            return [one(joined[0]), *(other.result() for other in others)]

        return together(spans, REMOTE_GAP, each)

    def _get(self, options: GetOptions, most: int = 0) -> tuple[memoryview, State]:
        import obstore
        from obstore.exceptions import BaseError, NotSupportedError, PreconditionError

        if left() <= 0:
            raise OSError("it took too long")
        try:
            answer = obstore.get(self.store, self.key, options=options)
            meta = answer.meta
            if 0 < most < meta["size"]:
                raise TooLargeError(f"it has {meta['size']} bytes, and may have {most}")
            modified = round(meta["last_modified"].timestamp()) * 1_000_000_000
            return memoryview(answer.bytes()), State(meta["size"], meta["e_tag"] or "", modified)
        except TooLargeError:
            raise
        except PreconditionError:
            raise ChangedFileError("it was changed after its header was read") from None
        except FileNotFoundError as error:
            raise FileNotFoundError(_reason(error)) from None
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
"""obstore's errors for headers that RFC 9110 allows and obstore cannot parse: dates of RFC 850 and asctime (5.6.7),
ranges of a file of unknown length, and units in capitals (14.4). The file may be valid."""


def _reason(error: Exception) -> str:
    text = str(error)
    if status := _STATUS.search(text):
        return f"HTTP response code: {status[1]}" + (f" ({code})" if (code := code_in(text)) else "")
    return f"{type(error).__name__} while reading a byte range: {_innermost(text)}"


_STATUS = re.compile(r"status(?: code)?:? (\d{3})\b")
_MOVED = re.compile(r"status(?: code)?:? 30[1278]\b")


def _innermost(text: str) -> str:
    """The first line of obstore's message, without addresses."""
    return re.sub(r"\S+://\S+", "the server", text.partition("\n")[0])


def refusal_of(way: Opening) -> str:
    """The error code with which S3 refuses a file, "" if it does not, or if that cannot be determined here."""
    try:
        remote_file(way).first(1)
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
"""Characters with another meaning if they are not encoded (RFC 3986, 2.2), except those that end a path."""


def _over_http(url: str, settings: Mapping[str, str]) -> RemoteParts:
    parts = urlsplit(url)
    key = unquote(parts.path).lstrip("/")
    if _ENCODED_RESERVED.search(parts.path):
        raise UnusualFileError("its address has encoded reserved characters, which obstore would decode")
    if "@" in parts.netloc or not key or any(part in ("", ".", "..") for part in key.split("/")):
        raise UnusualFileError("its address is unusual")
    query = f"?{parts.query}" if parts.query else ""
    return RemoteParts(_http_store(f"{parts.scheme}://{parts.netloc}/{query}", _authorization(settings)), key)


def _authorization(settings: Mapping[str, str]) -> str:
    """The header by which a server is told who asks, "" for none: as GDAL tells it by the same settings.

    Raises:
        NotForUsError: It is told in a way that only GDAL knows.
    """
    if token := settings.get("GDAL_HTTP_BEARER"):
        return f"Bearer {token}"
    way = settings.get("GDAL_HTTP_AUTH", "").upper()
    if settings.get("GDAL_HTTP_SSLCERT") or way not in ("", "BASIC", "ANY", "ANYSAFE"):
        raise NotForUsError("its server is told who asks in a way that only GDAL knows")
    if pair := settings.get("GDAL_HTTP_USERPWD"):
        return f"Basic {b64encode(pair.encode()).decode()}"
    return settings.get("GDAL_HTTP_HEADERS", "").partition(":")[2].strip()


_RETRIES: RetryConfig = {
    "max_retries": 2,
    "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=2)},
    # A request that has waited this long for a response is not repeated: the caller repeats it, in time.
    "retry_timeout": timedelta(seconds=20),
}
_CLIENT: ClientConfig = {"connect_timeout": "10s", "timeout": "45s"}


@lru_cache(maxsize=64)
def _http_store(base: str, authorization: str) -> HTTPStore:
    from obstore.store import HTTPStore

    options: ClientConfig = {**_CLIENT, "allow_http": base.startswith("http://")}
    if authorization:
        options["default_headers"] = {"Authorization": authorization}
    return HTTPStore(base, client_options=options, retry_config=_RETRIES)


def s3_store(bucket: str, settings: Mapping[str, str], region: str = "", *, signs: bool = False) -> S3Store:
    """The store of a bucket for GDAL's settings.

    Args:
        bucket: Its name.
        settings: Settings from :func:`stac2cube.access.sign.access`; missing ones are taken from the environment.
        region: Region of the bucket, "" for that of the settings.
        signs: Whether the store only signs addresses, and reads nothing.

    Raises:
        NotForUsError: The settings here do not include the credentials or the region.
        UnusualFileError: It would read with the keys of a session.
    """
    said = {name: os.environ[name] for name in _FROM_ENVIRONMENT if name in os.environ} | dict(settings)
    if not signs and said.get("AWS_SESSION_TOKEN") and not is_true(said.get("AWS_NO_SIGN_REQUEST") or "NO"):
        # obstore follows redirects with all headers but Authorization: another host would see the session.
        raise UnusualFileError("keys of a session are left to GDAL, which takes them along no redirect")
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
    elif "AWS_ACCESS_KEY_ID" in said and "AWS_SECRET_ACCESS_KEY" in said:
        config["access_key_id"] = said["AWS_ACCESS_KEY_ID"]
        config["secret_access_key"] = said["AWS_SECRET_ACCESS_KEY"]
        if "AWS_SESSION_TOKEN" in said:
            config["session_token"] = said["AWS_SESSION_TOKEN"]
    else:
        raise NotForUsError("who reads it is said by a role, which boto3 or GDAL know how to become")
    if "AWS_REQUEST_PAYER" in said:
        config["request_payer"] = True
    if endpoint:
        scheme = "https" if is_true(said.get("AWS_HTTPS", "YES")) else "http"
        # GDAL uses path-style requests for buckets whose name has a dot, since no certificate covers such hosts.
        by_host = is_true(said.get("AWS_VIRTUAL_HOSTING", "TRUE")) and "." not in bucket
        config["endpoint"] = f"{scheme}://{bucket}.{endpoint}" if by_host else f"{scheme}://{endpoint}"
        config["virtual_hosted_style_request"] = by_host
    options: ClientConfig = {**_CLIENT, "allow_http": config.get("endpoint", "").startswith("http://")}
    return S3Store(bucket, config=config, client_options=options, retry_config=_RETRIES)


def address_of_s3(way: Opening) -> str:
    """An HTTP(S) address that opens a file of a bucket for some hours, to download it whole.

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
    store = s3_store(bucket, way.settings, _region_of(f"{scheme}://{host}"), signs=True)
    address: str = obstore.sign(store, "GET", key, _OPEN_FOR)
    return address


_AMAZON = "s3.amazonaws.com"
_OPEN_FOR = timedelta(hours=6)


@lru_cache(maxsize=64)
def _region_of(bucket: str) -> str:
    """The region of a bucket, which S3 reveals without login (API reference, HeadBucket); "" if it does not."""
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
"""Environment variables that GDAL uses, too."""


# Headers cached by this process, and reading of those that are not.

HeaderLookup = Callable[[str], object]
"""From an unsigned href to the header that a catalog stores for it, of any format, or None; must be picklable."""

SUFFIXES = (".tif", ".tiff", ".gtiff", ".cog")
"""Files with other suffixes are not read for a header: that would waste a request."""

SIDE_FILES = (".aux.xml", ".ovr")
"""Files beside a local file that may hold another georeference, no-data value, or overviews, which GDAL uses."""


def header_of(asset: AssetRef, signer: str) -> CogHeader:
    """Read the header of an asset, in at most two requests.

    Raises:
        UnusualFileError: It is not a supported file.
        OSError: It cannot be read.
        ReadError: See :func:`stac2cube.access.sign.opening`.
    """
    return _fetched(asset.href, remote_file(opening(asset, signer)))


def _fetched(href: str, parts: Parts) -> CogHeader:
    if not urlsplit(href).path.lower().endswith(SUFFIXES):
        raise UnusualFileError("its name is not that of a TIFF")
    if isinstance(parts, LocalParts):
        for suffix in SIDE_FILES:
            if Path(parts.path + suffix).exists():
                raise UnusualFileError(f"there is a file {suffix} beside it")
    read, state = header_reader(parts, HEAD_BYTES)
    return read_header(read, state.size, state.etag, state.modified)


H = TypeVar("H")
S = TypeVar("S")


class KnownHeaders(Generic[H, S]):
    """Cache of headers, and of reasons why files have none; the oldest are dropped. Threads may share it.

    Args:
        fetch: Reads the header of a file, given its unsigned href and its source: its parts, or its store.
        most: Number of entries kept.
    """

    def __init__(self, fetch: Callable[[str, S], H], most: int = 4096) -> None:
        self._fetch, self._most = fetch, most
        self._known: OrderedDict[str, H | str] = OrderedDict()
        self._lock = Lock()
        # Threads that need a header which another thread is reading wait for that thread.
        self._reading = [Lock() for _ in range(64)]

    def get(self, href: str, source: S) -> H:
        """The header of a file.

        Raises:
            UnusualFileError: It is not a supported file.
            ChangedFileError: It changed while its header was read.
            OSError: It cannot be read.
        """
        with self._reading[hash(href) % len(self._reading)]:
            with self._lock:
                known = self._known.get(href)
            if known is None:
                try:
                    known = self._fetch(href, source)
                except NotForUsError:
                    raise  # the error is not about the file
                except UnusualFileError as error:
                    known = str(error)
                self._keep(href, known)
        if isinstance(known, str):
            raise UnusualFileError(known)
        return known

    def keep(self, href: str, header: H) -> None:
        """Store a header that was read elsewhere."""
        self._keep(href, header)

    def forget(self, href: str) -> None:
        """Remove a header, so that it will be read anew."""
        with self._lock:
            self._known.pop(href, None)

    def refuse(self, href: str, reason: str) -> None:
        """Store the reason why a file is not supported."""
        self._keep(href, reason)

    def _keep(self, href: str, known: H | str) -> None:
        with self._lock:
            self._known[href] = known
            while len(self._known) > self._most:
                self._known.popitem(last=False)


KNOWN = KnownHeaders(_fetched)
"""The cache of this process."""


def header_for(asset: AssetRef, way: Opening, lookup: HeaderLookup | None) -> tuple[CogHeader, Parts]:
    """The header of a file and access to its tiles.

    Args:
        asset: The file.
        way: How the file is opened.
        lookup: Lookup of already known headers; one with which a change could not be detected is not used.

    Raises:
        UnusualFileError: It is not a supported file.
        OSError: It cannot be read.
    """
    parts = remote_file(way)
    found = lookup(asset.href) if lookup else None
    if isinstance(found, CogHeader) and State(found.size, found.etag, found.modified).is_certain:
        return found, parts
    return KNOWN.get(asset.address, parts), parts
