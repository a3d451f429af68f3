"""Parts of files: neighbours together, all of one state of the file; from a disk here, see also :mod:`.remote`."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from stac2cube.errors import Stac2cubeError

GAP = 4096
"""Bytes between two parts of a file on a disk that are read with them rather than apart."""

LONGEST = 16 << 20
"""Bytes asked for at once, unless a single tile is larger."""

Span = tuple[int, int]
"""From a first byte to before a last."""


class ChangedFileError(Stac2cubeError):
    """A file is not what it was when its header was read."""


@dataclass(frozen=True)
class State:
    """By what a file is known to be still the same; 0 or "" where that is unknown.

    Attributes:
        size: Bytes.
        etag: The server's name for this state.
        modified: Nanoseconds since 1970.
    """

    size: int
    etag: str
    modified: int

    @property
    def is_certain(self) -> bool:
        """Whether a change would be noticed that keeps the size."""
        return bool(self.size and (self.etag or self.modified))

    def check(self, now: State) -> None:
        """Compare with what the file is now, as far as both are known.

        Raises:
            ChangedFileError: It is another.
        """
        pairs = (self.size, now.size), (self.etag, now.etag), (self.modified, now.modified)
        if any(before and after and before != after for before, after in pairs):
            raise ChangedFileError("it was changed after its header was read")


class Parts(Protocol):
    """A file that is read in parts."""

    def first(self, count: int) -> tuple[memoryview, State]:
        """The first bytes, fewer where the file ends, and what it is now."""
        ...

    def read(self, spans: Sequence[Span], state: State) -> list[memoryview]:
        """Parts of it, good until this thread reads again.

        Raises:
            ChangedFileError: It is no longer in that state.
            OSError: It cannot be read.
        """
        ...


def is_fickle(parts: Parts) -> bool:
    """Whether a server gives one and the same content other marks at each request, as replicas do that make their own.

    Three requests of the same first bytes, one right after another.
    """
    looks = [parts.first(_FIRST) for _ in range(3)]
    contents, states = [bytes(content) for content, _ in looks], [state for _, state in looks]
    same = contents[0] == contents[1] == contents[2] and len({state.size for state in states}) == 1
    return same and (states[0] != states[1] or states[1] != states[2])


_FIRST = 4096
"""Bytes that are compared: of a TIFF's header, where its tiles lie, which differs if it was written anew."""


def header_reader(parts: Parts, count: int) -> tuple[Callable[[int, int], bytes], State]:
    """What parsers of headers read with, the first bytes at hand, and what the file is now.

    Args:
        parts: The file.
        count: Bytes that are asked for at once, and not again.

    Returns:
        Gives the bytes from a first to before a last, fewer where the file ends.

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
        path: Where.
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
    """Where a thread reads one file after the other it does so into the same memory: new memory must be cleared."""
    size = sum(last - first for first, last in spans)
    memory = memoryview(_memory.most) if size <= _KEPT else memoryview(bytearray(size))
    parts = []
    for first, last in spans:
        part, memory = memory[: last - first], memory[last - first :]
        parts.append(part[: os.preadv(handle, [part], first)])
    return parts


_KEPT = 8 << 20
"""Bytes that a thread holds for that: the tiles of a block of one band."""


class _Memory(threading.local):
    def __init__(self) -> None:
        self.most = bytearray(_KEPT)


_memory = _Memory()


def _state_of(handle: int) -> State:
    status = os.fstat(handle)
    return State(status.st_size, "", status.st_mtime_ns)


def together(spans: Sequence[Span], gap: int, read: Callable[[Sequence[Span]], list[memoryview]]) -> list[memoryview]:
    """Read spans, those near each other at once.

    Args:
        spans: In any order.
        gap: Bytes between two that are worth less than a request.
        read: Reads spans.

    Returns:
        What lies in each.

    Raises:
        OSError: The file ends before.
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
