"""Headers that this process has seen, and how one is had that nobody has."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from stac2cube.scene import AssetRef
from stac2cube.source.cog.header import CogHeader, NotForUsError, UnusualFileError
from stac2cube.source.cog.ranges import LocalParts, Parts, State, header_reader
from stac2cube.source.cog.remote import parts_of
from stac2cube.source.cog.tiff import HEAD_BYTES, read_header
from stac2cube.source.sign import Opening, opening

HeaderLookup = Callable[[str], CogHeader | None]
"""From an unsigned href to the header that a catalog keeps with it; it pickles."""

SUFFIXES = (".tif", ".tiff", ".gtiff", ".cog")
"""Files of other names are not asked for a header: it would cost a request for nothing."""

SIDE_FILES = (".aux.xml", ".ovr")
"""Beside a file on a disk, they may hold another georeference, value for no data, or overviews, which GDAL heeds."""


def header_of(asset: AssetRef, signer: str) -> CogHeader:
    """Read the header of an asset, in at most two requests.

    Raises:
        UnusualFileError: It is none of the files read here.
        OSError: It cannot be read.
        ReadError: See :func:`stac2cube.source.sign.opening`.
    """
    return _fetched(asset.href, parts_of(opening(asset, signer)))


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


class KnownHeaders(Generic[H]):
    """Headers, and what is known not to have one; the oldest are forgotten. Threads may share it.

    Args:
        fetch: Reads the header of a file whose unsigned href it is given.
        most: How many are kept.
    """

    def __init__(self, fetch: Callable[[str, Parts], H], most: int = 4096) -> None:
        self._fetch, self._most = fetch, most
        self._known: OrderedDict[str, H | str] = OrderedDict()
        self._lock = Lock()
        # Who asks for a header that another thread is just reading waits for that one.
        self._reading = [Lock() for _ in range(64)]

    def get(self, href: str, parts: Parts) -> H:
        """The header of a file.

        Raises:
            UnusualFileError: It is none of the files read here.
            ChangedFileError: It changed while its header was read.
            OSError: It cannot be read.
        """
        with self._reading[hash(href) % len(self._reading)]:
            with self._lock:
                known = self._known.get(href)
            if known is None:
                try:
                    known = self._fetch(href, parts)
                except NotForUsError:
                    raise  # it says nothing of the file
                except UnusualFileError as error:
                    known = str(error)
                self._keep(href, known)
        if isinstance(known, str):
            raise UnusualFileError(known)
        return known

    def forget(self, href: str) -> None:
        """Let the next one who asks read it anew."""
        with self._lock:
            self._known.pop(href, None)

    def refuse(self, href: str, reason: str) -> None:
        """Let the next who ask be told that it is none of the files read here."""
        self._keep(href, reason)

    def _keep(self, href: str, known: H | str) -> None:
        with self._lock:
            self._known[href] = known
            while len(self._known) > self._most:
                self._known.popitem(last=False)


KNOWN = KnownHeaders(_fetched)
"""Those of this process."""


def header_for(href: str, way: Opening, lookup: HeaderLookup | None) -> tuple[CogHeader, Parts]:
    """The header of a file and the way to its tiles.

    Args:
        href: Unsigned.
        way: To the file.
        lookup: Where headers may be known already; one by which a change would go unnoticed is not believed.

    Raises:
        UnusualFileError: It is none of the files read here.
        OSError: It cannot be read.
    """
    parts = parts_of(way)
    found = lookup(href) if lookup else None
    if found is not None and State(found.size, found.etag, found.modified).is_certain:
        return found, parts
    return KNOWN.get(href, parts), parts
