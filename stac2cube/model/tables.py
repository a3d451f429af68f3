"""Strict TOML tables: an unknown, missing or unsuitable key is an error with file, line and key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from platformdirs import user_config_path

from stac2cube.errors import TableError
from stac2cube.model.fields import KINDS

T = TypeVar("T")


@dataclass(frozen=True)
class TableFile:
    """A TOML file that can report the line of a key.

    Attributes:
        path: Its path, for messages.
        text: Its content.
    """

    path: str
    text: str

    def parse(self) -> dict[str, Any]:
        """Parse the file.

        Raises:
            TableError: It is not TOML.
        """
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise TableError(f"{self.path}: {error}") from error

    def check(self, kind: type, value: Any, what: str, *, given: tuple[str, ...] = ()) -> None:
        """Compare the keys of a table, and the types of their values, with the fields of its dataclass.

        Args:
            kind: The dataclass.
            value: The table.
            what: What the table describes, for the message.
            given: Fields that do not come from the table.

        Raises:
            TableError: It is not a table, has an unknown key, lacks one, or a value has another type.
        """
        if not isinstance(value, Mapping):
            raise TableError(f"{self.path}: {what} should be a table, not {value!r}")
        known = {field.name: field for field in fields(kind) if field.name not in given}
        for key in value:
            if key not in known:
                raise TableError(f"{self.place_of(key)}: {what} has no key {key!r}; known are {', '.join(known)}")
        for name, field in known.items():
            if name not in value and field.default is MISSING and field.default_factory is MISSING:
                raise TableError(f"{self.path}: {what} lacks the key {name!r}")
        kinds = get_type_hints(kind)
        for key, part in value.items():
            if problem := _unsuitable(part, kinds[key]):
                raise TableError(f"{self.place_of(key)}: {what}: {key} should be {problem}, not {part!r}")

    def make(self, kind: type[T], value: Any, what: str) -> T:
        """A dataclass from a table; lists become tuples.

        Args:
            kind: The dataclass.
            value: The table.
            what: What the table describes, for the message.

        Raises:
            TableError: As in :meth:`check`.
        """
        self.check(kind, value, what)
        return kind(**{key: tuple(part) if isinstance(part, list) else part for key, part in value.items()})

    def place_of(self, key: str) -> str:
        """File and, where the key is set only once, the line, counted from 1: ``"catalogs.toml, line 4"``."""
        pattern = re.compile(rf"(^|[\s{{,.\[\"']){re.escape(key)}[\"']?\s*[=.\]]")
        lines = [number for number, line in enumerate(self.text.splitlines(), 1) if pattern.search(line)]
        return f"{self.path}, line {lines[0]}" if len(lines) == 1 else self.path


def _unsuitable(value: Any, kind: Any) -> str:
    """The type that a value from TOML needs for a field, as text; "" if it is suitable."""
    if get_origin(kind) is UnionType:
        problems = [_unsuitable(value, one) for one in get_args(kind)]
        return "" if "" in problems else " or ".join(problems)
    if get_origin(kind) is tuple:
        return _unsuitable_list(value, get_args(kind))
    if get_origin(kind) is Literal:
        return "" if value in get_args(kind) else f"one of {', '.join(map(str, get_args(kind)))}"
    if is_dataclass(kind):  # given by name, or a table that is checked separately
        accepted, wanted = (str, Mapping), "a name or a table"
    else:
        accepted, wanted = KINDS.get(kind, (Mapping, "a table"))
    suitable = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    return "" if suitable else wanted


def _unsuitable_list(value: Any, kinds: tuple[Any, ...]) -> str:
    """The same for a tuple of fixed length, or of any length if its types end with an ellipsis."""
    if not isinstance(value, list):
        return "a list"
    any_length = kinds[-1] is Ellipsis
    if not any_length and len(value) != len(kinds):
        return f"a list of {len(kinds)}"
    inner = kinds[:1] * len(value) if any_length else kinds
    wrong = next((text for pair in zip(value, inner, strict=True) if (text := _unsuitable(*pair))), "")
    return f"a list of which each is {wrong}" if wrong else ""


def config_folder() -> Path:
    """The folder of the user's own tables: ``~/.config/stac2cube``, or the value of STAC2CUBE_CONFIG_DIR."""
    chosen = os.environ.get("STAC2CUBE_CONFIG_DIR")
    return Path(chosen) if chosen else Path(user_config_path("stac2cube"))


def shipped_and_own(relative: str) -> Iterator[TableFile]:
    """One table file: as shipped, then the user's own, which adds or overrides.

    Raises:
        TableError: The user's own is not text in UTF-8.
    """
    shipped = files("stac2cube.tables").joinpath(relative)
    if shipped.is_file():
        yield TableFile(f"stac2cube/tables/{relative}", shipped.read_text(encoding="utf-8"))
    own = config_folder() / relative
    if own.is_file():
        try:
            yield TableFile(str(own), own.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise TableError(f"{own} is not text in UTF-8, in which TOML is written: {error}") from error


def names_in(folder: str) -> tuple[str, ...]:
    """Names of all TOML files in a folder of tables, shipped and own, sorted."""
    shipped = {Path(entry.name).stem for entry in files("stac2cube.tables").joinpath(folder).iterdir()}
    own = {path.stem for path in (config_folder() / folder).glob("*.toml")}
    return tuple(sorted(name for name in shipped | own if not name.startswith("_")))
