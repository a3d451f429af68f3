"""Files for libraries that cannot bear that a write fails."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Sheltered(io.RawIOBase):
    """A file whose first error is kept, and whose writes after it are thrown away as if they had succeeded.

    HDF5 keeps what it could not write, tries again when the process ends, and crashes there (measured with HDF5 1.14 on
    a full disk). So it is not told; whoever writes looks at :attr:`error` and gives up.

    Args:
        path: The file; made new.

    Attributes:
        error: What the system said first, None as long as all is well.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.error: OSError | None = None

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As files do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As files do."""
        return self._file.tell()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As files do; what was thrown away, and what lies beyond the end, reads as zeros."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done:])):
            done += count
        view[done:] = bytes(len(view) - done)
        return len(view)

    def write(self, content: ReadableBuffer, /) -> int:
        """As files do, whole; after an error in appearance only."""
        view = memoryview(content).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += self._file.write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """As files do."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def close(self) -> None:
        """As files do."""
        self._file.close()
        super().close()


@contextmanager
def sheltered(path: Path) -> Iterator[Sheltered]:
    """A new file for a library that cannot bear that a write fails.

    Raises:
        OSError: One failed: after the block, whatever the library made of what it read back.
    """
    with Sheltered(path) as file:
        try:
            yield file
        finally:
            if file.error is not None:
                raise file.error
