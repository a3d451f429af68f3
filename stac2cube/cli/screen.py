"""The screen, and files in its place: what is printed is text, whatever a catalog or a cube from elsewhere holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from rich.console import Console
from rich.text import Text

from stac2cube.trust.text import printable, redacted


class CleanStream:
    """A stream that writes control characters as escapes, and known keys not at all.

    Args:
        stream: The one that it writes to.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            TypeError: It is none, by which others tell streams of texts from those of bytes.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text is written here, not {type(text).__name__}")
        self.stream.write(printable(redacted(text), lines=True))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self.stream, name)


class SafeConsole(Console):
    """A console whose colours are its own: of texts, neither escapes nor words in brackets are heeded."""

    def __init__(self, *, file: IO[str], quiet: bool = False, width: int | None = None) -> None:
        super().__init__(file=file, quiet=quiet, width=width, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text, ready to be shown."""
        return super().render_str(printable(redacted(text), lines=True), **options)


def raw(stream: Any) -> IO[str]:
    """The stream below a :class:`CleanStream`: for those who write colours of their own."""
    return stream.stream if isinstance(stream, CleanStream) else cast("IO[str]", stream)


@contextmanager
def clean_streams() -> Iterator[None]:
    """Whatever is printed meanwhile goes through a :class:`CleanStream`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("Any", CleanStream(raw(stream))) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
