"""Reading TOML tables strictly: an unknown or missing key is an error that names file, line and key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from stac2cube.errors import TableError


@dataclass(frozen=True)
class TableFile:
    """A parsed TOML file that can say where in it a key stands.

    Attributes:
        path: Where it lies, for messages.
        text: Its content.
    """

    path: str
    text: str

    def parse(self) -> dict[str, Any]:
        """The file's tables.

        Raises:
            TableError: It is not TOML.
        """
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise TableError(f"{self.path}: {error}") from error

    def check(self, kind: type, value: Mapping[str, Any], what: str, *, given: tuple[str, ...] = ()) -> None:
        """Compare the keys of a table with the fields of the dataclass it becomes.

        Args:
            kind: The dataclass.
            value: The table.
            what: What the table describes, for the message.
            given: Fields that do not come from the table.

        Raises:
            TableError: An unknown key, or one that is missing.
        """
        known = {field.name: field for field in fields(kind) if field.name not in given}
        for key in value:
            if key not in known:
                raise TableError(
                    f"{self.path}, line {self.line_of(key)}: {what} has no key {key!r}; known are {', '.join(known)}"
                )
        for name, field in known.items():
            if name not in value and field.default is MISSING and field.default_factory is MISSING:
                raise TableError(f"{self.path}: {what} lacks the key {name!r}")

    def line_of(self, key: str) -> int:
        """Line in which a key is set, counted from 1; 0 if it cannot be found."""
        pattern = re.compile(rf"(^|[\s{{,.\[\"']){re.escape(key)}[\"']?\s*[=.\]]")
        return next((n for n, line in enumerate(self.text.splitlines(), 1) if pattern.search(line)), 0)


def config_folder() -> Path:
    """Where a person's own tables lie: ``~/.config/stac2cube``, or what STAC2CUBE_CONFIG_DIR says."""
    chosen = os.environ.get("STAC2CUBE_CONFIG_DIR")
    return Path(chosen) if chosen else Path(user_config_path("stac2cube"))


def shipped_and_own(relative: str) -> Iterator[TableFile]:
    """One table file: as shipped, then a person's own that adds or overrides."""
    shipped = files("stac2cube.tables").joinpath(relative)
    if shipped.is_file():
        yield TableFile(f"stac2cube/tables/{relative}", shipped.read_text())
    own = config_folder() / relative
    if own.is_file():
        yield TableFile(str(own), own.read_text())


def names_in(folder: str) -> tuple[str, ...]:
    """Names of all TOML files in a folder of tables, shipped and own, sorted."""
    shipped = {Path(entry.name).stem for entry in files("stac2cube.tables").joinpath(folder).iterdir()}
    own = {path.stem for path in (config_folder() / folder).glob("*.toml")}
    return tuple(sorted(name for name in shipped | own if not name.startswith("_")))
