"""Download files of products: resumed, verified, listed in a manifest."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import urllib3
from urllib3.exceptions import HTTPError

from stac2cube.access import sign as cdse
from stac2cube.access.hrefs import absolute, check_href, require_plain_file
from stac2cube.access.http import LONGEST_WAIT
from stac2cube.access.s3 import refusal_in
from stac2cube.access.sign import TIMEOUT, Tokens, asked_wait, is_remote, opening, readable, unsigned
from stac2cube.datasets.acquisitions import (
    MANIFEST,
    FileEntry,
    Manifest,
    WantedFile,
    check_tables,
    read_manifest,
    wanted_files,
    write_manifest,
)
from stac2cube.datasets.files import made_folder
from stac2cube.datasets.rules import DownloadRequest, TransferOptions, parse_roles
from stac2cube.errors import BadInputError, CatalogError, IncompleteError, ReadError
from stac2cube.fastcog.header import NotForUsError
from stac2cube.fastcog.ranges import address_of_s3
from stac2cube.model.catalog import Catalog, find_catalog
from stac2cube.model.scene import AssetRef
from stac2cube.progress import Progress
from stac2cube.store.files import DISK_ERRORS, remove_partials, sync_folder, write_whole
from stac2cube.trust.address import is_http, public
from stac2cube.trust.deadline import TooSlowError, within
from stac2cube.trust.names import TABLE, Names, path_below, require_own
from stac2cube.trust.text import shown

# Fetching whole files: resumed after interruptions, retried on a busy server, verified before they get their name.

CHUNK = 1 << 20
"""Bytes read at a time."""

STALLED = 100.0
"""Seconds within which a chunk has to arrive (10 kB/s): a slower server counts as stalled."""

Verified = Literal["checksum", "size", "nothing"]
"""How the completeness of a file was verified."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        href: Its location: a path, ``file://`` or ``http(s)://``.
        size: Bytes, None if the catalog does not give the size.
        checksum: Multihash in hexadecimal digits, as in STAC's file extension; "" if the catalog does not give one.
    """

    href: str
    size: int | None = None
    checksum: str = ""


class StoppedError(Exception):
    """A stop was requested; partial files are kept to be resumed."""


class _AgainError(Exception):
    """A temporary error; ``wait`` is the delay in seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass
class Fetcher:
    """Fetches files; one instance for all threads.

    Attributes:
        tokens: Tokens for servers that are trusted with one; None for no tokens.
        stop: Set by the caller to stop at the next chunk.
        attempts: Tries per file; each resumes where the last one was interrupted.
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
        """Fetch a file; it gets its name only when it is complete and verified.

        An interrupted download is kept beside it as ``.part``. It is resumed only where the catalog gives a checksum:
        without one, it is impossible to verify that both halves are of the same file.

        Args:
            file: The file.
            path: Target path; its folder is created.

        Returns:
            How it was verified.

        Raises:
            ReadError: The file is not available, or differs from the catalog's size or checksum.
            BadInputError: The file cannot be written.
            StoppedError: A stop was requested.
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
        raise ReadError(f"{unsigned(file.href)}: it could not be downloaded completely in {self.attempts} tries")

    def _bring(self, file: RemoteFile, part: Path, patience: Patience) -> None:
        if not is_remote(file.href):
            self._copy(readable(file.href, "none"), part)
            return
        if not is_http(file.href):
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
            self._receive(response, part, have, patience, file.size)
        except TooSlowError as error:
            waited_for = True
            raise self._slow(error) from None
        except HTTPError as error:
            raise _AgainError(f"the connection broke ({type(error).__name__})") from None
        finally:
            if not waited_for:  # else a thread still reads, and closing would wait for it
                response.release_conn()

    def _slow(self, error: TooSlowError) -> Exception:
        return StoppedError() if self.stop.is_set() else _AgainError(str(error))

    def _receive(
        self, response: urllib3.BaseHTTPResponse, part: Path, have: int, patience: Patience, size: int | None
    ) -> None:
        packed = (response.headers.get("Content-Encoding") or "identity").strip().lower() != "identity"
        said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range") or "")
        if response.status == 206 and (said is None or int(said[1]) != have or (packed and have)):
            part.unlink(missing_ok=True)  # a range of packed content is counted in packed bytes
            raise _AgainError("the server answered another range than it was asked for")
        chunks = response.stream(CHUNK, decode_content=packed)
        with open_new(part, append=have > 0 and response.status == 206) as out:
            while chunk := within(patience.left, lambda: next(chunks, b""), f"a part of {CHUNK >> 10} KiB"):
                out.write(chunk)
                patience.came()
                if self.stop.is_set():
                    raise StoppedError
                if size is not None and out.tell() > size:  # it might never end, and fill the disk
                    response.close()
                    break
            out.flush()
            os.fsync(out.fileno())
        if response.status == 206 and said is not None and said[3] not in ("*", str(int(said[2]) + 1)):
            raise _AgainError("the server answered only a part of what it was asked for")

    def _answer(self, file: RemoteFile, have: int) -> urllib3.BaseHTTPResponse:
        """Request the file, or the rest of it; follows redirects and renews a refused token."""
        url, headers = file.href, {"Range": f"bytes={have}-"} if have else {}
        token, refused = "", False
        for _ in range(8):
            if not is_http(url):
                raise ReadError(f"{unsigned(file.href)} leads to what is no address of http or https")
            trusted = self.tokens is not None and self.tokens.service.may_see_token(url)
            token = self.tokens.token() if trusted and self.tokens is not None and not token else token
            told = {"Authorization": f"Bearer {token}"} if trusted else {}
            try:
                response = self._http.request("GET", url, headers=headers | told, preload_content=False, redirect=False)
            except HTTPError as error:
                raise _AgainError(f"the server does not answer ({type(error).__name__})") from None
            if response.status in (301, 302, 303, 307, 308) and response.headers.get("Location"):
                url = absolute(response.headers["Location"], url)
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
    """The time that a server has to send the next chunk, over all tries.

    Attributes:
        until: Its end, by ``time.monotonic``.
    """

    until: float = field(default_factory=lambda: time.monotonic() + STALLED)

    @property
    def left(self) -> float:
        """Seconds left, at least 0.1."""
        return max(self.until - time.monotonic(), 0.1)

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.until

    def came(self) -> None:
        """Restart the time: a chunk arrived."""
        self.until = time.monotonic() + STALLED

    def waited(self, seconds: float) -> None:
        """Add a delay that the server asked for."""
        self.until += seconds


def open_new(path: Path, *, append: bool = False) -> BinaryIO:
    """Open a file for writing, without following links.

    Args:
        path: The file.
        append: Whether to append to the existing content.

    Raises:
        OSError: It is a link, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | (os.O_APPEND if append else os.O_TRUNC)
    return os.fdopen(os.open(path, flags, 0o666), "ab" if append else "wb")


def is_fetched(file: RemoteFile, path: Path) -> bool:
    """Whether a file was fetched before. It has its name, so it was verified then; only its size is checked again."""
    return path.is_file() and (file.size is None or path.stat().st_size == file.size)


def damage(file: RemoteFile, path: Path) -> str:
    """Describe how a file differs from the catalog's size or checksum, "" if it does not."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"it has {size} bytes, not {file.size}"
    if not size and file.size is None:
        return "it is empty"
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
"""Codes of hash functions in multihashes (github.com/multiformats/multicodec, table.csv)."""


def hasher(checksum: str) -> tuple[Callable[[], Any], bytes] | None:
    """Return the hash function and the digest of a multihash; None if it is invalid or the function is unknown."""
    try:
        code, rest = _varint(bytes.fromhex(checksum))
        length, digest = _varint(rest)
    except (ValueError, IndexError):
        return None
    name = _HASHES.get(code)
    if name is None or len(digest) != length:
        return None
    made = hashlib.new(name, usedforsecurity=False)
    # A digest whose length does not fit the code is invalid.
    return (lambda: hashlib.new(name, usedforsecurity=False), digest) if made.digest_size == length else None


def _varint(content: bytes) -> tuple[int, bytes]:
    """Decode the leading unsigned varint (seven bits per byte, least significant first); return it and the rest."""
    value = place = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << (7 * place)
        place += 1
        if not byte & 0x80:
            return value, content[place:]


def _usable(response: urllib3.BaseHTTPResponse, file: RemoteFile) -> urllib3.BaseHTTPResponse:
    """Return the response if its body is that of the file.

    Raises:
        ReadError: A permanent failure.
        _AgainError: A temporary failure.
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


# Fetching the files that samples need from a catalog into a folder, with a list of every file.

log = logging.getLogger(__name__)


@dataclass
class Fetched:
    """Result of a run.

    Attributes:
        manifest: The current manifest of the folder.
        new: Files fetched.
        there: Files that were there already.
        absent: Requested files that are not there, each with its reason.
        stopped: Whether a stop was requested before the end.
    """

    manifest: Manifest
    new: list[FileEntry] = field(default_factory=list)
    there: list[FileEntry] = field(default_factory=list)
    absent: list[FileEntry] = field(default_factory=list)
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 2 some files are not there, 10 stopped in time: after 2 and 10 the same command continues."""
        return 10 if self.stopped else 2 if self.absent else 0


def download_products(
    request: DownloadRequest,
    folder: str | Path,
    *,
    connections: int = TransferOptions.connections,
    tables: Sequence[str] = TransferOptions.tables,
    verify: bool = False,
) -> Manifest:
    """Fetch files of products by their role, and write a manifest that every command accepts as a catalog.

    Run it again to download missing files, and to continue broken downloads.

    Args:
        request: The files to fetch.
        folder: Folder to write to: a folder per product, and ``index.json``.
        connections: Number of files downloaded at the same time.
        tables: Formats of the table of files: ``"csv"``, ``"parquet"``, ``"xlsx"``.
        verify: Compute the checksums of existing files again.

    Returns:
        The manifest.

    Raises:
        BadInputError: An argument is invalid, or the folder cannot be written.
        NothingFoundError: There is no acquisition.
        CatalogError: The catalog cannot be read.
        IncompleteError: Some files are not there; the manifest names them with the reason.
    """
    done = run_download(request, Path(folder), connections=connections, tables=tables, fetcher=Fetcher(), verify=verify)
    if done.absent:
        reasons = "; ".join(f"{entry.scene} {entry.role}: {entry.reason}" for entry in done.absent)
        raise IncompleteError(f"{len(done.absent)} file(s) are not there, run again to try them: {reasons}")
    return done.manifest


def run_download(
    request: DownloadRequest,
    folder: Path,
    *,
    fetcher: Fetcher,
    connections: int = TransferOptions.connections,
    tables: Sequence[str] = TransferOptions.tables,
    verify: bool = False,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch files; raises as :func:`download_products`, except for absent files, which are in the result."""
    if connections < 1:
        raise BadInputError(f"connections are 1 or more, not {connections}")
    check_tables(tables)
    catalog = find_catalog(request.catalog)
    before = read_manifest(folder) if (folder / MANIFEST).exists() else None
    wanted = wanted_files(request)
    if catalog.signer == "cdse" and fetcher.tokens is None:
        fetcher = replace(fetcher, tokens=cdse.Tokens(cdse.CDSE))
    made_folder(folder)
    for name in (MANIFEST, *(f"files.{kind}" for kind in tables)):
        require_own(folder / name, "the account of a download")
    names = Names.of_folder(folder)
    wanted = [_placed(one, names) for one in wanted]
    remove_partials(folder)
    result = Fetched(Manifest(catalog.name, (), (), ()))
    entries = {_place(one): _absent(one, "not fetched yet") for one in wanted}
    sums = {} if before is None else {entry.path: entry.checksum for entry in before.files}
    own = Own(folder, sums, frozenset() if before is None else before.changed(wanted))
    if names.table:
        write_whole(path_below(folder, TABLE), names.to_bytes())
    # Files that this run will write count as its own, even after it was killed: list them before any file arrives.
    write_manifest(folder, _merged(before, request, catalog, wanted, _kept(before, entries)), ())
    progress = progress or Progress()
    pool = ThreadPoolExecutor(connections, thread_name_prefix="fetch")
    try:
        with progress.over(len(wanted)):
            running = {pool.submit(_fetch, one, own, fetcher, catalog, verify): one for one in wanted}
            for future in as_completed(running):
                entry, new = future.result()
                entries[_place(running[future])] = entry
                if entry.state == "there":
                    (result.new if new else result.there).append(entry)
                else:
                    log.info("%s %s: %s", entry.scene, entry.role, entry.reason)
                progress.advance()
    except BaseException:
        fetcher.stop.set()  # on any exception, the other downloads stop at their next chunk
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        result.stopped = fetcher.stop.is_set()
        result.manifest = _merged(before, request, catalog, wanted, entries, own.renewed(result) if verify else ())
        write_manifest(folder, result.manifest, tables)
    if old := sorted({one.item for one in result.there if one.verified != "checksum"} & own.changed):
        words = "%d products were changed in their catalog after they were fetched, as %s: --verify fetches them again"
        log.warning(words, len(old), old[0])
    result.absent = [entry for entry in entries.values() if entry.state != "there"]
    return result


@dataclass(frozen=True)
class Own:
    """The files of a folder that may be replaced: those listed in its manifest.

    Attributes:
        folder: The folder.
        sums: Relative paths listed before, with the checksums that the catalog gave then.
        changed: Ids of items that were changed in their catalog since.
    """

    folder: Path
    sums: Mapping[str, str] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()

    def is_still(self, one: WantedFile, path: Path, *, verify: bool) -> bool:
        """Whether the fetched file is the catalog's current one, as far as the catalog shows it."""
        checksum, had = one.checksum, self.sums.get(one.path, "")
        known = RemoteFile("", one.size, checksum)
        if not is_fetched(known, path):
            return False
        if not verify and (not checksum or not had or checksum == had):
            return True
        changed = one.item is not None and one.item["id"] in self.changed
        return not damage(known, path) and (hasher(checksum) is not None or not changed)

    def renewed(self, result: Fetched) -> frozenset[str]:
        """Ids of changed items whose listed files were all fetched again, or proved to be the same."""
        sound = {one.path for one in (*result.new, *(one for one in result.there if one.verified == "checksum"))}
        old = {path.partition("/")[0] for path in self.sums if path and path not in sound}
        return frozenset(one.item for one in result.new if one.path.partition("/")[0] not in old) & self.changed

    def path_of(self, one: WantedFile) -> Path:
        """Target path of a file.

        Raises:
            ReadError: The path contains a link, or a file that is not from this folder's downloads.
        """
        try:
            path = path_below(self.folder, *one.path.split("/"))
            require_own(path, "what the catalog has")
            require_own(path.with_name(f"{path.name}.part"), "what the catalog has")
        except BadInputError as error:
            raise ReadError(str(error)) from None
        if one.path not in self.sums and path.exists() and not self._is_it(one, path):
            raise ReadError(f"{path} is there, and is none of this folder's files: name another folder, or remove it")
        return path

    @staticmethod
    def _is_it(one: WantedFile, path: Path) -> bool:
        """Whether the existing file is the wanted one, by its checksum."""
        return hasher(one.checksum) is not None and not damage(RemoteFile("", one.size, one.checksum), path)


def _placed(one: WantedFile, names: Names) -> WantedFile:
    """Set the path of a file to the folder that is named for its item."""
    if one.item is None or not one.path:
        return one
    return replace(one, path=f"{names.of(str(one.item['id']))}/{one.path.partition('/')[2]}")


def _kept(before: Manifest | None, entries: Mapping[Place, FileEntry]) -> dict[Place, FileEntry]:
    """Entries of the wanted files, from the manifest where it has them."""
    known = {} if before is None else {(entry.scene, entry.role, entry.item): entry for entry in before.files}
    return {place: known.get(place, entry) for place, entry in entries.items()}


Place = tuple[str, str, str]
"""Scene, role and item of a file."""


def _place(one: WantedFile) -> Place:
    return one.scene, one.role.word, "" if one.item is None else str(one.item["id"])


def _fetch(one: WantedFile, own: Own, fetcher: Fetcher, catalog: Catalog, verify: bool) -> tuple[FileEntry, bool]:
    """Fetch one file; return its entry, and whether it is new."""
    if one.reason:
        return _absent(one), False
    known = RemoteFile("", one.size, one.checksum)
    try:
        path = own.path_of(one)
        if own.is_still(one, path, verify=verify):
            verified: Verified = "checksum" if hasher(one.checksum) else "size" if one.size is not None else "nothing"
            return _there(one, path, verified), False
        if fetcher.stop.is_set():
            raise StoppedError
        verified = fetcher.fetch(replace(known, href=address_of(one, catalog)), path)
        return _there(one, path, verified), True
    except StoppedError:
        return _absent(one, "stopped before it was there"), False
    except (ReadError, CatalogError) as error:
        return _absent(one, shown(error)), False


def address_of(one: WantedFile, catalog: Catalog) -> str:
    """The path or HTTP(S) address that a file is fetched from, signed where that is needed.

    Raises:
        ReadError: The file cannot be accessed.
        CatalogError: OData does not answer, or the catalog is not allowed to refer to this address.
    """
    assert one.item is not None  # files without an item have a reason
    check_href(str(one.item["id"]), one.asset, one.about.get("href"), catalog)
    href = one.signed or str(one.about["href"])
    alternate = one.about.get("alternate")
    https = alternate.get("https") if isinstance(alternate, Mapping) else None
    if href.startswith("s3:") and isinstance(https, Mapping) and is_http(str(https.get("href"))):
        check_href(str(one.item["id"]), one.asset, https["href"], catalog)
        return cdse.repaired(str(https["href"]))
    if href.startswith("s3:") and catalog.signer == "cdse":
        inside = str(one.about.get("file:local_path") or "") or href[href.find(".SAFE") :]
        product, found, rest = inside.partition(".SAFE")
        product = product or href.partition(".SAFE")[0].rpartition("/")[2]
        if not found or not rest:
            raise ReadError(f"{href}: OData cannot be asked for it, since it names no product")
        number = cdse.product_id(cdse.CDSE, f"{product}.SAFE")
        return cdse.node_url(cdse.CDSE, number, f"{product}.SAFE{rest}")
    if href.startswith("s3:"):
        return _signed_s3(AssetRef(public(href)), one.signer)
    return readable(href, one.signer).removeprefix("/vsicurl/") if is_remote(href) else href


def _signed_s3(asset: AssetRef, signer: str) -> str:
    """An HTTP(S) address that opens a file of S3 with the available keys."""
    try:
        return address_of_s3(opening(asset, signer))
    except ImportError:
        raise ReadError(f"{asset.href} is to be had by S3 only: pip install 'stac2cube[index]'") from None
    except NotForUsError as error:
        raise ReadError(f"{asset.href}: {error}; for S3: pip install 'stac2cube[s3]'") from None


def _there(one: WantedFile, path: Path, verified: Verified) -> FileEntry:
    size = path.stat().st_size
    return FileEntry(*_place(one), one.path, "there", size=size, checksum=one.checksum, verified=verified)


def _absent(one: WantedFile, reason: str = "") -> FileEntry:
    return FileEntry(
        *_place(one),
        path=one.path,
        state="missing" if one.reason else "failed",
        reason=one.reason or reason,
        size=one.size,
        checksum=one.checksum,
    )


def _merged(
    before: Manifest | None,
    request: DownloadRequest,
    catalog: Catalog,
    wanted: Sequence[WantedFile],
    entries: Mapping[Place, FileEntry],
    renewed: Collection[str] = (),
) -> Manifest:
    """Merge new entries with existing ones of other scenes, or of other roles of the same items.

    Of changed items, only those in ``renewed`` are replaced by their current version, as are their files.
    """
    items: dict[str, dict[str, Any]] = {}
    files = dict(entries)
    newest: dict[tuple[str, str], set[str]] = {}
    for one in wanted:
        if one.item is not None:
            newest.setdefault((one.scene, one.role.level), set()).update((str(one.item["id"]), *one.parts))
    for entry in () if before is None else before.files:
        replaced = entry.item not in newest.get((entry.scene, entry.role.partition(".")[0]), {entry.item})
        if not replaced:
            files.setdefault((entry.scene, entry.role, entry.item), entry)
    kept = {entry.item for entry in files.values()}
    for item in () if before is None else before.items:
        if item["id"] in kept and item["id"] not in renewed:
            items[str(item["id"])] = {**item, "assets": dict(item["assets"])}
    for one in wanted:
        if one.item is None:
            continue
        item = items.setdefault(str(one.item["id"]), {**one.item, "assets": {}, "links": []})
        if files[_place(one)].state == "there":
            item["assets"][one.asset] = _local(one)
        else:
            item["assets"].pop(one.asset, None)
    words = [role.word for role in parse_roles(request.roles, catalog.like)]
    return Manifest(
        catalog=catalog.name,
        roles=tuple(dict.fromkeys([*([] if before is None else before.roles), *words])),
        files=tuple(sorted(files.values(), key=lambda entry: (entry.scene, entry.role, entry.item))),
        items=tuple(items[name] for name in sorted(items) if items[name]["assets"]),
    )


def _local(one: WantedFile) -> dict[str, Any]:
    """The asset with its path in the folder; its source is noted, without signatures."""
    kept = {key: value for key, value in one.about.items() if not key.startswith(("alternate", "auth:", "storage:"))}
    return {**kept, "href": one.path, "stac2cube:role": one.role.word, "stac2cube:source": public(str(kept["href"]))}
