"""Untrusted texts made safe for a terminal, a log, a table or a page: no control characters, no known keys.

Sources: Unicode 15.1, general categories Cc, Cf, Cs, Zl and Zp; CWE-150 (escape sequences), CWE-117 (log injection),
CWE-1236 (formulas in CSV).
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from typing import Any

import msgspec

from stac2cube.trust.address import public_text, redacted

LONGEST = 2000
"""Maximum number of characters shown of a foreign text."""

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"))
"""Categories of characters that are escaped: control, format, surrogates, line and paragraph separators, private use,
unassigned."""

_TABLE: dict[int, str] = {}


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def is_printable(text: str) -> bool:
    """Whether all characters of a text can be shown unescaped, on one line."""
    return (text.isascii() and text.isprintable()) or not any(map(_is_hidden, text))


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable(text: object, *, lines: bool = False) -> str:
    """A text with control characters, terminal escapes and bidirectional overrides written as escapes.

    Args:
        text: Any object; its ``str`` is used.
        lines: Whether line feeds and tabs may stay.
    """
    words = str(text)
    if is_printable(words):
        return words
    keep = "\n\t" if lines else ""
    return "".join(c if c in keep or not _is_hidden(c) else _escaped(c) for c in words)


def shown(text: object, *, lines: bool = False) -> str:
    """A text for users: :func:`printable`, with addresses made public and known keys replaced."""
    return printable(redacted(public_text(str(text))), lines=lines)


def cell(value: Any) -> Any:
    """A value for a table that spreadsheets open: no text can be interpreted as a formula.

    Numbers, dates, booleans and None stay; a text that starts like a formula gets a leading apostrophe (OWASP, "CSV
    Injection").
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text[:1] in _FORMULA and not _is_number(text) else text


def as_cells(table: Any) -> Any:
    """A pandas DataFrame with every text made a :func:`cell`, names of columns too."""
    made = table.copy()
    for name in made.columns:
        if made[name].dtype.kind not in "iufbmMc":
            made[name] = made[name].map(cell)
    return made.rename(columns=cell)


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class LineFormatter(logging.Formatter):
    """Formats a record without line breaks, terminal escapes and keys.

    A traceback keeps its lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        plain = logging.makeLogRecord(record.__dict__)
        plain.msg, plain.args = shown(record.getMessage()), ()
        if plain.exc_info:
            plain.exc_text = shown(self.formatException(plain.exc_info), lines=True)
        return super().format(plain)


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text, in a third of the time of Python's own parser.

    Texts that msgspec refuses are passed to that one: ``NaN`` and ``Infinity``, which Python servers write, numbers too
    large for a float, bytes in UTF-16 or UTF-32, and escaped halves of characters. These halves are replaced, because
    neither files nor tables can hold them. Unlike orjson, msgspec keeps whole numbers of any size.

    Args:
        text: The text.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        found = _HALF.search(text) if isinstance(text, str) else _HALF_BYTES.search(text)
    try:
        value = json.loads(text)
        return _whole_characters(value) if found else value
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


_HALF_BYTES = re.compile(rb"\\u[dD][89a-fA-F]")


def _whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole_characters(name): _whole_characters(part) for name, part in value.items()}
    return [_whole_characters(part) for part in value] if isinstance(value, list) else value
