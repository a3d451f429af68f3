"""File names from untrusted texts: safe on any system, unique, and reversible by a table.

An id, a key of an asset, a name of a feature may contain anything: ``../``, an absolute path, a name that Windows
reserves, letters that some file systems treat as equal. None is used as a path unchanged, unless it is harmless, as
most are.

Sources: Microsoft, "Naming Files, Paths, and Namespaces"; POSIX.1-2017, 3.282 "Portable Filename Character Set".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from stac2cube.errors import BadInputError
from stac2cube.trust.text import is_printable, parse_json, printable

LONGEST = 120
"""Maximum bytes of a name: with prefix and suffix, below the 255 bytes of most file systems."""

MARK = "~"
"""Precedes the digits of a name that differs from its text; no harmless text contains it."""

TABLE = "names.json"
"""The table beside the files: name of each file or folder -> its text."""

OURS = frozenset((TABLE, "index.json", "manifest.json", "collection.json", "catalog.json", "files.csv", "files.xlsx"))
"""Names of stac2cube's own files in the same folder."""

_HARMLESS = re.compile(r"\w[\w.\-+=,@]*")

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)


def is_harmless(text: str) -> bool:
    """Whether a text can be a file name unchanged, on every system."""
    return (
        len(text.encode("utf-8", "surrogatepass")) <= LONGEST
        and unicodedata.is_normalized("NFC", text)
        and _HARMLESS.fullmatch(text) is not None
        and not text.endswith(".")
        and _RESERVED.fullmatch(text) is None
    )


def is_name(text: str) -> bool:
    """Whether a text is a single name and not a path: allowed for steps and layers of a foreign cube."""
    return (
        0 < len(text.encode("utf-8", "surrogatepass")) <= 2 * LONGEST
        and is_printable(text)
        and not set(text) & set("/\\")
        and text not in (".", "..")
    )


def safe_name(text: str) -> str:
    """A text as a file name: unchanged if it is harmless, else its safe characters with digits of its hash.

    The same text always gives the same name; different texts give names that differ in more than case, unless both are
    harmless, for which see :class:`Names`.

    Args:
        text: An id, a key, a name.
    """
    return text if is_harmless(text) else _made(text)


def _made(text: str) -> str:
    """Readable remains of a text with 16 digits of its SHA-256, before its suffix."""
    digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_.\-]+", "_", plain)
    stem, dot, suffix = plain.rpartition(".")
    if not dot or not re.fullmatch(r"[A-Za-z0-9]{1,8}", suffix):
        stem, dot, suffix = plain, "", ""
    stem = stem.strip("._-")[: LONGEST - 40].rstrip("._-") or "item"
    # The mark behind it excludes all names that Windows reserves.
    return f"{stem}{MARK}{digits}{dot}{suffix}"


class Names:
    """Names for many texts in one folder: unique, also if case is ignored.

    Args:
        known: Names assigned before, by text.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._names = dict(known or {})
        self._taken = {name.casefold(): text for text, name in self._names.items()}

    def of(self, text: str) -> str:
        """The name of a text, always the same."""
        if text not in self._names:
            name = safe_name(text)
            if self._taken.get(name.casefold(), text) != text or name.casefold() in OURS:
                name = _made(text)
            self._names[text] = name
            self._taken[name.casefold()] = text
        return self._names[text]

    @property
    def table(self) -> dict[str, str]:
        """Text by name, for names that differ from the text."""
        return {name: text for text, name in sorted(self._names.items()) if name != text}

    @classmethod
    def of_folder(cls, folder: Path) -> Names:
        """The names in the table of a folder; none if it is missing or damaged."""
        path = folder / TABLE
        try:
            value = parse_json(path.read_bytes()) if path.is_file() and not path.is_symlink() else {}
        except (OSError, ValueError):
            value = {}
        names = value.get("names") if isinstance(value, Mapping) else None
        pairs = names.items() if isinstance(names, Mapping) else ()
        # The table may be foreign, too: only names that follow these rules are accepted.
        texts = ((name, text) for name, text in pairs if isinstance(text, str))
        return cls({text: name for name, text in texts if name == _made(text) or (name == text and is_harmless(text))})

    def to_bytes(self) -> bytes:
        """The content of the table's file."""
        return (json.dumps({"stac2cube:names": 1, "names": self.table}, indent=1) + "\n").encode()


def names_for(texts: Iterable[str]) -> dict[str, str]:
    """Names of texts in one folder, by text; see :class:`Names`."""
    names = Names()
    return {text: names.of(text) for text in texts}


def is_below(path: str) -> bool:
    """Whether a path in a table or a manifest stays below its base folder."""
    parts = path.replace("\\", "/").split("/")
    return not path.startswith(("/", "\\", "~")) and ":" not in parts[0] and ".." not in parts and "\0" not in path


def path_below(folder: Path, *parts: str) -> Path:
    """The path of a file below a folder, if every part is a plain name and none is a link.

    Args:
        folder: The folder; it may be reached by a link.
        parts: Names of folders below it, and of the file.

    Raises:
        BadInputError: A part is not a name, or is a link, which is not written through.
    """
    path = folder
    for part in parts:
        if part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part:
            raise BadInputError(f"{printable(part)!r} is no name of a file below {folder}")
        path = path / part
        if path.is_symlink():
            raise BadInputError(f"{path} is a link: it is not written through. Remove it, or name another folder")
    return path


def require_own(path: Path, what: str) -> None:
    """Refuse to replace anything but a regular file; a missing file is fine.

    Args:
        path: The file.
        what: The content to be written, for the message.

    Raises:
        BadInputError: It is something else.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise BadInputError(f"{path} is there and is no plain file: {what} is not written. Name another place")
