"""Fetching whole files: resumed where they broke off, patient with a busy server, verified before they are named."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError

from stac2cube.cube.files import DISK_ERRORS, sync_folder
from stac2cube.errors import BadInputError, ReadError
from stac2cube.source.cdse import TIMEOUT, Tokens, asked_wait
from stac2cube.source.hrefs import require_plain_file
from stac2cube.source.http import LONGEST_WAIT
from stac2cube.source.s3 import refusal_in
from stac2cube.source.sign import is_remote, readable, unsigned
from stac2cube.trust.address import is_http
from stac2cube.trust.deadline import TooSlowError, within

log = logging.getLogger(__name__)

CHUNK = 1 << 20
"""Bytes read at a time."""

STALLED = 100.0
"""Seconds in which a part of that size has to come, 10 kB/s: a server that is slower than that has stalled."""

Verified = Literal["checksum", "size", "nothing"]
"""By what a file was found whole."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to be fetched.

    Attributes:
        href: Where it is: a path, ``file://`` or ``http(s)://``.
        size: Bytes, None if the catalog does not say.
        checksum: Multihash in hexadecimal digits, as STAC's file extension gives it; "" if the catalog does not.
    """

    href: str
    size: int | None = None
    checksum: str = ""


class StoppedError(Exception):
    """Somebody asked to stop; what was fetched so far waits to be resumed."""


class _AgainError(Exception):
    """Something that can pass by itself; ``wait`` is what the server asks for, seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass
class Fetcher:
    """Fetches files; one for all threads.

    Attributes:
        tokens: For servers that may see one; None for none.
        stop: Set from outside to stop at the next chunk.
        attempts: Tries per file, each of which goes on where the last broke off.
        first_wait: Seconds before the second try, doubled each time, with jitter.
    """

    tokens: Tokens | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    attempts: int = 8
    first_wait: float = 1.0
    _http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(num_pools=8, maxsize=16, retries=False, timeout=TIMEOUT), repr=False
    )

    def fetch(self, file: RemoteFile, path: Path) -> Verified:
        """Fetch a file; it gets its name only when it is whole and verified.

        What broke off lies beside it as ``.part``. It is gone on with only where the catalog gives a checksum: without
        one, nobody could tell whether both halves are of one file.

        Args:
            file: The file.
            path: Where it shall lie; its folder is made.

        Returns:
            By what it was verified.

        Raises:
            ReadError: It cannot be had, or is not what the catalog says.
            BadInputError: It cannot be written.
            StoppedError: Somebody asked to stop.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            self._patiently(file, part)
            part.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise BadInputError(f"{path} cannot be written: {error.strerror}. Make room and run again") from error
            raise ReadError(f"{path} cannot be written: {error}") from error
        return "checksum" if hasher(file.checksum) else "size" if file.size is not None else "nothing"

    def _patiently(self, file: RemoteFile, part: Path) -> None:
        damaged, patience = 0, Patience()
        for attempt in range(1, self.attempts + 1):
            try:
                self._bring(file, part, patience)
            except _AgainError as error:
                if attempt == self.attempts or patience.is_over:
                    raise ReadError(f"{unsigned(file.href)}: {error}; tried {attempt} times") from None
                doubled = self.first_wait * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                wait = min(doubled if error.wait is None else error.wait, LONGEST_WAIT)
                log.info("%s: %s; try %d in %.0f s", part.name, error, attempt + 1, wait)
                if self.stop.wait(wait):
                    raise StoppedError from None
                patience.waited(wait if error.wait is not None else 0.0)
                continue
            wrong = damage(file, part)
            if not wrong:
                return
            part.unlink()
            damaged += 1
            if damaged == 2:
                raise ReadError(f"{unsigned(file.href)} is not what the catalog says: {wrong}")
        raise ReadError(f"{unsigned(file.href)}: it could not be had whole in {self.attempts} tries")

    def _bring(self, file: RemoteFile, part: Path, patience: Patience) -> None:
        if not is_remote(file.href):
            self._copy(readable(file.href, "none"), part)
            return
        if not file.href.startswith(("http://", "https://")):
            raise ReadError(f"{unsigned(file.href)}: files are fetched over http(s) only")
        have = part.stat().st_size if part.exists() and hasher(file.checksum) else 0
        if file.size is not None and have == file.size:
            return
        if file.size is not None and have > file.size:
            have = 0
        try:
            response = within(patience.left, lambda: self._answer(file, have), "the answer")
        except TooSlowError as error:
            raise self._slow(error) from None
        if response.status == 416:
            part.unlink(missing_ok=True)
            raise _AgainError("what is there already is no part of the file")
        waited_for = False
        try:
            self._receive(response, part, have, patience)
        except TooSlowError as error:
            waited_for = True
            raise self._slow(error) from None
        except HTTPError as error:
            raise _AgainError(f"the connection broke ({type(error).__name__})") from None
        finally:
            if not waited_for:  # else a thread still does, and closing would wait for it
                response.release_conn()

    def _slow(self, error: TooSlowError) -> Exception:
        return StoppedError() if self.stop.is_set() else _AgainError(str(error))

    def _receive(self, response: urllib3.BaseHTTPResponse, part: Path, have: int, patience: Patience) -> None:
        if response.status == 206 and not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _AgainError("the server answered another range than it was asked for")
        chunks = response.stream(CHUNK, decode_content=False)
        with open_new(part, append=response.status == 206) as out:
            while chunk := within(patience.left, lambda: next(chunks, b""), f"a part of {CHUNK >> 10} KiB"):
                out.write(chunk)
                patience.came()
                if self.stop.is_set():
                    raise StoppedError
            out.flush()
            os.fsync(out.fileno())

    def _answer(self, file: RemoteFile, have: int) -> urllib3.BaseHTTPResponse:
        """An answer with a body that is the file's, or the rest of it."""
        url, headers = file.href, {"Range": f"bytes={have}-"} if have else {}
        token, refused = "", False
        for _ in range(8):
            if not is_http(url):
                raise ReadError(f"{unsigned(file.href)} leads to what is no address of http or https")
            trusted = self.tokens is not None and self.tokens.service.may_see_token(url)
            if trusted and self.tokens is not None:
                token = token or self.tokens.token()
            bearer = {"Authorization": f"Bearer {token}"} if trusted else {}
            try:
                response = self._http.request(
                    "GET", url, headers=headers | bearer, preload_content=False, redirect=False
                )
            except HTTPError as error:
                raise _AgainError(f"the server does not answer ({type(error).__name__})") from None
            if response.status in (301, 302, 303, 307, 308) and response.headers.get("Location"):
                url = urljoin(url, response.headers["Location"])
                response.drain_conn()
            elif response.status in (401, 403) and trusted and self.tokens is not None and not refused:
                response.drain_conn()
                token, refused = self.tokens.token(refused=token), True
            else:
                return _usable(response, file)
        raise ReadError(f"{unsigned(file.href)} leads in circles")

    def _copy(self, source: str, part: Path) -> None:
        require_plain_file(source)
        try:
            with Path(source).open("rb") as content, open_new(part) as out:
                shutil.copyfileobj(content, out, CHUNK)
        except FileNotFoundError:
            raise ReadError(f"{source} does not exist") from None
        if self.stop.is_set():
            raise StoppedError


@dataclass
class Patience:
    """How long a server may go on without sending a further part, all tries together.

    Attributes:
        until: When it ends, by ``time.monotonic``.
    """

    until: float = field(default_factory=lambda: time.monotonic() + STALLED)

    @property
    def left(self) -> float:
        """Seconds left, none below a tenth."""
        return max(self.until - time.monotonic(), 0.1)

    @property
    def is_over(self) -> bool:
        """Whether there is none left."""
        return time.monotonic() >= self.until

    def came(self) -> None:
        """A part came: it begins anew."""
        self.until = time.monotonic() + STALLED

    def waited(self, seconds: float) -> None:
        """The server asked for it."""
        self.until += seconds


def open_new(path: Path, *, append: bool = False) -> BinaryIO:
    """Open a file for writing, through no link.

    Args:
        path: The file.
        append: Whether to go on with what it holds.

    Raises:
        OSError: It is a link, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | (os.O_APPEND if append else os.O_TRUNC)
    return os.fdopen(os.open(path, flags, 0o666), "ab" if append else "wb")


def is_there(file: RemoteFile, path: Path) -> bool:
    """Whether a file was fetched before. It has its name, so it was verified then; its size is looked at again."""
    return path.is_file() and (file.size is None or path.stat().st_size == file.size)


def damage(file: RemoteFile, path: Path) -> str:
    """How a file differs from what the catalog says of it, "" if it does not."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"it has {size} bytes, not {file.size}"
    made = hasher(file.checksum)
    if made is None:
        return ""
    new, expected = made
    digest = new()
    with path.open("rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return "" if digest.digest() == expected else "its checksum differs"


_HASHES = {
    0x11: "sha1",
    0x12: "sha256",
    0x13: "sha512",
    0x14: "sha3_512",
    0x15: "sha3_384",
    0x16: "sha3_256",
    0x17: "sha3_224",
    0xD5: "md5",
}
"""Codes of functions in multihashes (github.com/multiformats/multicodec, table.csv)."""


def hasher(checksum: str) -> tuple[Callable[[], Any], bytes] | None:
    """The function and the digest of a multihash; None for one that is none, or of a function that is not known."""
    try:
        code, rest = _varint(bytes.fromhex(checksum))
        length, digest = _varint(rest)
    except (ValueError, IndexError):
        return None
    name = _HASHES.get(code)
    if name is None or len(digest) != length:
        return None
    made = hashlib.new(name, usedforsecurity=False)
    # A code with a digest of another length is not what it says.
    return (lambda: hashlib.new(name, usedforsecurity=False), digest) if made.digest_size == length else None


def _varint(content: bytes) -> tuple[int, bytes]:
    """The number that a text of bytes begins with, seven bits each, the least first; and the rest."""
    value = place = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << (7 * place)
        place += 1
        if not byte & 0x80:
            return value, content[place:]


def _usable(response: urllib3.BaseHTTPResponse, file: RemoteFile) -> urllib3.BaseHTTPResponse:
    """The answer, if its body is the file's.

    Raises:
        ReadError: It is not, and will not be.
        _AgainError: It is not now.
    """
    kind = (response.headers.get("Content-Type") or "").partition(";")[0]
    if response.status == 416 or (response.status in (200, 206) and kind != "text/html"):
        return response
    refused = response.status in (400, 401, 403) and "xml" in kind
    words = refusal_in(response.read(4096, decode_content=True)) if refused else ""
    response.drain_conn()
    if response.status == 429 or response.status >= 500 or response.status == 408:
        raise _AgainError(f"the server answers {response.status}", asked_wait(response))
    if response.status in (401, 403):
        raise ReadError(f"{unsigned(file.href)}: the server refuses (status {response.status}){words}")
    what = "a web page" if kind == "text/html" and response.status == 200 else f"status {response.status}"
    raise ReadError(f"{unsigned(file.href)}: the server answers {what}{words}")
